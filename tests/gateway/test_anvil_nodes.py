"""Nodes that lie, lag, limit, refuse and die, in front of a real one: nothing is lost, and all of it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.db import reading
from gateway.payments import store
from gateway.rails.evm import HttpNode, Pool
from gateway.rails.evm.rpc import Limited
from gateway.worker import Worker
from ledger.records import Unavailable
from tests import servers
from tests.fakes.rpc_proxy import Cut, Refuse, RpcProxy, Silence
from tests.gateway.anvil_town import AnvilTown, check_against_a_rescan

Answer = dict[str, Any]


@pytest.fixture
def proxies(anvil_town: AnvilTown) -> Iterator[list[RpcProxy]]:
    made = [RpcProxy(anvil_town.node.url) for _ in range(3)]
    yield made
    for proxy in made:
        proxy.__exit__()


def told(answer: Answer, result: Any) -> Answer:
    return {**answer, "result": result}


def error(answer: Answer, code: int, message: str) -> Answer:
    return {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": code, "message": message}}


def no_logs(method: str, _: list[Any], answer: Answer) -> Answer:
    return told(answer, []) if method == "eth_getLogs" else answer


def forged_logs(method: str, _: list[Any], answer: Answer) -> Answer:
    """All money is a thousand times as much."""
    if method != "eth_getLogs":
        return answer
    more = [{**log, "data": f"0x{int(log['data'], 16) * 1_000:064x}"} for log in answer["result"]]
    return told(
        answer,
        [new if len(log["data"]) == 66 else log for log, new in zip(answer["result"], more, strict=True)],
    )


def other_blocks(method: str, _: list[Any], answer: Answer) -> Answer:
    """A chain of its own: no block has the hash that others tell."""
    if method != "eth_getBlockByNumber" or not answer.get("result"):
        return answer
    return told(answer, {**answer["result"], "hash": "0x" + answer["result"]["hash"][2:][::-1]})


def lagging(blocks: int) -> Callable[[str, list[Any], Answer], Answer]:
    """A node that stands still so many blocks behind."""

    def wrong(method: str, parameters: list[Any], answer: Answer) -> Answer:
        if (
            method == "eth_getBlockByNumber"
            and parameters[0] in {"latest", "finalized"}
            and answer.get("result")
        ):
            number = hex(max(int(answer["result"]["number"], 16) - blocks, 0))
            return told(answer, {**answer["result"], "number": number})
        return answer

    return wrong


def raising(what: Exception) -> Callable[[str, list[Any]], None]:
    def before(method: str, _: list[Any]) -> None:
        raise what

    return before


def cursor(town: AnvilTown, worker: Worker) -> int:
    with reading(town.city.gateway.engine) as connection:
        return store.cursor(connection, worker.rail.name) or 0


def aside(worker: Worker) -> set[int]:
    return {at for at, one in enumerate(worker.rail.conditions()) if not one.is_used}


@pytest.mark.parametrize("how", [no_logs, forged_logs, other_blocks])
@pytest.mark.parametrize("who", [0, 1, 2])
def test_ff07_of_three_nodes_one_that_lies_is_outvoted_set_aside_and_told(
    anvil_town: AnvilTown, proxies: list[RpcProxy], how: Any, who: int
):
    town = anvil_town
    invoice = town.invoice()
    town.pay(invoice)
    town.mine(65)
    worker = town.worker_on(*(proxy.url for proxy in proxies))
    # It knows all of them, so that who is asked first is its choice.
    worker.rail.head()
    proxies[who].wrong = how
    for _ in range(2):
        worker.poll_chain()
    assert town.status(invoice) == "final"
    conditions = worker.rail.conditions()
    # Blocks are asked of all of them, logs of two.
    is_asked = who < 2 or how is other_blocks
    assert aside(worker) == ({who} if is_asked else set())
    assert (conditions[who].failures, bool(conditions[who].why)) == (int(is_asked), is_asked)
    town.record()
    check_against_a_rescan(town, [], [invoice])


@pytest.mark.parametrize("how", [no_logs, forged_logs, other_blocks])
def test_of_two_nodes_that_disagree_neither_is_believed_about_what_is_final(
    anvil_town: AnvilTown, proxies: list[RpcProxy], how: Any
):
    town = anvil_town
    invoice = town.invoice()
    town.pay(invoice)
    town.mine(65)
    worker = town.worker_on(*(proxy.url for proxy in proxies[:2]))
    before = cursor(town, worker)
    proxies[1].wrong = how
    with pytest.raises(Unavailable) as refused:
        worker.poll_chain()
    assert "disagree" in str(refused.value)
    assert cursor(town, worker) == before
    assert town.status(invoice) == "open"
    assert all("disagree" in one.why for one in worker.rail.conditions())
    # Blind time is not held against the payer (field failure 07).
    town.city.clock.wait(100_000)
    town.payments.expire()
    assert town.status(invoice) == "open"
    proxies[1].wrong = None
    worker.poll_chain()
    assert (town.status(invoice), town.notes(invoice)) == ("final", set())


@pytest.mark.parametrize(
    "how",
    [
        Refuse(429),
        Refuse(429, Retry_After="7"),
        Refuse(503),
        Refuse(413),
        Cut(),
        Silence(),
    ],
    ids=["429", "429-after", "503", "413", "cut", "silent"],
)
def test_ff07_a_node_that_limits_or_dies_is_left_alone_and_the_next_is_asked(
    anvil_town: AnvilTown, proxies: list[RpcProxy], how: Exception
):
    town = anvil_town
    invoice = town.invoice()
    town.pay(invoice)
    timeout_s = 2 if isinstance(how, Silence) else 60
    worker = town.worker_on(*(proxy.url for proxy in proxies[:2]), timeout_s=timeout_s)
    proxies[0].before = raising(how)
    worker.poll_chain()
    assert town.status(invoice) == "detected"
    assert aside(worker) == {0}
    condition = worker.rail.conditions()[0]
    assert condition.why
    if isinstance(how, Refuse) and how.headers:
        assert condition.aside_s == 7
    asked = len(proxies[0].asked)
    for _ in range(3):
        worker.poll_chain()
    assert len(proxies[0].asked) == asked, "it was asked again at once"
    proxies[0].before = None
    worker.rail.pool._now = lambda: 600.0
    worker.poll_chain()
    assert aside(worker) == set()
    assert len(proxies[0].asked) > asked


def test_ff07_a_limit_told_as_a_json_rpc_error_is_a_limit(anvil_town: AnvilTown, proxies: list[RpcProxy]):
    town = anvil_town
    invoice = town.invoice()
    town.pay(invoice)
    node = HttpNode(proxies[0].url)
    town.nodes.append(node)
    proxies[0].wrong = lambda _, __, answer: error(
        answer, -32005, "daily request count exceeded, rate limited"
    )
    with pytest.raises(Limited):
        node.ask("eth_chainId")
    worker = town.worker_on(*(proxy.url for proxy in proxies[:2]))
    worker.poll_chain()
    assert town.status(invoice) == "detected"
    assert aside(worker) == {0}


def test_back_off_doubles_and_ends(anvil_town: AnvilTown, proxies: list[RpcProxy]):
    town, now = anvil_town, [0.0]
    nodes = [HttpNode(proxy.url, timeout_s=60) for proxy in proxies[:2]]
    town.nodes += nodes
    pool = Pool(nodes, servers.CHAIN_ID, now=lambda: now[0])
    proxies[0].before = raising(Refuse(500))
    waits = []
    for _ in range(12):
        pool.head()
        waits.append(pool.conditions()[0].aside_s)
        now[0] += waits[-1]
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == 300
    proxies[0].before = None
    pool.head()
    assert pool.conditions()[0].failures == 12
    # It is forgiven once it has done well for as long as it was left alone.
    now[0] += 301
    pool.head()
    assert pool.conditions()[0].failures == 0


def test_ff06_a_node_that_lags_is_set_aside_and_its_lag_is_told(
    anvil_town: AnvilTown, proxies: list[RpcProxy]
):
    town = anvil_town
    invoice = town.invoice()
    town.pay(invoice)
    town.mine(40)
    worker = town.worker_on(*(proxy.url for proxy in proxies[:2]))
    proxies[0].wrong = lagging(30)
    worker.poll_chain()
    assert town.status(invoice) == "paid"
    condition = worker.rail.conditions()[0]
    assert (condition.lag_blocks, condition.is_used) == (30, False)
    assert "lags" in condition.why


def test_one_of_three_that_is_far_ahead_of_all_others_is_not_believed(
    anvil_town: AnvilTown, proxies: list[RpcProxy]
):
    town = anvil_town
    worker = town.worker_on(*(proxy.url for proxy in proxies))
    proxies[2].wrong = lagging(-1_000_000)
    head = worker.rail.head()
    assert head.latest == town.block()
    assert aside(worker) == {2}


def test_with_two_needed_one_alone_moves_nothing(anvil_town: AnvilTown, proxies: list[RpcProxy]):
    town = anvil_town
    invoice = town.invoice()
    town.pay(invoice)
    worker = town.worker_on(*(proxy.url for proxy in proxies[:2]), needed=2)
    proxies[1].before = raising(Refuse(500))
    with pytest.raises(Unavailable) as refused:
        worker.poll_chain()
    assert "1 nodes of 2 needed" in str(refused.value)
    assert town.status(invoice) == "open"
    proxies[1].before = None
    worker.rail.pool._now = lambda: 600.0
    worker.poll_chain()
    assert town.status(invoice) == "detected"


@pytest.mark.parametrize(
    "message",
    [
        "query returned more than 10000 results",
        "block range is too large, limited to 10 blocks",
        "eth_getLogs is limited to a 10 block range",
        "Log response size exceeded. You can make eth_getLogs requests with up to a 10 block range",
        "exceed maximum block range: 10",
        "query timeout exceeded",
        "please limit your query to at most 10 blocks: range too wide",
    ],
)
@pytest.mark.parametrize("code", [-32005, -32602, -32000])
def test_ff06_a_range_that_is_too_large_for_a_node_is_halved_until_it_is_not(
    anvil_town: AnvilTown, proxies: list[RpcProxy], message: str, code: int
):
    town = anvil_town
    invoice = town.invoice()
    town.pay(invoice)
    town.mine(300)
    widths: list[int] = []

    def wrong(method: str, parameters: list[Any], answer: Answer) -> Answer:
        if method != "eth_getLogs":
            return answer
        width = int(parameters[0]["toBlock"], 16) - int(parameters[0]["fromBlock"], 16) + 1
        widths.append(width)
        return error(answer, code, message) if width > 10 else answer

    proxies[0].wrong = wrong
    worker = town.worker_on(proxies[0].url)
    worker.poll_chain()
    assert town.status(invoice) == "final"
    assert max(widths) > 10
    assert sum(width for width in widths if width <= 10) >= 300


def test_a_range_that_a_node_cannot_answer_in_time_is_halved(anvil_town: AnvilTown, proxies: list[RpcProxy]):
    town = anvil_town
    invoice = town.invoice()
    town.pay(invoice)
    town.mine(200)

    def slow(method: str, parameters: list[Any]) -> None:
        if method == "eth_getLogs":
            width = int(parameters[0]["toBlock"], 16) - int(parameters[0]["fromBlock"], 16) + 1
            if width > 150:
                raise Silence

    proxies[0].before = slow
    worker = town.worker_on(proxies[0].url, timeout_s=2)
    worker.poll_chain()
    assert town.status(invoice) == "final"


def test_one_block_that_is_too_much_is_told_and_never_skipped(anvil_town: AnvilTown, proxies: list[RpcProxy]):
    town = anvil_town
    invoice = town.invoice()
    town.pay(invoice)
    town.mine(65)
    proxies[0].wrong = lambda method, _, answer: (
        error(answer, -32005, "query returned more than 10000 results") if method == "eth_getLogs" else answer
    )
    worker = town.worker_on(proxies[0].url)
    before = cursor(town, worker)
    with pytest.raises(Unavailable) as refused:
        worker.poll_chain()
    assert "1 blocks" in str(refused.value)
    assert cursor(town, worker) == before


def test_a_key_in_an_address_stands_in_no_name_and_no_error(proxies: list[RpcProxy]):
    node = HttpNode("http://user:secret@127.0.0.1:1/v3/0123456789abcdef?key=secret", timeout_s=1)
    with pytest.raises(Unavailable) as refused:
        node.ask("eth_chainId")
    assert node.name == "127.0.0.1:1"
    assert "secret" not in str(refused.value)
    assert "0123456789" not in str(refused.value)
    node.close()


def test_a_second_node_that_dies_in_the_middle_is_no_second_any_more(
    anvil_town: AnvilTown, proxies: list[RpcProxy]
):
    town = anvil_town
    invoice = town.invoice()
    town.pay(invoice)
    town.mine(65)
    worker = town.worker_on(*(proxy.url for proxy in proxies[:2]))

    def dies(method: str, _: list[Any]) -> None:
        if method == "eth_getLogs":
            raise Refuse(500)

    proxies[1].before = dies
    worker.poll_chain()
    assert town.status(invoice) == "final"
    assert aside(worker) == {1}


def test_ff04_a_node_without_the_last_block_of_a_range_moves_no_cursor_over_what_it_has_not_seen(
    anvil_town: AnvilTown, proxies: list[RpcProxy]
):
    """It says that it is at the head, and answers about blocks that it does not have with no logs and no error."""
    town = anvil_town
    invoice = town.invoice()
    worker = town.worker_on(proxies[0].url)
    worker.poll_chain()
    town.pay(invoice)
    town.mine(65)
    last = hex(town.block())

    def behind(method: str, parameters: list[Any], answer: Answer) -> Answer:
        if method == "eth_getLogs":
            return told(answer, [])
        return told(answer, None) if method == "eth_getBlockByNumber" and parameters[0] == last else answer

    proxies[0].wrong = behind
    before = cursor(town, worker)
    with pytest.raises(Unavailable):
        worker.poll_chain()
    assert cursor(town, worker) == before
    proxies[0].wrong = None
    worker.poll_chain()
    assert town.status(invoice) == "final"
