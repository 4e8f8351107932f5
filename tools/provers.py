"""The programs that look for faults in the contracts, in an environment of their own.

halmos and slither want other versions than the rest of this project. What they are is in
requirements-prove.lock, with the hash of each file; they live in var/prove-venv, which is made anew when
the lock changes.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-prove.lock"
HOME = ROOT / "var" / "prove-venv"
STAMP = HOME / "lock.sha256"
FORGE = ROOT / "node_modules" / "@foundry-rs" / "forge-linux-amd64" / "bin"


def ready() -> None:
    """Install what the lock names, if that is not what is there."""
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text(encoding="ascii") == wanted:
        return
    shutil.rmtree(HOME, ignore_errors=True)
    venv.create(HOME, with_pip=True)
    command: list[str | Path] = [HOME / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check",
                                 "--require-hashes", "--no-deps", "-r", LOCK]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"provers: not installed\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    STAMP.write_text(wanted, encoding="ascii")


def version(package: str) -> str:
    """The version that the lock names."""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{package}=="):
            return line.split("==")[1].split()[0]
    raise KeyError(package)


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of them with forge in its path, and with builds of its own."""
    ready()
    out = ROOT / "var" / name
    environment = {
        "PATH": f"{HOME / 'bin'}:{FORGE}:{ROOT / '.venv' / 'bin'}:/usr/bin:/bin",
        "HOME": str(ROOT / "var"),
        "FOUNDRY_OUT": str(out / "out"),
        "FOUNDRY_CACHE_PATH": str(out / "cache"),
    }
    return subprocess.run(
        [HOME / "bin" / name, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
