from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import coincurve
import pytest

from ledger.proof import leaf_hash, open_note, tile_path
from ledger.records import (
    Acknowledgement,
    Invalid,
    Unavailable,
    decode,
    domain_separator,
    encode,
    head_digest,
    keccak256,
)
from ledger.tree import Tree
from ledger.watcher import VALID_S
from tests import bundles, city
from tests.ledger.running import COSIGNER, KEYS, Clock, Watcher
from tests.vectors import make


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


def test_nothing_less_than_the_whole_act_for_this_very_breach_makes_a_watcher_sign(tmp_path: Path):
    """The operator writes the log: it cannot excuse itself before, by halves, by another rule or for another."""
    log = city.registered()
    before = log.state.size + 2
    # Before there is one: the excuse is a breach of its own, and excuses nothing.
    log.breach(encode(Acknowledgement(log.now, before, "M4", city.ACT)))
    fee = city.payment(make.ORDER, city.digest("no order"))
    places = [log.breach(encode(replace(fee, time=log.now, id=city.digest(mark)))) for mark in ("1", "2")]
    first, second = ((place, log.state.breaches[place]) for place in places)
    log.breach(encode(Acknowledgement(log.now, second[0], "M1", city.ACT)))
    log.breach(encode(Acknowledgement(log.now, 3, second[1], city.ACT)))
    one, number = watcher(tmp_path / "memory"), 0

    def is_signed() -> bool:
        nonlocal number
        number += 1
        bundle = written(tmp_path / f"bundle-{number}", log.records)
        verdicts = []
        # Whoever followed from the start and who starts now say the same.
        for each in (one, watcher()):
            try:
                verdicts.append(each.sign(bundle).size == len(log.records))
            except Invalid:
                verdicts.append(False)
        assert len(set(verdicts)) == 1
        return verdicts[0]

    assert not is_signed()
    for place in sorted(log.state.breaches):
        if place != second[0]:
            log.act(Acknowledgement(0, place, log.state.breaches[place], city.ACT))
    assert not is_signed()
    excuse = log.add(Acknowledgement(0, *second, city.ACT))
    assert not is_signed()
    log.approve(excuse, *city.COUNCIL[:2], city.AUDITOR)
    assert not is_signed()
    # Somebody who has no seat, and a signature over the act for the other breach.
    stranger = city.Key("stranger").approve(
        log.state.domain, log.state.proposals[excuse].record, log.now + 9, log.now
    )
    log.breach(encode(stranger))
    assert not is_signed()
    log.act(Acknowledgement(0, log.state.size - 1, log.state.breaches[log.state.size - 1], city.ACT))
    assert not is_signed()
    log.approve(excuse, city.COUNCIL[2])
    assert is_signed()
    assert first[0] in log.state.acknowledged


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
