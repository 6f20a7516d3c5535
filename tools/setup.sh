#!/usr/bin/env bash
# Makes a machine with nothing but Rust ready to build, run and test limen:
#
#   tools/setup.sh            what building and running need
#   tools/setup.sh test       besides: a broker, its clients, openssl, a browser and what drives it,
#                             for the tests
#   tools/setup.sh lint       besides: shellcheck and cargo-deny
#   tools/setup.sh fuzz       besides: cargo-fuzz
#   tools/setup.sh library aarch64|x86_64
#                             LiteRT for another machine, in .setup/lib-MACHINE: for cross-building and
#                             packages
#
# It looks at what is there rather than at what it did before, so it can be called at any time;
# when everything is in place it needs no network.
#
# Exit codes: 0 ready, 2 wrong use, 3 machine not supported, 4 system packages missing,
# 5 Rust missing or too old, 6 download failed, 7 a file is not the pinned one.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."

readonly cargo_deny_version=0.20.2
readonly cargo_fuzz_version=0.13.2
tools="${XDG_CACHE_HOME:-$HOME/.cache}/limen-tools"
PATH="$PATH:$HOME/.cargo/bin"

say() { printf 'setup: %s\n' "$*"; }
fail() {
    local code=$1
    shift
    printf 'setup: %s\n' "$@" >&2
    exit "$code"
}

work=
cleanup() { [[ -z $work ]] || rm -rf -- "$work"; }
trap cleanup EXIT

has() { command -v "$1" >/dev/null 2>&1; }

check_machine() {
    [[ $(uname -s) == Linux ]] || fail 3 "limen runs on Linux; this is $(uname -s)."
    # A 64-bit kernel may carry a 32-bit userland, as Raspberry Pi OS does on request.
    [[ $(getconf LONG_BIT) == 64 ]] || fail 3 "this system is 32-bit; limen needs a 64-bit one."
    case $(uname -m) in
        x86_64) oldest_glibc=2.27 ;;
        # Its wheel says 2.27; its symbols say otherwise.
        aarch64) oldest_glibc=2.34 ;;
        *) fail 3 "there is no LiteRT runtime for $(uname -m); limen runs on aarch64 and x86_64." ;;
    esac
    local glibc
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
    glibc=${glibc#glibc }
    [[ -n $glibc ]] || fail 3 "the C library is not glibc, which the LiteRT runtime needs."
    if [[ $(printf '%s\n' "$oldest_glibc" "$glibc" | sort -V | head -n 1) != "$oldest_glibc" ]]; then
        fail 3 "glibc is $glibc; the LiteRT runtime needs $oldest_glibc (Debian 12, Ubuntu 22.04 or later)."
    fi
}

# pinned KEY: what models/manifest.toml states about the runtime library of the machine asked for.
pinned() {
    awk -v arch="$machine" -v key="$1" '
        /^\[/ { ours = 0; library = ($0 == "[[runtime.library]]") }
        library && $1 == "arch" { gsub(/"/, "", $3); ours = ($3 == arch) }
        ours && $1 == key { gsub(/"/, "", $3); print $3; exit }
    ' models/manifest.toml
}

read_pins() {
    library_sha256=$(pinned sha256)
    wheel_sha256=$(pinned wheel_sha256)
    package=$(pinned package)
    version=$(pinned package_version)
    [[ $library_sha256 =~ ^[0-9a-f]{64}$ && $wheel_sha256 =~ ^[0-9a-f]{64}$ && -n $package && -n $version ]] \
        || fail 7 "models/manifest.toml does not state the LiteRT library of $machine as expected."
    wheel_platform=manylinux_2_27_$machine
}

library_is_pinned() {
    [[ -f $library ]] && echo "$library_sha256  $library" | sha256sum --check --status
}

missing_packages() {
    if ! { has cc && cc -E -x c -include stdlib.h /dev/null >/dev/null 2>&1; }; then
        echo gcc libc6-dev
    fi
    if ! { has pkg-config && pkg-config --exists libcrypto; }; then
        echo pkg-config libssl-dev
    fi
    has python3 || echo python3
    # Only the download needs pip, or the means to make one in a virtual environment.
    if ! library_is_pinned && ! python3 -m pip --version >/dev/null 2>&1 \
        && ! python3 -c 'import ensurepip' >/dev/null 2>&1; then
        echo python3-venv
    fi
    if [[ $purpose == lint ]]; then
        has shellcheck || echo shellcheck
    elif [[ $purpose == test ]]; then
        # Debian keeps the broker where only root looks.
        has mosquitto || [[ -x /usr/sbin/mosquitto ]] || echo mosquitto
        has mosquitto_sub || echo mosquitto-clients
        has openssl || echo openssl
        # Backups go to another machine over OpenSSH.
        has sftp || echo openssh-client
        [[ -x /usr/sbin/sshd ]] || echo openssh-server
        has chromium || echo chromium
        has node || echo nodejs
        has npm || echo npm
        # For the tool that tries every route of the API.
        python3 -c 'import ensurepip' >/dev/null 2>&1 || echo python3-venv
    elif [[ $purpose == fuzz ]]; then
        has c++ || echo g++
    fi
}

install_packages() {
    local packages install
    mapfile -t packages < <(missing_packages | tr ' ' '\n')
    if [[ ${#packages[@]} -eq 0 ]]; then
        say "system packages: present"
        return
    fi
    install="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
    has apt-get || fail 4 "missing: ${packages[*]} (names of Debian packages)." \
        "There is no apt-get here; install what they stand for, then call the same command again."
    local as_root=(env)
    if [[ $(id -u) != 0 ]]; then
        if ! { has sudo && sudo -n true 2>/dev/null; }; then
            local prefix="su -c"
            has sudo && prefix="sudo sh -c"
            fail 4 "missing: ${packages[*]}. Installing them takes root, which is not at hand. Run" \
                "    $prefix '$install'" "once, then the same command again."
        fi
        as_root=(sudo -n env)
    fi
    say "system packages: installing ${packages[*]}"
    local apt=("${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120)
    # An index that cannot be refreshed may still be good enough to install from.
    "${apt[@]}" update || say "apt-get update failed; trying with the package lists that are there"
    "${apt[@]}" install -y --no-install-recommends "${packages[@]}" \
        || fail 4 "apt-get could not install ${packages[*]}: its reason stands above."
    mapfile -t packages < <(missing_packages | tr ' ' '\n')
    [[ ${#packages[@]} -eq 0 ]] || fail 4 "still missing after their installation: ${packages[*]}."
}

check_rust() {
    if ! has cargo || ! has rustc; then
        fail 5 "Rust is missing: no cargo and rustc on the path or in ~/.cargo/bin." \
            "Install it with rustup, or as packages of at least the version in Cargo.toml."
    fi
    local needed found
    needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    # With rustup this fetches the toolchain that rust-toolchain.toml names, if it is not there.
    found=$(rustc --version) || fail 5 "rustc does not start: its reason stands above."
    found=$(cut -d ' ' -f 2 <<<"$found")
    if [[ $(printf '%s\n' "$needed" "${found%%-*}" | sort -V | head -n 1) != "$needed" ]]; then
        fail 5 "Rust is $found, and limen needs $needed or later. Install a newer one with rustup."
    fi
    say "Rust: $found"
}

# Sets `pip` to the system's, or to one in a virtual environment of our own.
find_pip() {
    if python3 -m pip --version >/dev/null 2>&1; then
        pip=(python3 -m pip)
    else
        say "LiteRT: making a virtual environment, since the system has no pip"
        python3 -m venv --clear "$work/venv" || fail 6 "python3 -m venv failed: its reason stands above."
        pip=("$work/venv/bin/python3" -m pip)
    fi
}

fetch_library() {
    if library_is_pinned; then
        say "LiteRT $version: present"
        return
    fi
    if [[ -e $library ]]; then
        say "LiteRT: $library is not the pinned file; fetching it again"
    fi
    mkdir -p -- "$(dirname -- "$library")"
    work=$(mktemp -d .setup/work.XXXXXX)
    find_pip
    say "LiteRT $version: fetching PyPI package $package (14 to 22 MB)"
    # pip checks the wheel against the hash. The Python version is the wheel's, not
    # that of this machine: nothing in the wheel is run.
    echo "$package==$version --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
    PIP_REQUIRE_VIRTUALENV=0 "${pip[@]}" download --disable-pip-version-check --no-deps \
        --only-binary=:all: --implementation cp --python-version 311 --platform "$wheel_platform" \
        --require-hashes --requirement "$work/requirements.txt" --dest "$work" \
        || fail 6 "LiteRT could not be fetched: pip's reason stands above." \
            "Check the network, or fetch the wheel elsewhere (the line that failed is" \
            "\"pip download $package==$version --no-deps --only-binary=:all: --python-version 311 --platform $wheel_platform\")" \
            "and set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER for this command."
    python3 - "$work" <<'PYTHON' || fail 7 "the wheel of LiteRT does not hold libLiteRt.so as expected."
import pathlib, shutil, sys, zipfile

work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive, open(work / "libLiteRt.so", "wb") as out:
    shutil.copyfileobj(archive.open("ai_edge_litert/libLiteRt.so"), out)
PYTHON
    echo "$library_sha256  $work/libLiteRt.so" | sha256sum --check --status \
        || fail 7 "libLiteRt.so out of the wheel is not the pinned file (sha256 $library_sha256)."
    # In one step, so that an interrupted set-up never leaves half a library.
    mv -f -- "$work/libLiteRt.so" "$library"
    say "LiteRT $version: in $library"
}

# fetch_tool CRATE VERSION
fetch_tool() {
    if [[ $("$tools/bin/$1" --version 2>/dev/null) == "$1 $2" ]]; then
        say "$1 $2: present"
        return
    fi
    say "$1 $2: building it into $tools, once; takes a few minutes"
    # Without optimisation: it runs for seconds, and optimising it takes longer than all it saves.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 cargo install --quiet --locked --root "$tools" "$1@$2" \
        || fail 6 "$1 could not be built: cargo's reason stands above."
}

# What drives the browser. npm checks it against the hashes in the lock file.
fetch_browser_driver() {
    local folder=tests/browser
    if cmp -s "$folder/package-lock.json" "$folder/node_modules/.limen-lock"; then
        say "browser driver: present"
        return
    fi
    say "browser driver: fetching what $folder/package-lock.json pins"
    npm ci --prefix "$folder" --no-audit --no-fund --loglevel=error >/dev/null \
        || fail 6 "npm could not fetch the browser driver: its reason stands above."
    cp "$folder/package-lock.json" "$folder/node_modules/.limen-lock"
}

# What tries every route of the API. pip checks it against the hashes in the list.
fetch_api_tester() {
    local list=tests/api/requirements.txt venv=.setup/api
    if [[ -x $venv/bin/schemathesis ]] && cmp -s "$list" "$venv/requirements.txt"; then
        say "API tester: present"
        return
    fi
    say "API tester: fetching what $list pins"
    python3 -m venv --clear "$venv" || fail 6 "python3 -m venv failed: its reason stands above."
    PIP_REQUIRE_VIRTUALENV=0 "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement "$list" \
        || fail 6 "the API tester could not be fetched: pip's reason stands above."
    cp "$list" "$venv/requirements.txt"
}

purpose=${1:-build} machine=$(uname -m) library=.setup/lib/libLiteRt.so
case $#:$purpose:${2:-} in
    [01]:build: | 1:test: | 1:lint: | 1:fuzz:) ;;
    2:library:x86_64 | 2:library:aarch64)
        machine=$2
        [[ $machine == "$(uname -m)" ]] || library=.setup/lib-$machine/libLiteRt.so
        ;;
    *) fail 2 "usage: tools/setup.sh [build|test|lint|fuzz|library aarch64|library x86_64]" ;;
esac
check_machine
read_pins
install_packages
check_rust
fetch_library
case $purpose in
    test)
        fetch_browser_driver
        fetch_api_tester
        ;;
    lint) fetch_tool cargo-deny "$cargo_deny_version" ;;
    fuzz) fetch_tool cargo-fuzz "$cargo_fuzz_version" ;;
esac
