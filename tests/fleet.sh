#!/usr/bin/env bash
# The fleet: LIMEN_FLEET_HOSTS devices (20 unless said) with the real packages, a real sshd, dpkg and limen each, in
# namespaces of their own on one bridge with a real broker, driven by the playbooks of fleet/. Good and bad releases,
# hosts that die in the middle of an update (LIMEN_FLEET_KILLS times, 6 unless said), hostile releases and commands,
# configuration, certificates, a gallery; and two boards with two slots that RAUC installs images into.
#
#   tests/fleet.sh                          everything
#   LIMEN_FLEET_KILLS=20 tests/fleet.sh     the figure in docs/performance.md
#   LIMEN_FLEET_ONLY=kills tests/fleet.sh   one of: update, bad, hostile, away, settings, gallery, kills, image
#
# Needs root, Debian 12 or Ubuntu on amd64. The first run fetches about 100 MB into .setup/fleet.
# Exit codes: 0 passed, 1 a test failed, 2 wrong use, 4 system packages missing, 6 download failed.
#
# Words for another shell stand in single quotes (2016), what goes over SSH is expanded here on purpose (2029), and a
# file is measured in the line that sends it (2094).
# shellcheck disable=SC2016,SC2029,SC2094
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
cd -- "$here/.."
export LC_ALL=C.UTF-8
umask 022

hosts=${LIMEN_FLEET_HOSTS:-20} kills=${LIMEN_FLEET_KILLS:-6} only=${LIMEN_FLEET_ONLY:-}
say() { printf 'fleet: %s\n' "$*"; }
die() {
    local code=$1
    shift
    printf 'fleet: %s\n' "$*" >&2
    exit "$code"
}
[[ $hosts =~ ^[0-9]+$ && $hosts -ge 8 && $hosts -le 99 ]] || die 2 "LIMEN_FLEET_HOSTS is $hosts; it is a number from 8 to 99"
[[ $kills =~ ^[0-9]+$ ]] || die 2 "LIMEN_FLEET_KILLS is $kills; it is a number"

# --- with the network: what is needed, once
if [[ ${LIMEN_FLEET_INSIDE:-} != 1 ]]; then
    [[ $(id -u) == 0 ]] || die 2 "this test makes namespaces and mounts: run it as root"
    [[ $(uname -m) == x86_64 ]] || die 2 "this test runs on amd64 only, this is $(uname -m)"
    packaging/need.sh mmdebstrap iproute2 openssh-client mosquitto jq openssl python3-venv util-linux rauc squashfs-tools e2fsprogs gcc
    mkdir -p .setup/fleet
    list=fleet/requirements.txt venv=.setup/fleet/venv
    if ! [[ -x $venv/bin/ansible-playbook ]] || ! cmp -s "$list" "$venv/requirements.txt"; then
        say "fetching what $list pins"
        python3 -m venv --clear "$venv"
        PIP_REQUIRE_VIRTUALENV=0 "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check --require-hashes \
            --requirement "$list" || die 6 "Ansible could not be fetched: pip's reason stands above"
        cp -- "$list" "$venv/requirements.txt"
    fi
    base=$(tests/fleet/base.sh)
    target=$(readlink -m -- "${CARGO_TARGET_DIR:-target}")
    program=${LIMEN_FLEET_PROGRAM:-$target/debug/limen}
    [[ -x $program ]] || cargo build --locked
    # The packages of this very tree, as they ship but for the optimisation: those that `make deb` made of the program
    # last, or else made now.
    newest() { [[ ! -d $1 ]] || find "$1" -maxdepth 1 -name "$2" -newer "$program" -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d ' ' -f 2-; }
    # The device's end out of date would be another test than the one that is meant.
    current() { [[ -n $1 && -n $2 && -z $(find packaging fleet/device systemd models -type f -newer "$2" -print -quit) ]]; }
    for folder in "$target/deb" .setup/fleet/deb; do
        limen_deb=$(newest "$folder" 'limen_*_amd64.deb') deploy_deb=$(newest "$folder" 'limen-deploy_*_all.deb')
        ! current "$limen_deb" "$deploy_deb" || break
    done
    if ! current "$limen_deb" "$deploy_deb"; then
        say "making packages of $program"
        rm -rf .setup/fleet/deb
        PROGRAM=$program VERSION=1.0.0 CARGO_TARGET_DIR=$PWD/.setup/fleet packaging/deb.sh >.setup/fleet/deb.log 2>&1 \
            || { tail -n 20 .setup/fleet/deb.log >&2; die 1 "the packages could not be made"; }
        limen_deb=$(echo .setup/fleet/deb/limen_*_amd64.deb) deploy_deb=$(echo .setup/fleet/deb/limen-deploy_*_all.deb)
    fi
    say "with ${limen_deb##*/} and ${deploy_deb##*/} of ${limen_deb%/*}"
    export LIMEN_FLEET_LIMEN=$limen_deb LIMEN_FLEET_DEPLOY=$deploy_deb
    # Everything below ends with this process: mounts, networks and hosts.
    export LIMEN_FLEET_INSIDE=1 LIMEN_FLEET_BASE=$base
    exec unshare --mount --net --pid --uts --fork --kill-child --mount-proc --propagation private -- "$here/fleet.sh"
fi

base=$LIMEN_FLEET_BASE
mkdir -p .setup/fleet
work=$(mktemp -d "$PWD/.setup/fleet/run.XXXXXX")
finish() {
    local code=$?
    trap - EXIT
    # Hosts first: what they have mounted is in the way.
    local pid
    for pid in "${pids[@]}" ${broker:+"$broker"} $(cat "$work"/hosts/*/pid 2>/dev/null); do
        kill -KILL "$pid" 2>/dev/null || true
    done
    umount -R -l "$work"/hosts/*/{root,slot} "$work"/{installed,image}/root 2>/dev/null || true
    if [[ $code != 0 && -n ${LIMEN_FLEET_KEEP:-} ]]; then say "left in $work"; else rm -rf -- "$work"; fi
    exit "$code"
}
declare -A pids=()
broker=
trap finish EXIT
ansible=$PWD/.setup/fleet/venv/bin
passed=0
began=$SECONDS
pass() {
    passed=$((passed + 1))
    say "ok after $((SECONDS - began)) s: $*"
}
failed() { die 1 "FAILED: $*"; }
wanted() { [[ -z $only || " $only " == *" $1 "* ]]; }
now_ms() { date +%s%3N; }
# Seconds since a moment, with one digit.
since() { local ms=$(($(now_ms) - $1)); printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100)); }

# --- releases: one package of this tree, made good and bad by hand
mkdir -p "$work"/{keys,releases,debs,reports,tree}
ssh-keygen -q -t ed25519 -N '' -C release -f "$work/keys/release"
ssh-keygen -q -t ed25519 -N '' -C stranger -f "$work/keys/stranger"
ssh-keygen -q -t ed25519 -N '' -C deploy -f "$work/keys/deploy"
tree=$work/tree/limen
dpkg-deb -R "$LIMEN_FLEET_LIMEN" "$tree"
# package VERSION: the tree as it is now.
package() {
    sed -i "s/^Version: .*/Version: $1/" "$tree/DEBIAN/control"
    # Packed loosely: what is tested is not the packer.
    dpkg-deb --root-owner-group -Zgzip -z1 -b "$tree" "$work/debs/limen_${1}_amd64.deb" >/dev/null
}
release() { fleet/release.sh "$1" "$work/keys/release" "$work/releases" "$work/debs/limen_${1}_amd64.deb" >/dev/null; }
good() { package "$1" && release "$1"; }
good 1.0.0
good 1.1.0
# A network with one byte that is not as it was made.
model=$tree/usr/share/limen/models/sface-int8.tflite
cp -p "$model" "$work/tree/kept"
printf 'X' | dd of="$model" bs=1 seek=5000000 conv=notrunc status=none
good 1.2.0
cp -p "$work/tree/kept" "$model"
# A program that was cut off.
cp -p "$tree/usr/bin/limen" "$work/tree/kept"
truncate -s 20000000 "$tree/usr/bin/limen"
good 1.3.0
cp -p "$work/tree/kept" "$tree/usr/bin/limen"
# Starts, and sees nothing: a setting that somebody left in.
mkdir -p "$tree/etc/limen/limen.toml.d"
printf '[camera]\nsource = "/dev/video99"\n' >"$tree/etc/limen/limen.toml.d/99-forgotten.toml"
good 1.4.0
rm -r "$tree/etc/limen/limen.toml.d"
# A maintainer script that fails.
cp -p "$tree/DEBIAN/postinst" "$work/tree/kept"
sed -i '2i echo "no such thing" >&2; exit 1' "$tree/DEBIAN/postinst"
good 1.5.0
cp -p "$work/tree/kept" "$tree/DEBIAN/postinst"
good 1.6.0

# --- the network: this process sits on the bridge, and with it the broker and the controller
ip link set lo up
ip link add fleet type bridge
ip address add 10.77.0.254/24 dev fleet
ip link set fleet up
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
cat >"$work/mosquitto.conf" <<X
listener 1883 10.77.0.254
allow_anonymous true
persistence false
X
start_broker() {
    PATH=$PATH:/usr/sbin mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
    broker=$!
    disown "$broker"
}
start_broker

# --- hosts: the shared root, the packages on top of it, and a layer of each host's own
mkdir -p "$work"/installed/{up,wk,root}
mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/installed/up,workdir=$work/installed/wk" "$work/installed/root"
install -D -t "$work/installed/root/root/packages" "$work/debs/limen_1.0.0_amd64.deb" "$LIMEN_FLEET_DEPLOY"
unshare --mount --pid --fork --kill-child -- chroot "$work/installed/root" /bin/bash -c '
    mount -t proc proc /proc && mount -t tmpfs tmpfs /run && dpkg --install /root/packages/*.deb && rm -r /root/packages' \
    </dev/null >"$work/install.log" 2>&1 || { cat "$work/install.log" >&2; failed "the packages do not install"; }
root=$work/installed/root
mkdir -p "$root/usr/share/portraits"
cp tests/fixtures/portraits/{grace_hopper,joe_biden}_1.jpg "$root/usr/share/portraits/"
printf 'limen-release namespaces="limen-release" %s\n' "$(cut -d ' ' -f 1,2 "$work/keys/release.pub")" >"$root/etc/limen-deploy/allowed_signers"
cp "$work/keys/deploy.pub" "$root/etc/limen-deploy/authorized_keys"
printf 'health_seconds=45\nsteady_seconds=2\n' >"$root/etc/limen-deploy/limen-deploy.conf"
umount "$root"

inventory=$work/inventory.yml known_hosts=$work/known_hosts
{
    printf 'all:\n  vars:\n    limen_fleet_identity_file: %s\n    limen_fleet_known_hosts: %s\n' "$work/keys/deploy" "$known_hosts"
    printf '    limen_fleet_releases: %s\n    limen_fleet_stop_after: 2\n' "$work/releases"
    printf 'doors:\n  hosts:\n'
} >"$inventory"
make_host() {
    local host=h$1 folder=$work/hosts/h$1
    mkdir -p "$folder"/{up,wk,root}
    # The page cache is all that a host loses when it is killed: nothing has to wait for this machine's disk.
    mount -t overlay overlay -o "lowerdir=$work/installed/up:$base,upperdir=$folder/up,workdir=$folder/wk,volatile" "$folder/root"
    ssh-keygen -q -t ed25519 -N '' -C "$host" -f "$folder/root/etc/ssh/ssh_host_ed25519_key"
    settings "$host" >"$folder/root/etc/limen/limen.toml.d/10-test.toml"
    printf '127.0.0.1 localhost %s\n' "$host" >"$folder/root/etc/hosts"
    : >"$folder/root/etc/resolv.conf"
    connect "$host" "$folder/root/etc/ssh/ssh_host_ed25519_key.pub"
}
settings() {
    cat <<X
[device]
name = "$1"
[camera]
source = "replay:/usr/share/portraits"
rate_hz = 1.0
[tracking]
settled_look_hz = 0.5
lost_after_ms = 5000
idle_look_hz = 0.2
unchanged_look_hz = 0.1
[mqtt]
host = "10.77.0.254"
X
}
# connect HOST KEY: the controller knows it, and there is a wire.
connect() {
    local address=10.77.0.${1#h}
    printf '%s %s\n' "$address" "$(cut -d ' ' -f 1,2 "$2")" >>"$known_hosts"
    printf '    %s:\n      ansible_host: %s\n' "$1" "$address" >>"$inventory"
    ip netns add "$1"
    ip link add "v$1" type veth peer name eth0 netns "$1"
    ip link set "v$1" master fleet up
    ip -n "$1" link set lo up
    ip -n "$1" address add "$address/24" dev eth0
    ip -n "$1" link set eth0 up
}
boot() {
    nsenter --net="/run/netns/$1" unshare --mount --pid --uts --ipc --fork --kill-child -- \
        tests/fleet/init.sh "$work/hosts/$1/root" "$1" </dev/null >>"$work/hosts/$1/console" 2>&1 &
    pids[$1]=$!
    echo $! >"$work/hosts/$1/pid"
    # That one is killed later on is no news to the shell.
    disown "${pids[$1]}"
}
process_1() { pgrep -P "$(<"$work/hosts/$1/pid")" | head -n 1; }
# The power goes: nothing in the host hears of it.
power_off() {
    local child
    # The kernel ends all others with it, and it is gone only when they are.
    child=$(process_1 "$1")
    kill -KILL "$child"
    while [[ -e /proc/$child ]]; do sleep 0.05; done
    unset "pids[$1]"
}
inside() {
    local host=$1 child
    shift
    child=$(process_1 "$host")
    nsenter --target "$child" --mount --pid --net --uts --root --wd=/ -- "$@"
}
ssh_options=(-F none -T -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$known_hosts"
    -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes -i "$work/keys/deploy" -o ConnectTimeout=5 -o LogLevel=ERROR)
door() {
    local host=$1
    shift
    ssh "${ssh_options[@]}" "limen-deploy@10.77.0.${host#h}" -- "$@"
}
version_of() { door "$1" status </dev/null | jq -r .limen; }
send() { door "$1" receive "$(basename "$2")" "$(stat -c %s "$2")" "$(sha256sum <"$2" | cut -d ' ' -f 1)" <"$2"; }
send_release() {
    local part
    for part in "limen_$2.manifest" "limen_$2.manifest.sig" "limen_$2_amd64.deb"; do send "$1" "$work/releases/$2/$part" >/dev/null; done
}
await() {
    local host=$1 answer=$work/answer-$1 until=$((SECONDS + 90))
    until door "$host" health </dev/null >"$answer" 2>&1; do
        ((SECONDS < until)) || { cat "$answer" "$work/hosts/$host/console" >&2; tail -n 20 "$work/hosts/$host/root/var/log/boot.log" >&2; failed "$host is not well after its start"; }
        sleep 1
    done
}
reports=$work/reports
play() {
    local name=$1
    shift
    # Of the tests' own, so that nothing of whoever runs them matters.
    env -i PATH="$ansible:$PATH" HOME="$work" LC_ALL=C.UTF-8 ANSIBLE_CONFIG="$PWD/fleet/ansible.cfg" LIMEN_FLEET_REPORTS="$reports" \
        ANSIBLE_NOCOLOR=1 ansible-playbook -i "$inventory" "limen.fleet.$name" "$@" >"${reports%/*}/play.log" 2>&1
}
report() { find "$reports" -name '*.json' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-; }
outcomes() { jq -r '[.hosts[].outcome] | group_by(.) | map("\(length) \(.[0])") | join(", ")' "$(report)"; }

moment=$(now_ms)
mkdir -p "$work/hosts"
for ((i = 1; i <= hosts; i++)); do make_host "$i"; done
printf 'canary:\n  hosts:\n    h1:\n' >>"$inventory"
for ((i = 1; i <= hosts; i++)); do
    boot "h$i"
    # Starting all at once would take longer.
    ((i % 5)) || sleep 4
done
waiting=()
for ((i = 1; i <= hosts; i++)); do
    await "h$i" &
    waiting+=($!)
done
for pid in "${waiting[@]}"; do wait "$pid" || exit 1; done
pass "$hosts hosts started in $(since "$moment") s, each with sshd and limen, and are well"

if wanted update; then
    moment=$(now_ms)
    play update -e limen_fleet_version=1.1.0 -e '{"limen_fleet_waves": [5]}' || { cat "$work/play.log" >&2; failed "the update did not pass"; }
    [[ $(outcomes) == "$hosts ok" ]] || failed "outcomes of the update: $(outcomes)"
    for ((i = 1; i <= hosts; i++)); do [[ $(version_of "h$i") == 1.1.0 ]] || failed "h$i has not 1.1.0"; done
    pass "$hosts hosts updated, a canary and then waves of 5, in one run of $(jq -r .seconds "$(report)") s"
    if ! play update -e limen_fleet_version=1.1.0 -e '{"limen_fleet_waves": [20]}' || ! grep -q "h1 .*changed=0" "$work/play.log"; then failed "the same update again changed something"; fi
    pass "the same update again changes nothing"
    play health || failed "health.yml: $(outcomes)"
    pass "health of $(jq '[.hosts[] | select(.health.camera.delivered > 0)] | length' "$(report)") hosts collected"
fi

if wanted bad; then
    present=$(version_of h1)
    [[ $present == 1.1.0 ]] || { send_release h1 1.0.0; }
    for bad in "1.2.0 a damaged network" "1.3.0 a program that does not start"; do
        if play update -e "limen_fleet_version=${bad%% *}"; then failed "${bad%% *} (${bad#* }) passed"; fi
        [[ $(jq -r .hosts.h1.outcome "$(report)") == failed && $(outcomes) == "1 failed, $((hosts - 1)) untouched" ]] \
            || { cat "$work/play.log" >&2; failed "outcomes of ${bad%% *}: $(outcomes)"; }
        [[ $(jq -r .hosts.h1.version "$(report)") == "$present" && $(version_of h1) == "$present" ]] || failed "the canary has not $present again"
        door h1 health </dev/null >/dev/null || failed "the canary is not well"
        for ((i = 2; i <= hosts; i++)); do
            [[ $(door "h$i" status </dev/null | jq -c '[.limen, (.store | map(.version) | index("'"${bad%% *}"'"))]') == "[\"$present\",null]" ]] \
                || failed "${bad%% *} came to h$i"
        done
        pass "${bad#* }: stopped at the canary, which is back within $(jq -r .hosts.h1.back_s "$(report)") s and well; $((hosts - 1)) hosts never got it"
    done
    # Nothing comes of waiting longer for a camera that is not there.
    inside h1 sed -i 's/^health_seconds=.*/health_seconds=15/' /etc/limen-deploy/limen-deploy.conf
    for bad in "1.4.0 camera" "1.5.0 dpkg"; do
        send_release h1 "${bad%% *}"
        code=0
        answer=$(door h1 install "${bad%% *}" </dev/null) || code=$?
        [[ $code == 3 && $(jq -r .reason <<<"$answer") == *"${bad#* }"* && $(jq -r .version <<<"$answer") == "$present" ]] \
            || failed "${bad%% *}: $code $answer"
        pass "${bad%% *} is taken back: $(jq -r '"\(.reason | split(":")[0]); \(.back_seconds) s"' <<<"$answer")"
    done
    inside h1 sed -i 's/^health_seconds=.*/health_seconds=45/' /etc/limen-deploy/limen-deploy.conf
    [[ ! -e $work/hosts/h1/root/etc/limen/limen.toml.d/99-forgotten.toml ]] || failed "1.4.0 left its setting behind"
fi

if wanted hostile; then
    # refused HOST CODE WORDS... : what is sent is on standard input
    refused() {
        local host=$1 reason=$2 code=0 answer
        shift 2
        answer=$(door "$host" "$@") || code=$?
        [[ $code == 2 && $answer == *"$reason"* ]] || failed "'$*' was answered with $code: $answer"
    }
    present=$(version_of h2)
    inside h2 rm -rf /var/lib/limen-deploy/store
    send_release h2 "$present"
    deb=limen_1.6.0_amd64.deb from=$work/releases/1.6.0
    words=(receive "$deb" "$(stat -c %s "$from/$deb")" "$(sha256sum <"$from/$deb" | cut -d ' ' -f 1)")
    refused h2 "manifest of 1.6.0 is not in the store" "${words[@]}" <"$from/$deb"
    send h2 "$from/limen_1.6.0.manifest" >/dev/null
    refused h2 "has no signature" "${words[@]}" <"$from/$deb"
    mkdir "$work/foreign"
    cp "$from/limen_1.6.0.manifest" "$work/foreign/"
    ssh-keygen -q -Y sign -f "$work/keys/stranger" -n limen-release "$work/foreign/limen_1.6.0.manifest" 2>/dev/null
    send h2 "$work/foreign/limen_1.6.0.manifest.sig" >/dev/null
    refused h2 "not that of somebody in" "${words[@]}" <"$from/$deb"
    rm "$work/foreign/limen_1.6.0.manifest.sig"
    ssh-keygen -q -Y sign -f "$work/keys/release" -n file "$work/foreign/limen_1.6.0.manifest" 2>/dev/null
    send h2 "$work/foreign/limen_1.6.0.manifest.sig" >/dev/null
    refused h2 "not that of somebody in" "${words[@]}" <"$from/$deb"
    send h2 "$from/limen_1.6.0.manifest.sig" >/dev/null
    sed 's/^version 1.6.0/version 1.6.0 /' "$from/limen_1.6.0.manifest" >"$work/foreign/limen_1.6.0.manifest"
    send h2 "$work/foreign/limen_1.6.0.manifest" >/dev/null
    refused h2 "the manifest was changed" "${words[@]}" <"$from/$deb"
    send h2 "$from/limen_1.6.0.manifest" >/dev/null
    cp "$from/$deb" "$work/foreign/$deb"
    printf 'X' | dd of="$work/foreign/$deb" bs=1 seek=1000000 conv=notrunc status=none
    refused h2 "do not have the announced SHA-256" "${words[@]}" <"$work/foreign/$deb"
    refused h2 "does not list" receive "$deb" "${words[2]}" "$(sha256sum <"$work/foreign/$deb" | cut -d ' ' -f 1)" <"$work/foreign/$deb"
    head -c 1000 "$from/$deb" >"$work/foreign/short"
    code=0
    answer=$(door h2 "${words[@]}" <"$work/foreign/short") || code=$?
    [[ $code == 1 && $answer == *"the data ended before"* ]] || failed "data that end too soon: $code $answer"
    cat "$from/$deb" "$work/foreign/short" >"$work/foreign/long"
    refused h2 "more than the announced" "${words[@]}" <"$work/foreign/long"
    refused h2 "is not in the store for this device" install 1.6.0 </dev/null
    send h2 "$from/$deb" >/dev/null
    printf 'X' | dd of="$work/hosts/h2/root/var/lib/limen-deploy/store/$deb" bs=1 seek=1000000 conv=notrunc status=none
    refused h2 "is not the file that the manifest of 1.6.0 lists" install 1.6.0 </dev/null
    # A package under a name that is not its own, properly signed by a mistaken person.
    mkdir -p "$work/releases/9.9.9"
    cp "$work/debs/limen_1.6.0_amd64.deb" "$work/releases/9.9.9/limen_9.9.9_amd64.deb"
    printf 'limen-release 1\nversion 9.9.9\nfile limen_9.9.9_amd64.deb %s %s\n' "${words[2]}" "${words[3]}" >"$work/releases/9.9.9/limen_9.9.9.manifest"
    ssh-keygen -q -Y sign -f "$work/keys/release" -n limen-release "$work/releases/9.9.9/limen_9.9.9.manifest" 2>/dev/null
    send_release h2 9.9.9
    refused h2 "is not the package limen in version 9.9.9" install 9.9.9 </dev/null
    good 0.9.0
    send_release h2 0.9.0
    refused h2 "is older than $present" install 0.9.0 </dev/null
    [[ $(version_of h2) == "$present" ]] || failed "h2 has another version after refused releases"
    pass "12 releases that are unsigned, foreign, changed, cut off, mislabelled or older are refused"

    tried=0
    # What a shell, sudo or the program might make something of.
    for words in '' 'bash' 'bash -i' 'status; touch /tmp/pwned' 'status && touch /tmp/pwned' "status \$(touch /tmp/pwned)" 'status `touch /tmp/pwned`' \
        $'status\ntouch /tmp/pwned' 'status | touch /tmp/pwned' 'status > /tmp/pwned' 'status *' 'status ~root/../x' '-- bash' '--recover' '--privileged status' \
        'install ../../etc/passwd' 'install 1.6.0 --force' 'install -1' 'rollback now please' 'receive ../x 1 aa' 'receive limen_1.0.0_amd64.deb 1 zz' \
        "receive limen_1..%2f_amd64.deb 1 $(printf 'a%.0s' {1..64})" "config-put ../../etc/sudoers.d/x 1 $(printf 'a%.0s' {1..64})" \
        "config-put 50-x.toml 99999999 $(printf 'a%.0s' {1..64})" 'logs 99999' 'logs -f' 'certificate-put ssh 1 aa' 'scp -t /etc' 'sudo -i' \
        "status $(printf 'x%.0s' {1..600})" $'status \x1b[2J' 'status é'; do
        code=0
        door h2 "$words" </dev/null >"$work/answer" 2>/dev/null || code=$?
        [[ $code == 2 && $(jq '.ok == false and (.message | length > 0)' "$work/answer") == true ]] || failed "'$words' was answered with $code: $(cat "$work/answer")"
        tried=$((tried + 1))
    done
    # And with what sshd itself offers.
    ! ssh "${ssh_options[@]}" -tt limen-deploy@10.77.0.2 </dev/null >"$work/answer" 2>&1 || failed "there is a terminal"
    ! sftp -q -b /dev/null "${ssh_options[@]:3}" limen-deploy@10.77.0.2 >/dev/null 2>&1 || failed "there is sftp"
    ! ssh "${ssh_options[@]}" root@10.77.0.2 true </dev/null >/dev/null 2>&1 || failed "the deploy key signs root in"
    ssh "${ssh_options[@]}" -N -L 127.0.0.1:18480:127.0.0.1:8480 limen-deploy@10.77.0.2 </dev/null >/dev/null 2>&1 &
    tunnel=$!
    sleep 2
    ! curl -s --max-time 3 http://127.0.0.1:18480/health >/dev/null || failed "a port is forwarded"
    kill "$tunnel" 2>/dev/null || true
    wait "$tunnel" 2>/dev/null || true
    for words in 'sudo -n id' 'sudo -n /bin/sh' 'sudo -n /usr/sbin/limen-deploy --recover' 'sudo -n -u limen id' 'sudo -n BASH_ENV=/tmp/x /usr/sbin/limen-deploy --privileged status' \
        'cat /var/lib/limen-deploy/last.json' 'ls /var/lib/limen' 'touch /etc/limen-deploy/authorized_keys'; do
        ! inside h2 setpriv --reuid=limen-deploy --regid=limen-deploy --clear-groups /bin/sh -c "$words" </dev/null >/dev/null 2>&1 || failed "the deploy account may: $words"
        tried=$((tried + 1))
    done
    code=0
    inside h2 setpriv --reuid=limen-deploy --regid=limen-deploy --clear-groups sudo -n /usr/sbin/limen-deploy --privileged 'status;id' >"$work/answer" </dev/null 2>&1 || code=$?
    [[ $code == 2 && $(cat "$work/answer") == *"letters that no verb takes"* ]] || failed "the privileged half took $(cat "$work/answer")"
    ! inside h2 test -e /tmp/pwned || failed "something was run"
    # The other way round: the same key and words that do what they should.
    door h2 status </dev/null | jq -e .ok >/dev/null || failed "status is not answered"
    pass "$((tried + 5)) attempts to get more than the verbs are refused"
fi

if wanted away; then
    # h3 is off, h4 shows another host key; two may fail.
    power_off h3
    cp "$known_hosts" "$work/known_hosts.kept"
    sed -i "s|^10.77.0.4 .*|10.77.0.4 $(cut -d ' ' -f 1,2 "$work/keys/stranger.pub")|" "$known_hosts"
    : "${present:=$(version_of h5)}"
    if play update -e limen_fleet_version=1.6.0 -e limen_fleet_doors='h2:h3:h5:h6' -e '{"limen_fleet_waves": [2]}'; then failed "a host is away, and the run says nothing of it"; fi
    [[ $(jq -c '[.hosts | .h1, .h2, .h3, .h5, .h6 | .outcome]' "$(report)") == '["ok","ok","unreachable","ok","ok"]' ]] \
        || { cat "$work/play.log" >&2; failed "with a host away: $(outcomes)"; }
    pass "a host that is away: its wave and the next end all the same, as limen_fleet_stop_after = 2 says"
    if play update -e limen_fleet_version=1.6.0 -e limen_fleet_stop_after=1 -e limen_fleet_doors='h4:h7:h8' -e '{"limen_fleet_waves": [2, 1]}'; then failed "another host key is taken"; fi
    [[ $(jq -c '[.hosts | .h4, .h7, .h8 | .outcome]' "$(report)") == '["unreachable","ok","untouched"]' ]] || { cat "$work/play.log" >&2; failed "with another host key: $(outcomes)"; }
    [[ $(jq -r .hosts.h4.message "$(report)") == *"Host key verification failed"* ]] || failed "h4: $(jq -r .hosts.h4.message "$(report)")"
    pass "another host key is refused; with limen_fleet_stop_after = 1 the next wave does not begin"
    cp "$work/known_hosts.kept" "$known_hosts"
    boot h3
    await h3
    # The broker is away: nobody could tell whether an update broke it.
    kill "$broker"
    sleep 3
    if play update -e limen_fleet_version=1.6.0 -e limen_fleet_canary=h8 -e limen_fleet_doors=h8; then failed "an update passed without the broker"; fi
    [[ $(jq -r '.hosts.h8.message' "$(report)") == *"broker is degraded"* && $(version_of h8) == "$present" ]] || { cat "$work/play.log" >&2; failed "without the broker: $(jq -c .hosts.h8 "$(report)")"; }
    start_broker
    await h8
    pass "a host that is not well, here without its broker, is left alone"
    # The controller goes away in the middle of it.
    send_release h8 "$present"
    send_release h8 1.6.0
    door h8 install 1.6.0 </dev/null >/dev/null 2>&1 &
    lost=$!
    sleep 1.5
    kill -KILL "$lost"
    wait "$lost" 2>/dev/null || true
    until=$((SECONDS + 90))
    while [[ $(door h8 status </dev/null | jq -c '[.busy, .interrupted, .limen, .last.ok]') != '[false,false,"1.6.0",true]' ]]; do
        ((SECONDS < until)) || failed "an update whose controller went away did not end: $(door h8 status </dev/null)"
        sleep 1
    done
    pass "a controller that goes away in the middle: the host ends its update by itself"
    door h8 rollback </dev/null | jq -e '.ok' >/dev/null || failed "rollback"
    [[ $(version_of h8) == "$present" ]] || failed "h8 did not go back"
    pass "rollback puts $present back"
fi

if wanted settings; then
    door_config() { door "$1" config-put "$2" "$(stat -c %s "$3")" "$(sha256sum <"$3" | cut -d ' ' -f 1)" <"$3"; }
    mkdir "$work/templates"
    printf '[device]\nname = {{ inventory_hostname | to_json }}\n\n[events]\nkeep_days = {{ site_keep_days }}\n' >"$work/templates/site.toml.j2"
    play configure -e limen_fleet_doors='h2:h3:h4' -e limen_fleet_template="$work/templates/site.toml.j2" -e site_keep_days=7 || { cat "$work/play.log" >&2; failed "a good configuration"; }
    for host in h2 h3 h4; do
        [[ $(inside $host runuser -u limen -- limen --json config show | jq -c '[.events.keep_days.value, .device.name.value]') == "[7,\"$host\"]" ]] || failed "the configuration of $host"
    done
    pass "a template is in force on 3 hosts"
    sum=$(sha256sum <"$work/hosts/h2/root/etc/limen/limen.toml.d/50-site.toml")
    pid=$(inside h2 pgrep -x limen)
    if play configure -e limen_fleet_doors='h2:h3:h4' -e '{"limen_fleet_waves": [1]}' -e limen_fleet_stop_after=1 -e limen_fleet_template="$work/templates/site.toml.j2" -e site_keep_days=-1; then failed "an invalid configuration passed"; fi
    [[ $(jq -r .hosts.h2.message "$(report)") == *"events.keep_days"*"/etc/limen/limen.toml.d/50-site.toml"* && $(jq -r .hosts.h3.outcome "$(report)") == untouched ]] || failed "an invalid configuration: $(jq -c .hosts "$(report)")"
    [[ $(sha256sum <"$work/hosts/h2/root/etc/limen/limen.toml.d/50-site.toml") == "$sum" && $(inside h2 pgrep -x limen) == "$pid" ]] || failed "an invalid configuration changed something"
    pass "an invalid configuration is refused with limen's own words before anything changes: $(jq -r .hosts.h2.message "$(report)" | grep -o 'events.keep_days.*' | head -c 90)"
    printf '[camera]\nsource = "/dev/video99"\n' >"$work/blind.toml"
    inside h2 sed -i 's/^health_seconds=.*/health_seconds=15/' /etc/limen-deploy/limen-deploy.conf
    code=0
    answer=$(door_config h2 60-blind.toml "$work/blind.toml") || code=$?
    [[ $code == 3 && $(jq -r .reason <<<"$answer") == camera* && ! -e $work/hosts/h2/root/etc/limen/limen.toml.d/60-blind.toml ]] || failed "a configuration without a camera: $code $answer"
    door h2 health </dev/null >/dev/null || failed "h2 is not well after a configuration was taken back"
    pass "a valid configuration with which no frame comes is taken back"

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/ca.key" -out "$work/ca.pem" -days 30 -subj '/CN=fleet test' 2>/dev/null
    mkdir "$work/certificates"
    for host in h2 h3; do
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/one.key" -out "$work/one.csr" -subj "/CN=$host" 2>/dev/null
        openssl x509 -req -in "$work/one.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 20 -extfile <(printf 'subjectAltName=IP:10.77.0.%s' "${host#h}") -out "$work/one.pem" 2>/dev/null
        cat "$work/one.pem" "$work/ca.pem" "$work/one.key" >"$work/certificates/$host.pem"
    done
    play certificates -e limen_fleet_doors='h2:h3' -e limen_fleet_certificate=http -e limen_fleet_certificates="$work/certificates" || { cat "$work/play.log" >&2; failed "certificates"; }
    for host in h2 h3; do
        curl -s --cacert "$work/ca.pem" --max-time 10 "https://10.77.0.${host#h}:8480/" >/dev/null || failed "$host does not show the certificate of the authority"
    done
    cat "$work/one.pem" "$work/ca.key" >"$work/certificates/h4.pem"
    if play certificates -e limen_fleet_doors=h4 -e limen_fleet_certificate=http -e limen_fleet_certificates="$work/certificates"; then failed "a foreign key passed"; fi
    [[ $(jq -r .hosts.h4.message "$(report)") == *"do not belong together"* ]] || failed "a foreign key: $(jq -c .hosts.h4 "$(report)")"
    pass "certificates rotated on 2 hosts and verified from outside; one whose key is another's is refused"
fi

if wanted gallery; then
    for who in grace_hopper joe_biden; do
        inside h1 runuser -u limen -- limen enrol "$who" "/usr/share/portraits/${who}_1.jpg" >/dev/null 2>&1 || failed "enrolling $who"
    done
    inside h5 runuser -u limen -- limen enrol stranger /usr/share/portraits/grace_hopper_1.jpg >/dev/null 2>&1 || failed "enrolling on h5"
    key=$(inside h1 runuser -u limen -- limen --json backup key 2>/dev/null | jq -r .recovery_key)
    users=$(inside h5 runuser -u limen -- limen --json users list 2>/dev/null | sha256sum)
    printf 'limen_fleet_recovery_key: %s\n' "$key" >"$work/secret.yml"
    play gallery -e limen_fleet_gallery_source=h1 -e limen_fleet_gallery="$work/gallery.backup" -e limen_fleet_doors='h1:h4:h5:h6' -e @"$work/secret.yml" || { cat "$work/play.log" >&2; failed "the gallery"; }
    for host in h4 h5 h6; do
        names=$(inside $host runuser -u limen -- limen --json subjects list 2>/dev/null | jq -rs '[.. | .name? // empty] | sort | join(" ")')
        [[ $names == "grace_hopper joe_biden" ]] || failed "$host knows: $names"
        inside $host runuser -u limen -- limen identify /usr/share/portraits/joe_biden_1.jpg >/dev/null 2>&1 || failed "$host does not recognise who is in the gallery"
        [[ -z $(find "$work/hosts/$host/root/var/lib/limen" -name 'former-gallery*') ]] || failed "$host kept its former gallery"
    done
    [[ $(inside h5 runuser -u limen -- limen --json users list 2>/dev/null | sha256sum) == "$users" ]] || failed "the accounts of h5 are not its own any more"
    ! grep -q "$key" "$work/play.log" "$work"/reports/* || failed "the recovery key is in a log or report"
    pass "one gallery pushed to 3 doors: they know who is in it and nobody else"
    if play gallery -e limen_fleet_gallery_source=h1 -e limen_fleet_gallery="$work/gallery.backup" -e limen_fleet_doors=h6 -e limen_fleet_recovery_key=QKYF-C274-9D0S-XTPJ-B5D4-W8QT-CRRM; then failed "a wrong recovery key passed"; fi
    [[ $(jq -r .hosts.h6.message "$(report)") == *"nothing was changed"* ]] || failed "a wrong key: $(jq -c .hosts.h6 "$(report)")"
    door h6 health </dev/null | jq -e '.health.recognition.subjects == 2' >/dev/null || failed "h6 lost its gallery"
    pass "a gallery under another key is refused, and the present one stays"
fi

if wanted kills && ((kills > 0)); then
    # How long a change takes when nobody is killed, for the moments to lie in all of it.
    lanes=(h7 h8)
    # Of an earlier stage the one may have another version.
    present=$(version_of h7)
    if [[ $(version_of h8) != "$present" ]]; then
        send_release h8 "$present"
        door h8 install "$present" </dev/null | jq -e .ok >/dev/null || failed "$present for h8"
    fi
    for host in "${lanes[@]}"; do
        send_release "$host" "$(version_of "$host")"
    done
    [[ -d $work/releases/2.0.0 ]] || good 2.0.0
    for host in "${lanes[@]}"; do send_release "$host" 2.0.0; done
    moment=$(now_ms)
    door h7 install 2.0.0 </dev/null | jq -e .ok >/dev/null || failed "the measure for the kills"
    length=$(($(now_ms) - moment))
    # The one host from then on is cut off on its way back, the other one on its way to the new version.
    say "a change takes $((length / 1000)).$((length % 1000 / 100)) s; $kills are cut off at moments spread over it"
    lane() {
        local host=$1 try moment from to answer code
        shift
        for try; do
            from=$(version_of "$host")
            if [[ $from == 2.0.0 ]]; then to=$former; verb=(rollback); else to=2.0.0; verb=(install 2.0.0); fi
            door "$host" "${verb[@]}" </dev/null >"$work/killed-$host" 2>/dev/null &
            # One slice of the change for each try, and a moment by chance within it.
            moment=$((length * (try * 1000 + RANDOM % 1000) / (kills * 1000)))
            sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
            power_off "$host"
            wait %door 2>/dev/null || true
            local journal=no phase
            [[ ! -s $work/hosts/$host/root/var/lib/limen-deploy/journal ]] || journal=yes
            phase=$(tail -n 1 "$work/hosts/$host/root/var/lib/limen-deploy/last.log" 2>/dev/null | tr -d '\r' | head -c 60)
            local dpkg_state
            dpkg_state=$(chroot "$work/hosts/$host/root" dpkg-query -W -f '${Status} ${Version}' limen 2>/dev/null || true)
            boot "$host"
            await "$host"
            answer=$(door "$host" status </dev/null)
            [[ $(jq -c '[.interrupted, .pending, .dpkg, .healthy]' <<<"$answer") == '[false,null,"install ok installed",true]' ]] || failed "try $try: $answer"
            [[ $(jq -r .limen <<<"$answer") == "$from" || $(jq -r .limen <<<"$answer") == "$to" ]] || failed "try $try: $(jq -r .limen <<<"$answer") is neither $from nor $to"
            # An interrupted change is taken back, and one that was done stays.
            [[ $journal == no || $(jq -r .limen <<<"$answer") == "$from" ]] || failed "try $try: interrupted on the way from $from, and is $(jq -r .limen <<<"$answer")"
            [[ -z $(inside "$host" dpkg --audit) && -z $(inside "$host" dpkg --verify limen) ]] || failed "try $try: dpkg: $(inside "$host" dpkg --audit; inside "$host" dpkg --verify limen)"
            echo "$try $moment $from $to $journal $(jq -r .limen <<<"$answer") [$dpkg_state] $phase" >>"$work/kills"
        done
    }
    former=$(door h7 status </dev/null | jq -r .former)
    [[ $former == "$(version_of h8)" ]] || failed "the two hosts of the kills began with different versions"
    : >"$work/kills"
    tries=("" "")
    for ((i = 0; i < kills; i++)); do tries[i % 2]+=" $i"; done
    declare -A running=()
    for lane in 0 1; do
        # Words on purpose.
        # shellcheck disable=SC2086
        (lane "${lanes[lane]}" ${tries[lane]}) &
        running[$lane]=$!
    done
    for lane in 0 1; do wait "${running[$lane]}" || failed "a host did not come back, see above"; done
    sort -n "$work/kills" | while read -r try moment from to journal is rest; do
        say "  cut after $moment ms on the way from $from to $to (journal: $journal): starts as $is; was $rest"
    done
    [[ $(wc -l <"$work/kills") == "$kills" ]] || failed "only $(wc -l <"$work/kills") of $kills tries"
    grep -q ' yes ' "$work/kills" || failed "no kill hit a change: the moments are wrong"
    pass "cut off in the middle of a change: $kills of $kills hosts start as a working one, $(grep -c ' yes ' "$work/kills") of them by taking the change back"
fi

if wanted image; then
    # shellcheck source=tests/fleet/image.sh
    source tests/fleet/image.sh
fi

say "$passed tests passed with $hosts hosts in $((SECONDS - began)) s"
