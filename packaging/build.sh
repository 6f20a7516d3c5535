#!/usr/bin/env bash
# Builds limen for a package, so that the same sources give the same file whichever folder they lie in:
#
#   packaging/build.sh amd64|arm64     PROFILE=release (as it ships) or dev (limen itself unoptimised, in a third
#                                      of the time)
#
# The program is then target/TRIPLE/release/limen or target/TRIPLE/debug/limen. What another architecture takes is
# installed by packaging/cross.sh, which calls this.
#
# Exit codes: 0 built, 1 not built, 2 wrong use, 4 system packages missing.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
PATH="$PATH:$HOME/.cargo/bin"

fail() {
    local code=$1
    shift
    printf 'build: %s\n' "$@" >&2
    exit "$code"
}

[[ $# == 1 ]] || fail 2 "usage: packaging/build.sh amd64|arm64"
case $1 in
    amd64) machine=x86_64 ;;
    arm64) machine=aarch64 ;;
    *) fail 2 "there is no LiteRT runtime for $1; limen is built for amd64 and arm64." ;;
esac
triple=$machine-unknown-linux-gnu
profile=${PROFILE:-release}
case $profile in
    release) folder=release ;;
    dev) folder=debug ;;
    *) fail 2 "PROFILE is $profile; it is release or dev." ;;
esac

if [[ $machine != "$(uname -m)" ]]; then
    # rustup's library for the target where it is installed, else the compiler of Debian's that has one.
    if ! { type -P rustup >/dev/null && rustup target list --installed | grep -qx "$triple"; }; then
        export RUSTC=/usr/bin/rustc
        [[ -x $RUSTC && -n $(find "/usr/lib/rustlib/$triple/lib" -name 'libstd-*.rlib' 2>/dev/null) ]] \
            || fail 4 "there is no Rust library for $triple; packaging/cross.sh installs one."
    fi
    upper=${triple^^} tools=$machine-linux-gnu
    export "CARGO_TARGET_${upper//-/_}_LINKER=$tools-gcc"
    export "CC_${triple//-/_}=$tools-gcc" "AR_${triple//-/_}=$tools-ar"
    # For SQLCipher, which is compiled with the program and takes the cryptography from the system.
    export OPENSSL_LIB_DIR=/usr/lib/$tools OPENSSL_INCLUDE_DIR=/usr/include
fi

# Names of folders end up in messages of panics, in asserts of C and in the hashes of procedural macros.
LIMEN_BUILD_SOURCES=$PWD LIMEN_BUILD_CRATES=$(readlink -m -- "${CARGO_HOME:-$HOME/.cargo}")
export LIMEN_BUILD_SOURCES LIMEN_BUILD_CRATES RUSTC_WRAPPER=$PWD/packaging/rustc.sh
# What somebody has set up for building elsewhere does not count.
unset RUSTFLAGS
export CARGO_ENCODED_RUSTFLAGS=
# cc splits these at spaces unless told otherwise.
export CC_SHELL_ESCAPED_FLAGS=1
printf -v "CFLAGS_${triple//-/_}" '%q %q' "-ffile-prefix-map=$LIMEN_BUILD_SOURCES=/usr/src/limen" \
    "-ffile-prefix-map=$LIMEN_BUILD_CRATES=/usr/src/cargo"
export "CFLAGS_${triple//-/_}"
# For __DATE__ in C.
SOURCE_DATE_EPOCH=$(packaging/epoch.sh)
export SOURCE_DATE_EPOCH
# Neither what a second build would start from nor lines in backtraces are shipped.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=none

# Of a program for tests on another machine, numbers are wanted and not speed. Optimising these two takes as long as
# everything else: frames that no test shows it there, and databases of six people.
speed=()
[[ $profile == release || $machine == "$(uname -m)" ]] \
    || speed=(--config 'profile.dev.package.yuv.opt-level=0' --config 'profile.dev.package.libsqlite3-sys.opt-level=0')

# In a folder of its own: cargo builds nothing for this machine as long as it builds for another in the same one.
target=${CARGO_TARGET_DIR:-target}
cargo build --locked --profile "$profile" --target "$triple" --target-dir "$target/package" "${speed[@]}" \
    || fail 1 "cargo could not build limen for $triple: its reason stands above."
mkdir -p -- "$target/$triple/$folder"
cp -f -- "$target/package/$triple/$folder/limen" "$target/$triple/$folder/limen"
printf 'build: %s\n' "$target/$triple/$folder/limen"
