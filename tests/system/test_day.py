"""The city's day on each database and chain, and what an outsider can do with what it leaves."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.demo import START_S, run_day
from gateway.embedded import Clock, EmbeddedCity, Plan
from ledger.audit import audit
from ledger.proof import parse_vkey
from tests import servers
from tests.system.test_other_implementation import RefusedByGo, verify_with_go

ALLOWED = """
import ipaddress, socket, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
        if not ipaddress.ip_address(host).is_loopback:
            raise SystemExit(f"a connection to {host}")
    if event == "socket.getaddrinfo" and arguments[0] not in ("127.0.0.1", "localhost", None, ""):
        raise SystemExit(f"a look-up of {arguments[0]!r}")
sys.addaudithook(hook)
"""


@pytest.fixture(scope="session")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a day on the embedded default, run as a user runs it, that may reach loopback only."""
    folder = tmp_path_factory.mktemp("day") / "city"
    program = ALLOWED + f"from gateway.cli import app; app(['demo', '--folder', {str(folder)!r}])"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=servers.ROOT, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


def test_the_day_leaves_a_bundle_that_anybody_finds_valid(day: Path) -> None:
    verdict = audit(str(day / "bundle"))
    assert verdict.is_valid, verdict.findings


def test_the_day_runs_on_postgresql(postgres_database: str, tmp_path: Path) -> None:
    said: list[str] = []
    run_day(tmp_path / "city", said.append, database=postgres_database)
    assert any(line.startswith("  valid: ") for line in said)


def test_the_day_runs_on_anvil(tmp_path: Path) -> None:
    said: list[str] = []
    with servers.anvil("--timestamp", str(START_S)) as node:
        run_day(tmp_path / "city", said.append, rpc_url=node.url)
    assert any(line.startswith("  valid: ") for line in said)


def test_60_random_changes_of_a_byte_are_each_refused(day: Path, tmp_path: Path) -> None:
    chance = random.Random(20260708)
    files = sorted(path for path in (day / "bundle").rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    copy = tmp_path / "copy"
    shutil.copytree(day / "bundle", copy)
    for number in range(60):
        # Half of them spread over the bytes, half over the files, so that small files are met too.
        original = chance.choices(files, sizes)[0] if number % 2 else chance.choice(files)
        changed = copy / original.relative_to(day / "bundle")
        content = bytearray(original.read_bytes())
        at, mask = chance.randrange(len(content)), chance.randrange(1, 256)
        content[at] ^= mask
        changed.write_bytes(content)
        verdict = audit(str(copy))
        assert not verdict.is_valid, f"byte {at} of {changed.relative_to(copy)} ^ {mask}"
        changed.write_bytes(original.read_bytes())
    assert audit(str(copy)).is_valid


def test_another_implementation_accepts_the_checkpoint_and_the_tiles(
    day: Path, tmp_path: Path, go_module: servers.GoModule
) -> None:
    trust = json.loads((day / "bundle" / "trust.json").read_text())
    vkey = next(vkey for vkey in trust["vkeys"] if parse_vkey(vkey).key_type == 1)
    verify_with_go(day / "bundle", vkey, go_module)
    copy = tmp_path / "copy"
    shutil.copytree(day / "bundle", copy)
    tile = next(path for path in sorted((copy / "tile" / "0").rglob("*")) if path.is_file())
    tile.write_bytes(bytes([tile.read_bytes()[0] ^ 1]) + tile.read_bytes()[1:])
    with pytest.raises(RefusedByGo):
        verify_with_go(copy, vkey, go_module)


def test_nothing_public_holds_a_secret_a_path_or_a_person(day: Path) -> None:
    secrets = list(json.loads((day / "keys.json").read_text()).values())
    for path in (day / "bundle").rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes()
        for secret in secrets:
            assert bytes.fromhex(secret) not in content, path
            assert secret.encode() not in content, path
        assert str(day).encode() not in content, path
        assert not re.search(rb"/home/|/root/|/work/|/tmp/", content), path
        assert b"Resident" not in content, path
        assert b"KZ86125KZT5004100100" not in content, path


def test_the_keys_of_a_demo_city_are_readable_by_their_owner_alone(day: Path) -> None:
    assert (day / "keys.json").stat().st_mode & 0o077 == 0


def test_a_city_goes_on_after_a_restart_with_the_same_chain_and_ledger(day: Path, tmp_path: Path) -> None:
    folder = tmp_path / "city"
    shutil.copytree(day, folder)
    before = audit(str(folder / "bundle"))
    with EmbeddedCity(folder, Clock.load(folder)) as city:
        city.start(Plan.load(city.plan_path))
        head = city.city.head()
        assert head.size == before.records
        city.worker.round()
        believed = city.rate_desk.current("USDT")
        assert believed.numerator > 0
        # A rate may have been due meanwhile, and is in it.
        assert city.worker.publish() in {before.records, before.records + 1}
    assert audit(str(folder / "bundle")).is_valid


def test_a_receipt_is_checked_offline_and_a_changed_one_is_refused(day: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway.cli", "show", "--trust", str(day / "bundle" / "trust.json")]
    good = subprocess.run([*command, str(day / "receipt.txt")], capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    assert "valid: record" in good.stdout
    assert "108125" in good.stdout
    content = (day / "receipt.txt").read_text()
    bad = tmp_path / "bad.txt"
    bad.write_text(content.replace("index ", "index 1", 1))
    refused = subprocess.run([*command, str(bad)], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "refused: X" in refused.stderr
    assert "Traceback" not in refused.stderr
