"""Write contracts/erc7730, or compare it with what the records and the router say."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gateway.budget.descriptors import NOBODY, descriptors

FOLDER = Path(__file__).resolve().parent.parent / "contracts" / "erc7730"


def main() -> None:
    """Write, or compare with what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    asked = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    stale = []
    for name, content in descriptors(NOBODY).items():
        path, text = FOLDER / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not asked.check:
                path.write_text(text, encoding="utf-8")
    if asked.check and stale:
        sys.exit(f"descriptors: {', '.join(stale)} differ; run `python tools/build_descriptors.py`")
    print(f"descriptors: {len(stale)} {'differ' if asked.check else 'written'}")


if __name__ == "__main__":
    main()
