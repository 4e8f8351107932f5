"""A small city for the tests of its pages: real parts, served over HTTP, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from gateway.demo import (
    ORDER_UNITS,
    START_S,
    Day,
    give_notice,
    load_projects,
    open_city,
    pay_fee,
    serving,
    spend,
    take_payments,
)
from gateway.embedded import Clock, EmbeddedCity
from gateway.rails.tenge.simulator import Transfer

PAYER_IBAN = "KZ86125KZT5004100100"


@dataclass
class PageCity:
    """A served city. bill: an invoice that was paid, recorded and anchored."""

    day: Day
    address: str
    http: httpx.Client
    bill: str

    @property
    def city(self) -> EmbeddedCity:
        """Its parts."""
        return self.day.city

    def get(self, path: str, language: str = "en", **headers: str) -> httpx.Response:
        """A page, as a browser asks for it."""
        asked = {"Accept": "text/html", "Accept-Language": language} | headers
        return self.http.get(path, headers=asked)

    def new_bill(self, asset: str, fee: str = "parking-year") -> str:
        """Make a bill through the form; answers the invoice."""
        answer = self.http.post(f"/fees/{fee}", data={"asset": asset}, headers={"Accept": "text/html"})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"].removeprefix("/pay/")

    def pay_tenge(self, invoice: str) -> None:
        """A bank transfer comes in, is booked and made public."""
        bill, derived, _ = self.city.gateway.payments.look(invoice)
        self.city.outside.bank.receive(
            self.city.plan.bank_iban,
            Transfer(derived.missing_minor, f"Fee {bill.reference}", "A Resident", PAYER_IBAN),
        )
        self.city.take_bank_files()
        self.city.worker.poll_bank()
        self.city.worker.record()
        self.day.publish()

    def pay_tokens(self, invoice: str, amount: int) -> None:
        """A plain transfer to the invoice's address, as an exchange makes it; one block deep."""
        city, keys = self.city.city, self.city.keys
        address = self.city.gateway.payments.look(invoice)[0].deposit_address
        assert address is not None
        token = self.city.plan.token
        city.mint(keys.account("deployer"), token, keys.address("payer"), amount)
        city.transfer(keys.account("payer"), token, address, amount)
        self.city.worker.poll_chain()

    def settle(self) -> None:
        """Blocks pass; what stands on the chain becomes final, is flushed, recorded and made public."""
        for _ in range(2):
            self.city.outside.mine(3)
            self.city.worker.round()
        self.city.outside.mine(3)
        self.city.worker.poll_chain()


@contextmanager
def page_city(folder: Path) -> Iterator[PageCity]:
    """Open a city, load its projects, take payments, spend some, and serve it."""
    with EmbeddedCity(folder, Clock(START_S)) as city:
        day = open_city(city, lambda _: None)
        load_projects(day)
        give_notice(day)
        with serving(city) as address, httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
            take_payments(day, http)
            pay_fee(day, http)
            spend(day)
            found = PageCity(day, address, http, (folder / "bill.txt").read_text())
            found.settle()
            yield found


__all__ = ["ORDER_UNITS", "PageCity", "page_city"]
