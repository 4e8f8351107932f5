"""Pages of lists by keyset: what comes after the last row seen, however many there are (field failure 53)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Query, Request

from ledger.records import reject

if TYPE_CHECKING:
    from gateway.app import Gateway

PAGE_ROWS: Final = 50
END_OF_TIME: Final = 1 << 62
Limit = Annotated[int, Query(ge=1, le=200, description="how many rows a page has")]
After = Annotated[
    str | None, Query(max_length=300, description="`next` of the page before", examples=["1790000000 m_01"])
]
_WORD = re.compile("[0-9A-Za-z_:-]{1,80}")


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves a request."""
    found: Gateway = request.app.state.gateway
    return found


def word(id: str, what: str) -> str:
    """An id as it may be asked for in the database; what no id looks like is not there."""
    if not _WORD.fullmatch(id):
        reject("not_found", what, f"no {what} is called {id[:40]!a}")
    return id


def place(after: str | None, start: tuple[int, str]) -> tuple[int, str]:
    """The row that `after` names: a second, a space, and a key."""
    if after is None:
        return start
    second, _, key = after.partition(" ")
    if not re.fullmatch("[0-9]{1,15}", second) or not key.isprintable() or not key.isascii():
        reject("page", "after", "this is no `next` of a page")
    return int(second), key


def next_of(rows: list[tuple[int, str]], most: int) -> str | None:
    """Where the page after begins; None where this one was the last."""
    return f"{rows[-1][0]} {rows[-1][1]}" if len(rows) == most else None
