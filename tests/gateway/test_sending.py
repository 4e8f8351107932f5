"""What is queued for a chain: once, in the caller's transaction, under the caller's own name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import db
from gateway.db import Engine, reading
from gateway.sending import service, store
from gateway.sending.service import Call, State
from ledger.records import Invalid

CALL = Call("refund", "invoice 7", b"\x11" * 20, b"\xab\xcd", 5, 100_000)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = db.engine(f"sqlite:///{tmp_path}/sending.db")
    else:
        made = db.engine(request.getfixturevalue("postgres_database"))
    db.create_all(made)
    yield made
    made.dispose()


def test_the_same_call_again_is_the_same_row(engine: Engine):
    with engine.begin() as connection:
        first = service.queue(connection, "evm-1", CALL, 10)
        assert service.queue(connection, "evm-1", CALL, 11) == first
    with reading(engine) as connection:
        assert service.outcome(connection, first) == service.Outcome(State.QUEUED, None, None, "")
        assert store.counts(connection, "evm-1") == {"queued": 1}


def test_another_call_under_the_same_reference_is_refused(engine: Engine):
    with engine.begin() as connection:
        service.queue(connection, "evm-1", CALL, 10)
    for other in (replace(CALL, value=6), replace(CALL, to=b"\x12" * 20), replace(CALL, data=b"")):
        with engine.begin() as connection, pytest.raises(Invalid) as refused:
            service.queue(connection, "evm-1", other, 10)
        assert refused.value.rule == "conflict"
    with engine.begin() as connection, pytest.raises(Invalid):
        service.queue(connection, "evm-2", CALL, 10)


def test_a_call_is_there_only_if_what_decided_it_is(engine: Engine):
    with engine.connect() as connection, connection.begin() as transaction:
        id = service.queue(connection, "evm-1", CALL, 10)
        transaction.rollback()
    with reading(engine) as connection, pytest.raises(Invalid) as refused:
        service.outcome(connection, id)
    assert refused.value.rule == "not_found"


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": b"\x11" * 19},
        {"value": -1},
        {"value": 1 << 128},
        {"gas_limit": 20_999},
        {"gas_limit": 100_000_000},
        {"data": bytes(100_001)},
        {"kind": ""},
        {"reference": ""},
        {"reference": "x" * 201},
    ],
    ids=str,
)
def test_a_call_that_no_chain_could_take_or_that_costs_without_bound_is_refused(
    engine: Engine, wrong: dict[str, object]
):
    with engine.begin() as connection, pytest.raises(Invalid) as refused:
        service.queue(connection, "evm-1", replace(CALL, **wrong), 10)  # type: ignore[arg-type]
    assert refused.value.rule == "call"


def test_an_account_has_one_sender_at_a_time(engine: Engine):
    def hold(who: str, now: int) -> bool:
        with engine.begin() as connection:
            return store.hold_account(connection, "evm-1", b"\x01" * 20, who, now, now + 30)

    assert hold("one", 100)
    assert not hold("two", 129)
    assert hold("one", 129)
    assert not hold("two", 158)
    assert hold("two", 159)
    with engine.begin() as connection:
        assert store.lock_account(connection, "evm-1", b"\x01" * 20, "one") is None
        assert store.lock_account(connection, "evm-1", b"\x01" * 20, "two") == 0
