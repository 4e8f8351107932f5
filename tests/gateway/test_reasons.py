"""Nobody who reads Kazakh or Russian is shown a program's English reason as the reason."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from gateway import pages
from gateway.limits import Most
from gateway.pages.words import LANGUAGES, Tongue, load
from ledger import rules
from tests.gateway.conftest import Town, opened
from tests.gateway.test_links import LINK
from tests.gateway.test_merchant_pages import Visitor

TEMPLATES = Path(str(pages.__file__)).parent / "templates"
# What a program said, as a template shows it; and what stands right before it.
RAW = re.compile(r"(.{0,40})\{\{ *((?:\w+\.)*(?:why|problem|last_error|detail)) *[}|]", re.DOTALL)
# A person's own words about a decision.
PERSONS = ("operator.html", "{% elif one.decided %}<p>")
WORD = "word.why"


def raw_reasons(name: str, text: str) -> list[str]:
    """Reasons that stand in a template elsewhere than small and marked as English."""
    found = []
    for before, what in RAW.findall(text):
        is_persons = what == WORD or (name == PERSONS[0] and before.endswith(PERSONS[1]))
        if '<small lang="en">' not in before and not is_persons:
            found.append(f"{name}: {what}")
    return found


def test_every_reason_of_a_program_stands_small_and_is_marked_as_english():
    found = [
        one for path in sorted(TEMPLATES.glob("*.html")) for one in raw_reasons(path.name, path.read_text())
    ]
    assert found == []
    assert raw_reasons("link.html", '<p role="alert">{{ refused.why }}</p>') == ["link.html: refused.why"]


def test_each_rule_of_the_ledger_and_each_kind_of_problem_has_a_sentence_in_each_language():
    for language in LANGUAGES:
        t, other = Tongue(language), load(language)["reason.other"]
        named = [
            *rules.RULES,
            *(key.removeprefix("problem.") for key in load(language) if key.startswith("problem.")),
        ]
        told = [rule for rule in named if rule not in {"text", "other"} and t.reason(rule) == other]
        assert told == [], language
        assert t.reason("no-such-rule") == other
        assert t.reason("C:AlreadyPaid") == load(language)["reason.contract"]
        assert t.reason("unavailable", "rates") != t.reason("unavailable", "database")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_form_that_is_refused_says_why_in_the_readers_language(town: Town, language: str):
    visitor = Visitor(town)
    visitor.sign_in(town.merchant_key)
    token = visitor.token("/pos")
    asked = {"token": token, "once": "0123456789", "asset": "USDT"}
    headers = {"accept-language": language}
    for change, key, raw in (
        ({"amount": "1,234"}, "reason.amount", "a number with at most 2 decimals is needed"),
        ({"amount": "5", "asset": "DOGE"}, "reason.V2", "DOGE is not registered"),
        ({"amount": "5", "once": "x"}, "reason.schema", "own number is missing"),
    ):
        answer = visitor.client.post("/pos", data=asked | change, headers={"Accept": "text/html", **headers})
        assert answer.status_code == 422
        assert f'<p id="reason"><strong>{load(language)[key]}</strong></p>' in answer.text.replace(
            "&#39;", "'"
        )
        [small] = re.findall('<small lang="en">([^<]*)</small>', answer.text)
        assert raw in small.replace("&#39;", "'")
        # It is for support: shut, unless its language is the reader's.
        assert ('<details class="card" open>' in answer.text) == (language == "en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_payer_of_a_link_reads_why_it_was_refused(town: Town, language: str):
    client = town.client()
    link = client.post("/v1/payment-links", json=LINK | {"amount": None}, headers=town.bearer).json()
    headers = {"Accept": "text/html", "Accept-Language": language}
    answer = client.post(f"/link/{link['id']}", data={"amount": "1.234"}, headers=headers)
    words = load(language)
    raw = "a number with at most 2 decimals is needed"
    told = f'{words["link.refused"]} {words["reason.amount"]} <small lang="en">{raw}</small>'
    assert (answer.status_code, told in answer.text) == (422, True)


def test_a_rate_that_nobody_is_quoted_is_told_on_the_desk_in_its_language(built_town: Path, tmp_path: Path):
    shutil.copytree(built_town, tmp_path / "city")
    with opened(tmp_path / "city", most=Most(lag_s=60, rate_age_s=900)) as town:
        town.city.clock.wait(600)
        visitor = Visitor(town)
        visitor.sign_in(town.operator_key)
        for language in LANGUAGES:
            text = visitor.get(f"/operator?lang={language}").text
            assert re.search(rf'{load(language)["ops.no_rate"]} <small lang="en">[^<]*60[^<]*</small>', text)
