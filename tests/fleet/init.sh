#!/bin/bash
# Process 1 of a simulated host, in namespaces of its own: what a kernel and an early boot leave behind, then the units
# that are enabled, in their order.
#
#   tests/fleet/init.sh ROOT NAME [BOARD]
#
# BOARD is the folder of firmware.sh where the host has two slots.
set -euo pipefail
root=$1 board=${3-}
hostname "$2"
mount --make-rprivate /
# Nothing of the machine below is in sight.
mount --rbind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mount -t tmpfs -o mode=1777 tmpfs tmp
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mkdir -p run/lock run/systemd/system run/sshd run/former
if [[ -n $board ]]; then
    # The card, and loop devices for what lies in a bundle.
    while read -r number device; do
        mknod "dev/mmcblk0p$number" b 7 "$(stat -c 0x%T "$device")"
    done <"$board/devices"
    mknod dev/loop-control c 10 237
    for number in {0..63}; do mknod "dev/loop$number" b 7 "$number"; done
    # Of this board and of this start, where the kernel has those of the machine below.
    mount --bind "$board/cmdline" proc/cmdline
    cat proc/sys/kernel/random/uuid >run/boot_id
    mount --bind run/boot_id proc/sys/kernel/random/boot_id
    cp "$board/partition" run/partition
    mount --bind "$board/card/data" data
    printf '127.0.0.1 localhost %s\n' "$2" >run/hosts
    mount --bind run/hosts etc/hosts
    mount -t tmpfs tmpfs var/log
    mount -t tmpfs -o mode=1777 tmpfs var/tmp
fi
pivot_root . run/former
cd /
umount -l /run/former
if [[ -n $board ]]; then
    # What the units of the layer do, in their order.
    mount -o ro /dev/mmcblk0p1 /boot/select
    systemd-tmpfiles --create /usr/share/limen/data.conf
    mount --bind /data/limen /var/lib/limen
    mount --bind /data/etc/limen /etc/limen
    mkdir /run/dbus
    dbus-daemon --system --fork
    LD_PRELOAD=/usr/lib/verity.so LIMEN_TRYBOOT_PARTITION=/run/partition rauc service </dev/null >>/var/log/rauc.log 2>&1 &
    # A restart: the one word that the kernel hands on to the firmware.
    trap 'if [[ $(cat /run/systemd/reboot-param 2>/dev/null) == "0 tryboot" ]]; then exit 11; else exit 10; fi' USR1
fi
mkdir -p /var/lib/limen
chown limen:limen /var/lib/limen
chmod 700 /var/lib/limen
[[ -n $board ]] || systemd-tmpfiles --create limen-deploy.conf
# The order that the units state: taking back before limen. The replacement of systemctl starts each when told.
systemctl start ssh </dev/null >>/var/log/boot.log 2>&1
systemctl start limen-deploy-recover </dev/null >>/var/log/boot.log 2>&1 || true
systemctl start limen </dev/null >>/var/log/boot.log 2>&1 || true
if [[ -n $board ]]; then
    # OnFailure= is nothing that the replacement of systemctl knows.
    { systemctl start limen-mark-good || systemctl start limen-fall-back; } </dev/null >>/var/log/boot.log 2>&1 &
fi
# Reaps whatever is left to it, as process 1 does.
while :; do
    sleep 1000 &
    wait -n || true
done
