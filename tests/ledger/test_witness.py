"""The witness protocol of C2SP: every answer, what a crash leaves, and the client beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger.proof import (
    add_signatures,
    check_checkpoint,
    consistency_path,
    format_add_checkpoint,
    leaf_hash,
    root_of,
)
from ledger.publish import LogKeys
from ledger.records import Invalid, Unavailable
from ledger.witness import Witness, ask

LEAVES = [leaf_hash(str(n).encode()) for n in range(40)]
FORKED = [*LEAVES[:4], *(leaf_hash(b"another") for _ in range(36))]


def keys(origin: str = "log.example/1") -> LogKeys:
    return LogKeys(origin, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())


@pytest.fixture
def log() -> LogKeys:
    return keys()


@pytest.fixture
def make(log: LogKeys, tmp_path: Path) -> Callable[[], Witness]:
    ed25519, ml_dsa = Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()
    return lambda: Witness(
        "witness.example", [ed25519, ml_dsa], [log.verifiers()], tmp_path, lambda: 1_790_000_000
    )


def note(log: LogKeys, size: int, leaves: list[bytes] = LEAVES) -> bytes:
    return log.sign_checkpoint(size, root_of(leaves[:size]), 1_790_000_000)


def request(log: LogKeys, old: int, size: int, leaves: list[bytes] = LEAVES) -> bytes:
    path = consistency_path(old, leaves[:size]) if 0 < old <= size else []
    return format_add_checkpoint((old, path, note(log, size, leaves)))


def test_a_witness_cosigns_heads_that_extend_each_other_with_both_its_keys(
    log: LogKeys, make: Callable[[], Witness]
) -> None:
    witness = make()
    for old, size in ((0, 5), (5, 5), (5, 12), (12, 40)):
        answer = witness.add_checkpoint(request(log, old, size))
        assert answer.status == 200
        trusted = [*log.verifiers(), *witness.verifiers()]
        cosigned = add_signatures(note(log, size), answer.body, trusted)
        _, times = check_checkpoint(cosigned, trusted, witness.verifiers(), witnesses=1)
        assert {times[verifier.key] for verifier in witness.verifiers()} == {1_790_000_000}


@pytest.mark.parametrize(
    ("status", "old", "size", "leaves"),
    [
        (409, 0, 12, LEAVES),
        (409, 4, 12, LEAVES),
        (400, 12, 7, LEAVES),
        (422, 5, 12, FORKED),
        (422, 5, 5, FORKED[::-1]),
    ],
)
def test_a_wrong_request_gets_its_status_and_changes_nothing(
    log: LogKeys, make: Callable[[], Witness], status: int, old: int, size: int, leaves: list[bytes]
) -> None:
    witness = make()
    assert witness.add_checkpoint(request(log, 0, 5)).status == 200
    answer = witness.add_checkpoint(request(log, old, size, leaves))
    assert answer.status == status
    if status == 409:
        assert (answer.body, answer.media_type) == (b"5\n", "text/x.tlog.size")
    assert witness.add_checkpoint(request(log, 5, 12)).status == 200


def test_a_forked_head_of_the_known_size_is_refused(log: LogKeys, make: Callable[[], Witness]) -> None:
    witness = make()
    assert witness.add_checkpoint(request(log, 0, 12)).status == 200
    forked = format_add_checkpoint((12, [], note(log, 12, FORKED)))
    assert witness.add_checkpoint(forked).status == 422


def test_an_unknown_log_a_false_signature_and_noise_are_refused(
    log: LogKeys, make: Callable[[], Witness]
) -> None:
    witness = make()
    assert witness.add_checkpoint(request(keys("other.example"), 0, 5)).status == 404
    assert witness.add_checkpoint(request(keys(), 0, 5)).status == 403
    for noise in (b"", b"old 0\n", b"old 00\n\n" + note(log, 5), request(log, 0, 5)[:-3], b"\xff" * 100):
        assert witness.add_checkpoint(noise).status == 400


def test_a_witness_that_starts_again_still_knows_what_it_signed(
    log: LogKeys, make: Callable[[], Witness]
) -> None:
    assert make().add_checkpoint(request(log, 0, 12)).status == 200
    again = make()
    assert again.add_checkpoint(format_add_checkpoint((0, [], note(log, 12, FORKED)))).status == 409
    assert again.add_checkpoint(request(log, 12, 13)).status == 200


def test_the_client_learns_the_witness_size_and_asks_from_there(
    log: LogKeys, make: Callable[[], Witness]
) -> None:
    witness = make()
    assert witness.add_checkpoint(request(log, 0, 7)).status == 200
    server = witness.serve()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        asked: list[int] = []

        def consistency(old: int) -> list[bytes]:
            asked.append(old)
            return consistency_path(old, LEAVES[:20])

        lines = ask(url, note(log, 20), 3, consistency)
        assert asked == [3, 7]
        trusted = [*log.verifiers(), *witness.verifiers()]
        check_checkpoint(add_signatures(note(log, 20), lines, trusted), trusted, witnesses=1)
        with pytest.raises(Invalid, match="422"):
            ask(url, note(log, 30, FORKED), 20, lambda old: consistency_path(old, FORKED[:30]))
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(Unavailable):
        ask(url, note(log, 30), 20, lambda old: consistency_path(old, LEAVES[:30]))


def test_what_a_witness_keeps_is_on_disk_before_it_answers(
    log: LogKeys, make: Callable[[], Witness], tmp_path: Path
) -> None:
    make().add_checkpoint(request(log, 0, 12))
    (kept,) = tmp_path.glob("*.json")
    assert json.loads(kept.read_text()) == {"size": "12", "root": root_of(LEAVES[:12]).hex()}
