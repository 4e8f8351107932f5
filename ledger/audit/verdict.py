"""What an audit says: its own rules, findings, and the verdict that carries them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, Any

from ledger import proof, rules
from ledger.proof import Checkpoint
from ledger.records import Invalid

if TYPE_CHECKING:
    from ledger.audit.sample import Held, Sample

# What the auditor adds to the rules of records (rules.py) and of proofs (proof.py, X).
RULES = {
    # The bundle as files and bytes.
    "D1": "The bundle has checkpoint, manifest, trust.json and anchors.json, each of its form.",
    "D2": "Every file is plain, and the manifest, the log or (a document) a record names it.",
    "D3": "Every file that the manifest names is there, with the SHA-256 it names.",
    "D4": "A document's name is the SHA-256 of its content.",
    "D5": "Every signature line of checkpoint and manifest is of a trusted key, once.",
    "D6": "The log signed with Ed25519, its checkpoint with ML-DSA-44 too, and a watcher cosigned it.",
    "D7": "Origin and size are the same in trust, manifest and checkpoint.",
    "D8": "Every record is the one whose hash stands in its tile.",
    "D9": "Every tile is there and is what the records make of it.",
    "D10": "The records make the root of the checkpoint.",
    "D11": "The rule files in force are those of this auditor.",
    "D12": "The rules can read every record.",
    "D13": "The Genesis and the registered contracts are those of trust.json.",
    "D14": "The bundle's trust.json says what the auditor's own says.",
    "D15": "What came in, less what went out, is there; no total of a project tops the one before it.",
    "D16": "Checkpoint and manifest are signed with the keys that the ledger's key changes put in force.",
    "D17": "A state that an audit starts from is the one that a Close in effect names.",
    "D18": "A rate is what its two published sources make of it.",
    "D19": "What the log promised a payer is recorded by its deadline.",
    "D20": "As many witnesses cosigned the checkpoint as trust.json, or the auditor's policy, asks for.",
    # Anchors, as the bundle states them.
    "T1": "Anchors stand in the order of size, block and time, each of its form.",
    "T2": "An anchor has the root that the log has at its size, and no size has two roots.",
    "T3": "A record's time lies between the anchor before it and the anchor that covers it.",
    "T4": "Every record is anchored within anchor_gap.",
    "T5": "An anchor is of the ledger's own anchor contract.",
    # The chain itself.
    "T6": "The chain is the ledger's, and each registered contract has the code that its record names.",
    "T7": "The heads on the chain are those of anchors.json and of this log.",
    "T8": "What leaves the treasury, and what routers bring, is one transfer; a chain transfer one movement.",
    "T9": "What the treasury holds is what the ledger says, and what strangers sent to it.",
    "T10": "What the Council contract has enacted is in effect in the ledger.",
    "T11": "An anchor goes on from an earlier head of its own only by an act that the ledger has.",
    # Statements that the auditor got from the bank.
    "W1": "A statement is camt.053 without document type or entities, in the account's currency.",
    "W2": "A statement is of a registered bank account.",
    "W3": "A closing booked balance is the ledger's balance at the end of that day.",
    "W4": "An opening booked balance is the ledger's balance before that day.",
    "W5": "Opening and booked entries add up to closing.",
    # Papers of payees that the auditor got from the city.
    "U1": "A payee's papers hash to the owner and the party that its Account has.",
    "U2": "A payee's account is not with the Treasury of the republic, bank 070.",
    "U3": "A payee's BIN is not that of a state body.",
    "U4": "A payee is not paid by expenditure group 15, transfers to other budgets.",
}

# How much a finding weighs, by the letters of its rule (LEAKS 26). What is not here is "high".
_CRITICAL = frozenset({"A", "D", "F", "G", "H", "L", "M", "O", "R", "T", "U", "V", "W", "X"})
_LOW = frozenset({"D2", "T4"})
WEIGHTS = {"critical": 0, "high": 1, "low": 2}
# More than so many findings of one rule are counted and not listed.
MOST_OF_A_RULE = 1_000

Progress = Callable[[str, int, int], None]


def meaning(rule: str) -> str:
    """The sentence that a rule's id stands for, in whichever table has it."""
    return RULES.get(rule) or rules.RULES.get(rule) or proof.RULES.get(rule) or "See SPEC.md."


def printable(text: str) -> str:
    """Text on one line that moves no cursor and hides nothing, whoever wrote it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def money(amount: int, decimals: int) -> str:
    """An amount of base units with its decimal point; integers only."""
    digits = str(abs(amount)).rjust(decimals + 1, "0")
    whole, part = (digits[:-decimals], digits[-decimals:]) if decimals else (digits, "")
    grouped = f"{int(whole):,}".replace(",", " ")
    return ("-" if amount < 0 else "") + grouped + (f".{part}" if part else "")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be; amount is in base units of asset, where money is meant."""

    rule: str
    where: str
    why: str
    severity: str
    amount: int | None = None
    asset: str = ""

    def __str__(self) -> str:
        return f"{self.rule} at {self.where}: {self.why}"


class Findings:
    """The findings so far, and what else is to be said."""

    def __init__(self) -> None:
        # For each rule a heap whose first is the least: the smallest amount, of equal ones the last found.
        self._found: dict[str, list[tuple[int, int, Finding]]] = {}
        self._counts: dict[str, int] = {}
        self.said: list[str] = []

    def add(
        self,
        rule: str,
        where: str,
        why: str,
        *,
        amount: int | None = None,
        asset: str = "",
        severity: str = "",
    ) -> None:
        """Note one finding; of a flood the largest amounts stay, and the rest is counted (LEAKS 26)."""
        weight = "low" if rule in _LOW else "critical" if rule.rstrip("0123456789") in _CRITICAL else "high"
        finding = Finding(rule, printable(where), printable(why), severity or weight, amount, asset)
        count = self._counts[rule] = self._counts.get(rule, 0) + 1
        listed = self._found.setdefault(rule, [])
        item = (amount or 0, -count, finding)
        if count <= MOST_OF_A_RULE:
            heappush(listed, item)
        else:
            heappushpop(listed, item)

    def take(self, broken: Invalid, place: str = "") -> None:
        """Note what a check of the rules or of a proof refused."""
        self.add(broken.rule, f"{place}: {broken.where}" if place else broken.where, broken.why)

    def say(self, sentence: str) -> None:
        """Note what a reader should know and what is no finding."""
        self.said.append(printable(sentence))

    def __bool__(self) -> bool:
        return bool(self._found)

    def listed(self) -> list[Finding]:
        """The gravest first; among equals what touches the bytes themselves, then the largest amount."""
        rows = []
        for place, (rule, heap) in enumerate(self._found.items()):
            rows += [
                (WEIGHTS[finding.severity], rule[0] not in "DX", -amount, place, -order, finding)
                for amount, order, finding in heap
            ]
            if more := self._counts[rule] - len(heap):
                severity = min((finding.severity for *_, finding in heap), key=lambda weight: WEIGHTS[weight])
                last = Finding(rule, "elsewhere", f"{more} more of this rule", severity)
                rows.append((WEIGHTS[severity], rule[0] not in "DX", 0, place, self._counts[rule] + 1, last))
        return [finding for *_, finding in sorted(rows, key=lambda row: row[:-1])]


@dataclass(frozen=True)
class Line:
    """The totals of one fund in one asset (G15), in base units."""

    fund: str
    asset: str
    decimals: int
    opening: int
    revenue: int
    refunds: int
    exchange: int
    unmatched: int
    paid: int
    closing: int
    committed_unpaid: int
    free: int

    @property
    def moved(self) -> int:
        """What the closing balance must be."""
        return self.opening + self.revenue - self.refunds + self.exchange + self.unmatched - self.paid

    def __str__(self) -> str:
        def shown(amount: int) -> str:
            return money(amount, self.decimals)

        return (
            f"{self.fund} {self.asset}: opening {shown(self.opening)} + revenue {shown(self.revenue)}"
            f" - refunds {shown(self.refunds)} + exchange {shown(self.exchange)}"
            f" + unmatched {shown(self.unmatched)} - paid {shown(self.paid)} = {shown(self.moved)};"
            f" closing {shown(self.closing)}"
            f" = committed unpaid {shown(self.committed_unpaid)} + free {shown(self.free)}"
        )


@dataclass(frozen=True)
class ProjectLine:
    """The five totals of one project, and private investment apart (G10, G13), in tiyn."""

    project: str
    sector: str
    place: str
    approved: int
    allotted: int
    committed: int
    certified: int
    paid: int
    invested: int


@dataclass(frozen=True)
class Flow:
    """One stream of a picture: money that came from a code, or went to a project."""

    fund: str
    asset: str
    kind: str
    name: str
    amount: int


@dataclass
class Verdict:
    """What the audit of one bundle came to."""

    checkpoint: Checkpoint | None = None
    records: int = 0
    findings: list[Finding] = field(default_factory=list)
    totals: list[Line] = field(default_factory=list)
    projects: list[ProjectLine] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    invested: int = 0
    # What the totals are of, if not of the whole ledger: from this second to before that one.
    period: tuple[int | None, int | None] = (None, None)
    samples: list[Sample] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    chain_checked: bool = False
    own_keys: bool = False

    @property
    def is_valid(self) -> bool:
        """Whether nothing was found."""
        return not self.findings and self.checkpoint is not None

    def last_line(self) -> str:
        """The line that sums the audit up; it says what was not checked."""
        if not self.is_valid or self.checkpoint is None:
            return f"invalid: {len(self.findings)} findings in {self.records} records"
        root = self.checkpoint.root.hex()
        chain = "" if self.chain_checked else ", chain not checked"
        keys = "" if self.own_keys else ", keys: from bundle"
        return f"valid: {self.records} records, checkpoint {self.checkpoint.size} {root}{chain}{keys}"

    def as_json(self) -> dict[str, Any]:
        """The verdict for programs; every number of money is text."""
        head = self.checkpoint

        def flat(thing: Finding | Line | ProjectLine | Flow) -> dict[str, str | None]:
            values = {name: getattr(thing, name) for name in thing.__dataclass_fields__}
            return {name: None if value is None else str(value) for name, value in values.items()}

        return {
            "verdict": "valid" if self.is_valid else "invalid",
            "checkpoint": head
            and {"origin": head.origin, "size": str(head.size), "root": "0x" + head.root.hex()},
            "records": str(self.records),
            "findings": [{**flat(finding), "means": meaning(finding.rule)} for finding in self.findings],
            "totals": [flat(line) for line in self.totals],
            "projects": [flat(line) for line in self.projects],
            "flows": [flat(flow) for flow in self.flows],
            "invested": str(self.invested),
            "period": {
                name: None if second is None else str(second)
                for name, second in zip(("from", "to"), self.period, strict=True)
            },
            "samples": [sample.as_json() for sample in self.samples],
            "evidence": [held.as_json() for held in self.held],
            "exceptions": self.exceptions,
            "pending": self.pending,
            "said": self.said,
            "chainChecked": self.chain_checked,
            "ownKeys": self.own_keys,
        }
