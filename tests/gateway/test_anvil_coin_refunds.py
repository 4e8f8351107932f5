"""A refund in the chain's coin from a contract wallet: proved by balances, against merchants and nodes that lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from sqlalchemy import update
from web3 import Web3

from contracts.bindings import COIN
from gateway.payments.outgoing import CoinSent
from gateway.payments.refund_model import Refund, RefundState
from gateway.payments.refunds import Refunds
from gateway.payments.store import Invoice, tables
from gateway.rails.evm import EvmRail, HttpNode, Place, Pool
from gateway.rails.evm.coin_proof import No, read_coin
from gateway.rails.evm.sight import EvmSight
from gateway.worker import Worker
from ledger.records import keccak256
from tests import servers
from tests.fakes.rpc_proxy import RpcProxy
from tests.gateway.anvil_town import AnvilTown, compiled
from tests.gateway.test_anvil_payers import OWNERS, create, signed
from tests.gateway.test_refunds import ACTOR

WEI, BACK, ASSET = 10**17, 10**16, "ETH"
FRIEND = b"\xf7" * 20


@dataclass
class Shop:
    """A merchant whose wallet is a multisig, with a paid invoice in the coin, and a refund that waits."""

    town: AnvilTown
    wallet: Any
    refunds: Refunds
    invoice: Invoice
    receiver: bytes
    nonce: int = field(default=0)
    keys: int = field(default=0)

    def refund(self) -> Refund:
        self.keys += 1
        asked = self.refunds.request(ACTOR, self.invoice.id, None, BACK, None, f"k{self.keys}")
        approved = self.refunds.approve(asked.id, ACTOR)
        self.refunds.follow()
        return approved

    def send(self, to: bytes, amount: int) -> str:
        """Two owners send from the wallet; the hash of the transaction, which waits for a block."""
        words = (("uint256", self.town.city.plan.deployment.chain_id), ("address", self.wallet.address),
                 ("uint256", self.nonce), ("address", "0x" + to.hex()), ("uint256", amount))  # fmt: skip
        v, r, s = zip(*(signed(owner, *words) for owner in OWNERS[:2]), strict=True)
        self.nonce += 1
        called = [Web3.to_checksum_address(to), amount, list(v), list(r), list(s)]
        return self.call(self.wallet, "send", called)

    def execute(self, to: bytes, data: bytes) -> str:
        words = (("uint256", self.town.city.plan.deployment.chain_id), ("address", self.wallet.address),
                 ("uint256", self.nonce), ("address", "0x" + to.hex()), ("bytes32", keccak256(data)))  # fmt: skip
        v, r, s = zip(*(signed(owner, *words) for owner in OWNERS[:2]), strict=True)
        self.nonce += 1
        called = [Web3.to_checksum_address(to), data, list(v), list(r), list(s)]
        return self.call(self.wallet, "execute", called)

    def call(self, contract: Any, function: str, arguments: list[object], value: int = 0) -> str:
        data = bytes.fromhex(contract.encode_abi(function, args=arguments)[2:])
        return self.transact(bytes.fromhex(contract.address[2:]), data, value)

    def transact(self, to: bytes, data: bytes, value: int) -> str:
        town, web3 = self.town, self.town.city.outside.web3
        asked = {
            "type": 2, "chainId": servers.CHAIN_ID, "data": data, "gas": 1_000_000, "value": value, "to": to,
            "nonce": web3.eth.get_transaction_count(town.payer.address, "pending"),
            "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9,
        }  # fmt: skip
        raw = town.payer.sign_transaction(asked).raw_transaction
        hash: str = town.node.call("eth_sendRawTransaction", Web3.to_hex(raw))
        return hash

    def named(self, refund: Refund, hash: str) -> Refund:
        """Name a transaction as its sender does; what is thought of it."""
        self.refunds.report(refund.id, bytes.fromhex(hash[2:]), ACTOR)
        self.refunds.follow()
        return self.refunds.look(refund.id)


@pytest.fixture
def shop(anvil_town: AnvilTown) -> Iterator[Shop]:
    town, old = anvil_town, anvil_town.city.worker
    node = HttpNode(town.node.url)
    place = Place(town.city.plan.deployment, {town.token: "USDT", COIN: ASSET})
    pool = Pool([node], servers.CHAIN_ID)
    worker = Worker(old.gateway, old.publication, EvmRail(pool, place), old._city, old._relayer, old._bank)
    wallet = create(town, compiled()["Multisig"], [owner.address for owner in OWNERS])
    receiver: LocalAccount = Account.from_key(b"\x0e" * 32)
    to = bytes.fromhex(receiver.address[2:])
    invoice = town.invoice(payee=bytes.fromhex(wallet.address[2:]), refund_to=to)
    with town.city.gateway.engine.begin() as connection:
        changed = update(tables.invoice).where(tables.invoice.c.id == invoice.id)
        connection.execute(changed.values(asset=ASSET, due=WEI))
    town.city.city.transfer(town.payer, COIN, invoice.deposit_address or b"", WEI)
    for _ in range(3):
        town.mine(65)
        worker.poll_chain()
        worker.flush()
    assert town.status(invoice) == "final"
    yield Shop(town, wallet, Refunds(town.payments, EvmSight(pool, place)), invoice, to)
    node.close()


def test_a_refund_in_the_coin_by_a_multisig_is_seen_by_balances_and_final_when_its_block_is(shop: Shop):
    town = shop.town
    refund = shop.refund()
    with town.unmined():
        hash = shop.send(shop.receiver, BACK)
        # A plain transfer to the same receiver in the same block is taken off, and is no other's refund.
        shop.transact(shop.receiver, b"", BACK)
        town.mine()
    assert town.city.city.balance(COIN, shop.receiver) == 2 * BACK
    named = shop.named(refund, hash)
    assert (named.state, named.problem) == (RefundState.SENT, f"key_1 names {hash}")
    assert "refunded" not in town.notes(shop.invoice)
    town.mine(65)
    shop.refunds.follow()
    assert shop.refunds.look(refund.id).state is RefundState.FINAL
    assert "refunded" in town.notes(shop.invoice)
    # The rise stands for one refund, whatever is named for another.
    other = shop.refund()
    with pytest.raises(Exception, match="named for the refund"):
        shop.named(other, hash)


def test_a_reorganised_block_takes_the_refund_back(shop: Shop):
    town = shop.town
    refund = shop.refund()
    with town.unmined():
        hash = shop.send(shop.receiver, BACK)
        town.mine()
        assert shop.named(refund, hash).state is RefundState.SENT
        town.node.call("anvil_reorg", 1, [])
        town.node.call("anvil_dropAllTransactions")
        town.mine()
        shop.refunds.follow()
        assert shop.refunds.look(refund.id).state is RefundState.PENDING


def test_a_merchant_who_did_not_pay_proves_nothing(shop: Shop):
    """The wallet pays a friend, or nobody, while the receiver gets the same from others, in the same block."""
    town = shop.town
    sender = create(town, compiled()["CoinSender"])
    refund = shop.refund()
    to = Web3.to_checksum_address(shop.receiver)

    def lie(*acts: Callable[[], str]) -> str:
        with town.unmined():
            hashes = [act() for act in acts]
            town.mine()
        named = shop.named(refund, hashes[0])
        assert (named.state, named.reported) == (RefundState.PENDING, None)
        assert named.problem is not None
        return named.problem

    def elsewhere() -> str:
        # It names the receiver and calls code that is not there: nothing moves.
        return shop.execute(b"\x99" * 20, encode(["address"], [to]))

    def plain() -> str:
        return shop.transact(shop.receiver, b"", BACK)

    def within() -> str:
        return shop.call(sender, "send", [[to], [BACK]], BACK)

    assert "got 0" in lie(elsewhere)
    assert "got 0" in lie(elsewhere, plain)
    assert "about the receiver too" in lie(elsewhere, within)
    assert "does not name the receiver" in lie(lambda: shop.send(FRIEND, BACK), plain)
    assert f"got {BACK - 1}" in lie(lambda: shop.send(shop.receiver, BACK - 1))
    assert f"got {BACK + 1}" in lie(lambda: shop.send(shop.receiver, BACK + 1))
    # Others' transactions, by which the receiver truly got the amount.
    assert "neither from nor to" in lie(within)
    assert "neither from nor to" in lie(plain)
    # Another's money, which the wallet only sets going: the wallet lost nothing.
    town.node.call("anvil_setBalance", sender.address, hex(BACK))
    data = bytes.fromhex(sender.encode_abi("send", args=[[to], [BACK]])[2:])
    assert "the wallet lost 0" in lie(lambda: shop.execute(bytes.fromhex(sender.address[2:]), data))
    assert shop.refunds.look(refund.id).state is RefundState.PENDING
    with town.unmined():
        hash = shop.send(shop.receiver, BACK)
        town.mine()
    assert shop.named(refund, hash).state is RefundState.SENT


def test_what_a_wallet_spent_by_another_transaction_of_the_block_is_no_refund():
    """It pays its supplier, names the receiver to nobody, and a stranger pays the receiver unseen."""
    with servers.anvil("--no-mining") as node:
        own, stranger, receiver = (Account.from_key(bytes([mark]) * 32) for mark in (0x21, 0x22, 0x23))
        for one in (own, stranger):
            node.call("anvil_setBalance", one.address, hex(WEI))

        def send(who: LocalAccount, nonce: int, value: int, data: bytes, **to: bytes) -> str:
            asked = {
                "type": 2, "chainId": servers.CHAIN_ID, "data": data, "gas": 100_000, "value": value, **to,
                "nonce": nonce, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9,
            }  # fmt: skip
            raw = who.sign_transaction(asked).raw_transaction
            return str(node.call("eth_sendRawTransaction", Web3.to_hex(raw)))

        to = bytes.fromhex(receiver.address[2:])
        send(own, 0, BACK, b"", to=FRIEND)
        named = send(own, 1, 0, encode(["address"], [receiver.address]), to=b"\x99" * 20)
        # PUSH20 of the address with all bits turned, NOT, SELFDESTRUCT: no byte of the address stands in it.
        hidden = bytes(255 - byte for byte in to)
        send(stranger, 0, BACK, b"\x73" + hidden + b"\x19\xff")
        node.call("anvil_mine", "0x1")
        assert int(node.call("eth_getBalance", receiver.address, "latest"), 16) == BACK
        asked = CoinSent(
            ASSET, bytes.fromhex(named[2:]), bytes.fromhex(own.address[2:]), to, BACK, since_block=0
        )
        reader = HttpNode(node.url)
        try:
            found = read_coin(reader, servers.CHAIN_ID, asked)
        finally:
            reader.close()
        assert isinstance(found, No)
        assert "the wallet lost" in found.why


def test_a_refund_is_not_final_while_nodes_disagree_about_what_the_receiver_has(shop: Shop):
    town = shop.town
    refund = shop.refund()
    place = Place(town.city.plan.deployment, {town.token: "USDT", COIN: ASSET})

    def poor(method: str, _: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        """Nobody ever got anything."""
        return {**answer, "result": "0x0"} if method == "eth_getBalance" else answer

    def pruned(method: str, _: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        """A node that has forgotten the state of old blocks."""
        if method != "eth_getBalance":
            return answer
        error = {"code": -32000, "message": "missing trie node"}
        return {"jsonrpc": "2.0", "id": answer["id"], "error": error}

    with town.unmined():
        hash = shop.send(shop.receiver, BACK)
        town.mine()
    proxies = [RpcProxy(town.node.url) for _ in range(3)]
    nodes = [HttpNode(proxy.url) for proxy in proxies]
    try:
        two = Pool(nodes[:2], servers.CHAIN_ID)
        careful = Refunds(town.payments, EvmSight(two, place))
        careful.report(refund.id, bytes.fromhex(hash[2:]), ACTOR)
        proxies[0].wrong = proxies[1].wrong = pruned
        careful.follow()
        waiting = careful.look(refund.id)
        assert (waiting.state, waiting.reported) == (RefundState.PENDING, bytes.fromhex(hash[2:]))
        assert "missing trie node" in str(waiting.problem)
        assert [one.failures for one in two.endpoints] == [0, 0], "it is not at fault"
        proxies[0].wrong = proxies[1].wrong = None
        careful.follow()
        assert careful.look(refund.id).state is RefundState.SENT
        town.mine(65)
        proxies[1].wrong = poor
        careful.follow()
        assert careful.look(refund.id).state is RefundState.SENT
        assert "different things" in str(careful.look(refund.id).problem)
        # A third says which of them lies.
        three = Pool(nodes, servers.CHAIN_ID)
        Refunds(town.payments, EvmSight(three, place)).follow()
        assert careful.look(refund.id).state is RefundState.FINAL
        assert [one.failures for one in three.endpoints] == [0, 1, 0]
    finally:
        for proxy, node in zip(proxies, nodes, strict=True):
            node.close()
            proxy.__exit__()
