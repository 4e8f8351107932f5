"""The report is one page that loads nothing, in three languages, whatever the records say."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typing_extensions import override

from ledger import rules
from ledger.audit import audit
from ledger.audit.__main__ import main
from ledger.audit.report import report
from ledger.audit.verdict import Finding, Findings, Flow, Verdict, money
from ledger.audit.words import LANGUAGES, WORDS
from ledger.records import ZERO_HASH, Account, Investment, Project, encode_name
from tests import bundles, city

EMPTY = {"meta", "input", "rect", "path", "br"}


class Page(HTMLParser):
    """Whether each element is closed in order, and what the page says and would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.seen: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.loads += [
            name for name, _ in attrs if name in {"src", "href", "action"} or name.startswith("on")
        ]
        if tag not in EMPTY:
            self.stack.append(tag)

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_loads_nothing_and_has_every_language(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "b", bundles.paid()).folder
    place = tmp_path / "report.html"
    assert main([str(folder), "--report", str(place)]) == 0
    page = Page(place.read_text(encoding="utf-8"))
    assert page.stack == []
    assert page.loads == []
    assert not {"script", "img", "link", "iframe"} & set(page.seen)
    assert {"svg", "path"} <= set(page.seen)
    for word in ("Түсім", "Поступления", "Revenue", "water-main", "108125", "40.000000", "valid: "):
        assert word in page.text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    log = city.registered()
    evil = '<script>x</script>"'
    project = log.act(Project(0, evil, "water", "alatau-gate", 10**12, city.digest("evil")))
    log.act(Account(0, "evil-spent", "USDT", rules.RETAINED, rules.PROJECT, project, ZERO_HASH, city.ACT))
    log.act(replace(log.state.revenue_rules[city.CODE][0][1], code="<svg/onload=1>"))
    log.act(
        Account(
            0,
            "evil-fees",
            "USDT",
            rules.RETAINED,
            rules.REVENUE,
            encode_name("<svg/onload=1>"),
            ZERO_HASH,
            city.ACT,
        )
    )
    log.act(Investment(0, evil, 7, city.digest("investment")))
    written = bundles.write(tmp_path / "b", log)
    written.write("<b onclick=1>", b"x")
    verdict = audit(written.folder)
    verdict.flows.append(Flow(rules.RETAINED, "USDT", "revenue", "<svg/onload=1>", 5))
    verdict.said.append("<i>said</i>")
    page = Page(report(verdict))
    assert page.stack == []
    assert page.loads == []
    assert not {"script", "b", "i"} & set(page.seen)
    assert evil in page.text
    assert verdict.invested == 7


def test_every_word_is_there_in_each_language() -> None:
    for key, texts in WORDS.items():
        assert len(texts) == len(LANGUAGES), key
        assert all(text and "<" not in text for text in texts), key


def test_a_verdict_without_anything_still_makes_a_page() -> None:
    assert Page(report(Verdict())).stack == []


def test_many_streams_are_drawn_as_few() -> None:
    verdict = Verdict()
    findings = Findings()
    assert not findings
    log = bundles.paid()
    from ledger.audit.summary import summarise

    summarise(log.state, verdict, findings)
    verdict.flows += [Flow(rules.RETAINED, "USDT", "revenue", f"code-{n}", 10**30 + n) for n in range(40)]
    page = report(verdict)
    assert "прочие" in page
    assert "code-39" in page
    assert "code-1<" not in page


@pytest.mark.parametrize(
    ("amount", "decimals", "shown"),
    [
        (0, 2, "0.00"),
        (-5, 2, "-0.05"),
        (123_456_789, 2, "1 234 567.89"),
        (7, 0, "7"),
        (2**127, 6, f"{2**127 // 10**6:,}.105728".replace(",", " ")),
    ],
)
def test_decimals_are_placed_by_the_asset_and_never_rounded(amount: int, decimals: int, shown: str) -> None:
    assert money(amount, decimals) == shown
    assert int(money(amount, decimals).replace(" ", "").replace(".", "")) == amount


def test_the_gravest_stand_first_and_a_flood_is_counted() -> None:
    findings = Findings()
    for number in range(1_500):
        findings.add("T4", f"record {number}", "late")
        findings.add("V4", f"record {number}", "dust", amount=1, asset="USDT")
    findings.add("V4", "record 7", "theft", amount=5, asset="USDT")
    listed = findings.listed()
    assert listed[0] == Finding("V4", "record 7", "theft", "critical", 5, "USDT")
    assert listed[1].where == "record 0"
    assert len(listed) == 2_002
    assert any("501 more" in finding.why for finding in listed)
    assert any("500 more" in finding.why for finding in listed)
