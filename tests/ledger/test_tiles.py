"""Where tiles and entry bundles stand, and what is in them (C2SP tlog-tiles)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import proof
from ledger.records import Invalid

VECTOR = json.loads(
    (Path(__file__).parents[1] / "vectors" / "public" / "embedded" / "tlog-tiles-paths.json").read_text()
)


def test_paths_are_those_of_the_specification() -> None:
    for row in VECTOR["paths"]:
        assert proof.tile_path(0, row["n"]) == f"tile/0/{row['encoded']}"
        assert proof.tile_path(proof.ENTRIES, row["n"]) == f"tile/entries/{row['encoded']}"
    assert proof.tile_path(2, 0, 1) == "tile/2/000.p/1"
    assert proof.tile_path(63, 1_000, 255) == "tile/63/x001/000.p/255"


def test_a_size_has_the_tiles_of_the_specification() -> None:
    for row in VECTOR["tiles_for_size"]:
        tiles = list(proof.tiles_for_size(row["size"]))
        for level in range(3):
            wanted = row.get(f"level{level}", {"full": 0, "partial": 0})
            full = [index for at, index, width in tiles if at == level and width == 256]
            partial = [(index, width) for at, index, width in tiles if at == level and width < 256]
            assert full == list(range(wanted["full"]))
            assert partial == ([(wanted["full"], wanted["partial"])] if wanted["partial"] else [])
        assert max(level for level, _, _ in tiles) <= 2
    assert list(proof.tiles_for_size(0)) == []


LEVELS = st.one_of(st.integers(0, 63), st.just(proof.ENTRIES))


@given(LEVELS, st.integers(0, 2**55 - 1), st.integers(1, 256))
def test_a_path_reads_back_as_its_tile(level: int | str, index: int, width: int) -> None:
    assert proof.parse_tile_path(proof.tile_path(level, index, width)) == (level, index, width)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/-01",
        "tile/0/x-01/000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/0/x01/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/01",
        "tile/0/000.p/-1",
        "tile/0/000.p/",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/../000",
        "tile/0/\u0660\u0660\u0660",
        "tile/0/\ud800",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/" + "x001/" * 3000 + "000",
    ],
)
def test_a_path_with_another_spelling_is_refused(path: str) -> None:
    with pytest.raises(Invalid) as refusal:
        proof.parse_tile_path(path)
    assert refusal.value.rule == "X22"


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=256))
def test_a_bundle_reads_back_as_its_entries(entries: list[bytes]) -> None:
    assert proof.decode_bundle(proof.encode_bundle(entries), len(entries)) == entries


def test_a_bundle_is_each_entry_after_its_length_in_two_bytes() -> None:
    assert proof.encode_bundle([b"", b"ab", b"x" * 258]) == b"\0\0" + b"\0\2ab" + b"\1\2" + b"x" * 258
    with pytest.raises(OverflowError):  # Our own bug: records have a few hundred bytes.
        proof.encode_bundle([b"x" * 65_536])


@pytest.mark.parametrize(
    ("bundle", "width"),
    [
        (b"", 1),
        (b"\0", 1),
        (b"\0\2a", 1),
        (b"\0\2ab", 2),
        (b"\0\2ab\0", 1),
        (b"\0\2ab\0", 2),
        (b"\0\2ab\0\0", 1),
    ],
)
def test_a_bundle_with_more_or_less_than_its_width_is_refused(bundle: bytes, width: int) -> None:
    with pytest.raises(Invalid) as refusal:
        proof.decode_bundle(bundle, width)
    assert refusal.value.rule == "X23"


def test_a_tile_has_32_bytes_for_each_hash() -> None:
    assert proof.decode_tile(b"a" * 32 + b"b" * 32, 2) == [b"a" * 32, b"b" * 32]
    for data, width in ((b"a" * 32, 2), (b"a" * 65, 2), (b"", 1)):
        with pytest.raises(Invalid) as refusal:
            proof.decode_tile(data, width)
        assert refusal.value.rule == "X23"
