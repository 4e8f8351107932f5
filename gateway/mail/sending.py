"""Sends the letters that are due: each is tried again, later each time, until the server says it took it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Final

from gateway.db import Engine
from gateway.mail import letters, store
from gateway.mail.smtp import Connection, Post, Refused, parse_server
from gateway.mail.store import Letter
from gateway.settings import Mode, Settings
from gateway.webhooks.deliver import Clock
from ledger.records import Invalid, Unavailable, reject

LOGGER = logging.getLogger(__name__)
AT_ONCE: Final = 20
# Longer than a connection may last: nobody else sends the same letter meanwhile.
LEASE_S: Final = 180
SERVER_AWAY_S: Final = 30
# A change holds after 48 hours: most attempts are made long before, and the last one after.
WAITS_S: Final = (60, 120, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400)
_ADDRESS: Final = re.compile(r"[!-?A-~]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


@dataclass(frozen=True)
class Mailer:
    """Sends what is due. sender: the From of each letter; public_url: where a merchant signs in."""

    engine: Engine
    post: Post
    sender: str
    public_url: str
    clock: Clock

    def step(self) -> int:
        """Send at most 20 letters over one connection; returns how many the server took.

        It is noted after the server said so. Whoever dies between sends it again: with its old Message-ID.
        """
        with self.engine.begin() as connection:
            claimed = store.claim(connection, self.clock(), LEASE_S, AT_ONCE)
        if not claimed:
            return 0
        rest = list(claimed)
        try:
            with self.post.connect() as opened:
                return self._send(opened, rest)
        except Unavailable:
            LOGGER.info("%d letters wait", len(rest))
            raise
        finally:
            # Those that nobody was asked to take, whatever happened.
            with self.engine.begin() as connection:
                store.put_back(connection, rest, self.clock() + SERVER_AWAY_S)

    def _send(self, opened: Connection, rest: list[Letter]) -> int:
        """Send from the front of the list, and take from it what was tried."""
        taken = 0
        while rest:
            letter = rest.pop(0)
            why = self._try(opened, letter)
            with self.engine.begin() as connection:
                now = self.clock()
                if why is None:
                    store.sent(connection, letter, now)
                    taken += 1
                else:
                    store.failed(connection, letter, why, due_after(letter.attempt, now), now)
            if why is not None:
                LOGGER.warning("letter %s, attempt %d: %s", letter.id, letter.attempt, why)
                if not opened.is_open:
                    break
        return taken

    def _try(self, opened: Connection, letter: Letter) -> str | None:
        """Hand one letter over; returns why it was not taken."""
        try:
            made = letters.message(letter, self.sender, self.public_url)
            opened.send(made, parseaddr(self.sender)[1], letter.recipient)
        except (Refused, Invalid) as error:
            return str(error)
        return None


def due_after(attempt: int, now: int) -> int | None:
    """When to try again after the n-th attempt failed; None: never."""
    # No code is final: a server says 550 also where it is set up wrongly, and a letter guards money.
    return None if attempt > len(WAITS_S) else now + WAITS_S[attempt - 1]


def mailer_of(settings: Settings, engine: Engine, clock: Clock) -> Mailer | None:
    """The mailer of the settings; None where they name no server: then letters wait, and are counted."""
    url, sender = settings.smtp_url.get_secret_value(), settings.mail_from
    if not url:
        return None
    server = parse_server(url)
    if not sender.isascii() or not _ADDRESS.fullmatch(parseaddr(sender)[1]) or not sender.isprintable():
        reject("settings", "QAZYNA_MAIL_FROM", "the address that letters come from, like office@city.example")
    post = Post(server, is_strict=settings.mode is Mode.PRODUCTION)
    return Mailer(engine, post, sender, settings.public_url, clock)
