#!/usr/bin/env bash
# Makes the Debian packages in target/deb; `make deb` calls it.
#
#   packaging/deb.sh     ARCH=amd64|arm64        for which machine; this one's unless said otherwise
#                        PROFILE=release|dev     as it ships, or limen unoptimised and with the version VERSION~dev,
#                                                for tests
#                        VERSION=1.2.3           instead of the one in Cargo.toml
#                        PROGRAM=FILE            package this program instead of building one
#
# A line with nothing but its path is printed for each of them. debhelper makes what must be right: maintainer scripts for systemd,
# accounts and udev, dependencies on libraries, checksums. packaging/debian says what goes where.
#
# Exit codes: 0 made, 1 not made, 2 wrong use, 3 machine not supported, 4 system packages missing,
# 5 Rust missing or too old, 6 download failed, 7 a file is not the pinned one.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
PATH="$PATH:$HOME/.cargo/bin"
umask 022

say() { printf 'deb: %s\n' "$*"; }
fail() {
    local code=$1
    shift
    printf 'deb: %s\n' "$@" >&2
    exit "$code"
}

[[ $# == 0 ]] || fail 2 "usage: packaging/deb.sh, with ARCH, PROFILE, VERSION and PROGRAM in the environment"
case $(uname -m) in
    x86_64) host=amd64 ;;
    aarch64) host=arm64 ;;
    *) fail 3 "there is no LiteRT runtime for $(uname -m); limen runs on aarch64 and x86_64." ;;
esac
arch=${ARCH:-$host} profile=${PROFILE:-release}
case $arch in
    amd64) machine=x86_64 ;;
    arm64) machine=aarch64 ;;
    *) fail 2 "ARCH is $arch; there are packages for amd64 and arm64." ;;
esac
case $profile in
    release) folder=release suffix='' ;;
    dev) folder=debug suffix='~dev' ;;
    *) fail 2 "PROFILE is $profile; it is release or dev." ;;
esac
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)$suffix}
# Native, so without a revision behind a hyphen.
[[ $version =~ ^[0-9][A-Za-z0-9.+~]*$ ]] \
    || fail 2 "\"$version\" is no version: a digit first, then letters, digits and . + ~"

need=(debhelper dpkg-dev python3 git)
if [[ $arch != "$host" ]]; then
    # On an aarch64 machine nothing is built for the other: boards are where packages go, not where they come from.
    [[ $arch == arm64 ]] || fail 3 "packages for amd64 are made on an amd64 machine."
    need+=(binutils-aarch64-linux-gnu qemu-user-static libssl3:arm64 libc6:arm64 libstdc++6:arm64 libgcc-s1:arm64)
fi
packaging/need.sh "${need[@]}"

target=$(readlink -m -- "${CARGO_TARGET_DIR:-target}")
library=.setup/lib/libLiteRt.so
[[ $arch == "$host" ]] || library=.setup/lib-$machine/libLiteRt.so
if [[ -n ${PROGRAM:-} ]]; then
    tools/setup.sh library "$machine" || exit
    program=$PROGRAM
elif [[ $arch != "$host" ]]; then
    packaging/cross.sh || exit
    program=$target/$machine-unknown-linux-gnu/$folder/limen
elif [[ $profile == release ]]; then
    tools/setup.sh || exit
    packaging/build.sh "$arch" || exit
    program=$target/$machine-unknown-linux-gnu/release/limen
else
    # The program that the tests run.
    tools/setup.sh || exit
    cargo build --locked
    program=$target/debug/limen
fi
[[ -f $program ]] || fail 1 "there is no program $program."
file_arch=$(od -An -tu2 -j18 -N2 -- "$program" | tr -d ' ')
case $file_arch:$arch in
    62:amd64 | 183:arm64) ;;
    *) fail 1 "$program is not a program for $arch." ;;
esac

SOURCE_DATE_EPOCH=$(packaging/epoch.sh)
export SOURCE_DATE_EPOCH
maintainer="${DEBFULLNAME:-The limen authors} <${DEBEMAIL:-limen@users.noreply.github.com}>"

mkdir -p -- "$target/deb"
work=$(mktemp -d -- "$target/deb/work.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
chmod 755 "$work"
build=$work/limen stage=$work/limen/stage
mkdir -p -- "$build" "$stage"/{doc,etc/limen,usr/bin,usr/lib/limen,usr/share/limen/models}
cp -R packaging/debian "$build/debian"
sed -i "s/@MAINTAINER@/$maintainer/" "$build/debian/control"
cat >"$build/debian/changelog" <<CHANGELOG
limen ($version) stable; urgency=medium

  * limen $version: /usr/share/doc/limen/NEWS.md.gz says what changed.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG

run=()
# What runs below touches no network, so that the emulator needs to know nothing of the processor.
[[ $arch == "$host" ]] || run=(qemu-aarch64-static)
limen() { env -i PATH="$PATH" "${run[@]}" "$program" "$@"; }

install -m 755 -- "$program" "$stage/usr/bin/limen"
install -m 644 -- "$library" "$stage/usr/lib/limen/libLiteRt.so"
models=$(packaging/bill.py models)
for model in manifest.toml $models; do
    install -m 644 -- "models/$model" "$stage/usr/share/limen/models/"
done
limen config template >"$stage/etc/limen/limen.toml"
limen man "$stage/man"
complete() {
    mkdir -p -- "$stage/usr/share/$2"
    limen completions "$1" >"$stage/usr/share/$2/$3"
}
complete bash bash-completion/completions limen
complete zsh zsh/vendor-completions _limen
complete fish fish/vendor_completions.d limen.fish
cp -- README.md docs/*.md "$stage/doc/"
# debhelper takes a file called CHANGELOG for the one of the package.
cp -- CHANGELOG.md "$stage/doc/NEWS.md"
cp -- systemd/limen.service "$build/debian/limen.service"
cp -- systemd/limen.sysusers "$build/debian/limen.sysusers"
cp -- systemd/limen.tmpfiles "$build/debian/limen.tmpfiles"
cp -- systemd/limen.rules "$build/debian/limen.udev"
packaging/bill.py bill "$machine-unknown-linux-gnu" --version "$version" --program "$program" \
    >"$stage/doc/limen.cdx.json"
packaging/bill.py licences "$machine-unknown-linux-gnu" >"$stage/doc/licences.txt"

# The device's end of updates is part of the repository's fleet folder.
if [[ -d fleet/device ]]; then
    mkdir -p "$build/fleet"
    cp -R fleet/device "$build/fleet/device"
fi

# build-essential is not asked for (-d): nothing is compiled.
(cd "$build" && dpkg-buildpackage --host-arch "$arch" --build=binary --no-sign -d) \
    >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    fail 1 "dpkg-buildpackage failed: its reason stands above."
}
grep -E '^dpkg-(shlibdeps|gencontrol): warning|^dh_[a-z]+: warning' "$work/log" || true
made=()
for package in "$work"/*.deb; do
    mv -f -- "$package" "$target/deb/"
    made+=("$target/deb/$(basename -- "$package")")
done
for package in "${made[@]}"; do
    say "$(stat -c %s -- "$package") bytes, sha256 $(sha256sum <"$package" | cut -c 1-64):"
    printf '%s\n' "${package#"$PWD/"}"
done
