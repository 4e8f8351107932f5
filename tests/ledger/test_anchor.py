"""Heads on chains: sent, in a block, final; replaced, lost and taken back; one chain and two; real nodes too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_account import Account as Wallet
from web3 import HTTPProvider, Web3

from contracts.bindings import City, Signature, deploy
from contracts.devchain import DevChain
from ledger import anchor_store, store, watcher
from ledger.anchor import EvmAnchor
from ledger.anchoring import is_settled
from ledger.audit import audit
from ledger.audit.replay import LATE_S
from ledger.database import engine, reading
from ledger.records import Contract, Invalid, Unavailable, decode
from ledger.timekeeping import SKEW_S, ChainTime, Timekeeper
from ledger.writer import Writer
from tests import city, servers
from tests.fakes.chain import TIP_WEI, Node
from tests.ledger.running import KEYS, Clock, Ledger, fees

ETHER = 10**18
FOR_EVER = Signature(bytes(20), 1 << 40, 27, bytes(32), bytes(32))


def node(ledger: Ledger, chain_id: int = city.CHAIN_ID, **how: object) -> Node:
    """A simulated node of a chain whose anchor the ledger names."""
    return Node(chain_id, ledger.clock, city.ANCHOR, **how)


def anchor(node: Node, **how: object) -> EvmAnchor:
    """The real anchor on a simulated node."""
    return EvmAnchor(node, object(), node.clock, **how)


def anchored(ledger: Ledger) -> list[tuple[int, int]]:
    with reading(ledger.engine) as connection:
        return [(one.chain_id, one.size) for one in store.anchors(connection)]


def sent(ledger: Ledger, node: Node) -> anchor_store.Sent | None:
    with reading(ledger.engine) as connection:
        return anchor_store.progress(connection, node.chain_id, node.contract).sent


def more(ledger: Ledger, writer: Writer, log: city.Log, first: int, count: int) -> None:
    for fee in fees(log, first, count):
        ledger.ask(fee)
    writer.drain()


def test_each_head_extends_what_the_chain_holds_and_the_same_head_is_anchored_once(ledger: Ledger):
    writer, log = ledger.opened()
    publisher, watcher, chain = ledger.publisher(), ledger.watcher(), node(ledger)
    sizes = []
    for count in (0, 1, 300):
        more(ledger, writer, log, 1_000 * count, count)
        for _ in range(2):
            sizes.append(writer.publish(publisher, watcher, (anchor(chain),)))
            chain.mine(2)
    writer.publish(publisher, watcher, (anchor(chain),))
    assert chain.sizes() == sizes[::2] == sizes[1::2]
    assert anchored(ledger) == [(city.CHAIN_ID, size) for size in chain.sizes()]
    assert len(chain.seen) == 3


def test_before_its_first_record_a_ledger_publishes_nothing_and_waits_for_nothing(ledger: Ledger):
    publisher, chain = ledger.publisher(), node(ledger)
    assert ledger.writer().publish(publisher, ledger.watcher(), (anchor(chain),)) == 0
    assert not list(publisher.folder.iterdir())
    assert is_settled(ledger.engine, (anchor(chain),), 0)
    with reading(ledger.heads) as connection:
        assert store.last_head(connection) is None


def test_only_what_is_final_counts_as_anchored(ledger: Ledger):
    writer, _ = ledger.opened()
    publisher, watcher, chain = ledger.publisher(), ledger.watcher(), node(ledger)
    for blocks in (0, 1):
        chain.mine(blocks)
        writer.publish(publisher, watcher, (anchor(chain),))
        assert chain.sizes() == [writer.tree.size]
        assert anchored(ledger) == []
        assert (publisher.folder / "anchors.json").read_bytes() == b"[]\n"
        assert not is_settled(ledger.engine, (anchor(chain),), writer.tree.size)
    chain.mine()
    writer.publish(publisher, watcher, (anchor(chain),))
    assert anchored(ledger) == [(city.CHAIN_ID, writer.tree.size)]
    assert b'"chainId": "31337"' in (publisher.folder / "anchors.json").read_bytes()
    assert is_settled(ledger.engine, (anchor(chain),), writer.tree.size)


def test_a_head_whose_reply_was_lost_is_found_on_the_chain_and_not_sent_again(ledger: Ledger):
    writer, _ = ledger.opened()
    publisher, watcher, chain = ledger.publisher(), ledger.watcher(), node(ledger, loses_reply=True)
    with pytest.raises(Unavailable, match="reply was lost"):
        writer.publish(publisher, watcher, (anchor(chain),))
    chain.mine(2)
    writer.publish(publisher, watcher, (anchor(chain),))
    assert anchored(ledger) == [(city.CHAIN_ID, writer.tree.size)]
    assert len(chain.seen) == 1


def test_a_stuck_transaction_is_replaced_with_the_same_nonce_and_a_higher_fee(ledger: Ledger):
    writer, _ = ledger.opened()
    publisher, watcher = ledger.publisher(), ledger.watcher()
    chain = node(ledger, mines_at_once=False)
    patient = anchor(chain, patience_s=60)
    writer.publish(publisher, watcher, (patient,))
    first = sent(ledger, chain)
    chain.base_fee_wei = first.fee_wei + 1  # what it offers is too little from now on
    chain.mine(3)
    ledger.clock.now += 59
    writer.publish(publisher, watcher, (patient,))
    assert sent(ledger, chain) == first
    assert chain.sizes() == []
    ledger.clock.now += 1
    writer.publish(publisher, watcher, (patient,))
    second = sent(ledger, chain)
    assert (second.nonce, second.size) == (first.nonce, first.size)
    assert second.fee_wei * 10 >= first.fee_wei * 11
    assert second.tip_wei * 10 >= first.tip_wei * 11
    assert chain.replaced == [first.transaction_hash]
    chain.mine(3)
    writer.publish(publisher, watcher, (patient,))
    assert chain.sizes() == [writer.tree.size]
    assert anchored(ledger) == [(city.CHAIN_ID, writer.tree.size)]


def test_the_newest_size_supersedes_what_still_waits_at_once(ledger: Ledger):
    writer, log = ledger.opened()
    publisher, watcher = ledger.publisher(), ledger.watcher()
    chain = node(ledger, mines_at_once=False)
    first = writer.publish(publisher, watcher, (anchor(chain),))
    more(ledger, writer, log, 0, 5)
    second = writer.publish(publisher, watcher, (anchor(chain),))
    assert second == first + 5
    assert [one.size for one in chain.pool.values()] == [second]
    assert len(chain.replaced) == 1
    chain.mine(3)
    writer.publish(publisher, watcher, (anchor(chain),))
    assert chain.sizes() == [second]
    assert anchored(ledger) == [(city.CHAIN_ID, second)]


def test_a_fee_above_the_operators_limit_is_not_paid_and_is_told(ledger: Ledger):
    writer, _ = ledger.opened()
    chain = node(ledger, base_fee_wei=10**12)
    with pytest.raises(Unavailable, match=f"would cost {2 * 10**12 + TIP_WEI} wei .* at most {10**12} is"):
        writer.publish(ledger.publisher(), ledger.watcher(), (anchor(chain, most_fee_wei=10**12),))
    assert chain.seen == {}


@pytest.mark.parametrize("loses", [False, True])
def test_a_head_that_a_reorganisation_took_back_is_sent_again(ledger: Ledger, loses: bool):
    writer, _ = ledger.opened()
    publisher, watcher, chain = ledger.publisher(), ledger.watcher(), node(ledger, lag=3)
    writer.publish(publisher, watcher, (anchor(chain),))
    chain.mines_at_once = False
    chain.mine()
    chain.reorganise(2, loses=loses)
    assert chain.sizes() == []
    ledger.clock.now += 60
    writer.publish(publisher, watcher, (anchor(chain),))
    assert len(chain.pool) == 1
    chain.mine(4)
    writer.publish(publisher, watcher, (anchor(chain),))
    assert chain.sizes() == [writer.tree.size]
    held = anchored(ledger)
    assert held == [(city.CHAIN_ID, writer.tree.size)]
    with reading(ledger.engine) as connection:
        (noted,) = store.anchors(connection)
    assert noted.block_hash == chain.blocks[noted.block].hash, (
        "what is noted is not on the branch that stayed"
    )


def test_the_auditor_allows_a_head_the_time_that_a_watchers_signature_lasts():
    assert LATE_S == watcher.VALID_S


def test_an_older_head_that_comes_back_after_a_reorganisation_does_no_harm(ledger: Ledger):
    writer, log = ledger.opened()
    publisher, watcher, chain = ledger.publisher(), ledger.watcher(), node(ledger, lag=3)
    first = writer.publish(publisher, watcher, (anchor(chain),))
    more(ledger, writer, log, 0, 2)
    second = writer.publish(publisher, watcher, (anchor(chain),))
    chain.reorganise(2)
    # The miners of the other branch take them one by one, in the order of their nonces.
    chain.mine(6)
    writer.publish(publisher, watcher, (anchor(chain),))
    assert chain.sizes() == [first, second]
    assert anchored(ledger) == [(city.CHAIN_ID, first), (city.CHAIN_ID, second)]


def test_a_chain_that_is_gone_is_named_and_the_other_goes_on(ledger: Ledger):
    writer, log = ledger.opened()
    publisher, watcher = ledger.publisher(), ledger.watcher()
    gone, other = node(ledger, 1, is_silent=True), node(ledger, 2, lag=0)
    both = anchor(gone), anchor(other)
    with pytest.raises(Unavailable, match=r"chain 1, anchor 0x[0-9a-f]*: no answer"):
        writer.publish(publisher, watcher, both)
    assert anchored(ledger) == [(2, writer.tree.size)]
    assert b'"chainId": "2"' in (publisher.folder / "anchors.json").read_bytes()
    assert not is_settled(ledger.engine, both, writer.tree.size)
    first = writer.tree.size
    more(ledger, writer, log, 0, 3)
    gone.is_silent, gone.lag = False, 0
    writer.publish(publisher, watcher, both)
    # It gets the newest head at once; what it missed is inside.
    assert anchored(ledger) == [(2, first), (1, writer.tree.size), (2, writer.tree.size)]
    assert is_settled(ledger.engine, both, writer.tree.size)


@pytest.mark.parametrize("change", [1, 0, -1])
def test_a_chain_that_holds_more_or_another_ledger_is_named_and_the_other_goes_on(
    ledger: Ledger, change: int
):
    writer, _ = ledger.opened()
    wrong, other = node(ledger, 1), node(ledger, 2, lag=0)
    _, raw = wrong.signed_append(
        None, writer.tree.size + change, b"\x01" * 32, [], FOR_EVER, 0, 10**10, 10**9
    )
    wrong.send_signed(raw, "a thief")
    publisher = ledger.publisher()
    with pytest.raises(Invalid, match="L9 at chain 1"):
        writer.publish(publisher, ledger.watcher(), (anchor(wrong), anchor(other)))
    assert wrong.sizes() == [writer.tree.size + change]
    if change < 1:
        assert anchored(ledger) == [(2, writer.tree.size)]
    else:
        # More than we have was anchored: then nothing is signed at all (FF76).
        with reading(ledger.heads) as connection:
            assert store.last_head(connection) is None


def test_a_new_operator_goes_on_from_the_nonce_of_its_own_account(ledger: Ledger):
    writer, log = ledger.opened()
    publisher, watcher, chain = ledger.publisher(), ledger.watcher(), node(ledger, mines_at_once=False)
    writer.publish(publisher, watcher, (anchor(chain),))
    # Whatever was noted of the account before, the newest head gets there.
    chain.mine()
    more(ledger, writer, log, 0, 1)
    writer.publish(publisher, watcher, (anchor(chain),))
    chain.mine(4)
    writer.publish(publisher, watcher, (anchor(chain),))
    assert chain.sizes()[-1] == writer.tree.size


# --- real nodes -------------------------------------------------------------------------


@dataclass
class OnChain:
    """A ledger whose Genesis names contracts that stand on a chain."""

    ledger: Ledger
    city: City
    log: city.Log
    mine: Callable[[int], None]

    def anchor(self, operator: city.Key = city.OPERATOR, **how: object) -> EvmAnchor:
        return EvmAnchor(self.city, Wallet.from_key(operator.secret.secret), self.ledger.clock, **how)


@contextmanager
def opened(folder: Path, start: Callable[[Ledger], tuple[Web3, Callable[[int], None]]]) -> Iterator[OnChain]:
    ledger = Ledger(
        folder, engine(f"sqlite:///{folder}/ledger.db"), engine(f"sqlite:///{folder}/heads.db"), Clock()
    )
    w3, mine = start(ledger)
    deployer = Wallet.from_key(city.Key("deployer").secret.secret)
    seats, log = city.founding(), city.Log()
    deployment = deploy(w3, deployer, city.digest("ledger"), city.RETENTION_END_S, seats)
    genesis = log.add(replace(city.genesis(seats), council=deployment.council, anchor=deployment.anchor))
    for seat in seats:
        log.add(seat)
    log.approve(genesis, *city.COUNCIL[:3])
    yield OnChain(ledger, City(w3, deployment), log, mine)
    ledger.engine.dispose()
    ledger.heads.dispose()


@pytest.fixture
def on_chain(tmp_path: Path) -> Iterator[OnChain]:
    deployer, operator = (Wallet.from_key(key.secret.secret) for key in (city.Key("deployer"), city.OPERATOR))
    balances = {account.address: 100 * ETHER for account in (deployer, operator)}
    clock = Clock()
    with DevChain(tmp_path / "chain.jsonl", balances, clock, chain_id=city.CHAIN_ID) as chain:

        def start(ledger: Ledger) -> tuple[Web3, Callable[[int], None]]:
            ledger.clock = clock
            return Web3(chain.provider), chain.mine

        with opened(tmp_path, start) as ready:
            yield ready


@contextmanager
def on_anvil(
    tmp_path: Path, *options: str, chain_id: int = city.CHAIN_ID
) -> Iterator[tuple[OnChain, servers.Anvil]]:
    """A node that is two blocks from finality, and mines only when it is told to after the deployment."""
    how = ("--slots-in-an-epoch", "1", "--timestamp", str(city.START_S), *options)
    with servers.anvil(*how, chain_id=chain_id) as one:
        for key in (city.Key("deployer"), city.OPERATOR):
            one.call("anvil_setBalance", Wallet.from_key(key.secret.secret).address, hex(100 * ETHER))

        def start(_: Ledger) -> tuple[Web3, Callable[[int], None]]:
            return Web3(HTTPProvider(one.url)), lambda count: [one.call("evm_mine") for _ in range(count)]

        with opened(tmp_path, start) as ready:
            one.call("evm_setAutomine", *[False])
            yield ready, one


def test_a_contract_takes_each_head_that_extends_the_last(on_chain: OnChain):
    ledger, anchor = on_chain.ledger, on_chain.anchor()
    assert anchor.held().size == 0
    writer, publisher, watcher = ledger.writer(), ledger.publisher(), ledger.watcher()
    for end in (len(on_chain.log.records) - 1, len(on_chain.log.records)):
        ledger.feed(writer, on_chain.log.records[writer.tree.size : end])
        writer.publish(publisher, watcher, (anchor,))
        assert anchor.held() == (end, writer.tree.root())
    on_chain.mine(2)
    writer.publish(publisher, watcher, (anchor,))
    with reading(ledger.engine) as connection:
        held = store.anchors(connection)
    assert [one.size for one in held] == [len(on_chain.log.records) - 1, len(on_chain.log.records)]
    for one in held:
        assert (one.chain_id, one.contract) == (city.CHAIN_ID, on_chain.city.deployment.anchor)
        receipt = on_chain.city.w3.eth.get_transaction_receipt(one.transaction_hash)
        assert (receipt["status"], receipt["blockNumber"]) == (1, one.block)
        assert bytes(receipt["blockHash"]) == one.block_hash


def test_leak_03_a_clock_that_is_ahead_of_the_chain_records_nothing(on_chain: OnChain):
    ledger, log = on_chain.ledger, on_chain.log
    keeper = Timekeeper(lambda: 0.0, [ChainTime("chain", on_chain.city.newest_time)])
    writer = Writer(ledger.engine, ledger.heads, KEYS, ledger.clock, timekeeper=keeper)
    ledger.feed(writer, log.records[:-1])
    newest = on_chain.city.w3.eth.get_block("latest")["timestamp"]
    right = ledger.clock.now
    ledger.ask(decode(log.records[-1]))
    ledger.clock.now = newest + SKEW_S + 1
    with pytest.raises(Unavailable, match=f"clock.*{ledger.clock.now}.*{newest}"):
        writer.step()
    assert ledger.records() == log.records[:-1]
    ledger.clock.now = right
    writer.drain()
    assert ledger.records() == log.records


def test_a_head_without_the_watcher_s_own_signature_stays_off_the_chain(on_chain: OnChain):
    ledger = on_chain.ledger
    writer = ledger.writer()
    ledger.feed(writer, on_chain.log.records)
    thief = ledger.watcher()
    thief._seat = city.Key("thief").secret
    with pytest.raises(Invalid, match="C:"):
        writer.publish(ledger.publisher(), thief, (on_chain.anchor(),))
    assert on_chain.anchor().held().size == 0


def test_on_anvil_a_stuck_transaction_is_replaced_and_only_final_counts(tmp_path: Path):
    with on_anvil(tmp_path) as (town, chain):
        ledger, anchor = town.ledger, town.anchor(patience_s=60)
        writer, publisher, watcher = ledger.writer(), ledger.publisher(), ledger.watcher()
        ledger.feed(writer, town.log.records[:-1])
        writer.publish(publisher, watcher, (anchor,))
        first = _progress(ledger, anchor)
        assert _waiting(chain) == {"0x" + first.transaction_hash.hex()}
        # The same head too long: replaced. A newer head: replaced at once.
        ledger.clock.now += 61
        writer.publish(publisher, watcher, (anchor,))
        second = _progress(ledger, anchor)
        ledger.feed(writer, town.log.records[-1:])
        writer.publish(publisher, watcher, (anchor,))
        third = _progress(ledger, anchor)
        assert first.nonce == second.nonce == third.nonce
        assert first.size == second.size < third.size == writer.tree.size
        assert first.fee_wei < second.fee_wei < third.fee_wei
        assert _waiting(chain) == {"0x" + third.transaction_hash.hex()}
        for blocks, told in ((1, []), (1, []), (1, [(city.CHAIN_ID, writer.tree.size)])):
            town.mine(blocks)
            writer.publish(publisher, watcher, (anchor,))
            assert anchor.held() == (writer.tree.size, writer.tree.root())
            assert anchored(ledger) == told


def test_on_anvil_a_head_that_a_reorganisation_took_back_is_sent_again(tmp_path: Path):
    with on_anvil(tmp_path) as (town, chain):
        ledger, anchor = town.ledger, town.anchor()
        writer, publisher, watcher = ledger.writer(), ledger.publisher(), ledger.watcher()
        ledger.feed(writer, town.log.records)
        before = chain.call("evm_snapshot")
        writer.publish(publisher, watcher, (anchor,))
        town.mine(1)
        writer.publish(publisher, watcher, (anchor,))
        assert anchor.held().size == writer.tree.size
        gone = _progress(ledger, anchor)
        # Another branch, in which the transaction never was: two blocks without it.
        assert chain.call("evm_revert", before)
        chain.call("anvil_dropTransaction", "0x" + gone.transaction_hash.hex())
        town.mine(2)
        assert anchor.held().size == 0
        ledger.clock.now += 61
        writer.publish(publisher, watcher, (anchor,))
        again = _progress(ledger, anchor)
        assert again.nonce == gone.nonce
        assert again.fee_wei > gone.fee_wei
        town.mine(3)
        writer.publish(publisher, watcher, (anchor,))
        assert anchored(ledger) == [(city.CHAIN_ID, writer.tree.size)]
        with reading(ledger.engine) as connection:
            (noted,) = store.anchors(connection)
        assert noted.transaction_hash == again.transaction_hash
        # The auditor asks the same node: what anchors.json states is what it has.
        verdict = audit(str(publisher.folder), rpcs=[chain.url])
        assert not [one for one in verdict.findings if one.where.startswith("anchors.json")], verdict.findings


def test_leak_22_on_two_anvils_stands_one_ledger_and_the_loss_of_one_is_named(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with on_anvil(tmp_path / "a") as (town, _), on_anvil(tmp_path / "b", chain_id=31_338) as (second, other):
        ledger, log = town.ledger, town.log
        # A further chain has contracts of its own; the ledger names them, and the watcher signs for each.
        for name in ("council", "anchor"):
            there, code = getattr(second.city.deployment, name), second.city.deployment.code_hashes[name]
            log.act(Contract(0, f"{name}-2", 31_338, there, code, city.ACT))
        writer, publisher, watcher = ledger.writer(), ledger.publisher(), ledger.watcher()
        ledger.feed(writer, log.records)
        both = (town.anchor(), second.anchor())
        for _ in range(2):
            writer.publish(publisher, watcher, both)
            for one in (town, second):
                one.mine(3)
        writer.publish(publisher, watcher, both)
        assert anchored(ledger) == [(31_337, writer.tree.size), (31_338, writer.tree.size)]
        heads = [one.anchor().held() for one in (town, second)]
        assert heads[0] == heads[1] == (writer.tree.size, writer.tree.root())
        # A chain that lost everything it had is named, and the first goes on.
        other.call("anvil_reset")
        with pytest.raises(Unavailable, match="chain 31338"):
            writer.publish(publisher, watcher, both)


def _progress(ledger: Ledger, anchor: EvmAnchor) -> anchor_store.Sent:
    with reading(ledger.engine) as connection:
        found = anchor_store.progress(connection, anchor.chain_id, anchor.contract).sent
    assert found is not None
    return found


def _waiting(chain: servers.Anvil) -> set[str]:
    pool = chain.call("txpool_content")["pending"]
    return {one["hash"] for waiting in pool.values() for one in waiting.values()}
