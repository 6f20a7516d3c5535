# A board for the tests: its partitions are files, RAUC is Debian's, and the bootloader backend is the layer's.
# shellcheck shell=bash
# Sourced after lib.sh; needs $work, and dbus-run-session around it.
# shellcheck disable=SC2154 # work and layer are theirs

board() {
    mkdir -p "$work"/{select,data,mount,slots,update}
    cp "$layer/recipes-bsp/limen-boot-image/files/autoboot.txt" "$work/select/"
    truncate -s 1M "$work"/slots/p{2,3,5,6}
    export LIMEN_TRYBOOT_FOLDER=$work/select LIMEN_TRYBOOT_RUN=$work/run LIMEN_TRYBOOT_CMDLINE=$work/cmdline
    export LIMEN_TRYBOOT_PARTITION=$work/partition LIMEN_TRYBOOT_REBOOT=$work/reboot-param
    sed -e "s|/dev/mmcblk0|$work/slots/|; s|@MACHINE@|raspberrypi5|; s|/etc/rauc/@KEYRING@|$work/keys/ca.cert.pem|" \
        -e "s|/data/rauc|$work/data|; s|/run/rauc|$work/mount|" \
        -e "s|/usr/libexec/limen|$layer/recipes-limen/limen-update/files|" \
        "$layer/recipes-core/rauc/files/rpi/system.conf" >"$work/system.conf"
}

# start SLOT: the board runs it, and RAUC with it.
start() {
    stop
    echo "ro rauc.slot=$1" >"$work/cmdline"
    # shellcheck disable=SC2059 # the format is the byte
    if [[ $1 == A ]]; then printf '\0\0\0\2'; else printf '\0\0\0\3'; fi >"$work/partition"
    rm -rf "$work/run"
    # The session's bus stands for the system's.
    export DBUS_STARTER_BUS_TYPE=session
    rauc --conf="$work/system.conf" --override-boot-slot="$1" service >"$work/rauc.log" 2>&1 &
    service=$!
    local tries
    for tries in $(seq 1 100); do
        # The client aborts while there is no service yet; the shell in between keeps that to itself.
        if (rauc status || exit 1) >/dev/null 2>&1; then return; fi
        if [[ $tries == 100 ]] || ! kill -0 "$service" 2>/dev/null; then
            fail "RAUC did not start" "$(<"$work/rauc.log")"
        fi
        sleep 0.1
    done
}

service=
stop() {
    [[ -z $service ]] || { kill "$service" && wait "$service"; } 2>/dev/null || true
    service=
}

# What RAUC says of the board: the slot that is started next, and the state of both.
status() {
    rauc status --output-format=json | jq -r '
        [.boot_primary] + [.slots[] | to_entries[] | select(.value.bootname)
            | "\(.value.bootname)=\(.value.boot_status)"] | sort | join(" ")'
}
