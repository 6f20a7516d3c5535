#!/usr/bin/env bash
# Runs tools/setup.sh under conditions it must cope with. Needs a finished set-up (`make test` sees to
# that) and no network: package indexes are switched off for every call.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
project=$PWD

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
chmod 755 "$scratch"

# A project in a folder with spaces in its name, with only what set-up reads.
copy="$scratch/a door, front/limen"
mkdir -p "$copy/.setup/lib" "$copy/tools" "$copy/models"
cp "$project/tools/setup.sh" "$copy/tools/"
cp "$project/models/manifest.toml" "$copy/models/"
cp "$project"/{Cargo.toml,rust-toolchain.toml} "$copy/"
readonly library="$copy/.setup/lib/libLiteRt.so"

# A path with what set-up itself calls, and neither compiler, Rust, sudo nor apt.
bare="$scratch/bin"
mkdir "$bare"
for tool in awk bash cut dirname env getconf head id mkdir mktemp mv readlink rm sed sha256sum sort tr uname; do
    ln -s "$(type -P "$tool")" "$bare/$tool"
done
ln -s "$(python3 -c 'import sys; print(sys.executable)')" "$bare/python3"

passed=0
# expect NAME EXIT_CODE TEXT COMMAND...: the command ends with the code and its output holds the text.
expect() {
    local name=$1 code=$2 text=$3 output found=0
    shift 3
    output=$(cd / && PIP_NO_INDEX=1 "$@" 2>&1) || found=$?
    if [[ $found != "$code" || $output != *"$text"* ]]; then
        printf 'FAILED: %s\nexpected exit code %s and "%s"; found %s and\n%s\n' \
            "$name" "$code" "$text" "$found" "$output" >&2
        exit 1
    fi
    printf 'ok: %s\n' "$name"
    passed=$((passed + 1))
}

restore() { cp "$project/.setup/lib/libLiteRt.so" "$library"; }

# As somebody without root: as oneself, or as nobody where the tests run as root.
unprivileged=()
if [[ $(id -u) == 0 ]]; then
    unprivileged=("$(type -P setpriv)" --reuid 65534 --clear-groups)
fi

restore
expect "a finished set-up needs no network, from any folder, with spaces in its path" \
    0 "LiteRT 2.3.0: present" "$copy/tools/setup.sh"

printf 'x' | dd of="$library" bs=1 seek=4096 conv=notrunc status=none
expect "one changed byte in the library is noticed, and a failed download says what to do" \
    6 "PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER" "$copy/tools/setup.sh"

mkdir "$scratch/wheels"
for platform in x86_64 aarch64; do
    wheel="$scratch/wheels/ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_$platform.whl"
    python3 -m zipfile -c "$wheel" "$copy/Cargo.toml"
done
expect "a wheel of the right name and another content is refused" \
    6 "LiteRT could not be fetched" env PIP_FIND_LINKS="$scratch/wheels" "$copy/tools/setup.sh"
if [[ -n $(find "$copy/.setup" -name 'work.*') ]]; then
    echo "FAILED: a failed set-up leaves its working folder behind" >&2
    exit 1
fi

restore
expect "missing packages are named where there is no apt" \
    4 "missing: gcc libc6-dev pkg-config libssl-dev" env PATH="$bare" "$copy/tools/setup.sh"

ln -s "$(type -P true)" "$bare/apt-get"
expect "without root one line says how to install what is missing" \
    4 "su -c 'apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev pkg-config libssl-dev" \
    env PATH="$bare" "${unprivileged[@]}" "$bare/bash" "$copy/tools/setup.sh"
rm "$bare/apt-get"

for tool in cc pkg-config; do
    ln -s "$(type -P "$tool")" "$bare/$tool"
done
expect "missing Rust is said to be missing" \
    5 "Rust is missing" env PATH="$bare" HOME="$scratch" "$copy/tools/setup.sh"

sed -i 's/^rust-version = .*/rust-version = "99.0"/' "$copy/Cargo.toml"
expect "Rust that is too old is said to be too old" 5 "limen needs 99.0 or later" "$copy/tools/setup.sh"

sed -i 's/^sha256 = "[0-9a-f]*"/sha256 = "none"/' "$copy/models/manifest.toml"
expect "a manifest without the library's hash is refused" \
    7 "does not state the LiteRT library" "$copy/tools/setup.sh"

expect "an unknown purpose is refused" 2 "usage:" "$copy/tools/setup.sh" everything

echo "set-up: $passed of 9 cases passed"
[[ $passed == 9 ]]
