"""The payer of a sample city: does from outside what a person would do with a bank or an exchange."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path

from web3 import Web3

from contracts.bindings import City
from gateway.db import engine, reading
from gateway.embedded import Clock, Keys
from gateway.payments import store
from gateway.plan import Plan
from gateway.rails.tenge.simulator import Bank, Transfer
from ledger.records import reject
from ledger.rules import TENGE


def pay_sample(folder: Path, id: str, rpc_url: str) -> str:
    """Pay an invoice of the sample city in a folder; tells what was done.

    id: its id, or the whole address of its page, as people copy it.
    """
    id = id.partition("?")[0].rstrip("/").rpartition("/")[2]
    if not (folder / "plan.json").exists():
        reject("not_found", str(folder), "there is no sample city; make one with `qazyna demo`")
    opened = engine(f"sqlite:///{(folder / 'qazyna.db').resolve()}")
    try:
        with reading(opened) as connection:
            invoice = store.invoice(connection, id)
    finally:
        opened.dispose()
    if invoice is None:
        reject("not_found", "invoice", f"no invoice is called {id[:40]!a}")
    plan = Plan.load(folder / "plan.json")
    if invoice.asset == TENGE:
        bank = Bank(Clock.load(folder))
        bank.adopt(plan.bank_iban, time.time_ns() // 1_000)
        bank.receive(plan.bank_iban, Transfer(invoice.due_minor, f"ref {invoice.reference}", "A Resident"))
        for content in bank.collect():
            place = folder / "bank" / f".{sha256(content).hexdigest()[:16]}"
            place.write_bytes(content)
            place.replace(place.with_name(f"{place.name[1:]}.xml"))
        return f"the bank's camt.054 of {invoice.due_minor} tiyn is in {folder / 'bank'}"
    assert invoice.deposit_address is not None
    keys = Keys(folder / "keys.json")
    city = City(Web3(Web3.HTTPProvider(rpc_url)), plan.deployment)
    city.mint(keys.account("deployer"), plan.token, keys.address("payer"), invoice.due_minor)
    city.transfer(keys.account("payer"), plan.token, invoice.deposit_address, invoice.due_minor)
    return f"{invoice.due_minor} base units were sent to 0x{invoice.deposit_address.hex()}"
