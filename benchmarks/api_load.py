"""A program that asks an endpoint as fast as it answers: python -m benchmarks.api_load PORT SECONDS FILE.

Plain sockets, so that little of the machine goes to asking. FILE: one Authorization header a line, one for
each client. Prints one JSON object: requests a second, and latencies in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from pathlib import Path
from statistics import quantiles


async def _client(port: int, bearer: str, until: float, took: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number, mine = 0, secrets.token_hex(6)
    while time.perf_counter() < until:
        number += 1
        body = json.dumps(
            {"amount": "1250000", "asset": "USDT", "reference": f"{mine}-{number}", "title": "Tea for two"}
        ).encode()
        head = (
            f"POST /v1/invoices HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {bearer}\r\n"
            f"Idempotency-Key: {mine}-{number}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        start = time.perf_counter()
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        took.append(1_000 * (time.perf_counter() - start))
        if not answer.startswith(b"HTTP/1.1 201"):
            raise RuntimeError((answer + content).decode())
    writer.close()


async def _all(port: int, seconds: float, bearers: list[str]) -> None:
    took: list[float] = []
    start = time.perf_counter()
    await asyncio.gather(*(_client(port, bearer, start + seconds, took) for bearer in bearers))
    passed = time.perf_counter() - start
    cuts = quantiles(took, n=100)
    told = {"per_s": len(took) / passed, "median_ms": cuts[49], "p99_ms": cuts[98], "n": len(took)}
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(_all(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]).read_text().splitlines()))
