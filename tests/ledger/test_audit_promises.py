"""A promise to a payer, held against the ledger by anybody (LEAKS 20)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.audit import Wanted, audit
from ledger.audit.__main__ import main
from ledger.promise import DEADLINE_S, Promise, sign_promise
from ledger.proof import ED25519, format_note, parse_note, sign
from ledger.publish import LogKeys
from ledger.records import Invalid, Unavailable
from ledger.rules import DAY
from tests import bundles, city

KEYS = LogKeys(bundles.ORIGIN, bundles.ED, bundles.ML)


def paid(log: city.Log, mark: str, amount: int = 7_000) -> Promise:
    """The promise of a fee in tenge that was just paid; it is not recorded yet."""
    fee = city.revenue(log, amount, "kzt", mark)
    return Promise(f"inv_{mark}", fee.id, fee.asset, fee.amount, log.now + DEADLINE_S)


def record(log: city.Log, promise: Promise, **changed: object) -> None:
    log.add(replace(city.revenue(log, promise.amount, "kzt", promise.invoice[4:]), **changed))


def heard(folder: Path, log: city.Log, *promises: Promise) -> tuple[list[str], list[str]]:
    """What the auditor finds, and says, when it is shown these promises."""
    place = bundles.write(folder / "bundle", log).folder
    paths = []
    for number, promise in enumerate(promises):
        path = folder / f"promise-{number}.txt"
        path.write_bytes(sign_promise(KEYS, promise))
        paths.append(path)
    verdict = audit(str(place), wanted=Wanted(promises=paths))
    found = [str(one) for one in verdict.findings if one.rule == "D19"]
    return found, [one for one in verdict.said if one.startswith("promise ")]


def test_leak_20_a_receipt_that_was_never_recorded_is_named_by_the_payers_promise(tmp_path: Path) -> None:
    log = city.registered()
    promise, other = paid(log, "mine"), paid(log, "other")
    record(log, other)
    log.wait(DEADLINE_S + 1)
    log.add(city.revenue(log, 1, "kzt", "later"))  # the city goes on without it
    found, said = heard(tmp_path, log, promise, other)
    assert len(found) == 1
    assert "7000 base units of KZT for invoice inv_mine was promised" in found[0]
    # A minute after the last record is its anchor, the latest time that is known.
    assert f"at {log.now + 60} no record has transfer 0x{promise.transfer_id.hex()}" in found[0]
    assert len(said) == 1
    assert "kept" in said[0]


def test_leak_20_a_promise_that_is_not_due_is_no_finding_and_one_a_second_late_is(tmp_path: Path) -> None:
    log = city.registered()
    promise = paid(log, "mine")
    for wait, named in ((DEADLINE_S, 0), (1, 1)):
        log.wait(wait)
        log.add(city.revenue(log, 1, "kzt", f"later {wait}"))
        (tmp_path / str(wait)).mkdir()
        # The bundle's last anchor is a minute after the last record: what is known of the time.
        found, said = heard(tmp_path / str(wait), log, replace(promise, deadline=promise.deadline + 60))
        assert (len(found), len(said)) == (named, 1 - named)
    log.wait(DAY)
    record(log, promise)
    (tmp_path / "late").mkdir()
    found, _ = heard(tmp_path / "late", log, promise)
    assert f"is of {log.now}" in found[0]


@pytest.mark.parametrize("change", [{"amount": 6_999}, {"amount": 7_001}])
def test_leak_20_less_than_was_promised_is_named(tmp_path: Path, change: dict[str, int]) -> None:
    log = city.registered()
    promise = paid(log, "mine")
    record(log, promise, **change)
    found, _ = heard(tmp_path, log, promise)
    assert f"record {len(log.records) - 1} has {change['amount']} of KZT" in found[0]


def test_a_promise_that_the_log_did_not_sign_is_no_verdict_about_the_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = city.registered()
    place = bundles.write(tmp_path / "bundle", log).folder
    good = sign_promise(KEYS, paid(log, "mine"))
    text = parse_note(good)[0]
    thief = LogKeys(bundles.ORIGIN, Ed25519PrivateKey.generate(), bundles.ML)
    another = text.replace("qazyna promise v1", "qazyna promise v2")
    wrong = {
        "changed": good.replace(b"7000", b"9000"),
        "another key": sign_promise(thief, paid(log, "mine")),
        "another form": format_note((another, (sign(another, KEYS.origin, ED25519, KEYS.ed25519),))),
        "a checkpoint": KEYS.sign_checkpoint(3, bytes(32), log.now),
        "noise": b"\xff\x00",
        "nothing": b"",
    }
    for name, content in wrong.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(Unavailable, match="promise"):
            audit(str(place), wanted=Wanted(promises=[path]))
        assert main([str(place), "--promise", str(path)]) == 2
        assert "could not check: promise" in capsys.readouterr().err
    with pytest.raises(Unavailable, match="promise"):
        audit(str(place), wanted=Wanted(promises=[tmp_path / "absent"]))


def test_the_command_names_an_omission_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = bundles.paid()
    promise = replace(paid(log, "mine"), deadline=log.now)
    place = bundles.write(tmp_path / "bundle", log).folder
    path = tmp_path / "promise.txt"
    path.write_bytes(sign_promise(KEYS, promise))
    assert main([str(place)]) == 0
    capsys.readouterr()
    assert main([str(place), "--promise", str(path)]) == 1
    assert f"D19 at promise {path}: " in capsys.readouterr().out


def test_a_promise_is_the_same_bytes_each_time_and_never_a_checkpoint_or_a_manifest() -> None:
    promise = Promise("inv_1", city.digest("id"), "KZT", 700, 1_790_000_000)
    assert sign_promise(KEYS, promise) == sign_promise(KEYS, promise)
    assert parse_note(sign_promise(KEYS, promise))[0] == (
        "qazyna promise v1\nalatau.qazyna/ledger\ninvoice inv_1\n"
        f"transfer {city.digest('id').hex()}\nasset KZT\namount 700\ndeadline 1790000000\n"
    )
    for wrong in (
        {"invoice": "two words"},
        {"invoice": "a\nb"},
        {"asset": ""},
        {"amount": 0},
        {"amount": 1 << 128},
    ):
        with pytest.raises(Invalid, match="promise"):
            sign_promise(KEYS, replace(promise, **wrong))
