#!/usr/bin/env bash
# limen-mark-good with a real limen that replays pictures, a real RAUC, and the layer's bootloader backend. Wants a
# built limen (LIMEN_TEST_PROGRAM, or target/debug/limen) with LIMEN_LITERT__LIBRARY and LIMEN_MODELS__FOLDER.
# shellcheck disable=SC2154,SC2034 # project, layer, passed, service: of lib.sh and rauc.sh
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib.sh"
if [[ -z ${LIMEN_TEST_BUS:-} ]]; then LIMEN_TEST_BUS=own exec dbus-run-session -- "$0"; fi
# shellcheck source=/dev/null
source "$project/yocto/tests/rauc.sh"

program=$(readlink -f -- "${LIMEN_TEST_PROGRAM:-$project/target/debug/limen}")
[[ -x $program ]] || fail "there is no $program; build limen first, or set LIMEN_TEST_PROGRAM"
export LIMEN_LITERT__LIBRARY LIMEN_MODELS__FOLDER
LIMEN_LITERT__LIBRARY=$(readlink -f -- "${LIMEN_LITERT__LIBRARY:-$project/.setup/lib/libLiteRt.so}")
LIMEN_MODELS__FOLDER=$(readlink -f -- "${LIMEN_MODELS__FOLDER:-$project/models}")
work=$(mktemp -d)
daemon=
end() {
    [[ -z $daemon ]] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
    daemon=
}
trap 'end; stop; rm -rf -- "$work"' EXIT

"$layer/scripts/development-keys" "$work/keys" >/dev/null
mkdir "$work/pictures"
cp "$project"/tests/fixtures/portraits/{grace_hopper_1,eileen_collins_1}.jpg "$work/pictures/"
board

# Two ports that nobody listens on: for the daemon, and for a broker that is away.
read -r port nobody < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(each.getsockname()[1] for each in held))')
limen_runs() { # SETTINGS...: as NAME=VALUE
    end
    env LIMEN_STATE__FOLDER="$work/state" LIMEN_HTTP__LISTEN="127.0.0.1:$port" "$@" \
        "$program" run >"$work/limen.log" 2>&1 &
    daemon=$!
    local tries
    for tries in $(seq 1 300); do
        if curl --silent --fail --max-time 2 "http://127.0.0.1:$port/health" >/dev/null; then return; fi
        if [[ $tries == 300 ]] || ! kill -0 "$daemon" 2>/dev/null; then
            fail "limen did not start" "$(<"$work/limen.log")"
        fi
        sleep 0.1
    done
}
replay=("LIMEN_CAMERA__SOURCE=replay:$work/pictures")

export LIMEN_MARK_HEALTH=http://127.0.0.1:$port/health LIMEN_MARK_STATE=$work/update LIMEN_MARK_RUN=$work/mark
export LIMEN_MARK_CMDLINE=$work/cmdline LIMEN_MARK_SELFTEST="$program selftest"
export LIMEN_MARK_REBOOT="touch $work/rebooted"
readonly mark=$layer/recipes-limen/limen-update/files/limen-mark-good
boot_into() { # SLOT: RAUC runs, /run is empty
    start "$1"
    rm -rf "$work/mark" "$work/rebooted"
}
# quick SECONDS: how long it waits at most
quick() { LIMEN_MARK_WAIT=$1 "$mark" check; }

# The first start of a card, with a camera that is not there.
boot_into A
limen_runs "LIMEN_CAMERA__SOURCE=/dev/no-camera"
refused "without a camera the slot is not marked good" "no sign of the camera" quick 4
"$mark" fall-back >/dev/null
[[ ! -e $work/rebooted ]] || fail "it restarts although there is nothing to go back to"
ok "and the first system of a card is kept, since there is nothing to go back to"

limen_runs "${replay[@]}"
quick 60 >/dev/null
equal "with frames, the known face and no broker set up it is marked good" "A=good B=bad rootfs.0" "$(status)"
equal "and remembered" A "$(<"$work/update/good")"
"$mark" fall-back >/dev/null
[[ ! -e $work/rebooted ]] || fail "it leaves a system that was marked good"
ok "fall-back leaves a good system alone"

# An update whose camera does not work.
rauc status mark-active other >/dev/null
boot_into B
limen_runs "LIMEN_CAMERA__SOURCE=/dev/no-camera"
refused "an update without frames is not marked good" "no sign of the camera" quick 4
equal "and it is written down for whoever drives updates" "slot B: for 4 s there was no sign of the camera" \
    "$(sed 's/\(the camera\).*/\1/' "$work/update/failed")"
"$mark" fall-back >/dev/null
[[ -e $work/rebooted ]] || fail "it does not go back"
boot_into A
equal "it goes back, and the slot is bad" "A=good B=bad rootfs.0" "$(status)"

# One whose broker cannot be reached.
rauc status mark-active other >/dev/null
boot_into B
limen_runs "${replay[@]}" "LIMEN_MQTT__HOST=127.0.0.1" "LIMEN_MQTT__PORT=$nobody" "LIMEN_MQTT__TLS=false"
refused "an update whose broker is away is not marked good" "no sign of the broker" quick 4
end
refused "nor one whose daemon does not answer" "no sign of an answer" quick 3

# One whose networks are damaged: the daemon of before still answers, so that only the self-test can tell.
limen_runs "${replay[@]}"
mkdir "$work/damaged"
cp "$LIMEN_MODELS__FOLDER"/*.tflite "$LIMEN_MODELS__FOLDER/manifest.toml" "$work/damaged/"
printf 'x' | dd of="$work/damaged/sface-int8.tflite" bs=1 seek=100000 conv=notrunc status=none
refused "an update whose known face is not recognised is not marked good" "the self-test failed" \
    env LIMEN_MARK_WAIT=60 LIMEN_MARK_SELFTEST="env LIMEN_MODELS__FOLDER=$work/damaged $program selftest" "$mark" check
refused "a device that must have a broker is not marked good without one" "no sign of the broker" \
    env LIMEN_MARK_WAIT=4 LIMEN_MARK_BROKER=required "$mark" check
equal "after all that the slot before is what starts" rootfs.0 "$(status | grep -o 'rootfs.*')"

# An update that works.
quick 60 >/dev/null
equal "an update that works is marked good and stays" "A=good B=good rootfs.1" "$(status)"
equal "and remembered" B "$(<"$work/update/good")"
[[ ! -e $work/update/failed ]] || fail "what was amiss before is still written down"

# A good system whose camera is unplugged later.
boot_into B
limen_runs "LIMEN_CAMERA__SOURCE=/dev/no-camera"
refused "a system that was good and has lost its camera is not marked anew" "no sign of the camera" quick 4
"$mark" fall-back >/dev/null
[[ ! -e $work/rebooted ]] || fail "it restarts a system that was good"
ok "but it does not restart for that"

# Answers that are none.
end
python3 - "$port" <<'PYTHON' &
import http.server, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"parts": "<h1>hello</h1>"')

    def log_message(self, *_):
        pass

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
PYTHON
daemon=$!
refused "an answer that is no health object" "no sign of" quick 4
refused "an unknown call" "usage:" "$mark" everything
counted
