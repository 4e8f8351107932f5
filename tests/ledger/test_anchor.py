from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from eth_account import Account as Wallet
from web3 import Web3

from contracts.bindings import City, deploy
from contracts.devchain import DevChain
from ledger import store
from ledger.anchor import EvmAnchor
from ledger.database import engine, reading
from ledger.proof import check_consistency
from ledger.records import Invalid, Unavailable, keccak256
from ledger.writer import Writer
from tests import city
from tests.ledger.running import Ledger, fees

ETHER = 10**18


@dataclass
class Chain:
    """A chain that takes only extensions, and whose node can be silent or lose a reply."""

    name: str = "a chain"
    number: int = 1
    heads: list[tuple[int, bytes]] = field(default_factory=list)
    is_silent: bool = False
    loses_reply: bool = False

    def held(self) -> store.Anchored | None:
        if self.is_silent:
            raise Unavailable("chain", "no answer")
        if not self.heads:
            return None
        (size, root), block = self.heads[-1], len(self.heads)
        place = keccak256(b"%d %d" % (self.number, block))
        return store.Anchored(self.number, bytes(20), size, root, place, block, place, city.START_S + block)

    def append(self, size: int, root: bytes, path: list[bytes], _head: object) -> None:
        if self.is_silent:
            raise Unavailable("chain", "no answer")
        if self.heads:
            check_consistency(*self.heads[-1], size, root, path)
        self.heads.append((size, root))
        if self.loses_reply:
            self.loses_reply = False
            raise Unavailable("chain", "the reply was lost")


def anchored(ledger: Ledger) -> list[tuple[int, int]]:
    with reading(ledger.engine) as connection:
        return [(one.chain_id, one.size) for one in store.anchors(connection)]


def more(ledger: Ledger, writer: Writer, log: city.Log, first: int, count: int) -> None:
    for fee in fees(log, first, count):
        ledger.ask(fee)
    writer.drain()


def test_each_head_extends_what_the_chain_holds_and_the_same_head_is_anchored_once(ledger: Ledger):
    writer, log = ledger.opened()
    publisher, watcher, chain = ledger.publisher(), ledger.watcher(), Chain()
    sizes = []
    for count in (0, 1, 300):
        more(ledger, writer, log, 1_000 * count, count)
        sizes += [writer.publish(publisher, watcher, (chain,)) for _ in range(2)]
    assert [size for size, _ in chain.heads] == sizes[::2] == sizes[1::2]
    assert anchored(ledger) == [(1, size) for size, _ in chain.heads]


def test_a_head_whose_reply_was_lost_is_found_on_the_chain_and_noted(ledger: Ledger):
    writer, _ = ledger.opened()
    publisher, watcher, chain = ledger.publisher(), ledger.watcher(), Chain(loses_reply=True)
    with pytest.raises(Unavailable, match="reply was lost"):
        writer.publish(publisher, watcher, (chain,))
    assert anchored(ledger) == []
    writer.publish(publisher, watcher, (chain,))
    assert [size for size, _ in chain.heads] == [writer.tree.size]
    assert anchored(ledger) == [(1, writer.tree.size)]


def test_a_chain_that_is_gone_is_named_and_the_other_goes_on(ledger: Ledger):
    writer, log = ledger.opened()
    publisher, watcher = ledger.publisher(), ledger.watcher()
    gone, other = Chain("chain 1", 1, is_silent=True), Chain("chain 2", 2)
    with pytest.raises(Unavailable, match="chain 1: no answer"):
        writer.publish(publisher, watcher, (gone, other))
    assert anchored(ledger) == [(2, writer.tree.size)]
    assert b'"chainId": "2"' in (publisher.folder / "anchors.json").read_bytes()
    first = writer.tree.size
    more(ledger, writer, log, 0, 3)
    gone.is_silent = False
    writer.publish(publisher, watcher, (gone, other))
    # It gets the newest head at once; what it missed is inside.
    assert anchored(ledger) == [(2, first), (1, writer.tree.size), (2, writer.tree.size)]


@pytest.mark.parametrize("change", [1, 0])
def test_a_chain_that_holds_more_or_another_ledger_is_never_overwritten(ledger: Ledger, change: int):
    writer, _ = ledger.opened()
    chain = Chain(heads=[(writer.tree.size + change, bytes(32))])
    with pytest.raises(Invalid, match="L9"):
        writer.publish(ledger.publisher(), ledger.watcher(), (chain,))
    assert len(chain.heads) == 1
    assert anchored(ledger) == []


@dataclass
class OnChain:
    """A ledger whose Genesis names contracts that stand on the embedded chain."""

    ledger: Ledger
    city: City
    log: city.Log

    def anchor(self) -> EvmAnchor:
        return EvmAnchor(self.city, Wallet.from_key(city.OPERATOR.secret.secret))


@pytest.fixture
def on_chain(tmp_path: Path) -> Iterator[OnChain]:
    ledger = Ledger(
        tmp_path, engine(f"sqlite:///{tmp_path}/ledger.db"), engine(f"sqlite:///{tmp_path}/heads.db")
    )
    deployer, operator = (Wallet.from_key(key.secret.secret) for key in (city.Key("deployer"), city.OPERATOR))
    balances = {account.address: 100 * ETHER for account in (deployer, operator)}
    with DevChain(tmp_path / "chain.jsonl", balances, ledger.clock, chain_id=city.CHAIN_ID) as chain:
        seats, log = city.founding(), city.Log()
        w3 = Web3(chain.provider)
        deployment = deploy(w3, deployer, city.digest("ledger"), city.RETENTION_END_S, seats)
        genesis = log.add(replace(city.genesis(seats), council=deployment.council, anchor=deployment.anchor))
        for seat in seats:
            log.add(seat)
        log.approve(genesis, *city.COUNCIL[:3])
        yield OnChain(ledger, City(w3, deployment), log)
    ledger.engine.dispose()
    ledger.heads.dispose()


def test_a_contract_takes_each_head_that_extends_the_last(on_chain: OnChain):
    ledger, anchor = on_chain.ledger, on_chain.anchor()
    assert anchor.held() is None
    writer, publisher, watcher = ledger.writer(), ledger.publisher(), ledger.watcher()
    for end in (len(on_chain.log.records) - 1, len(on_chain.log.records)):
        ledger.feed(writer, on_chain.log.records[writer.tree.size : end])
        writer.publish(publisher, watcher, (anchor,))
        held = anchor.held()
        assert held is not None
        assert (held.size, held.root) == (end, writer.tree.root())
        assert (held.chain_id, held.contract) == (city.CHAIN_ID, on_chain.city.deployment.anchor)
        receipt = on_chain.city.w3.eth.get_transaction_receipt(held.transaction_hash)
        assert (receipt["status"], receipt["blockNumber"]) == (1, held.block)
        assert bytes(receipt["blockHash"]) == held.block_hash
    with reading(ledger.engine) as connection:
        assert store.anchors(connection)[-1] == held


def test_a_head_without_the_watcher_s_own_signature_stays_off_the_chain(on_chain: OnChain):
    ledger = on_chain.ledger
    writer = ledger.writer()
    ledger.feed(writer, on_chain.log.records)
    thief = ledger.watcher()
    thief._seat = city.Key("thief").secret
    with pytest.raises(Invalid, match="C:"):
        writer.publish(ledger.publisher(), thief, (on_chain.anchor(),))
    assert on_chain.anchor().held() is None
