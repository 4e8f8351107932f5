"""Prove with halmos, in an environment of its own, what contracts/test/*.symbolic.t.sol states of every call.

halmos wants other versions than the rest of this project, so it lives in var/halmos-venv.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "var" / "halmos-venv"
VERSION = "0.3.3"
# As many proofs as there are functions called check_; a run that finds fewer has proved less than is claimed.
PROOFS = 1


def ready() -> Path:
    """The halmos of this version, installed if it is not there."""
    program = HOME / "bin" / "halmos"
    if not program.exists():
        venv.create(HOME, with_pip=True)
        command: list[str | Path] = [HOME / "bin" / "pip", "install", "--quiet", f"halmos=={VERSION}"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return program


def main() -> None:
    """Run every proof; anything but as many passes as proofs fails."""
    forge = ROOT / "node_modules" / "@foundry-rs" / "forge-linux-amd64" / "bin"
    command: list[str | Path] = [ready(), "--root", ROOT, "--forge-build-out", "var/halmos/out", "--contract",
                                 "TreasurySymbolic", "--solver-timeout-assertion", "60000"]  # fmt: skip
    environment = {
        "PATH": f"{HOME / 'bin'}:{forge}:/usr/bin:/bin",
        "HOME": str(ROOT / "var"),
        # halmos wants syntax trees, which the builds of others leave out.
        "FOUNDRY_OUT": "var/halmos/out",
        "FOUNDRY_CACHE_PATH": "var/halmos/cache",
    }
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    passed = done.stdout.count("[PASS]")
    if done.returncode != 0 or passed != PROOFS:
        sys.exit(f"symbolic: {passed} of {PROOFS} proved\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    print(f"symbolic: {passed} proved with halmos {VERSION}")


if __name__ == "__main__":
    main()
