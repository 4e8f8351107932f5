"""The tree, its signed checkpoints and its receipts: what makes a record part of the ledger.

A receipt is valid when a trusted log key signed its checkpoint, as many witnesses
cosigned it as the reader asks for, and its hashes lead from the record to that
checkpoint's root. What follows is those steps, each before the one that needs it.

Every text is read one way: parse, format again, compare. So nothing has two spellings.
Sources: RFC 6962 and RFC 9162 section 2.1; C2SP signed-note, tlog-checkpoint,
tlog-cosignature, tlog-proof, tlog-witness, tlog-tiles.

Pure: no clock, no I/O. Slow and obvious; ledger/tree.py is the fast twin.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from ledger.records import reject

RULES: Final[dict[str, str]] = {
    "X1": "What is read has at most 1,000,000 bytes, and a note at most 100 signature lines.",
    "X2": "A receipt or witness request is a heading, one hash a line, an empty line and a note.",
    "X3": "A note is UTF-8 text without control characters, an empty line and signature lines.",
    "X4": "A checkpoint is three lines: origin, size and a root of 32 bytes.",
    "X5": "A tree has fewer than 2^63 entries, and the root of the empty tree is SHA-256 of nothing.",
    "X6": "A name has 1 to 255 bytes, and no space, plus or control character.",
    "X7": "A verifier key is name+key id+base64 of a known type and its public key.",
    "X8": "No two trusted keys share both name and key id.",
    "X9": "Every signature of a trusted key verifies.",
    "X10": "At least one trusted key signed.",
    "X11": "A trusted key that bears the origin's name signed: the log itself.",
    "X12": "Every required key signed, and as many witnesses as asked for, counted by name.",
    "X13": "A proof has at most 63 hashes, and every hash has 32 bytes.",
    "X14": "An inclusion proof is for an index below the size.",
    "X15": "An inclusion proof is exactly as long as its index and size need.",
    "X16": "An inclusion proof leads to the root.",
    "X17": "A consistency proof is for one origin, from size 1 or more to a size that is not smaller.",
    "X18": "Between equal sizes the proof is empty and the roots are equal.",
    "X19": "A consistency proof is exactly as long as its two sizes need.",
    "X20": "A consistency proof leads to the old root.",
    "X21": "A consistency proof leads to the new root.",
    "X22": "A tile's path is the one spelling of a level, an index and a width that can exist.",
    "X23": "A tile has as many hashes, and a bundle as many entries, as its width says.",
}

MAX_SIZE: Final = 2**63 - 1
MAX_HASHES: Final = 63
MAX_BYTES: Final = 1_000_000
MAX_SIGNATURES: Final = 100

# --- Hashes (RFC 6962 section 2.1) -------------------------------------------------------------

EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry; the prefix keeps an entry from ever passing for a node."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into the one above them."""
    return sha256(b"\x01" + left + right).digest()


def split_of(size: int) -> int:
    """How many of these leaves go left: the largest power of two below their number."""
    return 1 << (size - 1).bit_length() - 1


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree over these leaf hashes, by its definition."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else EMPTY_ROOT
    split = split_of(len(leaves))
    return node_hash(root_of(leaves[:split]), root_of(leaves[split:]))


# --- Proofs (RFC 6962 sections 2.1.1 and 2.1.2; RFC 9162 sections 2.1.3.2 and 2.1.4.2) ---------


def inclusion_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """The hashes beside the way from one leaf up to the root, the leaf's side first."""
    assert 0 <= index < len(leaves)
    if len(leaves) == 1:
        return []
    split = split_of(len(leaves))
    if index < split:
        return [*inclusion_path(index, leaves[:split]), root_of(leaves[split:])]
    return [*inclusion_path(index - split, leaves[split:]), root_of(leaves[:split])]


def consistency_path(old_size: int, leaves: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """The hashes that show the tree of the first old_size leaves to be the start of this one."""
    assert 0 < old_size <= len(leaves)
    if old_size == len(leaves):
        # The verifier has the root of the whole old tree, but of a part of it (not whole) it does not.
        return [] if whole else [root_of(leaves)]
    split = split_of(len(leaves))
    if old_size <= split:
        return [*consistency_path(old_size, leaves[:split], whole=whole), root_of(leaves[split:])]
    return [*consistency_path(old_size - split, leaves[split:], whole=False), root_of(leaves[:split])]


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Refuse a leaf hash that is not at this index of the tree with this size and root (X13 to X16).

    A root from nowhere proves nothing: outsiders' proofs go through check_receipt,
    which takes size and root from a checkpoint that trusted keys signed.
    """
    where = "inclusion proof"
    _check_hashes(where, path, leaf, root)
    if not 0 <= index < size <= MAX_SIZE:
        reject("X14", where, f"index {index} in a tree of size {size}")
    value = leaf
    for from_left, sibling in _climb("X15", where, index, size - 1, path):
        value = node_hash(sibling, value) if from_left else node_hash(value, sibling)
    if value != root:
        reject("X16", where, f"the path leads to {value.hex()}, the root is {root.hex()}")


def check_consistency(old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> None:
    """Refuse a tree that does not begin with the old tree (X13, X17 to X21)."""
    where = "consistency proof"
    _check_hashes(where, path, old_root, root)
    if not 0 < old_size <= size <= MAX_SIZE:
        # Every tree begins with the empty one, so a proof from size 0 would prove nothing.
        reject("X17", where, f"from size {old_size} to size {size}")
    if old_size == size:
        if path or old_root != root:
            reject("X18", where, f"{len(path)} hashes, roots {old_root.hex()} and {root.hex()}")
        return
    # A size that is a power of two is one subtree: its root starts the proof and is not sent.
    hashes = [old_root, *path] if old_size & (old_size - 1) == 0 else list(path)
    if not hashes:
        reject("X19", where, f"0 hashes from size {old_size} to size {size}")
    node, last = old_size - 1, size - 1
    while node % 2 == 1:
        node, last = node >> 1, last >> 1
    old_value = value = hashes[0]
    for from_left, sibling in _climb("X19", where, node, last, hashes[1:]):
        old_value = node_hash(sibling, old_value) if from_left else old_value
        value = node_hash(sibling, value) if from_left else node_hash(value, sibling)
    if old_value != old_root:
        reject("X20", where, f"the path leads to {old_value.hex()}, the old root is {old_root.hex()}")
    if value != root:
        reject("X21", where, f"the path leads to {value.hex()}, the new root is {root.hex()}")


def _climb(
    rule: str, where: str, node: int, last: int, path: Sequence[bytes]
) -> Iterator[tuple[bool, bytes]]:
    """Give each hash and whether it stands on the left; refuse a path that misses the root."""
    for number, sibling in enumerate(path):
        if last == 0:
            reject(rule, where, f"{len(path)} hashes, {number} already lead to the root")
        from_left = node % 2 == 1 or node == last
        yield from_left, sibling
        # The last node of a level may have no sibling there: go up to where it has one. It is not 0
        # (it is odd, or it is `last`, which is not 0), so the loop finds a bit and ends.
        while from_left and node % 2 == 0:
            node, last = node >> 1, last >> 1
        node, last = node >> 1, last >> 1
    if last != 0:
        reject(rule, where, f"{len(path)} hashes end {last.bit_length()} levels below the root")


def _check_hashes(where: str, path: Sequence[bytes], *others: bytes) -> None:
    if len(path) > MAX_HASHES:
        reject("X13", where, f"{len(path)} hashes, at most {MAX_HASHES}")
    for value in (*path, *others):
        if len(value) != 32:
            reject("X13", where, f"a hash of {len(value)} bytes, not 32")


# --- Reading -----------------------------------------------------------------------------------

Text = TypeVar("Text", str, bytes)
Parsed = TypeVar("Parsed")


def _read(
    rule: str, where: str, given: Text, parse: Callable[[Text], Parsed], form: Callable[[Parsed], Text]
) -> Parsed:
    """Parse, format again, compare: whatever has another spelling is refused (X1 and the rule)."""
    if len(given) > MAX_BYTES:
        reject("X1", where, f"length {len(given)}, at most {MAX_BYTES}")
    try:
        parsed = parse(given)
        if form(parsed) != given:
            raise ValueError
    except (ValueError, IndexError):
        reject(rule, where, f"{given[:80]!r} is not it, or not its one spelling")
    return parsed


# No name has these: spaces of any kind, control characters, a plus, and the surrogates that Python's strings
# can hold and UTF-8 cannot.
_NO_NAME: Final = re.compile(r"[\s\x00-\x1f+\ud800-\udfff]")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")  # But for the end of a line.


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _check_name(where: str, name: str) -> None:
    length = len(name.encode("utf-8", "surrogatepass"))
    if not 1 <= length <= 255 or _NO_NAME.search(name):
        reject("X6", where, f"{name[:40]!r} with {length} bytes is not a name")


# --- Checkpoints (C2SP tlog-checkpoint) --------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """What a log signs: at this size the tree of this origin has this root."""

    origin: str
    size: int
    root: bytes


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """The text that is signed. No extension lines: ML-DSA signatures would not cover them."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{_base64(checkpoint.root)}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's text (X4 to X6)."""
    where = "checkpoint"
    checkpoint = _read("X4", where, text, _split_checkpoint, format_checkpoint)
    if len(checkpoint.root) != 32:
        reject("X4", where, f"a root of {len(checkpoint.root)} bytes, not 32")
    if not 0 <= checkpoint.size <= MAX_SIZE:
        reject("X5", where, f"size {checkpoint.size}, at most {MAX_SIZE}")
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        reject("X5", where, f"size 0 with root {checkpoint.root.hex()}, not {EMPTY_ROOT.hex()}")
    _check_name(where, checkpoint.origin)
    return checkpoint


def _split_checkpoint(text: str) -> Checkpoint:
    origin, size, root, _ = text.split("\n")
    return Checkpoint(origin, int(size), b64decode(root))


# --- Keys (C2SP signed-note) -------------------------------------------------------------------

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04  # Ed25519 with a time, for witnesses
ML_DSA_44: Final = 0x06  # with a time, for logs and witnesses
_PUBLIC_KEY_BYTES: Final = {ED25519: 32, COSIGNATURE: 32, ML_DSA_44: 1312}

Key = tuple[str, bytes]  # Name and key id: a name can have several keys, an id can be forged.


@dataclass(frozen=True)
class Verifier:
    """A public key that a reader trusts, under the name it signs with."""

    name: str
    key_type: int
    public_key: bytes

    @property
    def key(self) -> Key:
        """Name and key id, as they stand in a signature line."""
        preimage = self.name.encode() + b"\n" + bytes([self.key_type]) + self.public_key
        return self.name, sha256(preimage).digest()[:4]


Verifiers = Sequence[Verifier]


def format_vkey(verifier: Verifier) -> str:
    """Write a verifier key as name+key id+base64."""
    name, key_id = verifier.key
    return f"{name}+{key_id.hex()}+{_base64(bytes([verifier.key_type]) + verifier.public_key)}"


def parse_vkey(vkey: str) -> Verifier:
    """Read a verifier key (X6, X7)."""
    verifier = _read("X7", "verifier key", vkey, _split_vkey, format_vkey)
    _check_name("verifier key", verifier.name)
    if _PUBLIC_KEY_BYTES.get(verifier.key_type) != len(verifier.public_key):
        reject("X7", "verifier key", f"type {verifier.key_type} with {len(verifier.public_key)} bytes")
    return verifier


def _split_vkey(vkey: str) -> Verifier:
    name, _, encoded = vkey.split("+", 2)  # Only two: base64 has plus signs of its own.
    material = b64decode(encoded)
    return Verifier(name, material[0], material[1:])


# --- Notes (C2SP signed-note, tlog-cosignature) ------------------------------------------------


@dataclass(frozen=True)
class Signature:
    """One signature line: whose, and the bytes (after eight of time, where the type has one)."""

    key: Key
    value: bytes


Note = tuple[str, tuple[Signature, ...]]


def format_note(note: Note) -> bytes:
    """Write a text and its signature lines."""
    lines = [f"\u2014 {s.key[0]} {_base64(s.key[1] + s.value)}\n" for s in note[1]]
    return "".join([note[0], "\n", *lines]).encode()


def parse_note(note: bytes) -> Note:
    """Read a note's text and signature lines without believing either (X1, X3, X6)."""
    text, signatures = _read("X3", "note", note, _split_note, format_note)
    if not signatures or _CONTROL.search(text):
        reject("X3", "note", f"{len(signatures)} signature lines, or a control character in the text")
    if len(signatures) > MAX_SIGNATURES:
        reject("X1", "note", f"{len(signatures)} signature lines, at most {MAX_SIGNATURES}")
    for number, signature in enumerate(signatures, 1):
        _check_name(f"signature line {number}", signature.key[0])
        if not signature.value:
            reject("X3", f"signature line {number}", "0 bytes after the key id")
    return text, signatures


def _split_note(note: bytes) -> Note:
    # The last empty line separates: the text may have empty lines of its own.
    text, _, lines = note.decode().rpartition("\n\n")
    signatures = []
    for line in lines.split("\n")[:-1]:
        _, name, encoded = line.split(" ")
        data = b64decode(encoded)
        signatures.append(Signature((name, data[:4]), data[4:]))
    return text + "\n", tuple(signatures)


def _signed_message(verifier: Verifier, time_s: int, text: str) -> bytes:
    """The bytes that a key of this type signs to vouch for a text at a time."""
    if verifier.key_type == ED25519:
        return text.encode()
    if verifier.key_type == COSIGNATURE:
        return f"cosignature/v1\ntime {time_s}\n{text}".encode()
    checkpoint = parse_checkpoint(text)
    cosigner, origin = verifier.name.encode(), checkpoint.origin.encode()
    parts = (
        b"subtree/v1\n\x00",
        bytes([len(cosigner)]) + cosigner,
        time_s.to_bytes(8, "big"),
        bytes([len(origin)]) + origin,
        (0).to_bytes(8, "big") + checkpoint.size.to_bytes(8, "big"),
        checkpoint.root,
    )
    return b"".join(parts)


def sign(
    text: str, name: str, key_type: int, key: Ed25519PrivateKey | MLDSA44PrivateKey, time_s: int = 0
) -> Signature:
    """Sign a text under a name. ML-DSA-44 signs checkpoints only; Ed25519 (0x01) has no time."""
    assert 0 <= time_s <= MAX_SIZE
    assert (key_type == ML_DSA_44) == isinstance(key, MLDSA44PrivateKey)
    verifier = Verifier(name, key_type, key.public_key().public_bytes_raw())
    time = b"" if key_type == ED25519 else time_s.to_bytes(8, "big")
    return Signature(verifier.key, time + key.sign(_signed_message(verifier, time_s, text)))


def _check_signature(where: str, verifier: Verifier, value: bytes, text: str) -> int:
    """Refuse what this key did not sign (X9); return the time that it states, or 0."""
    time_bytes = 0 if verifier.key_type == ED25519 else 8
    time_s = int.from_bytes(value[:time_bytes], "big")
    if time_s > MAX_SIZE:
        reject("X9", where, f"time {time_s}, at most {MAX_SIZE}")
    key_class = MLDSA44PublicKey if verifier.key_type == ML_DSA_44 else Ed25519PublicKey
    message = _signed_message(verifier, time_s, text)
    try:
        key_class.from_public_bytes(verifier.public_key).verify(value[time_bytes:], message)
    except InvalidSignature:
        reject("X9", where, f"{len(value)} bytes that the key of {verifier.name} did not sign")
    return time_s


def open_note(note: bytes, verifiers: Verifiers) -> tuple[str, dict[Key, int]]:
    """Return the text and the trusted keys that signed it, each with its time or 0 (X1 to X10)."""
    text, signatures = parse_note(note)
    times: dict[Key, int] = {}
    for number, signature in enumerate(signatures, 1):
        where = f"signature line {number}"
        known = [verifier for verifier in verifiers if verifier.key == signature.key]
        if len(known) > 1:
            reject("X8", where, f"{len(known)} trusted keys, not 1, have this name and id")
        # Unknown keys say nothing, even under a known name or id. A second line of a known key is
        # checked like the first, and counts once.
        for verifier in known:
            times[verifier.key] = _check_signature(where, verifier, signature.value, text)
    if not times:
        reject("X10", "note", f"{len(signatures)} signatures, none by one of {len(verifiers)} trusted keys")
    return text, times


def check_checkpoint(
    note: bytes, verifiers: Verifiers, required: Verifiers = (), *, witnesses: int = 0
) -> tuple[Checkpoint, dict[Key, int]]:
    """Return the checkpoint that trusted keys signed, and these with their times (X1 to X12).

    One of them is the log's, by the origin's name. Each of `required` must have signed;
    `witnesses` is how many names besides the log's must have cosigned with a time.
    """
    checkpoint = parse_checkpoint(parse_note(note)[0])
    times = open_note(note, verifiers)[1]
    if not any(name == checkpoint.origin for name, _ in times):
        reject("X11", "checkpoint", f"{len(times)} trusted keys signed, none of {checkpoint.origin}")
    missing = [verifier.name for verifier in required if verifier.key not in times]
    if missing:
        reject("X12", "checkpoint", f"{len(missing)} of {len(required)} required keys missing: {missing}")
    cosigners = {v.name for v in verifiers if v.key in times and v.key_type != ED25519} - {checkpoint.origin}
    if len(cosigners) < witnesses:
        reject("X12", "checkpoint", f"{len(cosigners)} witnesses cosigned, {witnesses} asked for")
    return checkpoint, times


# --- Receipts (C2SP tlog-proof) and requests to witnesses (C2SP tlog-witness) ------------------


@dataclass(frozen=True)
class Receipt:
    """A record's place in the tree of a signed checkpoint. Nothing vouches for `extra`."""

    index: int
    path: tuple[bytes, ...]
    note: bytes
    extra: bytes = b""


def format_receipt(receipt: Receipt) -> bytes:
    """Write a receipt as a tlog-proof."""
    extra = f"extra {_base64(receipt.extra)}\n" if receipt.extra else ""
    return _join(f"c2sp.org/tlog-proof@v1\n{extra}index {receipt.index}", receipt.path, receipt.note)


def parse_receipt(receipt: bytes) -> Receipt:
    """Read a tlog-proof without believing it (X1, X2)."""
    return _read("X2", "receipt", receipt, _split_receipt, format_receipt)


def check_receipt(
    receipt: bytes, entry: bytes, verifiers: Verifiers, required: Verifiers = (), *, witnesses: int = 0
) -> Checkpoint:
    """Return the trusted checkpoint in whose tree this entry stands (X1 to X16)."""
    parsed = parse_receipt(receipt)
    checkpoint, _ = check_checkpoint(parsed.note, verifiers, required, witnesses=witnesses)
    check_inclusion(leaf_hash(entry), parsed.index, checkpoint.size, parsed.path, checkpoint.root)
    return checkpoint


def check_extension(old: Checkpoint, new: Checkpoint, path: Sequence[bytes]) -> None:
    """Refuse a trusted checkpoint that does not extend an older trusted one (X13, X17 to X21)."""
    if old.origin != new.origin:
        reject("X17", "checkpoint", f"origin {new.origin}, not {old.origin}")
    if old.size > 0 or path:  # Every tree extends the empty one, whose root X5 fixes.
        check_consistency(old.size, old.root, new.size, new.root, path)


def format_add_checkpoint(request: tuple[int, Sequence[bytes], bytes]) -> bytes:
    """Ask a witness: cosign this note, whose tree extends the old size that you know by this path."""
    return _join(f"old {request[0]}", request[1], request[2])


def parse_add_checkpoint(request: bytes) -> tuple[int, Sequence[bytes], bytes]:
    """Read a request's old size, consistency path and note without believing it (X1, X2)."""
    return _read("X2", "request", request, _split_add_checkpoint, format_add_checkpoint)


def add_signatures(note: bytes, answer: bytes, verifiers: Verifiers) -> bytes:
    """Add the lines of a witness's answer that trusted keys signed, and no other (X1 to X10)."""
    text, signatures = parse_note(note)
    answered = parse_note(text.encode() + b"\n" + answer)[1]
    times = open_note(format_note((text, answered)), verifiers)[1]
    trusted = [signature for signature in answered if signature.key in times]
    return format_note((text, tuple(dict.fromkeys([*signatures, *trusted]))))


def _join(heading: str, path: Sequence[bytes], note: bytes) -> bytes:
    return "\n".join([heading, *map(_base64, path), "\n"]).encode() + note


def _split_receipt(receipt: bytes) -> Receipt:
    head, _, note = receipt.partition(b"\n\n")
    _, *lines = head.decode().split("\n")
    extra = b64decode(lines.pop(0)[6:]) if lines[0].startswith("extra ") else b""
    return Receipt(int(lines[0][6:]), tuple(map(b64decode, lines[1:])), note, extra)


def _split_add_checkpoint(request: bytes) -> tuple[int, Sequence[bytes], bytes]:
    head, _, note = request.partition(b"\n\n")
    old, *lines = head.decode().split("\n")
    return abs(int(old[4:])), list(map(b64decode, lines)), note  # A minus sign does not come back.


# --- Tiles (C2SP tlog-tiles) -------------------------------------------------------------------

TILE_WIDTH: Final = 256
ENTRIES: Final = "entries"
Tile = tuple[int | Literal["entries"], int, int]  # level, index, width


def tile_path(level: int | Literal["entries"], index: int, width: int = TILE_WIDTH) -> str:
    """Where a tile of hashes, or a bundle of entries, stands below the log's address."""
    *high, low = (group.zfill(3) for group in f"{index:,}".split(","))
    number = "/".join([*(f"x{group}" for group in high), low])
    return f"tile/{level}/{number}" + (f".p/{width}" if width < TILE_WIDTH else "")


def parse_tile_path(path: str) -> Tile:
    """Read a tile's level, index and width (X22)."""
    level, index, width = _read("X22", "tile path", path, _split_tile_path, lambda tile: tile_path(*tile))
    if not (level == ENTRIES or 0 <= level <= 63) or not (0 <= index <= MAX_SIZE >> 8 and 1 <= width <= 256):
        reject("X22", "tile path", f"level {level}, index {index}, width {width} cannot exist")
    return level, index, width


def _split_tile_path(path: str) -> Tile:
    _, level, number = path.split("/", 2)
    digits, _, width = number.partition(".p/")
    index = int("".join(group.removeprefix("x") for group in digits.split("/")))
    return ENTRIES if level == ENTRIES else int(level), index, int(width or TILE_WIDTH)


def tiles_for_size(size: int) -> Iterator[tuple[int, int, int]]:
    """Every tile (level, index, width) of a tree; its entry bundles are as the tiles of level 0."""
    for level in range(8):
        full, rest = divmod(size >> 8 * level, TILE_WIDTH)
        yield from ((level, index, TILE_WIDTH) for index in range(full))
        if rest:
            yield level, full, rest


def decode_tile(tile: bytes, width: int) -> list[bytes]:
    """Read the hashes of a tile of this width (X23)."""
    if len(tile) != 32 * width:
        reject("X23", "tile", f"{len(tile)} bytes, not {32 * width} for {width} hashes")
    return [tile[at : at + 32] for at in range(0, len(tile), 32)]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Write entries one after another, each after its length in two bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(bundle: bytes, width: int) -> list[bytes]:
    """Read the entries of a bundle of this width (X23)."""
    entries, at = [], 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        entries.append(bundle[at + 2 : end])
        at = end
    if at != len(bundle) or len(entries) != width:
        reject("X23", "entry bundle", f"{len(entries)} entries in {at} bytes, not {width} in {len(bundle)}")
    return entries
