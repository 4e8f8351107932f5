"""An auditor counts the witnesses that have cosigned, by the ledger's own policy and by his (D20)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.audit import audit, read_trust
from ledger.audit.__main__ import main
from ledger.audit.verdict import Verdict
from ledger.audit.witnesses import parse_policy, read_policy
from ledger.cosigning import read_witnesses
from ledger.proof import ML_DSA_44, format_vkey, parse_vkey
from ledger.records import Invalid, Unavailable
from tests import bundles
from tests.bundles import Written

NAMES = ["bank", "press", "university"]
FULL = [bundles.witness(name)[0] for name in NAMES]
VKEYS = [*bundles.vkeys(), *map(bundles.witness_vkey, NAMES)]


def said(needed: object = "2", names: object = None) -> dict[str, object]:
    return {"needed": needed, "names": FULL if names is None else names}


def policy(folder: Path, needed: int, *names: str) -> Path:
    """An auditor's own file, of the form of the writer's."""
    lines = [f"witness http://127.0.0.1:1 {bundles.witness_vkey(name)}" for name in names]
    path = folder / f"policy-{needed}-{len(names)}"
    path.write_text("\n".join(["# mine", "", f"quorum {needed}", *lines]) + "\n")
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Written:
    """A bundle that asks for two of three witnesses, and has them."""
    trusted = bundles.trust(vkeys=VKEYS, witnesses=said())
    made = bundles.write(tmp_path / "bundle", bundles.paid(), trusted=trusted)
    cosign(made, "bank", "university")
    return made


def cosign(bundle: Written, *names: str) -> None:
    bundle.sign_checkpoint(witnesses=names)
    bundle.sign_manifest()


def findings(verdict: Verdict) -> list[tuple[str, str, str]]:
    return [(finding.rule, finding.where, finding.severity) for finding in verdict.findings]


def test_a_head_with_its_quorum_is_valid_and_it_is_said_who_signed(bundle: Written) -> None:
    verdict = audit(bundle.folder)
    assert verdict.findings == []
    told = "2 of 3 witnesses cosigned, 2 are needed by trust.json: bank.example, university.example"
    assert told in verdict.said


def test_a_head_with_fewer_is_a_finding_with_both_numbers(bundle: Written) -> None:
    cosign(bundle, "bank")
    (finding,) = audit(bundle.folder).findings
    assert (finding.rule, finding.where, finding.severity) == ("D20", "checkpoint", "critical")
    assert finding.why == (
        "1 of 3 witnesses cosigned, 2 are needed by trust.json; missing: press.example,"
        " university.example; it is anchored"
    )
    # What is not yet on a chain can still be mended.
    bundle.write("anchors.json", bundles.as_bytes(bundles.anchors(bundle.records)[:-1]))
    cosign(bundle)
    assert ("D20", "checkpoint", "high") in findings(audit(bundle.folder))


def test_neither_the_watcher_nor_two_keys_of_one_witness_nor_a_wrong_signature_counts(
    bundle: Written, tmp_path: Path
) -> None:
    # The watcher has signed each of these, and is no witness that the policy names.
    cosign(bundle, "bank", "press")
    note = (bundle.folder / "checkpoint").read_bytes()
    assert read_policy(policy(tmp_path, 2, "bank", "press")).cosigned(note) == FULL[:2]
    wrong = note.replace(note.split(b"\n")[-2][-20:], note.split(b"\n")[-2][-20:-4] + b"AAA=")
    assert read_policy(policy(tmp_path, 1, "bank", "press")).cosigned(wrong) == ["bank.example"]
    twice = parse_policy(
        f"quorum 1\nwitness http://x {bundles.witness_vkey('bank')} {bundles.witness_vkey('bank')}", "x"
    )
    assert twice.cosigned(note) == ["bank.example"]


def test_an_auditor_can_ask_for_more_than_the_ledger_does(bundle: Written, tmp_path: Path) -> None:
    own = policy(tmp_path, 3, *NAMES)
    assert main([str(bundle.folder), "--witnesses", str(policy(tmp_path, 2, *NAMES))]) == 0
    assert main([str(bundle.folder), "--witnesses", str(own)]) == 1
    cosign(bundle, *NAMES)
    assert main([str(bundle.folder), "--witnesses", str(own)]) == 0


def test_an_auditors_own_witness_counts_though_the_bundle_does_not_name_it(tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "bundle", bundles.paid())
    own = str(policy(tmp_path, 1, "press"))
    assert main([str(bundle.folder), "--witnesses", own]) == 1
    cosign(bundle, "press")
    assert main([str(bundle.folder), "--witnesses", own]) == 0
    assert main([str(bundle.folder)]) == 1  # D5: without the policy it is nobody's line


def test_the_auditors_own_trust_says_how_many_and_a_bundle_that_asks_for_fewer_is_named(
    bundle: Written, tmp_path: Path
) -> None:
    own = tmp_path / "trust.json"
    own.write_bytes(bundles.as_bytes(bundles.trust(vkeys=VKEYS, witnesses=said("3"))))
    found = audit(bundle.folder, trust=own).findings
    assert {(finding.rule, finding.where) for finding in found} == {
        ("D14", "trust.json witnesses"),
        ("D20", "checkpoint"),
    }
    assert "is 2 of bank.example" in next(finding.why for finding in found if finding.rule == "D14")
    # Who says nothing of witnesses leaves that to the ledger, and is told what it asks for.
    own.write_bytes(bundles.as_bytes(bundles.trust(vkeys=VKEYS)))
    assert audit(bundle.folder, trust=own).findings == []


def test_the_watcher_who_is_about_to_sign_waits_for_no_witness(bundle: Written) -> None:
    bundle.sign_checkpoint(leave_out="watcher")
    bundle.sign_manifest()
    assert audit(bundle.folder, cosigned=False).findings == []


@pytest.mark.parametrize(
    "witnesses",
    [
        said("0"),
        said("4"),
        said(2),
        said("2", "bank.example"),
        said("1", []),
        said("1", ["stranger.example"]),
        said("1", [FULL[0], FULL[0]]),
        said("1", [bundles.ORIGIN]),
        {"names": FULL},
        [],
        None,
    ],
)
def test_a_quorum_that_cannot_be_is_refused(bundle: Written, tmp_path: Path, witnesses: object) -> None:
    trusted = bundles.as_bytes(bundles.trust(vkeys=VKEYS, witnesses=witnesses))
    bundle.write("trust.json", trusted)
    bundle.sign_manifest()
    assert ("D1", "trust.json witnesses") in {(f.rule, f.where) for f in audit(bundle.folder).findings}
    (tmp_path / "own").write_bytes(trusted)
    with pytest.raises(Unavailable, match="witnesses"):
        read_trust(tmp_path / "own")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quorum 1",
        "quorum 2\nwitness http://x VKEY",
        "quorum 0\nwitness http://x VKEY",
        "quorum 1\nquorum 1\nwitness http://x VKEY",
        "quorum one\nwitness http://x VKEY",
        "witness http://x VKEY",
        "quorum 1\nwitness http://x",
        "quorum 1\nwitness http://x noise",
        "quorum 1\nwitness http://x VKEY\nwitness http://y VKEY",
        "quorum 1\nwitness http://x VKEY OTHER",
        f"quorum 1\nwitness http://x {bundles.vkeys()[0]}",
        "quorum 1\nwatcher http://x VKEY",
    ],
)
def test_a_policy_that_is_none_is_refused_and_the_audit_says_that_it_could_not_check(
    bundle: Written, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written = text.replace("VKEY", bundles.witness_vkey("bank")).replace(
        "OTHER", bundles.witness_vkey("press")
    )
    path = tmp_path / "policy"
    path.write_text(written)
    assert main([str(bundle.folder), "--witnesses", str(path)]) == 2
    assert f"could not check: witnesses: {path} cannot be read" in capsys.readouterr().err


def test_writer_and_auditor_read_one_file_alike(tmp_path: Path) -> None:
    path = policy(tmp_path, 2, *NAMES)
    cosigners, needed = read_witnesses(path.read_text())
    quorum = read_policy(path)
    assert (quorum.needed, list(quorum.verifiers)) == (
        needed,
        [v for one in cosigners for v in one.verifiers],
    )
    with pytest.raises(Invalid):
        read_witnesses("quorum 2\n" + path.read_text())


def test_the_verdict_as_json_names_the_rule(bundle: Written, tmp_path: Path) -> None:
    cosign(bundle)
    main([str(bundle.folder), "--json", str(tmp_path / "verdict")])
    told = json.loads((tmp_path / "verdict").read_text())
    assert [finding["rule"] for finding in told["findings"]] == ["D20"]


def renamed(vkey: str, name: str) -> str:
    """The same key under another name."""
    return format_vkey(replace(parse_vkey(vkey), name=name))


def test_one_key_under_two_names_is_one_witness_and_the_logs_own_key_is_none(
    bundle: Written, tmp_path: Path
) -> None:
    again = renamed(bundles.witness_vkey("bank"), "stranger.example")
    ml_dsa = next(vkey for vkey in bundles.vkeys() if parse_vkey(vkey).key_type == ML_DSA_44)
    own = renamed(ml_dsa, "stranger.example")
    for vkey, needed in ((again, "bank.example and stranger.example have one key"), (own, "itself")):
        said_of_two = {"needed": "2", "names": ["bank.example", "stranger.example"]}
        trusted = bundles.trust(vkeys=[*VKEYS, vkey], witnesses=said_of_two)
        bundle.write("trust.json", bundles.as_bytes(trusted))
        bundle.sign_manifest()
        found = {f.where: f.why for f in audit(bundle.folder).findings if f.rule == "D1"}
        assert needed in found["trust.json witnesses"]
    text = f"quorum 2\nwitness http://x {bundles.witness_vkey('bank')}\nwitness http://y {again}"
    for read in (lambda: parse_policy(text, "policy"), lambda: read_witnesses(text)):
        with pytest.raises(Invalid, match="one witness, not two"):
            read()
