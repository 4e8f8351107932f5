"""Write contracts/artifacts from the sources, or check that they are what the sources give.

An artifact holds what Python needs to deploy and call a contract. It depends on the sources
and foundry.toml alone, so that anybody who rebuilds it gets the same bytes.
"""

from __future__ import annotations

import argparse
import difflib
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = "contracts/src"
OUT = Path("var") / "forge" / "artifacts"
# The test token is deployed by the demo and the benchmarks as well.
TEST_CONTRACTS = {("contracts/test/TestToken.sol", "TestToken")}
MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def forge(root: Path) -> Path:
    """The forge that package-lock.json put under node_modules."""
    name = f"forge-{platform.system().lower()}-{MACHINES.get(platform.machine(), platform.machine())}"
    path = root / "node_modules" / "@foundry-rs" / name / "bin" / "forge"
    if not path.exists():
        sys.exit(f"artifacts: no forge at {path.relative_to(root)}; run `make setup-test`")
    return path


def build(root: Path) -> None:
    """Compile anew, without the tests: neither an earlier build nor a test may change an artifact."""
    command = [forge(root), "build", "--root", root, "--force", "--skip", "*.t.sol", "--quiet"]
    # A folder of its own leaves the cache of `forge test` alone.
    command += ["--out", root / OUT, "--cache-path", root / OUT.with_name("artifacts-cache")]
    done = subprocess.run(
        command, cwd=root, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"artifacts: forge build failed\n{done.stdout}{done.stderr}")


def artifact(name: str, built: dict[str, Any]) -> str:
    """The text of one artifact, the same for every machine and every run."""
    metadata = built["metadata"]
    settings = {key: metadata["settings"][key] for key in ("evmVersion", "optimizer", "metadata", "viaIR")
                if key in metadata["settings"]}  # fmt: skip
    deployed = built["deployedBytecode"]
    content = {
        "contractName": name,
        "abi": built["abi"],
        "bytecode": built["bytecode"]["object"],
        "deployedBytecode": deployed["object"],
        "immutableReferences": by_order(deployed.get("immutableReferences", {})),
        "solc": metadata["compiler"]["version"],
        "settings": settings,
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def by_order(references: dict[str, Any]) -> list[Any]:
    """Where each immutable stands in the code, in the order of the source.

    The compiler keys them by syntax tree id, which changes with unrelated files.
    """
    return [references[key] for key in sorted(references, key=int)]


def artifacts(root: Path) -> dict[str, str]:
    """File name and text of each artifact: every contract that has code in contracts/src."""
    texts: dict[str, str] = {}
    for path in sorted((root / OUT).glob("*.sol/*.json")):
        built = json.loads(path.read_text(encoding="utf-8"))
        # Abstract contracts have an interface but no code; Python wants both kinds' ABI.
        ((source, name),) = built["metadata"]["settings"]["compilationTarget"].items()
        if source.startswith(f"{SOURCES}/") or (source, name) in TEST_CONTRACTS:
            if f"{name}.json" in texts:
                sys.exit(f"artifacts: two contracts are called {name}; one is in {source}")
            texts[f"{name}.json"] = artifact(name, built)
    return texts


def differences(wanted: dict[str, str], folder: Path) -> list[str]:
    """One line for each file that is not, byte for byte, what the sources give."""
    present = {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}
    lines = [f"{name}: no contract of the sources is called so" for name in present.keys() - wanted.keys()]
    lines += [f"{name}: missing" for name in wanted.keys() - present.keys()]
    for name in wanted.keys() & present.keys():
        if present[name] != wanted[name].encode():
            old, new = present[name].decode(errors="replace").splitlines(), wanted[name].splitlines()
            changed = [line[:100] for line in difflib.unified_diff(old, new, lineterm="", n=0)][3:7]
            lines.append(f"{name}: differs, first {' | '.join(changed) or 'in line endings'}")
    return sorted(lines)


def main() -> None:
    """Rebuild, then write or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed files, write nothing"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    asked = parser.parse_args()
    root = asked.root.resolve()
    folder = root / "contracts" / "artifacts"
    build(root)
    wanted = artifacts(root)
    found = differences(wanted, folder)
    if asked.check:
        if found:
            sys.exit("artifacts: not what the sources give; run `make contracts`\n  " + "\n  ".join(found))
        print(f"artifacts: {len(wanted)} are what the sources give")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_bytes(text.encode())
    print(f"artifacts: {len(wanted)} written, {len(found)} changed")


if __name__ == "__main__":
    main()
