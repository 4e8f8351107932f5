"""The fee catalogue. SAMPLES: the list of 2026 was not found, so codes and coefficients are examples."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from gateway.kz import check_kbe, check_kbk, check_knp, fee_amount
from ledger.records import reject


@dataclass(frozen=True)
class Fee:
    """A fee: its codes, and its price in thousandths of the monthly index (MRP).

    names: by language. code: the revenue code (KBK).
    """

    id: str
    code: str
    knp: str
    kbe: str
    coefficient_thousandths: int
    names: dict[str, str]

    def tiyn(self, day: date) -> int:
        """What the fee costs on a day."""
        return fee_amount(self.coefficient_thousandths, day)


CATALOGUE = (
    Fee(
        "parking-year",
        "108125",
        "911",
        "11",
        2_000,
        {
            "kk": "Тұрғын аулада тұрақ, бір жыл (үлгі)",
            "ru": "Парковка во дворе, один год (пример)",
            "en": "Residential parking, one year (sample)",
        },
    ),
    Fee(
        "trade-permit",
        "105315",
        "911",
        "11",
        3_500,
        {
            "kk": "Көшпелі сауда рұқсаты (үлгі)",
            "ru": "Разрешение на выездную торговлю (пример)",
            "en": "Mobile trade permit (sample)",
        },
    ),
    Fee(
        "sign-board",
        "105429",
        "911",
        "11",
        1_000,
        {
            "kk": "Маңдайша жазуын орналастыру (үлгі)",
            "ru": "Размещение вывески (пример)",
            "en": "Placing a sign board (sample)",
        },
    ),
)

for _fee in CATALOGUE:
    check_kbk(_fee.code)
    check_knp(_fee.knp)
    check_kbe(_fee.kbe)


def fee(id: str) -> Fee:
    """The fee with this id."""
    found = next((one for one in CATALOGUE if one.id == id), None)
    return found or reject("not_found", "fee", f"no fee is called {id[:40]!a}")
