"""Papers of payees as files, for the three who are given them (LEAKS 07). The numbers are nobody's."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from gateway.kz import TREASURY_IBAN
from ledger import rules
from ledger.audit import papers as auditor
from ledger.audit.papers import Paper
from ledger.records import Account
from tests.city import ACT

SALT = sha256(b"salt of a payee").digest()
GOOD = Paper("paver-kzt", "KZ86125KZT5004100100", None, "081240013779", SALT, "07")
STATE_BIN = "000440003800"
# What is wrong with a payee, and what its papers say then.
REPUBLIC_IN_DISGUISE = {
    "U2": replace(GOOD, iban=TREASURY_IBAN),
    "U3": replace(GOOD, bin=STATE_BIN),
    "U4": replace(GOOD, group="15"),
}
BOTH_OF = {
    "U2": "at bank 070, and 070 is the republic's Treasury",
    "U3": "since 2001-04-01: Sample ministry (sample register)",
    "U4": "of group 15; 15 is transfers",
}


def account_of(paper: Paper, kind: str = rules.PAYEE) -> Account:
    """The Account that these papers are of."""
    asset = "USDT" if paper.iban is None else "KZT"
    return Account(0, paper.account, asset, rules.RETAINED, kind, paper.owner, paper.party, ACT)


def write_papers(path: Path, *papers: Paper) -> Path:
    """The file of papers."""
    auditor.write_papers(path, papers)
    return path


def write_bodies(path: Path, ends: str | None = None) -> Path:
    """A list of state bodies of one, which is nobody."""
    body = {"bin": STATE_BIN, "name": "Sample ministry", "source": "sample register", "from": "2001-04-01"}
    path.write_text(json.dumps({"asOf": "2026-01-01", "bodies": [{**body, "to": ends}]}))
    return path
