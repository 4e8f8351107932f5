#!/usr/bin/env bash
# Finds a Python that is new enough and hands over to setup.py. Set PYTHON to choose one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
  # Asking the program itself: a name on the PATH may be an empty shell.
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    exec "$python" tools/setup.py "$@"
  fi
done
echo "setup: no Python 3.11 or newer found (tried: ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python})" >&2
exit 1
