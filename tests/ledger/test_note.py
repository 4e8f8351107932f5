"""Signed notes, checkpoints and receipts: public vectors, one refusal a rule, field failures 63 to 65."""

from __future__ import annotations

import inspect
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import proof
from ledger.proof import COSIGNATURE, ED25519, ML_DSA_44, Checkpoint, Receipt, Signature, Verifier
from ledger.records import Invalid
from tests.ledger import test_proof

PUBLIC = Path(__file__).parents[1] / "vectors" / "public"
SUMDB = json.loads((PUBLIC / "embedded" / "sumdb-note.json").read_text())
PETER, ENOCH = SUMDB["keys"]["peter_vkey"], SUMDB["keys"]["enoch_vkey"]
VKEYS = {"peter": PETER, "enoch": ENOCH}

ORIGIN = "log.alatau.example/qazyna"
LOG_KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(b"\x03" * 32)
QUANTUM_KEY = MLDSA44PrivateKey.from_seed_bytes(b"\x04" * 32)
TIME_S = 1_700_000_000


def verifier(name: str, key_type: int, key: Ed25519PrivateKey | MLDSA44PrivateKey) -> Verifier:
    return Verifier(name, key_type, key.public_key().public_bytes_raw())


LOG = verifier(ORIGIN, ED25519, LOG_KEY)
LOG_QUANTUM = verifier(ORIGIN, ML_DSA_44, QUANTUM_KEY)
WITNESS = verifier("witness.example/one", COSIGNATURE, WITNESS_KEY)
WITNESS_QUANTUM = verifier("witness.example/one", ML_DSA_44, QUANTUM_KEY)
TRUSTED = [LOG, LOG_QUANTUM, WITNESS]

ENTRIES = [b"entry %d" % number for number in range(7)]
LEAVES = [proof.leaf_hash(entry) for entry in ENTRIES]
CHECKPOINT = Checkpoint(ORIGIN, 7, proof.root_of(LEAVES))
TEXT = proof.format_checkpoint(CHECKPOINT)
BY_LOG = proof.sign(TEXT, ORIGIN, ED25519, LOG_KEY)
BY_QUANTUM = proof.sign(TEXT, ORIGIN, ML_DSA_44, QUANTUM_KEY, TIME_S)
BY_WITNESS = proof.sign(TEXT, "witness.example/one", COSIGNATURE, WITNESS_KEY, TIME_S + 1)
BY_OTHER = proof.sign(TEXT, ORIGIN, ED25519, OTHER_KEY)


def note(*signatures: Signature, text: str = TEXT) -> bytes:
    return proof.format_note((text, signatures))


def receipt(signed: bytes, index: int = 4, extra: bytes = b"") -> bytes:
    return proof.format_receipt(Receipt(index, tuple(proof.inclusion_path(index, LEAVES)), signed, extra))


def rule_of(call: Callable[..., object], *arguments: object, **named: object) -> str:
    with pytest.raises(Invalid) as refusal:
        call(*arguments, **named)
    return refusal.value.rule


# --- Vectors of others


@pytest.mark.parametrize("row", SUMDB["expect"], ids=lambda row: row.get("why") or row["result"])
def test_a_note_of_the_go_table_gets_its_published_answer(row: dict[str, Any]) -> None:
    trusted = [proof.parse_vkey(VKEYS[name]) for name in row["verifiers"]]

    def call() -> tuple[str, dict[proof.Key, int]]:
        return proof.open_note(row["note"].encode(), trusted)

    if row["result"] == "ok":
        text, times = call()
        assert text == SUMDB["text"]
        if "verified" in row:
            assert set(times) == {proof.parse_vkey(VKEYS[name]).key for name in row["verified"]}
    else:
        assert rule_of(call) in proof.RULES


def test_a_note_that_is_not_utf_8_is_refused() -> None:
    signed = b"\xff" + SUMDB["signed_by_peter"].encode()
    assert rule_of(lambda: proof.open_note(signed, [proof.parse_vkey(PETER)])) == "X3"


def test_we_sign_what_go_signs() -> None:
    secret = b64decode(SUMDB["keys"]["peter_skey"].split("+", 4)[-1])
    key = Ed25519PrivateKey.from_private_bytes(secret[1:])
    signature = proof.sign(SUMDB["text"], "PeterNeumann", ED25519, key)
    assert proof.format_note((SUMDB["text"], (signature,))).decode() == SUMDB["signed_by_peter"]


def test_every_mangled_verifier_key_is_refused() -> None:
    assert proof.format_vkey(proof.parse_vkey(PETER)) == PETER
    assert proof.format_vkey(proof.parse_vkey(ENOCH)) == ENOCH
    mangled = {PETER[:end] for end in range(len(PETER))} | {PETER[start:] for start in range(1, len(PETER))}
    mangled |= {PETER[:at] + chr(ord(PETER[at]) + 1) + PETER[at + 1 :] for at in range(len(PETER))}
    for vkey in [*mangled, *SUMDB["bad_vkeys"]]:
        assert rule_of(proof.parse_vkey, vkey) in {"X6", "X7"}


def test_the_example_of_the_signed_note_specification_opens() -> None:
    vector = json.loads((PUBLIC / "embedded" / "c2sp-signed-note-example.json").read_text())
    trusted = proof.parse_vkey(vector["vkey"])
    assert proof.open_note(vector["note"].encode(), [trusted])[1] == {trusted.key: 0}


def test_torchwood_s_ml_dsa_checkpoint_opens_and_ours_is_built_alike() -> None:
    folder = PUBLIC / "torchwood-mldsa"
    trusted = proof.parse_vkey((folder / "log.vkey").read_text().strip())
    signed = (folder / "checkpoint").read_bytes()
    checkpoint, times = proof.check_checkpoint(signed, [trusted])
    assert (checkpoint.origin, checkpoint.size) == ("example.com/mldsa-log", 1)
    assert times == {trusted.key: 0}
    assert trusted.key_type == ML_DSA_44
    # Its signature covers origin, size and root; the time stands before the signature and is covered too.
    later = proof.parse_note(signed)[1][0]
    moved = replace(later, value=(1).to_bytes(8, "big") + later.value[8:])
    text = proof.format_checkpoint(checkpoint)
    assert rule_of(lambda: proof.check_checkpoint(note(moved, text=text), [trusted])) == "X9"
    for other in (replace(checkpoint, size=2), replace(checkpoint, root=b"\0" * 32)):
        text = proof.format_checkpoint(other)
        assert rule_of(proof.check_checkpoint, note(later, text=text), [trusted]) == "X9"


# --- What is signed, byte by byte


def test_the_key_id_is_the_hash_of_name_type_and_key() -> None:
    assert proof.parse_vkey(PETER).key == ("PeterNeumann", bytes.fromhex("c74f20a3"))
    assert LOG.key != verifier(ORIGIN, COSIGNATURE, LOG_KEY).key


def test_a_cosignature_covers_its_time_and_the_whole_text() -> None:
    message = b"cosignature/v1\ntime 1700000001\n" + TEXT.encode()
    assert BY_WITNESS.value[:8] == (TIME_S + 1).to_bytes(8, "big")
    WITNESS_KEY.public_key().verify(BY_WITNESS.value[8:], message)


def test_an_ml_dsa_signature_covers_cosigner_time_origin_size_and_root() -> None:
    name = ORIGIN.encode()
    message = b"subtree/v1\n\0" + bytes([len(name)]) + name + TIME_S.to_bytes(8, "big")
    message += bytes([len(name)]) + name + bytes(8) + (7).to_bytes(8, "big") + CHECKPOINT.root
    assert len(BY_QUANTUM.value) == 8 + 2420
    QUANTUM_KEY.public_key().verify(BY_QUANTUM.value[8:], message)


def test_a_checkpoint_tells_who_signed_and_when() -> None:
    signed = note(BY_LOG, BY_QUANTUM, BY_WITNESS)
    checkpoint, times = proof.check_checkpoint(signed, TRUSTED, [LOG, LOG_QUANTUM], witnesses=1)
    assert checkpoint == CHECKPOINT
    assert times == {LOG.key: 0, LOG_QUANTUM.key: TIME_S, WITNESS.key: TIME_S + 1}
    assert proof.parse_vkey(proof.format_vkey(LOG_QUANTUM)) == LOG_QUANTUM


def test_a_receipt_leads_to_its_checkpoint() -> None:
    signed = note(BY_LOG, BY_QUANTUM, BY_WITNESS)
    for index, entry in enumerate(ENTRIES):
        text = receipt(signed, index)
        assert text.startswith(b"c2sp.org/tlog-proof@v1\nindex %d\n" % index)
        assert text.endswith(b"\n\n" + signed)
        assert proof.check_receipt(text, entry, TRUSTED, TRUSTED, witnesses=1) == CHECKPOINT
    extra = receipt(signed, 4, b"any")
    assert extra.split(b"\n")[1] == b"extra " + b64encode(b"any")
    assert proof.parse_receipt(extra).extra == b"any"
    assert proof.check_receipt(extra, ENTRIES[4], TRUSTED) == CHECKPOINT


def test_a_text_may_have_empty_lines_and_the_last_one_separates() -> None:
    text = "one\n\ntwo\n\n"
    signed = note(proof.sign(text, ORIGIN, ED25519, LOG_KEY), text=text)
    assert proof.open_note(signed, [LOG])[0] == text


def test_a_note_may_have_100_signature_lines() -> None:
    strangers = [Signature((f"stranger/{n}", b"\0\0\0\1"), b"x") for n in range(100)]
    assert proof.check_checkpoint(note(*strangers[:99], BY_LOG), [LOG])[0] == CHECKPOINT
    assert rule_of(lambda: proof.check_checkpoint(note(*strangers, BY_LOG), [LOG])) == "X1"


def test_a_repeated_signature_counts_once_and_is_checked_each_time() -> None:
    twice = note(BY_LOG, BY_WITNESS, BY_WITNESS)
    assert len(proof.check_checkpoint(twice, TRUSTED)[1]) == 2
    assert rule_of(lambda: proof.check_checkpoint(twice, TRUSTED, witnesses=2)) == "X12"
    forged = replace(BY_LOG, value=BY_OTHER.value)
    assert rule_of(lambda: proof.check_checkpoint(note(BY_LOG, forged), TRUSTED)) == "X9"


def test_two_keys_of_one_witness_are_one_witness() -> None:
    both = [BY_WITNESS, proof.sign(TEXT, "witness.example/one", ML_DSA_44, QUANTUM_KEY, TIME_S)]
    trusted = [*TRUSTED, WITNESS_QUANTUM]
    assert len(proof.check_checkpoint(note(BY_LOG, *both), trusted, witnesses=1)[1]) == 3
    assert rule_of(lambda: proof.check_checkpoint(note(BY_LOG, *both), trusted, witnesses=2)) == "X12"


def test_the_log_is_not_its_own_witness() -> None:
    signed = note(BY_LOG, BY_QUANTUM)
    assert rule_of(lambda: proof.check_checkpoint(signed, TRUSTED, witnesses=1)) == "X12"


# --- One refusal for each rule

GOOD = note(BY_LOG)
RECEIPT = receipt(GOOD)
LONG = "n" * 256


def checkpoint_text(text: str) -> Callable[[], object]:
    return lambda: proof.parse_checkpoint(text)


def signed_text(text: str) -> Callable[[], object]:
    return lambda: proof.open_note(note(proof.sign(text, ORIGIN, ED25519, LOG_KEY), text=text), [LOG])


def opened(data: bytes) -> Callable[[], object]:
    return lambda: proof.open_note(data, [LOG])


def received(data: bytes) -> Callable[[], object]:
    return lambda: proof.check_receipt(data, ENTRIES[4], [LOG])


def requested(data: bytes) -> Callable[[], object]:
    return lambda: proof.parse_add_checkpoint(data)


def keyed(name: str, key_type: int, key: bytes) -> Callable[[], object]:
    return lambda: proof.parse_vkey(proof.format_vkey(Verifier(name, key_type, key)))


B64_ROOT = b64encode(CHECKPOINT.root).decode()
REFUSALS: list[tuple[str, Callable[[], object]]] = [
    ("X1", opened(b"x" * 1_000_001)),
    ("X1", received(RECEIPT + b"\n" * 1_000_000)),
    ("X1", requested(b"old 0\n\n" + b"x" * 1_000_000)),
    ("X1", opened(note(*[BY_LOG] * 101))),
    ("X2", received(b"")),
    ("X2", received(RECEIPT.replace(b"@v1", b"@v2"))),
    ("X2", received(RECEIPT.replace(b"index 4", b"index 04"))),
    ("X2", received(RECEIPT.replace(b"index 4", b"index +4"))),
    ("X2", received(RECEIPT.replace(b"index 4", b"INDEX 4"))),
    ("X2", received(RECEIPT.replace(b"index 4", "index \u0664".encode()))),
    ("X2", received(RECEIPT.replace(b"index 4", b"extra \nindex 4"))),
    ("X2", received(RECEIPT.replace(b"index 4", b"extra YQ\nindex 4"))),
    ("X2", received(RECEIPT.replace(b"index 4", b"index 4\nYQ=="[:-1]))),
    ("X2", received(RECEIPT.replace(b"\n", b"\r\n"))),
    ("X2", received(RECEIPT.replace(b"\n\n", b"\n"))),
    ("X2", requested(b"old -1\n\n" + GOOD)),
    ("X2", requested(b"old 01\n\n" + GOOD)),
    ("X2", requested(b"new 1\n\n" + GOOD)),
    ("X2", requested(b"old 1\nnot a hash\n\n" + GOOD)),
    ("X3", opened(b"")),
    ("X3", opened(TEXT.encode())),
    ("X3", opened(TEXT.encode() + b"\n")),
    ("X3", opened(GOOD[:-1])),
    ("X3", opened(GOOD + b"\n")),
    ("X3", opened(GOOD + b"more\n")),
    ("X3", opened(GOOD.replace("\u2014".encode(), b"-"))),
    ("X9", opened(GOOD.replace(b"\n\n", b"\n\n\n\n"))),
    ("X3", opened(GOOD.replace(b" ", b"  "))),
    ("X3", opened(GOOD.replace(b"\n", b"\r\n"))),
    ("X3", signed_text("bell \x07\n")),
    ("X3", signed_text("tab\t\n")),
    ("X3", signed_text("no newline")),
    ("X3", opened(note(Signature(("name", b"\0\0\0"), b"")))),
    ("X3", opened(note(Signature(("name", b"\0\0\0\0"), b"")))),
    ("X4", checkpoint_text("")),
    ("X4", checkpoint_text(TEXT + "extension\n")),
    ("X4", checkpoint_text(TEXT[:-1])),
    ("X4", checkpoint_text(f"{ORIGIN}\n07\n{B64_ROOT}\n")),
    ("X4", checkpoint_text(f"{ORIGIN}\n7_0\n{B64_ROOT}\n")),
    ("X4", checkpoint_text(f"{ORIGIN}\n 7\n{B64_ROOT}\n")),
    ("X4", checkpoint_text(f"{ORIGIN}\n\u0667\n{B64_ROOT}\n")),
    ("X4", checkpoint_text(f"{ORIGIN}\n{'9' * 5000}\n{B64_ROOT}\n")),
    ("X4", checkpoint_text(f"{ORIGIN}\n7\n{B64_ROOT[:-1]}\n")),
    ("X4", checkpoint_text(f"{ORIGIN}\n7\n{b64encode(b'r' * 31).decode()}\n")),
    ("X5", checkpoint_text(f"{ORIGIN}\n{2**63}\n{B64_ROOT}\n")),
    ("X5", checkpoint_text(f"{ORIGIN}\n-7\n{B64_ROOT}\n")),
    ("X5", checkpoint_text(f"{ORIGIN}\n0\n{B64_ROOT}\n")),
    ("X6", checkpoint_text(f"\n7\n{B64_ROOT}\n")),
    ("X6", checkpoint_text(f"a b\n7\n{B64_ROOT}\n")),
    ("X6", checkpoint_text(f"\ud800\n7\n{B64_ROOT}\n")),
    ("X6", checkpoint_text(f"a+b\n7\n{B64_ROOT}\n")),
    ("X6", checkpoint_text(f"a\u00a0b\n7\n{B64_ROOT}\n")),
    ("X6", checkpoint_text(f"{LONG}\n7\n{B64_ROOT}\n")),
    ("X6", keyed("a b", ED25519, b"k" * 32)),
    ("X6", keyed("", ED25519, b"k" * 32)),
    ("X6", keyed("a\x01b", ED25519, b"k" * 32)),
    ("X6", keyed(LONG, ED25519, b"k" * 32)),
    ("X6", opened(note(Signature(("a+b", b"\0\0\0\0"), b"x")))),
    ("X6", opened(note(Signature(("", b"\0\0\0\0"), b"x")))),
    ("X6", opened(note(Signature(("a\u2003b", b"\0\0\0\0"), b"x")))),
    ("X7", keyed("a", ED25519, b"k" * 31)),
    ("X7", keyed("a", ML_DSA_44, b"k" * 32)),
    ("X7", keyed("a", 0x02, b"k" * 32)),
    ("X7", lambda: proof.parse_vkey("\ud800+00000000+AA==")),
    ("X7", lambda: proof.parse_vkey(PETER.replace("c74f20a3", "C74F20A3"))),
    ("X7", lambda: proof.parse_vkey("name+00000000+")),
    ("X8", lambda: proof.check_checkpoint(GOOD, [LOG, LOG])),
    ("X9", lambda: proof.check_checkpoint(note(replace(BY_LOG, value=BY_OTHER.value)), [LOG])),
    ("X9", lambda: proof.check_checkpoint(note(replace(BY_LOG, value=b"x")), [LOG])),
    ("X9", lambda: proof.check_checkpoint(note(replace(BY_QUANTUM, value=b"x")), [LOG_QUANTUM])),
    ("X9", lambda: proof.check_checkpoint(note(replace(BY_QUANTUM, value=b"\xff" * 2428)), [LOG_QUANTUM])),
    ("X9", lambda: proof.check_checkpoint(note(BY_LOG, replace(BY_WITNESS, value=BY_LOG.value)), TRUSTED)),
    ("X10", lambda: proof.check_checkpoint(GOOD, [])),
    ("X10", lambda: proof.check_checkpoint(note(BY_OTHER), [LOG])),
    ("X11", lambda: proof.check_checkpoint(note(BY_WITNESS), TRUSTED)),
    ("X12", lambda: proof.check_checkpoint(GOOD, TRUSTED, [LOG, LOG_QUANTUM])),
    ("X12", lambda: proof.check_checkpoint(GOOD, TRUSTED, witnesses=1)),
    ("X14", received(RECEIPT.replace(b"index 4", b"index 7"))),
    ("X14", received(RECEIPT.replace(b"index 4", b"index -4"))),
    ("X16", lambda: proof.check_receipt(RECEIPT, ENTRIES[3], [LOG])),
    ("X17", lambda: proof.check_extension(replace(CHECKPOINT, origin="other"), CHECKPOINT, [])),
]


@pytest.mark.parametrize(("rule", "call"), REFUSALS)
def test_what_breaks_a_rule_of_notes_is_refused_by_that_rule(rule: str, call: Callable[[], object]) -> None:
    assert proof.check_receipt(RECEIPT, ENTRIES[4], [LOG]) == CHECKPOINT
    assert rule_of(call) == rule


def test_every_rule_has_a_refusal_of_its_own() -> None:
    tested = {rule for rule, _ in REFUSALS + test_proof.REFUSALS} | {"X22", "X23"}  # test_tiles.py
    assert tested == set(proof.RULES)


# --- What holds always

SIGNED = note(BY_LOG, BY_QUANTUM, BY_WITNESS)


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


@given(st.integers(0, 8 * len(SIGNED) - 1))
def test_no_bit_of_a_note_with_three_signatures_can_change(bit: int) -> None:
    assert rule_of(lambda: proof.check_checkpoint(flipped(SIGNED, bit), TRUSTED, TRUSTED)) in proof.RULES


def test_no_bit_of_a_receipt_can_change() -> None:
    for bit in range(8 * len(RECEIPT)):
        assert rule_of(received(flipped(RECEIPT, bit))) in proof.RULES
    for bit in range(8 * len(ENTRIES[4])):
        assert rule_of(proof.check_receipt, RECEIPT, flipped(ENTRIES[4], bit), [LOG]) == "X16"


@given(st.binary(max_size=200), st.sampled_from([RECEIPT, SIGNED, GOOD, b""]), st.integers(0, 5000))
def test_whatever_comes_is_read_or_refused_and_never_a_crash(noise: bytes, base: bytes, at: int) -> None:
    data = base[:at] + noise + base[at + len(noise) :]
    text = data.decode("utf-8", "surrogateescape")
    for call in (
        lambda: proof.check_receipt(data, ENTRIES[4], TRUSTED),
        lambda: proof.check_checkpoint(data, TRUSTED),
        lambda: proof.parse_add_checkpoint(data),
        lambda: proof.parse_vkey(text),
        lambda: proof.parse_checkpoint(text),
        lambda: proof.parse_tile_path(text),
    ):
        with suppress(Invalid):
            call()


# --- Witnessing


def test_a_request_to_a_witness_reads_back_and_its_extension_is_checked() -> None:
    old = Checkpoint(ORIGIN, 3, proof.root_of(LEAVES[:3]))
    path = proof.consistency_path(3, LEAVES)
    body = proof.format_add_checkpoint((3, path, SIGNED))
    assert body.startswith(b"old 3\n" + b64encode(path[0]) + b"\n")
    assert proof.parse_add_checkpoint(body) == (3, path, SIGNED)
    assert proof.parse_add_checkpoint(proof.format_add_checkpoint((0, [], GOOD))) == (0, [], GOOD)
    proof.check_extension(old, CHECKPOINT, path)
    proof.check_extension(CHECKPOINT, CHECKPOINT, [])
    proof.check_extension(Checkpoint(ORIGIN, 0, proof.EMPTY_ROOT), CHECKPOINT, [])
    empty = Checkpoint(ORIGIN, 0, proof.EMPTY_ROOT)
    assert rule_of(lambda: proof.check_extension(empty, CHECKPOINT, path)) == "X17"
    assert rule_of(lambda: proof.check_extension(CHECKPOINT, old, path)) == "X17"
    assert rule_of(lambda: proof.check_extension(replace(old, root=LEAVES[0]), CHECKPOINT, path)) == "X20"


def test_only_trusted_lines_of_a_witness_s_answer_are_added() -> None:
    answer = note(BY_WITNESS, BY_OTHER, BY_WITNESS)[len(TEXT) + 1 :]
    assert proof.add_signatures(GOOD, answer, [WITNESS]) == note(BY_LOG, BY_WITNESS)
    assert proof.add_signatures(note(BY_LOG, BY_WITNESS), answer, [WITNESS]) == note(BY_LOG, BY_WITNESS)
    assert rule_of(lambda: proof.add_signatures(GOOD, answer, [LOG_QUANTUM])) == "X10"
    assert rule_of(lambda: proof.add_signatures(GOOD, b"", [WITNESS])) == "X3"
    forged = note(replace(BY_WITNESS, value=BY_WITNESS.value[::-1]))[len(TEXT) + 1 :]
    assert rule_of(lambda: proof.add_signatures(GOOD, forged, [WITNESS])) == "X9"


# --- Field failures


def test_ff63_a_proof_to_a_root_that_no_trusted_key_signed_is_refused() -> None:
    # The hashes are right each time; what is missing is somebody trusted who signed the root.
    entry = b"never logged"
    forged = Checkpoint(ORIGIN, 1, proof.leaf_hash(entry))
    text = proof.format_checkpoint(forged)
    by_other = proof.sign(text, ORIGIN, ED25519, OTHER_KEY)
    by_witness = proof.sign(text, "witness.example/one", COSIGNATURE, WITNESS_KEY, TIME_S)

    def made(*signatures: Signature) -> bytes:
        return proof.format_receipt(Receipt(0, (), note(*signatures, text=text)))

    assert rule_of(lambda: proof.check_receipt(made(by_other), entry, TRUSTED)) == "X10"
    assert rule_of(lambda: proof.check_receipt(made(by_witness), entry, TRUSTED)) == "X11"
    assert rule_of(lambda: proof.check_receipt(made(BY_LOG), entry, TRUSTED)) == "X9"
    assert rule_of(lambda: proof.check_receipt(RECEIPT, ENTRIES[4], [])) == "X10"


def test_ff63_a_receipt_is_not_checked_without_saying_whom_to_trust() -> None:
    for check in (proof.check_receipt, proof.check_checkpoint, proof.open_note):
        assert inspect.signature(check).parameters["verifiers"].default is inspect.Parameter.empty
    assert not {"root", "size", "checkpoint"} & set(inspect.signature(proof.check_receipt).parameters)


def test_ff64_the_signature_is_found_by_name_and_key_id_among_many() -> None:
    impostor = Signature((ORIGIN, b"\0\0\0\1"), BY_OTHER.value)
    same_id = Signature(("stranger.example", LOG.key[1]), BY_OTHER.value)
    for order in ((impostor, same_id, BY_OTHER, BY_LOG), (BY_LOG, BY_OTHER, same_id, impostor)):
        signed = note(*order)
        assert proof.check_checkpoint(signed, [WITNESS, LOG])[1] == {LOG.key: 0}
        assert proof.check_receipt(receipt(signed), ENTRIES[4], [WITNESS, LOG]) == CHECKPOINT
    # Neither the right name nor the right id alone is a signature.
    assert rule_of(lambda: proof.check_checkpoint(note(impostor), [LOG])) == "X10"
    assert rule_of(lambda: proof.check_checkpoint(note(same_id), [LOG])) == "X10"


def test_ff65_the_size_is_bound_by_what_is_signed() -> None:
    for size in (6, 8, 70):
        text = proof.format_checkpoint(replace(CHECKPOINT, size=size))
        for signature, trusted in ((BY_LOG, LOG), (BY_QUANTUM, LOG_QUANTUM)):
            assert rule_of(proof.check_checkpoint, note(signature, text=text), [trusted]) == "X9"
