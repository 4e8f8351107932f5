"""Leaks that an outsider finds by comparing: two chains, and a successor of the treasury."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

from ledger import rules
from ledger.audit import audit
from ledger.records import Account, Contract, Transfer, address_word
from ledger.rules import DAY
from tests import bundles, city
from tests.city import ACT, Key, digest, refusal
from tests.vectors import make

SECOND = 31_338


def two_chains(folder: Path, **forged: str) -> list[str]:
    """What is found in a bundle whose newest head two chains hold; the second one's may be changed."""
    log = city.registered()
    log.act(Contract(0, "anchor-2", SECOND, city.ANCHOR, digest("code"), ACT))
    entries = bundles.anchors(log.records)
    other = entries[-1] | {"chainId": str(SECOND)} | forged
    place = bundles.write(folder, log, anchored=[*entries, other]).folder
    return [str(one) for one in audit(str(place)).findings]


def test_leak_22_one_size_with_two_roots_on_two_chains_is_a_breach(tmp_path: Path) -> None:
    assert two_chains(tmp_path / "good") == []
    named = two_chains(tmp_path / "forked", root="0x" + digest("another history").hex())
    assert [one for one in named if one.startswith("T2 ") and "has the roots" in one]


def test_leak_22_a_head_on_the_second_chain_alone_must_be_the_logs_too(tmp_path: Path) -> None:
    log = city.registered()
    log.act(Contract(0, "anchor-2", SECOND, city.ANCHOR, digest("code"), ACT))
    entries = bundles.anchors(log.records)
    size = int(entries[-1]["size"]) - 1
    for root, rule in ((bundles.root_at(log.records, size), ""), (digest("another"), "T2")):
        between = bundles.anchor(log.records, size, root, chainId=str(SECOND))
        place = bundles.write(
            tmp_path / (rule or "good"), log, anchored=[*entries[:-1], between, entries[-1]]
        )
        assert {one.rule for one in audit(str(place.folder)).findings} == ({rule} if rule else set())


def test_leak_23_no_balance_migrates_to_a_successor_whoever_registers_it() -> None:
    """Council, Authority, Auditor and the log's keeper together: the money stays where it came in."""
    log = make.at("trade")
    successor = Key("successor").address
    log.act(Contract(0, "treasury-2", city.CHAIN_ID, successor, digest("code"), ACT))
    # The treasury itself is named once and for ever, and the successor gets no account beside it.
    assert refusal(log, Contract(0, "treasury", city.CHAIN_ID, successor, digest("code"), ACT)) == "N1"
    owned = Account(
        0, "treasury-2-usdt", "USDT", rules.RETAINED, "chain", address_word(successor), bytes(32), ACT
    )
    assert refusal(log, owned) == "N4"
    # Nor is it a payee, who would be paid like any builder.
    assert refusal(log, replace(owned, account="builder-2", kind=rules.PAYEE, party=digest("bin"))) == "N7"
    log.act(make.account("bank-two", owner=digest("iban two")))
    log.wait(DAY)
    money = [name for name, account in log.state.accounts.items() if account.record.kind in rules.MONEY]
    assert len(money) >= 4
    authorities = [bytes(32), *list(log.state.proposals)[-12:]]
    for debit, credit in permutations(money, 2):
        asset = log.state.accounts[credit].record.asset
        for number, authority in enumerate(authorities):
            move = Transfer(
                0, digest(f"{debit} {credit} {number}"), debit, credit, asset, 1, city.CODE, authority,
                digest(f"evidence {debit} {credit} {number}"),
            )  # fmt: skip
            assert refusal(log, move) in {"M2", "M4", "M5"}
