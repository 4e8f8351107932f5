"""A merchant's statement: what it began with, what moved, what is left; and its payments as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from itertools import islice
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from gateway.api.auth import gate
from gateway.api.paging import place
from gateway.kz import business_date, day_start_s
from gateway.merchants.roles import Caller
from gateway.merchants.statements import account as accounts
from gateway.merchants.statements import service as statements
from gateway.merchants.statements.store import Entry
from gateway.pages.merchant import shown
from gateway.pages.render import gateway_of
from gateway.pages.session import PageRoute
from ledger.records import reject

router = APIRouter(route_class=PageRoute, include_in_schema=False)
DAY_S: Final = 86_400
ROWS: Final = 100
Reader = Annotated[Caller, Depends(gate("statements.read"))]


@router.get("/merchant/statement")
def statement(
    request: Request, caller: Reader, first: str = "", last: str = "", after: str | None = None
) -> HTMLResponse:
    """From the first day to the last, both whole, in Almaty; by default this month so far."""
    gateway = gateway_of(request)
    begins, ends = _days(gateway.clock(), first, last)
    owner, start = str(caller.merchant_id), place(after, (-1, ""))
    told = accounts.account(gateway.engine, owner, *_seconds(begins, ends), start, ROWS)
    moved = told.lines[-1].moved if told.has_more else None
    before = begins.replace(day=1) - timedelta(days=1)
    return shown(
        request,
        "merchant_statement.html",
        told=told,
        first=begins.isoformat(),
        last=ends.isoformat(),
        month_before=(before.replace(day=1), before),
        parts=list(zip(accounts.PARTS, accounts.SUMS, strict=True)),
        decimals={one.asset: gateway.view.decimals(one.asset) for one in told.sums},
        next=None if moved is None else f"{moved.at_s} {moved.id}",
    )


@router.get("/merchant/statement.csv")
def payments_csv(request: Request, caller: Reader, first: str = "", last: str = "") -> Response:
    """The payments that became final in these days, as CSV; by default of this month so far."""
    gateway = gateway_of(request)
    begins, ends = _days(gateway.clock(), first, last)
    lines = statements.lines(gateway.engine, str(caller.merchant_id), *_seconds(begins, ends))
    name = f"payments-{begins}-{ends}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_csv(lines), media_type="text/csv; charset=utf-8", headers=headers)


def _csv(lines: Iterator[Entry]) -> Iterator[str]:
    """The heading, then lines a page at a time: a month may have more than a memory."""
    heading = statements.as_csv([])
    yield heading
    while found := list(islice(lines, statements.ROWS_MOST)):
        yield statements.as_csv(found).removeprefix(heading)


def _days(now: int, first: str, last: str) -> tuple[date, date]:
    today = business_date(now)
    begins = _day(first, "first") if first else today.replace(day=1)
    ends = _day(last, "last") if last else today
    if ends < begins:
        reject("schema", "last", f"the last day is {ends}, the first {begins}")
    return begins, ends


def _seconds(begins: date, ends: date) -> tuple[int, int]:
    return day_start_s(begins), day_start_s(ends) + DAY_S


def _day(text: str, where: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        reject("schema", where, "a day is written as 2026-09-30")
    if not 2000 <= found.year < 2100:
        reject("schema", where, f"a day is of 2000 to 2099, this of {found.year}")
    return found
