"""What payments need to see of a chain when money goes back: Transfers from one to another, and ERC-1271."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from contracts.bindings import COIN
from contracts.transactions import CONTRACTS
from gateway.payments.outgoing import CoinSent, Moved, Seen
from gateway.rails.evm.coin_proof import No, read_coin
from gateway.rails.evm.credits import is_credited, proof_of_pull, pulls
from gateway.rails.evm.logs import TRANSFER, Log, check_shape, read_log
from gateway.rails.evm.place import Place
from gateway.rails.evm.pool import Endpoint, Pool
from gateway.rails.evm.rpc import Refused, data, to_hex
from gateway.rails.evm.split import coin_document, evidence_document, evidence_key
from gateway.rails.evm.treasury_logs import CREDITED, REFUNDED, coin_sent
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

        Of the coin: what the treasury says that it refunded, where it is the sender. is_final: nodes that
        agree about the final block must agree about these too, since nobody looks at them again.
        """
        found: list[Moved] = []
        if self.is_coin(asset) and self.treasury not in senders:
            return found
        for start in range(first, last + 1, self._range_blocks):
            end = min(start + self._range_blocks - 1, last)
            if self.is_coin(asset):
                found += self._coin_refunded(asset, receivers, start, end, is_final=is_final)
            else:
                token = self.token(asset)
                found += self._moved(token, asset, senders, receivers, start, end, is_final=is_final)
        return found

    def _coin_refunded(
        self, asset: str, receivers: Collection[bytes], first: int, last: int, *, is_final: bool
    ) -> list[Moved]:
        asked = {
            "fromBlock": to_hex(first), "toBlock": to_hex(last), "address": to_hex(self.treasury),
            "topics": [[to_hex(REFUNDED), to_hex(CREDITED)]],
        }  # fmt: skip
        logs = self.logs(asked, is_final=is_final)
        sent = [(log, to) for to in receivers for log in coin_sent(logs, self.treasury, REFUNDED, to)]
        return [
            Moved(
                evidence_key(self.chain_id, log), asset, self.treasury, to, log.word(1), log.block,
                log.transaction, coin_document(self.chain_id, log, to, log.word(1)),
            )
            for log, to in sorted(sent, key=lambda one: (one[0].block, one[0].index))
        ]  # fmt: skip

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

    def is_credited(self, asset: str, to: bytes, amount_minor: int, block: int, transaction: bytes) -> bool:
        """Whether a transaction of a final block credited a receiver, who could not receive."""
        token = self.token(asset)
        return is_credited(self, self.treasury, token, to, amount_minor, block, transaction)

    def pulled(self, asset: str, receivers: Collection[bytes], first: int, last: int) -> list[Moved]:
        """What receivers pulled of what was credited to them, in final blocks, with what proves it."""
        token, found = self.token(asset), []
        for start in range(first, last + 1, self._range_blocks):
            end = min(start + self._range_blocks - 1, last)
            for log in pulls(self, self.treasury, token, receivers, start, end):
                moved: list[Moved] = []
                if token != COIN:
                    to = {log.address(1)}
                    moved = self.moved(asset, {self.treasury}, to, log.block, log.block, is_final=True)
                proof = proof_of_pull(self.chain_id, asset, token, log, moved)
                if proof is None:
                    raise Unavailable(self.rail, f"a pull in block {log.block} moved nothing that is seen")
                found.append(proof)
        return found

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
