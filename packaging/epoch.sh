#!/usr/bin/env bash
# Prints the time that stands for "now" in everything that is packaged, in seconds since 1970: SOURCE_DATE_EPOCH if
# that is set, else the last commit's.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."

if [[ -z ${SOURCE_DATE_EPOCH:-} ]]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || {
        echo "epoch: these sources are not a git repository; set SOURCE_DATE_EPOCH to the seconds since 1970 of" \
            "their last change" >&2
        exit 2
    }
fi
[[ $SOURCE_DATE_EPOCH =~ ^[0-9]+$ ]] || {
    echo "epoch: SOURCE_DATE_EPOCH is \"$SOURCE_DATE_EPOCH\"; it is a number of seconds since 1970" >&2
    exit 2
}
echo "$SOURCE_DATE_EPOCH"
