"""Money that went out and that the ledger would not book is told wherever an operator looks."""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import replace

from sqlalchemy import text

from gateway.budget.desk import Desk
from gateway.db import reading
from gateway.measures import store as measures
from gateway.metrics import Health, Measures, registry_of, serve
from gateway.payments.going_back import _booked
from gateway.payments.refund_model import RefundState
from ledger.store import add_document
from ledger.writer import submit
from tests.gateway.conftest import Town
from tests.gateway.test_merchant_pages import Visitor
from tests.gateway.test_refunds import city_refund
from tests.servers import ROOT


def refused_refund(town: Town) -> str:
    """The treasury pays a refund; before it is booked somebody books it by hand under another id."""
    treasury, _, refund = city_refund(town)
    treasury.sign("authority")
    treasury.anchor()
    for _ in range(3):
        treasury.refunds.follow()
        treasury.sender.step()
    town.finalise()
    treasury.sender.settle()
    treasury.refunds.follow()
    gone = treasury.refunds.look(refund.id)
    assert gone.state is RefundState.FINAL
    promised = treasury.refunds._going._promises.of(gone)
    assert promised is not None
    engine = town.city.gateway.engine
    with engine.begin() as connection:
        ours = _booked(gone, promised, add_document(connection, b"what the chain says of the refund"))
        connection.execute(text("DELETE FROM ledger_inbox"))
    Desk(town.city.writer).propose(replace(ours, id=b"\7" * 32))
    with engine.begin() as connection:
        submit(connection, ours, town.city.clock())
    town.record()
    return refund.id


def asked(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        found: str = answer.read().decode()
    return found


def test_a_booking_that_the_ledger_refused_after_money_went_out_is_told_everywhere(town: Town):
    engine = town.city.gateway.engine
    registry = registry_of(Measures(engine, town.city.clock))
    server = serve(registry, Health(engine), "127.0.0.1", 0)
    visitor = Visitor(town)
    visitor.sign_in(town.operator_key)
    title = "Money that went out and is not booked"
    try:
        port = server.server_port
        assert "qazyna_bookings_refused 0.0" in asked(port, "/metrics")
        assert json.loads(asked(port, "/readyz"))["warnings"] == []
        assert title not in visitor.get("/operator").text
        id = refused_refund(town)
        with reading(engine) as connection:
            [refused] = measures.refused_bookings(connection)
        assert refused.refund_id == id
        metrics = asked(port, "/metrics")
        assert "qazyna_bookings_refused 1.0" in metrics
        told = json.loads(asked(port, "/readyz"))
        # It goes on working: a process that is taken away books nothing either.
        assert (told["status"], told["problems"]) == ("ready", [])
        assert id in told["warnings"][0]
        assert refused.rule in told["warnings"][0]
        visitor.sign_in(town.operator_key)
        page = visitor.get("/operator").text
        assert title in page
        assert id in page
        assert refused.transfer_id.hex() in page
        assert town.client().get("/v1/operations", headers=town.operator).json()["bookings_refused"] == 1
        # The alert is about a metric that there is.
        rules = (ROOT / "docs" / "alerts.yml").read_text(encoding="utf-8")
        assert "alert: QazynaBookingRefused" in rules
        assert all(name in metrics for name in re.findall("qazyna_[a-z_]+", rules))
    finally:
        server.shutdown()
        server.server_close()
