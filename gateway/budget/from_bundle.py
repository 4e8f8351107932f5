"""What the contracts ask to see, taken from a public bundle: records, their places in a head, and who signed.

Whoever has the bundle can bring an act, an order or a refund to a chain: nobody's server is asked. The
contracts check proofs and signatures again; here a bundle that is not what was anchored is named first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from contracts.bindings import City, Execution, Head, Placed, Refunding
from ledger import rules
from ledger.audit.source import Source
from ledger.audit.trust import parse_anchors
from ledger.proof import (
    TILE_WIDTH,
    decode_bundle,
    inclusion_path,
    leaf_hash,
    parse_checkpoint,
    parse_note,
    root_of,
    tile_path,
)
from ledger.records import (
    WORD,
    Acknowledgement,
    Approval,
    Certificate,
    Commitment,
    Invalid,
    Milestone,
    Order,
    Record,
    Refund,
    Resolution,
    Seat,
    Transfer,
    Withdrawal,
    decode,
    keccak256,
    reject,
)

Kind = TypeVar("Kind", bound=Record)
# So many heads that the bundle names are asked for at the chain before its newest.
MOST_ASKED = 16
Progress = Callable[[int, int], None]
Shown = Placed | Sequence[Placed] | Record
# The breaches that anchored records show by themselves, and how many records a report of each names.
REPORTED = {
    "O1": (1, 1), "O2": (1, 1), "O3": (1, 1), "O6": (2, 2), "O7": (2, 1_000), "G7": (1, 1), "H2": (2, 2),
    "E1": (1, 1),
}  # fmt: skip


class Records:
    """The records of a bundle, all in memory with their hashes."""

    def __init__(self, source: Source, progress: Progress = lambda _done, _all: None) -> None:
        self._name, self._data, self._places = source.name, list[bytes](), dict[bytes, int]()
        size = parse_checkpoint(parse_note(_read(source, "checkpoint"))[0]).size
        self._anchors = source.read("anchors.json") or b""
        self._approvals: dict[bytes, list[Approval]] = {}
        self._withdrawn: set[tuple[bytes, bytes]] = set()
        self._roots: dict[int, bytes] = {}
        self._roles: dict[bytes, str] = {}
        for index in range(-(-size // TILE_WIDTH)):
            progress(index * TILE_WIDTH, size)
            width = min(TILE_WIDTH, size - index * TILE_WIDTH)
            for data in decode_bundle(_read(source, tile_path("entries", index, width)), width):
                self._take(data)
        self._leaves = [leaf_hash(data) for data in self._data]

    def _take(self, data: bytes) -> None:
        # The first of two that are alike: the other one is a breach.
        self._places.setdefault(keccak256(data), len(self._data))
        self._data.append(data)
        if data[:WORD] not in {Approval.type_hash, Withdrawal.type_hash, Seat.type_hash}:
            return
        try:
            record = decode(data)
        except Invalid:
            return
        match record:
            case Approval():
                self._approvals.setdefault(record.approves, []).append(record)
            case Withdrawal():
                self._withdrawn.add((record.approves, record.signer))
            case Seat():
                # One holder has one role for ever (S2).
                self._roles.setdefault(record.holder, record.role)
            case _:
                raise AssertionError(record)

    def find(self, hash: bytes, kind: type[Kind]) -> tuple[Kind, int]:
        """The record that this hash names, and its place; Invalid where the bundle has none of that kind."""
        place, where = self._places.get(hash), f"record 0x{hash.hex()}"
        if place is None:
            reject("C:bundle", where, f"is none of the {len(self._data)} records of {self._name}")
        record = decode(self._data[place])
        if not isinstance(record, kind):
            reject("C:bundle", where, f"is a {type(record).__name__} at {place}, wanted is a {kind.__name__}")
        return record, place

    def approvals(self, hash: bytes, role: str, city: City, now: int) -> list[Approval]:
        """The signatures of a role that count on the chain now; Invalid where they are too few."""
        given = [
            one
            for one in self._approvals.get(hash, [])
            if self._roles.get(one.signer) == role
            and one.valid_until >= now
            and (hash, one.signer) not in self._withdrawn
        ]
        # Those who fill the seats of a council that has too few need sit no more.
        if not city.is_recovering():
            given = [one for one in given if city.is_seated(role, one.signer)]
        needed = city.required(role)
        if len(given) < needed:
            signed = len(self._approvals.get(hash, []))
            why = f"{len(given)} seats of the {role} signed it and count at {now}, {needed} are needed"
            reject("C:bundle", f"record 0x{hash.hex()}", f"{why}; {signed} approvals are recorded in all")
        return given

    def ever_signed(self, hash: bytes, role: str, city: City) -> list[Approval]:
        """The signatures of all who ever held a seat of a role: what a report of a breach shows."""
        given = [one for one in self._approvals.get(hash, []) if self._roles.get(one.signer) == role]
        if len(given) < (needed := city.required(role)):
            why = f"{len(given)} who ever sat in the {role} signed it, {needed} are needed: it proves nothing"
            reject("C:bundle", f"record 0x{hash.hex()}", why)
        # One who signed twice is one.
        return list({one.signer: one for one in given}.values())

    def _signed_by(self, hash: bytes) -> set[str]:
        return {self._roles.get(one.signer, "") for one in self._approvals.get(hash, [])}

    def head(self, city: City, last: int) -> Head:
        """The first anchored head that has all records up to one, and that still counts.

        The delay of an order counts from its head, so the first pays first. anchors.json only says where to
        look: whoever keeps the log could leave heads out or make some up, and the chain's newest is always
        asked too.
        """
        place = city.deployment
        gaps = city.gaps(place.block, city.newest_block())
        why = ""
        for size in [*self._sizes(place.chain_id, place.anchor, last), None]:
            try:
                head = city.head() if size is None else city.head_at(size)
            except Invalid as unknown:
                if unknown.rule != "C:UnknownHead":
                    raise
                continue
            if not last < head.size <= len(self._data):
                why = why or f"no head of chain {place.chain_id} has it: newest is {head.size}"
            elif any(gap.has(head.size, head.time) for gap in gaps):
                # What a resumption left out proves nothing to the contract any more (LEAKS 02).
                why = why or f"no head that has it counts, newest is {city.head().size}"
            elif (root := self._root(head.size)) == head.root:
                return head
            else:
                why = f"at {head.size} the records make 0x{root.hex()}, anchored is 0x{head.root.hex()}"
        return reject("C:bundle", f"record {last}", why)

    def _sizes(self, chain_id: int, anchor: bytes, last: int) -> list[int]:
        """Where the bundle says that heads with a record are, smallest first; no more than MOST_ASKED."""
        try:
            anchors = parse_anchors(self._anchors)
        except Invalid:
            return []
        mine = {one.size for one in anchors if (one.chain_id, one.contract) == (chain_id, anchor)}
        return sorted(size for size in mine if last < size <= len(self._data))[:MOST_ASKED]

    def _root(self, size: int) -> bytes:
        # Once for each head: an act after another asks for the same one.
        if size not in self._roots:
            self._roots[size] = root_of(self._leaves[:size])
        return self._roots[size]

    def path(self, index: int, head: Head) -> list[bytes]:
        """The proof that a head has the record at a place."""
        return inclusion_path(index, self._leaves[: head.size])

    # --- what each call takes ---

    def execution(self, hash: bytes, city: City, now: int) -> Execution:
        """All that Treasury asks to see for an order."""
        order, index = self.find(hash, Order)
        certificate, _ = self.find(order.certificate_hash, Certificate)
        commitment, _ = self.find(order.commitment_hash, Commitment)
        milestone, _ = self.find(certificate.milestone_hash, Milestone)
        head = self.head(city, index)
        signed = self.approvals(hash, rules.AUTHORITY, city, now)
        certified = self.approvals(order.certificate_hash, rules.CERTIFIER, city, now)
        works = order, commitment, milestone, certificate
        return Execution(*works, signed, certified, index, head.size, self.path(index, head))

    def refunding(self, hash: bytes, city: City, now: int) -> Refunding:
        """All that Treasury asks to see for a refund."""
        refund, index = self.find(hash, Refund)
        receipt, first = self.find(refund.receipt_hash, Transfer)
        head = self.head(city, max(index, first))
        signed = self.approvals(hash, rules.AUTHORITY, city, now)
        # The Auditor signs too, unless the payer said beforehand where to; the contract decides.
        needs = refund.to != receipt.refund_to or rules.AUDITOR in self._signed_by(hash)
        audited = self.approvals(hash, rules.AUDITOR, city, now) if needs else []
        paths = self.path(index, head), self.path(first, head)
        return Refunding(refund, receipt, signed, audited, index, first, head.size, *paths)

    def resolution(
        self, hash: bytes, city: City, now: int
    ) -> tuple[Resolution, int, int, list[bytes], list[Approval]]:
        """What Treasury asks to see to settle a dispute: record, place, head, proof, signatures."""
        record, index = self.find(hash, Resolution)
        head = self.head(city, index)
        signed = self.approvals(hash, rules.COUNCIL, city, now)
        return record, index, head.size, self.path(index, head), signed

    def act(self, hash: bytes, city: City, now: int) -> tuple[Record, int, int, list[bytes], list[Approval]]:
        """What Council asks to see of an act: record, place, head, proof, signatures."""
        record, index = self.find(hash, Record)
        head = self.head(city, index)
        signed = self.approvals(hash, rules.COUNCIL, city, now)
        return record, index, head.size, self.path(index, head), signed

    def lifting(
        self, hash: bytes, city: City, now: int
    ) -> tuple[int, Placed, list[Approval], list[Approval]]:
        """What Watchdog asks to see to end a freeze: head, acknowledgement, both bodies' signatures."""
        record, index = self.find(hash, Acknowledgement)
        head = self.head(city, index)
        signed = [self.approvals(hash, role, city, now) for role in (rules.COUNCIL, rules.AUDITOR)]
        return head.size, Placed(record, index, self.path(index, head)), signed[0], signed[1]

    def report(self, rule: str, named: Sequence[bytes | int], city: City) -> tuple[str, int, list[Shown]]:
        """What Watchdog asks to see of a breach: its function, the head, and what it takes after it.

        named: hashes of orders, in the ledger's order; of the transfer (G7); places of records (H2, E1).
        """
        least, most = REPORTED.get(rule, (0, 0))
        if not least <= len(named) <= most:
            known = ", ".join(f"{name} of {few}" for name, (few, _) in REPORTED.items())
            reject("C:report", rule[:40], f"{len(named)} records named; there is {known}")
        if rule in {"H2", "E1"}:
            places = [self._place(each) for each in named]
            head = self.head(city, max(places))
            shown: list[Shown] = [Placed(self._data[at], at, self.path(at, head)) for at in places]
            return ("reportTime" if rule == "H2" else "reportKind"), head.size, shown
        hashes = [each for each in named if isinstance(each, bytes)]
        before: list[tuple[Transfer, int]] = []
        if rule == "G7":
            before = [self.find(hashes[0], Transfer)]
            hashes = [before[0][0].authority]
        found = [self.find(each, Order) for each in hashes]
        head = self.head(city, max(at for _, at in [*found, *before]))
        orders = [
            Placed(order, at, self.path(at, head), self.ever_signed(each, rules.AUTHORITY, city))
            for each, (order, at) in zip(hashes, found, strict=True)
        ]
        first = found[0][0]
        certificates = (
            [self.find(order.certificate_hash, Certificate)[0] for order, _ in found]
            if rule in {"O2", "O6"}
            else []
        )
        match rule:
            case "O1":
                return "reportUnregistered", head.size, [*orders]
            case "O2":
                return "reportRefused", head.size, [*orders, *certificates]
            case "O3":
                return "reportPayee", head.size, [*orders, self.find(first.commitment_hash, Commitment)[0]]
            case "O6":
                return "reportTwice", head.size, [*orders, *certificates]
            case "O7":
                return "reportOverspent", head.size, [orders]
            case _:
                (moved, at), *_ = before
                return "reportRepublic", head.size, [Placed(moved, at, self.path(at, head)), *orders]

    def _place(self, named: bytes | int) -> int:
        place = named if isinstance(named, int) else self._places.get(named, -1)
        if not 0 <= place < len(self._data):
            reject("C:bundle", f"record {place}", f"is none of the {len(self._data)} records of {self._name}")
        return place


def _read(source: Source, path: str) -> bytes:
    content = source.read(path)
    if content is None:
        reject("C:bundle", source.name, f"has no {path}")
    return content
