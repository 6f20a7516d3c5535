#!/usr/bin/env bash
# Builds every Rust test and runs them, two programs at a time: most of them wait for a broker, a browser's worth of
# sockets or a clock, and leave the processor to another. What each said is printed when it has ended.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."

cargo test --locked --workspace --no-run

logs=$(mktemp -d)
trap 'rm -rf -- "$logs"' EXIT
export logs

one() {
    # Arguments of cargo, in one word.
    local name=${1##* }
    local log="$logs/$name"
    # shellcheck disable=SC2086
    if cargo test --locked $1 >"$log" 2>&1; then
        cat "$log"
    else
        cat "$log"
        echo "$name" >>"$logs/failed"
    fi
}
export -f one

# Those that take longest first, so that none is left to run alone at the end.
slow='faults scene mqtt admin_jobs admin_subjects admin_events admin_upkeep daemon doctor'
# What xargs gives is expanded by the shell that it starts.
# shellcheck disable=SC2016
{
    echo '--workspace --lib --bins'
    for name in $slow; do echo "--test $name"; done
    for file in tests/*.rs; do
        name=$(basename "$file" .rs)
        [[ " $slow " == *" $name "* ]] || echo "--test $name"
    done
} | xargs -d '\n' -P 2 -I '{}' bash -c 'one "$1"' _ '{}'
cargo test --locked --workspace --doc

if [[ -e "$logs/failed" ]]; then
    echo "FAILED: $(sort "$logs/failed" | tr '\n' ' ')" >&2
    exit 1
fi
