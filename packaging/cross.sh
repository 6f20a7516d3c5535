#!/usr/bin/env bash
# Builds limen for aarch64 on an x86-64 machine; `make cross` calls it. Installs what is missing, as root or by sudo
# without a password, and fetches LiteRT for aarch64 by its pinned hash.
#
#   packaging/cross.sh     PROFILE=release (as it ships) or dev (limen itself unoptimised, for tests)
#
# The program is then target/aarch64-unknown-linux-gnu/release/limen (debug/limen for dev), its library
# .setup/lib-aarch64/libLiteRt.so. tests/cross.sh runs both in an emulator.
#
# Where rustup has the target (`rustup target add aarch64-unknown-linux-gnu`), its compiler is used; else Debian's
# rustc-web, which Debian keeps new enough for browsers and has a library for arm64 beside it.
#
# Exit codes: 0 built, 1 not built, 2 wrong use, 3 machine not supported, 4 system packages missing, 6 download failed.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
PATH="$PATH:$HOME/.cargo/bin"

fail() {
    local code=$1
    shift
    printf 'cross: %s\n' "$@" >&2
    exit "$code"
}

[[ $# == 0 ]] || fail 2 "usage: packaging/cross.sh"
case $(uname -m) in
    x86_64) ;;
    aarch64) fail 3 "this machine is an aarch64 one: \`make build\` builds for it." ;;
    *) fail 3 "this machine is $(uname -m); cross-building is done on x86_64." ;;
esac

# The system libraries are of this system's release, and so the program will want at least that one.
packages=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross pkg-config libssl-dev libssl-dev:arm64)
# To run what was built: an emulator, and the libraries that limen and LiteRT link.
packages+=(qemu-user-static libc6:arm64 libstdc++6:arm64 libgcc-s1:arm64)
if ! { type -P rustup >/dev/null && rustup target list --installed | grep -qx aarch64-unknown-linux-gnu; }; then
    if type -P apt-cache >/dev/null && [[ -n $(apt-cache search --names-only '^rustc-web$') ]]; then
        packages+=(rustc-web libstd-rust-web-dev libstd-rust-web-dev:arm64)
    else
        fail 4 "there is no Rust library for aarch64. With rustup: rustup target add aarch64-unknown-linux-gnu" \
            "Without it Debian 12 has one, in its package rustc-web; this system has not."
    fi
fi
packaging/need.sh "${packages[@]}"
tools/setup.sh library aarch64
packaging/build.sh arm64
