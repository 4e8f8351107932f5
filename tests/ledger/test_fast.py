"""The fast twin of the rules leaves the same state, and refuses the same records for the same reasons."""

from __future__ import annotations

import copy
import functools
import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import rules
from ledger.audit import past
from ledger.audit.replay import Replayed, apply_all, take_all, take_plainly
from ledger.audit.spread import in_turn
from ledger.fast import Runs
from ledger.records import (
    AMOUNT_LIMIT,
    WORD,
    ZERO_HASH,
    Account,
    Close,
    Exchange,
    Parameter,
    RevenueRule,
    Transfer,
    Unavailable,
    decode,
    encode,
    encode_name,
)
from tests import city
from tests.city import ACT, digest
from tests.ledger.test_attacks import ATTACKS, Attack, finished
from tests.vectors import make

VECTORS = sorted(make.FOLDER.glob("*.json"))


def _quiet(_stage: str, _done: int, _total: int) -> None:
    """No progress."""


def both(records: Sequence[bytes], seconds: Sequence[int] = (), start: bytes | None = None) -> Replayed:
    """Take records by each twin; whatever they differ in is a failure.

    start: the pickled state after the first of them, without its past; without it all are taken.
    """
    first = [rules.State() if start is None else pickle.loads(start) for _ in range(2)]
    slow, fast = (Replayed(records, state) for state in first)
    take_plainly(slow, seconds, _quiet)
    take_all(fast, seconds, _quiet)
    assert fast.broken == slow.broken
    assert rules.dump(fast.state) == rules.dump(slow.state)
    assert fast.marks == slow.marks
    # Both pasts answer alike about everything that a record may ask of them.
    named = past.index(records).named
    for digest_ in {digest("none"), *slow.state.past.indexes}:
        if digest_ in named:
            assert fast.state.past.named(digest_) == slow.state.past.named(digest_)
    for index in range(len(records) + 1):
        assert fast.state.past.at(index) == slow.state.past.at(index)
    return fast


@functools.cache
def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_vector_and_its_twin_come_out_alike(path: Path) -> None:
    vector = _load(path)
    log = [bytes.fromhex(entry["hex"]) for entry in _load(make.FOLDER / "logs" / f"{vector['base']}.json")]
    for last in ("records", "twin"):
        after = [bytes.fromhex(data) for data in [*vector["after"], *vector[last]]]
        done = both([*log[: vector["take"]], *after])
        assert (vector["breaks"] in done.state.breaches.values()) or last == "twin"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_every_attack_comes_out_alike(attack: Attack) -> None:
    both(attack.act(finished())[0])


# --- whatever is paid -----------------------------------------------------------------------

NAMES = [name for name, *_ in Transfer.members]


@functools.cache
def _city() -> city.Log:
    """The small city; 108125 has another rule from the third day on, and one asset ends on the fifth."""
    log = make.at("trade")
    start = log.now + rules.NOTICE_S
    log.act(replace(city_rule(log), valid_from=start + 3 * rules.DAY))
    for pair in range(3):
        log.act(
            Account(0, f"till-{pair}", "KZT", rules.RETAINED, "bank", digest(f"till {pair}"), ZERO_HASH, ACT)
        )
    log.wait(rules.NOTICE_S)
    return log


def city_rule(log: city.Log) -> RevenueRule:
    rule = rules.revenue_rule(log.state, city.CODE, log.now)
    assert rule is not None
    return rule


def _word(value: int | str | bytes) -> bytes:
    if isinstance(value, str):
        return encode_name(value)
    return value if isinstance(value, bytes) else value.to_bytes(WORD, "big")


@st.composite
def payment(draw: st.DrawFn, log: city.Log) -> bytes:
    """Mostly plain revenue with some repetition in it; now and then a word of something else."""
    number = draw(st.integers(0, 12))
    asset = draw(st.sampled_from(["kzt", "kzt", "kzt", "usdt"]))
    data = bytearray(encode(city.revenue(log, draw(st.integers(1, 9)), asset, f"{number}")))
    time = log.now + draw(st.integers(0, 6)) * rules.DAY + draw(st.integers(-1, 1))

    def put(name: str, value: int | str | bytes) -> None:
        at = WORD * (1 + NAMES.index(name))
        data[at : at + WORD] = _word(value)

    put("time", time)
    if asset == "kzt":
        put("debit", draw(st.sampled_from(["bank-kzt", "till-0", "till-1", "till-2"])))
    if draw(st.integers(0, 3)) == 0:
        name, value = draw(st.sampled_from(WORDS))
        put(name, value)
    if draw(st.integers(0, 30)) == 0:
        return bytes(data[: draw(st.integers(0, len(data)))])
    return bytes(data)


WORDS: list[tuple[str, int | str | bytes]] = [
    ("time", 0),
    ("time", rules.TIME_LIMIT_S),
    ("time", 1 << 64),
    ("time", b"\xff" * 32),
    ("id", ZERO_HASH),
    ("id", digest("id kzt 3")),
    ("evidence", ZERO_HASH),
    ("evidence", digest("evidence kzt 5")),
    ("evidence", b"\x01" * 24 + digest("evidence kzt 5")[-8:]),
    ("amount", 0),
    ("amount", (1 << 128) - 1),
    ("amount", 1 << 127),
    ("amount", 1 << 128),
    ("amount", b"\xff" * 32),
    ("debit", "nobody"),
    ("debit", "fees-kzt"),
    ("debit", "provider-usdt"),
    ("debit", b"bank-kzt\x00\x01".ljust(32, b"\0")),
    ("credit", "fees-usdt"),
    ("credit", "payable-kzt"),
    ("credit", "bank-kzt"),
    ("asset", "USDT"),
    ("purpose", "999999"),
    ("authority", ZERO_HASH),
    ("refund_to", digest("somewhere")),
]


def _acts(log: city.Log) -> list[list[bytes]]:
    """Records that come between payments and change what is allowed, or use up ids and evidence."""
    acted: list[list[bytes]] = []
    changes = [
        replace(city_rule(log), min_share=7),
        Parameter(0, "direct_settlement", 0, 0, ACT),
        Account(0, "till-9", "KZT", rules.RETAINED, "bank", digest("till 9"), ZERO_HASH, ACT),
    ]
    for change in changes:
        one = copy.deepcopy(log)
        one.act(change)
        acted.append(one.records[len(log.records) :])
    return acted


@functools.cache
def _prepared() -> tuple[city.Log, list[list[bytes]], bytes]:
    log = _city()
    # That both take the city's own records alike is shown once, and not with every example.
    start = rules.dump(both(log.records).state)
    assert start == rules.dump(log.state)
    return log, _acts(log), pickle.dumps(rules.load(start))


@given(data=st.data())
def test_whatever_is_paid_and_repeated_and_bent_comes_out_alike(data: st.DataObject) -> None:
    log, acts, start = _prepared()
    records: list[bytes] = []
    for _ in range(data.draw(st.integers(1, 5))):
        records += data.draw(st.lists(payment(log), max_size=12))
        if data.draw(st.booleans()):
            records += data.draw(st.sampled_from(acts))
    # In order of time as a log mostly is, so that runs are long and dates are passed; or just as drawn.
    if data.draw(st.integers(0, 2)):
        records.sort(key=lambda record: record[WORD : 2 * WORD])
    seconds = sorted(log.now + data.draw(st.integers(0, 7)) * rules.DAY for _ in range(2))
    both([*log.records, *records], seconds, start)


def test_most_of_what_is_plain_is_taken_in_runs_and_what_is_not_stops_one() -> None:
    log = _city()
    first = len(log.records)
    plain = [encode(replace(city.revenue(log, 5, "kzt", f"{n}"), time=log.now + n)) for n in range(40)]
    state = copy.deepcopy(log.state)
    runs = Runs(state)
    assert runs.take(plain, set()) == 40
    assert state.size == first + 40
    assert runs.moved == {("bank-kzt", "fees-kzt"): 200}
    again = Runs(copy.deepcopy(log.state))
    assert again.take(plain, {decode(plain[7]).id}) == 7
    assert again.take(plain[7:], set(), log.now + 20) == 13
    odd = [*plain[:3], plain[3][:-1], *plain[4:]]
    assert Runs(copy.deepcopy(log.state)).take(odd, set()) == 3


def test_a_run_stops_before_a_balance_is_full_and_when_a_date_has_passed() -> None:
    log = _city()
    plain = [encode(replace(city.revenue(log, 5, "kzt", f"{n}"), time=log.now)) for n in range(2)]
    state = copy.deepcopy(log.state)
    state.accounts["bank-kzt"].balance = AMOUNT_LIMIT - 10
    assert Runs(state).take(plain, set()) == 1
    state = copy.deepcopy(log.state)
    state.accounts["fees-kzt"].balance = 10 - AMOUNT_LIMIT
    assert Runs(state).take(plain, set()) == 1
    # From its third day on another rule is in force for the code, which these do not name.
    start = log.state.revenue_rules[city.CODE][-1][0]
    times = [log.now, start - 1, start, start]
    dated = [encode(replace(city.revenue(log, 5, "kzt", f"{n}"), time=time)) for n, time in enumerate(times)]
    assert log.now < start - 1
    assert Runs(copy.deepcopy(log.state)).take(dated, set()) == 2


def test_an_id_or_evidence_that_an_exchange_has_used_stops_a_run() -> None:
    log = make.at("trade")
    exchange = next(r for r in map(decode, reversed(_exchanged(log).records)) if isinstance(r, Exchange))
    for changed in ({"id": exchange.id}, {"evidence": exchange.evidence}):
        records = [*log.records, encode(replace(city.revenue(log, 1, "kzt", "x"), time=log.now, **changed))]
        done = both(records)
        assert list(done.state.breaches.values()) == ["M3"]
        assert Runs(copy.deepcopy(log.state)).take(records[-1:], set()) == 0


def _exchanged(log: city.Log) -> city.Log:
    if not any(isinstance(decode(data), Exchange) for data in log.records):
        log.add(make.exchanged(log))
    return log


def test_a_value_with_the_tail_of_another_is_not_that_value() -> None:
    """What is kept of a value says only where to look (FF75)."""
    log = _city()
    one = city.revenue(log, 5, "kzt", "one")
    same_tail = replace(one, id=b"\x07" * 24 + one.id[-8:], evidence=b"\x07" * 24 + one.evidence[-8:])
    records = [*log.records, *(encode(replace(r, time=log.now)) for r in (one, same_tail))]
    known = past.index(records)
    assert (known.ids, known.evidence) == ({}, {})
    assert both(records).state.breaches == {}


def test_an_index_made_of_stretches_is_the_index_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    log = make.at("trade")
    known = make.receipts(log)
    back = encode(replace(make.refund(known["said"], 1), time=log.now))
    records = [*log.records, *log.records[-20:], log.records[30], back]
    whole = past.index(records)
    monkeypatch.setattr(past, "_EACH", 17)
    asked: list[int] = []

    def counted(work: Any, jobs: Sequence[Any]) -> Any:
        asked.append(len(jobs))
        return in_turn(work, jobs)

    assert past.index(records, spread=counted) == whole
    assert asked[0] > 5
    assert whole.ids
    assert whole.named


def test_an_index_that_does_not_fit_into_memory_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is put on disk; a disk that is full is no verdict."""
    log = make.at("trade")
    records = [*log.records, *log.records[-20:]]
    whole = past.index(records)
    assert whole.ids
    monkeypatch.setattr(past, "_EACH", 17)
    monkeypatch.setattr(past, "_MOST_IN_MEMORY", 2)
    files: list[Any] = []

    def kept() -> Any:
        files.append(TemporaryFile())  # noqa: SIM115 - the index closes it
        return files[-1]

    monkeypatch.setattr(past, "TemporaryFile", kept)
    assert past.index(records) == whole
    assert len(files) == 2
    monkeypatch.setattr(past, "TemporaryFile", lambda: Path("/dev/full").open("wb"))  # noqa: SIM115
    with pytest.raises(Unavailable, match="No space left"):
        past.index(records)


def test_a_replay_that_begins_with_a_loaded_state_ends_in_the_same_one() -> None:
    log = make.at("trade")
    log.now = 1_798_743_600
    records = [*log.records, encode(replace(Close(0, 2026, rules.state_hash(log.state)), time=log.now))]
    whole = both(records)
    half = rules.replay(log.records[:60])[0]
    done = Replayed(records, rules.load(rules.dump(half)))
    apply_all(done, past.index(records), (), _quiet)
    assert rules.dump(done.state) == rules.dump(whole.state)
    assert done.broken == whole.broken == {}
