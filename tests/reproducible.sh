#!/usr/bin/env bash
# Builds the packages twice from clean clones of the last commit, compiler and all, and compares every byte. The second
# time in another folder, with crates fetched anew elsewhere, and in another time zone, locale and umask.
#
#   tests/reproducible.sh     ARCH=amd64 (default) or arm64; PROFILE=release (default, twice a quarter of an hour) or
#                             dev; MADE=FOLDER: the first build was made already, and its packages lie there
#
# Exit codes: 0 the same, 1 not the same or not built, and those of packaging/deb.sh.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
export ARCH=${ARCH:-amd64} PROFILE=${PROFILE:-release}
unset CARGO_TARGET_DIR PROGRAM VERSION

[[ -z $(git status --porcelain --untracked-files=no) ]] \
    || { echo "reproducible: there are changes that are not committed, and a clone would not have them" >&2; exit 1; }
mkdir -p target
work=$(mktemp -d -- "$PWD/target/reproducible.XXXXXX")
trap 'rm -rf -- "$work"' EXIT

# build FOLDER: the packages are then in FOLDER/target/deb.
build() {
    git clone --quiet --no-hardlinks . "$1"
    # What the build fetches by its hash, where it was fetched already.
    mkdir "$1/.setup"
    local library
    for library in .setup/lib .setup/lib-aarch64; do [[ ! -d $library ]] || cp -r -- "$library" "$1/.setup/"; done
    "$1/packaging/deb.sh"
}
first=${MADE:-$work/first/target/deb}
[[ -n ${MADE:-} ]] || build "$work/first"
(
    umask 077
    export TZ=Asia/Tokyo LC_ALL=C.UTF-8 CARGO_HOME="$work/another home/of cargo"
    mkdir -p -- "$CARGO_HOME"
    build "$work/the second one"
)
count=0
for package in "$work/the second one/target/deb"/*.deb; do
    cmp -- "$first/${package##*/}" "$package" || { echo "reproducible: ${package##*/} is not the same file twice" >&2; exit 1; }
    printf 'ok: %s: sha256 %s twice\n' "${package##*/}" "$(sha256sum <"$package" | cut -d ' ' -f 1)"
    count=$((count + 1))
done
((count == 2)) || { echo "reproducible: $count packages were made where 2 are expected" >&2; exit 1; }
