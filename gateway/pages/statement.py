"""The page of a merchant's statement: what it began with, what moved, what is left, for each asset."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from gateway.api.auth import gate
from gateway.api.paging import place
from gateway.kz import business_date, day_start_s
from gateway.merchants.roles import Caller
from gateway.merchants.statements import account as accounts
from gateway.pages.merchant import shown
from gateway.pages.render import gateway_of
from gateway.pages.session import PageRoute
from ledger.records import reject

router = APIRouter(route_class=PageRoute, include_in_schema=False)
DAY_S: Final = 86_400
ROWS: Final = 100


@router.get("/merchant/statement")
def statement(
    request: Request,
    caller: Annotated[Caller, Depends(gate("statements.read"))],
    first: str = "",
    last: str = "",
    after: str | None = None,
) -> HTMLResponse:
    """From the first day to the last, both whole, in Almaty; by default this month so far."""
    gateway = gateway_of(request)
    today = business_date(gateway.clock())
    begins = _day(first, "first") if first else today.replace(day=1)
    ends = _day(last, "last") if last else today
    since_s, until_s = day_start_s(begins), day_start_s(ends) + DAY_S
    owner = str(caller.merchant_id)
    told = accounts.account(gateway.engine, owner, since_s, until_s, place(after, (-1, "")), ROWS)
    moved = told.lines[-1].moved if told.has_more else None
    return shown(
        request,
        "merchant_statement.html",
        told=told,
        first=begins.isoformat(),
        last=ends.isoformat(),
        parts=list(zip(accounts.PARTS, accounts.SUMS, strict=True)),
        decimals={one.asset: gateway.view.decimals(one.asset) for one in told.sums},
        next=None if moved is None else f"{moved.at_s} {moved.id}",
    )


def _day(text: str, where: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        reject("schema", where, "a day is written as 2026-09-30")
    if not 2000 <= found.year < 2100:
        reject("schema", where, f"a day is of 2000 to 2099, this of {found.year}")
    return found
