"""Losing a server, a backup, a chain or a key does not lose the record (L9)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from eth_account import Account as Wallet
from sqlalchemy import Engine

from contracts.bindings import is_enactable
from ledger import rules, store, tables
from ledger.audit import audit
from ledger.database import engine, reading
from ledger.following import Follower
from ledger.proof import format_vkey, parse_note
from ledger.publish import LogKeys, Publisher
from ledger.records import (
    WORD,
    Acknowledgement,
    Contract,
    Invalid,
    KeyChange,
    RevenueRule,
    Seat,
    Unavailable,
    decode,
    encode,
    keccak256,
)
from ledger.restore import restore
from ledger.rules import DAY
from ledger.target import Folder
from ledger.watcher import Watcher
from ledger.writer import Writer
from tests import bundles, city
from tests.ledger.running import COSIGNER, KEYS, Ledger, fees
from tests.ledger.test_anchor import OnChain, anchor, anchored, more, node
from tests.ledger.test_anchor import on_chain as on_chain  # noqa: PLC0414 - a fixture
from tests.ledger.test_writer import forge
from tests.vectors import make


@dataclass
class Lost:
    """A ledger that was published, and a new machine that has its bundle."""

    ledger: Ledger
    writer: Writer
    log: city.Log
    publisher: Publisher

    @property
    def bundle(self) -> Folder:
        return Folder(self.publisher.folder)

    def new(self, name: str = "new", heads: Engine | None = None) -> Ledger:
        """Databases with nothing in them; the signed heads may be the old ones."""
        folder = self.ledger.folder / name
        folder.mkdir()
        opened = engine(f"sqlite:///{folder}/ledger.db")
        kept = engine(f"sqlite:///{folder}/heads.db") if heads is None else heads
        return Ledger(self.publisher.folder.parent, opened, kept, self.ledger.clock)


@pytest.fixture
def lost(ledger: Ledger) -> Lost:
    writer, log = ledger.opened()
    with ledger.engine.begin() as connection:
        store.add_document(connection, b"act")
    more(ledger, writer, log, 0, 300)
    publisher = ledger.publisher()
    writer.publish(publisher, ledger.watcher())
    return Lost(ledger, writer, log, publisher)


def rows(ledger: Ledger) -> dict[str, list[str]]:
    """What both machines must have alike; the inbox and the fence are of one machine."""
    alike = (tables.record, tables.transfer, tables.balance, tables.document)
    with reading(ledger.engine) as connection:
        return {
            table.name: sorted(repr(row) for row in connection.execute(table.select())) for table in alike
        }


@pytest.mark.parametrize("are_heads_lost", [False, True])
def test_a_lost_database_comes_back_from_the_bundle_and_the_ledger_goes_on(lost: Lost, are_heads_lost: bool):
    new = lost.new(heads=None if are_heads_lost else lost.ledger.heads)
    count = restore(new.engine, new.heads, lost.bundle, KEYS, KEYS.verifiers())
    assert count == lost.writer.tree.size
    assert rows(new) == rows(lost.ledger)
    for fee in fees(lost.log, 0, 300)[::50]:
        assert new.answer(fee.id) == lost.ledger.answer(fee.id)
    writer = new.writer()
    assert writer.tree.root() == lost.writer.tree.root()
    published = (lost.publisher.folder / "checkpoint").read_bytes()
    assert parse_note(writer.seal())[0] == parse_note(published)[0]
    more(new, writer, lost.log, 1_000, 3)
    writer.publish(lost.publisher, new.watcher())
    assert {one.rule for one in audit(str(lost.publisher.folder)).findings} <= {"T4"}
    # It is known again what was signed.
    with reading(new.heads) as connection:
        assert store.last_head(connection).size == writer.tree.size


def broken_log() -> tuple[city.Log, list[int]]:
    """A log with breaches of many kinds by whoever keeps it, most of them acknowledged by act.

    Returns their places: the first of them all but the last one are acknowledged.
    """
    log = city.registered()
    (fee,) = fees(log, 0, 1)
    log.add(fee)
    log.wait(60)
    # Undecodable, money to nowhere, the same again, the same id with other content, out of time, a proposal again.
    proposal = log.records[next(n for n, data in enumerate(log.records) if type(decode(data)) is RevenueRule)]
    places = [
        log.breach(data)
        for data in (
            b"no record",
            encode(replace(fee, time=log.now, debit="no-such-account")),
            log.records[-1],
            encode(replace(fee, time=log.now, amount=7)),
            encode(replace(fee, time=log.now - 120, id=city.digest("past"), evidence=city.digest("past"))),
            encode(replace(fee, time=rules.TIME_LIMIT_S, id=city.digest("far"))),
            proposal,
        )
    ]
    for one in fees(log, 1, 300):
        log.add(one)
    for place in places:
        log.act(Acknowledgement(0, place, log.state.breaches[place], city.ACT))
    log.wait(60)
    places.append(log.breach(encode(replace(fee, time=log.now))))
    log.add(fees(log, 400, 1)[0])
    return log, places


@pytest.mark.parametrize("half", [False, True])
def test_a_log_with_acknowledged_breaches_comes_back_exactly_and_goes_on(ledger: Ledger, half: bool):
    log, places = broken_log()
    bundle = bundles.write(ledger.folder / "published", log, anchored=[])
    target = Folder(bundle.folder)
    before = [one.where for one in audit(bundle.folder).findings if one.rule not in {"T3", "T4"}]
    assert before == [f"record {places[-1]}"]
    had = 0
    if half:
        # A restore that died after some of them, on the way to the same end.
        shorter = city.Log()
        shorter.records = log.records[: places[3] + 1]
        part = bundles.write(ledger.folder / "part", shorter, anchored=[])
        had = restore(ledger.engine, ledger.heads, Folder(part.folder), KEYS, KEYS.verifiers())
        assert had == len(shorter.records)
    assert restore(ledger.engine, ledger.heads, target, KEYS, KEYS.verifiers()) == len(log.records) - had
    assert ledger.records() == log.records
    # A start from nothing, by the writer as it always starts.
    ledger.clock.now = log.now
    writer = ledger.writer()
    assert rules.dump(writer.state) == rules.dump(log.state)
    assert writer.state.acknowledged.keys() == set(places[:-1])
    assert writer.tree.root() == bundles.root_at(log.records, len(log.records))
    with reading(ledger.engine) as connection:
        ids = [row.id for row in connection.execute(tables.transfer.select())]
        assert len(ids) == len(set(ids)) == 302
        assert store.balances(connection)["treasury-usdt"] == log.state.accounts["treasury-usdt"].balance
    # Who reads stops only for what nobody has acknowledged, and the writer can record that somebody does.
    view = Follower(ledger.engine, ledger.heads)
    with pytest.raises(Invalid, match=f"at record {places[-1]}"):
        view.follow()
    start = len(log.records)
    log.act(Acknowledgement(0, places[-1], log.state.breaches[places[-1]], city.ACT))
    ledger.feed(writer, log.records[start:])
    assert rules.dump(view.follow()) == rules.dump(log.state)
    # What a breach named is free: its id was never taken.
    (late,) = fees(log, 0, 1)
    late = replace(late, id=city.digest("far"), evidence=city.digest("later"))
    ledger.ask(late)
    writer.drain()
    assert ledger.answer(late.id).position == writer.tree.size - 1
    publisher = ledger.publisher(ledger.folder / "again")
    writer.publish(publisher, ledger.watcher())
    verdict = audit(publisher.folder)
    # That a breach has no time between its anchors is no exception of its own.
    odd = {f"record {place}" for place in places}
    assert {one.rule for one in verdict.findings if one.where not in odd} <= {"T4"}
    assert {one.rule for one in verdict.findings} <= {"T3", "T4"}
    assert sum("acknowledged by act" in one for one in verdict.exceptions) == len(places)


@pytest.mark.parametrize("same", ["id", "evidence", "hash"])
def test_what_a_breach_names_is_free_for_the_next_record_of_its_second_in_a_restore_too(
    ledger: Ledger, same: str
):
    log = city.registered()
    first, second = fees(log, 0, 2)
    log.wait(60)
    broken = replace(first, time=log.now, debit="no-such-account", refund_to=make.SAID)
    log.breach(encode(broken))
    if same == "hash":
        # The receipt that this would pay back never was one.
        refund = replace(make.refund(keccak256(encode(broken)), 1), time=log.now)
        log.breach(encode(refund))
        log.add(second)
    else:
        log.add(replace(second, **{same: getattr(broken, same)}))
    for at in log.breaches:
        log.act(Acknowledgement(0, at, log.state.breaches[at], city.ACT))
    bundle = bundles.write(ledger.folder / "published", log, anchored=[])
    restore(ledger.engine, ledger.heads, Folder(bundle.folder), KEYS, KEYS.verifiers())
    ledger.clock.now = log.now
    writer = ledger.writer()
    assert writer.state.breaches == log.state.breaches
    assert rules.dump(writer.state) == rules.dump(log.state)
    with reading(ledger.engine) as connection:
        assert store.balances(connection)["treasury-usdt"] == log.state.accounts["treasury-usdt"].balance


def test_no_bytes_that_were_signed_into_the_log_keep_it_from_coming_back(ledger: Ledger):
    """Whoever holds the log's key could else make the ledger one that no restore ends for."""
    log = city.registered()
    fee = encode(replace(fees(log, 0, 1)[0], time=log.now))
    head, rest = fee[:WORD], fee[2 * WORD :]
    late = [number.to_bytes(WORD, "big") for number in (2**63, 2**64, 2**255, 2**256 - 59, 2**256 - 1)]
    odd = [b"", b"x", bytes(31), head, head + bytes(16), fee + bytes(WORD), b"\xff" * 65_535]
    odd += [head + time + rest for time in late] + [b"\x01" * WORD + late[-1], bytes(len(fee))]
    for data in odd:
        log.breach(data)
    log.add(fees(log, 1, 1)[0])
    bundle = bundles.write(ledger.folder / "published", log, anchored=[])
    restore(ledger.engine, ledger.heads, Folder(bundle.folder), KEYS, KEYS.verifiers())
    assert ledger.records() == log.records
    ledger.clock.now, start = log.now, len(log.records)
    writer = ledger.writer()
    assert rules.dump(writer.state) == rules.dump(log.state)
    for at in log.breaches:
        log.act(Acknowledgement(0, at, log.state.breaches[at], city.ACT))
    ledger.feed(writer, log.records[start:])
    publisher = ledger.publisher(ledger.folder / "again")
    writer.publish(publisher, ledger.watcher())
    assert rules.dump(Follower(ledger.engine, ledger.heads).follow()) == rules.dump(log.state)


def test_what_breaks_a_rule_and_was_never_signed_keeps_the_writer_from_starting(ledger: Ledger):
    writer, log = ledger.opened()
    writer.seal()
    (fee,) = fees(log, 0, 1)
    ledger.ask(fee)
    writer.drain()
    forge(ledger, len(log.records), encode(replace(fee, time=log.now, debit="nobody")))
    with pytest.raises(Invalid, match=f"M1 at record {len(log.records)}"):
        ledger.writer()


def test_an_older_backup_is_brought_up_to_what_was_published_and_refused_before(lost: Lost):
    old = lost.new("old")
    feeding = old.writer()
    for data in lost.ledger.records()[:200]:
        record = rules.decode(data)
        old.clock = type(old.clock)(record.time)
        feeding.clock = old.clock
        old.ask(record)
        feeding.drain()
    old.heads = lost.ledger.heads
    with pytest.raises(Invalid, match="L9"):
        old.writer()
    assert restore(old.engine, old.heads, lost.bundle, KEYS, KEYS.verifiers()) == lost.writer.tree.size - 200
    assert rows(old)["ledger_record"] == rows(lost.ledger)["ledger_record"]
    old.clock = lost.ledger.clock
    assert old.writer().tree.root() == lost.writer.tree.root()
    # Again: there is nothing left to do.
    assert restore(old.engine, old.heads, lost.bundle, KEYS, KEYS.verifiers()) == 0


def test_a_bundle_that_is_behind_what_was_signed_is_refused_and_nothing_is_written(lost: Lost):
    shutil.copytree(lost.publisher.folder, lost.ledger.folder / "older")
    more(lost.ledger, lost.writer, lost.log, 2_000, 1)
    lost.writer.seal()
    new = lost.new(heads=lost.ledger.heads)
    size = lost.writer.tree.size
    with pytest.raises(Invalid, match=f"L9.*size {size} was signed, the bundle has {size - 1}"):
        restore(new.engine, new.heads, Folder(lost.ledger.folder / "older"), KEYS, KEYS.verifiers())
    assert new.records() == []


def _change(pattern: str) -> Callable[[Lost, Path], None]:
    """Flip a bit in the middle of the last file of this pattern."""

    def change(_: Lost, folder: Path) -> None:
        place = max(path for path in folder.glob(pattern) if path.is_file())
        content = bytearray(place.read_bytes())
        content[len(content) // 2] ^= 1
        place.write_bytes(content)

    return change


def _forge(lost: Lost, folder: Path) -> None:
    stranger = LogKeys(KEYS.origin, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
    note = stranger.sign_checkpoint(lost.writer.tree.size, lost.writer.tree.root(), 0)
    (folder / "checkpoint").write_bytes(note)


@pytest.mark.parametrize(
    "harm",
    [_change("tile/entries/000"), _change("tile/entries/001.p/*"), _change("checkpoint"), _forge],
    ids=["whole tile", "partial tile", "checkpoint", "another key"],
)
def test_a_bundle_that_is_not_whole_or_not_the_logs_brings_nothing_back(
    lost: Lost, harm: Callable[[Lost, Path], None]
):
    folder = lost.ledger.folder / "harmed"
    shutil.copytree(lost.publisher.folder, folder)
    harm(lost, folder)
    new = lost.new()
    with pytest.raises(Invalid):
        restore(new.engine, new.heads, Folder(folder), KEYS, KEYS.verifiers())
    assert new.records() == []


def test_a_backup_that_went_another_way_is_refused(lost: Lost):
    other = lost.new("other")
    feeding, log = other.opened()
    more(other, feeding, log, 5_000, 2)
    with pytest.raises(Invalid, match="L9 at size"):
        restore(other.engine, other.heads, lost.bundle, KEYS, KEYS.verifiers())


def test_a_chain_above_what_a_lost_machine_has_keeps_it_from_signing_anything(lost: Lost):
    """Ledger and signed heads restored from one old backup: only the chain still knows."""
    chain = node(lost.ledger, lag=0)
    lost.writer.publish(lost.publisher, lost.ledger.watcher(), (anchor(chain),))
    old = lost.new("old")
    feeding, log = old.opened()
    more(old, feeding, log, 7_000, 1)
    publisher = old.publisher(old.folder / "elsewhere")
    with pytest.raises(Invalid, match=r"L9 at chain 31337.*the chain holds size"):
        feeding.publish(publisher, old.watcher(), (anchor(chain),))
    with reading(old.heads) as connection:
        assert store.last_head(connection) is None


def test_a_chain_that_is_lost_for_good_is_replaced_by_another_and_the_record_stands(ledger: Ledger):
    writer, log = ledger.opened()
    publisher, watcher = ledger.publisher(), ledger.watcher()
    first = node(ledger, lag=0)
    writer.publish(publisher, watcher, (anchor(first),))
    first.is_silent = True
    with pytest.raises(Unavailable, match="chain 31337"):
        writer.publish(publisher, watcher, (anchor(first),))
    # The Council names an anchor on another chain; the newest head goes there at once.
    ledger.clock.now += DAY
    log.now = ledger.clock.now
    start = len(log.records)
    log.act(Contract(0, "anchor-2", 31_338, city.ANCHOR, city.digest("code"), city.ACT))
    ledger.feed(writer, log.records[start:])
    second = node(ledger, 31_338, lag=0)
    writer.publish(publisher, watcher, (anchor(second),))
    assert anchored(ledger) == [(31_337, start), (31_338, writer.tree.size)]
    assert {one.rule for one in audit(str(publisher.folder)).findings} <= {"T4"}


def test_the_logs_keys_are_changed_by_act_and_the_ledger_goes_on_under_the_new_ones(ledger: Ledger):
    writer, log = ledger.opened()
    old = ledger.publisher()
    writer.publish(old, ledger.watcher())
    fresh = LogKeys(KEYS.origin, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
    start, when = len(log.records), log.now + rules.NOTICE_S + DAY
    for name, verifier in zip(("log-ed25519", "log-ml-dsa-44"), fresh.verifiers(), strict=True):
        named = sha256(format_vkey(verifier).encode()).digest()
        log.act(KeyChange(0, name, named, when, city.ACT))
    ledger.feed(writer, log.records[start:])
    writer.publish(old, ledger.watcher())
    assert {one.rule for one in audit(str(old.folder)).findings} <= {"T4"}

    def fee(mark: int, under: Writer) -> None:
        (one,) = fees(log, mark, 1)
        ledger.ask(one)
        under.drain()

    # From that second on the old keys sign nothing that counts.
    ledger.clock.now = when
    fee(1, writer)
    writer.publish(old, ledger.watcher())
    assert "D16" in {one.rule for one in audit(str(old.folder)).findings}
    # The next writer has the new ones: it goes on from what the old ones signed.
    second = Writer(ledger.engine, ledger.heads, fresh, ledger.clock)
    fee(2, second)
    watcher = Watcher("alatau.qazyna/watcher", fresh.verifiers(), city.WATCHER.secret, COSIGNER, ledger.clock)
    trust = replace(old.trust, verifiers=[*fresh.verifiers(), watcher.verifier()])
    publisher = Publisher(old.folder, fresh, trust)
    second.publish(publisher, watcher)
    assert {one.rule for one in audit(str(old.folder)).findings} <= {"T4"}
    # A thief of the old keys makes no head of it.
    thief = Publisher(old.folder, KEYS, trust)
    fee(3, second)
    thief.publish(ledger.engine, KEYS.sign_checkpoint(second.tree.size, second.tree.root(), ledger.clock()))
    thief.finish(ledger.engine)
    assert not audit(str(old.folder)).is_valid


def test_an_operators_key_is_changed_by_act_and_the_old_one_anchors_no_more(on_chain: OnChain):
    ledger, log = on_chain.ledger, on_chain.log
    writer, publisher, watcher = ledger.writer(), ledger.publisher(), ledger.watcher()
    ledger.feed(writer, log.records)
    writer.publish(publisher, watcher, (on_chain.anchor(),))
    start, successor = len(log.records), city.Key("deployer")  # who has coins there
    log.now = ledger.clock.now
    seats = [
        Seat(0, "operator", successor.address, log.now, city.FOREVER_S, city.ACT),
        Seat(0, "operator", city.OPERATOR.address, city.START_S, log.now + rules.NOTICE_S, city.ACT),
    ]
    for seat in seats:
        log.act(seat)
    ledger.feed(writer, log.records[start:])
    writer.publish(publisher, watcher, (on_chain.anchor(),))
    for seat in seats:
        _enact(on_chain, publisher, seat)
    assert all(is_enactable(seat, city.CHAIN_ID) for seat in seats)
    ledger.clock.now += rules.NOTICE_S + 60
    log.now = ledger.clock.now
    on_chain.mine(1)
    start = len(log.records)
    log.act(Contract(0, "note", city.CHAIN_ID, city.Key("note").address, city.digest("code"), city.ACT))
    ledger.feed(writer, log.records[start:])
    with pytest.raises(Invalid, match="C:NotSeated"):
        writer.publish(publisher, watcher, (on_chain.anchor(),))
    writer.publish(publisher, watcher, (on_chain.anchor(successor),))
    assert on_chain.anchor().held().size == writer.tree.size


def _enact(town: OnChain, publisher: Publisher, seat: Seat) -> None:
    """Bring an act to the Council contract, as anybody may."""
    records = town.ledger.records()
    found = [rules.decode(data) for data in records]
    # The last of its holder: the founding seats were bound by the Genesis.
    index = max(n for n, one in enumerate(found) if isinstance(one, Seat) and one.holder == seat.holder)
    wanted = rules.hash_struct(found[index])
    approvals = [one for one in found if getattr(one, "approves", None) == wanted]
    size = town.anchor().held().size
    account = Wallet.from_key(city.Key("deployer").secret.secret)
    town.city.enact(account, found[index], index, size, publisher.inclusion(index, size), approvals)
