"""The auditor against a node: what the chain says and the ledger does not, and the other way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ledger import rules
from ledger.audit import Wanted, audit
from ledger.audit.__main__ import main
from ledger.records import (
    Close,
    Contract,
    Refund,
    Transfer,
    Unavailable,
    address_word,
    encode_name,
    keccak256,
)
from tests import bundles, city

CODE = b"\x60\x00the treasury's code"
PAYER, THIEF = city.Key("payer").address, city.Key("thief").address


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _topic(event: str) -> bytes:
    return keccak256(event.encode())


@dataclass
class Node:
    """A node of a chain that a test can write on, and that can misbehave."""

    chain_id: int = city.CHAIN_ID
    latest: int = 10_000
    final: int | None = 9_000
    now: int = 0
    code: dict[bytes, bytes] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)
    views: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    most_blocks: int = 4_000
    answer: Callable[[str], object] | None = None

    def log(
        self, at: bytes, topics: list[bytes], data: bytes, block: int, transaction: bytes, index: int = 0
    ) -> None:
        self.logs.append(
            {
                "address": _hex(at),
                "topics": [_hex(topic) for topic in topics],
                "data": _hex(data),
                "blockNumber": hex(block),
                "blockHash": _hex(city.digest(f"block {block}")),
                "transactionHash": _hex(transaction),
                "logIndex": hex(index),
                "removed": False,
            }
        )

    def move(
        self, payer: bytes, to: bytes, amount: int, block: int, transaction: bytes, token: bytes = city.TOKEN
    ) -> None:
        topics = [_topic("Transfer(address,address,uint256)"), address_word(payer), address_word(to)]
        self.log(token, topics, _word(amount), block, transaction, 3)

    def tell(
        self, event: str, authority: bytes, to: bytes, amount: int, block: int, transaction: bytes
    ) -> None:
        """The treasury says by which order or refund the movement that follows is made."""
        topics = [_topic(f"{event}(bytes32,bytes32,address,address,uint256)"), authority, authority]
        data = address_word(city.TOKEN) + _word(amount)
        self.log(city.TREASURY, [*topics, address_word(to)], data, block, transaction, 2)

    def view(self, at: bytes, signature: str, answer: bytes, *words: bytes) -> None:
        self.views[at, keccak256(signature.encode())[:4] + b"".join(words)] = answer

    def ask(self, method: str, parameters: list[Any]) -> object:
        if method == "eth_chainId":
            return hex(self.chain_id)
        if method == "eth_getBlockByNumber":
            tag = parameters[0]
            number = {"latest": self.latest, "finalized": self.final}.get(
                tag, None if tag[:2] != "0x" else int(tag, 16)
            )
            time = self.times.get(number or 0, self.now)
            return None if number is None else {"number": hex(number), "timestamp": hex(time)}
        if method == "eth_getCode":
            return _hex(self.code.get(bytes.fromhex(parameters[0][2:]), b""))
        if method == "eth_call":
            key = bytes.fromhex(parameters[0]["to"][2:]), bytes.fromhex(parameters[0]["data"][2:])
            return _hex(self.views.get(key, b""))
        if method == "eth_getTransactionReceipt":
            return next(
                (
                    {"blockNumber": log["blockNumber"]}
                    for log in self.logs
                    if log["transactionHash"] == parameters[0]
                ),
                None,
            )
        assert method == "eth_getLogs"
        first, last = (int(parameters[0][name], 16) for name in ("fromBlock", "toBlock"))
        if last - first > self.most_blocks:
            raise ValueError("too many blocks")
        return [
            log
            for log in self.logs
            if log["address"] == parameters[0]["address"]
            and first <= int(log["blockNumber"], 16) <= last
            and len(log["topics"]) >= len(parameters[0]["topics"])
            and all(w in {None, t} for w, t in zip(parameters[0]["topics"], log["topics"], strict=False))
        ]


@pytest.fixture
def serve() -> Iterator[Callable[[Node], str]]:
    servers: list[ThreadingHTTPServer] = []

    def start(node: Node) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                said: dict[str, object] = {"jsonrpc": "2.0", "id": asked["id"]}
                try:
                    strange = node.answer and node.answer(asked["method"])
                    said["result"] = strange or node.ask(asked["method"], asked["params"])
                except ValueError as error:
                    said["error"] = {"code": -32000, "message": str(error)}
                body = strange if isinstance(strange, bytes) else json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@dataclass
class Town:
    """A ledger with chain money, its bundle, and a node that agrees with both."""

    folder: Path
    log: city.Log
    node: Node
    documents: dict[str, bytes]
    anchors: list[dict[str, str]]

    def write(self) -> None:
        public = self.documents | bundles.documents(*bundles.sources_of(self.log.records))
        bundles.write(self.folder, self.log, public=public, anchored=self.anchors)


def evidence(block: int, paid_in: bytes, units: int, to: bytes, **changed: str) -> bytes:
    said = {
        "blockHash": _hex(city.digest(f"block {block}")),
        "chainId": str(city.CHAIN_ID),
        "kind": "evm-log",
        "logIndex": "3",
        "token": _hex(city.TOKEN),
        "amount": str(units),
        "to": _hex(to),
        "transaction": _hex(paid_in),
    }
    return json.dumps(said | changed, sort_keys=True, separators=(",", ":")).encode()


def _receive(town: Town, units: int, mark: str, block: int, **changed: str) -> None:
    transaction = city.digest(f"transaction {mark}")
    document = evidence(block, transaction, units, city.TREASURY, **changed)
    town.documents |= bundles.documents(document)
    town.log.add(replace(city.revenue(town.log, units, mark=mark), evidence=sha256(document).digest()))
    town.node.move(PAYER, city.TREASURY, units, block, transaction)


def _pay(town: Town, order: Any, **changed: str) -> None:
    order_hash = town.log.act(order)
    transaction = city.digest("transaction payment")
    document = evidence(120, transaction, order.amount, city.PAYEE_ADDRESS, **changed)
    town.documents |= bundles.documents(document)
    town.log.add(replace(city.payment(order, order_hash), evidence=sha256(document).digest()))
    town.node.tell("Executed", order_hash, city.PAYEE_ADDRESS, order.amount, 120, transaction)
    town.node.move(city.TREASURY, city.PAYEE_ADDRESS, order.amount, 120, transaction)


def _anchor_all(town: Town) -> None:
    """Anchor what there is, in the bundle and on the chain."""
    town.anchors[:] = bundles.anchors(town.log.records)
    node = town.node
    node.logs = [log for log in node.logs if log["address"] != _hex(city.ANCHOR)]
    for said in town.anchors:
        size, time = int(said["size"]), int(said["time"])
        topics = [_topic("Anchored(uint64,bytes32,uint64)"), _word(size)]
        data = bytes.fromhex(said["root"][2:]) + _word(time)
        node.log(city.ANCHOR, topics, data, int(said["block"]), bytes.fromhex(said["transaction"][2:]))
    node.view(city.ANCHOR, "head()", _word(size) + _word(time) + data[:32])
    node.now = town.log.now + 120
    town.write()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    full, order = bundles.certified()
    log = city.opened()
    log.act(Contract(0, "treasury", city.CHAIN_ID, city.TREASURY, keccak256(CODE), city.ACT))
    made = Town(tmp_path / "bundle", log, Node(), bundles.documents(), [])
    for data in full.records[len(city.opened().records) + 4 :]:
        # The same city again, but for its treasury's code and its receipts.
        record = rules.decode(data)
        log.now = record.time
        if isinstance(record, Transfer):
            _receive(made, 50_000_000, "1", 100)
        else:
            log.add(record)
    _pay(made, order)
    node = made.node
    node.code[city.TREASURY] = CODE
    node.view(city.TOKEN, "balanceOf(address)", _word(10_000_000), address_word(city.TREASURY))
    genesis = log.state.genesis
    assert genesis is not None
    node.view(city.COUNCIL_CONTRACT, "ledger()", genesis.ledger)
    node.view(city.COUNCIL_CONTRACT, "founding()", genesis.founding)
    node.view(city.COUNCIL_CONTRACT, "retentionEnd()", _word(genesis.retention_end))
    node.view(city.COUNCIL_CONTRACT, "anchor()", address_word(city.ANCHOR))
    for holder, role in log.state.roles.items():
        words = (encode_name(role), address_word(holder))
        node.view(city.COUNCIL_CONTRACT, "seated(bytes32,address)", _word(1), *words)
    _anchor_all(made)
    return made


def test_a_chain_that_agrees_is_said_to_be_checked(town: Town, serve: Callable[[Node], str]) -> None:
    verdict = audit(town.folder, rpcs=[serve(town.node)])
    assert verdict.findings == []
    assert verdict.pending == []
    assert "chain not checked" not in verdict.last_line()


# --- one row for each way in which chain and ledger can differ ----------------------------


def _steal(town: Town, amount: int = 7) -> None:
    town.node.move(city.TREASURY, THIEF, amount, 90, city.digest("theft"))


def _gift(town: Town) -> None:
    town.node.times[10] = city.START_S
    town.node.move(PAYER, city.TREASURY, 9, 10, city.digest("gift"))


def _view(
    signature: str, answer: bytes, at: bytes = city.COUNCIL_CONTRACT, *words: bytes
) -> Callable[[Town], None]:
    return lambda town: town.node.view(at, signature, answer, *words)


def _logs_of(town: Town, at: bytes) -> list[dict[str, Any]]:
    return [log for log in town.node.logs if log["address"] == _hex(at)]


def _change(at: bytes, place: int, **changed: object) -> Callable[[Town], None]:
    return lambda town: _logs_of(town, at)[place].update(changed)


def _forget(at: bytes, place: int) -> Callable[[Town], None]:
    return lambda town: town.node.logs.remove(_logs_of(town, at)[place])


def _larger_head(town: Town) -> None:
    topics = [_topic("Anchored(uint64,bytes32,uint64)"), _word(9_999)]
    town.node.log(city.ANCHOR, topics, bytes(64), 800, city.digest("later"))
    town.node.view(city.ANCHOR, "head()", _word(9_999) + bytes(64))


def _left_out(town: Town) -> None:
    town.anchors.pop(0)
    town.write()


def _enact(town: Town) -> None:
    topics = [_topic("Enacted(bytes32,bytes32,bytes32,uint64)"), bytes(32), city.digest("no act"), bytes(32)]
    town.node.log(city.COUNCIL_CONTRACT, topics, _word(1), 50, city.digest("enact"))


def _unseated_thief(town: Town) -> None:
    # In the ledger the term of this seat is over.
    town.node.now = city.FOREVER_S + 1


def _unpublished(town: Town) -> None:
    del town.documents[next(path for path, content in town.documents.items() if b"evm-log" in content)]
    (town.folder / "documents").rename(town.folder.parent / "old")
    town.write()


def _again(**changed: str) -> Callable[[Town], None]:
    def again(town: Town) -> None:
        _receive(town, 1_000, "again", 130, **changed)
        town.node.view(city.TOKEN, "balanceOf(address)", _word(10_001_000), address_word(city.TREASURY))
        _anchor_all(town)

    return again


def _same_movement(town: Town) -> None:
    """A second revenue whose evidence names the first receipt again."""
    _again(transaction=_hex(city.digest("transaction 1")), blockHash=_hex(city.digest("block 100")))(town)


def _spaced(town: Town) -> None:
    """Evidence with a space more: the same movement could have any number of such documents."""
    spaced = evidence(130, city.digest("transaction again"), 1_000, city.TREASURY) + b" "
    town.documents |= bundles.documents(spaced)
    town.log.add(replace(city.revenue(town.log, 1_000, mark="again"), evidence=sha256(spaced).digest()))
    town.node.move(PAYER, city.TREASURY, 1_000, 130, city.digest("transaction again"))
    _anchor_all(town)


DIFFERS: list[tuple[str, str, Callable[[Town], None]]] = [
    ("T6", "contract treasury", lambda town: town.node.code.clear()),
    ("T6", "rpc 127.0.0.1", lambda town: setattr(town.node, "chain_id", 5)),
    ("T7", "anchors.json size", _forget(city.ANCHOR, 0)),
    ("T7", "anchors.json size", _change(city.ANCHOR, 0, blockHash=_hex(bytes(32)))),
    ("T7", "anchors.json size", _change(city.ANCHOR, 0, transactionHash=_hex(bytes(32)))),
    ("T7", "anchors.json size", _change(city.ANCHOR, 0, data=_hex(city.digest("fork") + bytes(32)))),
    ("T7", "anchor 0x", _change(city.ANCHOR, 0, data=_hex(city.digest("fork") + bytes(32)))),
    ("T7", "anchor 0x", _larger_head),
    ("T7", "anchor 0x", _left_out),
    ("T7", "anchor 0x", _view("head()", bytes(96), city.ANCHOR)),
    ("T7", "anchor 0x", _view("head()", b"", city.ANCHOR)),
    ("T8", "transaction 0x", _steal),
    ("T8", "transaction 0x", _gift),
    ("T8", "record ", _forget(city.TOKEN, 0)),
    ("T8", "record ", _forget(city.TOKEN, 1)),
    ("T8", "record ", _change(city.TOKEN, 0, data=_hex(_word(49_999_999)))),
    ("T8", "record ", _change(city.TOKEN, 0, blockHash=_hex(bytes(32)))),
    (
        "T8",
        "record ",
        lambda town: _logs_of(town, city.TOKEN)[1]["topics"].__setitem__(2, _hex(address_word(THIEF))),
    ),
    (
        "T8",
        "record ",
        lambda town: _logs_of(town, city.TOKEN)[0]["topics"].__setitem__(2, _hex(address_word(THIEF))),
    ),
    (
        "T8",
        "record ",
        lambda town: _logs_of(town, city.TREASURY)[0]["topics"].__setitem__(1, _hex(bytes(32))),
    ),
    ("T8", "record ", _forget(city.TREASURY, 0)),
    ("T8", "record ", _unpublished),
    ("T8", "record ", _again(token=_hex(THIEF))),
    ("T8", "record ", _again(chainId="1")),
    ("T8", "record ", _again(kind="evm-call")),
    ("T8", "record ", _again(amount="1e3")),
    ("T8", "record ", _same_movement),
    ("T8", "record ", _spaced),
    ("T9", "0x", _view("balanceOf(address)", _word(9_999_999), city.TOKEN, address_word(city.TREASURY))),
    ("T9", "0x", _view("balanceOf(address)", b"", city.TOKEN, address_word(city.TREASURY))),
    ("T10", "council 0x", _view("founding()", bytes(32))),
    ("T10", "council 0x", _view("ledger()", b"")),
    ("T10", "council 0x", _enact),
    ("T10", "council 0x", _unseated_thief),
]


@pytest.mark.parametrize(
    ("rule", "where", "differs"), DIFFERS, ids=[f"{r}-{n}" for n, (r, _, _) in enumerate(DIFFERS)]
)
def test_where_chain_and_ledger_differ_it_is_named(
    town: Town, serve: Callable[[Node], str], rule: str, where: str, differs: Callable[[Town], None]
) -> None:
    differs(town)
    verdict = audit(town.folder, rpcs=[serve(town.node)])
    assert [f for f in verdict.findings if f.rule == rule and f.where.startswith(where)]


def test_a_debit_that_no_order_authorises_is_critical_and_has_its_amount(
    town: Town, serve: Callable[[Node], str]
) -> None:
    town.node.move(city.TREASURY, THIEF, 7, 8_999, city.digest("theft"))
    finding = audit(town.folder, rpcs=[serve(town.node)]).findings[0]
    assert (finding.rule, finding.severity, finding.amount, finding.asset) == ("T8", "critical", 7, "USDT")
    assert "no order or refund authorises it" in finding.why


def _refund(town: Town, to: bytes, went_to: bytes = PAYER, *, booked: bool = True) -> None:
    """Part of the first receipt is to go back, goes, and is booked."""
    log = town.log
    receipt = next(iter(log.state.receipts))
    refund = Refund(0, city.digest("refund"), receipt, 4_000_000, to, city.digest("asked for"))
    authority = log.act(refund)
    transaction = city.digest("transaction refund")
    town.node.tell("Refunded", authority, went_to, 4_000_000, 140, transaction)
    town.node.move(city.TREASURY, went_to, 4_000_000, 140, transaction)
    town.node.view(city.TOKEN, "balanceOf(address)", _word(6_000_000), address_word(city.TREASURY))
    if booked:
        document = evidence(140, transaction, 4_000_000, went_to)
        town.documents |= bundles.documents(document)
        digest = sha256(document).digest()
        back = (city.digest("refund booked"), "fees-usdt", "treasury-usdt", "USDT", 4_000_000, city.CODE)
        log.add(Transfer(0, *back, authority, digest))
    _anchor_all(town)


def test_a_refund_goes_where_its_record_says(town: Town, serve: Callable[[Node], str]) -> None:
    _refund(town, address_word(PAYER))
    verdict = audit(town.folder, rpcs=[serve(town.node)])
    assert verdict.findings == []
    line = next(line for line in verdict.totals if line.asset == "USDT")
    assert (line.revenue, line.refunds, line.paid, line.closing) == (
        50_000_000,
        4_000_000,
        40_000_000,
        6_000_000,
    )


@pytest.mark.parametrize(
    ("to", "why"), [(address_word(PAYER), "recipient is "), (city.digest("an IBAN"), "which is no address")]
)
def test_a_refund_that_went_elsewhere_is_named(
    town: Town, serve: Callable[[Node], str], to: bytes, why: str
) -> None:
    _refund(town, to, THIEF)
    finding = audit(town.folder, rpcs=[serve(town.node)]).findings[0]
    assert (finding.rule, finding.severity, finding.amount) == ("T8", "critical", 4_000_000)
    assert why in finding.why


def _credited_refund(town: Town, pulled: int | None, **names: str) -> None:
    """A refund whose receiver could not take the token, was credited, and pulled so much later; what its evidence names."""
    log, node, amount = town.log, town.node, 4_000_000
    receipt = next(iter(log.state.receipts))
    refund = Refund(0, city.digest("refund"), receipt, amount, address_word(PAYER), city.digest("asked for"))
    authority = log.act(refund)
    first, later = city.digest("transaction refund"), city.digest("transaction pull")
    topics = [_topic("Credited(address,address,uint256)"), address_word(PAYER), address_word(city.TOKEN)]
    node.tell("Refunded", authority, PAYER, amount, 140, first)
    node.log(city.TREASURY, topics, _word(amount), 140, first, 3)
    if pulled is not None:
        topics[0] = _topic("Pulled(address,address,uint256)")
        node.log(city.TREASURY, topics, _word(pulled), 150, later, 2)
        node.move(city.TREASURY, PAYER, pulled, 150, later)
    held = 10_000_000 - (pulled or 0)
    node.view(city.TOKEN, "balanceOf(address)", _word(held), address_word(city.TREASURY))
    document = evidence(140, first, amount, PAYER, **({"logIndex": "2"} | names))
    town.documents |= bundles.documents(document)
    back = (city.digest("refund booked"), "fees-usdt", "treasury-usdt", "USDT", amount, city.CODE)
    log.add(Transfer(0, *back, authority, sha256(document).digest()))
    _anchor_all(town)


_OF_THE_PULL = {
    "logIndex": "3",
    "transaction": _hex(city.digest("transaction pull")),
    "blockHash": _hex(city.digest("block 150")),
}


@pytest.mark.parametrize(
    ("pulled", "names", "why"),
    [
        (4_000_000, {}, ""),
        (None, {}, "which has not pulled them by block 9000"),
        # Another sum than was credited, which the contract does not send.
        (3_999_999, {}, "which has not pulled them by block 9000"),
        (3_999_999, {}, "no order or refund authorises it"),
        (4_000_000, {"logIndex": "3"}, "no movement of USDT is log 3"),
        # The Transfer of the pull is what the pull emptied, and no payment of its own.
        (4_000_000, _OF_THE_PULL, "no movement of USDT is log 3"),
    ],
)
def test_a_token_that_was_credited_has_gone_once_it_is_pulled(
    town: Town, serve: Callable[[Node], str], pulled: int | None, names: dict[str, str], why: str
) -> None:
    _credited_refund(town, pulled, **names)
    found = [finding.why for finding in audit(town.folder, rpcs=[serve(town.node)]).findings]
    assert [one for one in found if why in one] if why else found == []


def test_what_came_in_is_no_refund_that_went_to_the_treasury_itself(
    town: Town, serve: Callable[[Node], str]
) -> None:
    log, amount = town.log, 4_000_000
    receipt = next(iter(log.state.receipts))
    to = address_word(city.TREASURY)
    authority = log.act(Refund(0, city.digest("refund"), receipt, amount, to, city.digest("asked for")))
    transaction = city.digest("transaction of another payer")
    town.node.move(PAYER, city.TREASURY, amount, 140, transaction)
    document = evidence(140, transaction, amount, city.TREASURY)
    town.documents |= bundles.documents(document)
    back = (city.digest("refund booked"), "fees-usdt", "treasury-usdt", "USDT", amount, city.CODE)
    log.add(Transfer(0, *back, authority, sha256(document).digest()))
    _anchor_all(town)
    found = [one.why for one in audit(town.folder, rpcs=[serve(town.node)]).findings if one.rule == "T8"]
    assert found == [
        f"its movement came to 0x{city.TREASURY.hex()}, the ledger means the other way",
    ]


def test_a_refund_that_has_gone_and_is_not_yet_booked_is_pending(
    town: Town, serve: Callable[[Node], str]
) -> None:
    _refund(town, address_word(PAYER), booked=False)
    verdict = audit(town.folder, rpcs=[serve(town.node)])
    assert (verdict.findings, len(verdict.pending)) == ([], 1)


def test_a_refund_paid_twice_is_a_debit_that_nothing_authorises(
    town: Town, serve: Callable[[Node], str]
) -> None:
    _refund(town, address_word(PAYER))
    town.node.move(city.TREASURY, PAYER, 4_000_000, 150, city.digest("again"))
    finding = audit(town.folder, rpcs=[serve(town.node)]).findings[0]
    assert (finding.rule, finding.severity) == ("T8", "critical")
    assert "no order or refund authorises it" in finding.why


def test_a_chain_is_compared_from_the_beginning_though_the_replay_starts_at_a_close(
    town: Town, serve: Callable[[Node], str], tmp_path: Path
) -> None:
    town.log.wait(150 * rules.DAY)
    state = tmp_path / "2026.json"
    state.write_bytes(rules.dump(town.log.state))
    town.log.act(Close(0, 2026, rules.state_hash(town.log.state)))
    _anchor_all(town)
    wanted = Wanted(state=state)
    assert audit(town.folder, rpcs=[serve(town.node)], wanted=wanted).findings == []
    _steal(town)
    assert "T8" in {f.rule for f in audit(town.folder, rpcs=[serve(town.node)], wanted=wanted).findings}


def test_money_that_came_after_the_newest_anchor_is_pending(town: Town, serve: Callable[[Node], str]) -> None:
    town.node.move(PAYER, city.TREASURY, 9, 8_999, city.digest("late"))
    held = town.node.views
    (place,) = [place for place in held if place[0] == city.TOKEN]
    held[place] = _word(10_000_009)
    verdict = audit(town.folder, rpcs=[serve(town.node)])
    assert verdict.findings == []
    assert len(verdict.pending) == 1


def test_what_is_on_its_way_hides_nothing_that_is_missing(town: Town, serve: Callable[[Node], str]) -> None:
    """Who holds the treasury's token could else take from it as long as somebody pays in each block."""
    town.node.move(PAYER, city.TREASURY, 9, 8_999, city.digest("late"))
    verdict = audit(town.folder, rpcs=[serve(town.node)])
    assert len(verdict.pending) == 1
    (finding,) = verdict.findings
    assert (finding.rule, finding.amount) == ("T9", 9)


def test_movements_of_nothing_and_events_of_other_tokens_are_nobodys_business(
    town: Town, serve: Callable[[Node], str]
) -> None:
    town.node.move(city.TREASURY, THIEF, 0, 90, city.digest("noise"))
    town.node.move(city.TREASURY, THIEF, 5, 90, city.digest("noise 2"), token=THIEF)
    assert audit(town.folder, rpcs=[serve(town.node)]).findings == []


def test_an_old_bundle_is_told_from_a_forked_one(town: Town, serve: Callable[[Node], str]) -> None:
    _larger_head(town)
    address = serve(town.node)
    assert any("older than the chain" in f.why for f in audit(town.folder, rpcs=[address]).findings)
    _change(city.ANCHOR, 0, data=_hex(city.digest("fork") + bytes(32)))(town)
    assert any("it is forked" in f.why for f in audit(town.folder, rpcs=[address]).findings)


def test_records_that_no_anchor_covers_may_not_wait_long_by_the_chains_clock(
    town: Town, serve: Callable[[Node], str]
) -> None:
    town.anchors.pop()
    town.write()
    assert audit(town.folder).findings == []
    town.node.now = town.log.now + 3 * rules.DAY
    assert "T4" in {f.rule for f in audit(town.folder, rpcs=[serve(town.node)]).findings}


def test_a_node_without_finality_is_said(town: Town, serve: Callable[[Node], str]) -> None:
    town.node.final = None
    verdict = audit(town.folder, rpcs=[serve(town.node)])
    assert verdict.is_valid
    assert any("no finalized block" in sentence for sentence in verdict.said)


@pytest.mark.parametrize(
    "answer", [b"", b"null", b"[1", b'{"result": 1.5}', b"[" * 99_999, "0xzz", 7, {"a": []}, ["x"]]
)
@pytest.mark.parametrize(
    "method", ["eth_chainId", "eth_getBlockByNumber", "eth_getCode", "eth_getLogs", "eth_call"]
)
def test_a_node_that_answers_nonsense_is_no_verdict(
    town: Town, serve: Callable[[Node], str], method: str, answer: object
) -> None:
    town.node.answer = lambda asked: (answer or b" ") if asked == method else None
    with pytest.raises(Unavailable):
        audit(town.folder, rpcs=[serve(town.node)])


def test_a_node_that_invents_a_block_and_refuses_is_not_asked_for_ever(
    town: Town, serve: Callable[[Node], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.audit.rpc.MOST_HALVED", 200)
    town.node.latest = town.node.final = 2**62
    town.node.most_blocks = 10
    with pytest.raises(Unavailable, match="halved 200 times"):
        audit(town.folder, rpcs=[serve(town.node)])


def test_a_node_that_is_not_there_is_exit_2(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(town.folder), "--rpc", "http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.startswith("could not check: rpc 127.0.0.1: did not answer")


# --- an anchor that goes on from an earlier head (LEAKS 02) ---------------------------------


NEXT = city.Key("next anchor").address


def _poison(town: Town) -> None:
    """With the stolen keys of an operator and a watcher: a head that is no head of this ledger."""
    topics = [_topic("Anchored(uint64,bytes32,uint64)"), _word(9_999)]
    town.node.log(
        city.ANCHOR, topics, city.digest("forged") + _word(town.log.now), 800, city.digest("poison")
    )
    town.node.view(city.ANCHOR, "head()", _word(9_999) + _word(town.log.now) + city.digest("forged"))


def _go_on(town: Town, wait: int, size: int | None = None) -> int:
    """Register the next anchor by act, wait, and anchor there what the ledger has by then."""
    size = int(town.anchors[-1]["size"]) if size is None else size
    town.log.act(Contract(0, f"anchor@{size}", city.CHAIN_ID, NEXT, keccak256(b"next"), city.ACT))
    town.node.code[NEXT] = b"next"
    town.log.wait(wait)
    town.log.add(city.revenue(town.log, 1, "kzt", "afterwards"))
    entry = bundles.anchor(town.log.records, len(town.log.records), contract=_hex(NEXT), block="900")
    entry["blockHash"] = _hex(city.digest("block 900"))
    town.anchors.append(entry)
    data = bytes.fromhex(entry["root"][2:]) + _word(int(entry["time"]))
    topics = [_topic("Anchored(uint64,bytes32,uint64)"), _word(int(entry["size"]))]
    town.node.log(NEXT, topics, data, 900, bytes.fromhex(entry["transaction"][2:]))
    town.node.view(NEXT, "head()", topics[1] + data[32:] + data[:32])
    town.node.now = town.log.now + 120
    town.write()
    return size


def _named(town: Town, serve: Callable[[Node], str]) -> list[str]:
    """What is found, but for the waiting that a notice of 14 days without an anchor brings."""
    verdict = audit(town.folder, rpcs=[serve(town.node)])
    return [str(one) for one in verdict.findings if one.rule != "T4"]


def test_leak_02_a_poisoned_anchor_is_a_finding_until_another_goes_on_by_act_and_notice(
    town: Town, serve: Callable[[Node], str]
) -> None:
    _poison(town)
    (named,) = _named(town, serve)
    assert "T7" in named
    assert "the chain has size 9999" in named
    size = _go_on(town, rules.NOTICE_S + 60)
    assert _named(town, serve) == []
    # It is excused, and stays in sight for ever.
    verdict = audit(town.folder, rpcs=[serve(town.node)])
    (told,) = [one for one in verdict.exceptions if "is void by act" in one]
    assert f"0x{city.ANCHOR.hex()} on chain 31337 holds size 9999" in told
    assert size < 9_999


def test_leak_02_an_act_that_brings_another_anchor_lets_that_one_leave_out_none_of_its_own_heads(
    town: Town, serve: Callable[[Node], str]
) -> None:
    _poison(town)
    size = _go_on(town, rules.NOTICE_S + 60)
    assert _named(town, serve) == []
    # The same contract, size and act; but the act made it an anchor, and said nothing of heads that it has itself.
    head = town.anchors[-2]
    assert int(head["size"]) == size
    named, since = city.digest("resumption"), town.log.now + rules.NOTICE_S
    words = _word(size) + _word(int(head["time"]))
    topics = [_topic("ResumptionAnnounced(bytes32,uint64,uint64,bytes32,uint64)"), named]
    town.node.log(NEXT, topics, words + city.ACT + _word(since), 901, city.digest("announced"))
    told = _named(town, serve)
    assert [one for one in told if one.startswith("T11 ") and f"announced to go on from size {size}" in one]
    topics = [_topic("Resumed(bytes32,uint64,uint64)"), named]
    town.node.log(NEXT, topics, words, 902, city.digest("resumed"))
    # Nor does a head become void by it, which would excuse what is forged there.
    assert not [
        one for one in audit(town.folder, rpcs=[serve(town.node)]).exceptions if "went on from" in one
    ]


def test_leak_02_an_anchor_does_not_count_before_its_notice_has_passed(
    town: Town, serve: Callable[[Node], str]
) -> None:
    _poison(town)
    _go_on(town, rules.NOTICE_S - 3_600)
    named = _named(town, serve)
    assert [one for one in named if one.startswith("T5 ") and "this anchor counts from" in one]
    assert [one for one in named if one.startswith("T7 ") and "9999" in one]


def test_leak_02_an_anchor_goes_on_only_from_a_head_that_was_anchored(
    town: Town, serve: Callable[[Node], str]
) -> None:
    held = {int(entry["size"]) for entry in town.anchors}
    other = next(size for size in range(1, len(town.log.records)) if size not in held)
    _go_on(town, rules.NOTICE_S + 60, other)
    assert [one for one in _named(town, serve) if f"size {other}, which no other anchor holds" in one]


def test_leak_02_what_stood_below_the_named_head_is_never_excused(
    town: Town, serve: Callable[[Node], str]
) -> None:
    # A head below the one that is named differs: no act makes that void.
    town.anchors[0]["root"] = _hex(city.digest("forged"))
    _go_on(town, rules.NOTICE_S + 60)
    assert [one for one in _named(town, serve) if one.startswith("T2 at anchors.json entry 0")]
