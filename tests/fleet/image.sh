# The stage `image` of tests/fleet.sh, which reads this: two boards with two slots each, updated by the same playbooks.
#
# Real: RAUC as Debian has it, with a bus, signed bundles in the format of the layer, and the layer's system.conf, hook,
# limen-tryboot, limen-mark-good and data.conf; sshd, limen-deploy and limen as on every other host. The root file
# system cannot be written, knows no dpkg, and comes from a partition that RAUC wrote. Played: the firmware
# (firmware.sh), the order of units (init.sh), and device-mapper (verity.c). Partitions that would be FAT are ext4,
# since not every kernel that this runs on has FAT.
# shellcheck shell=bash
# shellcheck disable=SC2154 # work, base and all the functions are fleet.sh's
# Words for another shell.
# shellcheck disable=SC2016
layer=yocto/meta-limen image=$work/image

# The last stage: the other hosts would only take time from these.
for host in "${!pids[@]}"; do power_off "$host"; done

# --- what an image has besides the packages
mkdir -p "$image"/{root,wk,boot,content}
cp -a "$work/installed/up" "$image/up"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$image/up,workdir=$image/wk" "$image/root"
"$layer/scripts/development-keys" "$image/keys" >/dev/null
"$layer/scripts/development-keys" "$image/foreign" >/dev/null
gcc -O1 -Wall -shared -fPIC -o "$image/root/usr/lib/verity.so" tests/fleet/verity.c -ldl
(
    cd "$image/root" || exit
    rm -rf var/lib/dpkg usr/bin/dpkg*
    mkdir -p data boot/select var/lib/limen usr/libexec/limen etc/rauc
    # As the layer's recipe has it.
    rm -rf usr/lib/tmpfiles.d/limen-deploy.conf var/lib/limen-deploy
    ln -s /data/limen-deploy var/lib/limen-deploy
    : >etc/hosts
    : >etc/resolv.conf
    cp -a etc/limen usr/share/limen/etc
    mv usr/bin/systemctl usr/bin/systemctl3
    # What systemd does at a restart, and the replacement does not.
    printf '%s\n' '#!/bin/sh' '[ "$1" = reboot ] || exec /usr/bin/systemctl3 "$@"' \
        '/usr/bin/systemctl3 stop limen' '/usr/bin/systemctl3 start limen-tryboot' 'kill -USR1 1' >usr/bin/systemctl
    chmod +x usr/bin/systemctl
    echo 'HostKey /data/ssh/ssh_host_ed25519_key' >etc/ssh/sshd_config.d/data.conf
)
updates=$layer/recipes-limen/limen-update/files
install -t "$image/root/usr/libexec/limen" "$updates"/limen-{mark-good,tryboot}
install -m 644 -t "$image/root/usr/lib/systemd/system" "$updates"/limen-{mark-good,fall-back,tryboot}.service
sed -i '/^\[Service\]/a Environment=LIMEN_MARK_WAIT=30' "$image/root/usr/lib/systemd/system/limen-mark-good.service"
cp "$layer/recipes-limen/limen-system/files/data.conf" "$image/root/usr/share/limen/"
# As rauc-conf.bbappend fills it in.
sed 's/@MACHINE@/raspberrypi5/; s/@KEYRING@/ca.cert.pem/; s/type=vfat/type=ext4/' "$layer/recipes-core/rauc/files/rpi/system.conf" \
    >"$image/root/etc/rauc/system.conf"
cp "$image/keys/ca.cert.pem" "$image/root/etc/rauc/"
for slot in "A 5" "B 6"; do
    echo "ro root=/dev/mmcblk0p${slot#* } rauc.slot=${slot% *}" >"$image/boot/cmdline-${slot% *}.txt"
done
cp "$image/boot/cmdline-A.txt" "$image/boot/cmdline.txt"
cp "$layer/recipes-core/bundles/files/hook.sh" "$image/content/"

# partition FILE SIZE FOLDER: an ext4 file system of what is in the folder.
partition() {
    rm -f "$1"
    truncate -s "$2" "$1"
    PATH=$PATH:/usr/sbin mke2fs -q -t ext4 -O ^has_journal -b 4096 -m 0 -d "$3" "$1"
}
# build VERSION: the image as it is now.
build() {
    rm -f "$image/root/etc/os-release"
    printf 'NAME="limen"\nVERSION_ID="%s"\n' "$1" >"$image/root/etc/os-release"
    partition "$image/content/limen-image.ext4" 128M "$image/up"
    partition "$image/content/boot.ext4" 4M "$image/boot"
    describe "$1"
}
# describe VERSION: the manifest of a bundle.
describe() {
    printf '[update]\ncompatible=limen-raspberrypi5\nversion=%s\n[bundle]\nformat=verity\n[hooks]\nfilename=hook.sh\n' "$1" \
        >"$image/content/manifest.raucm"
    printf '[image.rootfs]\nfilename=limen-image.ext4\n[image.boot]\nfilename=boot.ext4\nhooks=post-install\n' >>"$image/content/manifest.raucm"
}
# bundle VERSION KEYS: a signed bundle of what was built, in a signed release.
bundle() {
    local file=$image/limen-${1}_raspberrypi5.raucb
    rm -f "$file"
    rauc bundle --mksquashfs-args="-comp lz4" --cert "$image/$2/signer.cert.pem" --key "$image/$2/signer.key.pem" "$image/content" "$file" \
        >"$image/bundle.log" 2>&1 || { cat "$image/bundle.log" >&2; failed "the bundle of $1"; }
    fleet/release.sh "$1" "$work/keys/release" "$work/releases" "$file" >/dev/null
    rm "$file"
}

build 3.0.0
inventory=$work/boards.yml
printf 'all:\n  vars:\n    limen_fleet_identity_file: %s\n    limen_fleet_known_hosts: %s\n    limen_fleet_releases: %s\ndoors:\n  hosts:\n' \
    "$work/keys/deploy" "$known_hosts" "$work/releases" >"$inventory"
boards=(h101 h102)
for host in "${boards[@]}"; do
    card=$work/hosts/$host/card
    mkdir -p "$card/data/ssh" "$card/data/etc" "$work/hosts/$host/select"
    ssh-keygen -q -t ed25519 -N '' -C "$host" -f "$card/data/ssh/ssh_host_ed25519_key"
    cp -a "$image/root/usr/share/limen/etc" "$card/data/etc/limen"
    connect "$host" "$card/data/ssh/ssh_host_ed25519_key.pub"
    settings "$host" >"$card/data/etc/limen/limen.toml.d/10-test.toml"
    cp "$layer/recipes-bsp/limen-boot-image/files/autoboot.txt" "$work/hosts/$host/select/"
    # As the card comes from the factory: the second slot is empty.
    partition "$card/p1" 4M "$work/hosts/$host/select"
    cp "$image/content/boot.ext4" "$card/p2"
    truncate -s 4M "$card/p3"
    cp --sparse=always "$image/content/limen-image.ext4" "$card/p5"
    truncate -s 128M "$card/p6"
done
printf 'canary:\n  hosts:\n    h101:\n' >>"$inventory"
switch_on() {
    tests/fleet/firmware.sh "$work/hosts/$1" "$1" "$base" </dev/null >>"$work/hosts/$1/console" 2>&1 &
    pids[$1]=$!
    disown "${pids[$1]}"
}
unplug() {
    local firmware=${pids[$1]}
    power_off "$1"
    while [[ -e /proc/$firmware ]]; do sleep 0.05; done
}
# What runs and where, what was proved, and whether anything is left to do.
standing() { door "$1" status </dev/null | jq -r '"\(.limen) in \(.slot.booted), proved \(.slot.proved), well \(.healthy), interrupted \(.interrupted)"'; }
# expect HOST VERSION SLOT PARTITION: proved there, which the firmware starts next.
expect() {
    local found
    found=$(standing "$1")
    [[ $found == "$2 in $3, proved true, well true, interrupted false" ]] || failed "$1 should have $2 in $3, proved: it is $found"
    [[ $(inside "$1" sed -n '/\[all\]/,/\[tryboot\]/s/boot_partition=//p' /boot/select/autoboot.txt) == "$4" ]] || failed "$1 does not start $3 next"
}
proved() {
    local until=$((SECONDS + 60))
    until [[ $(standing "$1") == *"proved true"* ]]; do
        ((SECONDS < until)) || { inside "$1" cat /var/log/boot.log /var/log/rauc.log >&2; failed "$1: $(standing "$1")"; }
        sleep 1
    done
}
for host in "${boards[@]}"; do switch_on "$host"; done

# --- releases, made while the boards start
build 3.1.0
bundle 3.1.0 keys
(
    # Brings the gallery to a form that no version before can read, with a copy as limen makes one, and does not start.
    service=$image/root/usr/lib/systemd/system/limen.service.d mark=$image/root/usr/lib/systemd/system/limen-mark-good.service
    mkdir "$service"
    printf '[Service]\nExecStartPre=/bin/sh -c "%s"\nExecStartPre=/bin/false\n' \
        'cd /var/lib/limen && mv gallery.db gallery.db.schema-1 && rm -f gallery.db-* && echo newer >gallery.db' >"$service/new.conf"
    sed -i 's/LIMEN_MARK_WAIT=.*/LIMEN_MARK_WAIT=5/' "$mark"
    build 3.2.0
    bundle 3.2.0 keys
    rm -r "$service"
    # All is well with this one but for the self-test, which only limen-mark-good makes.
    sed -i 's|^Environment=LIMEN_MARK_WAIT=.*|Environment=LIMEN_MARK_WAIT=30 "LIMEN_MARK_SELFTEST=ls /no/known/face"|' "$mark"
    build 3.3.0
    bundle 3.3.0 keys
    # Nothing of these is ever read.
    head -c 1000000 /dev/urandom >"$image/content/limen-image.ext4"
    describe 3.4.0
    bundle 3.4.0 foreign
    describe 2.9.0
    bundle 2.9.0 keys
    # A properly signed bundle under a version that is not its own.
    mkdir "$work/releases/3.9.0"
    cp "$work/releases/3.1.0/limen_3.1.0_raspberrypi5.raucb" "$work/releases/3.9.0/limen_3.9.0_raspberrypi5.raucb"
    sed 's/3[.]1[.]0/3.9.0/' "$work/releases/3.1.0/limen_3.1.0.manifest" >"$work/releases/3.9.0/limen_3.9.0.manifest"
    ssh-keygen -q -Y sign -f "$work/keys/release" -n limen-release "$work/releases/3.9.0/limen_3.9.0.manifest" 2>/dev/null
) &
builds=$!
for host in "${boards[@]}"; do
    await "$host"
    proved "$host"
    expect "$host" 3.0.0 A 2
done
code=0
answer=$(door h101 rollback </dev/null) || code=$?
[[ $code == 2 && $answer == *"no version to go back to"* ]] || failed "rollback to an empty slot: $code $answer"
pass "2 boards with two slots started from the first one, proved themselves, and refuse to go to the empty one"

moment=$(now_ms)
play update -e limen_fleet_version=3.1.0 || { cat "$work/play.log" >&2; failed "the update by images did not pass"; }
[[ $(outcomes) == "2 ok" && $(jq -r '[.hosts[].version] | unique[]' "$(report)") == 3.1.0 ]] || failed "the update by images: $(jq -c .hosts "$(report)")"
for host in "${boards[@]}"; do
    expect "$host" 3.1.0 B 3
    [[ $(<"$work/hosts/$host/boots") == $'2\n3 tryboot' ]] || failed "$host started $(<"$work/hosts/$host/boots")"
done
if ! play update -e limen_fleet_version=3.1.0 -e limen_fleet_doors=h101 || grep -q "changed=[1-9]" "$work/play.log"; then failed "the same image again changed something"; fi
pass "an image goes to both, one after the other: tried once, marked good in the other slot, $(since "$moment") s; once more changes nothing"

wait "$builds" || failed "the images could not be made"
# On the other board meanwhile, with logs of its own.
(
    mkdir "$image/play"
    # shellcheck disable=SC2034 # for play and report
    reports=$image/play moment=$(now_ms)
    if play update -e limen_fleet_version=3.3.0 -e limen_fleet_canary=h102 -e limen_fleet_doors=h102; then failed "3.3.0, which fails its self-test, passed"; fi
    [[ $(jq -r '.hosts.h102 | "\(.outcome) \(.version) \(.message)"' "$(report)") == "failed 3.1.0 "*"self-test failed: ls: cannot access"* ]] \
        || failed "3.3.0: $(jq -c .hosts "$(report)")"
    expect h102 3.1.0 B 3
    since "$moment" >"$image/back"
) &
other=$!

moment=$(now_ms)
play rollback -e limen_fleet_doors=h101 || { cat "$work/play.log" >&2; failed "rollback to the other slot"; }
expect h101 3.0.0 A 2
[[ $(jq -r .hosts.h101.version "$(report)") == 3.0.0 ]] || failed "the report of the rollback: $(jq -c .hosts "$(report)")"
pass "rollback: the other slot, tried and marked good, $(since "$moment") s"

inside h101 runuser -u limen -- limen enrol somebody /usr/share/portraits/grace_hopper_1.jpg >/dev/null 2>&1 || failed "enrolling on h101"
moment=$(now_ms)
if play update -e limen_fleet_version=3.2.0; then failed "3.2.0, whose limen does not start, passed"; fi
[[ $(jq -r '.hosts.h101.outcome' "$(report)") == failed && $(outcomes) == "1 failed, 1 untouched" ]] || { cat "$work/play.log" >&2; failed "outcomes of 3.2.0: $(outcomes)"; }
[[ $(jq -r .hosts.h101.message "$(report)") == *"slot B: for 5 s there was no sign of an answer"*"back in the former slot, and well" ]] \
    || failed "what is said of 3.2.0: $(jq -r .hosts.h101.message "$(report)")"
expect h101 3.0.0 A 2
[[ $(tail -n 2 "$work/hosts/h101/boots") == $'3 tryboot\n2' ]] || failed "h101 started $(<"$work/hosts/h101/boots")"
door h101 health </dev/null | jq -e '.health.recognition.subjects == 1' >/dev/null || failed "h101 lost its gallery"
code=0
answer=$(door h101 rollback </dev/null) || code=$?
[[ $code == 2 && $answer == *"did not prove itself: slot B"* ]] || failed "rollback to what did not prove itself: $code $answer"
wait "$other" || exit 1
[[ $(door h102 status </dev/null | jq -c '[.limen, .slot.booted, (.store | map(.version) | index("3.2.0"))]') == '["3.1.0","B",null]' ]] || failed "3.2.0 came to h102"
pass "an image whose limen does not start: the board is back in the former slot, with the gallery of before and the reason, $(since "$moment") s; the other one never got it"

pass "an image that is well until its self-test fails is not taken for good: back after $(<"$image/back") s"

send_image() {
    local part
    for part in "limen_$2.manifest" "limen_$2.manifest.sig" "limen_$2_raspberrypi5.raucb"; do send "$1" "$work/releases/$2/$part" >/dev/null; done
}
# refused_image HOST VERSION REASON
refused_image() {
    local code=0 answer
    send_image "$1" "$2"
    answer=$(door "$1" install "$2" </dev/null) || code=$?
    [[ $code == 2 && $answer == *"$3"* ]] || failed "$2 was answered with $code: $answer"
}
card() { inside h102 sh -c "cat /dev/mmcblk0p?" 2>/dev/null | sha256sum; }
before=$(card)
refused_image h102 3.4.0 "signature verification failed"
refused_image h102 3.9.0 "is not a bundle of version 3.9.0"
refused_image h102 2.9.0 "is older than 3.1.0"
[[ $(card) == "$before" ]] || failed "a refused image changed something on the card"
expect h102 3.1.0 B 3
pass "images with a foreign signature, under another version, or older are refused, and no byte of the card is another"

send_image h101 3.1.0
door h101 install 3.1.0 </dev/null >/dev/null 2>&1 &
cut=$!
until grep -q 'Copying image to rootfs.1$' "$work/hosts/h101/card/data/limen-deploy/last.log"; do
    kill -0 "$cut" 2>/dev/null || failed "RAUC was done before the power went"
    sleep 0.02
done
unplug h101
wait "$cut" 2>/dev/null || true
[[ $(jq -r '"\(.kind) \(.phase)"' "$work/hosts/h101/card/data/limen-deploy/journal") == "image install" ]] || failed "the cut came too late"
switch_on h101
await h101
proved h101
expect h101 3.0.0 A 2
[[ $(door h101 status </dev/null | jq -r '.last.message') == *"from the image 3.0.0 to 3.1.0 was interrupted; it is taken back"* ]] || failed "after the cut: $(door h101 status </dev/null | jq -c .last)"
code=0
answer=$(door h101 rollback </dev/null) || code=$?
[[ $code == 2 && $answer == *"no version to go back to"* ]] || failed "rollback to a slot that was cut off: $code $answer"
play update -e limen_fleet_version=3.1.0 -e limen_fleet_doors=h101 || { cat "$work/play.log" >&2; failed "the update once more after the cut"; }
expect h101 3.1.0 B 3
pass "the power goes while RAUC writes: the board starts from the former slot and is well; the same update again passes"
for host in "${boards[@]}"; do unplug "$host"; done
umount "$image/root"
