#!/usr/bin/env bash
# Runs the aarch64 program in an emulator, with the real networks and the real runtime for aarch64, and compares what
# it computes with what the x86-64 program computes from the same pictures; then makes the package for arm64 of it.
#
#   tests/cross.sh     PROFILE=dev (default) or release: which of the programs of packaging/cross.sh
#                      LIMEN_TEST_PROGRAM=FILE: the x86-64 program, instead of target/debug/limen
#
# Wants `make cross` (with the same PROFILE) and a program for this machine to be there. One line is printed for each
# check; the first failure ends it with exit code 1.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."

# The cosine of two machines' embeddings of one picture, at least. Levels of int8 are rounded to the other side now and
# then: 0.9982 was seen in the emulator, where the threshold for one person is 0.43.
readonly least_cosine=0.995
# shellcheck source=tests/package/limits.sh
source tests/package/limits.sh
# For one command in the emulator, in seconds: it takes seconds, and some minutes on a busy machine.
readonly longest=600

passed=0
ok() {
    printf 'ok: %s\n' "$*"
    passed=$((passed + 1))
}
fail() {
    printf 'FAILED: %s\n' "$@" >&2
    exit 1
}

[[ $(uname -m) == x86_64 ]] || fail "this test compares with x86_64; this machine is $(uname -m)"
case ${PROFILE:=dev} in
    dev) folder=debug ;;
    release) folder=release ;;
    *) fail "PROFILE is $PROFILE; it is release or dev" ;;
esac
target=${CARGO_TARGET_DIR:-target}
arm_program=$target/aarch64-unknown-linux-gnu/$folder/limen
x86_program=${LIMEN_TEST_PROGRAM:-$target/debug/limen}
[[ -x $arm_program ]] || fail "there is no $arm_program: run \`make cross PROFILE=$PROFILE\` first"
[[ -x $x86_program ]] || fail "there is no $x86_program: run \`cargo build --locked\` first"
type -P qemu-aarch64-static >/dev/null || fail "the emulator is missing: \`make cross\` installs qemu-user-static"
tools/setup.sh library aarch64 >/dev/null
tools/setup.sh library x86_64 >/dev/null

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# XNNPACK reads what the processor is from the host's file, and ends itself over an x86 one. The emulator looks for
# every file below this folder first. This is how a Raspberry Pi 4 describes its four cores.
mkdir -p "$work/board/proc"
for core in 0 1 2 3; do
    printf '%s\n' "processor : $core" "BogoMIPS : 108.00" "Features : fp asimd evtstrm crc32 cpuid" \
        "CPU implementer : 0x41" "CPU architecture: 8" "CPU variant : 0x0" "CPU part : 0xd08" "CPU revision : 3" ""
done >"$work/board/proc/cpuinfo"

# limen_on MACHINE ARGUMENTS...
limen_on() {
    local machine=$1 run=()
    shift
    local library=.setup/lib/libLiteRt.so program=$x86_program
    if [[ $machine == arm ]]; then
        library=.setup/lib-aarch64/libLiteRt.so program=$arm_program
        run=(timeout "$longest" qemu-aarch64-static -cpu cortex-a72 -L "$work/board")
    fi
    LIMEN_LITERT__LIBRARY=$library LIMEN_MODELS__FOLDER=models "${run[@]}" "$program" "$@"
}
# must MACHINE FILE ARGUMENTS...: what it prints goes to the file; exit code 3, "the answer is no", is an answer.
must() {
    local machine=$1 file=$2 code=0
    shift 2
    limen_on "$machine" "$@" >"$file" 2>"$work/errors" || code=$?
    [[ $code == 0 || $code == 3 ]] || fail "limen $* on $machine ended with $code:" "$(<"$work/errors")"
}

machine=$(od -An -tu2 -j18 -N2 -- "$arm_program" | tr -d ' ')
[[ $machine == 183 ]] || fail "$arm_program is not a program for aarch64"
must arm "$work/version" --version
[[ $(<"$work/version") == "limen $(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)" ]] \
    || fail "the aarch64 program says it is $(<"$work/version")"
ok "an aarch64 program that says $(<"$work/version")"

must arm "$work/selftest.arm" --json selftest
must x86 "$work/selftest.x86" --json selftest
told=$(python3 tests/cross/compare.py "$work"/selftest.{x86,arm}) || fail "the self-tests differ: the reason stands above"
ok "self-test with the real networks: $told"

# Faces, their boxes, angles and quality; with a gallery that each made itself, also scores.
portraits=tests/fixtures/portraits
enrolled=(barack_obama_1 eileen_collins_1 grace_hopper_1 joe_biden_1)
for machine in arm x86; do
    for picture in "${enrolled[@]}"; do
        must "$machine" "$work/enrol" --state "$work/state.$machine" --json enrol "$picture" "$portraits/$picture.jpg"
    done
    must "$machine" "$work/identify.$machine" --state "$work/state.$machine" --json identify "$portraits"/*_[123].jpg
done
[[ $(grep -c '"decision":"match"' "$work/identify.arm") == 6 ]] || fail "the aarch64 program does not name all six portraits"
told=$(python3 tests/cross/compare.py "$work"/identify.{x86,arm}) || fail "what is found differs: the reason stands above"
ok "six portraits from JPEG to name: $told"

# The same comparison, of pictures that are not the same.
nameless() { sed -E 's/"(picture|name|why)":"[^"]*"/"\1":""/g'; }
nameless <"$work/identify.x86" >"$work/one"
tac "$work/identify.arm" | nameless >"$work/other"
! told=$(python3 tests/cross/compare.py "$work/one" "$work/other" 2>&1) \
    || fail "the comparison does not notice that the pictures are others"
ok "other pictures are refused: $told"

# The gallery that aarch64 made, read here: a score is then the cosine of one machine's embedding with the other's.
cosines() {
    must x86 "$work/crossed" --state "$work/state.arm" --json identify "$@"
    sed -E 's/.*"score":(-?[0-9.e-]+|null),"why".*/\1/' "$work/crossed"
}
least() { sort -g | head -n 1; }
found=$(for picture in "${enrolled[@]}"; do cosines "$portraits/$picture.jpg"; done | least)
awk -v found="$found" -v least="$least_cosine" 'BEGIN { exit !(found + 0 >= least) }' \
    || fail "embeddings of one picture on both machines have a cosine of $found; at least $least_cosine is wanted"
ok "x86-64 reads the gallery that aarch64 made; embeddings of one picture have a cosine of at least $found"
other=$(cosines "$portraits/barack_obama_2.jpg")
awk -v found="$other" -v least="$least_cosine" 'BEGIN { exit !(found + 0 < least) }' \
    || fail "another picture of the same person has a cosine of $other, which that check would let pass"
ok "another picture of the same person has $other"

# The program in its package. That it installs and runs as a service is seen by `make appliance ARCH=arm64`.
packaging/need.sh debhelper dpkg-dev lintian
ARCH=arm64 PROGRAM=$arm_program packaging/deb.sh >"$work/made" || fail "the package for arm64 could not be made:" "$(<"$work/made")"
package=$(grep -E '(^|/)limen_[^ /]*_arm64\.deb$' "$work/made") || fail "packaging/deb.sh names no package:" "$(<"$work/made")"
[[ $(dpkg-deb -f "$package" Architecture) == arm64 ]] || fail "$package is for $(dpkg-deb -f "$package" Architecture)"
lint "$package" || fail "lintian of $package:" "$(<"$work/lintian")"
size=$(stat -c %s -- "$package")
((size <= largest)) || fail "$package has $size bytes; at most $largest are wanted"
ok "the package for arm64: $size bytes, at most $largest; lintian without error or warning"

echo "cross: $passed checks passed, in $SECONDS s"
