"""Idempotency-Key on every route that writes: the same request has one effect and one answer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from fastapi import Response

from gateway.api import idempotency, openapi, store
from gateway.api.route import WRITES
from gateway.db import reading
from gateway.merchants import store as merchants
from ledger.records import Invalid, Unavailable
from tests.gateway.conftest import Town

LINK = {"title": "Parking", "asset": "USDT"}


def keys_of(town: Town) -> int:
    with reading(town.city.gateway.engine) as connection:
        found = merchants.keys_of(connection, town.merchant_id, (1 << 62, ""), 1_000, sandbox=None)
    return len(found)


def test_the_same_key_and_request_have_one_effect_and_one_answer(town: Town):
    client, headers = town.client(), town.bearer | {"Idempotency-Key": "k1"}
    before = keys_of(town)
    first = client.post("/v1/keys", json={"role": "cashier"}, headers=headers)
    again = client.post("/v1/keys", json={"role": "cashier"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert keys_of(town) == before + 1


def test_another_request_under_the_same_key_is_refused(town: Town):
    client, headers = town.client(), town.bearer | {"Idempotency-Key": "k1"}
    assert client.post("/v1/payment-links", json=LINK, headers=headers).status_code == 201
    for method, path, body in (
        ("POST", "/v1/payment-links", LINK | {"title": "Other"}),
        ("POST", "/v1/payment-links?x=1", LINK),
        ("POST", "/v1/keys", LINK),
        ("DELETE", "/v1/keys/0", None),
    ):
        answer = client.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["rule"]) == (422, "idempotency"), path


def test_a_key_is_its_owners(town: Town):
    client = town.client()
    sandbox = client.post("/v1/keys", json={"sandbox": True}, headers=town.bearer).json()["key"]
    answers = [
        client.post(
            "/v1/keys", json={"role": "cashier", "sandbox": True}, headers=headers | {"Idempotency-Key": "k"}
        )
        for headers in (town.bearer, {"Authorization": f"Bearer {sandbox}"})
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() != answers[1].json()
    body = {"name": "X", "bin": "0", "iban": "0", "wallet": "0x" + "11" * 20}
    other = client.post("/v1/merchants", json=body, headers=town.operator | {"Idempotency-Key": "k"})
    assert other.json()["rule"] != "idempotency"


def test_a_refusal_is_an_answer_too_and_not_now_is_none(town: Town):
    client, headers = town.client(), town.bearer | {"Idempotency-Key": "k1"}
    wrong = LINK | {"asset": "DOGE"}
    first = client.post("/v1/payment-links", json=wrong, headers=headers)
    again = client.post("/v1/payment-links", json=wrong, headers=headers)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["content-type"] == "application/problem+json"


def test_an_answer_at_rest_shows_no_key(town: Town):
    client, headers = town.client(), town.bearer | {"Idempotency-Key": "k1"}
    key = client.post("/v1/keys", json={}, headers=headers).json()["key"]
    for path in town.city.folder.glob("qazyna.db*"):
        assert key.split("_", 2)[2].encode() not in path.read_bytes()


@pytest.mark.parametrize("on", ["town", "postgres_town"])
def test_of_many_at_once_one_works_and_all_are_answered_alike(on: str, request: pytest.FixtureRequest):
    town: Town = request.getfixturevalue(on)
    client, headers = town.client(), town.bearer | {"Idempotency-Key": "same"}
    before, answers = keys_of(town), list[Any]()
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/v1/keys", json={}, headers=headers)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {201, 409}
    made = {answer.json()["key"] for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert (answer.json()["rule"], answer.headers["Retry-After"]) == ("busy", "2")
    assert keys_of(town) == before + 1


def once(town: Town, work: Any, request: bytes = b"\1" * 32) -> Response:
    return asyncio.run(idempotency.once(town.city.gateway, "m", "k", request, work))


async def done() -> Response:
    return Response("{}", 200)


def test_what_is_under_way_is_told_to_wait_and_what_died_is_done_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(idempotency, "WAIT_S", 0.1)
    gateway = town.city.gateway
    with gateway.engine.begin() as connection:
        # What a process leaves that dies before it has answered.
        assert store.claim(connection, "m", "k", b"\1" * 32, "dead", gateway.clock())
    with pytest.raises(Invalid) as refused:
        once(town, done)
    assert refused.value.rule == "busy"
    town.city.clock.wait(idempotency.LEASE_S + 1)
    assert once(town, done).status_code == 200
    with gateway.engine.begin() as connection:
        # It was not dead after all, only slow: its answer comes too late to count.
        store.finish(connection, "m", "k", "dead", 500, "text/plain", b"")
    assert once(town, done).headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("failure", [Unavailable("chain", "away"), RuntimeError("bug")])
def test_what_failed_for_now_may_be_asked_again(town: Town, failure: Exception):
    async def fail() -> Response:
        raise failure

    with pytest.raises(type(failure)):
        once(town, fail)

    async def later() -> Response:
        return Response("{}", 503)

    assert once(town, later).status_code == 503
    assert "Idempotency-Replayed" not in once(town, done).headers


def test_answers_are_kept_for_more_than_a_day_and_then_forgotten(town: Town):
    gateway = town.city.gateway
    once(town, done)
    town.city.clock.wait(24 * 3600 + 1)
    assert idempotency.forget_old(gateway.engine, gateway.clock()) == 0
    assert once(town, done).headers["Idempotency-Replayed"] == "true"
    town.city.clock.wait(24 * 3600)
    assert idempotency.forget_old(gateway.engine, gateway.clock()) == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ключ"])
def test_what_is_no_key_is_refused(town: Town, key: str):
    with pytest.raises(Invalid):
        idempotency.check_key(key)


def test_every_route_that_writes_for_somebody_takes_a_key(town: Town):
    document = openapi.build(town.client().app)  # type: ignore[arg-type]
    for method, path, _, door in openapi.routes():
        if method in WRITES and door.scope is not None:
            parameters = document["paths"][path][method.lower()]["parameters"]
            assert [one["name"] for one in parameters].count("Idempotency-Key") == 1, path
