# What a finished package has to keep to; for tests/package.sh and tests/cross.sh, which set `work`.
# shellcheck shell=bash disable=SC2034,SC2154

# Bytes of the package of limen, networks and runtime included.
readonly largest=30000000

# lint PACKAGE...: fails for an error or a warning of lintian's, which is then in $work/lintian.
lint() { lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$@" >"$work/lintian" 2>&1; }
