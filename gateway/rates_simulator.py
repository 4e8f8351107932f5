"""Both kinds of rate source on loopback, for the demo and the tests: real formats, real misbehaviour.

It is no part of a live gateway.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from typing_extensions import override

from gateway.kz import business_date


class Misbehaviour(Enum):
    """What a source does wrong."""

    ERROR_PAGE_WITH_200 = auto()
    STATUS_500 = auto()
    STALE = auto()
    TEN_TIMES_TOO_HIGH = auto()
    TIME_OUT = auto()
    NUMBER_INSTEAD_OF_STRING = auto()
    ENDLESS = auto()


_ERROR_PAGE = (
    b"<!DOCTYPE html><html><head><title>Error</title></head><body>Service is unavailable<br></body></html>"
)


class RatesSimulator:
    """A National Bank and any number of exchanges behind one loopback port.

    official: currency to (price in tenge, quant); exchanges: name to {symbol: price}. `misbehaves` maps
    "nationalbank" or an exchange's name to what it does wrong from now on.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        official: dict[str, tuple[Decimal, int]],
        exchanges: dict[str, dict[str, Decimal]],
    ) -> None:
        self.clock = clock
        self.official = official
        self.exchanges = exchanges
        self.misbehaves: dict[str, Misbehaviour] = {}
        # Days for which nothing was set; and whether it is after 15:30, when the feed is of tomorrow.
        self.holidays: set[date] = set()
        self.sets_for_tomorrow = False
        self._stopped = threading.Event()
        simulator = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                simulator._answer(self)

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Keep the console quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def _root(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def daily_url(self) -> str:
        """Where get_rates.cfm is."""
        return f"{self._root}/rss/get_rates.cfm"

    @property
    def feed_url(self) -> str:
        """Where rates_all.xml is."""
        return f"{self._root}/rss/rates_all.xml"

    def exchange_url(self, name: str) -> str:
        """Where an exchange answers."""
        return f"{self._root}/exchange/{name}/price"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        folder, _, rest = parts.path.strip("/").partition("/")
        name = "nationalbank" if folder == "rss" else rest.partition("/")[0]
        wrong = self.misbehaves.get(name)
        if wrong is Misbehaviour.TIME_OUT:
            self._stopped.wait(30)
            return
        status, kind, body = 200, "text/html", _ERROR_PAGE
        if wrong is Misbehaviour.ENDLESS:
            body = b"<rates>" + b" " * (2 * 1024 * 1024)
        elif wrong is Misbehaviour.ERROR_PAGE_WITH_200:
            pass
        elif parts.path == "/rss/get_rates.cfm":
            kind, body = "text/xml", self._daily(query.get("fdate", ""), wrong)
        elif parts.path == "/rss/rates_all.xml":
            kind, body = "text/xml", self._feed(wrong)
        elif folder == "exchange" and query.get("symbol", "") in self.exchanges.get(name, {}):
            kind, body = "application/json", self._price(name, query["symbol"], wrong)
        else:
            status = 404
        if wrong is Misbehaviour.STATUS_500:
            status = 500  # With the usual body: only the status says that it does not count.
        try:
            request.send_response(status)
            request.send_header("Content-Type", kind)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
        except ConnectionError:
            # The client hung up, as it should on an endless answer.
            return

    def _items(self, wrong: Misbehaviour | None, dated: str) -> str:
        factor = 10 if wrong is Misbehaviour.TEN_TIMES_TOO_HIGH else 1
        return "".join(
            f"<item><fullname>{escape(currency)}</fullname><title>{escape(currency)}</title>{dated}"
            f"<description>{price * factor}</description><quant>{quant}</quant>"
            "<index></index><change>0.00</change></item>"
            for currency, (price, quant) in self.official.items()
        )

    def _daily(self, asked: str, wrong: Misbehaviour | None) -> bytes:
        day = asked
        if wrong is Misbehaviour.STALE:
            day = f"{business_date(self.clock()) - timedelta(days=9):%d.%m.%Y}"
        head = f'<?xml version="1.0" encoding="utf-8"?><rates><date>{day}</date>'
        if day in {f"{holiday:%d.%m.%Y}" for holiday in self.holidays}:
            return f"{head}</rates>".encode()
        return f"{head}{self._items(wrong, '')}</rates>".encode()

    def _feed(self, wrong: Misbehaviour | None) -> bytes:
        old = 9 if wrong is Misbehaviour.STALE else 0
        day = business_date(self.clock()) - timedelta(days=old) + timedelta(days=self.sets_for_tomorrow)
        items = self._items(wrong, f"<pubDate>{day:%d.%m.%y}</pubDate>")
        head = '<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><title>Official</title>'
        return f"{head}{items}</channel></rss>".encode()

    def _price(self, name: str, symbol: str, wrong: Misbehaviour | None) -> bytes:
        price = self.exchanges[name][symbol] * (10 if wrong is Misbehaviour.TEN_TIMES_TOO_HIGH else 1)
        time_s = self.clock() - (86_400 if wrong is Misbehaviour.STALE else 0)
        stated: object = f"{price:f}"
        if wrong is Misbehaviour.NUMBER_INSTEAD_OF_STRING:
            stated = float(price)
        return json.dumps({"symbol": symbol, "price": stated, "time": time_s}).encode()
