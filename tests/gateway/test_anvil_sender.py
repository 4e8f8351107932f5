"""The sender on a real node that mines when it is told to: each call once, whatever is lost on the way.

Each call sends its own number of wei to an address of its own, so that the address's balance says how
often it was executed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from gateway import db
from gateway.db import Engine, reading
from gateway.rails.evm import HttpNode, Pool
from gateway.sending import fees, service, store
from gateway.sending.fees import GWEI, Fees
from gateway.sending.sender import Policy, Sender
from gateway.sending.service import Call, Outcome, State
from ledger.records import Unavailable, keccak256
from tests import servers
from tests.fakes.rpc_proxy import Cut, Refuse, RpcProxy, Silence

ETHER = 10**18
DAY = 86_400
POLICY = Policy(lease_s=5, resend_s=15, bump_after_s=60, back_off_s=10, tries=3)
# Refuses the second call: if slot 0 is set, revert; else set it.
ONCE_CODE = "0x6000546009576001600055005b60006000fd"


@dataclass
class Desk:
    """A sender on a database, a node, and a clock that stands still until it is moved."""

    node: servers.Anvil
    proxy: RpcProxy
    engine: Engine
    account: LocalAccount
    now: int = 1_800_000_000
    timeout_s: float = 60
    nodes: list[HttpNode] = field(default_factory=list)

    def sender(self, policy: Policy = POLICY, *urls: str) -> Sender:
        made = [HttpNode(url, timeout_s=self.timeout_s) for url in (urls or (self.proxy.url,))]
        self.nodes += made
        return Sender(self.engine, Pool(made, servers.CHAIN_ID), self.account, lambda: self.now, policy)

    def call(self, reference: str, gas: int = 21_000, **changes: Any) -> str:
        to = sha256(reference.encode()).digest()[:20]
        asked = {"to": to, "data": b"", "value": 7, "gas_limit": gas, **changes}
        with self.engine.begin() as connection:
            return service.queue(
                connection, f"evm-{servers.CHAIN_ID}", Call("test", reference, **asked), self.now
            )

    def executed(self, reference: str) -> int:
        """How often a call was executed."""
        address = "0x" + sha256(reference.encode()).hexdigest()[:40]
        balance = int(self.node.call("eth_getBalance", address, "latest"), 16)
        assert balance % 7 == 0
        return balance // 7

    def outcome(self, id: str) -> Outcome:
        with reading(self.engine) as connection:
            return service.outcome(connection, id)

    def versions(self, id: str) -> list[store.Signed]:
        with reading(self.engine) as connection:
            return store.transactions(connection, [id])[id]

    def mine(self, blocks: int = 1) -> None:
        self.node.call("anvil_mine", hex(blocks))

    def nonce(self) -> int:
        return int(self.node.call("eth_getTransactionCount", self.account.address, "latest"), 16)

    def finish(self, sender: Sender, *ids: str) -> list[State]:
        """Let everything become final."""
        for _ in range(30):
            sender.step()
            self.mine()
            self.now += 16
            found = [self.outcome(id) for id in ids]
            if all(one.is_end for one in found):
                break
        return [self.outcome(id).state for id in ids]


@pytest.fixture(scope="module")
def quiet_node() -> Iterator[servers.Anvil]:
    """A node that mines when it is told to, and whose blocks are final when two stand on them."""
    with servers.anvil("--no-mining", "--slots-in-an-epoch", "1") as node:
        yield node


@pytest.fixture
def desk(quiet_node: servers.Anvil, tmp_path: Path) -> Iterator[Desk]:
    yield from opened_desk(quiet_node, tmp_path, f"sqlite:///{tmp_path}/sending.db")


@pytest.fixture
def postgres_desk(quiet_node: servers.Anvil, tmp_path: Path, postgres_database: str) -> Iterator[Desk]:
    yield from opened_desk(quiet_node, tmp_path, postgres_database)


def opened_desk(quiet_node: servers.Anvil, tmp_path: Path, database: str) -> Iterator[Desk]:
    engine = db.engine(database)
    db.create_all(engine)
    account: LocalAccount = Account.from_key(sha256(str(tmp_path).encode()).digest())
    quiet_node.call("anvil_setBalance", account.address, hex(100 * ETHER))
    quiet_node.call("anvil_mine", hex(3))
    with RpcProxy(quiet_node.url) as proxy:
        made = Desk(quiet_node, proxy, engine, account)
        yield made
        for node in made.nodes:
            node.close()
    engine.dispose()


def test_a_call_goes_through_its_states_and_is_executed_once(desk: Desk):
    sender, id = desk.sender(), desk.call("tea")
    states = [desk.outcome(id).state]
    for _ in range(2):
        sender.step()
        states.append(desk.outcome(id).state)
    desk.mine()
    sender.step()
    states.append(desk.outcome(id).state)
    block = desk.outcome(id).block
    desk.mine(2)
    sender.step()
    outcome = desk.outcome(id)
    assert [*states, outcome.state] == [State.QUEUED, State.SENT, State.SENT, State.MINED, State.FINAL]
    assert (outcome.block, outcome.why) == (block, "")
    [signed] = desk.versions(id)
    assert outcome.transaction == signed.hash == keccak256(signed.raw)
    assert desk.executed("tea") == 1
    # An end is an end, and costs no question to the node.
    desk.proxy.asked.clear()
    assert sender.step() == 0
    assert desk.proxy.asked == []


def test_ff24_the_transaction_is_stored_before_any_node_sees_it(desk: Desk):
    sender, id = desk.sender(), desk.call("stored")
    seen: list[int] = []

    def look(method: str, parameters: list[Any]) -> None:
        if method == "eth_sendRawTransaction":
            known = [signed.raw for signed in desk.versions(id)]
            seen.append(known.count(bytes.fromhex(parameters[0][2:])))
            raise Refuse(500)

    desk.proxy.before = look
    sender.step()
    assert seen == [1]
    assert desk.outcome(id).state is State.UNKNOWN
    # Nobody took it, and nobody said so: the same bytes are offered again, and no others.
    desk.proxy.before = None
    assert desk.finish(sender, id) == [State.FINAL]
    assert len(desk.versions(id)) == desk.executed("stored") == 1


@pytest.mark.parametrize("lost", [Cut, Silence])
def test_ff19_an_answer_that_is_lost_is_neither_done_nor_failed_until_the_chain_says(
    desk: Desk, lost: Callable[[], Exception]
):
    desk.timeout_s = 2 if lost is Silence else 60
    sender, id = desk.sender(), desk.call(f"lost {lost.__name__}")

    def lose(method: str, _: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        if method == "eth_sendRawTransaction":
            raise lost()
        return answer

    # The node takes it; its answer never comes.
    desk.proxy.wrong = lose
    sender.step()
    outcome = desk.outcome(id)
    assert (outcome.state, outcome.is_end) == (State.UNKNOWN, False)
    desk.proxy.wrong = None
    sender.step()
    assert desk.outcome(id).state is State.SENT
    assert desk.finish(sender, id) == [State.FINAL]
    assert len(desk.versions(id)) == 1
    assert desk.executed(f"lost {lost.__name__}") == 1


def test_ff19_a_node_that_forgets_receipts_is_no_proof_that_nothing_was_executed(desk: Desk):
    sender, id = desk.sender(), desk.call("forgotten")
    sender.step()
    desk.mine(4)
    desk.proxy.wrong = lambda method, _, answer: (
        {**answer, "result": None} if method == "eth_getTransactionReceipt" else answer
    )
    sender.step()
    outcome = desk.outcome(id)
    assert (outcome.state, outcome.is_end) == (State.UNKNOWN, False)
    desk.proxy.wrong = None
    sender.step()
    assert desk.outcome(id).state is State.FINAL
    assert desk.executed("forgotten") == 1


def test_ff25_many_at_once_have_each_its_nonce_in_the_order_of_the_queue(desk: Desk):
    sender = desk.sender()
    ids = [desk.call(f"many {number}") for number in range(40)]
    sender.step()
    with reading(desk.engine) as connection:
        live = store.live(connection, sender.chain, sender.address)
    assert len(live) == POLICY.in_flight
    assert desk.finish(sender, *ids) == [State.FINAL] * 40
    assert [desk.executed(f"many {number}") for number in range(40)] == [1] * 40
    assert desk.nonce() == 40


def test_ff25_of_two_senders_at_once_one_sends(desk: Desk):
    check_two_senders(desk)


def test_ff25_of_two_senders_at_once_one_sends_on_postgresql(postgres_desk: Desk):
    check_two_senders(postgres_desk)


def check_two_senders(desk: Desk) -> None:
    ids = [desk.call(f"two {number}") for number in range(10)]
    senders = [desk.sender(Policy(lease_s=1_000)), desk.sender(Policy(lease_s=1_000))]
    failed: list[Exception] = []

    def work(sender: Sender) -> None:
        try:
            for _ in range(5):
                sender.step()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sum(len(desk.versions(id)) for id in ids) == 10
    holder = senders[0] if senders[0]._hold(desk.now) else senders[1]
    assert desk.finish(holder, *ids) == [State.FINAL] * 10
    assert desk.nonce() == 10


def test_one_that_lost_its_lease_in_the_middle_changes_nothing(desk: Desk):
    first, second, id = desk.sender(), desk.sender(), desk.call("lease")

    def meanwhile(method: str, _: list[Any]) -> None:
        if method == "eth_call":
            desk.proxy.before = None
            desk.now += POLICY.lease_s
            assert second._hold(desk.now)

    desk.proxy.before = meanwhile
    with pytest.raises(Unavailable):
        first.step()
    assert desk.versions(id) == []
    assert desk.finish(second, id) == [State.FINAL]
    assert desk.executed("lease") == 1


def test_ff25_a_gap_in_the_nonces_is_filled(desk: Desk):
    """Rows that a restored backup does not have: what waits behind them would wait for ever."""
    sender = desk.sender()
    first = desk.call("before the gap")
    sender.step()
    with desk.engine.begin() as connection:
        store.set_next_nonce(connection, sender.chain, sender.address, 4)
    after = desk.call("after the gap")
    assert desk.finish(sender, first, after) == [State.FINAL] * 2
    assert desk.nonce() == 5
    assert (desk.executed("before the gap"), desk.executed("after the gap")) == (1, 1)


def test_ff25_what_waits_too_long_offers_an_eighth_more_until_the_cap(desk: Desk):
    policy = Policy(lease_s=5, fee_most=20 * GWEI)
    sender, id = desk.sender(policy), desk.call("bumped")
    sender.step()
    for _ in range(60):
        desk.now += 61
        sender.step()
    versions = desk.versions(id)
    assert len(versions) > 5
    for before, after in pairwise(versions):
        assert after.max_fee * 8 >= before.max_fee * 9
        assert after.tip * 8 >= before.tip * 9
    assert max(signed.max_fee for signed in versions) <= policy.fee_most
    assert "cap" in desk.outcome(id).why
    assert desk.executed("bumped") == 0
    assert desk.finish(sender, id) == [State.FINAL]
    assert desk.executed("bumped") == 1


def test_a_bump_is_enough_for_every_node_and_never_above_the_cap():
    fee = Fees(2 * GWEI + 1, GWEI + 1)
    for _ in range(200):
        more = fees.bumped(fee, GWEI, GWEI, 10**15)
        if more is None:
            break
        assert more.max_fee * 8 >= fee.max_fee * 9
        assert more.tip * 8 >= fee.tip * 9
        assert more.tip <= more.max_fee <= 10**15
        fee = more
    else:
        pytest.fail("it never reached the cap")
    assert fees.first(10 * GWEI, GWEI, 10 * GWEI) is None
    assert fees.first(10 * GWEI, GWEI, 15 * GWEI) == Fees(15 * GWEI, GWEI)


def test_ff18_what_a_node_forgot_is_offered_again(desk: Desk):
    sender, id = desk.sender(), desk.call("dropped")
    sender.step()
    transaction = desk.outcome(id).transaction
    assert transaction is not None
    desk.node.call("anvil_dropTransaction", "0x" + transaction.hex())
    desk.mine()
    desk.now += 16
    assert desk.finish(sender, id) == [State.FINAL]
    assert desk.executed("dropped") == len(desk.versions(id)) == 1


@pytest.mark.parametrize("depth", [1, 5, 64])
def test_ff14_a_reorganisation_takes_a_mined_call_back_and_it_is_executed_once_all_the_same(
    tmp_path: Path, depth: int
):
    with servers.anvil("--no-mining") as node, RpcProxy(node.url) as proxy:
        engine = db.engine(f"sqlite:///{tmp_path}/sending.db")
        db.create_all(engine)
        account: LocalAccount = Account.from_key(b"\x07" * 32)
        node.call("anvil_setBalance", account.address, hex(ETHER))
        desk = Desk(node, proxy, engine, account)
        sender, id = desk.sender(), desk.call("reorganised")
        desk.mine(70)
        sender.step()
        snapshot = node.call("evm_snapshot")
        desk.mine(depth)
        desk.now += 16
        sender.step()
        assert desk.outcome(id).state is State.MINED
        assert node.call("evm_revert", snapshot) is True
        # Another block in its place, without it; the node has forgotten it too.
        transaction = desk.outcome(id).transaction
        assert transaction is not None
        node.call("anvil_dropTransaction", "0x" + transaction.hex())
        desk.mine(depth)
        desk.now += 16
        sender.step()
        assert desk.outcome(id).state in {State.SENT, State.SIGNED}
        assert desk.outcome(id).block is None
        desk.now += 16
        sender.step()
        desk.mine(66)
        sender.step()
        assert desk.outcome(id).state is State.FINAL
        assert desk.executed("reorganised") == 1
        assert desk.nonce() == 1
        desk.nodes[0].close()
        engine.dispose()


def foreign(desk: Desk, nonce: int, to: str = "0x" + "99" * 20) -> None:
    """Somebody else uses the account, which nobody should."""
    sent = {"type": 2, "chainId": servers.CHAIN_ID, "nonce": nonce, "to": to, "value": 1, "gas": 21_000,
            "maxFeePerGas": 900 * GWEI, "maxPriorityFeePerGas": 90 * GWEI}  # fmt: skip
    raw = desk.account.sign_transaction(sent).raw_transaction
    desk.node.call("eth_sendRawTransaction", "0x" + raw.hex().removeprefix("0x"))


def test_a_nonce_that_another_used_is_shown_by_the_chain_before_the_call_is_dropped(desk: Desk):
    sender, id = desk.sender(), desk.call("overtaken")
    sender.step()
    foreign(desk, 0)
    desk.mine()
    desk.now += 16
    sender.step()
    # It stands in a block that may go.
    assert not desk.outcome(id).is_end
    desk.mine(2)
    sender.step()
    outcome = desk.outcome(id)
    assert (outcome.state, "none of ours" in outcome.why) == (State.DROPPED, True)
    assert desk.executed("overtaken") == 0
    # The next call goes on after it.
    assert desk.finish(sender, desk.call("next")) == [State.FINAL]
    assert desk.nonce() == 2


def test_a_call_that_the_chain_would_refuse_is_tried_with_back_off_and_never_signed(desk: Desk):
    contract = "0x" + "51" * 20
    desk.node.call("anvil_setCode", contract, "0x60006000fd")
    id = desk.call("refused", gas=100_000, to=bytes.fromhex(contract[2:]), value=0)
    sender = desk.sender()
    sender.step()
    assert desk.outcome(id).state is State.QUEUED
    asked = desk.proxy.asked.count("eth_call")
    sender.step()
    assert desk.proxy.asked.count("eth_call") == asked, "it was asked again at once"
    for _ in range(3):
        desk.now += 60
        sender.step()
    assert (desk.outcome(id).state, desk.versions(id), desk.nonce()) == (State.DROPPED, [], 0)
    assert "C:Reverted" in desk.outcome(id).why


def test_a_call_that_is_refused_in_its_block_is_reverted_when_that_is_final(desk: Desk):
    contract = "0x" + "52" * 20
    desk.node.call("anvil_setCode", contract, ONCE_CODE)
    to = bytes.fromhex(contract[2:])
    first = desk.call("once", gas=100_000, to=to, value=0)
    second = desk.call("twice", gas=100_000, to=to, value=0)
    sender = desk.sender()
    sender.step()
    desk.mine()
    sender.step()
    assert [desk.outcome(id).state for id in (first, second)] == [State.MINED] * 2
    desk.mine(2)
    sender.step()
    assert [desk.outcome(id).state for id in (first, second)] == [State.FINAL, State.REVERTED]
    # Asked once more behind its block: a receipt does not say why.
    assert "InvalidJump" in desk.outcome(second).why


def test_ff26_gas_is_what_the_caller_bounded_and_no_node_is_asked_for_it(desk: Desk):
    sender, id = desk.sender(), desk.call("bounded", gas=77_777)
    assert desk.finish(sender, id) == [State.FINAL]
    assert "eth_estimateGas" not in desk.proxy.asked
    transaction = desk.outcome(id).transaction
    assert transaction is not None
    told = desk.node.call("eth_getTransactionByHash", "0x" + transaction.hex())
    assert int(told["gas"], 16) == 77_777


def test_what_no_node_will_ever_take_gives_its_nonce_to_nothing_and_stops_nobody(desk: Desk):
    sender = desk.sender()
    # A rule of this node's own: it is refused whenever it is offered.
    hopeless = b"\x66" * 20
    real = desk.proxy._one

    def one(asked: dict[str, Any]) -> dict[str, Any]:
        if asked["method"] == "eth_sendRawTransaction" and hopeless.hex() in asked["params"][0]:
            error = {"code": -32000, "message": "exceeds block gas limit"}
            return {"jsonrpc": "2.0", "id": asked["id"], "error": error}
        return real(asked)

    desk.proxy._one = one  # type: ignore[method-assign]
    id = desk.call("hopeless", to=hopeless)
    other = desk.call("behind it")
    assert desk.finish(sender, id, other) == [State.DROPPED, State.FINAL]
    assert desk.executed("behind it") == 1
    assert desk.nonce() == 2


GAPS = [
    "nonce too high",  # geth, Erigon, reth, hardhat
    "gapped-nonce tx from delegated accounts",  # geth since EIP-7702
    "future transaction tries to replace pending",  # geth since 1.11.4
    "in-flight transaction limit reached for delegated accounts",  # geth, Base
    "Transaction nonce is too distant from current sender nonce",  # Besu
    "An invalid transaction with a lower nonce exists",  # Besu
    "NonceGap, Future nonce. Expected nonce: 62",  # Nethermind
    "NonceTooFarInFuture",  # Nethermind
    "nonce gap",  # reth
    "txpool is full",  # geth
]


@dataclass
class Strict:
    """What a node with a pool of its own rules does: it refuses gaps, and what offers less than the base fee.

    seen: the nonces that were offered and, for each, whether it was a gap. It is the proxy's `_one`.
    """

    desk: Desk
    words: str
    least_fee: int = 0
    seen: list[tuple[int, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._real = self.desk.proxy._one
        self.desk.proxy._one = self  # type: ignore[method-assign, assignment]

    def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["method"] != "eth_sendRawTransaction":
            return self._real(asked)
        sent = TypedTransaction.from_bytes(HexBytes(asked["params"][0])).as_dict()
        pending = self.desk.node.call("eth_getTransactionCount", self.desk.account.address, "pending")
        is_gap = sent["nonce"] > int(pending, 16)
        self.seen.append((sent["nonce"], is_gap))
        if sent["maxFeePerGas"] < self.least_fee:
            return self._refuse(asked, "max fee per gas less than block base fee")
        return self._refuse(asked, self.words) if is_gap else self._real(asked)

    def _refuse(self, asked: dict[str, Any], message: str) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32000, "message": message}}


def forgotten(desk: Desk, name: str) -> tuple[Sender, str, str]:
    """Two calls that were sent, and that the node has forgotten."""
    sender = desk.sender(Policy(lease_s=5, tries=3, fee_most=20 * GWEI))
    first, second = desk.call(f"{name} 1"), desk.call(f"{name} 2")
    sender.step()
    for id in (second, first):
        desk.node.call("anvil_dropTransaction", "0x" + (desk.outcome(id).transaction or b"").hex())
    return sender, first, second


@pytest.mark.parametrize("words", GAPS)
def test_ff25_a_node_that_refuses_gaps_means_wait_and_not_never(desk: Desk, words: str):
    """After a restart nobody knows who holds the first of two, so that the second is offered as a gap."""
    _, first, second = forgotten(desk, words)
    node = Strict(desk, words)
    sender = desk.sender(Policy(lease_s=5, tries=3, bump_after_s=DAY))
    for _ in range(8):
        # The first was offered a moment ago: it is the second's turn alone.
        with desk.engine.begin() as connection:
            store.set_sent(connection, [signed.hash for signed in desk.versions(first)], desk.now + 16)
            store.set_sent(connection, [signed.hash for signed in desk.versions(second)], None)
        desk.now += 16
        sender.step()
    assert [is_gap for nonce, is_gap in node.seen if nonce == 1] == [True] * 8
    outcome = desk.outcome(second)
    assert (outcome.state, words in outcome.why) == (State.SIGNED, True)
    # Not one try is used up, and nothing else was signed for its nonce.
    with reading(desk.engine) as connection:
        assert [call.attempts for call in store.live(connection, sender.chain, sender.address)] == [0, 0]
    assert len(desk.versions(second)) == 1
    assert desk.finish(sender, first, second) == [State.FINAL] * 2
    assert (desk.executed(f"{words} 1"), desk.executed(f"{words} 2"), desk.nonce()) == (1, 1, 2)


def test_ff25_what_comes_after_a_call_is_offered_once_a_node_has_the_call(desk: Desk):
    sender, first, second = forgotten(desk, "stuck under the cap")
    node = Strict(desk, "nonce too high", least_fee=1_000 * GWEI)
    # Ten minutes over the cap: the first is refused again and again, and the second is spared that.
    for _ in range(40):
        desk.now += 16
        sender.step()
    assert {nonce for nonce, _ in node.seen} == {0}
    assert len(desk.versions(second)) == 1
    node.least_fee = 0
    assert desk.finish(sender, first, second) == [State.FINAL] * 2
    assert not any(is_gap for _, is_gap in node.seen)
    assert [desk.executed(f"stuck under the cap {number}") for number in (1, 2)] == [1, 1]
    assert not any(signed.fills for id in (first, second) for signed in desk.versions(id))


def test_ff25_of_two_nodes_only_the_one_that_has_a_call_is_offered_the_next(desk: Desk):
    with RpcProxy(desk.node.url) as other:
        offered: list[int] = []
        real = other._one

        def refuse(asked: dict[str, Any]) -> dict[str, Any]:
            if asked["method"] != "eth_sendRawTransaction":
                return real(asked)
            offered.append(TypedTransaction.from_bytes(HexBytes(asked["params"][0])).as_dict()["nonce"])
            error = {"code": -32000, "message": "txpool is full"}
            return {"jsonrpc": "2.0", "id": asked["id"], "error": error}

        other._one = refuse  # type: ignore[method-assign]
        sender = desk.sender(POLICY, desk.proxy.url, other.url)
        ids = [desk.call(f"next {number}") for number in range(3)]
        sender.step()
        assert offered == [0]
        assert desk.finish(sender, *ids) == [State.FINAL] * 3
    assert [desk.executed(f"next {number}") for number in range(3)] == [1] * 3


def test_an_account_without_money_waits_and_goes_on_when_it_has_some(desk: Desk):
    sender, id = desk.sender(), desk.call("poor")
    sender.step()
    desk.node.call("anvil_dropTransaction", "0x" + (desk.outcome(id).transaction or b"").hex())
    desk.node.call("anvil_setBalance", desk.account.address, "0x1")
    desk.now += 16
    sender.step()
    outcome = desk.outcome(id)
    assert (outcome.state, "nsufficient" in outcome.why) == (State.SIGNED, True)
    desk.node.call("anvil_setBalance", desk.account.address, hex(ETHER))
    assert desk.finish(sender, id) == [State.FINAL]
    assert desk.executed("poor") == 1


def test_what_is_final_is_final_for_a_second_node_too(desk: Desk):
    """One node invents a receipt; the other has none, so that nothing is final until both say so."""
    with RpcProxy(desk.node.url) as liar:
        sender, id = desk.sender(POLICY, liar.url, desk.node.url), desk.call("invented")
        sender.step()
        desk.node.call("anvil_dropTransaction", "0x" + (desk.outcome(id).transaction or b"").hex())
        desk.mine(4)
        block = desk.node.call("eth_getBlockByNumber", "finalized", *(False,))

        def invent(method: str, parameters: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
            if method != "eth_getTransactionReceipt":
                return answer
            told = {"transactionHash": parameters[0], "status": "0x1", "blockNumber": block["number"],
                    "blockHash": block["hash"]}  # fmt: skip
            return {**answer, "result": told}

        liar.wrong = invent
        sender.step()
        assert not desk.outcome(id).is_end
        assert desk.executed("invented") == 0
        liar.wrong = None
        desk.now += 16
        assert desk.finish(sender, id) == [State.FINAL]
        assert desk.executed("invented") == 1
