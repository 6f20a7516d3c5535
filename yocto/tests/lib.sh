# For the tests of the layer: one line for each check, and an end at the first that fails.
# shellcheck shell=bash
set -euo pipefail

layer=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../meta-limen" && pwd)
project=$(cd -- "$layer/../.." && pwd)
# shellcheck disable=SC2034 # for those who read this file
readonly layer project
passed=0

ok() {
    printf 'ok: %s\n' "$1"
    passed=$((passed + 1))
}

fail() {
    printf 'FAILED: %s\n' "$@" >&2
    exit 1
}

# equal NAME EXPECTED FOUND
equal() {
    [[ $2 == "$3" ]] || fail "$1" "expected: $2" "found:    $3"
    ok "$1"
}

# refused NAME TEXT COMMAND...: the command fails, and says TEXT.
refused() {
    local name=$1 text=$2 said code=0
    shift 2
    said=$("$@" 2>&1) || code=$?
    [[ $code != 0 && $said == *"$text"* ]] \
        || fail "$name" "expected a failure that says: $text" "found exit code $code and: $said"
    ok "$name"
}

counted() { printf '%s: %d checks passed\n' "$(basename -- "$0")" "$passed"; }
