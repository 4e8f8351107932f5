from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import coincurve
import pytest

from ledger.proof import leaf_hash, open_note, tile_path
from ledger.records import Invalid, Unavailable, decode, domain_separator, encode, head_digest, keccak256
from ledger.tree import Tree
from ledger.watcher import VALID_S
from tests import bundles, city
from tests.ledger.running import COSIGNER, KEYS, Clock, Watcher


def watcher(memory: Path | None = None) -> Watcher:
    return Watcher("alatau.qazyna/watcher", _log_keys(), city.WATCHER.secret, COSIGNER, Clock(), memory)


def _log_keys():
    return replace(KEYS, origin=bundles.ORIGIN).verifiers()


def written(folder: Path, records: list[bytes]) -> Path:
    """A bundle that the log's true keys sign, whatever its records are."""
    done = bundles.Written(folder, list(records))
    done.write_tiles()
    done.sign_checkpoint()
    return folder


def test_a_watcher_signs_a_head_for_readers_and_for_the_chain(tmp_path: Path):
    log, one = bundles.busy(300), watcher()
    head = one.sign(written(tmp_path, log.records))
    tree = Tree()
    tree.extend(map(leaf_hash, log.records))
    assert (head.size, head.root) == (300, tree.root())
    note = (tmp_path / "checkpoint").read_bytes()
    text = note.split(b"\n\n")[0] + b"\n"
    open_note(text + b"\n" + head.cosignature, [one.verifier()])
    domain = domain_separator(city.CHAIN_ID, city.COUNCIL_CONTRACT, city.digest("ledger"))
    digest = head_digest(domain, head.size, head.root, head.valid_until)
    signature = head.r + head.s + bytes([head.v - 27])
    key = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
    assert keccak256(key.format(compressed=False)[1:])[12:] == head.signer == one.address
    assert head.valid_until == city.START_S + VALID_S


@pytest.mark.parametrize("kept", [False, True])
def test_a_log_that_forks_gets_no_signature(tmp_path: Path, kept: bool):
    memory = tmp_path / "memory" if kept else None
    log, one = bundles.busy(180), watcher(memory)
    one.sign(written(tmp_path / "bundle", log.records))
    fork = list(log.records)
    fork[170] = encode(replace(decode(fork[170]), amount=7))
    # With a memory of its own a watcher that was started again sees it too.
    again = watcher(memory) if kept else one
    for size in (180, 200):
        more = bundles.busy(size).records[180:]
        with pytest.raises(Invalid) as refused:
            again.sign(written(tmp_path / f"fork{size}", fork + more))
        assert refused.value.rule in {"L2", "L9"}
    # And what it refused did not poison it.
    assert again.sign(written(tmp_path / "more", bundles.busy(200).records)).size == 200


@pytest.mark.parametrize("kept", [False, True])
def test_a_log_that_shrinks_gets_no_signature(tmp_path: Path, kept: bool):
    memory = tmp_path / "memory" if kept else None
    log, one = bundles.busy(180), watcher(memory)
    one.sign(written(tmp_path / "bundle", log.records))
    again = watcher(memory) if kept else one
    with pytest.raises(Invalid, match="L9"):
        again.sign(written(tmp_path / "shrunk", log.records[:179]))
    assert again.sign(written(tmp_path / "same", log.records)).size == 180


def test_a_record_that_breaks_a_rule_is_never_signed_for(tmp_path: Path):
    log, one = bundles.busy(170), watcher()
    one.sign(written(tmp_path / "bundle", log.records))
    bad = city.revenue(log, mark="bad")
    bad = encode(replace(bad, time=log.now, debit=bad.credit, credit=bad.debit))
    for _ in range(2):
        with pytest.raises(Invalid, match="record 171"):
            one.sign(written(tmp_path / "bad", [*log.records, bundles.busy(171).records[170], bad]))


def test_a_checkpoint_that_only_one_of_the_log_s_keys_signed_is_refused(tmp_path: Path):
    done = bundles.Written(tmp_path, bundles.busy(170).records)
    done.write_tiles()
    for left_out in ("ed", "ml"):
        done.sign_checkpoint(leave_out=left_out)
        with pytest.raises(Invalid):
            watcher().sign(tmp_path)


def test_a_missing_or_spoiled_file_is_no_verdict_and_leaves_the_watcher_as_it_was(tmp_path: Path):
    log, one = bundles.busy(300), watcher()
    folder = written(tmp_path, log.records)
    place = folder / tile_path("entries", 0, 256)
    content = place.read_bytes()
    place.unlink()
    with pytest.raises(Unavailable, match="missing"):
        one.sign(folder)
    # One byte of an amount: still a record, and not the one that was signed.
    at = content.rindex(encode(decode(log.records[255]))[-64:])
    place.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(Invalid, match="L2"):
        one.sign(folder)
    assert (one.state.size, one.tree.size) == (0, 0)
    place.write_bytes(content)
    assert one.sign(folder).size == 300


def test_an_empty_log_has_nothing_to_sign_for(tmp_path: Path):
    with pytest.raises(Invalid, match="H1"):
        watcher().sign(written(tmp_path, []))
