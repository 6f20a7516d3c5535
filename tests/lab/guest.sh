#!/bin/bash
# What happens inside the appliance lab's machine, run by systemd there; see appliance.sh. Each check is one line that
# begins with `ok` or `FAILED`, on the serial port named `lab`.
# `ok` never fails, and what is read here is set in `settings` or by `now`.
# shellcheck disable=SC2015,SC2154
set -uo pipefail

readonly port=/dev/virtio-ports/lab state=/var/lib/limen work=/run/lab
readonly camera=/dev/video0 vivid=/dev/video8
# Nobody below has this name; where it must not appear, it is searched for.
readonly subject='Barack Obama' password=keep-this-from-the-journal
phase=$(sed -n 's/.*lab\.phase=\([0-9]*\).*/\1/p' /proc/cmdline)
failed=0

mkdir -p "$work"
until [[ -e $port ]]; do sleep 0.2; done
exec >"$port" 2>/dev/console
grep -q lab.trace /proc/cmdline && set -x

# Sleeps without starting a program.
exec {quiet}<> <(:)
pause() { read -r -t "$1" -u "$quiet" || true; }
# Hundredths of a second since the machine started; no clock that a test sets.
now() {
    local up rest
    read -r up rest </proc/uptime
    printf -v "$1" '%d' "$((10#${up/./}))"
}
seconds() { printf '%d.%02d s' $(($1 / 100)) $(($1 % 100)); }
say() { printf '%s\n' "$*"; }
ok() { say "ok      $1${2:+ ($2)}"; }
bad() {
    failed=$((failed + 1))
    say "FAILED  $1${2:+ ($2)}"
    journalctl -b -q --no-pager -o cat -u limen -n 12 | sed 's/^/        | /'
    health | jq -c '[.status, .parts, .camera]' | sed 's/^/        | /'
}
# check NAME COMMAND...
check() {
    local name=$1
    shift
    if "$@"; then ok "$name"; else bad "$name" "$*"; fi
}
# within SECONDS COMMAND...: waits until it succeeds; how long that took is in `took`.
within() {
    local start moment limit=$(($1 * 100))
    shift
    now start
    until "$@"; do
        now moment
        took=$((moment - start))
        ((took < limit)) || return 1
        # Asking is emulated work too.
        pause 0.4
    done
    now moment
    took=$((moment - start))
}
# soon NAME SECONDS COMMAND...: a check that may take so long.
soon() {
    local name=$1
    shift
    if within "$@"; then ok "$name" "after $(seconds "$took")"; else bad "$name" "not within $1 s: ${*:2}"; fi
}

health() { curl -s --max-time 5 http://127.0.0.1:8480/health; }
part_is() { [[ $(health | jq -r ".parts.$1.state") == "$2" ]]; }
property() { systemctl show -p "$1" --value limen; }
active() { [[ $(property ActiveState).$(property SubState) == active.running ]]; }
as_limen() { setpriv --reuid limen --regid limen --init-groups "$@"; }
# The program's own messages, and not what systemd says about it.
in_the_journal() { [[ $(journalctl -b -q --no-pager -o cat -u limen SYSLOG_IDENTIFIER=limen | wc -l) -gt 5 ]]; }
# From the start of the main program to its notification.
start_time() { echo $((($(property ActiveEnterTimestampMonotonic) - $(property ExecMainStartTimestampMonotonic)) / 1000)); }

# --- what is in front of the camera
show() { ln -sfn "$work/$1.$kind" "$work/next.$kind" && mv -fT "$work/next.$kind" "$work/now.$kind"; }
feed() { # jpg|ppm
    kind=$1
    show nobody
    "$lab/lab" feed "$camera" 512 640 "$rate" "$work/now.$kind" &
    feeder=$!
}
feed_no_more() {
    kill "$feeder"
    wait "$feeder"
} 2>/dev/null

# --- what the broker passed on
subscribe() {
    until mosquitto_pub -h 127.0.0.1 -u lab -P "$password" -t lab -m up 2>>"$work/subscriber"; do pause 0.3; done
    mosquitto_sub -h 127.0.0.1 -u lab -P "$password" -i lab -c -q 1 -t 'limen/#' -F '%t %p' >>"$work/messages" 2>>"$work/subscriber" &
    subscriber=$!
}
mark() { messages=$(wc -l <"$work/messages"); }
heard() { tail -n "+$((messages + 1))" "$work/messages" | grep -qE "$1"; }
event_of() { tail -n "+$((messages + 1))" "$work/messages" | grep -m 1 -E "$1" | sed 's/^[^ ]* //'; }

# --- the relay
watch_relay() {
    local last='' value moment
    set +x
    while :; do
        read -r value <"$relay"
        if [[ $value != "$last" ]]; then
            now moment
            echo "$moment $value" >>"$work/relay"
            last=$value
        fi
        pause 0.04
    done
}
relay_is() { [[ $(<"$relay") == "$1" ]]; }
# Changes to this value since line `mark` of the record.
relay_mark() { changes=$(wc -l <"$work/relay"); }
relay_became() { tail -n "+$((changes + 1))" "$work/relay" | grep -q " $1\$"; }
relay_at() { tail -n "+$((changes + 1))" "$work/relay" | sed -n "s/ $1\$//p" | head -1; }

# The last visitor has gone, and the door is shut.
empty() {
    show nobody
    within 30 relay_is 0 || bad "the door is shut before the next visitor"
    within 30 nobody_in_view || bad "the last visitor has left"
}
nobody_in_view() { [[ $(grep '/state/occupancy ' "$work/messages" | tail -1) != *ON ]]; }

# visit NAME TYPE: somebody comes, and an event of that type with that name arrives.
visit() {
    mark
    relay_mark
    now shown
    show "$1"
}

hardware() {
    modprobe configfs
    insmod "$lab/irq_sim.ko" && insmod "$lab/gpio-sim.ko" || return
    mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
    local chip=/sys/kernel/config/gpio-sim/limen
    mkdir -p $chip/bank0/line0
    echo 4 >$chip/bank0/num_lines
    echo limen-relay >$chip/bank0/line0/name
    echo 1 >$chip/live
    local line
    line=/sys/devices/platform/$(<$chip/dev_name)/$(<$chip/bank0/chip_name)/sim_gpio0
    relay=$line/value pull=$line/pull
}

# configure SOURCE
configure() {
    mkdir -p /etc/limen/limen.toml.d
    cat >/etc/limen/limen.toml.d/lab.toml <<TOML
[device]
name = "lab"
[camera]
source = "$1"
width = 512
height = 640
rate_hz = $rate
[tracking]
settled_look_hz = 1.0
unchanged_look_hz = 0.5
idle_look_hz = $rate
[mqtt]
host = "127.0.0.1"
[door]
relay = "limen-relay"
pulse_ms = 3000
TOML
}

# policy [SCHEDULE]: everybody's face opens, always or from eight to six.
policy() {
    jq -n --arg schedule "${1:-}" '{time_zone: "UTC", dry_run: false, cool_down_s: 0, grants_per_minute: 60,
        schedules: [{name: "day", windows: [{days: ["mon","tue","wed","thu","fri","sat","sun"], from: "08:00", to: "18:00"}]}],
        rules: [{name: "lab", everyone: true, needs: "face"} + (if $schedule == "" then {} else {schedule: $schedule} end)]}' \
        >"$work/policy.json"
    chmod 0644 "$work/policy.json"
    as_limen limen door policy set "$work/policy.json" >>"$work/commands" 2>&1
}

install_package() {
    local package
    package=$(echo "$lab"/limen_*.deb)
    # The machine's packages of another architecture were unpacked and never configured: dpkg does not know them.
    local how=()
    [[ -e $lab/unconfigured ]] && how=(--force-depends)
    dpkg -i "${how[@]}" "$package" >"$work/dpkg" 2>&1 || { bad "the package installs" "$(tail -3 "$work/dpkg")"; return 1; }
    ok "the package installs" "$(dpkg-deb -f "$package" Version Architecture | tr '\n' ' ')"
    # One that was unpacked by force may not have told systemd.
    systemctl daemon-reload
    check "the package has the service enabled" systemctl -q is-enabled limen
}

# A password for the broker, as a credential that only this machine can read.
credentials() {
    mosquitto_passwd -c -b "$work/passwords" lab "$password"
    mosquitto_passwd -b "$work/passwords" door "$password"
    install -o mosquitto -m 0600 "$work/passwords" /etc/mosquitto/lab.passwords
    mkdir -p /etc/mosquitto/conf.d /etc/credstore.encrypted
    printf 'listener 1883 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/lab.passwords\n' >/etc/mosquitto/conf.d/lab.conf
    printf 'door\n%s\n' "$password" | systemd-creds encrypt --name=limen.mqtt - /etc/credstore.encrypted/limen.mqtt
}

private_files() {
    local wrong
    wrong=$(find $state -mindepth 1 \( ! -user limen -o ! -group limen -o -type d ! -perm 0700 -o -type f ! -perm 0600 \) -printf '%M %u %p  ')
    [[ -z $wrong && $(stat -c '%a %U' $state) == '700 limen' ]] && ok "the state folder and all in it are the account's alone" "$(find $state -type f | wc -l) files" ||
        bad "the state folder and all in it are the account's alone" "$(stat -c '%a %U' $state) $wrong"
}

exposure() {
    local measured
    measured=$(systemd-analyze security limen.service --no-pager | sed -n 's/.*exposure level for limen.service: \([0-9.]*\).*/\1/p')
    [[ $measured =~ ^[0-9]+\.[0-9]$ ]] && ((10#${measured/./} <= 15)) && ok "systemd measures little exposure" "$measured of 10" ||
        bad "systemd measures little exposure" "$measured of 10, at most 1.5"
}

sandbox() {
    local pid
    pid=$(property MainPID)
    check "no core dump is written" grep -qE 'Max core file size +0 +0 ' "/proc/$pid/limits"
    check "a system call filter is on, and no new privileges" test "$(grep -cE '^(Seccomp:\s2|NoNewPrivs:\s1)' "/proc/$pid/status")" = 2
    check "it has no capability" test "$(sed -n 's/^CapBnd:\s*//p' "/proc/$pid/status")" = 0000000000000000
    check "weights are in force" test "$(property CPUWeight) $(property IOWeight)" = '300 300'
}

camera_faults() {
    # Gone at the start.
    soon "ready without a camera" 60 active
    soon "a camera that is not there is told" 10 part_is camera degraded
    modprobe vivid n_devs=1 node_types=0x1 vid_cap_nr=8
    soon "the camera is taken when it appears" 30 part_is camera working
    # Unplugged and plugged in again.
    echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
    soon "an unplugged camera is told" 30 part_is camera degraded
    echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
    soon "the camera is taken again when it is back" 30 part_is camera working
    # Frames that come broken, frames that do not come, a stream that ends.
    "$lab/lab" set $vivid 'Inject V4L2_BUF_FLAG_ERROR' 1
    soon "a broken buffer is counted and survived" 30 discarded
    "$lab/lab" set $vivid 'Percentage of Dropped Buffers' 100
    soon "dropped frames are told" 30 part_is camera degraded
    "$lab/lab" set $vivid 'Percentage of Dropped Buffers' 0
    soon "frames go on when they come again" 30 part_is camera working
    local before
    before=$(health | jq .camera.rebuilds)
    "$lab/lab" set $vivid 'Inject Fatal Streaming Error' 1
    soon "a fatal streaming error rebuilds the stream" 30 rebuilt "$before"
    soon "frames come after it" 30 part_is camera working
    check "all that without a restart" test "$(property NRestarts)" = 0
    systemctl stop limen
    modprobe -r vivid
    check "it ends in order" test "$(property Result) $(property ExecMainStatus)" = 'success 0'
}
discarded() { (($(health | jq .camera.discarded) > 0)); }
rebuilt() { (($(health | jq .camera.rebuilds) > $1)); }

# recognised NAME: a known face opens the door; what it took is told.
recognised() {
    empty
    visit known
    soon "$1: the event arrives at the broker with the name" 30 heard "/event .*\"identified\".*\"name\":\"$subject\""
    soon "$1: the relay's line is active" 10 relay_became 1
    # Whoever stands there is emulated work.
    show nobody
    soon "$1: and inactive again after the pulse" 15 relay_released
    local on off event
    event=$(event_of '/event .*"identified"')
    on=$(relay_at 1) off=$(relay_at 0)
    say "        $1: line active $(seconds $((on - shown))) after the face was shown, for $(seconds $((off - on))) of 3 s; recognition took $(jq .latency_ms <<<"$event") ms, emulated"
}
relay_released() { relay_became 1 && relay_is 0; }

stranger() {
    empty
    visit stranger
    soon "a stranger is told as unknown" 40 heard '/event .*"event_type":"unknown"'
    pause 1
    check "and the door stays shut" test "$(relay_at 1)" = ''
    show nobody
}

broker_away() {
    empty
    systemctl stop mosquitto
    soon "a broker that stopped is told" 60 part_is broker degraded
    visit known
    soon "the door opens without a broker" 30 relay_became 1
    show nobody
    systemctl start mosquitto
    kill "$subscriber" 2>/dev/null
    subscribe
    soon "the event is delivered when the broker is back" 60 heard "/event(/late)? .*\"identified\".*\"name\":\"$subject\""
    soon "the broker is found again" 30 part_is broker working
}

disk_full() {
    empty
    # Root may fill what the account may not, and the whole of it.
    fallocate -l "$(df --output=avail -B 1 $state | tail -1)" $state/filler 2>"$work/dd"
    dd if=/dev/zero of=$state/filler bs=1k oflag=append conv=notrunc 2>>"$work/dd"
    local left
    left=$(df --output=avail -k $state | tail -1)
    visit known
    soon "the door opens with a full disk" 30 relay_became 1
    soon "a full disk is told ($left KiB left)" 120 told_after_visits
    check "the daemon lives" active
    rm -f $state/filler
    soon "storage works when there is room again" 60 part_is storage working
    soon "the event is at the broker" 30 heard "/event(/late)? .*\"identified\".*\"name\":\"$subject\""
}

# What SQLite has already may hold a visit or two.
told_after_visits() {
    part_is storage degraded && return
    show nobody
    pause 3
    mark
    show known
    pause 4
    part_is storage degraded
}

clock_jump() {
    empty
    local before real since
    before=$(property NRestarts)
    real=$(date +%s) && now since
    policy day || bad "a policy with hours is taken"
    pause 3
    date -s '2030-05-01 12:00:00' >/dev/null
    visit known
    soon "clock set forwards to noon: the hours open the door" 40 relay_became 1
    show nobody
    empty
    date -s '2024-02-01 03:00:00' >/dev/null
    visit known
    soon "clock set back to three in the morning: denied for the hour" 40 heard '/door/event .*not_at_this_hour'
    check "and the door stays shut at that hour" test "$(relay_at 1)" = ''
    show nobody
    # Longer than the watchdog waits.
    pause 25
    check "the watchdog is fed through both jumps" test "$(property NRestarts) $(property ActiveState)" = "$before active"
    local moment
    now moment
    date -s "@$((real + (moment - since) / 100))" >/dev/null
    policy || bad "the policy without hours is taken"
    pause 3
    check "health answers" test "$(health | jq -r .status)" = working
}

# A simulated chip lets a line go when nobody holds it any more, and a real one leaves it as it was: its pull does that
# here. What releases it is seen for as long as it is held; the record of the relay has it.
line_stays() {
    echo pull-up >"$pull"
    relay_mark
}
line_goes() { echo pull-down >"$pull"; }

# Killed while the door is open; without ExecStopPost the kernel leaves the line as it is.
killed_while_open() {
    empty
    local pid
    visit known
    within 40 relay_became 1 || { bad "the door opens before the kill"; return; }
    pid=$(property MainPID)
    line_stays
    kill -KILL "$pid"
    # Before the next start, which would as well.
    soon "killed with the door open: ExecStopPost releases the line" 4 relay_became 0
    line_goes
    show nobody
    soon "it is started again" 60 restarted "$pid"
    say "        exec to READY: $(start_time) ms, emulated"

    # Negative control.
    mkdir -p /run/systemd/system/limen.service.d
    printf '[Service]\nExecStopPost=\nRestartSec=8\n' >/run/systemd/system/limen.service.d/lab.conf
    systemctl daemon-reload
    within 60 part_is camera working
    empty
    visit known
    within 40 relay_became 1 || { bad "the door opens before the second kill"; return; }
    pid=$(property MainPID)
    line_stays
    kill -KILL "$pid"
    pause 5
    check "control: without ExecStopPost the line stays active" test "$(relay_at 0) $(<"$relay")" = ' 1'
    rm -r /run/systemd/system/limen.service.d
    systemctl daemon-reload
    show nobody
    soon "the next start releases it" 60 relay_became 0
    line_goes
    within 60 restarted "$pid" || bad "it is started again after that"
}
restarted() { [[ $(property MainPID) != "$1" ]] && active; }

starved() {
    within 60 part_is camera working
    empty
    local pid
    visit known
    within 40 relay_became 1 || { bad "the door opens before the stop"; return; }
    pid=$(property MainPID)
    line_stays
    kill -STOP "$pid"
    show nobody
    soon "stopped with the door open: the watchdog ends it and ExecStopPost releases the line" 40 relay_became 0
    line_goes
    check "systemd says it was the watchdog" journal_of_systemd 'Watchdog timeout'
    soon "and starts it again" 90 restarted "$pid"
    soon "which works" 60 part_is camera working
}
journal_of_systemd() { journalctl -b -q --no-pager -o cat _PID=1 | grep -q "$1"; }

no_names() {
    local found
    # What this script was started with is in the journal of no unit but limen's.
    found=$(journalctl -b -q --no-pager -o verbose -u limen | grep -ciE "barack|obama|$password")
    local lines
    lines=$(journalctl -b -q --no-pager -o cat -u limen | wc -l)
    [[ $found == 0 && $lines -gt 20 ]] && ok "no name and no password is in the journal" "$lines lines" ||
        bad "no name and no password is in the journal" "$found of $lines lines"
}

# Makes events, and says each that the broker has, until the power is cut.
until_the_power_goes() {
    tail -n "+$((messages + 1))" -F "$work/messages" 2>/dev/null | grep --line-buffered -oE '"event_type":"(identified|ended)","id":"[^"]*"' |
        sed -u 's/.*"id":"\(.*\)"/told: \1/' &
    while :; do
        show known
        pause 3
        show nobody
        pause 3
    done
}

owner() { # the code on the way in; leaves a session in $work/jar
    local code
    code=$(as_limen limen users setup-code --json | jq -r .code)
    curl -s --max-time 60 -c "$work/jar" -H 'Content-Type: application/json' \
        -d "$(jq -n --arg code "$code" --arg password "$password" '{code: $code, name: "Lab", password: $password}')" \
        http://127.0.0.1:8480/api/setup >"$work/owner"
}

first_boot() {
    hardware || bad "the simulated hardware loads"
    show nobody
    watch_relay &
    credentials
    systemctl restart mosquitto
    subscribe
    mkdir -p /run/systemd/timesync && touch /run/systemd/timesync/synchronized
    # The package starts the service, with a camera that is not there.
    configure $vivid
    install_package || return
    [[ $short ]] || camera_faults
    systemctl stop limen
    modprobe videodev
    insmod "$lab/v4l2loopback.ko" video_nr=0 exclusive_caps=1
    feed jpg
    configure $camera
    local enrolled
    enrolled=$(as_limen limen enrol "$subject" "$work/enrol.jpg" 2>&1) && ok "a subject is enrolled as the account limen" || bad "a subject is enrolled as the account limen" "$enrolled"
    policy || bad "a policy is taken" "$(tail -1 "$work/commands")"
    mark
    systemctl start limen && ok "the service starts" "exec to READY $(start_time) ms, emulated" || bad "the service starts"
    check "the service is active (running)" active
    soon "the camera works" 20 part_is camera working
    soon "the broker takes the password out of the encrypted credential" 30 part_is broker working
    check "the account has the line of the relay" part_is door working
    check "the daemon's log is in the journal" in_the_journal
    exposure
    sandbox
    recognised MJPG
    stranger
    private_files
    if [[ ! $short ]]; then
        broker_away
        disk_full
        clock_jump
        killed_while_open
        starved
    fi
    empty
    systemctl stop limen
    feed_no_more
    feed ppm
    systemctl start limen && ok "the service starts with a YUYV camera" "exec to READY $(start_time) ms, emulated" || bad "the service starts with a YUYV camera"
    within 30 part_is camera working
    recognised YUYV
    no_names
    say "checks so far: $failed failed"
    mark
    until_the_power_goes
}

second_boot() {
    hardware || bad "the simulated hardware loads"
    modprobe videodev
    insmod "$lab/v4l2loopback.ko" video_nr=0 exclusive_caps=1
    : >"$work/messages"
    feed ppm
    watch_relay &
    subscribe
    soon "after the power cut: the service comes up by itself" 120 active
    soon "the camera works" 60 part_is camera working
    soon "storage works" 30 part_is storage working
    [[ $(as_limen limen subjects list --json | jq -rs '[.. | .name? // empty] | unique | join(",")') == "$subject" ]] &&
        ok "the subject is there" || bad "the subject is there" "$(as_limen limen subjects list 2>&1)"
    owner
    local told kept missing
    told=$(sort -u "$lab/told")
    kept=$(curl -s --max-time 30 -b "$work/jar" 'http://127.0.0.1:8480/api/events?limit=200' | jq -r '.. | .id? // empty' | sort -u)
    missing=$(comm -23 <(echo "$told") <(echo "$kept") | wc -l)
    [[ -n $kept && $missing == 0 ]] && ok "every event that the broker had before the cut is there" "$(wc -l <<<"$told") told, $(wc -l <<<"$kept") kept" ||
        bad "every event that the broker had before the cut is there" "$missing of $(wc -l <<<"$told") missing; $(head -c 300 "$work/owner")"
    mkdir -p /run/systemd/timesync && touch /run/systemd/timesync/synchronized
    recognised "after the power cut"
    local found
    # As the service: with its account and its credential. What systemd-run does takes a bus, which is not here.
    printf '[Service]\nType=oneshot\nUser=limen\nLoadCredentialEncrypted=limen.mqtt\nExecStart=limen doctor --json\nStandardOutput=file:%s\nStandardError=journal\n' \
        "$work/doctor" >/run/systemd/system/doctor.service
    systemctl daemon-reload
    # Its exit code is what it found.
    systemctl start doctor
    found=$(<"$work/doctor")
    [[ $(jq .problems <<<"$found") == 0 ]] && ok "limen doctor finds no problem" "$(jq .warnings <<<"$found") warnings" ||
        bad "limen doctor finds no problem" "$(jq -c '.findings[] | select(.level == "problem")' <<<"$found")"
    systemctl stop limen
    check "it ends in order" test "$(property Result) $(property ExecMainStatus)" = 'success 0'
}

lab=/lab
kind=jpg
# shellcheck source=/dev/null
. "$lab/settings"
cp "$lab"/*.jpg "$lab"/*.ppm "$work/"
chmod 0755 "$work"
case $phase in
    1) first_boot ;;
    2) second_boot ;;
    *) bad "the machine is told what to do" "lab.phase is '$phase'" ;;
esac
say "finished: $failed failed"
sync
systemctl poweroff --force
