#!/usr/bin/env bash
# Installs bundles for real: in a virtual machine with Debian's kernel, on disks that stand for the partitions of a card, with
# Debian's RAUC, dm-verity and FAT. Wants the kernel and virtme-ng of `make lab` (.setup/lab); takes a minute.
# shellcheck disable=SC2154,SC2034 # project, layer, passed, service: of lib.sh and rauc.sh
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib.sh"
PATH=$PATH:/usr/sbin:/sbin

outside() {
    local lab=$project/.setup/lab kernel share
    kernel=$(find "$lab/kernel/boot" -name 'vmlinuz-*' 2>/dev/null | head -n 1)
    [[ -n $kernel && -x $lab/venv/bin/vng ]] || fail "there is no kernel in $lab; call \`make lab\` first"
    for tool in rauc mksquashfs mkfs.vfat fsck.vfat mkfs.ext4 losetup dbus-run-session; do
        command -v "$tool" >/dev/null || fail "missing: $tool"
    done
    share=$(mktemp -d)
    # shellcheck disable=SC2064 # as it is now
    trap "rm -rf -- '$share'" EXIT
    prepare "$share"
    PATH=$lab/venv/bin:$PATH timeout 600 vng --run "$kernel" --disable-kvm --disable-microvm --force-9p --memory 1G \
        --cpus 2 --user root --rwdir "$share" \
        -- "env LIMEN_TEST_SHARE=$share bash $project/yocto/tests/install.sh >$share/log 2>&1; echo \$? >$share/code" \
        </dev/null >"$share/console" 2>&1 || true
    [[ -e $share/code ]] || fail "the virtual machine did not finish" "$(tail -n 30 "$share/console")"
    cat "$share/log"
    [[ $(<"$share/code") == 0 ]]
}

# Two systems, which tell their version, and the bundles of the second.
prepare() {
    local share=$1 version slot
    mkdir -p "$share/own"
    "$layer/scripts/development-keys" "$share/keys" >/dev/null
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=somebody" \
        -keyout "$share/own/signer.key.pem" -out "$share/own/signer.cert.pem" 2>/dev/null
    for version in 1 2; do
        mkdir -p "$share/$version/"{root,boot}
        echo "$version" | tee "$share/$version/root/version" >"$share/$version/boot/version"
        head -c 2M /dev/urandom >"$share/$version/root/filler"
        for slot in A B; do
            echo "ro root=/dev/mmcblk0p$([[ $slot == A ]] && echo 5 || echo 6) rauc.slot=$slot" \
                >"$share/$version/boot/cmdline-$slot.txt"
        done
        cp "$share/$version/boot/cmdline-A.txt" "$share/$version/boot/cmdline.txt"
        truncate -s 8M "$share/$version/root.ext4" "$share/$version/boot.vfat"
        mkfs.ext4 -q -F -b 4096 -d "$share/$version/root" "$share/$version/root.ext4"
        mkfs.vfat "$share/$version/boot.vfat" >/dev/null
    done
    mkdir "$share/content"
}

inside() {
    local share=$LIMEN_TEST_SHARE partition
    local module
    for module in loop dm_verity squashfs vfat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 ext4; do
        modprobe "$module" 2>/dev/null || true
    done
    work=$share/board
    # In memory: what is shared with the host cannot be a disk.
    mkdir "$work"
    mount -t tmpfs none "$work"

    # The partitions of files/wic/limen-raspberrypi.wks, smaller, and each a disk of its own.
    card=$work/card
    for partition in 1 2 3 5 6 7; do
        truncate -s 10M "$work/part$partition"
        ln -s "$(losetup --find --show "$work/part$partition")" "${card}p$partition"
    done
    mkfs.vfat -n LIMENSELECT "${card}p1" >/dev/null
    mkdir -p "$work"/{select,at,data,mount}
    mount "${card}p1" "$work/select"
    cp "$layer/recipes-bsp/limen-boot-image/files/autoboot.txt" "$work/select/"
    umount "$work/select"
    mount -o ro "${card}p1" "$work/select"
    for version in 1 2; do
        mount -o loop "$share/$version/boot.vfat" "$work/at"
        cp "$share/$version/boot"/* "$work/at/"
        umount "$work/at"
    done
    dd if="$share/1/root.ext4" of="${card}p5" bs=1M status=none
    dd if="$share/1/boot.vfat" of="${card}p2" bs=1M status=none

    cp "$share/2/root.ext4" "$share/content/limen-image.ext4"
    cp "$share/2/boot.vfat" "$layer/recipes-core/bundles/files/hook.sh" "$share/content/"
    printf '%s\n' '[update]' compatible=limen-raspberrypi5 version=2 '' '[bundle]' format=verity '' '[hooks]' \
        filename=hook.sh '' '[image.rootfs]' filename=limen-image.ext4 '' '[image.boot]' filename=boot.vfat \
        hooks=post-install >"$share/content/manifest.raucm"
    for each in keys own; do
        rauc bundle --cert "$share/$each/signer.cert.pem" --key "$share/$each/signer.key.pem" "$share/content" \
            "$work/$each.raucb" >/dev/null 2>&1
    done
    cp "$work/keys.raucb" "$work/changed.raucb"
    # Of the root file system's filler: after the first 2 MB of a bundle of more than 2.
    printf 'x' | dd of="$work/changed.raucb" bs=1 seek=1500000 conv=notrunc status=none

    # shellcheck source=/dev/null
    source "$project/yocto/tests/rauc.sh"
    export card
    settings
    start A
    equal "the card as it was written" "A=good B=bad rootfs.0" "$(status)"
    refused "a bundle of somebody else is not installed" "signature verification failed" \
        rauc install "$work/own.raucb"
    equal "and nothing has changed" "A=good B=bad rootfs.0" "$(status)"
    refused "a bundle with a byte changed fails while it is read" "LastError" rauc install "$work/changed.raucb"
    equal "the slot is bad, and the system of before is what starts" "A=good B=bad rootfs.0" "$(status)"
    rauc install "$work/keys.raucb" >"$work/said" 2>&1 || fail "rauc install" "$(<"$work/said")" "$(<"$work/rauc.log")"
    equal "a good bundle is installed, and will be tried" "A=good B=good rootfs.1" "$(status)"
    equal "the system lies in slot B" 2 "$(version_in 6)"
    equal "what the firmware starts lies in slot B" 2 "$(version_in 3)"
    equal "with the command line of slot B" "ro root=/dev/mmcblk0p6 rauc.slot=B" "$(in_partition 3 cmdline.txt)"
    equal "slot A is untouched" "1 1" "$(version_in 5) $(version_in 2)"
    equal "the firmware still starts slot A" 2 "$(default_partition)"
    "$layer/recipes-limen/limen-update/files/limen-tryboot" arm
    equal "the reboot will be a trial" "0 tryboot" "$(<"$work/reboot-param")"

    start B
    refused "in the trial nothing is installed over slot A" "LastError" rauc install "$work/keys.raucb"
    equal "slot A is untouched" "1 1" "$(version_in 5) $(version_in 2)"
    rauc status mark-good >/dev/null
    equal "marked good: the firmware starts slot B" 3 "$(default_partition)"
    equal "autoboot.txt lies on a read-only FAT again" ro "$(findmnt -no OPTIONS "$work/select" | cut -d , -f 1)"
    rauc install "$work/keys.raucb" >/dev/null 2>&1
    equal "the next update goes into slot A" "2 2" "$(version_in 5) $(version_in 2)"
    equal "with the command line of slot A" "ro root=/dev/mmcblk0p5 rauc.slot=A" "$(in_partition 2 cmdline.txt)"
    umount "$work/select"
    fsck.vfat -n "${card}p1" >"$work/said" || fail "the FAT with autoboot.txt is not clean" "$(<"$work/said")"
    ok "the FAT with autoboot.txt is clean"
    stop
    counted
}

in_partition() { # NUMBER FILE
    mount -o ro "${card}p$1" "$work/at"
    cat "$work/at/$2"
    umount "$work/at"
}
version_in() { in_partition "$1" version; }
default_partition() { sed -n '/\[all\]/,/\[tryboot\]/s/boot_partition=//p' "$work/select/autoboot.txt"; }
settings() {
    export LIMEN_TRYBOOT_FOLDER=$work/select LIMEN_TRYBOOT_RUN=$work/run LIMEN_TRYBOOT_CMDLINE=$work/cmdline
    export LIMEN_TRYBOOT_PARTITION=$work/partition LIMEN_TRYBOOT_REBOOT=$work/reboot-param
    sed -e "s|/dev/mmcblk0p|${card}p|; s|@MACHINE@|raspberrypi5|" \
        -e "s|/etc/rauc/@KEYRING@|$LIMEN_TEST_SHARE/keys/ca.cert.pem|; s|/data/rauc|$work/data|" \
        -e "s|/run/rauc|$work/mount|; s|/usr/libexec/limen|$layer/recipes-limen/limen-update/files|" \
        "$layer/recipes-core/rauc/files/rpi/system.conf" >"$work/system.conf"
}

if [[ -z ${LIMEN_TEST_SHARE:-} ]]; then
    outside
elif [[ -z ${LIMEN_TEST_BUS:-} ]]; then
    LIMEN_TEST_BUS=own exec dbus-run-session -- "$0"
else
    inside
fi
