"""Make the rule vectors: one way to break a rule in each file, with a valid twin.

Everything comes from tests/city.py, whose keys are made from their names, so that
each run writes the same bytes: python -m tests.vectors.make
"""

from __future__ import annotations

import copy
import functools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ledger import rules
from ledger.records import (
    WORD,
    ZERO_ADDRESS,
    ZERO_HASH,
    Account,
    Acknowledgement,
    Allocation,
    Approval,
    Asset,
    Block,
    Certificate,
    Close,
    Commitment,
    Contract,
    Dispute,
    Exchange,
    Invalid,
    Investment,
    KeyChange,
    Milestone,
    Move,
    Order,
    Parameter,
    Project,
    Quorum,
    Rate,
    Record,
    Refund,
    Release,
    Resolution,
    RevenueRule,
    Reversal,
    Rules,
    Seat,
    Statement,
    Transfer,
    address_word,
    as_json,
    decode,
    domain_separator,
    encode,
    encode_name,
    hash_struct,
)
from tests import city
from tests.city import ACT, AUTHORITY, CERTIFIER, CHAIN_ID, COUNCIL, FOREVER_S, START_S, Key, Log, digest

FOLDER = Path(__file__).parent / "rules"
RETAINED, PAYEE, PROJECT, REVENUE = rules.RETAINED, rules.PAYEE, rules.PROJECT, rules.REVENUE
THIEF = Key("thief")
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ORDER_AMOUNT = 40_000_000


@dataclass(frozen=True)
class Vector:
    """One refusal: after log, the bytes of refused break a rule, and those of the twin do not."""

    breaks: str
    name: str
    says: str
    log: Log
    refused: bytes
    twin: list[bytes]
    why_contains: tuple[str, ...]


def broken(
    rule: str,
    name: str,
    says: str,
    log: Log,
    bad: Record | bytes,
    *good: Record | bytes,
    why: tuple[object, ...] = (),
    twin_after: Log | None = None,
) -> Vector:
    """A vector; records with time 0 are recorded when their log stands, twin_after is the twin's own log."""
    after = twin_after or log
    twin = after.records + [_bytes(record, after) for record in good]
    return Vector(rule, name, says, log, _bytes(bad, log), twin, tuple(map(str, why)))


def _bytes(record: Record | bytes, log: Log) -> bytes:
    if isinstance(record, bytes):
        return record
    return encode(record if record.time else replace(record, time=log.now))


def refusal(state: rules.State, data: bytes) -> Invalid | None:
    """How the rules refuse a record, or None where they take it."""
    try:
        rules.apply(state, data)
    except Invalid as refused:
        return refused
    return None


# --- where vectors start -----------------------------------------------------


@functools.cache
def _stages() -> dict[str, Log]:
    log, _ = city.certified()
    ordered, _, _ = city.ordered()
    return {
        "empty": Log(),
        "bound": city.bound(),
        "opened": city.opened(),
        "registered": city.registered(),
        "certified": log,
        "ordered": ordered,
        "paid": city.paid(),
        "works": _works(),
        "trade": _trade(),
        "second-before-2050": city.second_before_2050()[0],
    }


def _works() -> Log:
    log, _ = city.certified()
    log.add(city.revenue(log, asset="kzt", amount=10_000))
    log.act(payee("builder-kzt", "KZT", digest("iban builder")))
    log.wait(rules.NOTICE_S)
    two = contracted(log, "two", 1_000, 600, 400)
    log.act(certificate(two[2], 600))
    return log


def _trade() -> Log:
    """After works: the local bodies, lines of the Authority, a provider, a fee and what nobody could match."""
    log = _works()
    water = log.state.project_hashes["water-main"]
    log.act(account("payable-kzt", kind=rules.PAYABLE))
    log.act(account("provider-usdt", "USDT", kind=rules.PROVIDER))
    log.act(account("spent-kzt", kind=PROJECT, owner=water))
    log.act(Block(0, "lines", "AUTHORITY", 2026, 2028, 100, ACT))
    city.hall(log)
    log.add(usdt_rate(50_000))
    log.add(provided(log))
    log.add(replace(city.revenue(log, asset="kzt", amount=1_000, mark="said"), refund_to=SAID))
    log.add(unmatched(log))
    log.add(unmatched(log, 300, "other"))
    return log


def at(stage: str) -> Log:
    """A log of its own that stands at a stage of the city's life."""
    return copy.deepcopy(_stages()[stage])


ORDER = city.certified()[1]
COMMITMENT_2049 = city.second_before_2050()[1]
SHARED_LOGS = ("paid", "trade", "second-before-2050")


def shared_log(name: str) -> list[bytes]:
    """The records of a log that vectors start from."""
    return _stages()[name].records


# --- records that many vectors need ------------------------------------------


def account(
    name: str,
    asset: str = "KZT",
    fund: str = RETAINED,
    kind: str = "bank",
    owner: bytes | None = None,
    party: bytes = ZERO_HASH,
) -> Account:
    """An account whose owner is named after it, unless one is given."""
    return Account(
        0, name, asset, fund, kind, digest(f"owner {name}") if owner is None else owner, party, ACT
    )


def payee(name: str, asset: str = "USDT", owner: bytes | None = None, kind: str = PAYEE) -> Account:
    """A payee with an address of its own, unless an owner is given."""
    given = address_word(Key(name).address) if owner is None else owner
    return account(name, asset, kind=kind, owner=given, party=digest(f"bin {name}"))


def project(
    name: str = "road", sector: str = "roads", place: str = "alatau-gate", limit: int = 10**13
) -> Project:
    """A project that may be approved."""
    return Project(0, name, sector, place, limit, digest(f"project {name}"))


def investment(amount: int = 180_000_000_000_000, mark: str = "1") -> Investment:
    """Private money in the water main: a record that the council signs and that needs little."""
    return Investment(0, "water-main", amount, digest(f"investment {mark}"))


def usdt_rate(numerator: int = 51_234, mark: str = "") -> Rate:
    """Tiyn for one base unit of USDT."""
    return Rate(0, "USDT", numerator, 1_000_000, digest(f"source 1{mark}"), digest(f"source 2{mark}"))


def allocation(log: Log, name: str = "allocation-k", amount: int = 1_000, **changed: Any) -> Allocation:
    """Tenge of the block of 2026 for the water main."""
    water = log.state.project_hashes["water-main"]
    return replace(Allocation(0, name, "block-2026", water, "KZT", amount, ZERO_HASH, ACT), **changed)


def with_word(data: bytes, index: int, word: bytes) -> bytes:
    """The record's bytes with one word replaced; word 0 is the type hash, word 1 the time."""
    return data[: WORD * index] + word + data[WORD * (index + 1) :]


def number(value: int) -> bytes:
    """A number as a word."""
    return value.to_bytes(WORD, "big")


def proposed(log: Log, record: Record) -> Record:
    """Record a proposal and return it as it stands in the log."""
    return log.state.proposals[log.add(record)].record


def signed(log: Log, key: Key, record: Record, domain: bytes | None = None) -> Approval:
    """An approval of a recorded proposal, valid for a day."""
    return key.approve(domain or log.state.domain, record, log.now + rules.DAY, log.now)


def contracted(log: Log, name: str, total: int, *parts: int, allotted: int | None = None) -> list[bytes]:
    """Allot tenge to the water main, commit it to a builder paid in tenge, and cut it into milestones.

    Returns the hashes of the allocation, the commitment and the milestones.
    """
    if "builder-kzt" not in log.state.accounts:
        log.act(payee("builder-kzt", "KZT", digest("iban builder")))
        log.wait(rules.NOTICE_S)
    hashes = [log.act(allocation(log, f"a-{name}", allotted or total))]
    hashes.append(
        log.act(Commitment(0, f"c-{name}", hashes[0], "builder-kzt", total, digest(f"contract {name}")))
    )
    for part, amount in enumerate(parts):
        hashes.append(
            log.act(Milestone(0, f"m-{name}-{part}", hashes[1], amount, digest(f"milestone {name}")))
        )
    return hashes


def named_work(log: Log) -> tuple[list[bytes], bytes]:
    """The hashes that contracted() gave in the stage "works", and that of the certificate."""
    state = log.state
    commitment = next(h for h, c in state.commitments.items() if c.record.commitment == "c-two")
    parts = [h for h, m in state.milestones.items() if m.record.commitment_hash == commitment]
    certified = state.milestones[parts[0]].certificate
    assert certified is not None
    return [state.commitments[commitment].record.allocation_hash, commitment, *parts], certified


def certificate(milestone: bytes, amount: int, accepted: int = 1) -> Certificate:
    """The certifier's word on a milestone."""
    return Certificate(0, milestone, amount, accepted, digest("survey"))


def order(hashes: list[bytes], certified: bytes, amount: int, name: str = "order-k") -> Order:
    """An order in tenge of what contracted() made."""
    return Order(0, name, hashes[1], hashes[0], certified, "bank-kzt", amount, "builder-kzt")


SAID = digest("iban of the payer")


def provided(log: Log, amount: int = 1_000_000, mark: str = "1") -> Transfer:
    """A fee in coins that a provider took for the city."""
    return replace(city.revenue(log, amount, mark=f"provider {mark}"), debit="provider-usdt")


def unmatched(log: Log, amount: int = 500, mark: str = "1") -> Transfer:
    """Tenge that nobody could match."""
    fee = city.revenue(log, amount, "kzt", f"unmatched {mark}")
    return replace(fee, credit="payable-kzt", purpose="unmatched", authority=ZERO_HASH)


def matched(log: Log, receipt: bytes, amount: int = 500) -> Transfer:
    """What was unmatched is given to its code."""
    fee = city.revenue(log, amount, "kzt", "matched")
    return replace(fee, debit="payable-kzt", authority=receipt)


def receipts(log: Log) -> dict[str, bytes]:
    """The hashes of the receipts of the stage "trade", by the mark of their evidence."""
    marks = {digest(f"evidence kzt {mark}"): mark for mark in ("1", "said", "unmatched 1", "unmatched other")}
    marks[digest("evidence usdt 1")] = "coins"
    return {
        marks[receipt.evidence]: named
        for named, receipt in log.state.receipts.items()
        if receipt.evidence in marks
    }


def refund(receipt: bytes, amount: int, to: bytes = SAID, mark: str = "1") -> Refund:
    """Money is to go back."""
    return Refund(0, digest(f"id refund {mark}"), receipt, amount, to, digest(f"claim {mark}"))


def refunded(refunding: bytes, of: Transfer, amount: int) -> Transfer:
    """The booking of a refund that has gone."""
    id, evidence = digest("id refunded"), digest("evidence refunded")
    return replace(
        of,
        id=id,
        debit=of.credit,
        credit=of.debit,
        amount=amount,
        authority=refunding,
        evidence=evidence,
        refund_to=ZERO_HASH,
        time=0,
    )


def exchanged(log: Log, amount: int = 1_000_000, came: int = 50_000, mark: str = "1") -> Exchange:
    """The provider pays in tenge what it owes in coins."""
    newest = hash_struct(log.state.last_rate["USDT"])
    return Exchange(
        0,
        digest(f"id exchange {mark}"),
        "provider-usdt",
        "bank-kzt",
        amount,
        came,
        newest,
        digest(f"evidence exchange {mark}"),
    )


def reversal(index: int, mark: str = "1") -> Reversal:
    """The bank took a transfer back."""
    return Reversal(
        0, digest(f"id reversal {mark}"), index, "bank-error", digest(f"evidence reversal {mark}")
    )


def place(log: Log, evidence: str) -> int:
    """Where the transfer with this evidence stands in the log."""
    wanted = digest(evidence)
    return next(index for index, data in enumerate(log.records) if data[-2 * WORD : -WORD] == wanted)


def statement(log: Log, as_of: int, account: str = "bank-kzt") -> Statement:
    """What a bank that agrees with the ledger says."""
    known = log.state.accounts[account]
    return Statement(
        0,
        account,
        as_of,
        known.stated,
        rules.balance_at(known, as_of),
        digest(f"statement {account} {as_of}"),
    )


def close(log: Log, year: int = 2026) -> Close:
    """A year is over."""
    return Close(0, year, rules.state_hash(log.state))


# A vector a line, or nearly: what the formatter makes of them cannot be read as a table.
# fmt: off
# --- the vectors --------------------------------------------------------------


def encodings() -> Iterator[Vector]:
    """E1 to E4."""
    log = at("registered")
    rate = _bytes(usdt_rate(), log)
    for name, says, bad in (
        ("unknown-kind", "A type hash that no record has.", bytes([rate[0] ^ 1]) + rate[1:]),
        ("word-short", "The last word is missing.", rate[:-WORD]),
        ("word-long", "A word follows the last one.", rate + bytes(WORD)),
        ("byte-short", "The last byte is missing.", rate[:-1]),
        ("empty", "No bytes at all.", b""),
    ):
        yield broken("E1", name, says, log, bad, rate, why=() if name[:4] in {"unkn", "empt"} else (len(rate), len(bad)))

    seat = _bytes(Seat(0, "auditor", THIEF.address, START_S, FOREVER_S, ACT), log)
    dirty = b"\x01" + seat[3 * WORD + 1 : 4 * WORD]
    yield broken("E2", "dirty-address", "An address with a bit set above its 20 bytes.", log, with_word(seat, 3, dirty), seat)
    wide = with_word(rate, 1, number(log.now + 2**64))
    yield broken("E2", "wide-time", "A time that is right in its lowest 64 bits only.", log, wide, rate, why=(log.now + 2**64,))
    works = at("certified")
    milestone = works.act(Milestone(0, "tail", contracted(works, "e", 10)[1], 10, digest("tail")))
    good = _bytes(certificate(milestone, 10), works)
    yield broken("E2", "wide-flag", "accepted is 257, which a uint8 cannot hold.", works, with_word(good, 4, number(257)), good, why=(257,))

    invested = _bytes(investment(), log)
    for name, says, word in (
        ("space", "A name with a space in it.", b"water main"),
        ("hidden-zero", "A name with a zero byte inside, which prints like another name.", b"water\0main"),
        ("empty", "A name of no characters.", b""),
        ("full-word", "A name of 32 characters, one too many.", b"w" * 32),
        ("cyrillic", "A name with a letter that only looks Latin.", "w\u0430ter-main".encode()),
        ("leading-zero", "A name that is padded in front.", b"\0water-main"),
    ):
        yield broken("E3", name, says, log, with_word(invested, 2, word.ljust(WORD, b"\0")), invested)
    yield broken("E4", "zero", "An amount of nothing.", log, with_word(invested, 3, number(0)), invested, why=(0,))
    largest = with_word(invested, 3, number(2**128 - 1))
    yield broken("E4", "two-to-128", "An amount one above the largest.", log, with_word(invested, 3, number(2**128)), largest, why=(2**128,))


def sequence() -> Iterator[Vector]:
    """H1 to H5."""
    empty, seats = at("empty"), city.founding()
    first = city.genesis(seats)
    yield broken("H1", "seat-first", "A seat before there is a ledger.", empty, seats[0], first)
    yield broken("H1", "retention-over", "Retention that is over when it begins.", empty,
                 replace(first, retention_end=START_S), replace(first, retention_end=START_S + 1), why=(START_S,))  # fmt: skip
    begun = at("empty")
    begun.add(first)
    yield broken("H1", "second-genesis", "A second Genesis, of another ledger.", begun, replace(first, ledger=digest("other")), seats[0])

    log = at("registered")
    log.add(usdt_rate())
    yield broken("H2", "time-back", "A record one second before the one before it (LEAKS 03).", log,
                 replace(usdt_rate(mark="b"), time=log.now - 1), usdt_rate(mark="b"), why=(log.now - 1, log.now))  # fmt: skip
    last = rules.TIME_LIMIT_S - 1
    yield broken("H2", "year-3000", "A time so far off that no calendar is asked about it.", log,
                 replace(usdt_rate(mark="b"), time=last + 1), replace(usdt_rate(mark="b"), time=last), why=(last + 1,))  # fmt: skip

    founding = at("bound")
    opening = signed(founding, COUNCIL[0], decode(founding.records[0]))
    tenge = Asset(0, "KZT", 2, 0, ZERO_ADDRESS, START_S, FOREVER_S, ACT)
    yield broken("H3", "asset-before-approvals", "An asset while the Genesis waits for its approvals.", founding, tenge, opening)
    yield broken("H3", "rate-before-approvals", "A record that needs no approval, before the ledger has begun.", founding, usdt_rate(), opening)
    packed = at("bound")
    packed.add(Seat(0, rules.COUNCIL, THIEF.address, START_S, FOREVER_S, ACT))
    yield broken("H3", "seat-too-many", "The log's keeper adds a seat of his own to those that the Genesis binds (LEAKS 01).",
                 packed, signed(packed, COUNCIL[0], decode(packed.records[0])), opening, twin_after=founding)  # fmt: skip

    once = at("registered")
    once.add(investment())
    yield broken("H4", "same-again", "The same proposal again.", once, investment(), investment(mark="2"))

    log = at("registered")
    yield broken("H5", "no-act", "A quorum that no act ordered.", log, Quorum(0, rules.AUTHORITY, 1, ZERO_HASH), Quorum(0, rules.AUTHORITY, 1, ACT))
    yield broken("H5", "no-document", "A project without a document.", log, replace(project(), document=ZERO_HASH), project())
    yield broken("H5", "no-law", "A ledger without its legal reference.", empty, replace(first, legal_ref=ZERO_HASH), first)
    yield broken("H5", "no-rule-files", "Rules that name no files.", log, Rules(0, ZERO_HASH, START_S, ACT), Rules(0, digest("rules"), START_S, ACT))


def approvals() -> Iterator[Vector]:
    """A1 to A6."""
    log = at("registered")
    done = log.state.proposals[log.act(investment())].record
    waits = proposed(log, investment(mark="2"))
    good = signed(log, COUNCIL[3], waits)
    yield broken("A1", "never-proposed", "An approval of a record that is not in the log.",
                 log, signed(log, COUNCIL[3], replace(investment(mark="3"), time=log.now)), good)
    yield broken("A1", "in-effect", "An approval of what took effect already.", log, signed(log, COUNCIL[3], done), good)
    founder = decode(log.records[1])
    yield broken("A1", "founding-seat", "An approval of a founding seat, which the Genesis bound.", log, signed(log, COUNCIL[3], founder), good)

    s = CURVE_ORDER - int.from_bytes(good.s, "big")
    yield broken("A2", "high-s", "The other form of the same signature.", log, replace(good, v=55 - good.v, s=number(s)), good, why=(s,))
    yield broken("A2", "v-0", "v counted from 0.", log, replace(good, v=good.v - 27), good, why=(good.v - 27,))
    yield broken("A2", "r-zero", "r is zero.", log, replace(good, r=ZERO_HASH), good)
    yield broken("A2", "r-too-large", "r is not below the order of the curve.", log, replace(good, r=b"\xff" * 32), good)

    until = log.now + rules.DAY
    late = replace(good, time=until + 1)
    yield broken("A3", "deadline-over", "An approval recorded one second after its deadline.", log, late, replace(late, time=until), why=(until, until + 1))

    yield broken("A4", "authority-approves", "The Authority approves what the Council alone may (G2).", log, signed(log, AUTHORITY, waits), good)
    yield broken("A4", "stranger", "Somebody without a seat.", log, signed(log, THIEF, waits), good)
    akim = Key("akim")
    city_hall = at("registered")
    city_hall.act(Seat(0, "akimat", akim.address, START_S, FOREVER_S, ACT))
    city_hall.wait(rules.NOTICE_S)
    road = proposed(city_hall, project())
    yield broken("A4", "akimat-approves-project", "The Akimat approves a project (G2, G3).",
                 city_hall, signed(city_hall, akim, road), signed(city_hall, COUNCIL[0], road))
    work = at("certified")
    pay = proposed(work, ORDER)
    yield broken("A4", "council-orders", "The Council orders a payment, which the Authority does.", work, signed(work, COUNCIL[0], pay), signed(work, AUTHORITY, pay))
    yield broken("A4", "certifier-orders", "The certifier orders what he certified (G4).", work, signed(work, CERTIFIER, pay), signed(work, AUTHORITY, pay))
    survey = contracted(work, "g4", 10, 10)[2]
    word = proposed(work, certificate(survey, 10))
    yield broken("A4", "authority-certifies", "The Authority certifies what it orders (G4).", work, signed(work, AUTHORITY, word), signed(work, CERTIFIER, word))
    term = at("registered")
    sixth, start = Key("council 5"), term.now + rules.NOTICE_S
    term.act(Seat(0, rules.COUNCIL, sixth.address, START_S, start + 10, ACT))
    term.wait(rules.NOTICE_S - 1)
    vote = proposed(term, investment())
    early = signed(term, sixth, vote)
    yield broken("A4", "notice-not-over", "A new seat, with a start in the past, one second before its 14 days' notice is over (LEAKS 14).",
                 term, early, replace(early, time=start), why=(start - 1,))
    yield broken("A4", "term-over", "A seat at the second at which its term ends.",
                 term, replace(early, time=start + 10), replace(early, time=start + 9), why=(start + 10,))

    twice = at("registered")
    again = proposed(twice, investment())
    twice.approve(hash_struct(again), COUNCIL[0])
    yield broken("A5", "twice", "One seat counted twice.", twice, replace(signed(twice, COUNCIL[0], again), valid_until=twice.now + 2), signed(twice, COUNCIL[1], again))

    genesis = log.state.genesis
    assert genesis is not None
    for name, says, domain in (
        ("other-ledger", "A signature made for another ledger.", domain_separator(CHAIN_ID, genesis.council, digest("other"))),
        ("other-chain", "A signature made for another chain.", domain_separator(1, genesis.council, genesis.ledger)),
        ("other-council", "A signature made for another council contract.", domain_separator(CHAIN_ID, THIEF.address, genesis.ledger)),
    ):
        yield broken("A6", name, f"{says[:-1]} (LEAKS 24).", log, signed(log, COUNCIL[3], waits, domain), good)
    yield broken("A6", "other-signer", "A thief signs in a member's name.", log, replace(signed(log, THIEF, waits), signer=COUNCIL[3].address), good)
    yield broken("A6", "other-deadline", "A deadline put off after the signature.", log, replace(good, valid_until=until + 1), good)
    yield broken("A6", "other-record", "A signature over another record.", log, replace(signed(log, COUNCIL[3], done), approves=hash_struct(waits)), good)
    no_point = replace(good, r=number(5))
    yield broken("A6", "no-key", "An r that is on no point of the curve.", log, no_point, good)


def offices() -> Iterator[Vector]:
    """S1 to S5."""
    log = at("registered")
    free = Key("free")
    seat = Seat(0, rules.AUDITOR, free.address, START_S, FOREVER_S, ACT)
    yield broken("S1", "unknown-role", "An office that does not exist.", log, replace(seat, role="friend"), seat)
    yield broken("S1", "unknown-quorum", "A quorum of an office that does not exist.", log, Quorum(0, "friend", 1, ACT), Quorum(0, "auditor", 1, ACT))
    yield broken("S2", "second-role", "The authority becomes its own certifier (LEAKS 14, G4).",
                 log, replace(seat, role=rules.CERTIFIER, holder=AUTHORITY.address), replace(seat, role=rules.CERTIFIER))
    yield broken("S2", "payee-seated", "A payee becomes an auditor.", log, replace(seat, holder=city.PAYEE_ADDRESS), seat)
    yield broken("S2", "contract-seated", "The treasury contract becomes an auditor.", log, replace(seat, holder=city.TREASURY), seat)
    yield broken("S2", "council-contract-seated", "The council contract of the Genesis becomes an auditor.", log, replace(seat, holder=city.COUNCIL_CONTRACT), seat)
    yield broken("S2", "nobody-seated", "The zero address, which a failed recovery gives, becomes a member.",
                 log, replace(seat, role=rules.COUNCIL, holder=ZERO_ADDRESS), replace(seat, role=rules.COUNCIL))
    expired = at("registered")
    expired.act(replace(seat, role=rules.CERTIFIER, valid_to=expired.now + rules.NOTICE_S + 1))
    expired.wait(2 * rules.NOTICE_S)
    yield broken("S2", "role-after-term", "A certifier whose term is over becomes the authority.",
                 expired, replace(seat, role=rules.AUTHORITY), replace(seat, role=rules.CERTIFIER))
    yield broken("S3", "empty-term", "A term that ends as it begins.", log, replace(seat, valid_to=START_S), replace(seat, valid_to=START_S + 1), why=(START_S,))
    lira = Asset(0, "LIRA", 2, CHAIN_ID, Key("lira").address, START_S, START_S, ACT)
    yield broken("S3", "empty-allowance", "An asset that is allowed for no time.", log, lira, replace(lira, valid_to=START_S + 1), why=(START_S,))
    yield broken("S4", "council-of-two", "A council of two (LEAKS 14).", log, Quorum(0, rules.COUNCIL, 2, ACT), Quorum(0, rules.COUNCIL, 3, ACT), why=(3, 2))
    yield broken("S4", "nobody-needed", "An authority that nobody needs to sign for.",
                 log, Quorum(0, rules.AUTHORITY, 0, ACT), Quorum(0, rules.AUTHORITY, 1, ACT), why=(1, 0))
    yield broken("S4", "more-than-seated", "A quorum that the council could never reach nor lower again.",
                 log, Quorum(0, rules.COUNCIL, 6, ACT), Quorum(0, rules.COUNCIL, 5, ACT), why=(5, 6))
    wait = Parameter(0, "payee_wait", 14 * rules.DAY, START_S, ACT)
    yield broken("S5", "unknown", "A parameter that no rule reads.", log, replace(wait, name="retention_end"), wait)
    yield broken("S5", "too-small", "Payees that wait a second less than 14 days (LEAKS 15).",
                 log, replace(wait, value=wait.value - 1), wait, why=(wait.value, wait.value - 1))
    band = Parameter(0, "rate_band", 2_000, START_S, ACT)
    yield broken("S5", "too-large", "A band of more than a fifth.", log, replace(band, value=2_001), band, why=(2_000, 2_001))


def registers() -> Iterator[Vector]:
    """N1 to N9."""
    log = at("registered")
    bank = account("bank-two")
    yield broken("N1", "account-again", "Another account under a name that is taken.", log, replace(bank, account="bank-kzt"), bank)
    yield broken("N1", "project-again", "Another project under a name that is taken.", log, project("water-main"), project())
    other = Contract(0, "router", CHAIN_ID, Key("router").address, digest("router code"), ACT)
    yield broken("N1", "treasury-swapped", "Another treasury under the same name (LEAKS 18).", log, replace(other, name="treasury"), other)
    yield broken("N1", "contract-without-code", "A contract whose code nobody knows.", log, replace(other, code_hash=ZERO_HASH), other)
    yield broken("N1", "contract-nowhere", "A contract without an address.", log, replace(other, at=ZERO_ADDRESS), other)
    yield broken("N1", "contract-without-chain", "A contract on no chain.", log, replace(other, chain_id=0), other)
    race = at("registered")
    first, second = proposed(race, bank), proposed(race, replace(bank, owner=digest("thief's iban")))
    race.approve(hash_struct(second), *COUNCIL[:2])
    twin = signed(race, COUNCIL[2], second)
    taken = copy.deepcopy(race)
    taken.approve(hash_struct(first), *COUNCIL[:3])
    yield broken("N1", "name-taken-meanwhile", "Two proposals of one name; the second gets its last approval after the first took effect.",
                 taken, twin, twin, twin_after=race)

    yield broken("N2", "unknown-fund", "A fifth fund.", log, replace(bank, fund="SLUSH"), bank)
    yield broken("N2", "loan", "A kind of account that lends (LEAKS 10).", log, replace(bank, kind="loan"), bank)
    yield broken("N2", "bank-of-coins", "A bank account that holds coins.", log, replace(bank, asset="USDT"), bank)
    yield broken("N2", "iban-again", "One bank account under two names, to count its money twice.", log, replace(bank, owner=digest("iban")), bank)
    works = at("works")
    yield broken("N2", "iban-of-a-payee", "A payee's bank account as the city's.", works, replace(bank, owner=digest("iban builder")), bank)
    rule = RevenueRule(0, "108126", RETAINED, 10_000, START_S, ACT)
    yield broken("N2", "revenue-in-custody", "Revenue booked as others' money, which never reaches the city (LEAKS 08, G5).",
                 log, replace(rule, fund=rules.CUSTODY), rule)
    yield broken("N2", "sale", "Revenue of a fund that is called a sale (LEAKS 08).", log, replace(rule, fund="SALE"), rule)
    block = Block(0, "block-x", "AUTHORITY", 2026, 2027, 1, ACT)
    yield broken("N2", "block-of-no-fund", "A block budget of no fund.", log, replace(block, fund="SLUSH"), block)

    yield broken("N3", "account-of-unknown-asset", "An account of an asset that nobody allowed.", log, replace(bank, asset="EUR"), bank)
    yield broken("N3", "allotted-in-unknown-asset", "An allocation of an asset that nobody allowed.", log, allocation(log, asset="EUR"), allocation(log))

    chain = account("treasury-2", "USDT", kind="chain", owner=address_word(city.TREASURY))
    yield broken("N4", "other-address", "A thief's address as the treasury (LEAKS 18).", log, replace(chain, owner=address_word(THIEF.address)), chain)
    yield broken("N4", "other-fund", "The treasury contract holds another fund.", log, replace(chain, fund="MUNICIPAL"), chain)
    abroad = at("registered")
    abroad.act(Asset(0, "USDC", 6, 1, Key("usdc").address, START_S, FOREVER_S, ACT))
    yield broken("N4", "other-chain", "An asset of a chain on which there is no treasury.", abroad, replace(chain, asset="USDC"), chain)
    bare = at("opened")
    bare.act(Asset(0, "USDT", 6, CHAIN_ID, city.TOKEN, START_S, FOREVER_S, ACT))
    treasured = copy.deepcopy(bare)
    treasured.act(Contract(0, "treasury", CHAIN_ID, city.TREASURY, digest("code"), ACT))
    yield broken("N4", "no-treasury", "An account of a treasury that is not registered.", bare, chain, chain, twin_after=treasured)

    fees = account("fees-2", kind=REVENUE, owner=encode_name(city.CODE))
    yield broken("N5", "no-rule", "A revenue account of a code without a rule.", log, replace(fees, owner=encode_name("999999")), fees)
    yield broken("N5", "other-fund", "A RETAINED code's revenue in a MUNICIPAL account (LEAKS 08).", log, replace(fees, fund="MUNICIPAL"), fees)
    spent = account("spent-2", kind=PROJECT, owner=log.state.project_hashes["water-main"])
    yield broken("N6", "unknown-project", "An account of a project that nobody approved.", log, replace(spent, owner=digest("palace")), spent)

    builder = payee("builder-2")
    yield broken("N7", "office-holder", "A council member as payee (LEAKS 06).", log, replace(builder, owner=address_word(COUNCIL[0].address)), builder)
    yield broken("N7", "office-holder-in-disguise", "A council member's address with bits above its 20 bytes.",
                 log, replace(builder, owner=b"\x01" + address_word(COUNCIL[0].address)[1:]), builder)
    yield broken("N7", "treasury-as-payee", "The city's own contract as payee (LEAKS 06).", log, replace(builder, owner=address_word(city.TREASURY)), builder)
    yield broken("N7", "anchor-as-payee", "The anchor of the Genesis as payee.", log, replace(builder, owner=address_word(city.ANCHOR)), builder)
    yield broken("N7", "nobody", "The zero address as payee.", log, replace(builder, owner=ZERO_HASH), builder)
    yield broken("N7", "bank-of-the-city", "The city's own bank account as payee.",
                 log, payee("builder-3", "KZT", digest("iban")), payee("builder-3", "KZT", digest("iban 3")))
    yield broken("N7", "no-party", "A payee that nobody knows.", log, replace(builder, party=ZERO_HASH), builder)
    yield broken("N7", "payee-as-contract", "A payee's address becomes a contract of the city.", log, replace(other, at=city.PAYEE_ADDRESS), other)
    yield broken("N7", "member-as-contract", "A council member's address becomes a contract of the city.", log, replace(other, at=COUNCIL[0].address), other)
    known = at_with(payee("republic", "KZT", digest("iban of 070"), rules.REPUBLIC))
    yield broken("N7", "republic-renamed", "The republican budget's account again, as a builder (LEAKS 07).",
                 known, payee("shell", "KZT", digest("iban of 070")), payee("shell", "KZT", digest("iban of 071")))

    yield broken("N8", "share-above-whole", "A share of more than the payment.", log, replace(rule, min_share=10_001), rule, why=(10_000, 10_001))
    bare = at("opened")
    tenge = Asset(0, "KZT", 2, 0, ZERO_ADDRESS, START_S, FOREVER_S, ACT)
    coin = Asset(0, "USDT", 6, CHAIN_ID, city.TOKEN, START_S, FOREVER_S, ACT)
    resumed = Contract(0, "anchor@2", CHAIN_ID, Key("next anchor").address, digest("code"), ACT)
    yield broken("N10", "beyond", "An anchor that goes on from records that do not exist (LEAKS 02).", bare,
                 replace(resumed, name=f"anchor@{bare.state.size + 1}"), replace(resumed, name=f"anchor@{bare.state.size}"))
    yield broken("N10", "no-number", "An anchor that goes on from a size that can be read in two ways.", bare, replace(resumed, name="anchor@02"), resumed)
    yield broken("N9", "tenge-on-a-chain", "Tenge on a chain.", bare, replace(tenge, chain_id=CHAIN_ID), tenge, why=(CHAIN_ID,))
    yield broken("N9", "tenge-in-thousandths", "Tenge with three decimals.", bare, replace(tenge, decimals=3), tenge, why=(2, 3))
    yield broken("N9", "coin-without-token", "A coin without its contract.", bare, replace(coin, token=ZERO_ADDRESS), coin)
    yield broken("N9", "coin-without-chain", "A coin on no chain.", bare, replace(coin, chain_id=0), coin, why=(0,))


def at_with(*acts: Record, stage: str = "registered") -> Log:
    """A stage and some more acts."""
    log = at(stage)
    for record in acts:
        log.act(record)
    return log


def rates() -> Iterator[Vector]:
    """Q1 and Q2."""
    log = at("registered")
    good = usdt_rate()
    yield broken("Q1", "unknown-asset", "A rate of what is not registered.", log, replace(good, asset="EUR"), good)
    yield broken("Q1", "tenge", "A rate of tenge in tenge.", log, replace(good, asset="KZT"), good)
    yield broken("Q1", "one-source", "One source, named twice (LEAKS 05).", log, replace(good, source2=good.source1), good)
    yield broken("Q1", "no-source", "A source that is zero.", log, replace(good, source1=ZERO_HASH), good)
    log.add(usdt_rate(50_000))
    log.wait(rules.DAY)
    says = "A step of more than a tenth within a day (LEAKS 05)."
    yield broken("Q2", "step-up", says, log, usdt_rate(55_001), usdt_rate(55_000), why=(1_000,))
    yield broken("Q2", "step-down", says, log, usdt_rate(44_999), usdt_rate(45_000), why=(1_000,))
    walked = at("registered")
    walked.add(usdt_rate(50_000))
    walked.wait(rules.DAY - 60)
    walked.add(usdt_rate(46_000, "b"))
    walked.wait(60)
    further = usdt_rate(42_000, "c")
    yield broken("Q2", "day-not-over", "The day's first rate still binds in its last second, however near the last one is.",
                 walked, further, replace(further, time=walked.now + 1), why=(1_600, rules.DAY, 1_000))
    start, jump = log.now - rules.DAY, usdt_rate(35_000)
    yield broken("Q2", "silent-for-a-day", "After a day and a second of silence a rate jumps by as much as three days of silence allow (LEAKS 05).",
                 log, replace(jump, time=start + rules.DAY + 1), replace(jump, time=start + 3 * rules.DAY), why=(3_000, rules.DAY + 1, 2_000))
    yield broken("Q2", "second-day-begun", "A rate a unit beyond the two days that have begun since the last one.",
                 log, replace(usdt_rate(60_001), time=start + rules.DAY + 1), replace(usdt_rate(60_000), time=start + rules.DAY + 1), why=(2_001, 2_000))
    yield broken("Q2", "silent-for-months", "However long the silence, a rate is at least half of the last one (LEAKS 05).",
                 log, replace(usdt_rate(24_999), time=start + rules.RECOVERY_S), replace(usdt_rate(25_000), time=start + rules.RECOVERY_S), why=(5_001, 5_000))
    yield broken("Q2", "half-a-year", "A coin for almost nothing in the last second of half a year of silence, after which the series begins anew (LEAKS 05, 16).",
                 log, replace(usdt_rate(50), time=start + rules.RECOVERY_S), replace(usdt_rate(50), time=start + rules.RECOVERY_S + 1), why=(9_990, rules.RECOVERY_S, 5_000))
    creep = at("registered")
    creep.add(usdt_rate(50_000))
    creep.add(usdt_rate(54_000, "b"))
    yield broken("Q2", "creep", "Each step is small, and all of them are within one second.", creep, usdt_rate(58_000, "c"), usdt_rate(55_000, "c"), why=(1_600, 1_000))


def budgets() -> Iterator[Vector]:
    """B1 to B5."""
    log = at("registered")
    palace = project("palace")
    yield broken("B1", "palace", "A sector that no fund may pay for.", log, replace(palace, sector="palaces"), palace)
    yield broken("B1", "elsewhere", "A place that is not in Alatau.", log, replace(palace, place="astana"), palace)
    yield broken("B1", "unknown-project", "Money for a project that nobody approved.", log, allocation(log, project_hash=digest("palace")), allocation(log))
    mixed = at("trade")
    mixed.act(project("clinic", "social"))
    mixed.act(Block(0, "local", "MUNICIPAL", 2026, 2028, 10**9, ACT))
    clinic = mixed.state.project_hashes["clinic"]
    yield broken("B1", "retained-for-social", "RETAINED pays for what the local budget pays (G6, G8).", mixed, allocation(mixed, project_hash=clinic), allocation(mixed))
    yield broken("B1", "municipal-for-water", "The local budget pays for infrastructure (G8).",
                 mixed, allocation(mixed, block="local"), allocation(mixed, block="local", project_hash=clinic))
    custody = at_with(Block(0, "held", rules.CUSTODY, 2026, 2028, 10**9, ACT))
    yield broken("B1", "custody-spent", "Others' money is allotted (G5).", custody, allocation(custody, block="held"), allocation(custody))

    block = Block(0, "block-x", RETAINED, 2028, 2029, 10**9, ACT)
    yield broken("B2", "years-reversed", "A block that ends before it begins.", log, replace(block, to_year=2027), block, why=(2028, 2027))
    yield broken("B2", "unknown-block", "A block that nobody approved.", log, allocation(log, block="block-x"), allocation(log))
    later = at_with(block)
    yield broken("B2", "too-early", "A block two years before its first.", later, allocation(later, block="block-x"), allocation(later), why=(2026,))
    new_year = 1_861_902_000  # 2029-01-01 in Alatau
    after = at_with(Parameter(0, "block_budget_until", new_year + 1, START_S, ACT))
    yield broken("B2", "too-late", "A block one second after its last year, by the clocks of Alatau.", after,
                 replace(allocation(after), time=new_year), replace(allocation(after), time=new_year - 1), why=(2029,))  # fmt: skip

    rated = at("registered")
    rate = rated.add(usdt_rate())
    rated.wait(rules.DAY)
    coins = allocation(rated, asset="USDT", rate_hash=rate)
    yield broken("B3", "stale", "A rate that is a day and a second old (LEAKS 16).", rated, replace(coins, time=rated.now + 1), coins, why=(rules.DAY + 1, rules.DAY))
    yield broken("B3", "no-rate", "Coins without a rate (LEAKS 16).", rated, replace(coins, rate_hash=ZERO_HASH), coins)
    cheap = at_with(Asset(0, "USDC", 6, CHAIN_ID, Key("usdc").address, START_S, FOREVER_S, ACT))
    mine, others = cheap.add(usdt_rate()), cheap.add(replace(usdt_rate(1), asset="USDC"))
    coins = allocation(cheap, asset="USDT", rate_hash=mine)
    yield broken("B3", "rate-of-another", "The rate of a cheaper asset, to stretch the limit (LEAKS 16).", cheap, replace(coins, rate_hash=others), coins)
    yield broken("B3", "tenge-with-rate", "Tenge that names a rate.", cheap, allocation(cheap, rate_hash=mine), allocation(cheap))

    limit = 10**13
    yield broken("B4", "above-approved", "One tiyn more than was approved.",
                 log, allocation(log, amount=limit + 1), allocation(log, amount=limit), why=(limit + 1, limit))
    coins_limit = 195_182_886_364_523  # the most base units that 10^13 tiyn buy at this rate
    yield broken("B4", "above-approved-in-coins", "One unit more than the limit buys at the named rate (LEAKS 16).", cheap,
                 replace(coins, amount=coins_limit + 1), replace(coins, amount=coins_limit), why=(limit,))  # fmt: skip
    late = at("registered")
    waits = proposed(late, allocation(late, "late", limit))
    late.approve(hash_struct(waits), *COUNCIL[:2])
    last = signed(late, COUNCIL[2], waits)
    meanwhile = copy.deepcopy(late)
    meanwhile.act(allocation(meanwhile, "other", 1))
    yield broken("B4", "last-approval-too-late", "The limit is used up before the last approval arrives (LEAKS 25).",
                 meanwhile, last, last, twin_after=late, why=(limit + 1, limit))
    small = at_with(Block(0, "small", RETAINED, 2026, 2028, 1_000, ACT))
    yield broken("B5", "above-block", "One tiyn more than the block has.",
                 small, allocation(small, block="small", amount=1_001), allocation(small, block="small"), why=(1_001, 1_000))


def work() -> Iterator[Vector]:
    """C1 to C5."""
    log = at("works")
    allotted = log.act(allocation(log))
    contract = Commitment(0, "contract", allotted, "builder-kzt", 1_000, digest("contract"))
    yield broken("C1", "no-allocation", "A contract outside any allocation (G3).", log, replace(contract, allocation_hash=digest("none")), contract)
    waits = at("works")
    pending = waits.add(allocation(waits))
    waits.approve(pending, *COUNCIL[:2])
    effective = copy.deepcopy(waits)
    effective.approve(pending, COUNCIL[2])
    early = replace(contract, allocation_hash=pending)
    yield broken("C1", "allocation-not-approved", "A contract inside an allocation that one approval is missing for (G16).", waits, early, early, twin_after=effective)
    yield broken("C2", "unknown-payee", "A contract with nobody that is registered.", log, replace(contract, payee="shell"), contract)
    yield broken("C2", "city-as-payee", "A contract with the city's own account.", log, replace(contract, payee="bank-kzt"), contract)
    yield broken("C2", "other-asset", "A payee in coins for tenge.", log, replace(contract, payee="builder-usdt"), contract)
    other = at_with(replace(payee("builder-m", "KZT", digest("iban m")), fund="MUNICIPAL"), stage="works")
    local = replace(contract, allocation_hash=other.act(allocation(other)))
    yield broken("C2", "other-fund", "A payee of another fund.", other, replace(local, payee="builder-m"), local)
    yield broken("C3", "above-allotted", "A contract for one tiyn more than is allotted.", log, replace(contract, amount=1_001), contract, why=(1_001, 1_000))
    log.act(replace(contract, amount=600))
    second = replace(contract, commitment="contract-2", amount=400)
    yield broken("C3", "above-allotted-together", "Two contracts that are together too much.", log, replace(second, amount=401), second, why=(1_001, 1_000))

    log = at("works")
    hashes = contracted(log, "w", 1_000, 600)
    part = Milestone(0, "part", hashes[1], 400, digest("part"))
    yield broken("C4", "no-commitment", "A part of no contract.", log, replace(part, commitment_hash=digest("none")), part)
    yield broken("C4", "above-commitment", "Parts of one tiyn more than the contract (G11).", log, replace(part, amount=401), part, why=(1_001, 1_000))
    good = certificate(hashes[2], 600)
    yield broken("C5", "no-milestone", "A certificate of nothing.", log, replace(good, milestone_hash=digest("none")), good)
    yield broken("C5", "above-milestone", "More work certified than there was.", log, replace(good, amount=601), good, why=(601, 600))
    yield broken("C5", "half-accepted", "Neither accepted nor refused.", log, replace(good, accepted=2), good, why=(2,))
    judged = copy.deepcopy(log)
    judged.act(replace(good, accepted=0))
    third = judged.act(part)
    yield broken("C5", "accepted-after-all", "A refused milestone is accepted after all (G11).", judged, good, certificate(third, 400))


def orders() -> Iterator[Vector]:
    """O1 to O11 and G7."""
    log = at("works")
    two, certified = named_work(log)
    good = order(two, certified, 600)
    yield broken("O1", "no-commitment", "An order of no contract.", log, replace(good, commitment_hash=digest("none")), good)
    yield broken("O1", "other-allocation", "An order out of another allocation.", log, replace(good, allocation_hash=ORDER.allocation_hash), good)
    yield broken("O2", "no-certificate", "An order without a certificate.", log, replace(good, certificate_hash=digest("none")), good)
    yield broken("O2", "other-commitment", "An order with the certificate of another contract.", log, replace(good, certificate_hash=ORDER.certificate_hash), good)
    refused = copy.deepcopy(log)
    no = refused.act(certificate(two[3], 400, 0))
    yield broken("O2", "refused-work", "An order of work that was refused (G11).", refused, order(two, no, 400), good)
    waits = at("works")
    hashes = contracted(waits, "w", 1_000, 1_000)
    pending = waits.add(certificate(hashes[2], 1_000))
    effective = copy.deepcopy(waits)
    effective.approve(pending, CERTIFIER)
    early = order(hashes, pending, 1_000)
    yield broken("O2", "certificate-not-signed", "A certificate that the log's keeper wrote and nobody signed (LEAKS 01, G16).",
                 waits, early, early, twin_after=effective)
    yield broken("O3", "other-payee", "An order to another payee than the contract's.", log, replace(good, payee="builder-usdt"), good)
    yield broken("O4", "more", "An order of more than is certified.", log, replace(good, amount=601), good, why=(601, 600))
    yield broken("O4", "less", "An order of a part, which would leave room for another (LEAKS 17).", log, replace(good, amount=599), good, why=(599, 600))
    yield broken("O5", "revenue-account", "An order from an account that holds no money.", log, replace(good, account="fees-kzt"), good)
    yield broken("O5", "other-asset", "An order of tenge from coins.", log, replace(good, account="treasury-usdt"), good)
    yield broken("O5", "unknown-account", "An order from an account that nobody registered.", log, replace(good, account="cash-box"), good)
    fund = copy.deepcopy(log)
    fund.act(account("bank-local", fund="MUNICIPAL"))
    yield broken("O5", "other-fund", "An order of RETAINED work from the local budget's bank account (G5).", fund, replace(good, account="bank-local"), good)
    again = copy.deepcopy(log)
    again.act(good)
    rest = order(two, again.act(certificate(two[3], 400)), 400, "order-rest")
    again.wait(rules.DAY)  # of a commitment the rest is another day's (O11)
    yield broken("O7", "above-whole-allocation", "A milestone ordered twice, out of an allocation that has no more (LEAKS 17).",
                 again, replace(good, order="again"), rest, why=(1_200, 1_000))

    roomy = at("works")
    wide = contracted(roomy, "wide", 1_000, 300, 700, allotted=5_000)
    first = order(wide, roomy.act(certificate(wide[2], 300)), 300)
    last = order(wide, roomy.act(certificate(wide[3], 700)), 700, "order-last")
    roomy.act(first)
    roomy.wait(rules.DAY)
    yield broken("O6", "ordered-twice", "A milestone ordered twice, while the contract has room (G11).", roomy, replace(first, order="again"), last)
    full = copy.deepcopy(roomy)
    full.act(last)
    yield broken("O7", "above-commitment", "A milestone ordered twice, out of a contract that has no more.",
                 full, replace(first, order="again"), last, why=(1_300, 1_000), twin_after=roomy)

    flood = at("works")
    split = contracted(flood, "flood", 1_000, 300, 200, 1, 499)
    for place, amount in ((2, 300), (3, 200)):
        flood.act(order(split, flood.act(certificate(split[place], amount)), amount, f"order-{place}"))
    third = order(split, flood.act(certificate(split[4], 1)), 1, "order-4")
    tomorrow = (flood.now // rules.DAY + 1) * rules.DAY
    yield broken("O11", "flood", "A third order of one day, by one tiyn more than the day's part (LEAKS 17).",
                 flood, replace(third, time=tomorrow - 1), replace(third, time=tomorrow), why=(501, 500))

    short = at("works")
    hashes = contracted(short, "s", 1_000, 600, 399)
    certified = short.act(certificate(hashes[2], 600))
    whole = copy.deepcopy(short)
    whole.act(Milestone(0, "rest", hashes[1], 1, digest("rest")))
    pay = order(hashes, certified, 600)
    yield broken("O8", "milestones-missing", "A contract is paid whose milestones do not add up to it (G11).", short, pay, pay, why=(999, 1_000), twin_after=whole)

    fresh = at("registered")
    fresh.add(city.revenue(fresh, asset="kzt", amount=10_000))
    fresh.act(payee("builder-kzt", "KZT", digest("iban builder")))
    hashes = contracted(fresh, "f", 1_000, 1_000)
    pay = order(hashes, fresh.act(certificate(hashes[2], 1_000)), 1_000)
    due = fresh.now + 14 * rules.DAY
    yield broken("O9", "payee-too-new", "A shell is paid a second before it was known for 14 days (LEAKS 06).",
                 fresh, replace(pay, time=due - 1), replace(pay, time=due), why=(14 * rules.DAY - 1, 14 * rules.DAY))

    poor = at("registered")
    poor.add(city.revenue(poor, asset="kzt", amount=999))
    hashes = contracted(poor, "p", 1_000, 1_000)
    pay = order(hashes, poor.act(certificate(hashes[2], 1_000)), 1_000)
    rich = copy.deepcopy(poor)
    rich.add(city.revenue(rich, asset="kzt", amount=1, mark="2"))
    yield broken("O10", "not-enough", "An order of one tiyn more than there is.", poor, pay, pay, why=(1_000, 999), twin_after=rich)
    both = copy.deepcopy(rich)
    little = contracted(both, "q", 1, 1)
    tail = order(little, both.act(certificate(little[2], 1)), 1, "order-q")
    free = copy.deepcopy(both)
    both.act(pay)
    yield broken("O10", "spoken-for", "Money that another order has already.", both, tail, tail, why=(1, 0), twin_after=free)

    late, end = at("second-before-2050"), city.RETENTION_END_S
    for name, commitment in (("exactly", replace(COMMITMENT_2049, time=end)), ("a-second-after", replace(COMMITMENT_2049, time=end + 1))):
        yield broken("G7", name, f"The republican budget a second before retention ends; the twin is {name.replace('-', ' ')} its end.",
                     late, COMMITMENT_2049, commitment, why=(end - 1, end))
    shell = at("works")
    hashes = contracted(shell, "shell", 1_000, 1_000)
    pay = order(hashes, shell.act(certificate(hashes[2], 1_000)), 1_000)
    honest = copy.deepcopy(shell)
    shell.act(payee("republic", "KZT", digest("iban builder"), rules.REPUBLIC))
    yield broken("G7", "republic-unmasked", "A payee with a contract turns out to be the republican budget (LEAKS 07).",
                 shell, pay, pay, twin_after=honest, why=(shell.now, end))
    honest.act(account("spent-water-kzt", kind=PROJECT, owner=honest.state.project_hashes["water-main"]))
    approved = honest.act(pay)
    money = Transfer(0, digest("id k"), "spent-water-kzt", "bank-kzt", "KZT", 1_000, "order-k", approved, digest("evidence k"))
    caught = copy.deepcopy(honest)
    caught.act(payee("republic", "KZT", digest("iban builder"), rules.REPUBLIC))
    yield broken("G7", "republic-unmasked-before-payment", "A payee with an order turns out to be the republican budget (LEAKS 07).",
                 caught, money, money, twin_after=honest, why=(caught.now, end))


def money() -> Iterator[Vector]:
    """M1 to M6, V1 to V4, I1."""
    log = at("works")
    log.act(account("bank-two"))
    log.act(account("spent-water-kzt", kind=PROJECT, owner=log.state.project_hashes["water-main"]))
    fee = city.revenue(log, asset="kzt", mark="2", amount=100)
    yield broken("M1", "unregistered", "A debit to an account that no act registered (LEAKS 10).", log, replace(fee, debit="cash-box"), fee)
    yield broken("M1", "to-itself", "A transfer of an account to itself.", log, replace(fee, debit="fees-kzt"), fee)
    yield broken("M2", "coins-as-tenge", "Coins booked as tenge.", log, replace(fee, debit="treasury-usdt"), fee)
    yield broken("M2", "other-asset", "A transfer that names another asset than its accounts.", log, replace(fee, asset="USDT"), fee)
    before = city.revenue(log, asset="kzt")
    yield broken("M3", "id-again", "One payment booked twice.", log, replace(fee, id=before.id), fee)
    yield broken("M3", "evidence-again", "One line of a statement booked twice.", log, replace(fee, evidence=before.evidence), fee)
    yield broken("M3", "no-id", "A transfer without an id.", log, replace(fee, id=ZERO_HASH), fee)
    yield broken("M3", "no-evidence", "A transfer without evidence.", log, replace(fee, evidence=ZERO_HASH), fee)
    for name, says, debit, credit in (
        ("own-account", "RETAINED is moved to another account of the city (LEAKS 10).", "bank-two", "bank-kzt"),
        ("spending-taken-back", "What was spent is booked back in.", "bank-kzt", "spent-water-kzt"),
        ("netted", "Costs are netted from revenue before it is booked (LEAKS 09).", "spent-water-kzt", "fees-kzt"),
    ):
        yield broken("M4", name, says, log, replace(fee, debit=debit, credit=credit), fee)
    yield broken("M4", "straight-to-payee", "A payee is paid without a project and an order (G6).", log, replace(fee, debit="builder-kzt", credit="bank-kzt"), fee)
    fund = copy.deepcopy(log)
    fund.act(account("bank-local", fund="MUNICIPAL"))
    yield broken("M5", "revenue-of-another-fund", "RETAINED revenue received as MUNICIPAL (LEAKS 08).", fund, replace(fee, debit="bank-local"), fee)

    ready = at("ordered")
    ready.act(account("spent-local", "USDT", "AUTHORITY", PROJECT, ready.state.project_hashes["water-main"]))
    approved = next(iter(ready.state.orders))
    pay = city.payment(ORDER, approved)
    yield broken("M5", "spending-of-another-fund", "RETAINED money is booked as spent by another fund (G5).", ready, replace(pay, debit="spent-local"), pay)
    balance = 50_000_000
    yield broken("M6", "below-zero", "A payment of one unit more than the account has.", ready, replace(pay, amount=balance + 1), pay, why=(balance, balance + 1))

    yield broken("V1", "other-code", "Revenue of a code that has no rule.", log, replace(fee, purpose="999999"), fee)
    yield broken("V1", "other-rule", "Revenue under a rule that does not exist.", log, replace(fee, authority=digest("rule")), fee)
    changed = copy.deepcopy(log)
    changed.act(RevenueRule(0, city.CODE, RETAINED, 9_000, START_S, ACT))
    yield broken("V1", "old-rule", "Revenue under a rule that another has replaced.", changed, fee, replace(fee, authority=city.rule_hash(changed)))
    wrong = at_with(RevenueRule(0, "108126", RETAINED, 10_000, START_S, ACT), account("fees-b", kind=REVENUE, owner=encode_name("108126")))
    fee_w = city.revenue(wrong, asset="kzt")
    yield broken("V1", "account-of-another-code", "Revenue of one code in the account of another.", wrong, replace(fee_w, credit="fees-b"), fee_w)
    until = log.now + 100
    short = at_with(
        Asset(0, "USDC", 6, CHAIN_ID, Key("usdc").address, log.now + 10, until, ACT),
        account("treasury-usdc", "USDC", kind="chain", owner=address_word(city.TREASURY)),
        account("fees-usdc", "USDC", kind=REVENUE, owner=encode_name(city.CODE)),
    )
    coins = replace(city.revenue(short), debit="treasury-usdc", credit="fees-usdc", asset="USDC")
    yield broken("V2", "too-late", "Revenue in an asset at the second at which it is no longer allowed (P1).",
                 short, replace(coins, time=until), replace(coins, time=until - 1), why=(until,))
    yield broken("V2", "too-early", "Revenue in an asset one second before it is allowed.",
                 short, replace(coins, time=log.now + 9), replace(coins, time=log.now + 10), why=(log.now + 9,))
    stopped = at_with(Parameter(0, "direct_settlement", 0, START_S, ACT))
    noticed = stopped.now + rules.NOTICE_S
    coins = city.revenue(stopped)
    yield broken("V3", "act-ended", "Revenue on a chain after the act for it has ended.",
                 stopped, replace(coins, time=noticed), replace(coins, time=noticed - 1), why=(noticed,))

    yield broken("V4", "no-order", "A payment that nobody ordered (L8).", ready, replace(pay, authority=digest("order")), pay)
    unsigned = at("certified")
    waiting = unsigned.add(ORDER)
    signed_log = copy.deepcopy(unsigned)
    signed_log.approve(waiting, AUTHORITY)
    pay_u = city.payment(ORDER, waiting)
    yield broken("V4", "order-not-signed", "A payment of an order that the log's keeper wrote and nobody signed (LEAKS 01).",
                 unsigned, pay_u, pay_u, twin_after=signed_log)
    yield broken("V4", "less", "A payment of a unit less than is ordered.", ready, replace(pay, amount=ORDER_AMOUNT - 1), pay, why=(ORDER_AMOUNT, ORDER_AMOUNT - 1))
    yield broken("V4", "other-purpose", "A payment under another order's name.", ready, replace(pay, purpose="order-2"), pay)
    side = copy.deepcopy(ready)
    side.act(account("treasury-b", "USDT", kind="chain", owner=address_word(city.TREASURY)))
    side.add(replace(city.revenue(side, mark="b"), debit="treasury-b"))
    yield broken("V4", "other-account", "A payment from an account that is not the order's.", side, replace(pay, credit="treasury-b"), pay, why=(ORDER_AMOUNT,))
    road = copy.deepcopy(ready)
    road_hash = road.act(project())
    road.act(account("spent-road", "USDT", kind=PROJECT, owner=road_hash))
    yield broken("V4", "other-project", "A payment booked to another project.", road, replace(pay, debit="spent-road"), pay)
    paid = at("paid")
    paid.add(city.revenue(paid, amount=ORDER_AMOUNT, mark="2"))
    second = replace(city.payment(ORDER, approved), id=digest("id 2"), evidence=digest("evidence 2"))
    yield broken("V4", "paid-twice", "One order is paid twice (G11).", paid, second, city.revenue(paid, mark="3"))

    log = at("registered")
    yield broken("I1", "unknown-project", "An investment in a project that nobody approved.", log, replace(investment(), project="palace"), investment())
    pending = at("registered")
    road_record = proposed(pending, project())
    effective = copy.deepcopy(pending)
    effective.approve(hash_struct(road_record), *COUNCIL[:3])
    hope = replace(investment(), project="road")
    yield broken("I1", "project-not-approved", "An investment in a project that waits for its approvals.", pending, hope, hope, twin_after=effective)


def seats_and_keys() -> Iterator[Vector]:
    """A7, S6, S7, and who may sign what came later."""
    log = at("registered")
    waits = proposed(log, investment())
    log.approve(hash_struct(waits), COUNCIL[0])
    back = COUNCIL[0].withdraw(log.state.domain, hash_struct(waits), log.now)
    other = COUNCIL[1].withdraw(log.state.domain, hash_struct(waits), log.now)
    yield broken("A7", "never-approved", "A seat takes back what it never gave.", log, other, back)
    gone = copy.deepcopy(log)
    gone.add(back)
    again = signed(gone, COUNCIL[0], waits)
    yield broken("A7", "twice", "A seat takes its approval back twice.", gone, back, signed(gone, COUNCIL[1], waits))
    yield broken("A5", "after-withdrawal", "A seat that took its approval back gives it again.", gone, again, signed(gone, COUNCIL[1], waits))
    yield broken("A6", "withdrawal-of-another", "A member takes another's approval back (LEAKS 24).", log, replace(other, signer=COUNCIL[0].address), back)
    yield broken("A2", "withdrawal-high-s", "The other form of a withdrawal's signature.", log,
                 replace(back, v=55 - back.v, s=number(CURVE_ORDER - int.from_bytes(back.s, "big"))), back)
    done = copy.deepcopy(log)
    done.approve(hash_struct(waits), *COUNCIL[1:3])
    yield broken("A1", "withdrawn-too-late", "A member takes back what has taken effect (LEAKS 24).", done, back, back, twin_after=log)

    key = KeyChange(0, "log-ed25519", digest("vkey"), START_S, ACT)
    yield broken("S6", "unknown-key", "A key that the ledger does not know.", log, replace(key, key="back-door"), key)
    yield broken("S6", "no-key", "A key is changed for none.", log, replace(key, vkey_hash=ZERO_HASH), key)

    few = at_with(*(Seat(0, rules.COUNCIL, key.address, 0, 1, ACT) for key in COUNCIL[2:]))
    few.wait(rules.NOTICE_S)
    until = few.now + 365 * rules.DAY
    friend = Seat(0, rules.COUNCIL, Key("friend").address, START_S, until, ACT)
    yield broken("S7", "member-put-out", "Those whose terms are over end the term of one who is still there (LEAKS 14).",
                 few, replace(friend, holder=COUNCIL[0].address), replace(friend, holder=COUNCIL[0].address, valid_to=FOREVER_S), why=(FOREVER_S, until))
    vote, seat = proposed(few, investment()), proposed(few, friend)
    yield broken("A4", "recovery-of-money", "One whose term is over approves money, where it may only fill seats (LEAKS 14).",
                 few, signed(few, COUNCIL[2], vote), signed(few, COUNCIL[2], seat))
    few.approve(hash_struct(seat), *COUNCIL[2:])
    third = proposed(few, replace(friend, holder=Key("third").address))
    yield broken("A4", "recovery-by-newcomer", "One whom a recovery called, and who has not sat yet, calls the next (LEAKS 14).",
                 few, signed(few, Key("friend"), third), signed(few, COUNCIL[2], third))
    few.wait(rules.RECOVERY_S - 1)
    early = signed(few, Key("friend"), vote)
    yield broken("A4", "recovery-not-over", "A seat that a recovery filled votes a second before 180 days are over (LEAKS 14).",
                 few, early, replace(early, time=few.now + 1))

    provider = account("provider-2", "USDT", kind=rules.PROVIDER)
    yield broken("N2", "provider-of-tenge", "A provider that owes tenge: a loan (LEAKS 10).", log, replace(provider, asset="KZT"), provider)
    yield broken("N2", "provider-in-office", "A council member takes coins for the city.", log, replace(provider, owner=address_word(COUNCIL[0].address)), provider)
    yield broken("N2", "provider-is-a-payee", "A payee takes coins for the city (LEAKS 06).", log, replace(provider, owner=address_word(city.PAYEE_ADDRESS)), provider)
    known = at_with(provider)
    yield broken("N2", "provider-again", "One provider under two names, to owe twice the cap (LEAKS 04).",
                 known, replace(provider, account="provider-3"), replace(provider, account="provider-3", owner=digest("another")))
    yield broken("N7", "provider-as-payee", "A provider is paid as a builder (LEAKS 06).",
                 known, payee("builder-2", "KZT", provider.owner), payee("builder-2", "KZT"))

    local = at("trade")
    local.act(project("clinic", "social"))
    limit = proposed(local, Block(0, "local", "MUNICIPAL", 2026, 2028, 10**9, ACT))
    yield broken("A4", "council-for-maslikhat", "The Council sets the local budget (G3).", local, signed(local, COUNCIL[0], limit), signed(local, city.MASLIKHAT, limit))
    local.approve(hash_struct(limit))
    local.act(replace(payee("nurses", "KZT", digest("iban nurses")), fund="MUNICIPAL"))
    allotted = local.act(allocation(local, "clinic", block="local", project_hash=local.state.project_hashes["clinic"]))
    contract = proposed(local, Commitment(0, "clinic", allotted, "nurses", 1_000, digest("clinic")))
    yield broken("A4", "authority-for-akimat", "The Authority commits the local budget (G3).", local, signed(local, AUTHORITY, contract), signed(local, city.AKIMAT, contract))
    road = proposed(local, project("road"))
    yield broken("A4", "maslikhat-approves-project", "The Maslikhat approves a project (G2, G3).", local, signed(local, city.MASLIKHAT, road), signed(local, COUNCIL[0], road))
    local.act(RevenueRule(0, "local-fee", "MUNICIPAL", 10_000, START_S, ACT))
    local.act(account("bank-local", fund="MUNICIPAL"))
    local.act(account("fees-local", fund="MUNICIPAL", kind=REVENUE, owner=encode_name("local-fee")))
    fee = replace(city.revenue(local, 100, "kzt", "local"), debit="bank-local", credit="fees-local", purpose="local-fee", authority=city.rule_hash(local, "local-fee"), refund_to=SAID)
    back_to = proposed(local, refund(local.add(fee), 100))
    yield broken("A4", "authority-refunds-local", "The Authority sends the local budget's money back (G3).", local, signed(local, AUTHORITY, back_to), signed(local, city.AKIMAT, back_to))


def exchanges() -> Iterator[Vector]:
    """Q3 to Q6."""
    log = at("trade")
    good = exchanged(log)
    yield broken("Q3", "out-of-the-bank", "The city buys coins for its tenge.", log, replace(good, from_account="bank-kzt", to_account="provider-usdt"), good)
    yield broken("Q3", "into-revenue", "What came from the provider is booked as revenue once more (LEAKS 09).", log, replace(good, to_account="fees-kzt"), good)
    fund = at_with(account("bank-local", fund="MUNICIPAL"), stage="trade")
    yield broken("Q3", "other-fund", "RETAINED coins become MUNICIPAL tenge (G5, LEAKS 08).", fund, replace(good, to_account="bank-local"), good)
    yield broken("Q4", "no-rate", "An exchange at no rate.", log, replace(good, rate_hash=digest("rate")), good)
    older = copy.deepcopy(log)
    older.add(usdt_rate(52_000, "b"))
    newest = exchanged(older, came=52_000)
    yield broken("Q4", "not-the-newest", "The lowest rate of the day, to hide a loss (LEAKS 04).", older, good, newest)
    stale = copy.deepcopy(log)
    stale.wait(rules.DAY)
    yield broken("Q4", "stale", "A rate that is a day and a second old.", stale, replace(good, time=stale.now + 1), good, why=(rules.DAY + 1, rules.DAY))
    yield broken("Q4", "too-little", "A tiyn less than the band allows (LEAKS 04).", log, replace(good, amount_to=48_999), replace(good, amount_to=49_000), why=(48_999, 50_000, 200))
    yield broken("Q4", "too-much", "A tiyn more than the band allows: another's money comes in with it.", log, replace(good, amount_to=51_001), replace(good, amount_to=51_000), why=(51_001, 50_000, 200))
    crumbs = replace(good, amount_from=39, amount_to=1)
    yield broken("Q4", "crumbs", "39 coins at a time, so that almost half is lost and never a whole tiyn (LEAKS 04).", log, crumbs, replace(crumbs, amount_to=2), why=(1, 2))
    capped = at_with(Parameter(0, "exchange_loss", 999, START_S, ACT), stage="trade")
    capped.wait(rules.NOTICE_S)
    capped.add(usdt_rate(50_000, "c"))
    capped.add(exchanged(capped, 500_000, 24_500))
    rest = exchanged(capped, 500_000, 24_500, "2")
    yield broken("Q5", "above-the-cap", "Each exchange is inside the band, and together they lose more than a year may (LEAKS 04).",
                 capped, rest, replace(rest, amount_to=24_501), why=(1_000, 999))
    yield broken("M6", "exchange-of-more", "The provider pays for coins that it never took.", log, replace(good, amount_from=1_000_001, amount_to=50_001), good, why=(1_000_000, 1_000_001))

    bare = at_with(account("provider-usdt", "USDT", kind=rules.PROVIDER))
    rated = copy.deepcopy(bare)
    rated.add(usdt_rate())
    yield broken("Q6", "no-rate", "A provider takes coins that nobody can measure.", bare, provided(bare), provided(bare), twin_after=rated)
    most = at_with(Parameter(0, "provider_cap", 60_000, START_S, ACT), stage="trade")
    most.wait(rules.NOTICE_S)
    most.add(usdt_rate(50_000, "c"))
    most.add(exchanged(most))
    most.add(provided(most, 1_000_000, "2"))
    yield broken("Q6", "above-the-cap", "A provider owes a tiyn more than the cap (LEAKS 04).",
                 most, provided(most, 200_001, "3"), provided(most, 200_000, "3"), why=(60_001, 60_000))
    slow = at("trade")
    slow.wait(rules.PROVIDER_S)
    more = replace(provided(slow, 1, "2"), time=slow.now)
    yield broken("Q6", "never-exchanged", "A provider takes more, a second after three days in which it paid nothing (LEAKS 04).",
                 slow, replace(more, time=slow.now + 1), more, why=(rules.PROVIDER_S, slow.now + 1))


def lines() -> Iterator[Vector]:
    """B6 and B7: the Authority moves its lines."""
    pilot_over = rules.PARAMETERS["block_budget_until"][2]
    log = at("registered")
    late = replace(allocation(log), time=pilot_over)
    yield broken("B6", "not-prolonged", "An allocation at the second at which the pilot of block budgets ends (G9).", log, late, replace(late, time=pilot_over - 1), why=(pilot_over,))
    log = at("trade")
    newest = hash_struct(log.state.last_rate["USDT"])
    half = allocation(log, "l-one", block="lines", asset="USDT", rate_hash=newest)
    one, two = log.act(half), log.act(replace(half, allocation="l-two"))
    good = Move(0, one, two, 20, digest("move"))
    yield broken("B7", "to-itself", "A line is moved to itself.", log, replace(good, to_hash=one), good)
    yield broken("B7", "nowhere", "A line is moved to nowhere.", log, replace(good, to_hash=digest("none")), good)
    yield broken("B7", "more-than-there-is", "More is moved than the line has.", log, replace(good, amount=1_001), good, why=(1_001, 1_000))
    yield broken("B5", "move-rounded-up", "A move of one unit needs a tiyn more than it frees (LEAKS 16).", log, replace(good, amount=1), good, why=(101, 100))
    yield broken("B6", "move-not-prolonged", "A move at the second at which the pilot of block budgets ends.", log, replace(good, time=pilot_over), replace(good, time=pilot_over - 1), why=(pilot_over,))
    new_year = 1_861_902_000  # 2029-01-01 in Alatau
    prolonged = copy.deepcopy(log)
    prolonged.act(Parameter(0, "block_budget_until", new_year + 1, START_S, ACT))
    yield broken("B2", "move-too-late", "A move a second after the block's last year.", prolonged, replace(good, time=new_year), replace(good, time=new_year - 1), why=(2029,))
    spent = copy.deepcopy(log)
    spent.act(replace(payee("builder-a"), fund="AUTHORITY"))
    spent.act(Commitment(0, "c-line", one, "builder-a", 600, digest("c-line")))
    yield broken("B7", "committed", "What a contract claims is moved away (G10).", spent, replace(good, amount=420), replace(good, amount=400), why=(420, 400))
    kept = at("trade")
    first, second = kept.act(allocation(kept, "k-one")), kept.act(allocation(kept, "k-two"))
    third, fourth = (kept.act(allocation(kept, name, 40, block="lines")) for name in ("k-three", "k-four"))
    yield broken("B7", "retained", "The Authority moves what the Council allotted out of RETAINED (G2).", kept, Move(0, first, second, 1, digest("move")), Move(0, third, fourth, 1, digest("move")))
    kept.act(Block(0, "lines-2", "AUTHORITY", 2026, 2028, 100, ACT))
    far = kept.act(allocation(kept, "k-five", 40, block="lines-2"))
    yield broken("B7", "other-block", "A line is moved to another block, for which it takes an act (G9).", kept, Move(0, third, far, 1, digest("move")), Move(0, third, fourth, 1, digest("move")))
    rated = at("trade")
    cheap = replace(half, amount=100)
    low, same = rated.act(cheap), rated.act(replace(cheap, allocation="l-same"))
    dear = rated.act(replace(cheap, allocation="l-dear", rate_hash=rated.add(usdt_rate(52_000, "b"))))
    yield broken("B7", "other-rate", "A line is moved to one that another rate measures, to stretch the limit (LEAKS 16).", rated, Move(0, low, dear, 20, digest("move")), Move(0, low, same, 20, digest("move")))
    narrow = at("trade")
    narrow.act(project("road", limit=50))
    wide = narrow.act(half)
    full = narrow.act(replace(half, allocation="l-road", project_hash=narrow.state.project_hashes["road"]))
    yield broken("B4", "moved-above-approved", "A move gives a project more than was approved (G10).", narrow, Move(0, wide, full, 20, digest("move")), Move(0, full, wide, 20, digest("move")), why=(51, 50))


def quarrels() -> Iterator[Vector]:
    """C6 to C9."""
    log = at("trade")
    two, certified = named_work(log)
    loose = contracted(log, "loose", 1_000, 600)
    less = Release(0, loose[1], 400, digest("release"))
    yield broken("C6", "no-commitment", "Something is released from no contract.", log, replace(less, commitment_hash=digest("none")), less)
    yield broken("C6", "below-milestones", "What a milestone claims is released.", log, replace(less, amount=401), less, why=(401, 400))
    by = city.AUDITOR.address
    stop = Dispute(0, two[1], by, digest("dispute"))
    yield broken("C7", "no-commitment", "A dispute about no contract.", log, replace(stop, commitment_hash=digest("none")), stop)
    yield broken("C7", "stranger", "Somebody who has nothing to do with it freezes a contract.", log, replace(stop, by=THIEF.address), stop)
    yield broken("C7", "authority", "The Authority, which signed the contract, freezes it.", log, replace(stop, by=AUTHORITY.address), stop)
    mine = Dispute(0, ORDER.commitment_hash, city.PAYEE_ADDRESS, digest("dispute"))
    yield broken("C7", "payee-of-another", "A payee freezes another's contract.", log, replace(mine, commitment_hash=two[1]), mine)
    said = proposed(log, replace(stop, by=CERTIFIER.address))
    yield broken("A4", "dispute-in-anothers-name", "An auditor signs a dispute that names the certifier.", log, signed(log, city.AUDITOR, said), signed(log, CERTIFIER, said))
    order_hash = log.act(order(two, certified, 600))
    pay = Transfer(0, digest("id k"), "spent-kzt", "bank-kzt", "KZT", 600, "order-k", order_hash, digest("evidence k"))
    frozen = copy.deepcopy(log)
    frozen.act(stop)
    frozen.act(Dispute(0, loose[1], by, digest("dispute loose")))
    settled = copy.deepcopy(frozen)
    end = Resolution(0, two[1], 1, digest("settled"))
    yield broken("C7", "again", "What is in dispute is disputed again.", frozen, replace(stop, by=CERTIFIER.address, document=digest("again")), replace(end, outcome=0))
    yield broken("C8", "no-dispute", "A contract is ended that nobody disputes (G12).", log, end, end, twin_after=frozen)
    yield broken("C8", "third-way", "An outcome that is neither.", frozen, replace(end, outcome=2), end, why=(2,))
    settled.act(replace(end, outcome=0))
    settled.act(Resolution(0, loose[1], 0, digest("settled loose")))
    part = Milestone(0, "part", loose[1], 400, digest("part"))
    rest = certificate(two[3], 400)
    for name, says, bad in (
        ("paid", "An order is paid while its contract is in dispute (G12).", pay),
        ("certified", "Work is certified while its contract is in dispute.", rest),
        ("cut", "A contract in dispute gets another part.", part),
        ("released", "What a payee disputes is released meanwhile.", less),
    ):
        yield broken("C9", f"{name}-in-dispute", says, frozen, bad, bad, twin_after=settled)
    done = copy.deepcopy(log)
    done.wait(rules.DAY)  # the first order of a day goes (O11)
    late = done.act(rest)
    going = copy.deepcopy(done)
    done.act(stop)
    yield broken("C9", "ordered-in-dispute", "Work is ordered while its contract is in dispute.", done, order(two, late, 400, "o-late"), order(two, late, 400, "o-late"), twin_after=going)
    ended = copy.deepcopy(frozen)
    ended.act(end)
    yield broken("C9", "certified-after-the-end", "Work is certified on a contract that ended.", ended, rest, rest, twin_after=settled)
    yield broken("V4", "paid-after-the-end", "An order is paid whose contract ended (G12).", ended, pay, pay, twin_after=settled)


def unmatched_money() -> Iterator[Vector]:
    """V5 and what money that nobody could match may not do; M7."""
    log = at("trade")
    known = receipts(log)
    good = matched(log, known["unmatched 1"])
    yield broken("V5", "no-receipt", "Something is matched that never came.", log, replace(good, authority=city.rule_hash(log)), good)
    yield broken("V5", "a-fee", "A fee is matched that was matched when it came.", log, replace(good, authority=known["said"]), good)
    yield broken("V5", "more-than-came", "More is matched than came.", log, replace(good, amount=501), good, why=(500, 501))
    half = copy.deepcopy(log)
    half.add(matched(half, known["unmatched 1"], 300))
    rest = replace(good, amount=200, id=digest("id rest"), evidence=digest("evidence rest"))
    yield broken("V5", "anothers", "Out of one pot: what another paid is matched for him who paid too little (LEAKS 12).", half, replace(rest, amount=201), rest, why=(200, 201))
    gone = copy.deepcopy(log)
    gone.act(refund(known["unmatched 1"], 500))
    yield broken("V5", "going-back", "What goes back is matched as well (LEAKS 12).", gone, good, replace(good, authority=known["unmatched other"], amount=300))
    yield broken("V1", "matched-to-no-code", "What nobody could match is given to a code that has no rule.", log, replace(good, purpose="999999"), good)
    fund = at_with(
        RevenueRule(0, "local-fee", "MUNICIPAL", 10_000, START_S, ACT), account("payable-local", fund="MUNICIPAL", kind=rules.PAYABLE),
        account("fees-local", fund="MUNICIPAL", kind=REVENUE, owner=encode_name("local-fee")), stage="trade",
    )
    yield broken("M5", "matched-to-another-fund", "RETAINED money that nobody could match becomes MUNICIPAL (LEAKS 08).", fund, replace(good, purpose="local-fee", credit="fees-local"), good)
    kept, receipt = in_custody()
    taken = replace(matched(kept, receipt, 400), debit="payable-held")
    yield broken("M5", "custody-matched", "Others' money is given to a code and becomes the city's (LEAKS 08).", kept, taken, refund(receipt, 400))
    more = unmatched(fund, mark="2")
    yield broken("M5", "parked-in-another-fund", "RETAINED money is parked as the local budget's (LEAKS 08).", fund, replace(more, credit="payable-local"), more)
    yield broken("M4", "parked-without-a-bank", "What is owed to payers is taken from revenue.", fund, replace(more, debit="fees-kzt"), more)
    balance = log.state.accounts["bank-kzt"].balance
    most = city.revenue(log, 2**128 - 1 - balance, "kzt", "most")
    yield broken("M7", "two-to-128", "A balance that neither a contract nor a statement can hold.", log, replace(most, amount=2**128 - balance), most, why=(balance, 2**128 - balance))


def in_custody(stage: str = "trade") -> tuple[Log, bytes]:
    """A stage and 400 tiyn of others' money in custody; returns the log and the hash of its receipt."""
    log = at_with(account("bank-held", fund=rules.CUSTODY), account("payable-held", fund=rules.CUSTODY, kind=rules.PAYABLE), stage=stage)
    return log, log.add(held(log, 400))


def held(log: Log, amount: int, mark: str = "held") -> Transfer:
    """Others' money that came into custody."""
    return replace(unmatched(log, amount, mark), debit="bank-held", credit="payable-held")


def _promised(log: Log, amount: int) -> None:
    hashes = contracted(log, "big", amount, amount)
    log.act(order(hashes, log.act(certificate(hashes[2], amount)), amount, "o-big"))


def refunds() -> Iterator[Vector]:
    """F1 to F5."""
    log = at("trade")
    known = receipts(log)
    said = log.state.receipts[known["said"]]
    good = refund(known["said"], 1_000)
    yield broken("F1", "never-came", "A refund of what never came (LEAKS 12).", log, refund(digest("none"), 1), good)
    yield broken("F1", "more", "A refund of a tiyn more than came (LEAKS 12).", log, replace(good, amount=1_001), good, why=(1_000, 1_001))
    two = copy.deepcopy(log)
    first, second = proposed(two, refund(known["said"], 600)), proposed(two, refund(known["said"], 600, mark="2"))
    alone = copy.deepcopy(two)
    two.approve(hash_struct(first))
    last = signed(two, AUTHORITY, second)
    yield broken("F1", "twice-while-one-waits", "Two refunds of one receipt wait, and each is small enough by itself (LEAKS 12, 25).",
                 two, last, last, twin_after=alone, why=(400, 600))
    undone = copy.deepcopy(log)
    undone.act(reversal(place(undone, "evidence kzt said")))
    yield broken("F1", "undone", "A refund of what the bank took back (LEAKS 12, 13).", undone, good, refund(known["unmatched 1"], 500))
    given = copy.deepcopy(log)
    given.add(matched(given, known["unmatched 1"]))
    yield broken("F1", "matched", "A refund of what was matched, out of what another paid (LEAKS 12).", given, refund(known["unmatched 1"], 1), refund(known["unmatched other"], 300), why=(0, 1))
    yield broken("M3", "refund-to-nowhere", "A refund that goes nowhere.", log, replace(good, to=ZERO_HASH), good)
    yield broken("M3", "refund-id-again", "A refund under the id of its receipt.", log, replace(good, id=said.id), good)
    tight = copy.deepcopy(log)
    _promised(tight, log.state.accounts["bank-kzt"].balance - 400)
    yield broken("F2", "spoken-for", "A refund of money that an order has already (O10).", tight, replace(good, amount=401), replace(good, amount=400), why=(400, 401))
    republic = payee("republic", "KZT", SAID, rules.REPUBLIC)
    state = at_with(republic, stage="trade")
    yield broken("G7", "refund-to-the-republic", "A refund to the republican budget (LEAKS 07).", state, good, replace(good, to=digest("another")), why=(state.now, city.RETENTION_END_S))
    ready = copy.deepcopy(log)
    approved = ready.act(good)
    booked = refunded(approved, said, 1_000)
    bare = copy.deepcopy(ready)
    bare.act(republic)
    yield broken("G7", "refund-to-the-republic-unmasked", "Who gets the refund turns out to be the republican budget (LEAKS 07).", bare, booked, booked, twin_after=ready, why=(bare.now,))
    taken = replace(booked, authority=city.rule_hash(log))
    yield broken("F3", "revenue-taken-back", "Revenue is booked back out (LEAKS 12, 13).", ready, taken, booked)
    yield broken("F3", "no-refund", "Money goes back and nobody allowed it (LEAKS 12).", log, booked, booked, twin_after=ready)
    yield broken("F3", "less", "A refund is booked in part, which would leave room for another.", ready, replace(booked, amount=999), booked, why=(1_000,))
    yield broken("F3", "other-account", "A refund is booked against another account than its receipt.", ready, replace(booked, debit="payable-kzt"), booked)
    done = copy.deepcopy(ready)
    done.add(booked)
    yield broken("F3", "booked-twice", "A refund is booked twice (LEAKS 12).", done, replace(booked, id=digest("id b"), evidence=digest("evidence b")), refund(known["unmatched 1"], 500, mark="2"))
    hand = copy.deepcopy(log)
    waits = hand.add(replace(good, to=digest("friend")))
    hand.approve(waits, AUTHORITY)
    both = copy.deepcopy(hand)
    both.approve(waits, city.AUDITOR)
    out = refunded(waits, said, 1_000)
    yield broken("F3", "one-of-two", "A refund to where the payer never said, which the Authority alone signed (LEAKS 12).", hand, out, out, twin_after=both)

    capped = at_with(Parameter(0, "refund_cap", 999, START_S, ACT), stage="trade")
    capped.wait(rules.NOTICE_S)
    friend = replace(good, to=digest("friend"))
    yield broken("F4", "above-the-cap", "Two people send back more than a year allows (LEAKS 12).", capped, friend, replace(friend, amount=999), why=(1_000, 999))
    yield broken("F4", "undone-above-the-cap", "Two people undo more than a year allows (LEAKS 13).", capped, reversal(place(capped, "evidence kzt said")), reversal(place(capped, "evidence kzt unmatched 1")), why=(1_000, 999))
    coins = at("registered")
    unmeasured = refund(coins.add(city.revenue(coins)), 1)
    measured = copy.deepcopy(coins)
    measured.add(usdt_rate())
    yield broken("F4", "without-a-rate", "Coins go back that nobody can measure.", coins, unmeasured, unmeasured, twin_after=measured)
    old = copy.deepcopy(log)
    old.now = old.state.receipts[known["unmatched 1"]].time + rules.UNMATCHED_S
    claim = refund(known["unmatched 1"], 500)
    yield broken("F5", "after-a-year", "Money that nobody claimed for a year goes back, a second later (LEAKS 12).", old, replace(claim, time=old.now + 1), claim, why=(rules.UNMATCHED_S + 1, rules.UNMATCHED_S))
    kept, receipt = in_custody()
    kept.now = kept.state.receipts[receipt].time + rules.UNMATCHED_S + 1
    yield broken("F5", "not-in-custody", "After a year others' money still goes back, and what became the city's does not (LEAKS 08, 12).",
                 kept, refund(known["unmatched 1"], 500), refund(receipt, 400), why=(rules.UNMATCHED_S,))


def reversals() -> Iterator[Vector]:
    """R1 and R2."""
    log = at("trade")
    known = receipts(log)
    fee = place(log, "evidence kzt said")
    good = reversal(fee)
    yield broken("R1", "no-transfer", "A record is undone that is no transfer (LEAKS 13).", log, reversal(0), good)
    yield broken("R1", "chain", "Final money on a chain is undone (LEAKS 13).", log, reversal(place(log, "evidence usdt 1")), good)
    yield broken("R1", "provider", "What a provider took is undone.", log, reversal(place(log, "evidence usdt provider 1")), good)
    again = copy.deepcopy(log)
    again.act(good)
    yield broken("R1", "twice", "A transfer is undone twice (LEAKS 13).", again, reversal(fee, "2"), reversal(place(log, "evidence kzt unmatched 1"), "2"))
    old = copy.deepcopy(log)
    old.now = old.state.time + rules.REVERSAL_S
    yield broken("R1", "after-30-days", "A transfer is undone a second after 30 days (LEAKS 13).", old, replace(good, time=old.now + 1), good, why=(rules.REVERSAL_S + 1, rules.REVERSAL_S))
    back = copy.deepcopy(log)
    approved = back.act(refund(known["said"], 1_000))
    yield broken("R1", "refunded", "A receipt goes back, and is undone as well (LEAKS 12, 13).", back, good, reversal(place(log, "evidence kzt unmatched 1")))
    said = back.state.receipts[known["said"]]
    back.add(refunded(approved, said, 1_000))
    yield broken("R1", "refund-undone", "A refund that has gone is undone, to go again (LEAKS 12).", back, reversal(len(back.records) - 1), reversal(place(log, "evidence kzt unmatched 1")))
    given = copy.deepcopy(log)
    given.add(matched(given, known["unmatched 1"]))
    yield broken("R1", "matched", "A receipt is undone whose money a code has.", given, reversal(place(log, "evidence kzt unmatched 1")), reversal(len(given.records) - 1))
    two, certified = named_work(log)
    paid = copy.deepcopy(log)
    approved = paid.act(order(two, certified, 600))
    pay = Transfer(0, digest("id k"), "spent-kzt", "bank-kzt", "KZT", 600, "order-k", approved, digest("evidence k"))
    paid.add(pay)
    paid.act(reversal(len(paid.records) - 1))
    paid.add(replace(pay, id=digest("id l"), evidence=digest("evidence l")))
    yield broken("R1", "order-restored-again", "An order is paid, undone, paid, and undone again: so it could go on for ever (LEAKS 13).",
                 paid, reversal(len(paid.records) - 1, "2"), reversal(fee, "2"))
    tight = copy.deepcopy(log)
    _promised(tight, log.state.accounts["bank-kzt"].balance - 500)
    yield broken("R2", "spoken-for", "Money is taken back that an order has already.", tight, good, reversal(place(log, "evidence kzt unmatched 1")), why=(500, 1_000))
    yield broken("M3", "reversal-without-evidence", "A transfer is undone and nothing shows that the bank did so (LEAKS 13).", log, replace(good, evidence=ZERO_HASH), good)


def statements() -> Iterator[Vector]:
    """L1 and L2."""
    log = at("trade")
    log.wait(10)
    as_of = log.now - 1
    good = statement(log, as_of)
    yield broken("L1", "no-money", "A statement of an account that holds no money.", log, replace(good, account="fees-kzt", closing=0), good)
    yield broken("L1", "of-the-future", "A statement of this very second, in which more may still come.", log, replace(good, as_of=log.now), good, why=(log.now,))
    yield broken("L1", "opens-anew", "A first statement that does not open with nothing.", log, replace(good, opening=1), good, why=(1, 0))
    yield broken("H5", "statement-without-paper", "A statement that nobody saw.", log, replace(good, evidence=ZERO_HASH), good)
    balance = good.closing
    yield broken("L2", "other-balance", "A statement that says a tiyn less than the ledger (LEAKS 11).", log, replace(good, closing=balance - 1), good, why=(balance - 1, balance))
    told = copy.deepcopy(log)
    told.act(good)
    told.wait(10)
    told.add(city.revenue(told, 5, "kzt", "after"))
    told.wait(10)
    following = statement(told, told.now - 1)
    yield broken("L1", "of-the-past", "A second statement of the same time.", told, replace(following, as_of=as_of), following, why=(as_of,))
    yield broken("L1", "gap", "A statement that does not begin where the one before ended (LEAKS 11).", told, replace(following, opening=0), following, why=(0, balance))
    yield broken("L2", "as-before", "A statement that leaves out what came since (LEAKS 11).", told, replace(following, closing=balance), following, why=(balance, balance + 5))


def books() -> Iterator[Vector]:
    """K1 and Y1."""
    log = at("registered")
    spot = log.breach(_bytes(replace(usdt_rate(), source2=digest("source 1")), log))
    good = Acknowledgement(0, spot, "Q1", ACT)
    yield broken("K1", "no-breach", "A record is excused that broke no rule.", log, replace(good, index=spot - 1), good)
    yield broken("K1", "other-rule", "A breach is excused as a smaller one (LEAKS 26).", log, replace(good, rule="Q2"), good)
    again = copy.deepcopy(log)
    again.act(good)
    again.breach(_bytes(replace(usdt_rate(), source2=digest("source 1")), again))
    yield broken("K1", "twice", "A breach is excused twice.", again, replace(good, act=digest("act 2")), replace(good, index=again.breaches[-1]))

    new_year = 1_798_743_600  # 2027-01-01 in Alatau
    year = at("registered")
    year.now = new_year
    good_close = close(year)
    yield broken("Y1", "not-over", "A year is closed in its last second.", year, replace(good_close, time=new_year - 1), good_close, why=(2026,))
    yield broken("Y1", "other-state", "A year is closed with another state than the ledger's.", year, replace(good_close, state_hash=digest("state")), good_close)
    year.act(good_close)
    year.now += 365 * rules.DAY
    yield broken("Y1", "twice", "A year is closed twice.", year, close(year), close(year, 2027), why=(2026,))
    later = copy.deepcopy(year)
    later.act(close(later, 2027))
    later.now += 366 * rules.DAY
    yield broken("Y1", "backwards", "A year is closed after a later one.", later, close(later, 2025), close(later, 2028), why=(2025,))


# fmt: on
def vectors() -> Iterator[Vector]:
    """All vectors, in the order of the rules."""
    for part in (
        encodings,
        sequence,
        approvals,
        offices,
        seats_and_keys,
        registers,
        rates,
        exchanges,
        budgets,
        lines,
        work,
        quarrels,
        orders,
        money,
        unmatched_money,
        refunds,
        reversals,
        statements,
        books,
    ):
        yield from part()


# --- writing them -------------------------------------------------------------


def _shown(data: bytes) -> dict[str, str] | None:
    try:
        return as_json(decode(data))
    except Invalid:
        return None


def _shared(*logs: list[bytes]) -> tuple[str, int]:
    """The shared log that begins like all of these for longest, and for how many records."""

    def alike(name: str) -> int:
        for index, records in enumerate(zip(shared_log(name), *logs, strict=False)):
            if len(set(records)) > 1:
                return index
        return min(len(shared_log(name)), *map(len, logs))

    name = max(SHARED_LOGS, key=alike)
    return name, alike(name)


def as_file(vector: Vector) -> dict[str, object]:
    """What stands in a vector's file; refuses to write what the rules do not say."""
    state = copy.deepcopy(vector.log.state)
    refused = refusal(state, vector.refused)
    assert refused is not None, f"{vector.breaks}-{vector.name} is accepted"
    assert refused.rule == vector.breaks, f"{vector.breaks}-{vector.name}: {refused}"
    assert all(part in refused.why for part in vector.why_contains), (
        f"{vector.breaks}-{vector.name}: {refused}"
    )
    records = [*vector.log.records, vector.refused]
    name, take = _shared(records, vector.twin)
    pairs = zip(records[take:-1], vector.twin[take:-1], strict=False)
    fork = take + next(
        (at for at, (one, other) in enumerate(pairs) if one != other),
        min(len(records), len(vector.twin)) - take - 1,
    )
    breaches = {"breaches": vector.log.breaches} if vector.log.breaches else {}
    return {
        "breaks": vector.breaks,
        "at": refused.where,
        "says": vector.says,
        "why_contains": list(vector.why_contains),
        "base": name,
        "take": take,
        "after": [data.hex() for data in records[take:fork]],
        "records": [data.hex() for data in records[fork:]],
        "twin": [data.hex() for data in vector.twin[fork:]],
        **breaches,
        "reads": {"refused": _shown(vector.refused), "twin": _shown(vector.twin[-1])},
    }


def files() -> dict[str, str]:
    """Every generated file: its path inside rules/ and its text."""
    made: dict[str, object] = {}
    for name in SHARED_LOGS:
        made[f"logs/{name}.json"] = [{"hex": data.hex(), "reads": _shown(data)} for data in shared_log(name)]
    for vector in vectors():
        path = f"{vector.breaks}-{vector.name}.json"
        assert path not in made, f"{path} is there twice"
        made[path] = as_file(vector)
    return {path: json.dumps(content, indent=1) + "\n" for path, content in made.items()}


def main() -> int:
    """Write all files and take away those that nothing makes any more."""
    made = files()
    for old in FOLDER.rglob("*.json"):
        if old.relative_to(FOLDER).as_posix() not in made:
            old.unlink()
    for path, text in made.items():
        target = FOLDER / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(made)} files, {sum(map(len, made.values()))} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
