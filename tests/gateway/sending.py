"""Somebody who sends transactions, in the database and on the town's chain, and can misbehave like a network.

It has the interface of gateway/sending and none of its code, so that payments are tested against what
a sender may answer and not against what ours does.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text, insert, select, update

from contracts import transactions
from gateway.db import Connection, Engine
from gateway.sending.call import Call, Outcome, State
from tests.gateway.conftest import Town

_metadata = MetaData()
_sent = Table(
    "test_sent",
    _metadata,
    Column("id", Text, primary_key=True),
    Column("reference", Text, nullable=False),
    Column("to", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("gas", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("transaction", LargeBinary),
    Column("block", Integer),
    Column("why", Text, nullable=False),
)


@dataclass
class TownSender:
    """loses: replies go missing; reverts, forgets: how many calls come to nothing first."""

    town: Town
    loses: bool = False
    reverts: int = 0
    forgets: int = 0

    def __post_init__(self) -> None:
        _metadata.create_all(self.engine)

    @property
    def engine(self) -> Engine:
        return self.town.city.gateway.engine

    @property
    def queued(self) -> list[str]:
        """What it was asked to send, by its reference."""
        with self.engine.begin() as connection:
            return [row.reference for row in connection.execute(select(_sent.c.reference))]

    def queue(self, connection: Connection, chain: str, call: Call, now: int) -> str:
        assert chain == self.town.city.worker.rail.name
        assert now <= self.town.city.clock()
        id = sha256(f"{call.kind} {call.reference}".encode()).hexdigest()[:20]
        if connection.execute(select(_sent.c.id).where(_sent.c.id == id)).first() is None:
            row = {
                "id": id,
                "reference": call.reference,
                "to": call.to,
                "data": call.data,
                "gas": call.gas_limit,
                "state": "queued",
                "why": "",
            }
            connection.execute(insert(_sent).values(**row))
        return id

    def outcome(self, connection: Connection, id: str) -> Outcome:
        row = connection.execute(select(_sent).where(_sent.c.id == id)).one()
        transaction = None if row.transaction is None else bytes(row.transaction)
        return Outcome(State(row.state), transaction, row.block, row.why)

    def step(self) -> None:
        """Execute what is queued; each ends as the network pleases."""
        with self.engine.begin() as connection:
            waiting = connection.execute(select(_sent).where(_sent.c.state == "queued")).all()
        for row in waiting:
            if self.reverts:
                self.reverts -= 1
                self.note(row.id, State.REVERTED, None, None, "NotEnough")
            elif self.forgets:
                self.forgets -= 1
                self.note(row.id, State.DROPPED, None, None, "replaced")
            else:
                receipt = self.execute(bytes(row.to), bytes(row.data), row.gas)
                state = State.UNKNOWN if self.loses else State.MINED
                self.note(
                    row.id, state, bytes(receipt["transactionHash"]), receipt["blockNumber"], "no reply"
                )

    def execute(self, to: bytes, data: bytes, gas: int):
        from web3 import Web3

        asked = {"to": Web3.to_checksum_address(to), "data": data, "gas": gas}
        web3, account = self.town.city.outside.web3, self.town.city.keys.account("relayer")
        return transactions.transact(web3, account, asked, "refund")

    def settle(self) -> None:
        """Ask the chain about what is mined or unknown, as the sender does before it says final."""
        final = self.town.city.outside.web3.eth.get_block("finalized")["number"]
        with self.engine.begin() as connection:
            open_ = connection.execute(select(_sent).where(_sent.c.state.in_(["mined", "unknown"]))).all()
        for row in open_:
            if row.block <= final:
                self.note(row.id, State.FINAL, bytes(row.transaction), row.block, "")

    def note(self, id: str, state: State, transaction: bytes | None, block: int | None, why: str) -> None:
        with self.engine.begin() as connection:
            values = {"state": state.value, "transaction": transaction, "block": block, "why": why}
            connection.execute(update(_sent).where(_sent.c.id == id).values(**values))
