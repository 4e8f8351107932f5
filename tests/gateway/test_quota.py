"""A quota is of a caller, however many processes and machines answer."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from gateway import db
from gateway.api import store
from gateway.api.quota import SLICES, Quota, TooMany
from gateway.api.route import network_of
from gateway.app import create_app
from gateway.migrations import upgrade
from tests.gateway.conftest import Town

MOST = 500
SLICE = MOST // SLICES
NOON = 1_790_000_040.0  # the first second of a minute


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        opened = db.engine(f"sqlite:///{tmp_path}/gateway.db")
    else:
        opened = db.engine(request.getfixturevalue("postgres_database"))
    upgrade(opened)
    yield opened
    opened.dispose()


def shared(engine: Engine, most: int = MOST, now: float = NOON) -> Quota:
    """A process's own view of a quota that is held together."""
    quota = Quota(most, lambda: now)
    quota.share(engine, "invoices")
    return quota


def admitted(quota: Quota, tries: int, caller: str = "key") -> int:
    """How many of so many are let in."""
    count = 0
    for _ in range(tries):
        try:
            quota.take(caller)
            count += 1
        except TooMany:
            pass
    return count


def ask_as_a_process(url: str, tries: int, told: multiprocessing.Queue[int]) -> None:
    """What each of two processes does: four threads that ask as fast as they can."""
    opened = db.engine(url)
    quota = shared(opened)
    with ThreadPoolExecutor(4) as threads:
        told.put(sum(threads.map(lambda _: admitted(quota, tries // 4), range(4))))
    opened.dispose()


def test_ff52_two_processes_together_let_in_as_many_as_one(postgres_database: str):
    opened = db.engine(postgres_database)
    upgrade(opened)
    spawned = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[int] = spawned.Queue()
    processes = [
        spawned.Process(target=ask_as_a_process, args=(postgres_database, 2 * MOST, told)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    let_in = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    # Each asked more often than the quota has room for, so what is left of no slice is lost.
    assert sum(let_in) == MOST
    # In slices, and not a write for each request: what was over the quota was told from memory.
    with opened.connect() as connection:
        taken = connection.execute(text("SELECT taken FROM quota_lease")).scalars().all()
    assert taken == [MOST]
    opened.dispose()


def test_what_a_process_took_and_did_not_give_is_less_than_a_slice(engine: Engine):
    first, second = shared(engine), shared(engine)
    first.take("key")
    # The first ends here, with the rest of its slice.
    assert admitted(second, 2 * MOST) == MOST - SLICE


def test_a_request_costs_a_write_only_once_a_slice(engine: Engine):
    quota, waited = shared(engine), 0
    for _ in range(MOST):
        if quota.quick("key") is None:
            waited += 1
            quota.take("key")
    assert waited == SLICES
    with pytest.raises(TooMany):
        quota.quick("key")


def test_another_caller_another_name_and_the_next_minute_have_a_quota_of_their_own(engine: Engine):
    quota = shared(engine)
    assert admitted(quota, MOST + 1) == MOST
    assert admitted(quota, 3, "another") == 3
    bills = Quota(MOST, lambda: NOON)
    bills.share(engine, "bills")
    assert admitted(bills, 3) == 3
    assert admitted(shared(engine, now=NOON + 60), MOST + 1) == MOST


def test_a_small_quota_is_exact_and_says_what_is_left_of_it_by_all(engine: Engine):
    first, second = shared(engine, 3), shared(engine, 3)
    assert [first.take("key").remaining, second.take("key").remaining] == [2, 1]
    assert first.take("key").remaining == 0
    for quota in (first, second):
        with pytest.raises(TooMany) as refused:
            quota.take("key")
        assert (refused.value.left.most, refused.value.left.remaining) == (3, 0)
        with pytest.raises(TooMany):
            quota.check("key")


def test_old_rows_go_and_an_address_is_kept_as_a_hash(engine: Engine):
    shared(engine).take("192.0.2.7")
    shared(engine, now=NOON + 60).take("192.0.2.7")
    shared(engine, now=NOON + 120).take("192.0.2.7")
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT period, caller FROM quota_lease ORDER BY period")).all()
    assert [row.period for row in rows] == [NOON // 60 + 1, NOON // 60 + 2]
    assert all(b"192" not in bytes(row.caller) for row in rows)


def test_a_lease_is_never_of_more_than_is_left(engine: Engine):
    with engine.begin() as connection:
        told = [store.lease(connection, 1, "invoices", bytes(32), 4, 10) for _ in range(4)]
    assert told == [(4, 4), (4, 8), (2, 10), (0, 10)]


def test_on_postgresql_every_quota_of_the_gateway_is_held_together(postgres_town: Town):
    """Two applications on one database, as two workers are: a key's and an address's quota are of both."""
    from dataclasses import replace

    from gateway.api.route import Limits

    gateway = postgres_town.city.gateway
    # As another process has it: memory of its own, the same database.
    other = replace(gateway, limits=Limits(), invoice_quota=Quota(6_000), bill_quota=Quota(60))
    clients = []
    for one in (gateway, other):
        for quota in (one.limits.keys, one.limits.addresses, one.limits.failures):
            quota.most, quota._now = 3, lambda: NOON
        clients.append(TestClientOf(one))
    asked = [clients[turn % 2].status("/v1/merchant", postgres_town.bearer) for turn in range(5)]
    assert asked == [200] * 3 + [429] * 2
    asked = [clients[turn % 2].status("/v1/fees") for turn in range(5)]
    assert asked == [200] * 3 + [429] * 2
    wrong = {"Authorization": "Bearer qz_0123456789abcdef_x"}
    asked = [clients[turn % 2].status("/v1/invoices", wrong) for turn in range(5)]
    assert asked == [401] * 3 + [429] * 2


def test_a_database_that_does_not_answer_lets_nobody_in_and_is_no_bug(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    """Nobody is admitted on a guess; and who asked is told to ask again, not that there is a bug of ours."""
    client = TestClientOf(town.city.gateway, raises=False)
    assert client.status("/v1/merchant", town.bearer) == 200
    gone = db.engine("postgresql://nobody@127.0.0.1:1/gone?connect_timeout=2")
    for quota in (town.city.gateway.limits.keys, town.city.gateway.limits.addresses):
        monkeypatch.setattr(quota, "_shared", (gone, "keys"))
        quota._counts.clear()
    for path, headers in (("/v1/merchant", town.bearer), ("/v1/fees", None)):
        answer = client.get(path, headers)
        assert (answer.status_code, answer.json()["rule"]) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "5"
        assert "127.0.0.1" not in answer.text


def test_a_network_of_ipv6_is_one_caller_and_an_address_of_ipv4_is_one():
    assert network_of("2001:db8:1:2::5") == network_of("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::5") != network_of("2001:db8:1:2::5")
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("testclient") == "testclient"
    assert network_of("no:address") == "no:address"


class TestClientOf:
    """One process that answers."""

    __test__ = False

    def __init__(self, gateway: object, *, raises: bool = True) -> None:
        from starlette.testclient import TestClient

        self._client = TestClient(create_app(gateway), raise_server_exceptions=raises)  # type: ignore[arg-type]

    def get(self, path: str, headers: dict[str, str] | None = None) -> Any:
        return self._client.get(path, headers=headers or {})

    def status(self, path: str, headers: dict[str, str] | None = None) -> int:
        return int(self.get(path, headers).status_code)
