"""Field failures at the door: who is credited, one order one invoice, codes, floods, pages of a million rows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from sqlalchemy import Connection, Engine, event, text

from gateway.api import standing
from gateway.api.openapi import routes
from gateway.api.route import WRITES
from gateway.db import metadata, reading
from gateway.eip55 import checksummed
from gateway.merchants import store as merchants
from gateway.pages.checkout import ways
from gateway.payments import store
from tests.gateway.conftest import Town
from tests.servers import Postgres

ORDER = {"amount": "1250000", "asset": "USDT", "reference": "order-1", "title": "Tea"}
HOLD_S = 48 * 3600


def everything(town: Town) -> dict[str, list[Any]]:
    """All rows of all tables of the gateway, but for what counts requests."""
    with reading(town.city.gateway.engine) as connection:
        return {
            name: sorted(map(repr, connection.execute(table.select()).all()))
            for name, table in metadata.tables.items()
        }


def test_ff03_nothing_that_an_unauthenticated_caller_sends_changes_who_is_credited(town: Town):
    invoice = town.invoice()
    town.deposit(invoice, 5)
    town.poll()
    # A bill is all that a stranger can make; it is made before, so that what follows makes nothing at all.
    client = town.client()
    before = everything(town)
    bodies: list[dict[str, Any]] = [
        {},
        ORDER,
        {"key": town.seen(invoice)[0].key, "invoice": invoice.id, "why": "mine"},
        {"wallet": "0x" + "66" * 20},
        {"amount": "5", "to": "0x" + "66" * 20},
        {"url": "http://127.0.0.1:9/"},
    ]
    headers: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer qz_0123456789abcdef_x"},
        {"X-Merchant-Id": town.merchant_id, "X-Forwarded-User": "owner", "X-Original-URL": "/v1/fees"},
        {"Cookie": f"session={town.merchant_key}"},
    ]
    town.city.gateway.limits.failures.most = 10**6
    for method, path, _, door in routes():
        if method not in WRITES or door.scope is None:
            continue
        for body in bodies:
            for sent in headers:
                url = path.replace("{id}", invoice.id)
                answer = client.request(method, url, json=body, headers=sent)
                assert answer.status_code == 401, (method, path, answer.text)
    for path in (f"/merchant/invoices/{invoice.id}/void", "/operator/unmatched", "/pos", "/merchant/keys"):
        answer = client.post(path, data={"token": "", "key": "x"}, follow_redirects=False)
        assert answer.status_code == 303, path
    for path in (f"/pay/{invoice.id}", f"/pay/{invoice.id}/state"):
        assert client.post(path, json={"payer": "0x" + "66" * 20}).status_code == 405
    assert everything(town) == before


@pytest.mark.parametrize("on", ["town", "postgres_town"])
def test_ff45_an_order_is_one_invoice_that_opens_however_often_it_is_asked_for(
    on: str, request: pytest.FixtureRequest
):
    town: Town = request.getfixturevalue(on)
    client = town.client()

    def ask(body: dict[str, str] = ORDER, key: str | None = None) -> Any:
        headers = town.bearer | ({} if key is None else {"Idempotency-Key": key})
        return client.post("/v1/invoices", json=body, headers=headers)

    first = ask(key="a").json()
    assert [ask(key=key).json()["id"] for key in ("a", None, "b", "a")] == [first["id"]] * 4
    assert client.get(f"/pay/{first['id']}", headers={"Accept": "text/html"}).status_code == 200
    assert (ask({**ORDER, "amount": "7"}).status_code, ask({**ORDER, "reference": "2"}, "a").status_code) == (
        409,
        422,
    )
    town.wait(901)
    town.poll()
    town.payments.expire()
    assert ask(key="a").json()["id"] == first["id"]
    second = ask().json()
    assert second["id"] != first["id"]
    assert ask(key="c").json()["id"] == second["id"]
    with reading(town.city.gateway.engine) as connection:
        assert sum(store.counts(connection).values()) == 2


def test_ff46_codes_are_what_wallets_read_and_each_field_is_there_to_copy(town: Town):
    invoice = town.invoice()
    derived = town.payments.look(invoice.id)[1]
    found = ways(town.city.gateway, invoice, derived, "24 USDT", 6)
    wallet, plain = (code.content for code in found.codes)
    assert invoice.deposit_address is not None
    to = checksummed(invoice.deposit_address)
    # EIP-681: the token is the target, the chain is named, and the amount is whole base units.
    told = re.fullmatch(r"ethereum:(0x\w{40})@(\d+)/transfer\?address=(0x\w{40})&uint256=(\d+)", wallet)
    assert told is not None
    assert told.groups() == (checksummed(town.token), "31337", to, str(invoice.due_minor))
    # For wallets and exchanges that read no more than an address.
    assert plain == to
    page = town.client().get(f"/pay/{invoice.id}", headers={"Accept": "text/html"}).text
    for field in found.fields:
        assert f'data-copy="{field.copied}"' in page
    assert {field.key for field in found.fields} == {"amount", "address", "token", "chain"}
    assert page.count("data:image/svg+xml") == 2
    assert "http" not in unquote(wallet)
    # An exchange asks for the chain by name; what is copied stays the number.
    place = town.city.gateway.quotes.place
    base = replace(place, deployment=replace(place.deployment, chain_id=8_453))
    town.city.gateway.quotes.place = base
    found = ways(town.city.gateway, invoice, derived, "24 USDT", 6)
    chain = next(field for field in found.fields if field.key == "chain")
    assert (chain.shown, chain.copied) == ("Base, 8453", "8453")


def test_ff47_the_page_asks_by_itself_and_when_it_is_looked_at_again(town: Town):
    """What the script does is tried in a browser; here: what it asks, and what serves without it."""
    invoice = town.invoice()
    client = town.client()
    page = client.get(f"/pay/{invoice.id}", headers={"Accept": "text/html"}).text
    assert '<noscript><meta http-equiv="refresh"' in page
    version = re.search(r'data-version="(\w+)"', page)
    assert version is not None
    state = client.get(f"/pay/{invoice.id}/state")
    assert (state.json()["version"], state.headers["cache-control"]) == (version[1], "no-store")
    town.pay(invoice)
    town.poll()
    assert client.get(f"/pay/{invoice.id}/state").json()["version"] != version[1]
    script = client.get(re.search(r'src="([^"]+page\.js)"', page)[1]).text  # type: ignore[index]
    for kind in ("focus", "online", "visibilitychange", "pageshow"):
        assert f'"{kind}"' in script


def test_ff52_making_an_invoice_costs_no_call_to_a_chain_and_has_a_quota(town: Town):
    asked: list[str] = []
    answer = town.chain.answer

    def counted(body: bytes) -> bytes:
        asked.append(body.decode())
        found: bytes = answer(body)
        return found

    town.chain.answer = counted
    town.city.outside.web3.provider.make_request = lambda *_: asked.append("web3")
    gateway = town.city.gateway
    town.stay_in_one_minute()
    gateway.invoice_quota.most, gateway.bill_quota.most = 3, 2
    client = town.client()
    answers = [
        client.post("/v1/invoices", json=ORDER | {"reference": f"order-{n}"}, headers=town.bearer)
        for n in range(4)
    ]
    assert [one.status_code for one in answers] == [201, 201, 201, 429]
    assert int(answers[3].headers["Retry-After"]) > 0
    bills = [client.post("/v1/fees/bills", json={"fee": "parking-year", "asset": "USDT"}) for _ in range(3)]
    assert [one.status_code for one in bills] == [201, 201, 429]
    assert asked == []


@pytest.mark.parametrize("on", ["town", "postgres_town"])
def test_ff53_a_page_deep_in_a_long_list_reads_no_more_rows_than_it_shows(
    on: str, request: pytest.FixtureRequest
):
    town: Town = request.getfixturevalue(on)
    made = town.invoice()
    rows = 3_000
    engine = town.city.gateway.engine
    with engine.begin() as connection:
        invoice = metadata.tables["invoice"]
        row = dict(connection.execute(invoice.select().where(invoice.c.id == made.id)).one()._mapping)
        connection.execute(
            invoice.insert(),
            [
                {**row, "id": f"{n:026d}", "number": n.to_bytes(32), "reference": f"R{n}", "nonce": 10**6 + n,
                 "merchant_reference": f"old-{n}", "deposit_address": n.to_bytes(20), "created_s": n // 3}
                for n in range(1, rows)
            ],
        )  # fmt: skip
        connection.execute(text("ANALYZE"))
    plans: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "ORDER BY invoice.created_s DESC" in statement:
            explain = "EXPLAIN (COSTS OFF) " if on == "postgres_town" else "EXPLAIN QUERY PLAN "
            cursor.execute(explain + statement, parameters)
            plans.append("\n".join(str(row) for row in cursor.fetchall()))

    client, seen, after = town.client(), list[str](), None
    for _ in range(4):
        asked = {"limit": 200} | ({} if after is None else {"after": after})
        page = client.get("/v1/invoices", params=asked, headers=town.bearer).json()
        seen += [one["id"] for one in page["invoices"]]
        after = page["next"]
    assert len(seen) == len(set(seen)) == 800
    assert len(plans) == 4
    for plan in plans:
        # By the index, in its order: nothing is sorted and nothing is skipped by counting.
        assert "ix_invoice_page" in plan
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan
    event.remove(engine, "before_cursor_execute", _explain)


# --- the short way, which only PostgreSQL has ---------------------------------------------------------


def statements_of(town: Town) -> list[str]:
    told: list[str] = []
    event.listen(town.city.gateway.engine, "before_cursor_execute", lambda *a: told.append(a[2]))
    return told


def test_a_plain_invoice_is_one_statement_and_says_what_the_long_way_says(postgres_town: Town):
    town = postgres_town
    client = town.client()
    client.post("/v1/invoices", json=ORDER | {"reference": "warm"}, headers=town.bearer)
    told = statements_of(town)
    made = client.post("/v1/invoices", json=ORDER, headers=town.bearer | {"Idempotency-Key": "k"}).json()
    # One statement on a connection of its own; nothing by the steps.
    assert [one for one in told if "INSERT" in one] == []
    shown = client.get(f"/v1/invoices/{made['id']}", headers=town.bearer).json()
    assert shown == made
    assert town.events(town.payments.look(made["id"])[0]) == ["invoice.open"]
    invoice, _, _ = town.payments.look(made["id"])
    town.pay(invoice)
    town.finalise()
    assert town.events(invoice)[-1] == "invoice.final"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
def test_a_connection_that_breaks_under_that_statement_is_nothing_that_a_merchant_hears_of(
    postgres_town: Town, postgres: Postgres, when: str, headers: dict[str, str]
):
    """Broken before it nothing was done; broken after it the invoice is there, and the steps find it."""
    town, broken = postgres_town, list[str]()
    client = town.client()
    client.post("/v1/invoices", json=ORDER | {"reference": "warm"}, headers=town.bearer)

    @event.listens_for(Engine, f"{when}_cursor_execute")
    def _break(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if "FROM standing" in statement and not broken:
            broken.append(statement)
            session = connection.connection.driver_connection
            postgres.execute(f"SELECT pg_terminate_backend({session.info.backend_pid}, 60000)")
            if when == "after":
                session.execute("SELECT 1")

    try:
        answer = client.post("/v1/invoices", json=ORDER, headers=town.bearer | headers)
    finally:
        event.remove(Engine, f"{when}_cursor_execute", _break)
    assert (answer.status_code, len(broken)) == (201, 1)
    with reading(town.city.gateway.engine) as connection:
        asked = text("SELECT id FROM invoice WHERE merchant_reference = :reference")
        made = connection.execute(asked, {"reference": ORDER["reference"]}).scalars().all()
    assert made == [answer.json()["id"]]
    assert town.events(town.payments.look(made[0])[0]) == ["invoice.open"]


def test_a_key_that_is_revoked_makes_no_invoice_however_lately_it_was_looked_up(postgres_town: Town):
    town = postgres_town
    client = town.client()
    assert client.post("/v1/invoices", json=ORDER, headers=town.bearer).status_code == 201
    with town.city.gateway.engine.begin() as connection:
        # By another process: nothing here hears of it.
        merchants.revoke(connection, town.merchant_key.split("_")[1], town.city.clock())
    assert town.city.gateway.standings.find(town.merchant_key, town.city.clock()) is not None
    answer = client.post("/v1/invoices", json=ORDER | {"reference": "order-2"}, headers=town.bearer)
    assert (answer.status_code, answer.json()["rule"]) == (401, "key")
    with reading(town.city.gateway.engine) as connection:
        assert store.counts(connection) == {"open": 1}


def test_a_wallet_that_begins_to_hold_is_used_from_its_second_on(
    postgres_town: Town, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(standing, "MOMENT_S", 3_600.0)
    town = postgres_town
    client = town.client()
    new = "0x" + "67" * 20
    client.post("/v1/merchant/changes", json={"wallet": new}, headers=town.bearer)
    town.wait(HOLD_S - 1)
    town.poll()

    def payee(reference: str) -> str:
        made = client.post("/v1/invoices", json=ORDER | {"reference": reference}, headers=town.bearer)
        return str(made.json()["wallet"]["merchant"])

    old = payee("before")
    assert old != new
    town.city.clock.wait(1)
    assert payee("after") == new
