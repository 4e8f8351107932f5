"""The policy of cosignatures, with real witnesses over HTTP: some are down, lie, are slow, or saw another history."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import store
from ledger.audit import audit
from ledger.cosigning import Cosigner, Policy, read_witnesses
from ledger.database import engine, reading
from ledger.proof import (
    COSIGNATURE,
    check_checkpoint,
    format_add_checkpoint,
    format_note,
    format_vkey,
    leaf_hash,
    parse_note,
    root_of,
    sign,
)
from ledger.publish import Publisher
from ledger.records import Invalid, Unavailable
from ledger.standing import reach
from ledger.witness import Witness
from tests import city, servers
from tests.fakes.chain import Node
from tests.ledger.running import KEYS, Ledger
from tests.ledger.test_anchor import anchor, anchored, more, node

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


@dataclass
class Town:
    """A ledger with a chain, and whoever witnesses it."""

    ledger: Ledger
    stack: ExitStack
    chain: Node
    cosigners: list[Cosigner]

    def witness(self, name: str) -> Witness:
        """A real witness that serves on loopback; it counts for the policy."""
        made = self.keys(name)
        server = made.serve()
        self.stack.callback(server.server_close)
        self.stack.callback(server.shutdown)
        self.cosigners.append(Cosigner(f"http://127.0.0.1:{server.server_port}", tuple(made.verifiers())))
        return made

    def keys(self, name: str) -> Witness:
        """A real witness that nobody can reach yet."""
        return Witness(
            name,
            [Ed25519PrivateKey.generate()],
            [KEYS.verifiers()],
            self.ledger.folder / name,
            self.ledger.clock,
        )

    def liar(self, name: str, answer: Answer) -> None:
        """Somebody who answers as he likes under a witness's name."""

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.stack.callback(server.server_close)
        self.stack.callback(server.shutdown)
        url = f"http://127.0.0.1:{server.server_port}"
        self.cosigners.append(Cosigner(url, tuple(self.keys(name).verifiers())))

    def down(self, name: str) -> None:
        """A witness at whose address nobody listens."""
        url = f"http://127.0.0.1:{servers.closed_port()}"
        self.cosigners.append(Cosigner(url, tuple(self.keys(name).verifiers())))

    def publisher(self) -> Publisher:
        """A publisher whose trust names the witnesses."""
        made = self.ledger.publisher()
        known = [verifier for one in self.cosigners for verifier in one.verifiers]
        made.trust = replace(made.trust, verifiers=[*made.trust.verifiers, *known])
        return made

    def stated(self, needed: int) -> Publisher:
        """A publisher whose trust says how many of the witnesses must have signed."""
        made = self.publisher()
        made.trust = replace(made.trust, witnesses=self.policy(needed).names, needed=needed)
        return made

    def policy(self, needed: int, patience_s: float = 60.0) -> Policy:
        return Policy(self.cosigners, needed, patience_s)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    ledger = Ledger(
        tmp_path, engine(f"sqlite:///{tmp_path}/ledger.db"), engine(f"sqlite:///{tmp_path}/heads.db")
    )
    with ExitStack() as stack:
        yield Town(ledger, stack, node(ledger, lag=0), [])
    ledger.engine.dispose()
    ledger.heads.dispose()


def reply(status: int, body: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def signed_by_a_stranger(handler: BaseHTTPRequestHandler, request: bytes) -> None:
    """A right signature over the right head, by a key that the policy does not name."""
    note = request.partition(b"\n\n")[2]
    text = parse_note(note)[0]
    line = sign(text, "liar", COSIGNATURE, Ed25519PrivateKey.generate(), city.START_S)
    reply(200, format_note((text, (line,)))[len(text.encode()) + 1 :])(handler, b"")


def drips(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    """One byte now and then: no time-out of a single read ends this."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.2)


def hangs_up(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.connection.close()


LIES: dict[str, Answer] = {
    "nothing": reply(200, b""),
    "noise": reply(200, b"\xff\x00 no signature at all\n"),
    "a line that is no signature": reply(200, "\u2014 liar AAAA\n".encode()),
    "a stranger's signature": signed_by_a_stranger,
    "a size beyond the head": reply(409, b"999999\n"),
    "a size that is none": reply(409, b"many\n"),
    "always another size": reply(409, b"1\n"),
    "an error": reply(500, b"oops"),
    "megabytes": reply(200, b"x" * 4_000_000),
    "hangs up": hangs_up,
}


def is_whole(publisher: Publisher) -> bool:
    """Whether the auditor finds nothing but that the city's first days were not anchored in time."""
    return {finding.rule for finding in audit(str(publisher.folder)).findings} <= {"T4"}


def test_a_head_with_its_quorum_is_anchored_and_carries_every_cosignature(town: Town) -> None:
    writer, log = town.ledger.opened()
    witnesses = [town.witness(f"witness-{n}") for n in range(3)]
    publisher, watcher, policy = town.publisher(), town.ledger.watcher(), town.policy(2)
    for round in range(2):
        more(town.ledger, writer, log, 10 * round, 3)
        writer.publish(publisher, watcher, (anchor(town.chain),), policy)
        assert town.chain.sizes()[-1] == writer.tree.size
        keys = [verifier for one in witnesses for verifier in one.verifiers()]
        note = (publisher.folder / "checkpoint").read_bytes()
        check_checkpoint(note, publisher.trust.verifiers, keys, witnesses=4)
    # Asked again about the same head nobody is asked, and nothing changes.
    before = (publisher.folder / "checkpoint").read_bytes()
    writer.publish(publisher, watcher, (anchor(town.chain),), policy)
    assert (publisher.folder / "checkpoint").read_bytes() == before
    assert is_whole(publisher)


def test_an_auditor_counts_the_cosignatures_that_the_writers_policy_asked_for(town: Town) -> None:
    writer, log = town.ledger.opened()
    town.witness("good")
    town.down("away")
    publisher, watcher = town.stated(1), town.ledger.watcher()
    more(town.ledger, writer, log, 0, 3)
    writer.publish(publisher, watcher, (anchor(town.chain),), town.policy(1))
    assert is_whole(publisher)
    publisher = town.stated(2)
    more(town.ledger, writer, log, 10, 3)
    with pytest.raises(Unavailable):
        writer.publish(publisher, watcher, (anchor(town.chain),), town.policy(2))
    (finding,) = [one for one in audit(str(publisher.folder)).findings if one.rule != "T4"]
    assert (finding.rule, finding.where, finding.severity) == ("D20", "checkpoint", "high")
    assert finding.why == "1 of 2 witnesses cosigned, 2 are needed by trust.json; missing: away"


def test_without_the_quorum_the_head_is_public_and_not_anchored_and_it_is_told(town: Town) -> None:
    writer, log = town.ledger.opened()
    town.witness("good")
    town.down("away")
    publisher, watcher, policy = town.publisher(), town.ledger.watcher(), town.policy(2)
    with pytest.raises(Unavailable, match=r"1 of 2 witnesses cosigned, 2 are needed.*away: ") as told:
        writer.publish(publisher, watcher, (anchor(town.chain),), policy)
    assert told.value.service == "witnesses"
    assert publisher.published() == writer.tree.size
    assert town.chain.sizes() == []
    assert is_whole(publisher)
    # An earlier head that a chain took is still followed until it is final.
    calm = town.policy(1)
    writer.publish(publisher, watcher, (anchor(town.chain),), calm)
    town.chain.lag = 0
    more(town.ledger, writer, log, 0, 1)
    with pytest.raises(Unavailable):
        writer.publish(publisher, watcher, (anchor(town.chain),), policy)
    assert anchored(town.ledger) == [(city.CHAIN_ID, writer.tree.size - 1)]


@pytest.mark.parametrize("lie", LIES)
def test_a_witness_that_lies_costs_its_own_cosignature_and_nobody_elses(town: Town, lie: str) -> None:
    writer, _ = town.ledger.opened()
    town.witness("good-1")
    town.liar("liar", LIES[lie])
    town.witness("good-2")
    publisher, watcher = town.publisher(), town.ledger.watcher()
    writer.publish(publisher, watcher, (anchor(town.chain),), town.policy(2))
    assert town.chain.sizes() == [writer.tree.size]
    signers = {
        signature.key[0] for signature in parse_note((publisher.folder / "checkpoint").read_bytes())[1]
    }
    assert signers == {KEYS.origin, "alatau.qazyna/watcher", "good-1", "good-2"}
    assert is_whole(publisher)
    short = town.policy(3).collect(publisher)
    assert short is not None
    assert "2 of 3 witnesses cosigned, 3 are needed" in short.why
    assert "liar: " in short.why


@pytest.mark.parametrize(("needed", "patience_s"), [(1, 120.0), (2, 1.0)])
def test_a_slow_witness_holds_nobody_up_for_longer_than_the_patience(
    town: Town, needed: int, patience_s: float
) -> None:
    """Where enough have answered it is not waited for; where it is needed, for so long and no longer."""
    writer, _ = town.ledger.opened()
    town.witness("good")
    town.liar("slow", drips)
    publisher = town.publisher()
    writer.publish(publisher, town.ledger.watcher())
    start = time.monotonic()
    short = town.policy(needed, patience_s).collect(publisher)
    assert time.monotonic() - start < 60  # hours are what the slow one would take
    assert (short is None) == (needed == 1)
    assert short is None or "slow: no answer in 1 s" in short.why


def test_a_witness_that_was_shown_another_history_refuses_and_is_named(town: Town) -> None:
    writer, log = town.ledger.opened()
    forked = town.witness("forked")
    town.witness("good")
    other = [leaf_hash(b"another history %d" % n) for n in range(7)]
    shown = KEYS.sign_checkpoint(7, root_of(other), log.now)
    assert forked.add_checkpoint(format_add_checkpoint((0, [], shown))).status == 200
    publisher, watcher = town.publisher(), town.ledger.watcher()
    with pytest.raises(Unavailable, match="forked: answered 422"):
        writer.publish(publisher, watcher, (anchor(town.chain),), town.policy(2))
    assert town.chain.sizes() == []
    writer.publish(publisher, watcher, (anchor(town.chain),), town.policy(1))
    assert town.chain.sizes() == [writer.tree.size]


def test_a_witness_that_comes_back_signs_the_newest_head_from_where_it_was(town: Town) -> None:
    writer, log = town.ledger.opened()
    away = town.witness("away")
    publisher, watcher = town.publisher(), town.ledger.watcher()
    writer.publish(publisher, watcher, (anchor(town.chain),), town.policy(1))
    there = town.cosigners.pop()
    for round in range(3):
        more(town.ledger, writer, log, 10 * round, 2)
        writer.publish(publisher, watcher, (anchor(town.chain),), town.policy(0))
    town.cosigners.append(there)
    # A new process knows nothing of how far it is, and learns it from its 409.
    assert town.policy(1).collect(publisher) is None
    assert away.verifiers()[0].key in {
        one.key for one in parse_note((publisher.folder / "checkpoint").read_bytes())[1]
    }


def test_witnessed_means_that_the_quorum_has_signed(town: Town) -> None:
    writer, _ = town.ledger.opened()
    town.witness("good")
    publisher, watcher = town.publisher(), town.ledger.watcher()
    writer.publish(publisher, watcher, (), town.policy(1))
    note = (publisher.folder / "checkpoint").read_bytes()
    with reading(town.ledger.engine) as connection:
        found = [reach(connection, note, publisher.trust.verifiers, needed) for needed in (1, 2, 3)]
    assert [one.witnessed for one in found] == [writer.tree.size, writer.tree.size, 0]


def test_the_operators_policy_is_read_and_nonsense_is_refused(town: Town) -> None:
    vkeys = [format_vkey(town.keys(f"w{n}").verifiers()[0]) for n in range(2)]
    text = (
        f"# ours\nquorum 1\n\nwitness http://127.0.0.1:1 {vkeys[0]}\nwitness https://w.example/x {vkeys[1]}\n"
    )
    cosigners, needed = read_witnesses(text)
    assert [one.url for one in cosigners] == ["http://127.0.0.1:1", "https://w.example/x"]
    assert ([one.name for one in cosigners], needed) == (["w0", "w1"], 1)
    log = format_vkey(KEYS.verifiers()[0])
    for wrong in (
        "", f"quorum 2\nwitness http://x {vkeys[0]}", f"witness http://x {vkeys[0]}", "quorum 1", "quorum -1", "quorum one",
        f"quorum 1\nquorum 1\nwitness http://x {vkeys[0]}", f"quorum 1\nwitness ftp://x {vkeys[0]}",
        f"quorum 1\nwitness http://x {vkeys[0]}\nwitness http://y {vkeys[0]}", f"quorum 1\nwitness http://x {log}",
        f"quorum 1\nwitness http://x {vkeys[0]} {vkeys[1]}", "quorum 1\nwitness http://x nonsense", "trust everybody",
    ):  # fmt: skip
        with pytest.raises(Invalid):
            read_witnesses(wrong)
    with pytest.raises(Invalid):
        Policy(cosigners, 3)


def test_a_witness_that_signed_before_a_crash_signs_the_same_head_again(town: Town) -> None:
    writer, _ = town.ledger.opened()
    town.witness("good")
    publisher, watcher = town.publisher(), town.ledger.watcher()
    writer.publish(publisher, watcher, ())
    before = (publisher.folder / "checkpoint").read_bytes()
    assert town.policy(1).collect(publisher) is None
    # The process died before the line was written.
    (publisher.folder / "checkpoint").write_bytes(before)
    assert town.policy(1).collect(publisher) is None
    with reading(town.ledger.heads) as connection:
        assert store.last_head(connection).size == writer.tree.size
