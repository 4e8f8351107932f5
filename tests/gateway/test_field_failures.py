"""What went wrong in real gateways and does not here, by the numbers of the list of field failures.

Others of them have their tests where they belong: 02 in test_evm_rail, 37 to 44 in
test_webhooks, 49 in test_api, 50 in test_merchants, 51 in test_settings.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import insert, text
from starlette.testclient import TestClient
from web3 import Web3

from contracts.bindings import City, deploy_token
from gateway.app import create_app
from gateway.db import reading
from gateway.payments import store
from gateway.payments.service import Payments
from gateway.rails import Kind, Stage
from gateway.rails.evm import PAID, EvmRail, Place, Quotes
from gateway.rates_simulator import Misbehaviour
from ledger.records import Unavailable, keccak256
from tests import servers
from tests.gateway.conftest import Node, Refuse, Town, call, emit
from tests.gateway.test_evm_rail import token_call, word


def test_ff01_a_payment_is_known_by_its_destination_whoever_sends_it(town: Town):
    """An exchange pays two customers' invoices from its one address."""
    first, second = town.invoice(), town.invoice()
    exchange = town.city.keys.account("builder")
    town.city.city.transfer(town.payer, town.token, town.city.keys.address("builder"), 10**9)
    for invoice in (first, second):
        assert invoice.deposit_address is not None
        town.city.city.transfer(exchange, town.token, invoice.deposit_address, invoice.due_minor)
    town.finalise()
    assert [town.status(invoice) for invoice in (first, second)] == ["final", "final"]


def test_ff04_after_downtime_every_block_is_read_however_many(town: Town, node: Node):
    rail = node.worker.rail
    rail.range_blocks = 10
    first = town.invoice()
    town.deposit(first)
    town.mine(95)
    last = town.invoice()
    town.deposit(last)
    town.city.outside.finalise()
    node.worker.poll_chain()
    assert (town.status(first), town.status(last)) == ("final", "final")
    assert node.asked.count("eth_getLogs") >= 10


def test_ff05_a_block_that_cannot_be_read_is_asked_for_again_and_never_skipped(town: Town, node: Node):
    node.worker.rail.range_blocks = 10
    invoice = town.invoice()
    town.deposit(invoice)
    town.mine(20)
    later = town.invoice()
    town.deposit(later)
    town.city.outside.finalise()
    asked: list[int] = []

    def fail_in_the_second_range(method: str, parameters: list[dict[str, str]], answer: object) -> object:
        if method == "eth_getLogs":
            asked.append(int(parameters[0]["fromBlock"], 16))
            if asked[-1] > min(asked):
                raise Refuse(500)
        return answer

    node.wrong = fail_in_the_second_range
    with pytest.raises(Unavailable):
        node.worker.poll_chain()
    # What was read is kept, with its cursor; what was not is not passed.
    assert (town.status(invoice), town.status(later)) == ("final", "open")
    with reading(town.city.gateway.engine) as connection:
        assert store.cursor(connection, node.worker.rail.name) == asked[-1] - 1
    node.wrong = None
    node.worker.poll_chain()
    assert town.status(later) == "final"


def test_ff07_while_the_chain_is_not_seen_no_invoice_expires(town: Town, node: Node):
    paid, unpaid = town.invoice(), town.invoice()
    node.worker.poll_chain()
    town.wait(800)
    town.pay(paid)

    def blind(*_: object) -> object:
        raise Refuse(429)

    node.wrong = blind
    town.wait(5_000)
    with pytest.raises(Unavailable):
        node.worker.poll_chain()
    assert town.payments.expire() == 0
    assert [(town.status(one), town.stored_status(one)) for one in (paid, unpaid)] == [("open", "open")] * 2
    node.wrong = None
    node.worker.poll_chain()
    town.payments.expire()
    assert (town.status(paid), town.notes(paid)) == ("final", set()) or town.status(paid) == "paid"
    assert town.notes(paid) == set()
    assert (town.status(unpaid), town.stored_status(unpaid)) == ("expired", "expired")


def test_ff07_a_node_that_stands_still_is_not_seeing(town: Town):
    """It answers, and its newest block is old: what happened since is not known."""
    invoice = town.invoice()
    town.city.clock.wait(5_000)
    town.poll()
    town.payments.expire()
    assert town.status(invoice) == "open"


def test_ff08_what_happened_while_no_worker_ran_is_found_by_the_next(town: Town, node: Node):
    invoice = town.invoice()
    town.pay(invoice)
    town.city.outside.finalise()
    # A new process knows nothing but the database; nobody pushed it anything.
    node.worker.poll_chain()
    assert town.status(invoice) == "final"


def test_ff09_a_second_payment_to_a_paid_invoice_is_seen_told_and_booked(town: Town):
    invoice = town.invoice()
    town.pay(invoice)
    town.settle()
    town.deposit(invoice, 7_000_000)
    town.settle()
    assert (town.status(invoice), town.notes(invoice)) == ("final", {"overpaid"})
    assert town.payments.look(invoice.id)[1].over_minor == 7_000_000
    assert town.events(invoice)[-1] == "invoice.updated"
    assert sum(transfer.amount for transfer in town.revenue()) == town.treasury()


def test_ff11_money_is_never_matched_by_its_amount(town: Town):
    """The exact amount to an address that is nobody's, and by bank with no reference."""
    invoice, bill = town.invoice(), town.bill()
    town.city.city.transfer(town.payer, town.token, bytes.fromhex("aa" * 20), invoice.due_minor)
    town.city.city.transfer(town.payer, town.token, town.city.plan.deployment.treasury, invoice.due_minor)
    town.transfer_in_tenge(bill.due_minor, "parking")
    town.settle()
    town.take_bank_files()
    assert (town.status(invoice), town.status(bill)) == ("open", "open")


def test_ff12_every_invoice_has_an_address_of_its_own(town: Town):
    made = [town.invoice() for _ in range(200)]
    assert len({invoice.deposit_address for invoice in made}) == 200
    assert len({invoice.nonce for invoice in made}) == 200


def test_ff13_a_fake_token_and_forged_events_are_nothing(town: Town):
    invoice = town.invoice()
    assert invoice.deposit_address is not None
    place = town.city.plan.deployment
    fake = deploy_token(town.city.outside.web3, town.payer, "Sample dollar", "USDT")
    town.city.city.mint(town.payer, fake, town.city.keys.address("payer"), 10**12)
    town.deposit(invoice, invoice.due_minor, fake)
    share = -(-invoice.due_minor * invoice.share_bps // 10_000)
    topics = [PAID, invoice.number, word(town.token)]
    told = word(invoice.due_minor) + word(share)
    transfer = keccak256(b"Transfer(address,address,uint256)")
    mint = token_call("transfer(address,uint256)", place.treasury, share)
    town.city.city.transfer(town.payer, fake, town.next_contract(after=1), share)
    town.send(
        emit(topics, told),  # the router's event, from another contract
        emit([transfer, word(b"\1" * 20), word(invoice.deposit_address)], word(invoice.due_minor)),
        call(fake, mint),  # and a fake token to the treasury
    )
    town.settle()
    assert town.status(invoice) == "open"
    assert town.seen(invoice) == []
    assert town.revenue() == []


def test_ff14_a_reorganisation_neither_pays_twice_nor_loses(town: Town):
    """Three times the block goes and the payment comes again: in another block, at another place."""
    web3, invoice = town.city.outside.web3, town.invoice()
    town.poll()
    snapshot = web3.provider.make_request("evm_snapshot", [])["result"]
    receipt = town.deposit(invoice)
    raw = town.chain.find_transaction(bytes(receipt["transactionHash"])).transaction.encode()
    for round in range(3):
        town.mine()
        town.poll()
        assert town.status(invoice) == "paid"
        web3.provider.make_request("evm_revert", [snapshot])
        town.mine(round + 3)
        town.poll()
        assert town.status(invoice) == "open"
        web3.eth.send_raw_transaction(raw)
    town.settle()
    assert (town.status(invoice), town.notes(invoice)) == ("final", set())
    assert len(town.revenue()) == 1
    stages = [piece.stage for piece in town.seen(invoice) if piece.kind is Kind.DEPOSIT]
    assert sorted(stages) == [Stage.FINAL, Stage.GONE, Stage.GONE, Stage.GONE]


def test_ff15_two_transfers_in_one_transaction_count_as_two(town: Town):
    invoice = town.invoice()
    assert invoice.deposit_address is not None
    half = invoice.due_minor // 2
    town.city.city.transfer(town.payer, town.token, town.next_contract(after=1), 10**9)
    move = "transfer(address,uint256)"
    parts = [call(town.token, token_call(move, invoice.deposit_address, half)) for _ in range(2)]
    town.send(*parts)
    town.finalise()
    assert town.payments.look(invoice.id)[1].paid_minor == 2 * half
    assert len(town.seen(invoice)) == 2
    assert len({piece.key for piece in town.seen(invoice)}) == 2


def test_ff16_evidence_state_inbox_and_webhook_commit_together_or_not_at_all(town: Town):
    """The outbox refuses the webhook: then there is no evidence, no state, no record, no cursor."""
    invoice = town.invoice()
    town.pay(invoice)
    town.city.outside.finalise()
    engine = town.city.gateway.engine
    with reading(engine) as connection:
        before = store.cursor(connection, town.city.worker.rail.name)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER broken BEFORE INSERT ON webhook_event BEGIN SELECT RAISE(ABORT, 'disk'); END"
            )
        )
    with pytest.raises(Exception, match="disk"):
        town.poll()
    assert (town.stored_status(invoice), town.seen(invoice), town.submitted()) == ("open", [], [])
    with reading(engine) as connection:
        assert store.cursor(connection, town.city.worker.rail.name) == before
    with engine.begin() as connection:
        connection.execute(text("DROP TRIGGER broken"))
    town.poll()
    assert town.status(invoice) == "final"
    assert len(town.submitted()) == 1


def test_ff17_list_answer_page_and_webhook_say_the_same_at_every_step(town: Town):
    invoice, client = town.invoice(), town.client()
    seen = []
    town.pay(invoice)
    for _ in range(4):
        town.poll()
        one = client.get(f"/v1/invoices/{invoice.id}", headers=town.bearer).json()
        [listed] = client.get("/v1/invoices", headers=town.bearer).json()["invoices"]
        assert one == listed
        assert one["status"] == town.status(invoice) == town.stored_status(invoice)
        assert town.events(invoice)[-1] == f"invoice.{one['status']}"
        seen.append(one["status"])
        town.mine()
    assert seen == ["detected", "paid", "final", "final"]


def test_ff18_nothing_is_paid_before_it_is_in_a_block(town: Town):
    """On a node whose pool holds the payment, and then holds its replacement to somebody else."""
    with servers.anvil("--no-mining", "--timestamp", str(town.city.clock())) as node:
        web3 = Web3(Web3.HTTPProvider(node.url))
        account = town.city.keys.account("builder")
        node.call("anvil_setBalance", account.address, hex(10**20))
        code = json.loads((servers.ROOT / "contracts" / "artifacts" / "TestToken.json").read_text())
        contract = web3.eth.contract(abi=code["abi"], bytecode=code["bytecode"])

        def send(transaction: dict[str, object], nonce: int, price: int) -> None:
            full = {
                **transaction,
                "nonce": nonce,
                "gas": 5_000_000,
                "gasPrice": price,
                "chainId": web3.eth.chain_id,
            }
            full.pop("maxFeePerGas", None)
            full.pop("maxPriorityFeePerGas", None)
            web3.eth.send_raw_transaction(account.sign_transaction(full).raw_transaction)

        plain = {"gas": 0, "gasPrice": 0, "chainId": 0, "nonce": 0}
        send(dict(contract.constructor("Sample dollar", "USDT").build_transaction(plain)), 0, 10**10)
        node.call("evm_mine")
        receipt = web3.eth.get_transaction_receipt(web3.eth.get_block("latest")["transactions"][0])
        token_address = receipt["contractAddress"]
        assert token_address is not None
        token = web3.eth.contract(token_address, abi=code["abi"])
        send(
            dict(
                token.functions.mint(account.address, 1_000).build_transaction(
                    {**plain, "from": account.address}
                )
            ),
            1,
            10**10,
        )
        node.call("evm_mine")
        start = web3.eth.block_number
        deployment = replace(town.city.plan.deployment, chain_id=web3.eth.chain_id, block=start)
        rail = EvmRail(web3, Place(deployment, {bytes.fromhex(token_address[2:]): "USDT"}))
        address, other = bytes.fromhex("aa" * 20), bytes.fromhex("bb" * 20)
        pay = token.functions.transfer(Web3.to_checksum_address(address), 5)
        send(dict(pay.build_transaction({**plain, "from": account.address})), 2, 10**10)
        head = rail.head()
        assert rail.scan(start, head.latest, head, {address}.intersection) == []
        instead = token.functions.transfer(Web3.to_checksum_address(other), 5)
        send(dict(instead.build_transaction({**plain, "from": account.address})), 2, 10**11)
        node.call("evm_mine")
        head = rail.head()
        assert rail.scan(start, head.latest, head, {address}.intersection) == []
        assert len(rail.scan(start, head.latest, head, {other}.intersection)) == 1


def ask(town: Town):
    order = {"amount": "1250000", "asset": "USDT", "reference": "order-1", "title": "Tea"}
    return town.client().post("/v1/invoices", json=order, headers=town.bearer)


def test_ff31_no_rate_no_quote_and_never_one_to_one(town: Town):
    for name in ("nationalbank", "exchange-a", "exchange-b"):
        town.city.outside.rates.misbehaves[name] = Misbehaviour.ERROR_PAGE_WITH_200
    answer = ask(town)
    assert (answer.status_code, answer.json()["rule"]) == (503, "unavailable")
    with reading(town.city.gateway.engine) as connection:
        assert store.counts(connection) == {}


@pytest.mark.parametrize(
    "how", [Misbehaviour.ERROR_PAGE_WITH_200, Misbehaviour.STATUS_500, Misbehaviour.STALE]
)
def test_ff32_one_source_down_is_not_the_shop_down(town: Town, how: Misbehaviour):
    town.city.outside.rates.misbehaves["exchange-a"] = how
    answer = ask(town)
    assert answer.status_code == 201
    assert {source["name"] for source in answer.json()["rate"]["sources"]} == {"exchange-b", "nationalbank"}


def test_ff33_a_dollar_token_that_left_its_peg_is_not_quoted(town: Town):
    for exchange in town.city.outside.rates.exchanges.values():
        exchange["USDT/KZT"] = Decimal("498.00")  # 2.7 % below the official dollar
    answer = ask(town)
    assert answer.status_code == 503
    assert "Q3" in answer.json()["why"]


@pytest.mark.parametrize("amount", ["12.5", "1e3", 12.5, 1250000, "0.1", "0"])
def test_ff34_what_is_no_whole_number_of_the_smallest_unit_is_refused(town_of_module: Town, amount: object):
    order = {"amount": amount, "asset": "USDT", "reference": "order-34", "title": "Tea"}
    answer = town_of_module.client().post("/v1/invoices", json=order, headers=town_of_module.bearer)
    assert answer.status_code == 422


def test_ff34_no_number_in_an_answer_is_money(town: Town):
    answer = ask(town).json()
    for name in ("amount", "due", "paid", "missing", "over"):
        assert isinstance(answer[name], str)
    assert isinstance(answer["wallet"]["amount"], str)
    assert not [value for value in answer.values() if isinstance(value, float)]


def test_ff35_tiyn_are_not_base_units(town: Town):
    """A bill in dollars, paid with as many tiyn as it has base units, is paid for what tiyn are worth."""
    bill = town.bill("USDT")
    assert bill.due_minor > bill.tiyn
    town.transfer_in_tenge(bill.due_minor, bill.reference)
    town.take_bank_files()
    derived = town.payments.look(bill.id)[1]
    assert derived.paid_minor == bill.due_minor * bill.due_minor // bill.tiyn
    assert derived.over_minor > 0


def test_ff36_an_exchange_took_its_fee_and_the_payer_tops_up_what_is_told(town: Town):
    invoice, client = town.invoice(), town.client()
    town.deposit(invoice, invoice.due_minor - 1_000_000)
    town.poll()
    told = client.get(f"/v1/invoices/{invoice.id}", headers=town.bearer).json()
    assert (told["status"], told["notes"], told["missing"]) == ("detected", ["partially_paid"], "1000000")
    town.deposit(invoice, int(told["missing"]))
    town.settle()
    told = client.get(f"/v1/invoices/{invoice.id}", headers=town.bearer).json()
    assert (told["status"], told["notes"], told["missing"]) == ("final", [], "0")


def test_ff45_a_reference_gives_the_same_open_invoice_and_a_new_quote_once_it_expired_unpaid(town: Town):
    first = ask(town).json()
    assert ask(town).json() == first
    order = {"amount": "1250001", "asset": "USDT", "reference": "order-1", "title": "Tea"}
    conflict = town.client().post("/v1/invoices", json=order, headers=town.bearer)
    assert (conflict.status_code, conflict.json()["rule"]) == (409, "conflict")
    town.wait(901)
    # Blind: whether the first was paid is not known, so it is not replaced.
    assert ask(town).json()["id"] == first["id"]
    town.poll()
    second = ask(town).json()
    assert second["id"] != first["id"]
    assert second["status"] == "open"
    assert ask(town).json()["id"] == second["id"]
    # The first is still watched: late money on it is that invoice's.
    invoice, _, _ = town.payments.look(first["id"])
    town.deposit(invoice)
    town.finalise()
    assert (town.status(invoice), town.notes(invoice)) == ("final", {"late"})
    assert ask(town).json()["status"] == "open"


def test_ff52_creating_an_invoice_asks_no_node(town: Town, node: Node):
    """The gateway with a node that counts: quote and address are computed, on the devchain as anywhere."""
    known = town.payments
    city = City(Web3(Web3.HTTPProvider(node.url)), town.city.plan.deployment)
    quotes = Quotes(city, node.worker.rail.place, town.city.keys.account("gateway"))
    payments = Payments(known.engine, known.view, known.clock, known.rates, quotes)
    gateway = replace(town.city.gateway, payments=payments, quotes=quotes)
    client = TestClient(create_app(gateway))
    order = {"amount": "1250000", "asset": "USDT", "reference": "order-1", "title": "Tea"}
    answer = client.post("/v1/invoices", json=order, headers=town.bearer)
    assert answer.json()["deposit_address"]
    assert answer.json()["wallet"]
    assert client.post("/v1/fees/bills", json={"fee": "parking-year", "asset": "USDT"}).status_code == 201
    assert node.asked == []
    city.head()
    assert node.asked != []


def test_ff52_a_flood_of_bills_is_stopped_by_address_and_of_invoices_by_key(town: Town):
    client, gateway = town.client(), town.city.gateway
    town.stay_in_one_minute()
    gateway.bill_quota.most, gateway.invoice_quota.most = 5, 5
    bills = [client.post("/v1/fees/bills", json={"fee": "parking-year"}).status_code for _ in range(7)]
    assert bills == [201] * 5 + [429] * 2
    answers = [ask(town) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [201] * 5 + [429] * 2
    assert int(answers[-1].headers["Retry-After"]) > 0
    # Another caller is not held up by the first.
    key = client.post(f"/v1/merchants/{town.merchant_id}/keys", headers=town.operator).json()["key"]
    order = {"amount": "1", "asset": "USDT", "reference": "other", "title": "Tea"}
    assert (
        client.post("/v1/invoices", json=order, headers={"Authorization": f"Bearer {key}"}).status_code == 201
    )


def test_ff53_a_page_of_a_merchant_with_20000_invoices_is_as_quick_as_the_first(town: Town):
    one = town.invoice()
    engine = town.city.gateway.engine
    with reading(engine) as connection:
        row = dict(connection.execute(store.tables.invoice.select()).mappings().one())
    rows = [
        {
            **row,
            "id": f"{number:026}",
            "number": number.to_bytes(32, "big"),
            "merchant_reference": f"many-{number}",
            "deposit_address": number.to_bytes(20, "big"),
            "reference": f"R{number}",
            "created_s": one.created_s - 20_000 + number,
        }
        for number in range(20_000)
    ]
    with engine.begin() as connection:
        connection.execute(insert(store.tables.invoice), rows)
    with reading(engine) as connection:
        plan = connection.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT * FROM invoice WHERE merchant_id = 'm' AND "
                "(created_s < 5 OR (created_s = 5 AND id < 'x')) ORDER BY created_s DESC, id DESC LIMIT 50"
            )
        ).all()
    assert "ix_invoice_page" in str(plan)
    assert "TEMP B-TREE" not in str(plan)
    client = town.client()
    started = time.process_time()
    page = client.get("/v1/invoices", params={"after": f"{500:026}"}, headers=town.bearer)
    took = time.process_time() - started
    assert [invoice["id"] for invoice in page.json()["invoices"]] == [
        f"{number:026}" for number in range(499, 449, -1)
    ]
    assert took < 5, took
