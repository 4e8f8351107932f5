"""No word of the pages is left over: each is asked for by its key, or by a prefix and a name that is known."""

from __future__ import annotations

import re
from pathlib import Path

from gateway import pages
from gateway.pages.words import load
from ledger import rules

PAGES = Path(str(pages.__file__)).parent
KINDS = ("*.py", "*.html", "*.js")
# What the ledger calls things by, and a program gives: `Tongue.name` shows the id where there is no word.
OPEN = re.compile(r"""\.name\(\s*["'](\w+)["']""")
# What a page hands to its script, which knows the words without their prefix.
GROUP = re.compile(r"""\.group\(\s*["']([\w.]+)["']""")
LITERAL = re.compile(r"""["']([\w.]+\w)["']""")
# "step." + key, f"flow.{kind}", and in a script `verdict.${found}`.
COMPOSED = re.compile(r"""["']((?:\w+\.)+)["']\s*[+~]|f["']((?:\w+\.)+)\{|`((?:\w+\.)+)\$\{""")


def sources(folder: Path, *kinds: str) -> str:
    """All that is written there, one after another."""
    return "\n".join(path.read_text("utf-8") for kind in kinds for path in sorted(folder.rglob(kind)))


def left_over(words: set[str], text: str, known: str) -> set[str]:
    """Words that nobody asks for; text: where words are asked for, known: where names come from."""
    asked = set(LITERAL.findall(text))
    prefixes = {prefix for found in COMPOSED.findall(text) for prefix in found if prefix}
    prefixes |= set(GROUP.findall(text))
    open_spaces = {f"{name}." for name in OPEN.findall(text)}
    names = set(re.findall(r"[\w-]+", known))

    def is_asked(key: str) -> bool:
        rests = (key.removeprefix(prefix) for prefix in prefixes if key.startswith(prefix))
        return (
            key in asked
            or any(names.issuperset(rest.split(".")) for rest in rests)
            or any(key.startswith(space) for space in open_spaces)
        )

    return {key for key in words if not is_asked(key)}


def test_each_word_of_the_pages_is_asked_for():
    words, text = set(load("en")), sources(PAGES, *KINDS)
    known = sources(PAGES.parent, *KINDS) + " ".join(rules.FUNDS)
    assert left_over(words, text, known) == set()


def test_a_word_that_nobody_asks_for_any_more_is_found():
    text = """t("desk.day") t("step." + key) t.name("sector", id) t.group("js.") words[`fact.${key}`]"""
    used = {"desk.day", "step.final.what", "sector.anything", "js.fact.time", "js.working"}
    gone = {"desk.gone", "step.gone", "stepping", "js.fact.gone"}
    assert left_over(used | gone, text, "final what fact time working") == gone
