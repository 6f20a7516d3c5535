#!/usr/bin/env bash
# limen-tryboot against a folder that stands for the partition with autoboot.txt: every command, and the power cut at
# every step of each. What the firmware would do with the folder is written here from its documentation, apart from
# the script under test. What a power cut does to a FAT file system itself is not simulated.
# shellcheck disable=SC2154,SC2034 # project, layer, passed, service: of lib.sh and rauc.sh
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib.sh"

readonly backend=$layer/recipes-limen/limen-update/files/limen-tryboot
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
export LIMEN_TRYBOOT_FOLDER=$work/select LIMEN_TRYBOOT_RUN=$work/run LIMEN_TRYBOOT_CMDLINE=$work/cmdline
export LIMEN_TRYBOOT_PARTITION=$work/partition LIMEN_TRYBOOT_REBOOT=$work/reboot-param

# The firmware: which partition is started. $1 is `tryboot` or nothing. Only [all] and, when asked for, [tryboot] count;
# of a file of more than 512 bytes nothing does.
firmware() {
    [[ $(stat -c %s "$work/select/autoboot.txt") -le 512 ]] || return 1
    local line applies=yes partition=
    while IFS= read -r line || [[ -n $line ]]; do
        case $line in
            '[all]') applies=yes ;;
            '[tryboot]') applies=${1:+yes} ;;
            '['*) applies= ;;
            boot_partition=*) [[ -z $applies ]] || partition=${line#*=} ;;
        esac
    done <"$work/select/autoboot.txt"
    case $partition in
        2) echo A ;;
        3) echo B ;;
        *) return 1 ;;
    esac
}

# running SLOT: that system is up, and /run is empty.
running() {
    echo "console=serial0,115200 root=/dev/mmcblk0p5 ro rauc.slot=$1" >"$work/cmdline"
    # shellcheck disable=SC2059 # the format is the byte
    if [[ $1 == A ]]; then printf '\0\0\0\2'; else printf '\0\0\0\3'; fi >"$work/partition"
    rm -rf "$work/run" "$work/reboot-param"
}

power_cut() { running "$(firmware)"; }

# An orderly reboot: the unit of the layer arms it, then the firmware chooses.
restart() {
    "$backend" arm
    local slot
    if [[ $(cat "$work/reboot-param" 2>/dev/null) == '0 tryboot' ]]; then
        slot=$(firmware tryboot)
    else
        slot=$(firmware)
    fi
    running "$slot"
    echo "$slot" >"$work/started"
}

# A card as it is written at the factory: A is there, B is empty.
fresh() {
    rm -rf "$work/select"
    mkdir "$work/select"
    cp "$layer/recipes-bsp/limen-boot-image/files/autoboot.txt" "$work/select/"
    running A
}

# Updates as RAUC calls for them.
install_into() {
    "$backend" set-state "$1" bad
    "$backend" set-primary "$1"
}

committed_to() { # SLOT: it has been installed, tried and marked good
    install_into "$1"
    restart
    "$backend" set-state "$1" good
}

fresh
equal "a fresh card starts slot A" A "$(firmware)"
equal "get-current: A" A "$("$backend" get-current)"
equal "get-primary: A" A "$("$backend" get-primary)"
equal "get-state: what starts is good" good "$("$backend" get-state A)"
equal "get-state: an empty slot is bad" bad "$("$backend" get-state B)"
"$backend" set-state A good
equal "the first start is marked good and changes nothing" A "$(firmware)"

install_into B
equal "get-primary: the slot that will be tried" B "$("$backend" get-primary)"
equal "get-state: a slot that waits for its trial is good" good "$("$backend" get-state B)"
equal "set-primary leaves what the firmware starts as it was" A "$(firmware)"
power_cut
equal "the power is cut before the reboot: A, and the wish is gone" A "$("$backend" get-primary)"
equal "the power is cut before the reboot: B counts as bad" bad "$("$backend" get-state B)"
"$backend" set-primary B
restart
equal "an orderly reboot makes the trial" B "$(cat "$work/started")"
equal "in the trial: running B" B "$("$backend" get-current)"
equal "in the trial: A is what would be started next" A "$("$backend" get-primary)"
equal "in the trial: B is good" good "$("$backend" get-state B)"
refused "in the trial: nothing is installed over the slot that works" "only one known to work" \
    "$backend" set-state A bad
restart
equal "a reboot without being marked good falls back" A "$(cat "$work/started")"
equal "after the failed trial B is bad" bad "$("$backend" get-state B)"

install_into B
restart
"$backend" set-state B good
equal "marked good: B is started from now on" B "$(firmware)"
equal "marked good: get-primary" B "$("$backend" get-primary)"
power_cut
equal "marked good: also after a power cut" B "$(sed 's/.*rauc.slot=//' "$work/cmdline")"
before=$(find "$work/select" -type f -printf '%i %T@ %p\n' | sort)
"$backend" set-state B good
equal "marked good again at each start: nothing is written" "$before" \
    "$(find "$work/select" -type f -printf '%i %T@ %p\n' | sort)"
equal "the slot before stays as it was" good "$("$backend" get-state A)"

"$backend" set-primary A
restart
equal "back to the slot before: a trial as well" A "$(cat "$work/started")"
equal "back to the slot before: not yet for good" B "$(firmware)"
"$backend" set-state A good
equal "back to the slot before: for good" A "$(firmware)"
"$backend" set-state B good
equal "marking another slot good than the running one does not start it" A "$(firmware)"
"$backend" set-state A bad
equal "the running slot is marked bad: the other good one takes its place" B "$(firmware)"
equal "and is bad" bad "$("$backend" get-state A)"

fresh
install_into B
"$backend" set-primary A
restart
equal "set-primary to what runs takes the wish back" A "$(cat "$work/started")"
install_into B
"$backend" set-state B bad
restart
equal "marking the slot bad takes the wish back" A "$(cat "$work/started")"

# Hostile or broken surroundings.
refused "no such slot" 'there is no slot "C"' "$backend" set-primary C
refused "no such slot, with a way out of the folder" 'there is no slot "../x"' "$backend" set-state ../x good
refused "no such state" 'there is no state "fine"' "$backend" set-state B fine
refused "no such command" "usage:" "$backend" get-everything
refused "too many words" "usage:" "$backend" get-primary A
printf '\0\0\0\3' >"$work/partition"
refused "the command line of another slot" "the firmware started partition 3" "$backend" get-current
refused "and nothing is marked good with it" "the firmware started partition 3" "$backend" set-state A good
running A
echo 'quiet' >"$work/cmdline"
refused "a command line without a slot" "no rauc.slot=" "$backend" get-current
running A
printf '[all]\nboot_partition=7\n' >"$work/select/autoboot.txt"
refused "autoboot.txt names another partition" 'starts partition "7"' "$backend" get-primary
refused "and nothing is marked good with it" 'starts partition "7"' "$backend" set-state A good
rm "$work/select/autoboot.txt"
refused "the partition is not mounted" "is the first partition mounted there?" "$backend" set-primary B
fresh
sed -i 's/$/\r/' "$work/select/autoboot.txt"
equal "autoboot.txt as Windows writes it" A "$("$backend" get-primary)"

# The power is cut at every program by which the script writes: before it, after it, and with half of what was being
# written. The whole group of processes is killed, so that nothing is tidied up.
mkdir "$work/shims"
for tool in cat sync mv rm; do
    cat >"$work/shims/$tool" <<SHIM
#!/bin/sh
# First of all the real programs: this one must not call itself.
PATH=\$REAL_PATH
export PATH
read -r count <"$work/count"
count=\$((count + 1))
echo \$count >"$work/count"
echo $tool >>"$work/calls"
cut() { [ "\$count" = "\$CUT_AT" ] && [ "\$CUT_WHEN" = "\$1" ]; }
if cut torn; then
    [ ! -e "$work/select/new.txt" ] \\
        || truncate --size=\$((\$(stat -c %s "$work/select/new.txt") / 2)) "$work/select/new.txt"
    kill -9 0
fi
if cut before; then kill -9 0; fi
if cut after; then $tool "\$@"; kill -9 0; fi
exec $tool "\$@"
SHIM
    chmod +x "$work/shims/$tool"
done

# cut_short AT WHEN COMMAND...: 137 if the power was cut, else the command's own code.
cut_short() {
    local at=$1 when=$2 code=0
    shift 2
    echo 0 >"$work/count"
    : >"$work/calls"
    # The shell in between keeps to itself what it says of the killed process.
    (
        env CUT_AT="$at" CUT_WHEN="$when" REAL_PATH="$PATH" PATH="$work/shims:$PATH" setsid --wait "$@"
        exit "$?"
    ) >/dev/null 2>&1 || code=$?
    return "$code"
}

keep() {
    rm -rf "$work/kept"
    mkdir "$work/kept"
    cp -a "$work/select" "$work/cmdline" "$work/partition" "$work/kept/"
    [[ ! -e $work/run ]] || cp -a "$work/run" "$work/kept/"
}

back() {
    rm -rf "$work/select" "$work/run"
    cp -a "$work/kept/." "$work/"
}

# Each: what has happened before, what is cut, which slots hold a whole system then, and what must be possible
# afterwards.
cuts=0
sweep() { # NAME PREPARATION WHOLE AFTERWARDS COMMAND...
    local name=$1 prepare=$2 whole=$3 afterwards=$4 at when calls slot here=0
    shift 4
    fresh
    $prepare
    keep
    cut_short 0 never "$backend" "$@" || fail "$name: it fails without a cut"
    mapfile -t calls <"$work/calls"
    for when in before after torn; do
        for at in $(seq 1 ${#calls[@]}); do
            [[ $when != torn || ${calls[at - 1]} == sync ]] || continue
            back
            if cut_short "$at" "$when" "$backend" "$@"; then fail "$name: the power was not cut $when call $at"; fi
            slot=$(firmware) || fail "$name, cut $when call $at: the firmware finds nothing to start"
            [[ $whole == *$slot* ]] || fail "$name, cut $when call $at: the firmware starts $slot, which is not whole"
            running "$slot"
            $afterwards || fail "$name, cut $when call $at: the next update cannot be done"
            here=$((here + 1))
        done
    done
    [[ $here -ge 5 ]] || fail "$name: only $here cuts were made"
    cuts=$((cuts + here))
    ok "$name: $here cuts, a whole system is started after each"
}

nothing() { :; }
in_trial() { install_into B && restart; }
both_good() { "$backend" set-state A good && committed_to B; }
to_b() { committed_to B && [[ $(firmware) == B ]]; }
good_is_started() { [[ $("$backend" get-state "$(firmware)") == good ]]; }

sweep "the target is marked bad" nothing A to_b set-state B bad
sweep "the update is to be tried" nothing A to_b set-primary B
sweep "the trial is marked good" in_trial AB good_is_started set-state B good
sweep "the running slot is marked bad" both_good AB good_is_started set-state B bad
sweep "back to the slot before" both_good AB good_is_started set-primary A

# The control: a script that wrote in place would be found out.
# shellcheck disable=SC2016 # as it stands in the script
sed -e 's|mv -f "$folder/new.txt" "$folder/$1"|cat "$folder/new.txt" >"$folder/$1"|' "$backend" >"$work/in-place"
chmod +x "$work/in-place"
if cmp -s "$work/in-place" "$backend"; then fail "the control does not differ from the script"; fi
fresh
in_trial
keep
cut_short 0 never "$work/in-place" set-state B good || fail "the control does not work"
lost=0
for at in $(seq 1 "$(wc -l <"$work/calls")"); do
    back
    cut_short "$at" before "$work/in-place" set-state B good || true
    firmware >/dev/null || lost=$((lost + 1))
done
[[ $lost -gt 0 ]] || fail "a script that writes in place was not found out"
ok "a script that writes in place is found out: $lost cuts leave nothing to start"

# As on the board: the partition is read-only except while something is written.
fresh
if unshare --mount true 2>/dev/null; then
    # shellcheck disable=SC2016 # for the shell in the namespace
    found=$(unshare --mount bash -euc '
        fresh=$(cat "$LIMEN_TRYBOOT_FOLDER/autoboot.txt")
        mount -t tmpfs none "$LIMEN_TRYBOOT_FOLDER"
        echo "$fresh" >"$LIMEN_TRYBOOT_FOLDER/autoboot.txt"
        mount -o remount,ro "$LIMEN_TRYBOOT_FOLDER"
        "$1" set-state B bad
        cat "$LIMEN_TRYBOOT_FOLDER/state.B"
        awk -v at="$LIMEN_TRYBOOT_FOLDER" "\$2 == at { print substr(\$4, 1, 2) }" /proc/mounts' - "$backend")
    equal "a partition mounted read-only is written, and read-only again" $'bad\nro' "$found"
else
    fail "no mount namespaces here: run this as root"
fi
printf 'tryboot: %d power cuts\n' "$cuts"
counted
