#!/usr/bin/env bash
# The appliance lab: the real package installed in a small Debian of its own, under a live systemd, on a virtual
# machine with Debian's kernel. A face in front of the camera, the event at a real broker, the relay's line; then
# everything that goes wrong: camera, broker, disk, clock, kills, a starved watchdog, the power.
#
#   tests/lab/appliance.sh [amd64|arm64]
#
# Wants the package in target/deb (make deb PROFILE=dev ARCH=amd64), or LIMEN_LAB_PACKAGE=FILE. LIMEN_LAB_SHORT=1
# leaves out all faults but the power cut, as arm64 does unless LIMEN_LAB_SHORT is empty. LIMEN_LAB_TRACE=1 writes what
# the machine's script does to its console, in .setup/lab/appliance. What is fetched (about 300 MB
# with the kernel) is kept in .setup/lab. Needs Debian on amd64. Emulated (TCG), never KVM.
set -euo pipefail

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../.." && pwd)
lab=$root/.setup/lab
cd -- "$root"
# shellcheck source=tests/lab/kernel.sh
. tests/lab/kernel.sh

arch=${1:-amd64}
[[ $arch == amd64 || $arch == arm64 ]] || { say "usage: tests/lab/appliance.sh [amd64|arm64]"; exit 2; }
[[ $(uname -m) == x86_64 ]] || die "runs on amd64 only, this is $(uname -m)"
command -v apt-get >/dev/null || die "needs the packages of Debian (apt-get)"
if [[ $arch == arm64 ]]; then short=${LIMEN_LAB_SHORT-1}; else short=${LIMEN_LAB_SHORT:-}; fi

package=${LIMEN_LAB_PACKAGE:-$(find target/deb -name "limen_*_$arch.deb" -printf '%T@ %p\n' 2>/dev/null | sort -rn | sed -n '1s/^[^ ]* //p')}
[[ -n $package ]] || die "no package of limen for $arch in target/deb: run \"make deb PROFILE=dev ARCH=$arch\" first"
[[ -r $package ]] || die "cannot read $package"

here=$lab/appliance/$arch
mkdir -p "$here"

# --- packages of the host
read -r -a needed <<<"$packages mmdebstrap libjpeg-turbo-progs python3"
[[ $arch == amd64 ]] || needed+=(qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
[[ $(id -u) == 0 ]] || needed+=(fakeroot)
packaging/need.sh "${needed[@]}"
fetch_kernel "$arch"

# --- a small Debian
include=systemd,systemd-sysv,udev,mosquitto,mosquitto-clients,curl,jq,kmod,libssl3,libstdc++6,libgcc-s1,ca-certificates
if [[ $arch == amd64 ]]; then variant=essential; else variant=extract; fi
userland=$here/userland-$(echo "$variant $include" | sha256sum | head -c 16).tar
if [[ ! -e $userland ]]; then
    say "making a Debian of its own for $arch (a minute or two)"
    if [[ $variant == extract ]]; then
        # Nothing of another architecture is run: what the maintainer scripts of essential packages do besides is
        # done in `image` below.
        include=base-files,base-passwd,bash,coreutils,dash,debianutils,diffutils,dpkg,findutils,grep,gzip,hostname,init-system-helpers,libc-bin,mawk,ncurses-base,perl-base,sed,sysvinit-utils,tar,util-linux,mount,passwd,login,procps,$include
    fi
    rm -f "$here"/userland-*
    mmdebstrap --quiet --variant=$variant --architectures="$arch" --include="$include" \
        bookworm "$userland.part.tar" >"$here/mmdebstrap.log" 2>&1 ||
        die "mmdebstrap failed: $(tail -3 "$here/mmdebstrap.log"); see $here/mmdebstrap.log"
    mv "$userland.part.tar" "$userland"
fi

# Called as root, or as fakeroot sees it.
image() {
    local files=$here/files
    rm -rf "$files"
    mkdir -p "$files"
    tar -x -f "$userland" -C "$files" --exclude='./dev/*' --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
        --exclude='./usr/share/locale/*' --exclude='./var/cache/*' --exclude='./var/lib/apt/*'
    local module
    modules_for virtio_blk virtio_console ext4 crc32c_generic configfs videodev vivid videobuf2_v4l2 autofs4 | while read -r module; do
        install -D -m 0644 "$module" "$files/lib/modules/$version/${module#*"/lib/modules/$version/"}"
    done
    cp "$kernel/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$files/lib/modules/$version/"
    depmod -b "$files" "$version"
    if [[ $variant == extract ]]; then
        cp "$files/usr/share/base-passwd/passwd.master" "$files/etc/passwd"
        cp "$files/usr/share/base-passwd/group.master" "$files/etc/group"
        printf 'u mosquitto - "Mosquitto" /var/lib/mosquitto /usr/sbin/nologin\n' >"$files/usr/lib/sysusers.d/mosquitto.conf"
        printf 'd /var/lib/mosquitto 0750 mosquitto mosquitto -\nd /var/log/mosquitto 0755 mosquitto mosquitto -\n' >"$files/usr/lib/tmpfiles.d/mosquitto-lab.conf"
        cp "$files/usr/share/libc-bin/nsswitch.conf" "$files/etc/nsswitch.conf"
        mkdir -p "$files/var/lib/dpkg/info" "$files/var/lib/dpkg/updates"
        touch "$files/var/lib/dpkg/status" "$files/var/lib/dpkg/available"
        ln -sf ../usr/lib/os-release "$files/etc/os-release"
    fi
    # A machine that has started before: no questions and no presets.
    echo 0123456789abcdef0123456789abcdef >"$files/etc/machine-id"
    echo lab >"$files/etc/hostname"
    printf '/dev/vda / ext4 defaults 0 0\n/dev/vdb /lab ext4 ro,nosuid 0 0\n/dev/vdc /var/lib/limen ext4 defaults 0 0\n' >"$files/etc/fstab"
    mkdir -p "$files/lab" "$files/var/lib/limen" "$files/var/log/journal" "$files/etc/systemd/system/multi-user.target.wants"
    ln -sf /lib/systemd/system/multi-user.target "$files/etc/systemd/system/default.target"
    local unit
    for unit in getty@tty1 getty.target serial-getty@ttyS0 serial-getty@ttyAMA0 serial-getty@hvc0 systemd-logind dbus.socket dbus \
        e2scrub_reap.service e2scrub_all.timer fstrim.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
        logrotate.timer systemd-networkd systemd-pstore systemd-hwdb-update systemd-binfmt ldconfig modprobe@drm modprobe@efi_pstore \
        systemd-boot-system-token systemd-timesyncd systemd-journal-catalog-update systemd-update-done sys-kernel-debug.mount \
        sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount; do
        [[ $unit == *.* ]] || unit+=.service
        ln -sf /dev/null "$files/etc/systemd/system/$unit"
    done
    ln -sf /lib/systemd/system/mosquitto.service "$files/etc/systemd/system/multi-user.target.wants/mosquitto.service"
    cat >"$files/etc/systemd/system/lab.service" <<'UNIT'
[Unit]
Description=appliance lab
RequiresMountsFor=/lab /var/lib/limen

[Service]
ExecStart=/bin/bash /lab/guest.sh
# What is found on the disk is the machine's to tell, not the script's.
StandardOutput=journal
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target
UNIT
    ln -sf ../lab.service "$files/etc/systemd/system/multi-user.target.wants/lab.service"
    rm -f "$here/base.img"
    truncate -s 1200M "$here/base.img"
    mke2fs -q -t ext4 -m 0 -d "$files" "$here/base.img"
    rm -rf "$files"
}
recipe=$({ declare -f image; echo "$version $userland"; } | sha256sum)
if [[ $(cat "$here/recipe" 2>/dev/null) != "$recipe" ]]; then
    say "making the disk"
    # Functions and what they read, for a shell under fakeroot.
    export here userland variant version kernel
    export -f image modules_for
    make_image=(bash -euo pipefail -c image)
    [[ $(id -u) == 0 ]] || make_image=(fakeroot "${make_image[@]}")
    PATH=$PATH:/usr/sbin "${make_image[@]}" || die "the disk could not be made"
    echo "$recipe" >"$here/recipe"
fi

# --- what starts it: the modules of its disk, then the disk
start=$here/initrd
rm -rf "$start"
mkdir -p "$start/bin" "$start/modules" "$start/proc" "$start/dev" "$start/root"
busybox=$(command -v busybox)
if [[ $arch == arm64 ]]; then
    busybox=$here/busybox
    if [[ ! -x $busybox ]]; then
        (cd "$here" && rm -f busybox-static_*.deb && for_machine apt-get update -q && for_machine apt-get download -q busybox-static) >"$lab/apt.log" 2>&1 ||
            die "could not fetch busybox-static for $arch; see $lab/apt.log"
        dpkg --fsys-tarfile "$here"/busybox-static_*.deb | tar -xO ./bin/busybox >"$busybox"
        chmod +x "$busybox"
    fi
fi
cp "$busybox" "$start/bin/busybox"
modules_for virtio_pci virtio_blk crc32c_generic ext4 | while read -r module; do
    cp "$module" "$start/modules/"
    basename "$module"
done >"$start/order"
cat >"$start/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "/modules/$module"; done </order
/bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox poweroff -f
/bin/busybox umount /proc
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /lib/systemd/systemd
INIT
chmod +x "$start/init"
(cd "$start" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$here/initrd.gz"

# --- what is brought in: the package, the script, the pictures, the modules
share=$here/share
rm -rf "$share"
mkdir -p "$share"
cp "$package" "$share/"
cp tests/lab/guest.sh "$sim/irq_sim.ko" "$sim/gpio-sim.ko" "$loopback" "$share/"
if [[ $arch == amd64 ]]; then gcc -static -O1 -Wall -o "$share/lab" tests/lab/lab.c; else
    aarch64-linux-gnu-gcc -static -O1 -Wall -o "$share/lab" tests/lab/lab.c
    touch "$share/unconfigured"
fi
cp tests/fixtures/portraits/barack_obama_1.jpg "$share/enrol.jpg"
# fit FROM TO: in the middle of a frame of 512x640.
fit() {
    python3 - "$2" <(djpeg -pnm "$1") <<'PYTHON'
import sys

to, source = sys.argv[1:]
with open(source, "rb") as picture:
    kind, size, _ = (picture.readline() for _ in range(3))
    assert kind == b"P6\n", kind
    width, height = map(int, size.split())
    rows = [picture.read(3 * width) for _ in range(height)]
left, top = max(0, width - 512) // 2, max(0, height - 640) // 2
rows = [row[3 * left:3 * (left + min(width, 512))] for row in rows[top:top + 640]]
side, above = (512 - len(rows[0]) // 3) // 2, (640 - len(rows)) // 2
grey = b"\x80" * 3
frame = b"".join(grey * side + row + grey * (512 - side - len(row) // 3) for row in rows)
frame = grey * 512 * above + frame + grey * 512 * (640 - above - len(rows))
with open(to, "wb") as out:
    out.write(b"P6\n512 640\n255\n" + frame)
PYTHON
}
fit tests/fixtures/portraits/barack_obama_2.jpg "$share/known.ppm"
fit tests/fixtures/portraits/joe_biden_1.jpg "$share/stranger.ppm"
{ printf 'P6\n512 640\n255\n'; head -c $((512 * 640 * 3)) /dev/zero | tr '\0' '\200'; } >"$share/nobody.ppm"
for picture in known stranger nobody; do cjpeg -quality 90 "$share/$picture.ppm" >"$share/$picture.jpg"; done
# Frames a second that the emulated machine can look at.
printf 'rate=%s\nshort=%s\n' "${LIMEN_LAB_RATE:-2}" "$short" >"$share/settings"
touch "$share/told"

# --- the machine
boot() { # PHASE SECONDS
    rm -f "$here/share.img"
    truncate -s $(($(du -sm "$share" | cut -f 1) + 24))M "$here/share.img"
    PATH=$PATH:/usr/sbin mke2fs -q -t ext4 -m 0 -O ^has_journal -d "$share" "$here/share.img"
    # AVX takes longer to emulate than what it saves.
    local command=(qemu-system-x86_64 -machine 'q35,accel=tcg' -cpu Nehalem -kernel "$kernel/boot/vmlinuz-$version") console=ttyS0
    if [[ $arch == arm64 ]]; then
        command=(qemu-system-aarch64 -machine 'virt,accel=tcg' -cpu cortex-a72 -kernel "$kernel/boot/vmlinuz-$version")
        console=ttyAMA0
    fi
    # Its clock counts instructions, one a nanosecond, and idle time: to whoever is inside it is a machine of a
    # thousand million instructions a second, however busy this one is. So no limit is missed for want of a processor.
    command+=(-icount 'shift=0,sleep=on' -rtc clock=vm -smp 1 -m 1G -display none -no-reboot -nodefaults -monitor none -serial "file:$here/console-$1.log" -initrd "$here/initrd.gz"
        -append "console=$console quiet loglevel=3 systemd.show_status=0 systemd.firstboot=off mitigations=off random.trust_cpu=on lab.phase=$1 ${LIMEN_LAB_TRACE:+lab.trace}"
        -drive "if=none,id=a,format=raw,file=$here/disk.img,cache=unsafe" -device 'virtio-blk-pci,drive=a'
        -drive "if=none,id=b,format=raw,file=$here/share.img,readonly=on" -device 'virtio-blk-pci,drive=b'
        -drive "if=none,id=c,format=raw,file=$here/state.img,cache=writeback" -device 'virtio-blk-pci,drive=c'
        -device virtio-serial-pci -chardev "file,id=lab,path=$here/said-$1" -device 'virtserialport,chardev=lab,name=lab')
    : >"$here/said-$1"
    "${command[@]}" </dev/null >"$here/qemu.log" 2>&1 &
    machine=$!
    tail -n +1 -F "$here/said-$1" --pid="$machine" 2>/dev/null | grep --line-buffered -v '^told: ' &
    printer=$!
    deadline=$((SECONDS + $2))
}
machine=
printer=
stop() {
    [[ -z $machine ]] || kill -KILL "$machine" 2>/dev/null || true
    [[ -z $machine ]] || wait "$machine" 2>/dev/null || true
    machine=
    [[ -z $printer ]] || wait "$printer" 2>/dev/null || true
    printer=
}
trap stop EXIT
late() {
    say "the machine did not get there in time; its console ends with:"
    tail -n 15 "$here/console-$1.log" >&2
    exit 1
}

cp --sparse=always "$here/base.img" "$here/disk.img"
rm -f "$here/state.img"
truncate -s 48M "$here/state.img"
PATH=$PATH:/usr/sbin mke2fs -q -t ext4 -m 0 "$here/state.img"
PATH=$PATH:/usr/sbin debugfs -w -R 'rmdir lost+found' "$here/state.img" >/dev/null 2>&1

if [[ $short ]]; then patience=900; else patience=1500; fi
say "starting $(basename "$package") on Linux $version (emulated; minutes)"
boot 1 $patience
# The power is cut while events are made, at a moment that nobody chose.
until (($(grep -c '^told: ' "$here/said-1") >= 5)); do
    sleep 0.5
    kill -0 "$machine" 2>/dev/null || { say "the machine ended before its power was cut"; late 1; }
    ((SECONDS < deadline)) || late 1
done
sleep "$((RANDOM % 4)).$((RANDOM % 10))"
stop
sed -n 's/^told: //p' "$here/said-1" >"$share/told"
say "power cut; starting again"
boot 2 600
while kill -0 "$machine" 2>/dev/null; do
    sleep 0.5
    ((SECONDS < deadline)) || late 2
done
stop
grep -q '^finished: ' "$here/said-2" || late 2

passed=$(cat "$here"/said-[12] | grep -c '^ok ') || true
failed=$(cat "$here"/said-[12] | grep -c '^FAILED ') || true
if grep -qE 'BUG:|Oops|general protection' "$here"/console-[12].log; then
    say "the kernel complained:"
    grep -hE -A5 'BUG:|Oops|general protection' "$here"/console-[12].log >&2
fi
# Fewer than that were not the checks that were written.
if [[ $short ]]; then least=35; else least=69; fi
echo "appliance $arch: $passed passed, $failed failed, in $((SECONDS / 60)) min $((SECONDS % 60)) s"
((failed == 0)) || exit 1
((passed >= least)) || die "only $passed of at least $least checks ran"
