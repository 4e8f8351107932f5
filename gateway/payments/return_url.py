"""Where a payer goes back to: an address that stands on our page as a link, and that nobody here fetches."""

from __future__ import annotations

import re
from typing import Final

from ledger.records import reject

RETURN_URL_MOST: Final = 2_000
# https alone, so no script and no file; a name without user or password before it, that could look like the
# host; then what RFC 3986 lets stand, without the backslash that browsers read as a slash. ASCII: a name in
# other letters is written as it is looked up, and looks like no other.
RETURN_URL_PATTERN: Final = (
    r"^https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?([/?#][!#-;=?-\[\]_a-z~]*)?$"
)
_RETURN_URL = re.compile(RETURN_URL_PATTERN.removesuffix("$"))
_HOST = re.compile("https://([^/?#]+)")


def check_return_url(url: str) -> None:
    """Refuse what is no plain https address of at most 2,000 characters."""
    if len(url) > RETURN_URL_MOST:
        reject("url", "return_url", f"it has {len(url)} characters, {RETURN_URL_MOST} is the most")
    if not _RETURN_URL.fullmatch(url):
        reject(
            "url", "return_url", "it is written https://NAME/..., without user, password, space or backslash"
        )


def host_of(url: str) -> str:
    """The host of a return address, and its port where one is named: what a person reads before the click."""
    found = _HOST.match(url)
    assert found is not None
    return found[1]
