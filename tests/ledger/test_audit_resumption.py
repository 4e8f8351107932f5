"""A poisoned anchor that goes on by act and delay: contract, writer, bundle and auditor tell one story (LEAKS 02)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_account import Account as Wallet
from web3 import Web3

from contracts.bindings import sign_digest
from contracts.devchain import DevChain
from contracts.events import Resumed, ResumptionAnnounced, read_events
from contracts.resumption import Resumption
from ledger import proof, rules, standing
from ledger.anchoring import is_settled
from ledger.audit import Verdict, audit
from ledger.database import reading
from ledger.publish import Publisher, Trust
from ledger.records import ZERO_ADDRESS, Asset, Contract, Invalid, approve_digest, hash_struct, head_digest
from ledger.writer import Writer
from tests import city
from tests.ledger.running import KEYS, Clock
from tests.ledger.test_anchor import ETHER, OnChain, anchored, opened

ACT = city.digest("the act that goes on")
THIEVES_OPERATOR, THIEVES_WATCHER = city.OPERATOR, city.WATCHER
BROUGHT_BY = Wallet.from_key(city.Key("deployer").secret.secret)


@dataclass
class Poisoned:
    """A ledger with two final heads on its chain, and a third there that is no head of this ledger."""

    on: OnChain
    chain: DevChain
    url: str
    publisher: Publisher
    writer: Writer
    sizes: list[int]

    def write(self, writer: Writer, name: str) -> int:
        """One act more in the ledger."""
        self.on.log.act(
            Asset(0, name, 2, 0, ZERO_ADDRESS, city.START_S, city.FOREVER_S, city.ACT)
            if name == "KZT"
            else Contract(0, name, city.CHAIN_ID, self.anchor_at, self.code_hash, ACT)
        )
        self.on.ledger.feed(writer, self.on.log.records[writer.tree.size :])
        return writer.tree.size

    @property
    def anchor_at(self) -> bytes:
        return self.on.city.deployment.anchor

    @property
    def code_hash(self) -> bytes:
        return self.on.city.deployment.code_hashes["anchor"]

    def publish(self, writer: Writer) -> None:
        """A round, and blocks until it is final, and the round that notes it."""
        for _ in range(2):
            writer.publish(self.publisher, self.on.ledger.watcher(), (self.on.anchor(),))
            self.chain.mine(2)

    def wait(self, seconds: int) -> None:
        self.on.log.wait(seconds)
        self.on.ledger.clock.now = self.on.log.now
        self.chain.mine(1)

    def poison(self) -> None:
        """With the stolen keys of an operator and a watcher: a history that extends what is anchored."""
        deployment, until = self.on.city.deployment, self.on.log.now + rules.DAY
        leaves = [proof.leaf_hash(data) for data in self.on.log.records]
        forged = leaves + [proof.leaf_hash(b"forged %d" % number) for number in range(50)]
        size, root = len(forged), proof.root_of(forged)
        thief = Wallet.from_key(THIEVES_WATCHER.secret.secret)
        signature = sign_digest(thief, head_digest(deployment.domain, size, root, until), until)
        path = proof.consistency_path(len(leaves), forged)
        self.on.city.append(Wallet.from_key(THIEVES_OPERATOR.secret.secret), size, root, path, signature)
        self.chain.mine(3)

    def asked(self, act: bytes = ACT) -> Resumption:
        """Go on from the first of the two heads."""
        head = self.on.city.head_at(self.sizes[0])
        return Resumption(self.on.log.now, head.size, head.time, head.root, act)

    def announce(self, asked: Resumption, keys: Sequence[city.Key]) -> None:
        self.on.city.announce_resumption(BROUGHT_BY, asked, self.signed(asked, keys))

    def resume(self, asked: Resumption, keys: Sequence[city.Key] = city.COUNCIL[:3]) -> None:
        self.on.city.resume(BROUGHT_BY, asked, self.signed(asked, keys))

    def signed(self, asked: Resumption, keys: Sequence[city.Key]) -> list:
        until = asked.time + 30 * rules.DAY
        digest = approve_digest(self.on.city.deployment.domain, asked, until)
        return [sign_digest(Wallet.from_key(key.secret.secret), digest, until) for key in keys]

    def audit(self) -> Verdict:
        return audit(self.publisher.folder, rpcs=[self.url])

    def found(self) -> set[str]:
        return {finding.rule for finding in self.audit().findings}


@pytest.fixture
def poisoned(tmp_path: Path) -> Iterator[Poisoned]:
    wallets = (Wallet.from_key(key.secret.secret) for key in (city.Key("deployer"), city.OPERATOR))
    balances, clock = {wallet.address: 100 * ETHER for wallet in wallets}, Clock()
    with DevChain(None, balances, clock, chain_id=city.CHAIN_ID) as chain:

        def start(ledger) -> tuple:
            ledger.clock = clock
            return Web3(chain.provider), chain.mine

        with opened(tmp_path, start) as on:
            deployment, ledger = on.city.deployment, on.ledger
            contracts = {"council": deployment.council, "anchor": deployment.anchor}
            verifiers = [*KEYS.verifiers(), ledger.watcher().verifier()]
            trust = Trust(city.digest("ledger"), city.CHAIN_ID, contracts, verifiers)
            publisher = Publisher(tmp_path / "bundle", KEYS, trust)
            made = Poisoned(on, chain, chain.serve(), publisher, ledger.writer(), [])
            for end in (len(on.log.records) - 1, len(on.log.records)):
                ledger.feed(made.writer, on.log.records[made.writer.tree.size : end])
                made.publish(made.writer)
                made.sizes.append(end)
            assert anchored(ledger) == [(city.CHAIN_ID, size) for size in made.sizes]
            assert made.audit().findings == []
            made.poison()
            yield made


def test_leak_02_a_poisoned_anchor_goes_on_by_act_and_delay_and_writer_and_auditor_follow(
    poisoned: Poisoned, caplog: pytest.LogCaptureFixture
):
    town, ledger = poisoned, poisoned.on.ledger
    first, second = town.sizes
    # The writer refuses, and names the chain and what it holds; one that starts now signs nothing at all.
    town.write(town.writer, "KZT")
    with pytest.raises(Invalid, match=f"L9 at chain 31337, .*the chain holds size {second + 50}"):
        town.publish(town.writer)
    writer = ledger.writer()
    with pytest.raises(Invalid, match=f"the chain holds size {second + 50}, this ledger has"):
        town.publish(writer)
    assert town.found() == {"T7"}
    # The act is recorded first, and is public although the chain stands against it.
    size = town.write(writer, f"anchor@{first}")
    with pytest.raises(Invalid, match="L9 at chain 31337"):
        town.publish(writer)
    assert town.publisher.published() == size
    # Council signatures: two are too few, three are enough; and the notice has to pass.
    asked = town.asked()
    with pytest.raises(Invalid, match=r"^C:"):
        town.announce(asked, city.COUNCIL[:2])
    town.announce(asked, city.COUNCIL[:3])
    town.wait(rules.NOTICE_S - 3_600)
    with pytest.raises(Invalid, match=r"^C:NoticeNotOver"):
        town.resume(asked)
    verdict = town.audit()
    assert {finding.rule for finding in verdict.findings} == {"T7"}
    assert [told for told in verdict.said if f"may go on from size {first}" in told]
    town.wait(3_660)
    with pytest.raises(Invalid, match=r"^C:"):
        town.resume(asked, city.COUNCIL[1:3])
    town.resume(asked)
    events = [
        read_events(town.on.city.w3, kind, [town.anchor_at], 0, town.on.city.newest_block())
        for kind in (ResumptionAnnounced, Resumed)
    ]
    assert [[(one.resumption_hash, one.head_size) for one in some] for some in events] == [
        [(hash_struct(asked), first)]
    ] * 2
    assert (events[0][0].act, town.on.city.head().size) == (ACT, first)
    # A head of this ledger was left out with the forged one: it is told, and counts as final no more.
    anchors = (town.on.anchor(),)
    writer.follow(town.publisher, anchors)
    assert f"goes on from size {first}: final heads that count there no more: {second}" in caplog.text
    assert not is_settled(ledger.engine, anchors, second)
    with reading(ledger.engine) as connection:
        reach = standing.reach(connection, None, ())
    assert (reach.anchored, reach.final) == (first, first)
    town.wait(60)
    town.publish(writer)
    assert anchored(ledger) == [(city.CHAIN_ID, one) for one in (first, second, size)]
    assert is_settled(ledger.engine, anchors, size)
    assert town.on.city.head_at(size).root == writer.tree.root()
    verdict = town.audit()
    assert (verdict.findings, verdict.chain_checked) == ([], True)
    told = "\n".join(verdict.exceptions)
    assert f"went on from size {first} at " in told
    assert f"by act 0x{ACT.hex()}: 2 heads after it are void" in told
    assert f"holds size {second + 50} with root 0x" in told
    assert "s for an anchor" in told
    # Offline nobody can see what the contract left out; the bundle alone is valid too.
    assert audit(town.publisher.folder).findings == []


@pytest.mark.parametrize("wrong", ["no record", "another act", "another size", "another contract"])
def test_leak_02_a_resumption_by_no_act_of_the_ledger_is_a_finding_before_and_after_it_happens(
    poisoned: Poisoned, wrong: str
):
    town = poisoned
    asked = town.asked(city.digest("nobody's act") if wrong == "another act" else ACT)
    if wrong != "no record":
        name = f"anchor@{town.sizes[1 if wrong == 'another size' else 0]}"
        at = city.Key("next anchor").address if wrong == "another contract" else town.anchor_at
        town.on.log.act(Contract(0, name, city.CHAIN_ID, at, town.code_hash, ACT))
        town.on.ledger.feed(town.writer, town.on.log.records[town.writer.tree.size :])
        with pytest.raises(Invalid, match="L9 at chain 31337"):
            town.publish(town.writer)
    town.announce(asked, city.COUNCIL[:3])
    assert {"T7", "T11"} <= town.found()
    town.wait(rules.NOTICE_S + 60)
    town.resume(asked)
    assert {"T7", "T11"} <= town.found()


def test_leak_02_without_the_councils_signatures_nothing_goes_on(poisoned: Poisoned):
    town, asked = poisoned, poisoned.asked()
    town.write(town.writer, f"anchor@{town.sizes[0]}")
    with pytest.raises(Invalid, match="L9 at chain 31337"):
        town.publish(town.writer)
    others = [city.OPERATOR, city.WATCHER, city.AUTHORITY, city.COUNCIL[0]]
    for keys in ([], city.COUNCIL[:2], others):
        with pytest.raises(Invalid, match=r"^C:"):
            town.announce(asked, keys)
    town.wait(rules.NOTICE_S + 60)
    with pytest.raises(Invalid, match=r"^C:NotAnnounced"):
        town.resume(asked)
    with pytest.raises(Invalid, match="L9 at chain 31337"):
        town.publish(town.writer)
    assert "T7" in town.found()
    # What three signed is that one resumption and no other.
    signed = town.signed(asked, city.COUNCIL[:3])
    with pytest.raises(Invalid, match=r"^C:WrongSigner"):
        town.on.city.announce_resumption(BROUGHT_BY, replace(asked, act=city.ACT), signed)


def test_leak_02_the_same_size_may_be_anchored_again_after_a_resumption(poisoned: Poisoned):
    town, writer = poisoned, poisoned.writer
    first, second = town.sizes
    asked = town.asked()
    # Nothing new but the act: and it is recorded only once the chain has gone on.
    town.announce(asked, city.COUNCIL[:3])
    town.wait(rules.NOTICE_S + 60)
    town.resume(asked)
    town.wait(60)
    town.publish(writer)
    assert town.on.city.head().size == second
    assert "T11" in town.found()
    town.write(writer, f"anchor@{first}")
    town.publish(writer)
    # Whoever asks for the head of that size gets the one that counts.
    assert town.on.city.head_at(second).time > asked.head_time + rules.NOTICE_S - rules.DAY
    assert anchored(town.on.ledger) == [(city.CHAIN_ID, one) for one in (first, second, writer.tree.size)]
    assert town.audit().findings == []
