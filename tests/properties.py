"""The long count of the properties: how many examples each has, and that each really had them.

Loaded with HYPOTHESIS_PROFILE=prove, for `make prove ONLY=hypothesis`. A property is split into parts
with seeds of their own, so that all cores work on one and none remembers more than its part.
"""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import seed, settings

PART = 10_000
TRUTH, OTHER = 100_000, 10_000

# The files whose properties need no node, no database, no browser, and how often each is tried:
# what says that a ledger is valid has 100,000.
COUNTS = {
    "tests/ledger/test_rules.py": TRUTH,
    "tests/ledger/test_fast.py": TRUTH,
    "tests/ledger/test_audit_bytes.py": TRUTH,
    "tests/ledger/test_tree.py": TRUTH,
    "tests/ledger/test_tiles.py": TRUTH,
    "tests/ledger/test_note.py": TRUTH,
    "tests/ledger/test_records.py": TRUTH,
    "tests/ledger/test_audit_rates.py": TRUTH,
    "tests/ledger/test_standing.py": OTHER,
    "tests/contracts/test_sign.py": OTHER,
    "tests/gateway/test_camt.py": OTHER,
    "tests/gateway/test_client.py": OTHER,
    "tests/gateway/test_kz.py": OTHER,
    "tests/gateway/test_pages.py": OTHER,
    "tests/gateway/test_pages_over_time.py": OTHER,
    "tests/gateway/test_payments_model.py": OTHER,
    "tests/gateway/test_policy.py": OTHER,
    "tests/gateway/test_rates.py": OTHER,
    "tests/gateway/test_settlements.py": OTHER,
    "tests/gateway/test_webhooks.py": OTHER,
}
# What has properties too and is not in the long count, and why.
ELSEWHERE = {
    "tests/ledger/test_store.py": "each example writes two databases and waits for the disk",
    "tests/contracts/test_devchain.py": "each example asks an EVM",
    "tests/contracts/test_differential.py": "asks a node; `make prove ONLY=differential`",
    "tests/gateway/test_api.py": "each example is a request to a server with a database",
    "tests/gateway/test_openapi.py": "asks a server; `make prove ONLY=api`",
    "tests/gateway/test_rate_desk.py": "each example asks sources over HTTP and writes a ledger",
    "tests/gateway/test_statement_account.py": "each example is a town's history, read over HTTP",
    "tests/gateway/test_payment_machine.py": "writes databases; `make prove ONLY=payments`",
}
# For trying the row itself: fewer examples of each.
SHARE = int(os.environ.get("QAZYNA_PROPERTY_EXAMPLES", "0"))


def _count(item_path: str) -> int:
    return min(SHARE or TRUTH, COUNTS[item_path])


def _path(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@pytest.fixture
def property_part(request: pytest.FixtureRequest) -> int:
    """Which part of a property's examples this is; asked for by no test, given to each property."""
    return int(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each property as many parts as its examples need."""
    path = _path(metafunc.definition.nodeid)
    if path in COUNTS and hasattr(metafunc.function, "hypothesis"):
        metafunc.fixturenames.append("property_part")
        metafunc.parametrize("property_part", range(-(-_count(path) // PART)), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out whatever is no property of these files."""
    kept = [item for item in items if hasattr(item, "callspec") and "property_part" in item.callspec.params]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: Any) -> Generator[None, Any, Any]:
    """Give this part its number of examples and a seed, and count those that came to the test's end."""
    test, wanted = item.obj, min(PART, _count(_path(item.nodeid)))
    own, inner = test._hypothesis_internal_use_settings, test.hypothesis.inner_test
    item.examples, started_s = 0, time.process_time()

    @functools.wraps(inner)
    def counted(*args: Any, **kwargs: Any) -> None:
        inner(*args, **kwargs)
        item.examples += 1

    # A test's own @settings would keep its own number, and Hypothesis refuses them a second time.
    test._hypothesis_internal_use_settings = settings(own, max_examples=wanted)
    test.hypothesis.inner_test = counted
    seed(f"{os.environ.get('QAZYNA_PROPERTY_SEED', '0')} {item.nodeid}")(test)
    try:
        return (yield)
    finally:
        item.cpu_s = time.process_time() - started_s
        test._hypothesis_internal_use_settings, test.hypothesis.inner_test = own, inner


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A part that had fewer examples than it should have failed, unless there are no more (a bit of a note)."""
    report = yield
    if call.when == "call" and report.passed:
        wanted = min(PART, _count(_path(item.nodeid)))
        why = getattr(item, "hypothesis_statistics", "").rpartition("Stopped because ")[2].strip()
        report.user_properties += [("examples", item.examples), ("cpu_s", item.cpu_s)]
        if item.examples < wanted and why != "nothing left to do":
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: {item.examples} examples, not {wanted}: {why}"
    return report


class Total:
    """Sums what the parts had, in the process that prints."""

    def __init__(self) -> None:
        self.examples: Counter[str] = Counter()
        self.cpu_s: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told: dict[str, Any] = dict(report.user_properties)
        if report.when == "call" and "examples" in told:
            name = report.nodeid.rpartition("[")[0]
            self.examples[name] += told["examples"]
            self.cpu_s[name] = self.cpu_s.get(name, 0) + told["cpu_s"]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for name, examples in sorted(self.examples.items(), key=lambda pair: (-pair[1], pair[0])):
            terminalreporter.write_line(
                f"{examples:>9,} examples in {self.cpu_s[name]:7.1f} s of CPU: {name}"
            )

    def pytest_unconfigure(self) -> None:
        """The last line, which docs/proofs.md shows."""
        often = sum(examples >= TRUTH for examples in self.examples.values())
        print(
            f"properties: {len(self.examples)} with {self.examples.total():,} examples, {often} of them"
            f" with {TRUTH:,} or more"
        )


def pytest_configure(config: pytest.Config) -> None:
    """Only the process that starts the others prints."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Total())
