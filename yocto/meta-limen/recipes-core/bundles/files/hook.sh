#!/bin/sh
# Part of the bundle, and signed with it. The same image serves both slots; which one it lies in is told to the kernel
# by its command line, of which the image brings both.
set -eu

fail() {
    echo "limen bundle: $*" >&2
    exit 1
}

[ "${1-}" = slot-post-install ] || fail "unexpected call \"${1-}\"; only slot-post-install was asked for"
case ${RAUC_SLOT_NAME-} in
    boot.0) slot=A ;;
    boot.1) slot=B ;;
    *) fail "unexpected slot \"${RAUC_SLOT_NAME-}\"; expected boot.0 or boot.1" ;;
esac
folder=${RAUC_SLOT_MOUNT_POINT:?RAUC did not mount the slot}
line=$folder/cmdline-$slot.txt
grep -q "rauc.slot=$slot\$" "$line" || fail "$line is not the command line of slot $slot"
cp "$line" "$folder/cmdline.new"
sync -f "$folder"
mv -f "$folder/cmdline.new" "$folder/cmdline.txt"
sync -f "$folder"
