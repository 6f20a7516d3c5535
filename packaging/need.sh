#!/usr/bin/env bash
# Installs those of the named Debian packages that are missing, as root or by sudo without a password; otherwise
# prints the one line to run. A name may carry an architecture (libssl-dev:arm64), which is then made known to dpkg.
#
#   packaging/need.sh PACKAGE...
#
# Exit codes: 0 all there, 2 wrong use, 4 missing.
set -euo pipefail

fail() {
    printf 'need: %s\n' "$@" >&2
    exit 4
}

[[ $# -gt 0 ]] || {
    echo "usage: packaging/need.sh PACKAGE..." >&2
    exit 2
}
if ! type -P apt-get >/dev/null || ! type -P dpkg-query >/dev/null; then
    fail "these Debian packages are needed, and there is no apt-get here to look after them: $*."
fi

# A name without an architecture is of this machine's, also where another one's is there besides.
native=$(dpkg --print-architecture)
is_there() {
    local architecture=$native
    [[ $1 != *:* ]] || architecture=${1##*:}
    dpkg-query --show --showformat='${db:Status-Status} ${Architecture}\n' "${1%%:*}" 2>/dev/null \
        | grep -qxE "installed ($architecture|all)"
}

missing=() foreign=()
look() {
    local package
    missing=() foreign=()
    for package; do
        if ! is_there "$package"; then
            missing+=("$package")
            if [[ $package == *:* ]] && ! { dpkg --print-architecture && dpkg --print-foreign-architectures; } \
                | grep -qx -- "${package##*:}"; then
                foreign+=("${package##*:}")
            fi
        fi
    done
}

look "$@"
[[ ${#missing[@]} -gt 0 ]] || exit 0
# One at a time: apt does not wait for another one that refreshes its lists.
exec {lock}<"${BASH_SOURCE[0]}"
flock "$lock"
look "$@"
[[ ${#missing[@]} -gt 0 ]] || exit 0
add=
for architecture in $(printf '%s\n' "${foreign[@]}" | sort -u); do
    add+="dpkg --add-architecture $architecture && "
done
apt="apt-get -q -o DPkg::Lock::Timeout=300"
install="$apt install -y --no-install-recommends ${missing[*]}"
as_root=(env)
if [[ $(id -u) != 0 ]]; then
    if ! { type -P sudo >/dev/null && sudo -n true 2>/dev/null; }; then
        prefix="su -c"
        [[ -z $(type -P sudo) ]] || prefix="sudo sh -c"
        fail "missing: ${missing[*]}. Installing them takes root, which is not at hand. Run" \
            "    $prefix '$add$apt update && $install'" "once, then the same command again."
    fi
    as_root=(sudo -n env)
fi
echo "need: installing ${missing[*]}"
as_root+=(DEBIAN_FRONTEND=noninteractive)
if [[ -n $add ]]; then
    "${as_root[@]}" sh -c "${add% && }" || fail "dpkg does not take the architecture: its reason stands above."
fi
# An index that cannot be refreshed may still be good enough to install from.
"${as_root[@]}" sh -c "$apt update" || echo "need: apt-get update failed; trying with the package lists that are there"
"${as_root[@]}" sh -c "$install" || fail "apt-get could not install ${missing[*]}: its reason stands above."
look "$@"
[[ ${#missing[@]} -eq 0 ]] || fail "still missing after their installation: ${missing[*]}."
