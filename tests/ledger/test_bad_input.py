"""What comes in broken, each thing that the issue lists, in one batch: refused by name, and the batch goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from ledger import rules, store
from ledger.records import (
    WORD,
    Invalid,
    Seat,
    Transfer,
    Unavailable,
    decode,
    domain_separator,
    encode,
    encode_name,
)
from tests import city
from tests.city import ACT, CHAIN_ID, COUNCIL, COUNCIL_CONTRACT, Key, digest
from tests.ledger.running import Ledger, fees, template
from tests.vectors import make

NAMES = [name for name, *_ in Transfer.members]
GUEST = Key("guest")


class Bad(NamedTuple):
    """What is submitted; the rule that refuses it, and what its answer must say."""

    says: str
    data: bytes
    rule: str
    why: tuple[str, ...]


def bent(record: Transfer, name: str, word: bytes) -> bytes:
    """A transfer with one word of other bytes."""
    data = bytearray(template(record))
    at = WORD * (1 + NAMES.index(name))
    data[at : at + WORD] = word
    return bytes(data)


def bad_ones(log: city.Log, waits: bytes) -> list[Bad]:
    """The list of issue 3, in its order."""
    new = iter(fees(log, 100, 50))
    proposal = log.state.proposals[waits].record
    expired = template(make.signed(log, GUEST, proposal))
    other_chain = domain_separator(CHAIN_ID + 1, COUNCIL_CONTRACT, digest("ledger"))
    foreign = template(COUNCIL[1].approve(other_chain, proposal, log.now + rules.DAY, log.now))
    dirty = bytearray(expired)
    dirty[3 * WORD] = 1  # above the signer's address
    name = encode_name
    return [
        Bad("a wrong word", digest("no type") + template(next(new))[WORD:], "E1", (digest("no type").hex(),)),
        Bad("a word too few", template(next(new))[:-WORD], "E1", ("352", "320")),
        Bad("dirty bits", bytes(dirty), "E2", ("12 zero bytes", "01")),
        Bad("a space", bent(next(new), "debit", b"treasury usdt".ljust(WORD, b"\0")), "E3", ("usdt",)),
        Bad("a look-alike", bent(next(new), "debit", "trеasury".encode().ljust(WORD, b"\0")), "E3", ("visible",)),
        Bad("an amount of 0", bent(next(new), "amount", bytes(WORD)), "E4", ("1", "0")),
        Bad("an amount of 2^128", bent(next(new), "amount", (1 << 128).to_bytes(WORD)), "E4", (str(1 << 128), "2^128")),
        Bad("an unknown account", bent(next(new), "debit", name("treasury-usdc")), "M1", ("treasury-usdc",)),
        Bad("a seat that is over", expired, "A4", (GUEST.address.hex(), str(log.now))),
        Bad("another chain id", foreign, "A6", (COUNCIL[1].address.hex(),)),
    ]  # fmt: skip


def test_each_is_refused_with_rule_place_and_numbers_and_the_batch_around_it_goes_on(ledger: Ledger) -> None:
    log = city.registered()
    end = log.now + rules.NOTICE_S + rules.DAY
    log.act(Seat(0, rules.COUNCIL, GUEST.address, log.now, end, ACT))
    log.wait(rules.NOTICE_S)
    waits = log.add(make.project("waits"))
    writer = ledger.writer()
    ledger.feed(writer, log.records)
    log.now = ledger.clock.now = end  # the term was over a second ago: its last second was end - 1
    bad, good = bad_ones(log, waits), fees(log, 0, 50)

    # A good one before each bad one and after the last; all in one batch.
    ids: list[tuple[bytes, Bad | None]] = []
    with ledger.engine.begin() as connection:
        for number, one in enumerate(bad):
            store.submit(connection, good[number].id, template(good[number]), 0)
            id = one.data[2 * WORD : 3 * WORD] if len(one.data) == 11 * WORD else digest(one.says)
            store.submit(connection, id, one.data, 0)
            ids += [(good[number].id, None), (id, one)]
        store.submit(connection, good[40].id, template(good[40]), 0)
    ids.append((good[40].id, None))
    assert writer.step() == len(ids)

    position = len(log.records)
    for id, one in ids:
        if one is None:
            recorded = ledger.answer(id)
            assert recorded is not None
            assert recorded.position == position
            position += 1
            continue
        with pytest.raises(Invalid) as refused:
            ledger.answer(id)
        # The place is where it would have stood.
        assert (refused.value.rule, refused.value.where) == (one.rule, f"record {position}"), one.says
        assert [part for part in one.why if part not in refused.value.why] == [], one.says
    assert rules.replay(ledger.records())[1] == []


def test_an_id_again_is_a_conflict_with_other_content_and_the_same_answer_with_the_same(
    ledger: Ledger,
) -> None:
    writer, log = ledger.opened()
    one, after = fees(log, 0, 2)
    ledger.ask(one)
    for stage in ("waits", "is recorded"):
        assert ledger.ask(one) == one.id, stage
        with pytest.raises(Invalid) as conflict:
            ledger.ask(replace(one, amount=one.amount + 1))
        assert (conflict.value.rule, conflict.value.where) == ("inbox", f"0x{one.id.hex()}")
        assert "352 bytes" in conflict.value.why
        writer.drain()
    ledger.ask(after)
    writer.drain()
    assert [ledger.answer(fee.id).position for fee in (one, after)] == [
        len(log.records),
        len(log.records) + 1,
    ]


def test_a_time_that_goes_back_is_refused_and_never_written(ledger: Ledger) -> None:
    writer, log = ledger.opened()
    first, one, other = fees(log, 0, 3)
    ledger.ask(first)
    writer.drain()
    # Who submits cannot say the time, and a clock that goes back does not take the ledger with it.
    ledger.clock.now = log.now - 60
    with ledger.engine.begin() as connection:
        store.submit(connection, one.id, encode(replace(one, time=log.now - 7)), 0)
    writer.drain()
    assert decode(ledger.records()[-1]).time == log.now
    # One that goes back by more than a minute is believed no more: nothing is refused, and nothing recorded.
    ledger.clock.now -= 1
    ledger.ask(other)
    with pytest.raises(Unavailable, match=f"dated {log.now}, the clock says {log.now - 61}"):
        writer.drain()
    ledger.clock.now += 1
    state, _ = rules.replay(ledger.records())
    with pytest.raises(Invalid) as refused:
        rules.apply(state, encode(replace(other, time=log.now - 1)))
    assert (refused.value.rule, refused.value.where) == ("H2", f"record {len(log.records) + 2}")
    assert str(log.now - 1) in refused.value.why
    assert str(log.now) in refused.value.why
