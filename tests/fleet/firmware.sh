#!/usr/bin/env bash
# A simulated board with two slots: what the firmware of a Raspberry Pi does with a card, from its documentation, and
# what the kernel's command line says about the root file system. Runs until the power goes.
#
#   tests/fleet/firmware.sh FOLDER NAME BASE
#
# FOLDER/card has the partitions p1, p2, p3, p5, p6 as files, and `data` for the seventh. A slot has what makes one
# image another; whatever all images share comes from BASE beneath it. Process 1 tells by its exit code whether it
# wants a restart (10) or a trial (11), which the kernel of a board tells the firmware; anything else is the power.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
name=$2 base=$3
cd -- "$1"
mkdir -p mounted slot root

declare -A device=()
for number in 1 2 3 5 6; do
    device[$number]=$(losetup --find --show "card/p$number")
    # Open and detached: the kernel frees it when the last process of this board is gone, however that came.
    # shellcheck disable=SC2034
    exec {held}<"${device[$number]}"
    losetup --detach "${device[$number]}"
    echo "$number ${device[$number]}"
done >devices

# Only [all] counts and, when it was asked for, [tryboot].
partition() {
    local line applies=yes found=
    mount -o ro "${device[1]}" mounted
    while IFS= read -r line; do
        case $line in
            '[all]') applies=yes ;;
            '[tryboot]') applies=$1 ;;
            '['*) applies= ;;
            boot_partition=*) [[ -z $applies ]] || found=${line#*=} ;;
        esac
    done <mounted/autoboot.txt
    umount mounted
    echo "$found"
}

trial=
while :; do
    number=$(partition "$trial")
    mount -o ro "${device[$number]}" mounted
    cp mounted/cmdline.txt cmdline
    umount mounted
    # Big-endian, as the device tree has it.
    case $number in
        2) printf '\0\0\0\2' ;;
        *) printf '\0\0\0\3' ;;
    esac >partition
    echo "$number${trial:+ $trial}" >>boots
    mount -o ro "${device[$(sed 's/.*root=.dev.mmcblk0p\([56]\) .*/\1/' cmdline)]}" slot
    # Without a layer to write into: like the image's, this root file system cannot be written.
    mount -t overlay overlay -o "lowerdir=$PWD/slot:$base" root
    nsenter --net="/run/netns/$name" unshare --mount --pid --uts --ipc --fork --kill-child -- \
        "$here/init.sh" "$PWD/root" "$name" "$PWD" </dev/null &
    echo $! >pid
    code=0
    wait $! || code=$?
    umount root slot
    case $code in
        10) trial= ;;
        11) trial=tryboot ;;
        *) break ;;
    esac
done
