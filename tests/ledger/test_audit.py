"""Each rule that the auditor adds is broken once, beside the twin that is valid."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from ledger import proof, records, rules
from ledger.audit import RULES, audit, replay_bundle
from ledger.audit.__main__ import main
from ledger.audit.bundle import Bundle
from ledger.audit.compare import own_rules_hash
from ledger.audit.replay import replay, take_plainly
from ledger.audit.source import open_source
from ledger.audit.summary import summarise
from ledger.audit.verdict import Findings, Verdict
from ledger.records import Allocation, Invalid, Rules, Unavailable, encode
from tests import bundles, city
from tests.bundles import Written

HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return bundles.write(tmp_path_factory.mktemp("audit") / "bundle", bundles.busy(300))


@pytest.fixture
def bundle(original: Written, tmp_path: Path) -> Written:
    folder = tmp_path / "bundle"
    shutil.copytree(original.folder, folder)
    return Written(folder, list(original.records))


def found(source: Path, **options: object) -> list[tuple[str, str]]:
    verdict = audit(source, **options)  # type: ignore[arg-type]
    return [(finding.rule, finding.where) for finding in verdict.findings]


def test_the_unbroken_bundle_is_valid_and_says_what_was_not_checked(bundle: Written) -> None:
    verdict = audit(bundle.folder)
    root = bundles.root_at(bundle.records, 300).hex()
    assert verdict.findings == []
    assert (
        verdict.last_line()
        == f"valid: 300 records, checkpoint 300 {root}, chain not checked, keys: from bundle"
    )


# --- one row for each way to break a rule -----------------------------------------


def _edit(path: str, change: Callable[[bytes], bytes], *, again: bool = True) -> Callable[[Written], None]:
    def edit(bundle: Written) -> None:
        bundle.write(path, change((bundle.folder / path).read_bytes()))
        if again:
            bundle.sign_manifest()

    return edit


def _remove(path: str) -> Callable[[Written], None]:
    return lambda bundle: (bundle.folder / path).unlink()


def _add(path: str, content: bytes = b"x", *, named: bool = False) -> Callable[[Written], None]:
    def add(bundle: Written) -> None:
        bundle.write(path, content)
        if named:
            bundle.sign_manifest()

    return add


def _trust(**changed: object) -> Callable[[Written], None]:
    return _edit("trust.json", lambda _: bundles.as_bytes(bundles.trust(**changed)))


def _anchors(change: Callable[[list[dict[str, str]]], object]) -> Callable[[Written], None]:
    def edit(bundle: Written) -> None:
        changed = change(bundles.anchors(bundle.records))
        bundle.write("anchors.json", bundles.as_bytes(changed))
        bundle.sign_manifest()

    return edit


def _link(bundle: Written) -> None:
    place = bundle.folder / "anchors.json"
    place.rename(bundle.folder.parent / "elsewhere")
    place.symlink_to(bundle.folder.parent / "elsewhere")


def _pipe(bundle: Written) -> None:
    os.mkfifo(bundle.folder / "documents" / "pipe")


def _unnamed_anchors(bundle: Written) -> None:
    bundle.unnamed.add("anchors.json")
    bundle.sign_manifest()


def _checkpoint(**options: object) -> Callable[[Written], None]:
    def sign(bundle: Written) -> None:
        bundle.sign_checkpoint(**options)  # type: ignore[arg-type]
        bundle.sign_manifest()

    return sign


def _manifest(**options: object) -> Callable[[Written], None]:
    return lambda bundle: bundle.sign_manifest(**options)  # type: ignore[arg-type]


def _unknown_line(note: bytes) -> bytes:
    text = proof.parse_note(note)[0]
    stranger = proof.sign(text, "stranger", proof.ED25519, bundles.COSIGNER)
    return note + proof.format_note((text, (stranger,)))[len(text.encode()) + 1 :]


def _twice(note: bytes) -> bytes:
    text, lines = proof.parse_note(note)
    return proof.format_note((text, (*lines, lines[0])))


def _signed_by_watcher(note: bytes) -> bytes:
    text = proof.parse_note(note)[0]
    line = proof.sign(text, bundles.WATCHER_NAME, proof.COSIGNATURE, bundles.COSIGNER, 1)
    return proof.format_note((text, (line,)))


def _flip(at: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def _in_record(bundle: Written, index: int, at: int) -> None:
    """Flip a bit of one record in its published entries."""
    path = proof.tile_path(proof.ENTRIES, index // 256, min(256, len(bundle.records) - index // 256 * 256))
    start = sum(2 + len(data) for data in bundle.records[index // 256 * 256 : index])
    _edit(path, _flip(start + at), again=False)(bundle)


DOCUMENT = f"documents/{city.digest('survey').hex()}"
LOOSE = f"documents/{sha256(b'loose').hexdigest()}"
OTHER = "0x" + bytes(19).hex() + "01"
_two_roots = "0x" + city.digest("another root").hex()


def _set(entries: list[dict[str, str]], at: int, **changed: str) -> list[dict[str, str]]:
    return [entry | changed if place == at % len(entries) else entry for place, entry in enumerate(entries)]


BREAKS: list[tuple[str, str, Callable[[Written], object]]] = [
    ("D1", "trust.json", _remove("trust.json")),
    ("D1", "checkpoint", _remove("checkpoint")),
    ("D1", "trust.json", _edit("trust.json", lambda _: b"[" * 100_000)),
    ("D1", "trust.json", _edit("trust.json", lambda _: b'{"origin": 1.5}')),
    ("D1", "trust.json", _edit("trust.json", lambda old: old.replace(b"{", b'{"origin": "twice",', 1))),
    ("D1", "manifest", _manifest(title="qazyna list v1")),
    ("D1", "manifest", _edit("manifest", lambda _: _resigned("qazyna manifest v1\n"), again=False)),
    ("D1", "manifest", _edit("manifest", lambda note: _named(note, "../../etc/passwd"), again=False)),
    ("D1", "manifest", _edit("manifest", lambda note: _named(note, "zone/../x"), again=False)),
    ("D1", "manifest", _edit("manifest", lambda note: _named(note, "tree", twice=True), again=False)),
    ("D1", "trust.json", _trust(vkeys="all")),
    ("D1", "trust.json", _trust(contracts=[])),
    ("X8", "trust.json", _trust(vkeys=[*bundles.vkeys(), bundles.vkeys()[0]])),
    ("D2", "readme.txt", _add("readme.txt")),
    ("D2", ".hidden", _add(".hidden")),
    ("D2", ".checkpoint.new", _add(".checkpoint.new")),
    ("D2", "documents/.a.new", _add("documents/.a.new")),
    ("D2", "tile/0/.000.new", _add("tile/0/.000.new")),
    ("D2", "documents/note", _add("documents/note")),
    ("D2", "tile/8/000", _add("tile/8/000")),
    ("D2", "tile/0/000.p/007/x", _add("tile/0/000.p/007/x")),
    ("D2", LOOSE, _add(LOOSE, b"loose")),
    ("D2", "anchors.json", _link),
    ("D2", "documents/pipe", _pipe),
    ("D2", "manifest", _unnamed_anchors),
    ("D3", DOCUMENT, _remove(DOCUMENT)),
    ("D3", "anchors.json", _edit("anchors.json", lambda old: old + b" ", again=False)),
    ("D4", DOCUMENT, _edit(DOCUMENT, lambda _: b"another survey")),
    ("D5", "checkpoint: signature line 4", _edit("checkpoint", _unknown_line)),
    ("D5", "manifest: signature line 2", _edit("manifest", _unknown_line, again=False)),
    ("D5", "manifest: signature line 2", _edit("manifest", _twice, again=False)),
    ("D6", "manifest", _edit("manifest", _signed_by_watcher, again=False)),
    ("D6", "trust.json", _trust(vkeys=bundles.vkeys()[:1])),
    ("X12", "checkpoint", _checkpoint(leave_out="ml")),
    ("X12", "checkpoint", _checkpoint(leave_out="watcher")),
    ("D6", "trust.json", _trust(vkeys=[])),
    (
        "X9",
        "manifest: signature line 1",
        _edit("manifest", lambda old: old.replace(b"300", b"299", 1), again=False),
    ),
    ("D7", "manifest", _manifest(size=299)),
    ("D7", "manifest", _manifest(origin="another/ledger")),
    ("D8", "record 17", lambda bundle: _in_record(bundle, 17, 40)),
    ("D8", "record 299", lambda bundle: _in_record(bundle, 299, 2)),
    ("D8", "record 17", lambda bundle: _in_record(bundle, 17, 1)),
    ("D9", "tile/0/000", _edit("tile/0/000", _flip(32 * 17))),
    ("D9", "tile/1/000.p/1", _edit("tile/1/000.p/1", _flip(0))),
    ("D9", "tile/0/000", _remove("tile/0/000")),
    ("D9", "tile/0/001.p/44", _edit("tile/0/001.p/44", lambda old: old[:-1])),
    ("D9", "tile/entries/000", _remove("tile/entries/000")),
    ("D9", "tile/0/000.p/5", _add("tile/0/000.p/5", bytes(160))),
    ("X23", "tile/entries/001.p/44: entry bundle", _edit("tile/entries/001.p/44", lambda old: old[:-1])),
    ("D10", "checkpoint", _checkpoint(root=city.digest("another root"))),
    ("D13", "council", _trust(contracts=bundles.CONTRACTS_JSON | {"council": OTHER})),
    ("D13", "contracts.treasury", _trust(contracts=bundles.CONTRACTS_JSON | {"treasury": OTHER})),
    ("D13", "ledger", _trust(ledger="0x" + bytes(32).hex())),
    ("D13", "chainId", _trust(chainId="1")),
    ("T1", "anchors.json", _edit("anchors.json", lambda _: b"{}")),
    ("T1", "anchors.json entry 0", _anchors(lambda entries: _set(entries, 0, size="012"))),
    ("T1", "anchors.json entry 0", _anchors(lambda entries: _set(entries, 0, root="0x12"))),
    ("T1", "anchors.json entry 1", _anchors(lambda entries: [entries[1], entries[0], *entries[2:]])),
    ("T1", "anchors.json entry 1", _anchors(lambda entries: _set(entries, 1, block="1"))),
    ("T2", "anchors.json entry 0", _anchors(lambda entries: _set(entries, 0, root=_two_roots))),
    ("T2", "anchors.json entry 1", _anchors(lambda es: [es[0], es[0] | {"root": _two_roots}, *es[1:]])),
    ("T2", "anchors.json entry 5", _anchors(lambda es: [*es[:5], es[-1] | {"size": "301"}])),
    ("T3", "record 0", _anchors(lambda entries: _set(entries, 0, time=str(city.START_S - 901)))),
    (
        "T3",
        "record 299",
        _anchors(lambda es: [*es[:-1], es[-1] | {"time": str(int(es[-1]["time"]) - 1_000)}]),
    ),
    ("T4", "record 0", _anchors(lambda entries: entries[1:])),
    ("T4", "record 0", _anchors(lambda _: [])),
    ("T5", "anchors.json entry 0", _anchors(lambda entries: _set(entries, 0, contract=OTHER))),
    ("T5", "anchors.json entry 0", _anchors(lambda entries: _set(entries, 0, chainId="1"))),
]


def _resigned(text: str) -> bytes:
    return proof.format_note((text, (proof.sign(text, bundles.ORIGIN, proof.ED25519, bundles.ED),)))


def _named(note: bytes, path: str, *, twice: bool = False) -> bytes:
    return _resigned(proof.parse_note(note)[0] + f"{bytes(32).hex()} {path}\n" * (1 + twice))


@pytest.mark.parametrize(
    ("rule", "where", "breaks"), BREAKS, ids=[f"{r}-{w}-{n}" for n, (r, w, _) in enumerate(BREAKS)]
)
def test_what_breaks_a_rule_is_named_by_rule_and_place(
    bundle: Written, rule: str, where: str, breaks: Callable[[Written], object]
) -> None:
    breaks(bundle)
    assert (rule, where) in found(bundle.folder)


def test_every_rule_of_the_auditor_is_broken_by_some_test() -> None:
    texts = "".join(path.read_text() for path in Path(__file__).parent.glob("test_audit*.py"))
    assert [rule for rule in RULES if f'"{rule}"' not in texts] == []


# --- what is allowed -----------------------------------------------------------------


def test_a_partial_tile_of_an_earlier_size_may_stay(bundle: Written) -> None:
    bundle.write_tiles(7)
    assert (bundle.folder / "tile/0/000.p/7").exists()
    assert found(bundle.folder) == []


def test_a_document_that_a_record_names_needs_no_line_in_the_manifest(bundle: Written) -> None:
    bundle.unnamed.add(DOCUMENT)
    bundle.sign_manifest()
    assert found(bundle.folder) == []
    bundle.write(DOCUMENT, b"another survey")
    assert ("D4", DOCUMENT) in found(bundle.folder)


def test_a_tampered_tile_is_not_blamed_on_its_record(bundle: Written) -> None:
    _edit("tile/0/000", _flip(32 * 17))(bundle)
    assert found(bundle.folder) == [("D9", "tile/0/000")]


def test_the_watcher_that_is_about_to_sign_needs_no_cosignature(bundle: Written) -> None:
    bundle.sign_checkpoint(leave_out="watcher")
    bundle.sign_manifest()
    assert found(bundle.folder, cosigned=False) == []


def test_anchors_of_two_chains_may_have_the_same_size_and_root(tmp_path: Path) -> None:
    log = city.registered()
    other = city.Key("second anchor").address
    log.act(city.Contract(0, "anchor-2", 99, other, city.digest("code"), city.ACT))
    entries = bundles.anchors(log.records)
    twice = [*entries, entries[-1] | {"chainId": "99", "contract": "0x" + other.hex(), "block": "7"}]
    assert found(bundles.write(tmp_path / "b", log, anchored=twice).folder) == []


def test_anchors_of_several_chains_stand_in_the_order_of_size(tmp_path: Path) -> None:
    log = city.registered()
    other = city.Key("second anchor").address
    log.act(city.Contract(0, "anchor-2", 99, other, city.digest("code"), city.ACT))
    entries = bundles.anchors(log.records)
    late = [*entries, entries[0] | {"chainId": "99", "contract": "0x" + other.hex()}]
    assert found(bundles.write(tmp_path / "b", log, anchored=late).folder) == [
        ("T1", f"anchors.json entry {len(entries)}")
    ]


def test_one_size_with_two_roots_is_named_even_beyond_the_bundle(bundle: Written) -> None:
    beyond = bundles.anchors(bundle.records)[-1] | {"size": "301"}
    _anchors(lambda entries: [*entries, beyond, beyond | {"root": _two_roots}])(bundle)
    assert any(
        "has the roots" in finding.why for finding in audit(bundle.folder).findings if finding.rule == "T2"
    )


def test_a_record_dated_before_the_anchor_before_it_is_named(bundle: Written) -> None:
    entries = bundles.anchors(bundle.records)
    size = int(entries[0]["size"])
    first_after = int.from_bytes(bundle.records[size][32:64], "big")
    _anchors(lambda old: _set(old, 0, time=str(first_after + 4_501)))(bundle)
    assert ("T3", f"record {size}") in found(bundle.folder)
    _anchors(lambda old: _set(old, 0, time=str(first_after + 4_500)))(bundle)
    assert ("T3", f"record {size}") not in found(bundle.folder)


def test_a_checkpoint_of_another_origin_is_refused_though_all_keys_signed_it(bundle: Written) -> None:
    def rename(note: bytes) -> bytes:
        text = proof.parse_note(note)[0].replace(bundles.ORIGIN, bundles.WATCHER_NAME, 1)
        lines = (
            proof.sign(text, bundles.ORIGIN, proof.ED25519, bundles.ED),
            proof.sign(text, bundles.ORIGIN, proof.ML_DSA_44, bundles.ML, 1),
            proof.sign(text, bundles.WATCHER_NAME, proof.COSIGNATURE, bundles.COSIGNER, 1),
        )
        return proof.format_note((text, lines))

    _edit("checkpoint", rename)(bundle)
    broken = [rule for rule, where in found(bundle.folder, cosigned=False) if where == "checkpoint"]
    assert broken == ["D7"]


def test_a_ledger_without_a_record_is_no_ledger(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "b", [], anchored=[], public={}).folder
    assert found(folder) == [("D13", "record 0")]


# --- own trust, rule files, records ----------------------------------------------------


def test_own_trust_decides_and_the_bundles_must_agree(bundle: Written, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_bytes(bundles.as_bytes(bundles.trust()))
    verdict = audit(bundle.folder, trust=own)
    assert verdict.is_valid
    assert "keys: from bundle" not in verdict.last_line()
    own.write_bytes(bundles.as_bytes(bundles.trust(chainId="1")))
    assert ("D14", "trust.json chainId") in found(bundle.folder, trust=own)
    own.write_bytes(bundles.as_bytes(bundles.trust(contracts=bundles.CONTRACTS_JSON | {"router": OTHER})))
    assert ("D14", "trust.json contracts.router") in found(bundle.folder, trust=own)
    own.write_bytes(bundles.as_bytes(bundles.trust(vkeys=bundles.vkeys()[:2])))
    # Without the watcher's key its line is a stranger's.
    assert ("D14", "trust.json vkeys") in found(bundle.folder, trust=own)
    assert ("D5", "checkpoint: signature line 3") in found(bundle.folder, trust=own)


def test_a_bundle_that_somebody_else_signed_whole_is_refused_by_own_trust(
    bundle: Written, tmp_path: Path
) -> None:
    own = bundles.trust()
    stranger = proof.Verifier(bundles.ORIGIN, proof.ED25519, bundles.COSIGNER.public_key().public_bytes_raw())
    path = tmp_path / "own.json"
    path.write_bytes(bundles.as_bytes(own | {"vkeys": [proof.format_vkey(stranger), *bundles.vkeys()[1:]]}))
    assert {rule for rule, _ in found(bundle.folder, trust=path)} >= {"D14", "X10", "X12"}


def test_rule_files_in_force_are_this_auditors_own(tmp_path: Path) -> None:
    for name, digest in (("right", own_rules_hash()), ("wrong", city.digest("relaxed rules"))):
        log = city.registered()
        log.act(Rules(0, digest, log.now, city.ACT))
        folder = bundles.write(tmp_path / name, log).folder
        assert found(folder) == ([] if name == "right" else [("D11", "rules")])


def test_leak_19_a_byte_in_any_rule_file_or_in_their_fast_twin_is_another_ledgers_rules(
    tmp_path: Path,
) -> None:
    """Whoever was handed an auditor that is relaxed in one place learns it from the Council's record."""
    folder = Path(records.__file__).parent
    # What a replay runs of the ledger's own modules, by itself and not by a list.
    code = "import sys, ledger.audit.replay as r; print(*(m for m in sys.modules if m.startswith('ledger.')))"
    found_ = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    runs = {name for name in found_.stdout.split() if not name.startswith("ledger.audit")}
    assert {f"ledger.{Path(name).stem}" for name in records.RULE_FILES} == runs
    for changed in records.RULE_FILES:
        contents = [(folder / name).read_bytes() + b" " * (name == changed) for name in records.RULE_FILES]
        log = city.registered()
        log.act(Rules(0, records.rules_hash(contents), log.now, city.ACT))
        assert found(bundles.write(tmp_path / changed, log).folder) == [("D11", "rules")]


def test_a_theft_signed_by_the_true_log_key_is_named_with_rule_record_and_amount(tmp_path: Path) -> None:
    log = bundles.paid()
    first = city.payment(bundles.certified()[1], city.digest("no order"))
    theft = replace(
        first, time=log.now, id=city.digest("theft"), evidence=city.digest("theft evidence"), amount=9_000_000
    )
    records = [*log.records, encode(theft)]
    folder = bundles.write(tmp_path / "b", records).folder
    (finding,) = audit(folder).findings
    assert (finding.rule, finding.where) == ("V4", f"record {len(log.records)}")
    assert (finding.severity, finding.amount, finding.asset) == ("critical", 9_000_000, "USDT")
    assert found(bundles.write(tmp_path / "twin", log).folder) == []


def test_the_audit_finds_in_records_what_the_rules_own_replay_finds(tmp_path: Path) -> None:
    log = bundles.paid()
    # Every third record left out: much of what follows rests on nothing.
    records = [data for place, data in enumerate(log.records) if place < 20 or place % 3]
    state, findings = rules.replay(records)
    verdict = audit(bundles.write(tmp_path / "b", records).folder)
    named = {(finding.rule, finding.where, finding.why) for finding in verdict.findings}
    assert len(findings) > 10
    assert {(broken.rule, broken.where, broken.why) for broken in findings} <= named
    assert verdict.records == state.size == len(records)


class Exhausting(bytes):
    """Bytes at which whoever measures them runs out of memory."""

    def __len__(self) -> int:
        raise MemoryError("too long")


def test_a_record_that_stops_the_rules_is_a_finding_and_the_next_is_read(bundle: Written) -> None:
    records, findings = bundles.busy(90).records, Findings()
    opened = Bundle(open_source(str(bundle.folder)))
    done = replay(
        [*records[:50], Exhausting(records[50]), *records[50:]],
        91,
        opened,
        findings,
        lambda *_: None,
        take=take_plainly,
    )
    assert [(f.rule, f.where) for f in findings.listed()] == [("D12", "record 50")]
    assert done.state.size == 91


@pytest.mark.parametrize("time", [2**64 - 1, 2**63, 2**40, 0])
def test_a_record_of_an_impossible_time_is_named(tmp_path: Path, time: int) -> None:
    log, order = bundles.certified(20_000_000)
    allocation = log.state.allocations[order.allocation_hash].record
    assert isinstance(allocation, Allocation)
    last = encode(replace(allocation, time=time, allocation="late"))
    records = [*log.records, last]
    folder = bundles.write(tmp_path / "b", records, anchored=bundles.anchors(log.records)).folder
    assert {where for _, where in found(folder)} == {f"record {len(log.records)}"}


def test_totals_that_do_not_add_up_are_a_finding() -> None:
    log = bundles.paid()
    findings = Findings()
    summarise(log.state, Verdict(), findings)
    assert not findings
    log.state.accounts["treasury-usdt"].balance -= 5
    summarise(log.state, Verdict(), findings)
    assert [(f.rule, f.where, f.amount) for f in findings.listed()] == [("D15", "RETAINED USDT", 5)]


def test_replay_gives_the_state_of_a_valid_bundle_and_refuses_another(bundle: Written) -> None:
    state = replay_bundle(bundle.folder)
    assert state.size == 300
    assert rules.totals(state)[1].paid == 40_000_000
    bundle.write("readme.txt", b"x")
    with pytest.raises(Invalid) as refused:
        replay_bundle(bundle.folder)
    assert refused.value.rule == "D2"


# --- the command -------------------------------------------------------------------------


def test_the_command_names_each_finding_and_exits_as_documented(
    bundle: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = tmp_path / "verdict.json"
    assert main([str(bundle.folder), "--json", str(answer)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("valid: 300 records, checkpoint 300 ")
    assert any(line.startswith("RETAINED USDT: opening 0.000000 + revenue 50.") for line in lines)
    verdict = json.loads(answer.read_text())
    assert (verdict["verdict"], verdict["totals"][1]["paid"]) == ("valid", "40000000")
    _in_record(bundle, 17, 40)
    assert main([str(bundle.folder), "--json", str(answer)]) == 1
    assert any(line.startswith("D8 at record 17: ") for line in capsys.readouterr().out.splitlines())
    named = [finding["where"] for finding in json.loads(answer.read_text())["findings"]]
    assert "record 17" in named


def test_one_changed_byte_is_not_hidden_by_what_follows_from_it(
    bundle: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As in a log that was served for some days: a document, and a partial tile of many sizes.
    document = b"what a later record names"
    bundle.write(f"documents/{sha256(document).hexdigest()}", document)
    hashes = (bundle.folder / "tile/0/001.p/44").read_bytes()
    for size in range(20, 44):
        bundle.write(f"tile/0/001.p/{size}", hashes[: 32 * size])
    [loose] = audit(bundle.folder).findings
    assert loose.rule == "D2"
    _in_record(bundle, 270, 40)
    answer = tmp_path / "verdict.json"
    assert main([str(bundle.folder), "--json", str(answer)]) == 1
    findings = json.loads(answer.read_text())["findings"]
    # That no record names the document is not known of records whose bytes are not believed.
    assert not [finding for finding in findings if finding["rule"] == "D2"]
    assert len([finding for finding in findings if finding["rule"] == "D9"]) > 20
    told = capsys.readouterr().out.splitlines()
    [byte] = [line for line in told if line.startswith("D8 at ")]
    assert byte.startswith("D8 at record 270: ")
    assert len([line for line in told if line.startswith("D9 at ")]) == 4
    more = [line for line in told if line.endswith("--json or --report has each")]
    assert re.fullmatch(r"D9 at \d+ more places, the last tile/.*: --json or --report has each", more[0])
    assert told[-1] == f"invalid: {len(findings)} findings in 300 records"


@pytest.mark.parametrize(
    "arguments",
    [
        ["/no/such/folder"],
        ["ftp://127.0.0.1/"],
        ["http://127.0.0.1:1/"],
        ["http://[::1/"],
        ["http://a b/"],
        [],
        ["/etc/hosts"],
    ],
)
def test_what_could_not_be_checked_is_one_line_and_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code  # type: ignore[assignment]
    assert code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("could not check: ")


def test_an_empty_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        audit(tmp_path)


def test_the_module_runs_alone_and_opens_no_socket(bundle: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise SystemExit('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from ledger.audit.__main__ import main\n"
        "code = main(sys.argv[1:])\n"
        "foreign = {'gateway', 'contracts', 'sqlalchemy', 'web3', 'httpx', 'fastapi', 'ledger.tree', 'ledger.store'}\n"
        "raise SystemExit(code or sorted(foreign & set(sys.modules)) or 0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(bundle.folder)],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[-1].startswith("valid: 300 records")


def test_hostile_text_cannot_move_the_cursor(bundle: Written) -> None:
    bundle.write("a\x1b[2Jb\nvalid: 1 records", b"x")
    (finding,) = audit(bundle.folder).findings
    assert str(finding).startswith("D2 at a\\x1b[2Jb\\nvalid: 1 records: ")


def test_a_bundle_is_only_read(bundle: Written) -> None:
    before = {path: (bundle.folder / path).read_bytes() for path in bundle.files()}
    audit(bundle.folder)
    assert {path: (bundle.folder / path).read_bytes() for path in bundle.files()} == before
