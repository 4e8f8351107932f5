"""The bundle's signed and named files: trust, manifest, checkpoint, anchors, documents (docs/bundle.md)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from ledger.audit.source import Folder, Source, Web, is_path
from ledger.audit.trust import NUMBER, Anchor, Trust, parse_anchors, parse_trust
from ledger.audit.verdict import Findings, Progress
from ledger.audit.witnesses import Quorum
from ledger.proof import (
    ED25519,
    ML_DSA_44,
    Checkpoint,
    Key,
    Verifier,
    check_checkpoint,
    format_vkey,
    open_note,
    parse_note,
)
from ledger.records import Invalid, Unavailable, reject

TITLE = "qazyna manifest v1"
NAMED = ("anchors.json", "checkpoint", "trust.json")
# How a publisher on a file system names a file that is not yet whole.
_TEMPORARY = re.compile(r"\..+\.new")
_DOCUMENT = re.compile(r"documents/([0-9a-f]{64})")
# A live log replaces its checkpoint and then its manifest: who reads in between reads again.
_ATTEMPTS = 4


@dataclass
class Bundle:
    """What of a bundle could be read."""

    source: Source
    trust: Trust | None = None
    checkpoint: Checkpoint | None = None
    anchors: list[Anchor] = field(default_factory=list)
    named: dict[str, bytes] = field(default_factory=dict)
    # Which trusted keys signed the checkpoint and the manifest.
    signed: set[Key] = field(default_factory=set)
    manifest_signed: set[Key] = field(default_factory=set)

    def documents(self) -> set[bytes]:
        """The hashes of the documents that the bundle has."""
        paths = set(self.named) | (self.source.paths or set())
        return {bytes.fromhex(match[1]) for path in paths if (match := _DOCUMENT.fullmatch(path))}

    def document(self, digest: bytes) -> bytes | None:
        """A document by its hash; None if it is not there or is another."""
        content = self.source.read(f"documents/{digest.hex()}")
        return content if content is not None and sha256(content).digest() == digest else None


# --- the files -----------------------------------------------------------------


def _check_lines(place: str, note: bytes, verifiers: Iterable[Verifier]) -> None:
    known = {verifier.key for verifier in verifiers}
    seen = set()
    for line, signature in enumerate(parse_note(note)[1], 1):
        if signature.key not in known or signature.key in seen:
            said = "stands twice" if signature.key in seen else "is not of a trusted key"
            reject("D5", f"{place}: signature line {line}", f"{signature.key[0]} {said}")
        seen.add(signature.key)


def check_manifest(note: bytes, trust: Trust) -> tuple[int, dict[str, bytes], set[Key]]:
    """The size and the files that the log's manifest names, and who signed it (D1, D5 to D7, X)."""
    text, signed = open_note(note, trust.verifiers)
    _check_lines("manifest", note, trust.verifiers)
    if not any(verifier.key in signed for verifier in trust.of_log(ED25519)):
        reject("D6", "manifest", f"no Ed25519 key of {trust.origin} signed it")
    head, lines = text.split("\n")[:3], text.split("\n")[3:-1]
    title, origin, size = head if len(head) == 3 else ("", "", "")
    if title != TITLE or not NUMBER.fullmatch(size):
        reject("D1", "manifest", f"begins with {title!r} and size {size[:40]!r}")
    if origin != trust.origin:
        reject("D7", "manifest", f"is of {origin}, trusted is {trust.origin}")
    named = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64}) (.+)", line)
        if match is None or not is_path(match[2]) or match[2] == "manifest" or match[2].startswith("tile/"):
            reject("D1", "manifest", f"{line[:120]!r} names no file")
        named[match[2]] = bytes.fromhex(match[1])
    if list(named) != sorted(named) or len(named) != len(lines):
        reject("D1", "manifest", "its lines are not sorted by path, each path once")
    for path in NAMED:
        if path not in named:
            reject("D2", "manifest", f"does not name {path}")
    return int(size), named, set(signed)


def _check_checkpoint(
    note: bytes, trust: Trust, policy: Quorum | None, *, cosigned: bool
) -> tuple[Checkpoint, set[Key]]:
    # Of two log keys of a type only the replay knows which is in force (D16); one of them signed.
    kinds = [trust.of_log(ED25519), trust.of_log(ML_DSA_44)]
    required = [keys[0] for keys in kinds if len(keys) == 1]
    witnesses = 1 if cosigned and trust.watchers() else 0
    checkpoint, times = check_checkpoint(note, trust.verifiers, required, witnesses=witnesses)
    for keys in kinds:
        if not any(verifier.key in times for verifier in keys):
            reject("X12", "checkpoint", f"none of {len(keys)} keys of type {keys[0].key_type} signed")
    _check_lines("checkpoint", note, [*trust.verifiers, *(() if policy is None else policy.verifiers)])
    if checkpoint.origin != trust.origin:
        reject("D7", "checkpoint", f"is of {checkpoint.origin}, trusted is {trust.origin}")
    return checkpoint, set(times)


def _read_signed(source: Source) -> dict[str, bytes]:
    """The manifest and the three files it always names, of one moment.

    That the manifest does name them is check_manifest's to say.
    """
    found: dict[str, bytes] = {}
    for attempt in range(_ATTEMPTS if isinstance(source, Web) else 1):
        if attempt:
            time.sleep(0.25 * attempt)
        found = {path: content for path in ("manifest", *NAMED) if (content := source.read(path)) is not None}
        manifest = found.get("manifest", b"").decode("latin-1")
        lines = [f"{sha256(found.get(path, b'')).hexdigest()} {path}\n" for path in NAMED]
        if not manifest or all(line in manifest for line in lines):
            break
    if not {"manifest", "checkpoint"} & set(found):
        raise Unavailable("bundle", f"{source.name} has neither a checkpoint nor a manifest")
    return found


def open_bundle(
    source: Source,
    own: Trust | None,
    findings: Findings,
    *,
    policy: Quorum | None = None,
    cosigned: bool = True,
) -> Bundle:
    """Read and check what is signed; own, policy: the trust and the witnesses that the auditor brought."""
    bundle = Bundle(source)
    found = _read_signed(source)
    for path in ("manifest", *NAMED):
        if path not in found:
            findings.add("D1", path, "is missing")
    try:
        theirs = parse_trust(found["trust.json"]) if "trust.json" in found else None
    except Invalid as broken:
        findings.take(broken, "" if broken.where.startswith("trust.json") else "trust.json")
        theirs = None
    if own is not None and theirs is not None:
        _compare(own, theirs, findings)
    trust = bundle.trust = own or theirs
    if trust is None:
        findings.say("without a readable trust.json no signature was checked")
        return bundle
    stated = None
    try:
        if "manifest" in found:
            stated, bundle.named, bundle.manifest_signed = check_manifest(found["manifest"], trust)
    except Invalid as broken:
        findings.take(broken, "" if broken.where.startswith("manifest") else "manifest")
    try:
        if "checkpoint" in found:
            bundle.checkpoint, bundle.signed = _check_checkpoint(
                found["checkpoint"], trust, policy, cosigned=cosigned
            )
    except Invalid as broken:
        findings.take(broken, "" if broken.where.startswith("checkpoint") else "checkpoint")
    if bundle.checkpoint and stated is not None and stated != bundle.checkpoint.size:
        findings.add("D7", "manifest", f"states size {stated}, the checkpoint {bundle.checkpoint.size}")
    try:
        bundle.anchors = parse_anchors(found["anchors.json"]) if "anchors.json" in found else []
    except Invalid as broken:
        findings.take(broken)
    if cosigned and "checkpoint" in found:
        quorums = [policy, *(each and each.quorum for each in (own, theirs))]
        _check_quorums(bundle, found["checkpoint"], [each for each in quorums if each], findings)
    return bundle


def _check_quorums(bundle: Bundle, note: bytes, quorums: list[Quorum], findings: Findings) -> None:
    """The checkpoint has the cosignatures that each policy asks for (D20).

    The bundle has no note of an older head; whether this one is anchored decides how much it weighs,
    since what a chain holds is for ever.
    """
    size = None if bundle.checkpoint is None else bundle.checkpoint.size
    anchored = any(anchor.size == size for anchor in bundle.anchors)
    for quorum in quorums:
        signed = quorum.cosigned(note)
        told = f"{len(signed)} of {len(quorum.names)} witnesses cosigned, {quorum.needed} are needed"
        if len(signed) >= quorum.needed:
            findings.say(f"{told} by {quorum.source}: {', '.join(signed)}")
            continue
        missing = ", ".join(name for name in quorum.names if name not in signed)
        why = f"{told} by {quorum.source}; missing: {missing}" + ("; it is anchored" if anchored else "")
        findings.add("D20", "checkpoint", why, severity="critical" if anchored else "high")


def _compare(own: Trust, theirs: Trust, findings: Findings) -> None:
    pairs = {
        "origin": (own.origin, theirs.origin),
        "ledger": (own.ledger.hex(), theirs.ledger.hex()),
        "chainId": (own.chain_id, theirs.chain_id),
        "vkeys": (sorted(map(format_vkey, own.verifiers)), sorted(map(format_vkey, theirs.verifiers))),
    }
    if own.quorum is not None:
        pairs["witnesses"] = (_told(own.quorum), _told(theirs.quorum))
    for name, address in own.contracts.items():
        pairs[f"contracts.{name}"] = (address.hex(), theirs.contracts.get(name, b"").hex())
    for name, (mine, yours) in pairs.items():
        if mine != yours:
            findings.add("D14", f"trust.json {name}", f"is {yours}, the auditor trusts {mine}")


def _told(quorum: Quorum | None) -> str:
    return "none" if quorum is None else f"{quorum.needed} of {', '.join(quorum.names)}"


def check_files(bundle: Bundle, findings: Findings, progress: Progress) -> None:
    """Each named file has its hash, each document its name, and nothing else is there (D2 to D4)."""
    source = bundle.source
    strange = source.strange if isinstance(source, Folder) else {}
    for path, what in sorted(strange.items()):
        findings.add("D2", path, f"is {what}")
    present = source.paths or set()
    paths = sorted(set(bundle.named) | {path for path in present if _DOCUMENT.fullmatch(path)})
    for done, path in enumerate(paths):
        progress("files", done, len(paths))
        digest, named = source.digest(path), bundle.named.get(path)
        match = _DOCUMENT.fullmatch(path)
        if digest is None:
            findings.add("D3", path, "is missing")
        elif match and digest.hex() != match[1]:
            findings.add("D4", path, f"has the SHA-256 {digest.hex()}")
        elif named is not None and digest != named:
            findings.add("D3", path, f"has the SHA-256 {digest.hex()}, the manifest names {named.hex()}")
    for path in sorted(present):
        covered = path in {"manifest", *NAMED} or path in bundle.named or _DOCUMENT.fullmatch(path)
        # A tile is judged by the tree, which knows whether it can exist.
        if not covered and not path.startswith("tile/"):
            left = _TEMPORARY.fullmatch(path.rpartition("/")[2])
            why = "was left by a write that did not end" if left else "neither manifest nor checkpoint has it"
            findings.add("D2", path, why)


def loose_documents(bundle: Bundle) -> set[bytes]:
    """Documents that are there and that no manifest names: a record must."""
    paths = (bundle.source.paths or set()) - set(bundle.named)
    return {bytes.fromhex(match[1]) for path in paths if (match := _DOCUMENT.fullmatch(path))}
