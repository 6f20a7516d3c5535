#!/bin/bash
# Process 1 of a simulated host, in namespaces of its own: what a kernel and an early boot leave behind, then the units
# that are enabled, in their order.
#
#   tests/fleet/init.sh ROOT NAME
set -euo pipefail
root=$1
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
pivot_root . run/former
cd /
umount -l /run/former
mkdir -p /var/lib/limen
chown limen:limen /var/lib/limen
chmod 700 /var/lib/limen
systemd-tmpfiles --create limen-deploy.conf
# The order that the units state: taking back before limen. The replacement of systemctl starts each when told.
systemctl start ssh </dev/null >>/var/log/boot.log 2>&1
systemctl start limen-deploy-recover </dev/null >>/var/log/boot.log 2>&1 || true
systemctl start limen </dev/null >>/var/log/boot.log 2>&1 || true
# Reaps whatever is left to it, as process 1 does.
while :; do
    sleep 1000 &
    wait -n || true
done
