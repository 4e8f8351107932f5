"""Drawings over time on the city's page: their sums are the totals beside them, whatever moved."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pages.city import DAYS, CityView
from gateway.pages.history import CAME, HELD, PAID, History
from gateway.pages.plot import BOTTOM, HEIGHT, KINDS_MOST, TOP, stacked
from gateway.pages.words import LANGUAGES, Tongue, load
from ledger import rules
from ledger.audit.summary import summarise
from ledger.audit.verdict import Findings, Flow, Verdict
from tests.page_city import ORDER_UNITS, PageCity, page_city
from tests.vectors import make

TODAY = date(2026, 9, 18)
FLOOR = HEIGHT - BOTTOM
series_of_days = st.dictionaries(
    st.text("abcdefg", min_size=1, max_size=3),
    st.lists(st.integers(min_value=-(10**20), max_value=10**30), min_size=30, max_size=30),
    max_size=8,
)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageCity]:
    with page_city(tmp_path_factory.mktemp("over-time") / "city") as made:
        yield made


def sums(history: History) -> dict[tuple[str, str, str, str], int]:
    """All days together, as the auditor's streams name them."""
    found: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for (fund, asset), days in history.days.items():
        for moved in days.values():
            for (kind, name), amount in moved.items():
                found[fund, asset, kind, name] += amount
    return {key: amount for key, amount in found.items() if amount}


def streams_of(flows: Iterable[Flow]) -> dict[tuple[str, str, str, str], int]:
    """What the auditor says of the same ledger; accounts of one code are one stream."""
    found: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for flow in flows:
        found[flow.fund, flow.asset, flow.kind, flow.name] += flow.amount
    return {key: amount for key, amount in found.items() if amount}


def check_against_the_totals(view: CityView) -> dict[tuple[str, str, str, str], int]:
    found = view.city()
    told = streams_of(found.flows)
    assert sums(view._history) == told
    return told


def test_what_moved_on_all_days_is_what_the_totals_say(city: PageCity):
    view = CityView(city.city.gateway)
    told = check_against_the_totals(view)
    assert {kind for _, _, kind, _ in told} == {CAME, PAID, HELD}
    city.pay_tenge(city.new_bill("KZT"))
    assert check_against_the_totals(view) != told
    # Who looks for the first time sees the same as who followed.
    assert sums(CityView(city.city.gateway)._history) == {}
    check_against_the_totals(CityView(city.city.gateway))


@pytest.mark.parametrize("path", sorted(make.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_no_record_that_the_rules_know_parts_the_drawing_from_the_totals(path: Path):
    """Refunds, exchanges, reversals, money of nobody, payments undone: the right twin of each vector."""
    vector = json.loads(path.read_text())
    log = json.loads((make.FOLDER / "logs" / f"{vector['base']}.json").read_text())[: vector["take"]]
    records = [bytes.fromhex(entry["hex"]) for entry in log]
    records += [bytes.fromhex(data) for data in (*vector["after"], *vector["twin"])]
    state, verdict = rules.State(), Verdict()
    broken = set(vector.get("breaches", ()))
    for index, data in enumerate(records):
        if index in broken:
            assert rules.take(state, data) is not None
        else:
            rules.apply(state, data)
    history = History(lambda start, end: iter(records[start:end]))
    history.follow(state, frozenset(f"record {index}" for index in broken))
    summarise(state, verdict, Findings())
    assert sums(history) == streams_of(verdict.flows)
    paid = sum(one.amount for one in history.payments)
    assert paid == sum(flow.amount for flow in verdict.flows if flow.kind == PAID)


def test_who_was_paid_stands_on_the_page_with_the_record_that_proves_it(city: PageCity):
    [payment] = CityView(city.city.gateway).city().payments
    assert (payment.project, payment.payee, payment.amount) == ("water-main", "builder-usdt", ORDER_UNITS)
    for language in LANGUAGES:
        page, t = city.get("/", language).text, Tongue(language)
        row = page[page.index('id="paid"') : page.index('id="projects"')]
        assert "builder-usdt" in row
        assert t.amount(payment.amount, "USDT", 6) in row
        assert t.number(payment.index) in row


def test_every_drawing_has_its_numbers_beside_it(city: PageCity):
    for language in LANGUAGES:
        page, words = city.get("/", language).text, load(language)
        drawn = re.findall(r'<svg class="plot"[^>]* aria-labelledby="([a-z]+-[0-9]+)"', page)
        assert {name.split("-")[0] for name in drawn} == {"came", "held"}
        for name in drawn:
            title = words[f"plot.{name.split('-')[0]}"].format(days=DAYS)
            assert f'<h4 id="{name}">{title}</h4>' in page
            assert f'<table class="list wide" aria-labelledby="{name}">' in page
    # What was paid to the builder is in the table of where the money is, as it is in the totals.
    assert f"{ORDER_UNITS // 10**6}.000000" in page[page.index('id="held-2"') :]


@given(series_of_days)
def test_a_stack_is_drawn_inside_its_frame_without_gaps_and_loses_no_amount(series: dict[str, list[int]]):
    plot = stacked(series, TODAY)
    if plot is None:
        return
    assert len(plot.stacks) == 30
    assert len(plot.names) <= KINDS_MOST + 1
    for place, stack in enumerate(plot.stacks):
        assert stack.day == TODAY - timedelta(days=29 - place)
        assert sum(stack.amounts) == sum(amounts[place] for amounts in series.values())
        floor = FLOOR
        for piece in stack.pieces:
            assert stack.amounts[piece.series] > 0
            assert piece.height > 0
            assert piece.y + piece.height == floor
            floor = piece.y
        # Of a kind that is all but nothing at least a line is drawn, also at the very top.
        assert floor >= TOP - KINDS_MOST


def test_nothing_is_drawn_where_nothing_moved():
    assert stacked({}, TODAY) is None
    assert stacked({"a": [0] * 30}, TODAY) is None
    assert stacked({"a": [-1] * 30}, TODAY) is None


def test_the_smallest_share_is_told_and_not_rounded_away():
    shown = {(1, 2): "50 %", (1, 3): "33 %", (1, 1): "100 %", (0, 5): "0 %", (5, 1000): "0.5 %"}
    assert {asked: Tongue("en").share(*asked) for asked in shown} == shown
    assert Tongue("en").share(20_484, 48_000_000_000) == "<0.01 %"
    assert Tongue("ru").share(20_484, 48_000_000_000) == "<0,01 %"
    assert Tongue("en").share(0, 0) == "0 %"


def test_how_long_is_told_in_a_unit_that_people_count_in():
    told = {
        0: "0 s",
        119: "119 s",
        120: "2 min",
        7_199: "119 min",
        7_200: "2 h",
        172_800: "2 d",
        519_400: "6 d",
    }
    assert {seconds: Tongue("en").duration(seconds) for seconds in told} == told
    assert [Tongue(language).duration(519_400) for language in LANGUAGES] == ["6 күн", "6 дн.", "6 d"]
