"""The two applications that are measured against each other; uvicorn makes one in each of its workers.

QAZYNA_BENCH names a JSON file with what they need. Both take the same body, answer JSON, and use the
same engine on the same PostgreSQL, FastAPI and its threads.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text, insert
from web3 import Web3

from contracts.bindings import City
from gateway.api.schemas import NewInvoice
from gateway.app import Gateway, create_app
from gateway.db import engine as open_engine
from gateway.embedded import RATES, Keys
from gateway.ledger_view import LedgerView
from gateway.payments.service import Payments
from gateway.plan import Plan
from gateway.rails.evm import Place, Quotes
from gateway.rate_desk import RateDesk
from gateway.rates import Exchange, NationalBank
from gateway.webhooks.egress import Egress
from ledger.publish import Publisher, Trust

rows = Table(
    "bare_invoice",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("merchant", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", LargeBinary, nullable=False),
    Column("created_s", BigInteger, nullable=False),
)


class Made(BaseModel):
    """What the bare one answers."""

    id: str
    reference: str
    amount: str
    asset: str
    title: str
    created_s: int
    status: str


def _told() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ["QAZYNA_BENCH"]).read_text())
    return found


def bare() -> FastAPI:
    """FastAPI and one INSERT: what the endpoint would be if nothing had to hold."""
    engine = open_engine(_told()["database"])
    app = FastAPI()

    @app.post("/v1/invoices", status_code=201)
    def _new(body: NewInvoice) -> Made:
        id, now = secrets.token_hex(13), int(time.time())
        amount = int(body.amount).to_bytes(16, "big")
        with engine.begin() as connection:
            connection.execute(
                insert(rows).values(
                    id=id,
                    merchant="m",
                    reference=body.reference,
                    title=body.title,
                    asset=body.asset,
                    amount=amount,
                    created_s=now,
                )
            )
        return Made(
            id=id,
            reference=body.reference,
            amount=body.amount,
            asset=body.asset,
            title=body.title,
            created_s=now,
            status="open",
        )

    return app


def ours() -> FastAPI:
    """The gateway, put together as it is in earnest, beside a chain that it need not ask."""
    told = _told()
    folder = Path(told["folder"])
    keys, plan = Keys(folder / "keys.json"), Plan.load(folder / "plan.json")
    engine = open_engine(told["database"])

    def clock() -> int:
        return int(told["now_s"] + time.time() - told["real_s"])

    client = httpx.Client(timeout=5, trust_env=False)
    exchanges = [
        Exchange(client, url, "USDT", 6, "USDT/KZT", name) for name, url in told["exchanges"].items()
    ]
    bank = NationalBank(client, told["bank"], "USDT", 6, "USD")
    view = LedgerView(engine)
    desk = RateDesk({"USDT": (bank, *exchanges)}, RATES, clock, engine, view)
    place = Place(plan.deployment, {plan.token: "USDT"})
    quotes = Quotes(City(Web3(), plan.deployment), place, keys.account("gateway"))
    log = keys.log()
    trust = Trust(plan.deployment.ledger, plan.deployment.chain_id, {}, log.verifiers())
    gateway = Gateway(
        engine,
        view,
        Payments(engine, view, clock, desk, quotes),
        quotes,
        Publisher(folder / "bundle", log, trust),
        keys.sealer(),
        Egress(["127.0.0.0/8"]),
        clock,
        "http://127.0.0.1:8000",
        plan.bank_iban,
    )
    gateway.invoice_quota.most = gateway.limits.keys.most = 10**9
    return create_app(gateway)
