"""Gasless payments: what is brought, what is refused before it costs anything, and what became of it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from starlette.testclient import TestClient

from contracts.bindings import authorization_digest, sign_digest
from gateway.app import create_app
from gateway.db import reading
from gateway.payments.store import Invoice
from gateway.rails import Kind
from gateway.rails.evm import Place, Term
from gateway.relayer import store
from gateway.relayer.encoding import router_call
from gateway.relayer.service import Authorization, Policy, Progress, Relayer, Scheme
from gateway.sending import store as sending_store
from ledger.records import Invalid, keccak256
from tests.gateway.conftest import Node, Refuse, Town


@pytest.fixture
def relayer(town: Town) -> Relayer:
    found = town.city.gateway.relayer
    assert found is not None
    return found


def domain(town: Town) -> bytes:
    asked = {"to": "0x" + town.token.hex(), "data": "0x" + keccak256(b"DOMAIN_SEPARATOR()")[:4].hex()}
    return bytes.fromhex(town.city.worker.rail.pool.ask("eth_call", asked, "latest")[2:])


def signed(town: Town, invoice: Invoice, by: LocalAccount | None = None, payer: bytes = b"") -> Authorization:
    """What a payer's wallet signs: EIP-3009 over this invoice's quote."""
    account = by or town.payer
    payer = payer or bytes.fromhex(account.address[2:])
    quote, _ = town.quote(invoice)
    digest = authorization_digest(domain(town), quote, payer, town.city.plan.deployment.router)
    signature = sign_digest(account, digest)
    return Authorization(Scheme.EIP3009, payer, signature.r + signature.s + bytes([signature.v]))


def queued(town: Town) -> dict[str, int]:
    with reading(town.city.gateway.engine) as connection:
        return sending_store.counts(connection, town.city.worker.rail.name)


def refused(relayer: Relayer, invoice: Invoice, asked: Authorization) -> str:
    with pytest.raises(Invalid) as error:
        relayer.authorize(invoice.id, asked)
    return error.value.rule


def test_an_authorization_pays_the_invoice_and_the_payer_needs_no_coin(town: Town, relayer: Relayer):
    invoice = town.invoice()
    payer = town.payer.address
    before = town.city.outside.web3.eth.get_balance(payer)
    told = relayer.authorize(invoice.id, signed(town, invoice))
    assert (told.progress, town.status(invoice)) == (Progress.QUEUED, "open")
    town.city.worker.send()
    town.finalise()
    town.city.worker.send()
    assert relayer.look(invoice.id, told.id).progress is Progress.PAID
    assert town.status(invoice) == "final"
    [seen] = town.seen(invoice)
    assert (seen.kind, seen.amount_minor) == (Kind.ROUTER, invoice.due_minor)
    town.record()
    assert [transfer.amount for transfer in town.revenue()] == [town.treasury()]
    assert town.city.outside.web3.eth.get_balance(payer) == before


def test_ff22_one_authorization_is_sent_once_however_often_and_however_concurrently_it_is_brought(
    town: Town, relayer: Relayer
):
    invoice = town.invoice()
    asked = signed(town, invoice)
    told: list[Any] = []

    def bring() -> None:
        told.append(relayer.authorize(invoice.id, asked))

    threads = [threading.Thread(target=bring) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.id for one in told}) == 1
    assert len(told) == 6
    assert queued(town) == {"queued": 1}
    town.city.worker.send()
    relayer.authorize(invoice.id, asked)
    town.finalise()
    town.city.worker.send()
    assert relayer.authorize(invoice.id, asked).progress is Progress.PAID
    assert queued(town) == {"final": 1}
    assert len(town.seen(invoice)) == 1


def test_ff22_of_two_payers_of_one_invoice_one_is_brought(town: Town, relayer: Relayer):
    invoice = town.invoice()
    other: LocalAccount = Account.from_key(b"\x0b" * 32)
    deployer = town.city.keys.account("deployer")
    town.city.city.mint(deployer, town.token, bytes.fromhex(other.address[2:]), 10**12)
    relayer.authorize(invoice.id, signed(town, invoice))
    assert refused(relayer, invoice, signed(town, invoice, other)) == "gasless"
    assert queued(town) == {"queued": 1}


def test_ff19_a_payment_whose_answer_is_lost_is_unknown_and_is_not_brought_again(
    town: Town, relayer: Relayer, node: Node
):
    invoice = town.invoice()
    asked = signed(town, invoice)
    relayer.authorize(invoice.id, asked)

    def lose(method: str, _: list[Any], answer: Any) -> Any:
        if method == "eth_sendRawTransaction":
            raise Refuse(502)
        return answer

    # The chain has executed it; the reply is lost.
    node.wrong = lose
    node.worker.sender.step()
    assert relayer.authorize(invoice.id, asked).progress is Progress.UNKNOWN
    assert queued(town) == {"unknown": 1}
    node.wrong = None
    node.worker.sender.step()
    town.finalise()
    node.worker.sender.step()
    relayer.follow()
    assert relayer.authorize(invoice.id, asked).progress is Progress.PAID
    assert len(town.seen(invoice)) == 1
    assert town.notes(invoice) == set()


def test_ff21_paid_is_what_moved_the_payers_tokens_and_not_what_did_not_revert(
    town: Town, relayer: Relayer, node: Node
):
    """A receipt of success without the Transfer that was expected, or with one that is not it."""
    invoice = town.invoice()
    told = relayer.authorize(invoice.id, signed(town, invoice))
    town.city.worker.sender.step()
    town.finalise()
    town.city.worker.sender.step()
    told = relayer.look(invoice.id, told.id)
    assert told.transaction is not None
    with reading(town.city.gateway.engine) as connection:
        [one] = store.of_invoice(connection, invoice.id)
    blind = Relayer(town.payments, node.worker.rail, town.city.keys.address("relayer"))
    assert blind._moved(one, told.transaction)[0] is Progress.PAID
    payer = "0x" + town.city.keys.address("payer").rjust(32, b"\0").hex()
    other = "0x" + (b"\x99" * 20).rjust(32, b"\0").hex()
    for change in (
        lambda log: {**log, "topics": [log["topics"][0], other, *log["topics"][2:]]},
        lambda log: {**log, "topics": [*log["topics"][:2], other]},
        lambda log: {**log, "data": "0x" + "01".rjust(64, "0")},
        lambda log: {**log, "address": "0x" + "77" * 20},
    ):
        node.wrong = lambda method, _, answer, change=change: (
            {**answer, "logs": [change(log) if payer in log["topics"] else log for log in answer["logs"]]}
            if method == "eth_getTransactionReceipt"
            else answer
        )
        progress, why = blind._moved(one, told.transaction)
        assert (progress, "no Transfer" in why) == (Progress.FAILED, True)
    node.wrong = lambda method, _, answer: {**answer, "logs": []} if "Receipt" in method else answer
    assert blind._moved(one, told.transaction)[0] is Progress.FAILED


def test_ff27_what_an_anonymous_caller_brings_costs_no_gas_unless_it_pays(town: Town, relayer: Relayer):
    invoice, thief = town.invoice(), town.city.keys.account("builder")
    payer = town.city.keys.address("payer")
    good = signed(town, invoice)
    # Not the payer's signature; of nobody; with the other s; for another invoice; too short.
    forged = signed(town, invoice, thief, payer)
    assert refused(relayer, invoice, forged) == "gasless"
    assert refused(relayer, invoice, replace(good, signature=good.signature[:64] + b"\x1d")) == "gasless"
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high = (order - int.from_bytes(good.signature[32:64], "big")).to_bytes(32, "big")
    twin = good.signature[:32] + high + bytes([55 - good.signature[64]])
    assert refused(relayer, invoice, replace(good, signature=twin)) == "gasless"
    assert refused(relayer, town.invoice(), good) == "gasless"
    assert refused(relayer, invoice, replace(good, signature=b"")) == "gasless"
    # Signed by one who has nothing: the chain is asked, and nothing is sent.
    assert refused(relayer, invoice, signed(town, invoice, Account.from_key(b"\x0c" * 32))).startswith("C:")
    # No such invoice; an expired one; one that was paid already.
    with pytest.raises(Invalid) as unknown:
        relayer.authorize("0" * 26, good)
    assert unknown.value.rule == "not_found"
    paid = town.invoice()
    late = signed(town, paid)
    town.pay(paid)
    town.poll()
    assert refused(relayer, paid, late) == "gasless"
    town.wait(900 - 30)
    assert refused(relayer, invoice, good) == "gasless"
    assert queued(town) == {}


def test_ff27_gas_is_bounded_by_invoice_by_payer_and_by_the_hour(town: Town):
    rail, sender = town.city.worker.rail, town.city.keys.address("relayer")
    few = Relayer(town.payments, rail, sender, Policy(a_day=2))
    invoices = [town.invoice() for _ in range(3)]
    for invoice in invoices[:2]:
        few.authorize(invoice.id, signed(town, invoice))
    assert refused(few, invoices[2], signed(town, invoices[2])) == "quota"
    poor = Relayer(town.payments, rail, sender, Policy(gas_an_hour=1_200_000))
    assert refused(poor, invoices[2], signed(town, invoices[2])) == "quota"
    generous = Relayer(town.payments, rail, sender)
    generous.authorize(invoices[2].id, signed(town, invoices[2]))
    assert queued(town) == {"queued": 3}
    with reading(town.city.gateway.engine) as connection:
        [call] = sending_store.due(connection, rail.name, town.city.clock(), 1)
    assert call.call.gas_limit == 500_000


def test_ff27_a_payer_who_moves_away_the_money_in_between_can_do_so_a_few_times_only(
    town: Town, relayer: Relayer
):
    """The chain would have taken it when it was asked, and would not any more when it is sent."""
    invoice, payer = town.invoice(), town.payer
    asked = signed(town, invoice)
    away = town.city.keys.address("builder")
    everything = town.city.city.balance(town.token, town.city.keys.address("payer"))
    builder, home = town.city.keys.account("builder"), town.city.keys.address("payer")
    for _ in range(3):
        told = relayer.authorize(invoice.id, asked)
        town.city.city.transfer(payer, town.token, away, everything)
        # Simulated again before it is signed, and dropped after a few tries: it costs no gas at all.
        for _ in range(town.city.worker.sender.policy.tries):
            with town.city.gateway.engine.begin() as connection:
                [one] = store.of_invoice(connection, invoice.id)
                sending_store.set_call(connection, one.call_id, town.city.clock(), due_s=0)
            town.city.worker.send()
        assert relayer.look(invoice.id, told.id).progress is Progress.FAILED
        town.city.city.transfer(builder, town.token, home, everything)
    assert refused(relayer, invoice, asked) == "quota"
    assert queued(town) == {"dropped": 3}


def drop_all(town: Town) -> None:
    """Let the sender find so often that the chain would refuse what waits that it gives up."""
    for _ in range(town.city.worker.sender.policy.tries):
        with town.city.gateway.engine.begin() as connection:
            for one in store.in_state(connection, [Progress.QUEUED.value]):
                sending_store.set_call(connection, one.call_id, town.city.clock(), due_s=0)
        town.city.worker.send()


def test_ff27_a_payer_whose_authorizations_failed_pays_by_itself_and_costs_the_hour_nothing(town: Town):
    """Of many that one balance seemed to cover, few wait at once, and what was not signed is not counted."""
    rail, sender, payer = town.city.worker.rail, town.city.keys.address("relayer"), town.payer
    relayer = Relayer(town.payments, rail, sender, Policy(gas_an_hour=4_100_000))
    home, away = town.city.keys.address("payer"), town.city.keys.address("builder")
    everything = town.city.city.balance(town.token, home)
    invoices = [town.invoice() for _ in range(4)]
    for invoice in invoices[:3]:
        relayer.authorize(invoice.id, signed(town, invoice))
    with pytest.raises(Invalid) as refused_now:
        relayer.authorize(invoices[3].id, signed(town, invoices[3]))
    assert "3 authorizations of this address are on their way, 3 is the most" in refused_now.value.why
    town.city.city.transfer(payer, town.token, away, everything)
    drop_all(town)
    town.city.city.transfer(town.city.keys.account("builder"), town.token, home, everything)
    assert queued(town) == {"dropped": 3}
    with reading(town.city.gateway.engine) as connection:
        assert store.gas_since(connection, 0) == 0
    with pytest.raises(Invalid) as refused_after:
        relayer.authorize(invoices[3].id, signed(town, invoices[3]))
    assert "3 authorizations of this address failed in a day, 3 is the most" in refused_after.value.why
    other: LocalAccount = Account.from_key(b"\x0b" * 32)
    town.city.city.mint(
        town.city.keys.account("deployer"), town.token, bytes.fromhex(other.address[2:]), 10**12
    )
    assert relayer.authorize(invoices[3].id, signed(town, invoices[3], other)).progress is Progress.QUEUED


def test_ff27_of_many_authorizations_at_once_no_more_are_brought_than_one_after_the_other(
    postgres_town: Town, monkeypatch: pytest.MonkeyPatch
):
    """With a database in which many transactions go on at once, and which is slow."""
    town, bring = postgres_town, store.bring
    rail, sender = town.city.worker.rail, town.city.keys.address("relayer")
    relayer = Relayer(town.payments, rail, sender, Policy(at_once=1))
    invoices = [town.invoice() for _ in range(5)]
    brought = [(invoice.id, signed(town, invoice)) for invoice in invoices]

    def slowly(*arguments: Any) -> bool:
        time.sleep(0.3)
        return bring(*arguments)

    monkeypatch.setattr(store, "bring", slowly)
    told: list[str] = []

    def ask(id: str, asked: Authorization) -> None:
        try:
            told.append(relayer.authorize(id, asked).progress.value)
        except Invalid as refused:
            told.append(refused.rule)

    threads = [threading.Thread(target=ask, args=one) for one in brought]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["queued", *["quota"] * 4]


def test_ff13_a_token_whose_term_is_over_is_not_paid_by_an_authorization(town: Town):
    invoice, rail = town.invoice(), town.city.worker.rail
    asked = signed(town, invoice)
    deployment = rail.place.deployment
    ended = {(deployment.router, town.token): Term(0, town.city.clock())}
    rail.place = Place(deployment, rail.place.tokens, ended)
    relayer = Relayer(town.payments, rail, town.city.keys.address("relayer"))
    assert refused(relayer, invoice, asked) == "gasless"


def test_the_route_takes_an_authorization_from_anybody_and_bounds_how_often(town: Town):
    invoice = town.invoice()
    asked = signed(town, invoice)
    body = {"scheme": "eip3009", "payer": "0x" + asked.payer.hex(), "signature": "0x" + asked.signature.hex()}
    client = town.client()
    path = f"/v1/invoices/{invoice.id}/authorizations"
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    town.city.worker.send()
    town.finalise()
    town.city.worker.send()
    found = client.get(f"{path}/{answer.json()['id']}").json()
    assert (found["state"], len(found["transaction"])) == ("paid", 66)
    for unknown in ("nothing", "%00", "0" * 32, "%ff"):
        assert client.get(f"{path}/{unknown}").status_code == 404
    assert client.get(f"/v1/invoices/%00/authorizations/{answer.json()['id']}").status_code == 404
    assert (
        client.get(f"/v1/invoices/{town.invoice().id}/authorizations/{answer.json()['id']}").status_code
        == 404
    )
    for wrong in (
        {**body, "signature": "0x00"},
        {**body, "payer": "0x00"},
        {**body, "scheme": "permit3"},
        {**body, "gas": 1},
        {**body, "nonce": "-1"},
    ):
        assert client.post(path, json=wrong).status_code == 422
    town.stay_in_one_minute()
    statuses = [client.post(path, json=body).status_code for _ in range(25)]
    assert statuses[-1] == 429


def test_a_gateway_without_a_relayer_takes_none(town: Town):
    app = create_app(replace(town.city.gateway, relayer=None))
    body = {"scheme": "eip3009", "payer": "0x" + "11" * 20, "signature": "0x" + "11" * 65}
    answer = TestClient(app).post(f"/v1/invoices/{'0' * 26}/authorizations", json=body)
    assert answer.status_code == 404


def test_the_routers_calls_are_encoded_as_web3_encodes_them(town: Town):
    invoice = town.invoice()
    quote, signature = town.quote(invoice)
    router = town.city.city._contracts["router"]
    assert router_call("pay", quote.words(), signature.r, signature.vs).hex() == router.encode_abi(
        "pay", args=[quote.words(), signature.r, signature.vs]
    ).removeprefix("0x")
