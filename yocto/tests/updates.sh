#!/usr/bin/env bash
# Keys, bundles, and RAUC's view of the board: with Debian's RAUC, keys made by the layer's script, and the layer's own
# system.conf. Installing a bundle takes device-mapper and is not tried here.
# shellcheck disable=SC2154,SC2034 # project, layer, passed, service: of lib.sh and rauc.sh
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib.sh"
if [[ -z ${LIMEN_TEST_BUS:-} ]]; then LIMEN_TEST_BUS=own exec dbus-run-session -- "$0"; fi
# shellcheck source=/dev/null
source "$project/yocto/tests/rauc.sh"

work=$(mktemp -d)
trap 'stop; rm -rf -- "$work"' EXIT
readonly make_keys=$layer/scripts/development-keys check_keys=$layer/scripts/check-keys

# Keys
"$make_keys" "$work/keys" >/dev/null
equal "keys are readable by their owner only" "600 600" \
    "$(stat -c %a "$work/keys/ca.key.pem" "$work/keys/signer.key.pem" | paste -sd ' ')"
refused "keys are not written over" "exists" "$make_keys" "$work/keys"
refused "no development keys for a release" "LIMEN_RELEASE is 1" env LIMEN_RELEASE=1 "$make_keys" "$work/release"
keys=("$work/keys/signer.key.pem" "$work/keys/signer.cert.pem" "$work/keys/ca.cert.pem")
"$check_keys" --development "${keys[@]}"
ok "at one's desk they may sign"
refused "a release signed with them is refused" "made by development-keys" "$check_keys" --release "${keys[@]}"
mkdir "$work/own"
for name in ca signer; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=somebody's $name" \
        -keyout "$work/own/$name.key.pem" -out "$work/own/$name.cert.pem" 2>/dev/null
done
"$check_keys" --release "$work/own/signer.key.pem" "$work/own/signer.cert.pem" "$work/own/ca.cert.pem"
ok "a release may be signed with keys of one's own"
refused "a release whose devices would also take development bundles is refused" "LIMEN_RAUC_KEYRING" \
    "$check_keys" --release "$work/own/signer.key.pem" "$work/own/signer.cert.pem" "$work/keys/ca.cert.pem"
refused "no keys given" 'LIMEN_RAUC_KEY is ""' "$check_keys" --release "" "" ""
refused "a key in the place of a certificate" "holds no certificate" \
    "$check_keys" --development "$work/keys/signer.key.pem" "$work/keys/signer.key.pem" "$work/keys/ca.cert.pem"

# A bundle with the manifest that limen-bundle has bundle.bbclass write, as far as Debian's RAUC reads it.
mkdir "$work/content"
head -c 300000 /dev/urandom >"$work/content/limen-image.ext4"
truncate -s 100000 "$work/content/boot.vfat"
cp "$layer/recipes-core/bundles/files/hook.sh" "$work/content/"
cat >"$work/content/manifest.raucm" <<'MANIFEST'
[update]
compatible=limen-raspberrypi5
version=0.1.0

[bundle]
format=verity

[hooks]
filename=hook.sh

[image.rootfs]
filename=limen-image.ext4

[image.boot]
filename=boot.vfat
hooks=post-install
MANIFEST
sign() { # KEYS BUNDLE
    rauc bundle --cert "$1/signer.cert.pem" --key "$1/signer.key.pem" "$work/content" "$2" >/dev/null 2>&1
}
sign "$work/keys" "$work/good.raucb"
read_bundle() { rauc info --keyring "$work/keys/ca.cert.pem" "$1"; }
take_out() {
    rm -rf "$work/out"
    rauc extract --keyring "$work/keys/ca.cert.pem" "$1" "$work/out"
}
equal "a signed bundle in verity format is taken" "limen-raspberrypi5 verity" \
    "$(read_bundle "$work/good.raucb" 2>/dev/null \
        | sed -n "s/^Compatible:[[:space:]]*'\(.*\)'/\1/p; s/^Bundle Format:[[:space:]]*//p" | paste -sd ' ')"
take_out "$work/good.raucb" >/dev/null 2>&1
cmp "$work/content/limen-image.ext4" "$work/out/limen-image.ext4"
ok "and holds what was put in"
sign "$work/own" "$work/foreign.raucb"
refused "a bundle signed with another key" "signature verification failed" read_bundle "$work/foreign.raucb"
cp "$work/good.raucb" "$work/changed.raucb"
printf 'x' | dd of="$work/changed.raucb" bs=1 seek=100000 conv=notrunc status=none
refused "a bundle with one byte of a picture changed" "payload is corrupted" take_out "$work/changed.raucb"
size=$(stat -c %s "$work/good.raucb")
cp "$work/good.raucb" "$work/signature.raucb"
# The manifest lies in the signature, which is the end of the file.
offset=$(grep -abo 'compatible=limen-raspberrypi5' "$work/signature.raucb" | tail -n 1 | cut -d : -f 1)
printf 'compatible=limen-raspberrypi4' | dd of="$work/signature.raucb" bs=1 seek="$offset" conv=notrunc status=none
refused "a bundle with its manifest changed" "signature verification failed" read_bundle "$work/signature.raucb"
head -c $((size - 4096)) "$work/good.raucb" >"$work/short.raucb"
refused "a bundle that ends early" "" read_bundle "$work/short.raucb"
cp -r "$work/content" "$work/plain"
sed -i '/^\[bundle\]/,/^$/d' "$work/plain/manifest.raucm"
rauc bundle --cert "$work/keys/signer.cert.pem" --key "$work/keys/signer.key.pem" "$work/plain" "$work/plain.raucb" \
    >/dev/null 2>&1

# RAUC with the layer's system.conf and backend
board
start A
equal "RAUC reads system.conf and asks the backend" "A=good B=bad rootfs.0" "$(status)"
refused "a bundle in the old format, which is not checked while it is read" "Bundle format 'plain' not allowed" \
    rauc install "$work/plain.raucb"
rauc status mark-good >/dev/null
rauc status mark-active other >/dev/null
equal "RAUC chooses the other slot for the next start" "A=good B=good rootfs.1" "$(status)"
equal "but the firmware starts the one before unless it is a trial" 2 \
    "$(sed -n '/\[all\]/,/\[tryboot\]/s/boot_partition=//p' "$work/select/autoboot.txt")"
start B
equal "in the trial" "A=good B=good rootfs.0" "$(status)"
rauc status mark-good >/dev/null
equal "marked good by RAUC" "A=good B=good rootfs.1" "$(status)"
equal "and the firmware starts it from now on" 3 \
    "$(sed -n '/\[all\]/,/\[tryboot\]/s/boot_partition=//p' "$work/select/autoboot.txt")"
rauc status mark-bad other >/dev/null
refused "RAUC cannot mark the last slot bad" "" rauc status mark-bad
stop
sed 's/^bootloader=.*/bootloader=somebody/' "$work/system.conf" >"$work/broken.conf"
refused "a system.conf with a bootloader that does not exist" "Unsupported bootloader 'somebody'" \
    timeout 10 rauc --conf="$work/broken.conf" service
# The emulated machine's needs U-Boot's tools to be asked; that it is read shows in how far RAUC gets.
sed -e "s|@MACHINE@|qemuarm64|; s|/etc/rauc/@KEYRING@|$work/keys/ca.cert.pem|; s|/data/rauc|$work/data|" \
    -e "s|/run/rauc|$work/mount|; s|/dev/vda|$work/slots/p|" \
    "$layer/recipes-core/rauc/files/qemuarm64/system.conf" >"$work/qemuarm64.conf"
rauc --conf="$work/qemuarm64.conf" --override-boot-slot=A service >"$work/rauc.log" 2>&1 &
service=$!
for _ in $(seq 1 100); do
    found=$(dbus-send --session --print-reply=literal --dest=de.pengutronix.rauc / \
        org.freedesktop.DBus.Properties.Get string:de.pengutronix.rauc.Installer string:Compatible 2>/dev/null) && break
    sleep 0.1
done
equal "RAUC reads the system.conf of qemuarm64" "limen-qemuarm64" "$(grep -o 'limen-qemuarm64' <<<"$found")"
stop

# The bundle's hook
readonly hook=$layer/recipes-core/bundles/files/hook.sh
mkdir "$work/boot"
for slot in A B; do echo "ro root=/dev/x rauc.slot=$slot" >"$work/boot/cmdline-$slot.txt"; done
cp "$work/boot/cmdline-A.txt" "$work/boot/cmdline.txt"
RAUC_SLOT_NAME=boot.1 RAUC_SLOT_MOUNT_POINT=$work/boot "$hook" slot-post-install
equal "the hook gives slot B its command line" "ro root=/dev/x rauc.slot=B" "$(<"$work/boot/cmdline.txt")"
RAUC_SLOT_NAME=boot.0 RAUC_SLOT_MOUNT_POINT=$work/boot "$hook" slot-post-install
equal "and slot A its own" "ro root=/dev/x rauc.slot=A" "$(<"$work/boot/cmdline.txt")"
refused "the hook of an unknown slot" 'unexpected slot "rootfs.0"' \
    env RAUC_SLOT_NAME=rootfs.0 RAUC_SLOT_MOUNT_POINT="$work/boot" "$hook" slot-post-install
refused "another hook" "only slot-post-install" env RAUC_SLOT_NAME=boot.0 "$hook" install-check
cp "$work/boot/cmdline-A.txt" "$work/boot/cmdline-B.txt"
refused "an image with the wrong command line" "is not the command line of slot B" \
    env RAUC_SLOT_NAME=boot.1 RAUC_SLOT_MOUNT_POINT="$work/boot" "$hook" slot-post-install
equal "leaves what was there" "ro root=/dev/x rauc.slot=A" "$(<"$work/boot/cmdline.txt")"
counted
