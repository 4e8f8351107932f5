"""python -m benchmarks [--only PREFIX,...] [--long]: measures, and prints one JSON object a line."""

from __future__ import annotations

import argparse
import importlib
import sys

# Each module has measure(wanted, is_long); the prefix of its names decides whether it is loaded at all.
MODULES = {
    "append": ("ledger.append.", "reference."),
    "growth": ("ledger.append.at_", "ledger.receipt.", "ledger.start", "ledger.memory."),
    "waiting": ("ledger.append.p99",),
    "replay": ("ledger.replay",),
    "audits": ("ledger.audit.",),
    "hordak": ("reference.hordak",),
    "chain": ("gas.",),
    "api": ("api.invoice.create",),
    "api_list": ("api.invoice.list",),
    "webhooks": ("webhooks.",),
    "evm": ("evm.",),
}


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--only", default="", help="the beginnings of the names to measure, between commas")
    parser.add_argument(
        "--long", action="store_true", help="up to 10,000,000 records: ten minutes and more, 20 GB of disk"
    )
    options = parser.parse_args()
    beginnings = tuple(str(options.only).split(","))

    def wanted(name: str) -> bool:
        return any(name.startswith(only) or only.startswith(name) for only in beginnings)

    for module, prefixes in MODULES.items():
        if not any(wanted(prefix) for prefix in prefixes):
            continue
        found = importlib.import_module(f"benchmarks.{module}").measure(wanted, is_long=options.long)
        for result in found:
            if result.name.startswith(beginnings):
                sys.stdout.write(result.line() + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
