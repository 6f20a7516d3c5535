#!/usr/bin/env bash
# The tests of the admin page in a real browser, one file after the other: each starts a device of its
# own. `tests/browser/run.sh live` runs those whose name holds "live".
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"

ran=0
for file in *"${1:-}"*.test.mjs; do
    [[ -e $file ]] || continue
    node --test --test-reporter=spec "$file"
    ran=$((ran + 1))
done
[[ $ran -gt 0 ]] || { echo "browser: no test file has \"${1:-}\" in its name" >&2; exit 1; }
echo "browser: $ran files passed"
