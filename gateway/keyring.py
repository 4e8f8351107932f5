"""The keys of one process, from files or the environment: each process is given only those that it needs.

A key is 32 bytes in hex: in the environment as QAZYNA_KEY_<NAME>, or in a file of its name in the folder of
keys, which nobody but its owner may read. What is secret is never in an error, and never in a URL.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import coincurve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from eth_account import Account
from eth_account.signers.local import LocalAccount

from gateway.webhooks.store import Sealer
from ledger.publish import LogKeys
from ledger.records import Unavailable, reject

# gateway: signs quotes; relayer: pays gas and has no power; operator: anchors; log and ml_dsa: order the
# records; watcher and cosigner: a watcher in this process, better run elsewhere.
NAMES: Final = ("gateway", "relayer", "operator", "log", "ml_dsa", "watcher", "cosigner")

KEY_BYTES: Final = 32

# The first accounts of "test test ... junk", which every development node gives money to, by the SHA-256
# of their keys: whoever leaves one in place has no key at all (field failure 51).
KNOWN: Final = frozenset(
    hashlib.sha256(bytes.fromhex(key)).digest()
    for key in (
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
        "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
        "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
        "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
        "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
        "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
        "dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
        "2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
    )
)


@dataclass(frozen=True)
class Keyring:
    """Reads keys when they are asked for. is_strict: as production needs it."""

    folder: Path
    is_strict: bool
    environment: Mapping[str, str]

    @classmethod
    def open(cls, folder: Path, *, is_strict: bool) -> Keyring:
        """The keyring of this process."""
        return cls(folder, is_strict, os.environ)

    def has(self, name: str) -> bool:
        """Whether this process was given a key."""
        return self._variable(name) in self.environment or (self.folder / name).exists()

    def account(self, name: str) -> LocalAccount:
        """A key that signs transactions and quotes."""
        account: LocalAccount = Account.from_key(self._read(name))
        return account

    def log(self, origin: str) -> LogKeys:
        """The log's keys."""
        ed25519 = Ed25519PrivateKey.from_private_bytes(self._read("log"))
        return LogKeys(origin, ed25519, MLDSA44PrivateKey.from_seed_bytes(self._read("ml_dsa")))

    def shared(self, name: str) -> bytes:
        """A key that another party has too."""
        return self._read(name)

    def ed25519(self, name: str) -> str:
        """The public half of a key that signs notes, in hex."""
        private = Ed25519PrivateKey.from_private_bytes(self._read(name))
        return private.public_key().public_bytes_raw().hex()

    def cosigner(self) -> Ed25519PrivateKey:
        """A watcher's key for notes."""
        return Ed25519PrivateKey.from_private_bytes(self._read("cosigner"))

    def seat(self, name: str) -> coincurve.PrivateKey:
        """A seat's key for 32 bytes."""
        return coincurve.PrivateKey(self._read(name))

    def check(self) -> None:
        """Refuse, in production, keys that everybody knows and files that others may read."""
        for name in (*NAMES, *(path.name for path in sorted(self.folder.glob("vasp-*")))):
            if self.has(name):
                self._read(name)

    @staticmethod
    def _variable(name: str) -> str:
        return f"QAZYNA_KEY_{name.upper().replace('-', '_')}"

    def _read(self, name: str) -> bytes:
        variable, path = self._variable(name), self.folder / name
        text = self.environment.get(variable)
        if text is None:
            try:
                mode = stat.S_IMODE(path.stat().st_mode)
                text = path.read_text()
            except OSError as error:
                told = f"not in {variable}, and {path}: {error.strerror}"
                raise Unavailable("keys", f"the key {name} is not given: {told}") from None
            if self.is_strict and mode & 0o077:
                reject("keys", str(path), f"its mode is {mode:o}, production needs 600 or 400")
        try:
            key = bytes.fromhex(text.strip().removeprefix("0x"))
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            reject("keys", name, f"{len(key)} bytes of hex, a key has 32")
        if self.is_strict and (hashlib.sha256(key).digest() in KNOWN or len(set(key)) < 8):
            reject("keys", name, "everybody knows this key: it is a development node's, or no random number")
        return key


def make(folder: Path, names: Sequence[str]) -> None:
    """Make random keys in files of their names, mode 600; refused, before any is made, where one is there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in names:
        if (folder / name).exists() or names.count(name) > 1:
            reject("keys", str(folder / name), "is there already, and a key is never overwritten")
    for name in names:
        # Nobody can have read it before its mode was set, and two who make it at once do not share it.
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_hex(KEY_BYTES) + "\n")
            handle.flush()
            os.fsync(handle.fileno())


def sealer(secret: str) -> Sealer:
    """What seals webhook secrets, from the operator's secrets: the first seals, each of them opens."""
    texts = [part.strip() for part in secret.split(",")]
    digests = [hashlib.sha256(b"qazyna webhook sealer\0" + text.encode()).digest() for text in texts]
    return Sealer([urlsafe_b64encode(digest).decode() for digest in digests])
