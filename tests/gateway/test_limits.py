"""Nobody is quoted while the chain or the rate is too far back; and what an operator sees of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo import SALE_CODE
from gateway.embedded import MOST
from gateway.limits import Limits, Most
from gateway.metrics import Health, Measures, registry_of, serve
from gateway.payments.service import Payments
from gateway.rates_simulator import Misbehaviour
from ledger.records import Unavailable
from tests.gateway.conftest import Node, Refuse, Town, opened

LAG_S, AGE_S = 300, 900


def limited(town: Town) -> Payments:
    """The town's payments, with limits."""
    known = town.payments
    limits = Limits(known.engine, known.clock, known.rates, known.chain.rail, Most(LAG_S, AGE_S))
    return Payments(known.engine, known.view, known.clock, known.rates, known.chain, limits)


def ask(town: Town, payments: Payments) -> Any:
    """An invoice, made by these payments."""
    kept = town.city.gateway
    object.__setattr__(kept, "payments", payments)
    return town.invoice()


def test_ff06_over_the_limit_of_lag_nobody_is_quoted_and_under_it_again_everybody(town: Town, node: Node):
    payments = limited(town)
    town.mine()
    town.poll()
    ask(town, payments)

    def away(*_: object) -> object:
        raise Refuse(503)

    node.wrong = away
    # The blocks of the chain in this process can be some seconds ahead of the clock.
    town.city.clock.wait(LAG_S - 1)
    ask(town, payments)
    town.city.clock.wait(30)
    with pytest.raises(Unavailable) as refused:
        ask(town, payments)
    assert refused.value.service == "quotes"
    told = re.fullmatch(
        r"the chain evm-31337 is seen as it was ([0-9]+) s ago, at most 300", refused.value.why
    )
    assert told is not None
    assert LAG_S < int(told[1]) <= LAG_S + 29
    with pytest.raises(Unavailable):
        node.worker.poll_chain()
    with pytest.raises(Unavailable):
        ask(town, payments)
    # What is not paid on a chain goes on all the while.
    assert town.bill().asset == "KZT"
    node.wrong = None
    town.mine()
    node.worker.poll_chain()
    ask(town, payments)


def test_ff06_over_the_limit_of_age_nobody_is_quoted(town: Town):
    """The last good rate serves for a while, and the operator may want it for less."""
    known = town.payments
    limits = Limits(known.engine, known.clock, known.rates, known.chain.rail, Most(10**9, 120))
    payments = Payments(known.engine, known.view, known.clock, known.rates, known.chain, limits)
    ask(town, payments)
    for name in ("nationalbank", "exchange-a", "exchange-b"):
        town.city.outside.rates.misbehaves[name] = Misbehaviour.STATUS_500
    town.wait(120)
    ask(town, payments)
    town.wait(6)
    with pytest.raises(Unavailable, match="the rate of USDT is 126 s old, at most 120"):
        ask(town, payments)
    town.city.outside.rates.misbehaves.clear()
    town.wait(6)
    ask(town, payments)


def test_ff06_the_refusal_is_503_with_both_numbers_and_when_to_come_again(town: Town):
    payments = limited(town)
    object.__setattr__(town.city.gateway, "payments", payments)
    town.city.clock.wait(10_000)
    body = {"purpose": SALE_CODE, "title": "Tea", "amount": "1250000", "asset": "USDT", "reference": "late-1"}
    answer = town.client().post("/v1/invoices", json=body, headers=town.bearer)
    assert answer.status_code == 503, answer.text
    assert answer.json()["where"] == "quotes"
    assert f"at most {LAG_S}" in json.dumps(answer.json())
    assert int(answer.headers["Retry-After"]) > 0


def test_ff06_the_sample_city_has_the_same_limits_and_shows_the_operator_why(
    built_town: Path, tmp_path: Path
):
    folder = shutil.copytree(built_town, tmp_path / "city")
    with opened(folder, most=MOST) as town:
        town.mine()
        town.poll()
        town.invoice()
        assert _shown(town) == (0, None)
        town.city.clock.wait(MOST.lag_s + 60)
        with pytest.raises(Unavailable, match=f"at most {MOST.lag_s}"):
            town.invoice()
        lag_s, why = _shown(town)
        assert lag_s > MOST.lag_s
        assert f"at most {MOST.lag_s}" in why
        told = {f"{one.name}{sorted(sample.labels.values())}": sample.value
                for one in town.city.measures.collect() for sample in one.samples}  # fmt: skip
        assert told["qazyna_quotes_stopped['USDT']"] == 1
        assert {name: value for name, value in told.items() if "unreadable" in name and value} == {}
        assert town.bill().asset == "KZT"
        town.mine()
        town.poll()
        town.invoice()
        for name in ("nationalbank", "exchange-a", "exchange-b"):
            town.city.outside.rates.misbehaves[name] = Misbehaviour.STATUS_500
        town.wait(MOST.rate_age_s + 6)
        town.poll()
        with pytest.raises(Unavailable):
            town.invoice()


def _shown(town: Town) -> tuple[int, Any]:
    """What an operator is told: how far back, and why nobody is quoted."""
    told = town.client().get("/v1/operations", headers=town.operator).json()
    [rate] = [one for one in told["rates"] if one["asset"] == "USDT"]
    return told["chain_lag_s"], rate["why"]


# --- metrics ----------------------------------------------------------------------------------------------


@pytest.fixture
def measured(town: Town) -> Iterator[tuple[Measures, str]]:
    known, city = town.payments, town.city
    limits = Limits(known.engine, known.clock, known.rates, known.chain.rail, Most(LAG_S, AGE_S))
    made = Measures(known.engine, known.clock, limits, ("USDT",), city.worker.rail)
    made.published = city.publisher.published
    server = serve(registry_of(made), Health(known.engine), "127.0.0.1", 0)
    yield made, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def numbers(address: str) -> dict[str, float]:
    text = httpx.get(f"{address}/metrics", trust_env=False, timeout=60).text
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("qazyna_"): float(value) for name, value in rows}


def test_metrics_tell_how_far_back_the_chain_is_seen(town: Town, measured: tuple[Measures, str]):
    town.mine()
    town.poll()
    assert numbers(measured[1])['chain_lag_seconds{rail="evm-31337"}'] == 0
    town.city.clock.wait(400)
    told = numbers(measured[1])
    assert 390 <= told['chain_lag_seconds{rail="evm-31337"}'] <= 400
    assert told['quotes_stopped{asset="USDT"}'] == 1
    town.mine(7)
    town.city.worker.rail.head()
    assert numbers(measured[1])['chain_lag_blocks{rail="evm-31337"}'] == 7
    town.poll()
    told = numbers(measured[1])
    assert told['chain_lag_blocks{rail="evm-31337"}'] == 0
    assert told['quotes_stopped{asset="USDT"}'] == 0


def test_metrics_tell_how_old_the_rate_is_and_nothing_where_there_is_none(
    town: Town, measured: tuple[Measures, str]
):
    town.mine()
    town.poll()
    assert numbers(measured[1])['rate_age_seconds{asset="USDT"}'] == 0
    for name in ("nationalbank", "exchange-a", "exchange-b"):
        town.city.outside.rates.misbehaves[name] = Misbehaviour.STATUS_500
    for seconds in (59, 31):
        town.city.clock.wait(seconds)
    # The last good rate serves on, and is as old as it is.
    assert numbers(measured[1])['rate_age_seconds{asset="USDT"}'] == 90
    town.wait(900)
    town.poll()
    told = numbers(measured[1])
    assert 'rate_age_seconds{asset="USDT"}' not in told
    assert told['quotes_stopped{asset="USDT"}'] == 1
    town.city.outside.rates.misbehaves.clear()
    town.wait(10)
    town.poll()
    told = numbers(measured[1])
    assert (told['rate_age_seconds{asset="USDT"}'], told['quotes_stopped{asset="USDT"}']) == (0, 0)


def test_metrics_tell_how_long_the_oldest_call_to_the_chain_has_waited(
    town: Town, measured: tuple[Measures, str]
):
    from gateway.sending import service, store
    from gateway.sending.service import Call, State

    rail = town.city.worker.rail.name
    engine = town.city.gateway.engine
    assert numbers(measured[1])["transactions_age_seconds"] == 0
    for reference, pause in (("oldest", 100), ("newest", 30)):
        with engine.begin() as connection:
            call = Call("test", reference, b"\x11" * 20, b"", 0, 21_000)
            service.queue(connection, rail, call, town.city.clock())
        town.city.clock.wait(pause)
    told = numbers(measured[1])
    assert (told["transactions_age_seconds"], told['transactions{state="queued"}']) == (130, 2)
    # However far a call has come, it counts until it is final; then the next is the oldest.
    for state, expected in ((State.SENT, 130), (State.UNKNOWN, 130), (State.MINED, 130), (State.FINAL, 30)):
        with engine.begin() as connection:
            oldest = Call("test", "oldest", b"\x11" * 20, b"", 0, 21_000).id
            store.set_call(connection, oldest, town.city.clock(), state=state.value)
        told = numbers(measured[1])
        assert (told["transactions_age_seconds"], told[f'transactions{{state="{state.value}"}}']) == (
            expected,
            1,
        )


def test_metrics_tell_money_that_waits_for_a_person(town: Town, measured: tuple[Measures, str]):
    town.transfer_in_tenge(1_234, "nobody's")
    town.transfer_in_tenge(6, "nobody's either")
    town.take_bank_files()
    told = numbers(measured[1])
    assert told['unmatched_pieces{asset="KZT"}'] == 2
    assert told['unmatched_minor{asset="KZT"}'] == 1_240


def test_metrics_tell_what_waits_for_the_writer_and_for_the_public(
    town: Town, measured: tuple[Measures, str]
):
    bill = town.bill()
    town.transfer_in_tenge(bill.due_minor, bill.reference)
    town.take_bank_files()
    town.city.clock.wait(9)
    told = numbers(measured[1])
    assert (told["inbox_depth"], told["inbox_age_seconds"]) == (1, 9)
    town.record()
    town.city.clock.wait(20)
    told = numbers(measured[1])
    assert told["inbox_depth"] == 0
    assert told["recorded_size"] == told["published_size"] + 1
    assert told["unpublished_age_seconds"] == 20
    town.city.worker.publish()
    told = numbers(measured[1])
    assert told["recorded_size"] == told["published_size"]
    assert told["unpublished_age_seconds"] == 0
    assert told['anchored_size{chain="31337"}'] > 0


def test_metrics_tell_what_waits_in_the_outbox(town: Town, measured: tuple[Measures, str]):
    from gateway.webhooks import store as webhooks

    with town.city.gateway.engine.begin() as connection:
        target = town.city.gateway.egress.parse("http://127.0.0.1:9/")
        webhooks.add_endpoint(
            connection, town.city.gateway.sealer, town.merchant_id, target, town.city.clock()
        )
    town.invoice()
    town.city.clock.wait(30)
    told = numbers(measured[1])
    assert (told["outbox_pending"], told["outbox_age_seconds"], told["outbox_failing_endpoints"]) == (
        1,
        30,
        0,
    )
    town.city.worker.deliver()
    assert numbers(measured[1])["outbox_failing_endpoints"] == 1


def test_what_cannot_be_read_is_told_and_hides_nothing_else(town: Town, measured: tuple[Measures, str]):
    measures, address = measured

    def broken() -> float:
        raise OSError("the disk is gone")

    measures.gauges["answer"] = lambda: 42.0
    assert numbers(address)["answer"] == 42
    measures.gauges["broken"] = broken
    told = numbers(address)
    assert told['unreadable{part="others"}'] == 1
    assert told['unreadable{part="ledger"}'] == 0
    assert told["recorded_size"] > 0


def test_health_tells_life_and_readiness_apart(town: Town, measured: tuple[Measures, str]):
    _, address = measured
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as http:
        assert http.get("/healthz").json() == {"status": "alive"}
        assert http.get("/readyz").json() == {"status": "ready", "problems": [], "warnings": []}
        assert http.get("/secret").status_code == 404
    health = Health(town.city.gateway.engine)
    assert health.problems() == []
    health.stopping.set()
    assert health.problems() == ["it is stopping"]


def test_no_metric_is_of_one_merchant_or_payer(town: Town, measured: tuple[Measures, str]):
    invoice = town.invoice()
    town.pay(invoice)
    town.finalise()
    text = httpx.get(f"{measured[1]}/metrics", trust_env=False, timeout=60).text
    for secret in (town.merchant_id, invoice.id, town.city.keys.address("payer").hex()):
        assert secret not in text
