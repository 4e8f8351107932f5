"""A payer pays with a wallet from the page of an invoice: real Chromium, real node, to the ledger's record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from eth_account import Account
from eth_typing import HexStr
from playwright.sync_api import Browser, Page, expect
from web3 import Web3

from contracts.bindings import PERMIT2, city_part
from gateway.demo import serving
from gateway.payments.store import Invoice
from gateway.rails import Kind
from gateway.relayer.encoding import approve_call, router_call
from gateway.relayer.service import Policy
from ledger import store as ledger_store
from ledger.records import Transfer, decode
from tests.browser.accessible import FAULTS
from tests.browser.payer_wallet import OTHER_CHAIN, PayerWallet
from tests.browser.test_pages_in_chromium import CONTRAST, DESKTOP, PHONE, Visit, look_again
from tests.gateway.anvil_town import AnvilTown, built
from tests.gateway.coin_town import COIN_ASSET, coin_invoice, coin_town_on
from tests.servers import ROOT

UNITS = 10**12


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnvilTown]:
    folder = tmp_path_factory.mktemp("wallet")
    with (
        built(folder / "built") as (node, miner),
        coin_town_on((node, miner, folder / "built"), folder / "city") as found,
    ):
        yield found


@pytest.fixture(scope="module")
def address(town: AnvilTown) -> Iterator[str]:
    with serving(town.city) as found:
        yield found


@pytest.fixture
def wallet(town: AnvilTown) -> PayerWallet:
    """A wallet with coin and tokens, and no allowance given to anybody."""
    made = PayerWallet(Account.create(), town.node, town.miner)
    town.node.call("anvil_setBalance", made.account.address, hex(10**22))
    mint(town, made, UNITS)
    return made


@pytest.fixture
def visit(browser: Browser, address: str, wallet: PayerWallet) -> Iterator[Visit]:
    context = browser.new_context(locale="en-GB", viewport=DESKTOP)
    wallet.install(context)
    found = Visit(context, address)
    yield found
    context.close()
    assert found.trouble == []


def mint(town: AnvilTown, wallet: PayerWallet, units: int) -> None:
    deployer = town.city.keys.account("deployer")
    town.city.city.mint(deployer, town.token, bytes.fromhex(wallet.account.address[2:]), units)


def press(page: Page, id: str) -> None:
    page.locator(f"#wallet-{id}").click()


def review(visit: Visit, invoice: Invoice) -> Page:
    page = visit.open(f"/pay/{invoice.id}")
    expect(page.locator("#wallet-start-0")).to_be_visible()
    expect(page.locator("#wallet-facts")).to_be_hidden()
    press(page, "start-0")
    expect(page.locator("#wallet-go")).to_be_visible()
    return page


def step(page: Page, key: str) -> None:
    expect(page.locator("#wallet-steps li").last).to_have_attribute("data-step", key)


def trouble(page: Page, key: str) -> Any:
    shown = page.locator("#wallet-trouble")
    expect(shown).to_be_visible()
    expect(shown).to_have_attribute("data-key", key)
    return shown


def check_booked(town: AnvilTown, page: Page, invoice: Invoice, asset: str) -> None:
    """Final on the page, by the router's event, and the city's part a record."""
    town.finalise()
    look_again(page)
    expect(page.locator("#status")).to_have_text("Payment complete")
    expect(page.locator("#wallet-hash code")).to_have_text(re.compile("^0x[0-9a-f]{64}$"))
    [seen] = town.seen(invoice)
    city = city_part(invoice.due_minor, invoice.share_bps)
    assert (seen.kind, seen.amount_minor, seen.city_minor) == (Kind.ROUTER, invoice.due_minor, city)
    town.record()
    position = town.payments.position(invoice.id)
    assert position is not None
    [record] = ledger_store.records(town.city.gateway.engine, position, position + 1)
    booked = decode(record)
    assert isinstance(booked, Transfer)
    assert (booked.amount, booked.asset, booked.purpose) == (city, asset, invoice.purpose)
    assert town.notes(invoice) == set()


def test_the_coin_is_paid_in_one_transaction_and_the_page_says_what_before(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    invoice = coin_invoice(town)
    page = review(visit, invoice)
    facts = page.locator("#wallet-facts")
    assert invoice.deposit_address is not None
    expect(facts).to_contain_text(Web3.to_checksum_address(invoice.payee))
    expect(facts).to_contain_text(Web3.to_checksum_address(town.city.plan.deployment.router))
    expect(page.locator("#wallet-steps li").last).to_contain_text("one transaction")
    assert wallet.methods() == ["eth_requestAccounts", "eth_chainId"]
    press(page, "go")
    step(page, "mined")
    assert wallet.methods()[2:] == ["eth_chainId", "eth_sendTransaction"]
    [sent] = wallet.asked[[method for method, _ in wallet.asked].index("eth_sendTransaction")][1]
    assert int(sent["value"], 16) == invoice.due_minor
    town.poll()
    check_booked(town, page, invoice, COIN_ASSET)


def test_a_token_is_paid_by_an_allowance_of_exactly_the_amount(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    invoice = town.invoice()
    page = review(visit, invoice)
    press(page, "self")
    step(page, "mined")
    assert wallet.methods().count("eth_sendTransaction") == 2
    approved = wallet.asked[[method for method, _ in wallet.asked].index("eth_sendTransaction")][1][0]
    router = town.city.plan.deployment.router
    assert approved["data"] == "0x" + approve_call(router, invoice.due_minor).hex()
    token = town.city.outside.web3.eth.contract(Web3.to_checksum_address(town.token), abi=[ALLOWANCE])
    left = token.functions.allowance(wallet.account.address, Web3.to_checksum_address(router)).call()
    assert left == 0
    check_booked(town, page, invoice, "USDT")


ALLOWANCE = {
    "type": "function", "name": "allowance", "stateMutability": "view",
    "inputs": [{"name": "owner", "type": "address"}, {"name": "spender", "type": "address"}],
    "outputs": [{"name": "", "type": "uint256"}],
}  # fmt: skip


def sign(town: AnvilTown, page: Page) -> None:
    """The payer signs, and the relayer's worker does what it does each second."""
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        press(page, "go")
    step(page, "bring")
    town.city.worker.send()
    town.mine()
    town.city.worker.send()
    step(page, "mined")
    town.finalise()
    town.city.worker.send()


def test_a_token_is_paid_by_a_signature_alone_and_costs_the_payer_no_coin(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    town.node.call("anvil_setBalance", wallet.account.address, "0x0")
    invoice = town.invoice()
    page = review(visit, invoice)
    expect(page.locator("#wallet-steps li").last).to_have_attribute("data-step", "review.eip3009")
    sign(town, page)
    check_booked(town, page, invoice, "USDT")
    assert "eth_sendTransaction" not in wallet.methods()


def test_a_contract_wallet_that_allowed_permit2_is_not_asked_for_eip_3009(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    """EIP-3009 of a contract's address cannot be brought, and a delegated key signs as before (EIP-7702)."""
    code = (ROOT / "var" / "permit2" / "code.hex").read_text().strip()
    town.node.call("anvil_setCode", Web3.to_checksum_address(PERMIT2), code)
    approve(town, wallet, PERMIT2, 2**255)
    invoice = town.invoice()
    real = wallet.node

    class Contract(type(real)):  # type: ignore[misc]
        """The same node, which says that there is code at the payer's address."""

        def call(self, method: str, *parameters: Any) -> Any:
            return "0x6001" if method == "eth_getCode" else real.call(method, *parameters)

    wallet.node = Contract(real.url, real.pid)
    page = review(visit, invoice)
    expect(page.locator("#wallet-steps li").last).to_have_attribute("data-step", "review.permit2")
    sign(town, page)
    check_booked(town, page, invoice, "USDT")


def test_a_refusal_in_the_wallet_is_said_and_can_be_thought_over(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    invoice = town.invoice()
    wallet.refuse = {"eth_signTypedData_v4"}
    page = review(visit, invoice)
    press(page, "go")
    expect(trouble(page, "rejected")).to_contain_text("Nothing was paid")
    wallet.refuse = {"eth_requestAccounts"}
    press(page, "again")
    trouble(page, "rejected")
    wallet.refuse = {"eth_sendTransaction"}
    press(page, "again")
    press(page, "self")
    trouble(page, "rejected")
    assert (town.status(invoice), wallet.hashes) == ("open", [])
    wallet.refuse = set()
    press(page, "again")
    press(page, "self")
    step(page, "mined")
    check_booked(town, page, invoice, "USDT")


def test_a_wallet_on_another_chain_is_asked_to_switch_and_nothing_is_sent_on_the_other(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    invoice = coin_invoice(town)
    wallet.chain_id, wallet.refuse = OTHER_CHAIN, {"wallet_switchEthereumChain"}
    page = visit.open(f"/pay/{invoice.id}")
    press(page, "start-0")
    told = trouble(page, "chain")
    expect(told).to_contain_text("another chain: 1.")
    expect(told).to_contain_text("31337")
    wallet.refuse, wallet.knows_chain = set(), False
    press(page, "again")
    trouble(page, "chain.unknown")
    wallet.knows_chain = True
    press(page, "again")
    expect(page.locator("#wallet-go")).to_be_visible()
    assert wallet.chain_id == 31337
    # Its owner switches back while reading: a wallet sends on the chain that it is on.
    wallet.chain_id = OTHER_CHAIN
    press(page, "go")
    trouble(page, "chain")
    assert wallet.hashes == []
    press(page, "again")
    press(page, "go")
    step(page, "mined")
    check_booked(town, page, invoice, COIN_ASSET)


def approve(town: AnvilTown, wallet: PayerWallet, spender: bytes, amount: int) -> None:
    """An allowance from before, by the wallet's own transaction."""
    asked = {"from": wallet.account.address, "to": "0x" + town.token.hex(), "chainId": hex(wallet.chain_id),
             "value": "0x0", "data": "0x" + approve_call(spender, amount).hex()}  # fmt: skip
    town.city.outside.web3.eth.wait_for_transaction_receipt(HexStr(wallet._send([asked])), poll_latency=0.02)
    wallet.hashes.clear()


def approvals(wallet: PayerWallet) -> list[str]:
    """The data of the allowances that the page asked for, in order."""
    sent = [asked[0]["data"] for method, asked in wallet.asked if method == "eth_sendTransaction"]
    return [data for data in sent if data.startswith("0x095ea7b3")]


def test_a_token_that_changes_no_allowance_but_from_zero_is_asked_twice(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    router, invoice, real = town.city.plan.deployment.router, town.invoice(), wallet.node
    approve(town, wallet, router, 7)

    class Strict(type(real)):  # type: ignore[misc]
        """The same node, whose token refuses as USDT does on Ethereum."""

        def call(self, method: str, *parameters: Any) -> Any:
            if method == "eth_call" and parameters[0]["data"].startswith("0x095ea7b3"):
                raise RuntimeError("execution reverted")
            return real.call(method, *parameters)

    wallet.node = Strict(real.url, real.pid)
    page = review(visit, invoice)
    press(page, "self")
    step(page, "mined")
    assert approvals(wallet) == [
        "0x" + approve_call(router, amount).hex() for amount in (0, invoice.due_minor)
    ]
    check_booked(town, page, invoice, "USDT")


def test_an_allowance_that_is_there_already_is_not_asked_again(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    invoice = town.invoice()
    approve(town, wallet, town.city.plan.deployment.router, invoice.due_minor)
    page = review(visit, invoice)
    press(page, "self")
    step(page, "mined")
    assert (approvals(wallet), len(wallet.hashes)) == ([], 1)
    check_booked(town, page, invoice, "USDT")


def test_a_signature_that_the_gateway_does_not_bring_leaves_the_way_of_paying_oneself(
    visit: Visit, town: AnvilTown, wallet: PayerWallet, monkeypatch: pytest.MonkeyPatch
):
    relayer = town.city.gateway.relayer
    assert relayer is not None
    monkeypatch.setattr(relayer, "policy", Policy(a_day=0))
    invoice = town.invoice()
    page = review(visit, invoice)
    press(page, "go")
    # Said in the page's language; the raw reason is kept, small and marked as English.
    said = trouble(page, "quota")
    expect(page.locator("#copy-address")).to_be_visible()
    expect(said.locator("small[lang=en]")).to_contain_text("authorizations of this address")
    expect(page.locator("#wallet-buttons > *").first).to_have_id("wallet-self")
    press(page, "self")
    step(page, "mined")
    check_booked(town, page, invoice, "USDT")
    visit.trouble = [one for one in visit.trouble if "status of 429" not in one]


def test_a_transaction_that_the_chain_refused_is_said_to_have_moved_nothing(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    """Another payer of the same invoice was faster: the quote is used up."""
    invoice, router = town.invoice(), town.city.plan.deployment.router
    approve(town, wallet, router, invoice.due_minor)
    quote, signature = town.quote(invoice)
    had = town.city.city.balance(town.token, bytes.fromhex(wallet.account.address[2:]))
    page = review(visit, invoice)
    with town.unmined():
        press(page, "self")
        step(page, "sent")
        faster = {
            "type": 2, "chainId": wallet.chain_id, "to": Web3.to_checksum_address(router), "value": 0, "gas": 500_000,
            "data": router_call("pay", quote.words(), signature.r, signature.vs),
            "nonce": int(town.node.call("eth_getTransactionCount", town.payer.address, "pending"), 16),
            "maxFeePerGas": 10**12, "maxPriorityFeePerGas": 10**11,
        }  # fmt: skip
        raw = town.payer.sign_transaction(faster).raw_transaction
        town.node.call("eth_sendRawTransaction", Web3.to_hex(raw))
        town.mine()
    expect(trouble(page, "reverted")).to_contain_text("No money moved")
    assert town.city.city.balance(town.token, bytes.fromhex(wallet.account.address[2:])) == had
    town.finalise()
    look_again(page)
    expect(page.locator("#status")).to_have_text("Payment complete")


def test_too_little_money_is_said_with_both_numbers_before_anything_is_asked(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    dear = town.invoice(tiyn=10**12)
    page = visit.open(f"/pay/{dear.id}")
    press(page, "start-0")
    told = trouble(page, "poor")
    expect(told).to_contain_text("1,000,000.000000")
    # The token is there, the coin for the network's fee is not.
    invoice = town.invoice()
    town.node.call("anvil_setBalance", wallet.account.address, "0x1")
    page = review(visit, invoice)
    press(page, "self")
    trouble(page, "gas")
    assert wallet.hashes == []


def test_a_bill_that_ran_out_or_was_paid_meanwhile_is_not_paid_again(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    invoice = town.invoice()
    page = review(visit, invoice)
    town.pay(invoice)
    town.poll()
    press(page, "go")
    trouble(page, "expired")
    expect(page.locator("#status")).not_to_have_text("Waiting for payment")
    expect(page.locator("#wallet-trouble")).to_be_visible()
    bill = town.bill("USDT")
    page = review(visit, bill)
    town.wait(900 + 1)
    press(page, "go")
    trouble(page, "expired")
    expect(page.locator("#wallet-new")).to_have_attribute("href", "/fees/parking-year")
    # Without a press too: an open page finds out by itself, and says so.
    other = town.invoice()
    page = review(visit, other)
    town.pay(other)
    town.poll()
    trouble(page, "expired")
    expect(page.locator("#wallet-go")).to_have_count(0)
    assert not {"eth_signTypedData_v4", "eth_sendTransaction"} & set(wallet.methods())
    visit.trouble = [one for one in visit.trouble if "status of 422" not in one]


def test_an_offer_that_is_not_what_the_page_says_reaches_no_wallet(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    invoice = town.invoice()
    thief = "66" * 20

    def changed(change: Any) -> Any:
        def handle(route: Any) -> None:
            told = route.fetch().json()
            change(told)
            route.fulfill(json=told)

        return handle

    def to_thief(told: dict[str, Any]) -> None:
        told["pay"]["data"] = told["pay"]["data"].replace(invoice.payee.hex(), thief)

    def spender(told: dict[str, Any]) -> None:
        told["approve"]["data"] = approve_call(bytes.fromhex(thief), invoice.due_minor).hex()

    changes = {
        "to": lambda told: told["pay"].update(to="0x" + thief),
        "value": lambda told: told["pay"].update(value="0x1"),
        "quote": to_thief,
        "approve": spender,
        "amount": lambda told: told.update(amount=str(invoice.due_minor + 1)),
        "function": lambda told: told["pay"].update(data="0xffffffff" + told["pay"]["data"][10:]),
        "types": lambda told: told["signs"][0]["typed_data"]["types"]["ReceiveWithAuthorization"].pop(),
        "domain": lambda told: told["signs"][0]["typed_data"]["domain"].update(
            verifyingContract="0x" + thief
        ),
    }
    for what, change in changes.items():
        visit.page.route("**/wallet?payer=*", changed(change))
        page = visit.open(f"/pay/{invoice.id}")
        press(page, "start-0")
        expect(trouble(page, "differs")).to_contain_text(f"({what})")
        visit.page.unroute("**/wallet?payer=*")
    assert not {"eth_signTypedData_v4", "eth_sendTransaction"} & set(wallet.methods())


def test_who_loads_the_page_again_after_paying_is_told_that_something_was_sent(
    visit: Visit, town: AnvilTown, wallet: PayerWallet
):
    invoice = coin_invoice(town)
    page = review(visit, invoice)
    expect(page.locator("#copy-address")).to_be_visible()
    with town.unmined():
        press(page, "go")
        step(page, "sent")
        # It says not to pay again, and shows nowhere to pay to.
        expect(page.locator("#copy-address")).to_be_hidden()
        page.reload()
        step(page, "restored")
        # What became of it is not known here any more: it may have been dropped.
        expect(page.locator("#copy-address")).to_be_visible()
        expect(page.locator("#wallet-hash code")).to_have_text(wallet.hashes[0])
    town.mine()
    town.poll()
    check_booked(town, page, invoice, COIN_ASSET)


def test_without_a_wallet_the_page_stays_as_it_is(browser: Browser, town: AnvilTown, address: str):
    context = browser.new_context(locale="en-GB", viewport=DESKTOP)
    visit = Visit(context, address)
    page = visit.open(f"/pay/{town.invoice().id}")
    page.wait_for_load_state("networkidle")
    expect(page.locator("#wallet")).to_be_hidden()
    expect(page.locator("#copy-address")).to_be_visible()
    context.close()
    assert visit.trouble == []


def test_wallets_that_announce_themselves_are_named_and_work_by_keyboard(
    browser: Browser, town: AnvilTown, address: str, wallet: PayerWallet
):
    context = browser.new_context(locale="en-GB", viewport=DESKTOP)
    wallet.install(context, "Steppe Wallet", window=False)
    visit = Visit(context, address)
    invoice = town.invoice()
    page = visit.open(f"/pay/{invoice.id}")
    expect(page.locator("#wallet-start-0")).to_have_text("Pay with Steppe Wallet")
    page.locator("#wallet-start-0").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#wallet-go")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#wallet-self")).to_be_focused()
    page.keyboard.press("Enter")
    step(page, "mined")
    check_booked(town, page, invoice, "USDT")
    context.close()
    assert visit.trouble == []


@pytest.mark.parametrize(("language", "scheme"), [("kk", "light"), ("ru", "dark"), ("en", "light")])
def test_the_steps_fit_a_phone_and_are_for_everybody_in_each_language(
    browser: Browser, town: AnvilTown, address: str, wallet: PayerWallet, language: str, scheme: str
):
    context = browser.new_context(locale=language, viewport=PHONE, color_scheme=scheme)  # type: ignore[arg-type]
    wallet.install(context)
    visit = Visit(context, address)
    page = review(visit, town.invoice())
    check_fits(page)
    wallet.refuse = {"eth_signTypedData_v4"}
    press(page, "go")
    trouble(page, "rejected")
    check_fits(page)
    press(page, "again")
    press(page, "self")
    step(page, "mined")
    check_fits(page)
    assert "wallet." not in page.locator("#wallet").inner_text()
    # Eighteen decimals are more than a line.
    visit.open(f"/pay/{coin_invoice(town).id}")
    check_fits(page)
    context.close()
    assert visit.trouble == []


def check_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate(FAULTS) == []
    assert page.evaluate(CONTRAST) == []
