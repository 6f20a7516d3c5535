#!/usr/bin/env bash
# limen-preinit in a mount namespace of its own, in which folders stand for the root and the data partition.
# shellcheck disable=SC2154,SC2034 # project, layer, passed, service: of lib.sh and rauc.sh
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib.sh"
if [[ -z ${LIMEN_TEST_NAMESPACE:-} ]]; then
    unshare --mount true 2>/dev/null || fail "no mount namespaces here: run this as root"
    LIMEN_TEST_NAMESPACE=own exec unshare --mount --propagation private "$0"
fi

work=$(mktemp -d)
mount -t tmpfs none "$work"
mkdir "$work/data" "$work/etc"
: >"$work/etc/machine-id"
cat >"$work/init" <<'INIT'
#!/bin/sh
echo "started $*"
INIT
chmod +x "$work/init"
export LIMEN_PREINIT_DATA=$work/data LIMEN_PREINIT_ID=$work/etc/machine-id LIMEN_PREINIT_INIT=$work/init
readonly preinit=$layer/recipes-limen/limen-system/files/limen-preinit
again() { # the machine is switched off and on
    mountpoint -q "$work/etc/machine-id" && umount "$work/etc/machine-id"
    [[ ! -s $work/etc/machine-id ]] || fail "the id was written into the root file system"
}

mount -t tmpfs none "$work/data"
equal "init is started with its arguments" "started --log quiet" "$("$preinit" --log quiet)"
id=$(<"$work/etc/machine-id")
[[ $id =~ ^[0-9a-f]{32}$ ]] || fail "the id is \"$id\""
ok "the machine has an id"
again
"$preinit" >/dev/null
equal "and the same one after the next start" "$id" "$(<"$work/etc/machine-id")"
again
echo 'not an id' >"$work/data/machine-id"
"$preinit" >/dev/null
[[ $(<"$work/etc/machine-id") =~ ^[0-9a-f]{32}$ && $(<"$work/etc/machine-id") != "$id" ]] \
    || fail "a damaged id was not replaced"
ok "a damaged one is replaced"
again
umount "$work/data"
said=$(LIMEN_PREINIT_LABEL=LABEL=limen-no-such-label "$preinit" 2>&1)
[[ $said == *"the machine id is not kept"* && $said == *started* ]] || fail "without a data partition: $said"
ok "without a data partition init is started all the same, and it is said"
[[ ! -s $work/etc/machine-id ]] || fail "an id came from nowhere"
mount -t tmpfs -o ro none "$work/data"
said=$("$preinit" 2>&1)
[[ $said == *"the machine id is not kept"* && $said == *started* ]] || fail "with a read-only data partition: $said"
ok "nor does a data partition that cannot be written keep it from starting"
umount "$work/data"
umount "$work"
rmdir "$work"
counted
