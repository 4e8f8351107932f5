"""What an operator does: the queue of money that belongs to no invoice."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from gateway.api.answers import unmatched_money
from gateway.api.auth import gate
from gateway.api.paging import PAGE_ROWS, After, Limit, gateway_of, next_of, place
from gateway.api.route import Route
from gateway.api.schemas import Unmatched, UnreadFile
from gateway.db import reading
from gateway.merchants.roles import Caller
from gateway.payments import store

router = APIRouter(prefix="/v1", route_class=Route, tags=["operators"])


@router.get("/unmatched")
def unmatched(
    request: Request,
    caller: Annotated[Caller, Depends(gate("unmatched.read"))],
    after: After = None,
    limit: Limit = PAGE_ROWS,
) -> Unmatched:
    """Money that a person must decide about, oldest first, and files of the bank that were refused."""
    with reading(gateway_of(request).engine) as connection:
        found = store.unmatched(connection, place(after, (0, "")), limit)
        files = store.unread_files(connection)
    return Unmatched(
        money=[unmatched_money(piece) for piece in found],
        files=[UnreadFile(name=name, problem=problem, read_s=read_s) for name, problem, read_s in files],
        next=next_of([(piece.seen_s, piece.key) for piece in found], limit),
    )
