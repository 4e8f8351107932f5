"""What a transaction costs in gas, on anvil: split to two who have had money, event, signed quote, once only.

Steady state: payer, merchant and treasury have had the token before, the Council has been asked in this
period, and a quote of the same 128 was paid before. What the first costs is measured beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from statistics import mean

from eth_account import Account as Wallet
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.types import TxReceipt

from contracts.bindings import (
    COIN,
    PERMIT2,
    City,
    Execution,
    Quote,
    Signature,
    Terms,
    authorization_digest,
    city_part,
    deploy,
    deploy_token,
    permit2_digest,
    quote_digest,
    sign_digest,
)
from ledger import proof
from ledger.records import (
    Account,
    Allocation,
    Approval,
    Asset,
    Certificate,
    Commitment,
    Milestone,
    Order,
    Parameter,
    Project,
    Quorum,
    Record,
    RevenueRule,
    Seat,
    address_word,
    approve_digest,
    encode,
    hash_struct,
    head_digest,
)

DAY = 86_400
ETHER = 10**18
FOREVER_S = 5_000_000_000
ACT = sha256(b"act").digest()
SALE = "sale"
OFFICES = ("authority", "certifier", "auditor", "watcher", "operator", "gateway")
PERMIT2_CODE = Path(__file__).parent.parent / "var" / "permit2" / "code.hex"

# What the issue allows, and what others were measured at on anvil 1.7.1 (docs/contracts-gas.md says who).
TARGETS = {
    "gas.native": 56_000,
    "gas.allowance": 66_000,
    "gas.eip3009": 110_000,
    "gas.permit2": 100_000,
    "gas.deposit_batch20": 75_000,
    "gas.anchor_1e6": 70_000,
    "gas.anchor_1e9": 85_000,
}
PEERS = {
    "gas.native": 83_634,
    "gas.allowance": 103_397,
    "gas.eip3009": 146_712,
    "gas.permit2": 119_600,
    "gas.anchor_1e6": 50_891,
    "gas.anchor_1e9": 50_891,
}


def key(name: str) -> LocalAccount:
    """A key made from its name."""
    account: LocalAccount = Wallet.from_key(sha256(b"key " + name.encode()).digest())
    return account


def address(name: str) -> bytes:
    """The address of a name's key."""
    return bytes.fromhex(key(name).address[2:])


# --- a tree of any size whose leaves are all alike ---------------------------------------------------


@cache
def _whole(levels: int) -> bytes:
    if levels == 0:
        return proof.leaf_hash(b"a record")
    below = _whole(levels - 1)
    return proof.node_hash(below, below)


@cache
def root_of(size: int) -> bytes:
    """The root of so many equal leaves; each half is made once."""
    if size & (size - 1) == 0:
        return _whole(size.bit_length() - 1)
    half = 1 << (size - 1).bit_length() - 1
    return proof.node_hash(_whole(half.bit_length() - 1), root_of(size - half))


def consistency(old: int, size: int, *, whole: bool = True) -> list[bytes]:
    """RFC 6962 section 2.1.2 for equal leaves."""
    if old == size:
        return [] if whole else [root_of(size)]
    half = 1 << (size - 1).bit_length() - 1
    if old <= half:
        return [*consistency(old, half, whole=whole), root_of(size - half)]
    return [*consistency(old - half, size - half, whole=False), root_of(half)]


# --- a city ------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A city on a node of its own, with a token and all acts that a payment needs."""

    w3: Web3
    call: Callable[..., object]
    city: City
    token: bytes
    log: list[Record]
    nonce: int = 0

    @property
    def now(self) -> int:
        """The newest block's time."""
        return int(self.w3.eth.get_block("latest")["timestamp"])

    def wait(self, seconds: int) -> None:
        """Let time pass at once."""
        self.call("evm_setNextBlockTimestamp", self.now + seconds)
        self.call("evm_mine")

    def append(self, size: int, root: bytes, path: list[bytes]) -> TxReceipt:
        """Anchor a head, witnessed."""
        until = self.now + DAY
        digest = head_digest(self.city.deployment.domain, size, root, until)
        return self.city.append(key("operator"), size, root, path, sign_digest(key("watcher"), digest, until))

    def anchor(self) -> TxReceipt:
        """Anchor what was recorded."""
        leaves, old = [proof.leaf_hash(encode(record)) for record in self.log], self.city.head().size
        path = proof.consistency_path(old, leaves) if old else []
        return self.append(len(leaves), proof.root_of(leaves), path)

    def approve(self, record: Record, *names: str) -> list[Approval]:
        """Approvals of a record by these keys."""
        until, found = self.now + 90 * DAY, []
        for name in names:
            signed = sign_digest(key(name), approve_digest(self.city.deployment.domain, record, until), until)
            found.append(
                Approval(self.now, hash_struct(record), address(name), until, signed.v, signed.r, signed.s)
            )
        return found

    def path(self, record: Record) -> tuple[int, int, list[bytes]]:
        """Where a record stands in the newest head."""
        size, index = self.city.head().size, self.log.index(record)
        leaves = [proof.leaf_hash(encode(each)) for each in self.log[:size]]
        return index, size, proof.inclusion_path(index, leaves)

    def enact(self, *acts: Record) -> None:
        """Record, anchor and bring acts."""
        self.log += acts
        self.anchor()
        for act in acts:
            approvals = self.approve(act, "council 0", "council 1", "council 2")
            self.city.enact(key("payer"), act, *self.path(act), approvals)

    def quote(self, token: bytes, amount: int, **changes: object) -> tuple[Quote, Signature]:
        """A quote like many others, signed by the gateway."""
        self.nonce += 1
        invoice = sha256(b"invoice %d" % self.nonce).digest()
        plain = Quote(invoice, SALE, address("merchant"), token, amount, 300, self.now + 900, self.nonce)
        quote = replace(plain, **changes)  # type: ignore[arg-type]
        return quote, sign_digest(key("gateway"), quote_digest(self.city.deployment.domain, quote))


def founding(now: int) -> list[Record]:
    """The seats and quorums that a Genesis would bind."""
    offices = [("council", f"council {number}") for number in range(5)] + [(name, name) for name in OFFICES]
    seats = [Seat(now, role, address(name), now, FOREVER_S, ACT) for role, name in offices]
    return [*seats, Quorum(now, "council", 3, ACT)]


def found_city(w3: Web3, call: Callable[..., object]) -> Place:
    """Deploy, enact, wait until all is in force, and let everybody have had money before."""
    for name in ("deployer", "payer", "operator", "merchant", "relayer", "council 0"):
        call("anvil_setBalance", key(name).address, hex(1_000 * ETHER))
    call("anvil_setCode", Web3.to_checksum_address(PERMIT2), PERMIT2_CODE.read_text().strip())
    now = int(w3.eth.get_block("latest")["timestamp"])
    founders = founding(now)
    deployment = deploy(w3, key("deployer"), sha256(b"ledger").digest(), FOREVER_S, founders)
    token = deploy_token(w3, key("deployer"), "Test tenge", "TKZT")
    place = Place(w3, call, City(w3, deployment), token, founders)
    project = Project(now, "water-main", "water", "alatau-gate", 10**13, ACT)
    treasury, chain_id = address_word(deployment.treasury), deployment.chain_id
    place.enact(
        *deployment.contract_records(now, ACT),
        Asset(now, "TKZT", 6, chain_id, token, now, FOREVER_S, ACT),
        Asset(now, "COIN", 18, chain_id, COIN, now, FOREVER_S, ACT),
        RevenueRule(now, SALE, "RETAINED", 100, now, ACT),
        Parameter(now, "direct_settlement", 1, now, ACT),
        Account(now, "treasury-tkzt", "TKZT", "RETAINED", "chain", treasury, bytes(32), ACT),
        Account(now, "builder", "TKZT", "RETAINED", "payee", address_word(address("builder")), ACT, ACT),
        project,
        Allocation(now, "alloc", "block", hash_struct(project), "TKZT", 10**12, ACT, ACT),
    )
    place.wait(14 * DAY + 1)
    for holder in (address("payer"), address("merchant"), address("builder"), deployment.treasury):
        place.city.mint(key("deployer"), token, holder, 10**12)
    return place


# --- what is measured --------------------------------------------------------------------------------


def measure_payments(place: Place) -> Iterator[tuple[str, float]]:
    """The four ways to pay a quote; the first of each page and period goes before and is named so."""
    city, payer, token = place.city, key("payer"), place.token
    city.allow(payer, token, 2**256 - 1)
    # The coin goes to people who have some.
    city.transfer(payer, COIN, city.deployment.treasury, 1)

    def native() -> TxReceipt:
        return city.pay(payer, *place.quote(COIN, 10**16 + 7))

    def allowance() -> TxReceipt:
        return city.pay(payer, *place.quote(token, 12_345_678))

    def eip3009() -> TxReceipt:
        quote, signature = place.quote(token, 12_345_678)
        domain = place.w3.eth.call(
            {"to": Web3.to_checksum_address(token), "data": Web3.keccak(text="DOMAIN_SEPARATOR()")[:4]}
        )
        digest = authorization_digest(bytes(domain), quote, address("payer"), city.deployment.router)
        return city.pay_with_authorization(
            key("relayer"), quote, signature, address("payer"), sign_digest(payer, digest)
        )

    def permit2() -> TxReceipt:
        quote, signature = place.quote(token, 12_345_678)
        part, router = city_part(quote.amount, quote.share_bps), city.deployment.router
        digest = permit2_digest(city.deployment.chain_id, quote, part, place.nonce, router)
        return city.pay_with_permit2(
            key("relayer"), quote, signature, address("payer"), place.nonce, sign_digest(payer, digest)
        )

    approve = place.w3.eth.contract(Web3.to_checksum_address(token), abi=[APPROVE])
    raw = approve.functions.approve(Web3.to_checksum_address(PERMIT2), 2**256 - 1).build_transaction(
        {"from": payer.address, "nonce": place.w3.eth.get_transaction_count(payer.address)}
    )
    place.w3.eth.wait_for_transaction_receipt(
        place.w3.eth.send_raw_transaction(payer.sign_transaction(raw).raw_transaction)  # type: ignore[arg-type]
    )

    def limited() -> TxReceipt:
        quote, signature = place.quote(token, 12_345_678)
        city.allow(payer, token, 2 * quote.amount)
        return city.pay(payer, quote, signature)

    ways = {
        "native": native,
        "allowance": allowance,
        "eip3009": eip3009,
        "permit2": permit2,
        "allowance.limited": limited,
    }
    for name, pay in ways.items():
        if name in {"native", "allowance"}:
            yield f"gas.{name}.first_of_128", pay()["gasUsed"]
        else:
            pay()
        yield f"gas.{name}", mean(pay()["gasUsed"] for _ in range(5))


APPROVE = {
    "type": "function",
    "name": "approve",
    "stateMutability": "nonpayable",
    "inputs": [{"name": "spender", "type": "address"}, {"name": "value", "type": "uint256"}],
    "outputs": [{"name": "", "type": "bool"}],
}


def measure_deposits(place: Place) -> Iterator[tuple[str, float]]:
    """Twenty addresses in one transaction, each for the first time, and the same twenty again."""
    for name, batch in (
        ("", "first"),
        ("gas.deposit_batch20", "batch"),
        ("gas.deposit_batch20.again", "batch"),
    ):
        numbers = (sha256(f"{batch} {number}".encode()).digest() for number in range(20))
        terms = [Terms(number, SALE, address("merchant"), 300) for number in numbers]
        for each in terms:
            place.city.mint(key("deployer"), place.token, place.city.deposit_address(each), 12_345_678)
        gas = place.city.flush(key("relayer"), terms, place.token)["gasUsed"] / len(terms)
        # The first of all asks the Council; it is not in steady state.
        if name:
            yield name, gas


def measure_execute(place: Place) -> Iterator[tuple[str, float]]:
    """One order paid: all of its records shown, two signatures checked, an inclusion proof of a small log."""
    now, allocation = place.now, next(each for each in place.log if isinstance(each, Allocation))
    commitment = Commitment(now, "contract", hash_struct(allocation), "builder", 10**9, ACT)
    milestones = [Milestone(now, f"stage-{n}", hash_struct(commitment), 5 * 10**8, ACT) for n in range(2)]
    gas = 0
    for number, milestone in enumerate(milestones):
        certificate = Certificate(now, hash_struct(milestone), 5 * 10**8, 1, ACT)
        order = Order(
            now,
            f"order-{number}",
            hash_struct(commitment),
            hash_struct(allocation),
            hash_struct(certificate),
            "treasury-tkzt",
            5 * 10**8,
            "builder",
        )
        place.log += [commitment, milestone, certificate, order]
        place.anchor()
        execution = Execution(
            order,
            commitment,
            milestone,
            certificate,
            place.approve(order, "authority"),
            place.approve(certificate, "certifier"),
            *place.path(order),
        )
        place.wait(DAY)
        gas = place.city.execute(key("relayer"), execution)["gasUsed"]
    yield "gas.execute", gas


def measure_anchor(place: Place) -> Iterator[tuple[str, float]]:
    """Heads a thousand records apart: from exactly 10^6 and 10^9, and the mean of sizes that nobody chose."""
    for power in (6, 9):
        _restart(place, 10**power - 1_000)
        gas = 0
        for size in (10**power, 10**power + 1_000):
            path = consistency(size - 1_000, size)
            gas = place.append(size, root_of(size), path)["gasUsed"]
        yield f"gas.anchor_1e{power}", gas
        old = 10**power - 5_003
        _restart(place, old)
        used, counts = [], []
        for step in range(8):
            size = old + 997 + 131 * step
            path = consistency(old, size)
            used.append(place.append(size, root_of(size), path)["gasUsed"])
            counts.append(len(path))
            old = size
        # At full tiles, 256 records each, the proof leaves eight levels out.
        old = (10**power - 9_000) // 256 * 256
        _restart(place, old)
        tiles = []
        for step in range(14):
            size = old + 256 * (1 + step % 5)
            tiles.append(place.append(size, root_of(size), consistency(old, size))["gasUsed"])
            old = size
        yield f"gas.anchor_1e{power}.tiles", mean(tiles[1:])
        # The first of them asks the Council; the others are in the same period.
        yield f"gas.anchor_1e{power}.any", mean(used[1:])
        yield f"gas.anchor_1e{power}.any.most", max(used[1:])
        yield f"gas.anchor_1e{power}.first_of_period", used[0]
        yield f"gas.anchor_1e{power}.any.hashes", mean(counts[1:])


def _restart(place: Place, size: int) -> None:
    """A city of the same offices whose first head is of this size: the first needs no proof."""
    # Of a ledger of its own: the same one would be found where it stands already.
    ledger = sha256(f"ledger from {size}".encode()).digest()
    deployment = deploy(place.w3, key("deployer"), ledger, FOREVER_S, founding(place.now))
    place.city = City(place.w3, deployment)
    place.append(size, root_of(size), [])


MEASURES = (measure_payments, measure_deposits, measure_execute, measure_anchor)


def measure(w3: Web3, call: Callable[..., object]) -> dict[str, float]:
    """Name and gas of everything."""
    place = found_city(w3, call)
    return dict(pair for each in MEASURES for pair in each(place))


def main() -> None:
    """One JSON object a line; with --write, the snapshot that tests compare with."""
    from tests import servers

    with servers.anvil() as node:
        found = measure(Web3(HTTPProvider(node.url)), node.call)
    if "--write" in sys.argv[1:]:
        kept = {name: round(used) for name, used in found.items()}
        (servers.ROOT / "contracts" / "gas.json").write_text(
            json.dumps(kept, indent=1) + "\n", encoding="utf-8"
        )
    for name, used in found.items():
        line = {"name": name, "value": round(used), "unit": "gas"}
        line |= {"target": TARGETS.get(name), "reference": PEERS.get(name)}
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
