"""What payments need to see of a chain when money goes back: Transfers from one to another, and ERC-1271."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from contracts.bindings import COIN
from contracts.transactions import CONTRACTS
from gateway.payments.outgoing import CoinSent, Credit, Let, Moved, Pull, Seen
from gateway.rails.evm.coin_proof import No, read_coin
from gateway.rails.evm.credits import is_credited, pulls
from gateway.rails.evm.logs import TRANSFER, Log, check_shape, read_log
from gateway.rails.evm.place import Place
from gateway.rails.evm.pool import Endpoint, Pool
from gateway.rails.evm.receipts import final_logs
from gateway.rails.evm.rpc import Refused, data, to_hex
from gateway.rails.evm.split import evidence_document, evidence_key, payout_document
from gateway.rails.evm.treasury_logs import CREDITED, EXECUTED, PULLED, REFUNDED, Payout, payouts
from ledger.records import WORD, Unavailable, keccak256, reject

RANGE_BLOCKS = 2_000
# isValidSignature(bytes32,bytes), and what it answers (ERC-1271).
MAGIC = keccak256(b"isValidSignature(bytes32,bytes)")[:4]
# A contract that is asked for its word may not run for ever at the node.
SIGNATURE_GAS = 500_000
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError)


class EvmSight:
    """Eyes on one chain, through the rail's pool of nodes."""

    def __init__(self, pool: Pool, place: Place, range_blocks: int = RANGE_BLOCKS) -> None:
        self._pool, self._place, self._range_blocks = pool, place, range_blocks
        self.rail, self.chain_id = place.rail, place.deployment.chain_id
        self.treasury = place.deployment.treasury

    def token(self, asset: str) -> bytes:
        """The token of an asset."""
        return self._place.token(asset)

    def is_coin(self, asset: str) -> bool:
        """Whether an asset is the chain's coin."""
        return self.token(asset) == COIN

    def is_ours(self, address: bytes) -> bool:
        """Whether an address is a contract of the city or a token."""
        ours = {getattr(self._place.deployment, name) for name in CONTRACTS}
        return address in ours or address in self._place.tokens

    def head(self) -> Seen:
        """Where the chain is, by the nodes that agree."""
        head = self._pool.head()
        return Seen(head.latest, head.final)

    def moved(
        self,
        asset: str,
        senders: Collection[bytes],
        receivers: Collection[bytes],
        first: int,
        last: int,
        *,
        is_final: bool = False,
    ) -> list[Moved]:
        """The Transfers of a token between these, in the order of the chain: the node filters by topic.

        Where the treasury is the sender, also what it says that it refunded and no Transfer says; of what it
        credited only what was pulled in the same blocks (`pulled` finds the others). is_final: nodes that
        agree about the final block must agree about these too, since nobody looks at them again.
        """
        found: list[Moved] = []
        for start in range(first, last + 1, self._range_blocks):
            end = min(start + self._range_blocks - 1, last)
            if self.treasury in senders:
                told = self._told(start, end, EXECUTED, REFUNDED, CREDITED, PULLED, is_final=is_final)
                found += self._refunded(asset, receivers, told)
            if not self.is_coin(asset):
                token = self.token(asset)
                found += self._moved(token, asset, senders, receivers, start, end, is_final=is_final)
        return found

    def _refunded(self, asset: str, receivers: Collection[bytes], told: list[Log]) -> list[Moved]:
        """What the treasury refunded and no Transfer says: of the coin all, of a token what was credited."""
        token = self.token(asset)
        found = [
            self._let(asset, paid)
            for paid in payouts(told, self.treasury, REFUNDED)
            if paid.token == token and paid.to in receivers and paid.evidence is paid.log
        ]
        return [one for one in found if one is not None]

    def _told(self, first: int, last: int, *topics: bytes, is_final: bool) -> list[Log]:
        """What the treasury said in a range of blocks."""
        asked = {
            "fromBlock": to_hex(first), "toBlock": to_hex(last), "address": to_hex(self.treasury),
            "topics": [[to_hex(topic) for topic in topics]],
        }  # fmt: skip
        logs = self.logs(asked, is_final=is_final)
        return [log for log in logs if log.at == self.treasury and first <= log.block <= last]

    def _moved(
        self,
        token: bytes,
        asset: str,
        senders: Collection[bytes],
        receivers: Collection[bytes],
        first: int,
        last: int,
        *,
        is_final: bool,
    ) -> list[Moved]:
        topics = [
            [to_hex(TRANSFER)],
            [to_hex(sender.rjust(WORD, b"\0")) for sender in sorted(senders)],
            [to_hex(receiver.rjust(WORD, b"\0")) for receiver in sorted(receivers)],
        ]
        asked = {
            "fromBlock": to_hex(first),
            "toBlock": to_hex(last),
            "address": to_hex(token),
            "topics": topics,
        }
        logs = self.logs(asked, is_final=is_final)
        try:
            for log in logs:
                self._check(log, token, senders, receivers, first, last)
        except _MALFORMED as error:
            raise Unavailable(self.rail, f"{type(error).__name__}: {error}"[:300]) from error
        return [self._of(log, asset) for log in sorted(logs, key=lambda log: (log.block, log.index))]

    def _check(
        self,
        log: Log,
        token: bytes,
        senders: Collection[bytes],
        receivers: Collection[bytes],
        first: int,
        last: int,
    ) -> None:
        """Believe nothing that was not asked for."""
        check_shape(log)
        asked = log.at == token and log.address(1) in senders and log.address(2) in receivers
        if log.topics[0] != TRANSFER or not asked or not first <= log.block <= last:
            raise ValueError(f"a log of block {log.block} that was not asked for")

    def _of(self, log: Log, asset: str) -> Moved:
        amount = log.word(0)
        return Moved(
            key=evidence_key(self.chain_id, log),
            asset=asset,
            sender=log.address(1),
            receiver=log.address(2),
            amount_minor=amount,
            block=log.block,
            transaction=log.transaction,
            document=evidence_document(self.chain_id, log, amount),
        )

    def logs(self, asked: Mapping[str, object], *, is_final: bool = False) -> list[Log]:
        """What eth_getLogs answers; of final blocks what all nodes that agree about them answer."""

        def read(endpoint: Endpoint) -> tuple[Log, ...] | Refused:
            try:
                told = endpoint.node.ask("eth_getLogs", asked)
                if not isinstance(told, list):
                    raise TypeError("eth_getLogs answered no list")
                # When a block was made is told by some nodes and not by others, and decides nothing here.
                logs = [replace(read_log(raw), time_s=None) for raw in told if not raw.get("removed")]
                return tuple(sorted(logs, key=lambda log: (log.block, log.index)))
            except Refused as error:
                return error
            except _MALFORMED as error:
                raise Unavailable(endpoint.node.name, f"{type(error).__name__}: {error}"[:300]) from error

        found = self._pool.confirmed(read) if is_final else self._pool.read(read)
        if isinstance(found, Refused):
            raise Unavailable(self.rail, str(found))
        return list(found)

    def let_go(self, asset: str, refund_hash: bytes, first: int) -> Let | None:
        """What the treasury said of one refund in a final block from `first` on, whoever had it paid."""
        final = self._pool.head().final
        for start in range(first, final + 1, self._range_blocks):
            end = min(start + self._range_blocks - 1, final)
            asked = {
                "fromBlock": to_hex(start), "toBlock": to_hex(end), "address": to_hex(self.treasury),
                "topics": [[to_hex(REFUNDED)], [to_hex(refund_hash)]],
            }  # fmt: skip
            for log in self.logs(asked, is_final=True):
                told = final_logs(self._pool, log.transaction)
                for paid in payouts(told, self.treasury, REFUNDED):
                    # A stranger's transaction may let several go that are alike but for this.
                    if (paid.authority, paid.token) == (refund_hash, self.token(asset)):
                        return Let(paid.log.block, paid.log.transaction, self._let(asset, paid))
        return None

    def _let(self, asset: str, paid: Payout) -> Moved | None:
        if paid.evidence is None:
            return None
        return Moved(
            evidence_key(self.chain_id, paid.evidence), asset, self.treasury, paid.to, paid.amount,
            paid.log.block, paid.log.transaction, payout_document(self.chain_id, paid),
        )  # fmt: skip

    def is_credited(self, credit: Credit) -> bool:
        """Whether a transaction of a final block credited a receiver, who could not receive."""
        return is_credited(self, self.treasury, self.token(credit.asset), credit)

    def pulled(self, asset: str, receivers: Collection[bytes], first: int, last: int) -> list[Pull]:
        """When receivers pulled what was credited to them, in a range of final blocks."""
        token, found = self.token(asset), []
        for start in range(first, last + 1, self._range_blocks):
            end = min(start + self._range_blocks - 1, last)
            logs = pulls(self, self.treasury, token, receivers, start, end)
            found += [Pull(log.address(1), log.block, log.word(0)) for log in logs]
        return found

    def paid_by_pull(self, credit: Credit, pull: Pull) -> Moved | None:
        """What a refund paid that was credited, once a pull took it; None where this pull did not."""
        told: list[Log] = []
        for block in sorted({credit.block, pull.block}):
            told += self._told(block, block, EXECUTED, REFUNDED, CREDITED, PULLED, is_final=True)
        found = self._refunded(credit.asset, {credit.receiver}, told)
        return next(
            (
                one
                for one in found
                if (one.transaction, one.amount_minor) == (credit.transaction, credit.amount_minor)
            ),
            None,
        )

    def coin_moved(self, asked: CoinSent, final: int, known_key: str | None = None) -> Moved | None:
        """What a transaction sent of the chain's coin; of a final block all nodes that agree must say it."""

        def read(endpoint: Endpoint, known: str | None = known_key) -> Moved | No | Refused | None:
            return read_coin(endpoint.node, self.chain_id, asked, known)

        found = self._pool.read(read)
        if isinstance(found, Moved) and found.block <= final:
            # Read whole once more, whatever was known.
            found = self._pool.confirmed(lambda endpoint: read(endpoint, None))
        if isinstance(found, Refused):
            raise Unavailable(self.rail, f"0x{asked.transaction.hex()}: {found}"[:300])
        if isinstance(found, No):
            reject("P6", "transaction", found.why)
        return found

    def is_signed_by_contract(self, address: bytes, digest: bytes, signature: bytes) -> bool:
        """Whether a contract says that a signature is its own (ERC-1271); no contract there is a no."""
        padded = signature.ljust(-(-len(signature) // WORD) * WORD, b"\0")
        words = digest + (2 * WORD).to_bytes(WORD, "big") + len(signature).to_bytes(WORD, "big") + padded
        call = {"to": to_hex(address), "data": to_hex(MAGIC + words), "gas": to_hex(SIGNATURE_GAS)}
        try:
            answer = data(self._pool.ask("eth_call", call, "latest"))
        except Refused:
            # It reverted: that is an answer too.
            return False
        except ValueError as error:
            raise Unavailable(self.rail, f"eth_call: {error}") from error
        return answer == MAGIC.ljust(WORD, b"\0")
