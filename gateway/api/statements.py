"""Statements: the routes."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response

from gateway.api.auth import gate
from gateway.api.paging import After, gateway_of, next_of, place
from gateway.api.route import Route
from gateway.api.schemas import AccountAnswer, AccountLine, AccountSums, Statement, StatementLine
from gateway.merchants.roles import Caller
from gateway.merchants.statements import account as accounts
from gateway.merchants.statements import service
from gateway.merchants.statements.account import Account

router = APIRouter(prefix="/v1", route_class=Route, tags=["statements"])
Reader = Annotated[Caller, Depends(gate("statements.read"))]
Second = Annotated[int | None, Query(ge=0, lt=1 << 45, examples=[1_790_000_000])]
Rows = Annotated[int, Query(ge=1, le=service.ROWS_MOST, description="how many lines a page has")]
DAYS_S = 31 * 86_400


def _interval(now: int, since_s: int | None, until_s: int | None) -> tuple[int, int]:
    until = now + 1 if until_s is None else until_s
    return (max(until - DAYS_S, 0) if since_s is None else since_s), until


@router.get("/statements")
def statement(
    request: Request,
    caller: Reader,
    since_s: Second = None,
    until_s: Second = None,
    after: After = None,
    limit: Rows = 200,
) -> Statement:
    """What was final from since_s on and before until_s, oldest first; by default the last 31 days."""
    gateway = gateway_of(request)
    since, until = _interval(gateway.clock(), since_s, until_s)
    start = place(after, (-1, ""))
    found = service.page(gateway.engine, str(caller.merchant_id), since, until, start, limit)
    rows = [(line.noted_s, line.key) for line in found]
    lines = [StatementLine(**service.as_row(line)) for line in found]
    return Statement(since_s=since, until_s=until, lines=lines, next=next_of(rows, limit))


@router.get("/statements.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
def statement_csv(
    request: Request,
    caller: Reader,
    since_s: Second = None,
    until_s: Second = None,
    after: After = None,
    limit: Rows = service.ROWS_MOST,
) -> Response:
    """The same lines as CSV; where there are more, the Link header names the page after (RFC 8288)."""
    gateway = gateway_of(request)
    since, until = _interval(gateway.clock(), since_s, until_s)
    start = place(after, (-1, ""))
    found = service.page(gateway.engine, str(caller.merchant_id), since, until, start, limit)
    headers = {"Content-Disposition": 'attachment; filename="statement.csv"', "Cache-Control": "no-store"}
    following = next_of([(line.noted_s, line.key) for line in found], limit)
    if following is not None:
        asked = {"since_s": since, "until_s": until, "after": following, "limit": limit}
        headers["Link"] = f'</v1/statements.csv?{urlencode(asked)}>; rel="next"'
    return Response(service.as_csv(found), headers=headers, media_type="text/csv; charset=utf-8")


def _account(
    request: Request, caller: Caller, since_s: int | None, until_s: int | None, after: str | None, limit: int
) -> tuple[Account, str | None]:
    gateway = gateway_of(request)
    since, until = _interval(gateway.clock(), since_s, until_s)
    start = place(after, (-1, ""))
    told = accounts.account(gateway.engine, str(caller.merchant_id), since, until, start, limit)
    last = told.lines[-1].moved if told.has_more else None
    return told, None if last is None else f"{last.at_s} {last.id}"


@router.get("/statements/account")
def account(
    request: Request,
    caller: Reader,
    since_s: Second = None,
    until_s: Second = None,
    after: After = None,
    limit: Rows = 200,
) -> AccountAnswer:
    """Opening balance, payments, the city's share, refunds, settlements, corrections, closing balance.

    Of each asset, from since_s on and before until_s; by default the last 31 days. It adds up, to the unit.
    """
    told, following = _account(request, caller, since_s, until_s, after, limit)
    return AccountAnswer(
        since_s=told.since_s,
        until_s=told.until_s,
        assets=[AccountSums(**one.as_text()) for one in told.sums],
        lines=[AccountLine(**line.as_text()) for line in told.lines],
        next=following,
    )


@router.get(
    "/statements/account.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}}
)
def account_csv(
    request: Request,
    caller: Reader,
    since_s: Second = None,
    until_s: Second = None,
    after: After = None,
    limit: Rows = accounts.ROWS_MOST,
) -> Response:
    """The same as CSV: openings, lines, closings; the Link header names the page after (RFC 8288)."""
    told, following = _account(request, caller, since_s, until_s, after, limit)
    headers = {"Content-Disposition": 'attachment; filename="account.csv"', "Cache-Control": "no-store"}
    if following is not None:
        asked = {"since_s": told.since_s, "until_s": told.until_s, "after": following, "limit": limit}
        headers["Link"] = f'</v1/statements/account.csv?{urlencode(asked)}>; rel="next"'
    return Response(accounts.as_csv(told), headers=headers, media_type="text/csv; charset=utf-8")
