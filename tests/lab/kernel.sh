# Debian's kernel with its modules, and the simulated hardware built against it. Sourced by run.sh and appliance.sh,
# after `cd` to the top of the tree; they set `lab`, the folder where everything is kept.
# They read what is set here, and set what is read.
# shellcheck shell=sh disable=SC2034,SC2154

say() { printf 'lab: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Packages of the host: the emulator, what makes disks, and what building modules takes.
packages="qemu-system-x86 busybox-static e2fsprogs gcc linux-libc-dev kmod make xz-utils"

# for_machine PROGRAM ARGUMENT...: apt with the packages of the emulated machine, without making that a foreign
# architecture of this one.
for_machine() {
    program=$1
    shift
    if [ "$arch" = amd64 ]; then
        "$program" "$@"
    else
        mkdir -p "$base/apt/lists/partial" "$base/apt/cache/archives/partial"
        "$program" -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Dir::State::Lists="$base/apt/lists" \
            -o Dir::State::status=/dev/null -o Dir::Cache="$base/apt/cache" "$@"
    fi
}

# make_modules FOLDER: as kbuild wants it for the emulated machine.
make_modules() {
    if [ "$arch" = amd64 ]; then
        make -C "$kernel/usr/src/linux-headers-$version" M="$1" modules
    else
        make -C "$kernel/usr/src/linux-headers-$version" M="$1" ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- modules
    fi
}

# fetch_kernel amd64|arm64: sets `kernel` (a root with boot, lib and usr/src), `version`, `loopback` (the module) and
# `sim` (a folder of modules: irq_sim, gpio-sim, i2csink).
fetch_kernel() {
    arch=$1
    case $arch in
        amd64) base=$lab ;;
        *) base=$lab/$arch ;;
    esac
    kernel=$base/kernel
    loopback=$base/build/v4l2loopback.ko
    sim=$base/sim
    mkdir -p "$base/debs"
    # The two labs may run at a time, and the first one that comes makes it for both.
    exec 8>"$base/lock"
    flock 8
    if [ ! -e "$base/ready" ]; then
        rm -rf "$kernel" "$base/build"
        if [ "$arch" != amd64 ]; then
            for_machine apt-get update -q >"$lab/apt.log" 2>&1 || die "no package lists for $arch; see $lab/apt.log"
        fi
        image=$(for_machine apt-cache depends "linux-image-$arch" 2>/dev/null |
            sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
        [ -n "$image" ] || die "apt knows no linux-image-$arch: run apt-get update; Ubuntu has no such package"
        version=${image#linux-image-}
        depends=$(for_machine apt-cache depends "linux-headers-$version")
        # Its programs run here, whatever machine the module is for.
        kbuild=$(echo "$depends" | sed -n 's/^ *Depends: \(linux-kbuild-[0-9.]*\).*/\1/p' | head -1)
        common=$(echo "$depends" | sed -n 's/^ *Depends: \(linux-headers-.*-common\).*/\1/p' | head -1)
        say "fetching $image and what building a module for it takes"
        (cd "$base/debs" && rm -f ./*.deb &&
            apt-get download -q "$kbuild" v4l2loopback-dkms >"$lab/apt.log" 2>&1 &&
            for_machine apt-get download -q "$image" "linux-headers-$version" "$common" >>"$lab/apt.log" 2>&1) ||
            die "could not fetch the kernel packages; see $lab/apt.log"
        for deb in "$base"/debs/*.deb; do dpkg -x "$deb" "$kernel"; done
        PATH=$PATH:/usr/sbin depmod -b "$kernel" "$version"
        say "building v4l2loopback"
        # The packages expect to lie in /usr/src.
        sed -i "s#include /usr/src#include $kernel/usr/src#" "$kernel/usr/src/linux-headers-$version/Makefile"
        mkdir -p "$base/build"
        cp -r "$kernel"/usr/src/v4l2loopback-*/. "$base/build"
        make_modules "$base/build" >"$base/build.log" 2>&1 || die "v4l2loopback does not build; see $base/build.log"
        echo "$version" >"$base/ready"
    fi
    version=$(cat "$base/ready")

    # A GPIO chip that is not there: drivers that Debian does not build, out of the kernel's own source (GPL, fetched
    # and never kept here), and an I2C bus that keeps what a display is told.
    if [ ! -e "$sim/ready" ]; then
        rm -rf "$sim"
        mkdir -p "$sim"
        source=linux-source-$(echo "$version" | cut -d. -f1-2)
        say "fetching $source for its simulated GPIO chip"
        (cd "$base/debs" && rm -f "$source"_*.deb && apt-get download -q "$source" >"$lab/apt.log" 2>&1) ||
            die "could not fetch $source; see $lab/apt.log"
        dpkg --fsys-tarfile "$base/debs/$source"_*.deb | tar -xO "./usr/src/$source.tar.xz" | xz -dc |
            tar -x -C "$sim" --strip-components=1 "$source/drivers/gpio/gpio-sim.c" \
                "$source/drivers/gpio/gpiolib.h" "$source/kernel/irq/irq_sim.c" || die "$source has no gpio-sim"
        rm -f "$base/debs/$source"_*.deb
        cp "$sim/drivers/gpio/gpio-sim.c" "$sim/drivers/gpio/gpiolib.h" "$sim/kernel/irq/irq_sim.c" "$sim"
        # Part of the kernel there, and a module here: what a module needs besides, and a function it may call.
        sed -i -e 's/irq_to_desc(irqnum)/irq_data_to_desc(irq_get_irq_data(irqnum))/' \
            -e 's/#include <linux\/slab.h>/&\n#include <linux\/module.h>\n#include <linux\/irqdesc.h>/' "$sim/irq_sim.c"
        echo 'MODULE_LICENSE("GPL");' >>"$sim/irq_sim.c"
        touch "$sim/ready"
    fi
    # What has not changed is left alone, since the other lab may be reading what is built of it.
    cmp -s tests/lab/i2csink.c "$sim/i2csink.c" || cp tests/lab/i2csink.c "$sim"
    objects='obj-m := irq_sim.o gpio-sim.o i2csink.o'
    [ "$(cat "$sim/Makefile" 2>/dev/null)" = "$objects" ] || echo "$objects" >"$sim/Makefile"
    make_modules "$sim" >"$base/sim.log" 2>&1 || die "the simulated hardware does not build; see $base/sim.log"
    exec 8>&-
}

# modules_for NAME...: the files of these modules and of all they need, in the order in which they load.
modules_for() {
    PATH=$PATH:/usr/sbin modprobe -d "$kernel" -S "$version" --show-depends -a "$@" |
        awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}
