"""What we publish is accepted by Go's signed notes and tiles, which share no code with ours."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from ledger import proof, tree
from tests.servers import GoModule

VERIFY = (Path(__file__).parent / "go" / "verify.go").read_text(encoding="utf-8")
ORIGIN = "log.alatau.example/qazyna"
LOG_KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
QUANTUM_KEY = MLDSA44PrivateKey.from_seed_bytes(b"\x06" * 32)
VKEY = proof.format_vkey(proof.Verifier(ORIGIN, proof.ED25519, LOG_KEY.public_key().public_bytes_raw()))
# Three levels of tiles; the last tile of each is partial.
SIZE = 70_003


class RefusedByGo(Exception):
    """Go read the bundle and found it wrong; the text says where."""


def verify_with_go(bundle: Path, vkey: str, go_module: GoModule) -> str:
    """Return Go's last word on a bundle (a folder or its path), or raise RefusedByGo."""
    answer = go_module.run(VERIFY, str(bundle), vkey)
    if answer.returncode != 0:
        raise RefusedByGo(answer.stderr.decode().strip())
    return answer.stdout.decode().strip()


def write(bundle: Path, path: str, data: bytes) -> None:
    (bundle / path).parent.mkdir(parents=True, exist_ok=True)
    (bundle / path).write_bytes(data)


def publish(bundle: Path, entries: list[bytes], sizes: list[int]) -> None:
    """Publish a log as it grows: at each size its tiles, entries and checkpoint."""
    grown, old_size = tree.Tree(), 0

    def read_tile(level: int, index: int, width: int) -> bytes:
        return (bundle / proof.tile_path(level, index, width)).read_bytes()

    for size in sizes:
        leaves = [proof.leaf_hash(entry) for entry in entries[old_size:size]]
        for level, index, width, data in tree.tiles_to_write(old_size, leaves, read_tile):
            write(bundle, proof.tile_path(level, index, width), data)
            if level == 0:
                chosen = entries[256 * index : 256 * index + width]
                write(bundle, proof.tile_path(proof.ENTRIES, index, width), proof.encode_bundle(chosen))
        grown.extend(leaves)
        old_size = size
        text = proof.format_checkpoint(proof.Checkpoint(ORIGIN, size, grown.root()))
        signatures = (
            proof.sign(text, ORIGIN, proof.ML_DSA_44, QUANTUM_KEY, 1_700_000_000),
            proof.sign(text, ORIGIN, proof.ED25519, LOG_KEY),
        )
        write(bundle, "checkpoint", proof.format_note((text, signatures)))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random entries, some of them empty, published at three sizes."""
    bundle = tmp_path_factory.mktemp("published")
    source = random.Random(20_501)
    entries = [source.randbytes(source.choice((0, 1, 31, 32, 64, 65, 416))) for _ in range(SIZE)]
    publish(bundle, entries, [1, 300, SIZE])
    return bundle


@pytest.fixture
def changed(published: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the bundle that a test may spoil."""
    copy = tmp_path / "changed"
    shutil.copytree(published, copy)
    yield copy
    shutil.rmtree(copy)


def test_go_accepts_our_checkpoint_tiles_and_entries(published: Path, go_module: GoModule) -> None:
    assert verify_with_go(published, VKEY, go_module) == f"valid: {SIZE} records"


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/000",
        "tile/0/273.p/115",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
        "tile/entries/100",
        "tile/entries/273.p/115",
        "checkpoint",
    ],
)
def test_go_refuses_the_bundle_after_one_changed_bit(changed: Path, go_module: GoModule, path: str) -> None:
    data = bytearray((changed / path).read_bytes())
    # In the checkpoint: within its root, since Go passes over the line whose key it does not know.
    at = len(ORIGIN) + 10 if path == "checkpoint" else len(data) // 2
    data[at] ^= 1
    (changed / path).write_bytes(data)
    with pytest.raises(RefusedByGo):
        verify_with_go(changed, VKEY, go_module)


def test_go_refuses_a_key_that_did_not_sign(published: Path, go_module: GoModule) -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32).public_key().public_bytes_raw()
    vkey = proof.format_vkey(proof.Verifier(ORIGIN, proof.ED25519, other))
    with pytest.raises(RefusedByGo, match="no verifiable signatures"):
        verify_with_go(published, vkey, go_module)
