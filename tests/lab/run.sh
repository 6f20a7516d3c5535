#!/bin/sh
# Kernel lab: a real kernel in a virtual machine with Debian's kernel. Captures from real V4L2 drivers, the door's
# lines on a simulated GPIO chip, displays on a bus that keeps what it is told and a virtual framebuffer, storage on
# disks that fail or are full, a program that is killed while the door is open (LIMEN_LAB_KILLS times, 10 unless said),
# and a machine whose power is cut (LIMEN_LAB_CUTS times, 4 unless said).
# Needs Debian or Ubuntu on amd64. The first run fetches about 230 MB into .setup/lab.
# Emulated (TCG), never KVM: /dev/kvm may exist and still not work.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
lab=$root/.setup/lab
mkdir -p "$lab/share" "$lab/debs"
cd "$root"

. tests/lab/kernel.sh

[ "$(uname -m)" = x86_64 ] || die "runs on amd64 only, this is $(uname -m)"
command -v apt-get >/dev/null || die "needs the packages of Debian or Ubuntu (apt-get)"

# Words on purpose.
# shellcheck disable=SC2086
packaging/need.sh $packages dmsetup python3-venv

# --- the virtual machine's runner, pinned
if ! "$lab/venv/bin/vng" --version 2>/dev/null | grep -q '1\.42'; then
    say "installing virtme-ng 1.42"
    python3 -m venv "$lab/venv"
    "$lab/venv/bin/pip" install -q 'virtme-ng==1.42' || die "pip could not install virtme-ng 1.42"
fi

fetch_kernel amd64

# --- our own programs, built here and run there
gcc -O1 -Wall -o "$lab/share/lab" tests/lab/lab.c
say "building the tests"
cargo test --locked --no-run --lib --test camera_lab --test door_lab --test storage_lab --message-format=json >"$lab/cargo.json" ||
    die "the tests do not build"
binary() {
    sed -n "s/.*\"kind\":\[\"$1\"\].*\"name\":\"$2\".*\"executable\":\"\([^\"]*\)\".*/\1/p" "$lab/cargo.json" | tail -1
}
outside=$(binary test camera_lab)
inside=$(binary lib limen)
storage=$(binary test storage_lab)
door=$(binary test door_lab)
if ! [ -x "$outside" ] || ! [ -x "$inside" ] || ! [ -x "$storage" ] || ! [ -x "$door" ]; then
    die "cargo named no test programs; see $lab/cargo.json"
fi

strip -o "$lab/share/limen" "${CARGO_TARGET_DIR:-target}/debug/limen"

cat >"$lab/share/guest.sh" <<EOF
export LIMEN_LAB_PROGRAM=$lab/share/lab LIMEN_LAB_LOOPBACK=$loopback LIMEN_LAB_MODULES=$sim LIMEN_LAB_KILLS=${LIMEN_LAB_KILLS:-10}
export LIMEN_LAB_LIMEN=$lab/share/limen
cd $root
{
    $outside --ignored --test-threads=1 --nocapture
    $inside --ignored --test-threads=1 --nocapture camera::v4l2
    $storage --ignored --test-threads=1 --nocapture disk_
    $door --ignored --test-threads=1 --nocapture --skip child_
} >$lab/share/log 2>&1
dmesg >$lab/share/dmesg
echo done >$lab/share/finished
EOF
rm -f "$lab/share/finished" "$lab/share/log"
say "starting Linux $version (emulated; about a minute)"
PATH=$lab/venv/bin:$PATH:/usr/sbin timeout 1500 vng --verbose \
    --run "$kernel/boot/vmlinuz-$version" --disable-kvm --disable-microvm --force-9p \
    --memory 1G --cpus 2 --user root --rwdir "$lab/share" \
    -- "sh $lab/share/guest.sh" </dev/null >"$lab/console.log" 2>&1 || true
# The machine's exit code does not come through without a serial device of its own: the file counts.
if [ ! -e "$lab/share/finished" ]; then
    [ ! -e "$lab/share/log" ] || cat "$lab/share/log"
    die "the virtual machine did not finish; see $lab/console.log"
fi

cat "$lab/share/log"

# --- the small machine: a kernel, a file system, and one program that works on it
small=$lab/small
rm -rf "$small"
mkdir -p "$small/root/bin" "$small/root/modules" "$small/root/disk" "$small/root/proc" "$small/root/dev" "$small/root/tmp"
cp "$(command -v busybox)" "$small/root/bin/busybox"
cp "$kernel/boot/vmlinuz-$version" "$small/vmlinuz"
modules_for virtio_pci virtio_blk crc32c_generic ext4 >"$small/modules"
while read -r module; do
    cp "$module" "$small/root/modules/"
    basename "$module"
done <"$small/modules" >"$small/root/modules/order"
cp "$storage" "$small/root/bin/work"
ldd "$storage" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$small/root$(dirname "$library")"
    cp -L "$library" "$small/root$library"
done
cat >"$small/root/init" <<'EOF'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "/modules/$module"; done </modules/order
/bin/busybox mount -t ext4 /dev/vda /disk || exec /bin/busybox poweroff -f
seed=$(/bin/busybox sed 's/.*seed=\([0-9]*\).*/\1/' /proc/cmdline)
# Written and not waited for, to show that a cut loses what the disk did not get.
(
    i=0
    while i=$((i + 1)); do
        echo "$i" >>"/disk/unsynced-$seed"
        echo "told: unsynced $i"
        /bin/busybox usleep 50000
    done
) &
LIMEN_TEST_STATE=/disk/state LIMEN_TEST_SEED=$seed \
    /bin/work --exact child_works_without_end --ignored --nocapture --test-threads=1
/bin/busybox poweroff -f
EOF
chmod +x "$small/root/init"
(cd "$small/root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 >"$small/initrd")
say "cutting the power (emulated; a quarter of a minute each)"
if ! PATH=$PATH:/usr/sbin LIMEN_LAB_MACHINE=$small timeout 1800 \
    "$storage" --ignored --nocapture --exact power_cut_at_any_moment_loses_nothing_acknowledged 2>&1 |
    tee "$lab/power.log"; then
    die "the power cuts did not finish"
fi
cat "$lab/power.log" >>"$lab/share/log"
passed=$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$lab/share/log" | awk '{ n += $1 } END { print n + 0 }')
failed=$(sed -n 's/^test result: .* \([0-9]*\) failed.*/\1/p' "$lab/share/log" | awk '{ n += $1 } END { print n + 0 }')
if grep -qE 'BUG:|Oops|general protection' "$lab/share/dmesg"; then
    say "the kernel complained:"
    grep -E -A5 'BUG:|Oops|general protection' "$lab/share/dmesg" >&2
fi
# Fewer than were written means that the list of tests was not what was run.
expected=$(cat tests/camera_lab.rs tests/door_lab.rs tests/storage_lab.rs | grep -c '^#\[ignore = "needs the kernel lab')
[ "$passed" -gt "$expected" ] || [ "$failed" -gt 0 ] || die "only $passed of more than $expected tests ran"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
