"""One Chromium for all tests of pages, in a worker; each test has a context of its own in it.

Chromium is found in CHROMIUM, in var/chromium (from npm, by `make setup-test`), or on the PATH. Without it
these tests fail: a page that no browser has opened proves nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.servers import ROOT

UNPACKED = ROOT / "var" / "chromium"
# What is expected is waited for; this is only there so that a hang ends.
SOON_MS = 60_000
expect.set_options(timeout=SOON_MS)


def chromium() -> str:
    """The path of a Chromium; raises and says what was tried."""
    named = os.environ.get("CHROMIUM")
    tried = [named] if named else [str(UNPACKED / "chromium"), "chromium", "chromium-browser"]
    for name in tried:
        if found := shutil.which(name):
            return found
    raise RuntimeError(
        f"no Chromium to open the pages with; run `make setup-test` or set CHROMIUM (tried {tried})"
    )


# Not longer than the package: while it runs, no other test of the process can run a loop of its own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    # A container's root cannot use Chromium's own sandbox; nothing but our loopback pages is opened.
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        # The unpacked one brings the libraries that a bare machine lacks.
        libraries = {"LD_LIBRARY_PATH": str(UNPACKED / "lib")} if chromium().startswith(str(UNPACKED)) else {}
        environment = {**os.environ, **libraries}
        opened = playwright.chromium.launch(executable_path=chromium(), args=options, env=environment)
        yield opened
        opened.close()
