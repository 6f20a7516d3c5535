#!/usr/bin/env bash
# Builds the tests and runs them: those in Rust, those of the admin page in a real browser, those of every route of
# the API. Two at a time: most of them wait for a broker, a browser or a clock, and leave the processor to another.
# What each said is printed when it has ended; a summary stands at the end.
#
#   tests/run.sh            all
#   tests/run.sh rust       those in Rust alone
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."

what=${1:-all}
[[ $what == all || $what == rust ]] || { echo "usage: tests/run.sh [rust]" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export work

# The programs are started without cargo, which holds a lock for as long as another cargo builds.
cargo test --locked --workspace --no-run --message-format=json-render-diagnostics >"$work/built"
python3 - "$work/built" >"$work/programs" <<'PYTHON'
import json, os, sys

for line in open(sys.argv[1]):
    message = json.loads(line)
    if message.get("executable") and message["profile"]["test"]:
        target = message["target"]
        name = target["name"] if target["kind"] == ["test"] else f"{target['name']}-{target['kind'][0]}"
        print(name, message["executable"], os.path.dirname(message["manifest_path"]), sep="\t")
PYTHON

# one KIND NAME
one() {
    local log="$work/$BASHPID" started=$SECONDS result=passed program folder
    # None takes half of this, however busy the machine: what hangs is to be named.
    local limit=(timeout --kill-after=10 900) show=()
    # Its figures are what it is run for.
    [[ $* != "rust accuracy" ]] || show=(--show-output)
    {
        printf '\n== %s\n' "$*"
        case $1 in
            rust)
                IFS=$'\t' read -r _ program folder < <(grep -P "^$2\t" "$work/programs") \
                    && (cd -- "$folder" && "${limit[@]}" "$program" "${show[@]}")
                ;;
            browser) "${limit[@]}" tests/browser/run.sh "$2" ;;
            api) "${limit[@]}" node tests/api/run.mjs ;;
        esac
    } >"$log" 2>&1 || result=FAILED
    # Under a lock, so that what two have said stays apart.
    flock "$work" cat "$log"
    printf '%s %4d s  %s\n' "$result" $((SECONDS - started)) "$*" >>"$work/summary"
}
export -f one

# Those that take longest first, so that none is left to run alone at the end.
slow=(accuracy limen-lib faults change scene mqtt admin_jobs admin_subjects admin_events admin_upkeep daemon doctor)
jobs() {
    local name file
    [[ $what == rust ]] || echo api
    for name in "${slow[@]}"; do echo "rust $name"; done
    if [[ $what == all ]]; then
        for file in tests/browser/*.test.mjs; do
            name=$(basename "$file" .test.mjs)
            [[ $name == pages ]] || echo "browser $name"
        done
    fi
    cut -f 1 "$work/programs" | while read -r name; do
        [[ " ${slow[*]} " == *" $name "* ]] || echo "rust $name"
    done
}
# Alone, since it measures how much pages move while they load, and how long that takes.
[[ $what == rust ]] || one browser pages
# What xargs gives is split and expanded by the shell that it starts.
# shellcheck disable=SC2016
jobs | xargs -d '\n' -P 2 -I '{}' bash -c 'one $1' _ '{}'
cargo test --locked --workspace --doc

printf '\n== tests, longest first\n'
sort -k 2 -n -r "$work/summary"
! grep -q '^FAILED' "$work/summary"
