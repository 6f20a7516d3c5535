#!/usr/bin/env bash
# Makes the Debian packages and does with them what happens to packages: lintian, installing, upgrading, removing and
# purging in a Debian system of their own, where the programs in them are run.
#
#   tests/package.sh                          builds the packages, for this machine, by PROFILE=dev
#   LIMEN_TEST_PROGRAM=FILE tests/package.sh  packages this program, such as target/debug/limen of the other tests
#   LIMEN_TEST_PACKAGE=FILE tests/package.sh  takes this one of limen, and limen-deploy's where it lies beside it; the
#                                             check that packaging is reproducible is left out then, and said to be
#
# Wants root, for a mount namespace and chroot, and a Debian host. The system is made once by mmdebstrap and kept in
# .setup/package. One line is printed for each check; the first failure ends it with exit code 1.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
project=$PWD
umask 022

# shellcheck source=tests/package/limits.sh
source tests/package/limits.sh
# What of the package other than programs is looked at one by one: mode, owner, path.
readonly modes='755 root:root /usr/bin/limen
644 root:root /usr/lib/limen/libLiteRt.so
644 root:root /etc/limen/limen.toml
755 root:root /etc/limen
755 root:root /etc/limen/limen.toml.d
644 root:root /lib/systemd/system/limen.service
644 root:root /lib/udev/rules.d/60-limen.rules
644 root:root /usr/lib/sysusers.d/limen.conf
644 root:root /usr/lib/tmpfiles.d/limen.conf
644 root:root /usr/share/limen/models/manifest.toml
644 root:root /usr/share/bash-completion/completions/limen
644 root:root /usr/share/zsh/vendor-completions/_limen
644 root:root /usr/share/fish/vendor_completions.d/limen.fish
644 root:root /usr/share/doc/limen/copyright
644 root:root /usr/share/doc/limen/changelog.gz
644 root:root /usr/share/doc/limen/limen.cdx.json
644 root:root /usr/share/doc/limen/licences.txt.gz'

passed=0
ok() {
    printf 'ok: %s\n' "$*"
    passed=$((passed + 1))
}
fail() {
    printf 'FAILED: %s\n' "$@" >&2
    exit 1
}

[[ $(id -u) == 0 ]] || fail "this test mounts and changes its root folder: run it as root"

# Everything below is in a mount namespace of its own, so that no mount outlives it, and without a network.
if [[ ${1:-} != inside ]]; then
    [[ $# == 0 ]] || fail "usage: tests/package.sh, with LIMEN_TEST_PACKAGE in the environment if wanted"
    packaging/need.sh debhelper dpkg-dev lintian mmdebstrap python3-venv util-linux
    tools/setup.sh >/dev/null

    base=$project/.setup/package
    mkdir -p -- "$base"
    # What the packages depend on, so that installing them needs no network.
    include=systemd,udev,ca-certificates,libssl3,libstdc++6,libgcc-s1,curl,jq,openssh-client,openssh-server,openssl,sudo
    root="$base/bookworm-$(printf '%s' "$include" | sha256sum | cut -c 1-12).tar"
    if [[ ! -f $root ]]; then
        echo "package: making a Debian system, once; takes a minute"
        # Pages of the manual are left out of small systems by others; here they are part of what is tested.
        mmdebstrap --quiet --mode=root --variant=minbase --include="$include" bookworm "$root.part.tar" \
            || fail "mmdebstrap could not make a Debian system: its reason stands above."
        mv -- "$root.part.tar" "$root"
    fi
    if ! cmp -s tests/package/requirements.txt "$base/venv/requirements.txt"; then
        python3 -m venv --clear "$base/venv"
        PIP_REQUIRE_VIRTUALENV=0 "$base/venv/bin/python3" -m pip install --quiet --disable-pip-version-check \
            --require-hashes --requirement tests/package/requirements.txt \
            || fail "CycloneDX's schema could not be fetched: pip's reason stands above."
        cp tests/package/requirements.txt "$base/venv/requirements.txt"
    fi

    mkdir -p target
    work=$(mktemp -d "$project/target/package-test.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    if [[ -n ${LIMEN_TEST_PACKAGE:-} ]]; then
        [[ -f $LIMEN_TEST_PACKAGE ]] || fail "there is no package $LIMEN_TEST_PACKAGE"
        cp -- "$LIMEN_TEST_PACKAGE" "$work/"
        deploy=${LIMEN_TEST_PACKAGE/limen_/limen-deploy_}
        deploy=${deploy/%_"$(dpkg --print-architecture)".deb/_all.deb}
        [[ ! -f $deploy ]] || cp -- "$deploy" "$work/"
        echo "NOT CHECKED: that packaging is reproducible, since LIMEN_TEST_PACKAGE was given"
    else
        program=${LIMEN_TEST_PROGRAM:-}
        if [[ -n $program ]]; then
            # Built together with tests, it has what they ask of libraries besides.
            tree() {
                cargo tree --quiet --locked --package limen --edges "$1" --prefix none --format '{p}' \
                    | awk 'NF { sub(/^v/, "", $2); print $1 "-" $2 }' | sort -u
            }
            comm -13 <(tree normal) <(tree normal,dev) >"$work/tests"
        fi
        PROGRAM=$program PROFILE=dev packaging/deb.sh | tee "$work/made"
        mapfile -t made < <(grep '^[^ ]*\.deb$' "$work/made")
        cp -- "${made[@]}" "$work/"
        # Again, with whatever a careless packager would let in.
        (
            export PROGRAM=${program:-${CARGO_TARGET_DIR:-target}/debug/limen} PROFILE=dev TZ=Asia/Tokyo LC_ALL=C.UTF-8
            export CARGO_TARGET_DIR=$work/elsewhere
            umask 077
            packaging/deb.sh >"$work/again"
        )
        for package in "${made[@]}"; do
            cmp -- "$package" "$work/elsewhere/deb/${package##*/}" \
                || fail "${package##*/} packaged twice is not the same file"
        done
        rm -r -- "$work/elsewhere"
        ok "${#made[@]} packages made twice, in another folder, time zone, locale and umask: the same bytes"
    fi

    unshare --mount --net --propagation private "$0" inside "$work" "$root"
    exit
fi

work=$2
mkdir "$work/root"
deb=$(find "$work" -maxdepth 1 -name 'limen_*.deb')
deploy=$(find "$work" -maxdepth 1 -name 'limen-deploy_*.deb')
version=$(dpkg-deb -f "$deb" Version)

size=$(stat -c %s -- "$deb")
((size <= largest)) || fail "the package has $size bytes; at most $largest are wanted"
ok "the package has $size bytes, at most $largest"

# --- lintian

mkdir -p "$work/poor/DEBIAN" "$work/poor/usr/bin"
echo '#!/bin/sh' >"$work/poor/usr/bin/limen"
printf 'Package: limen\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: poor\n' >"$work/poor/DEBIAN/control"
dpkg-deb --root-owner-group -b "$work/poor" "$work/poor.deb" >/dev/null
! lint "$work/poor.deb" || fail "lintian has nothing to say about a package without anything in it"
lint "$deb" ${deploy:+"$deploy"} || fail "lintian:" "$(<"$work/lintian")"
ok "lintian: no error and no warning${deploy:+, in limen-deploy as well}; a poor package has some"

# --- what is in it

[[ $(dpkg-deb --ctrl-tarfile "$deb" | tar -xO ./conffiles) == /etc/limen/limen.toml ]] \
    || fail "the configuration file is not the one conffile"
strange=$(dpkg-deb -c "$deb" | awk '$2 != "root/root" || $1 ~ /^.....w|^........w|[sStT]/')
[[ -z $strange ]] || fail "files of others, or for others to write, in the package:" "$strange"
ok "one conffile; every file is root's and nobody else may write to it"

tar -xpf "$3" -C "$work/root" || fail "the Debian system could not be unpacked"
root=$work/root
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@" </dev/null; }
# As the service's account.
as_limen() { in_root setpriv --reuid limen --regid limen --init-groups "$@"; }
package() { in_root dpkg "$@" >"$work/dpkg" 2>&1 || fail "dpkg $*:" "$(<"$work/dpkg")"; }
# What dpkg-query prints of a package, by its own names.
field() { in_root dpkg-query -W -f "\${$2}" "$1" 2>/dev/null || true; }
state_of() { field "$1" db:Status-Abbrev; }
running() {
    local exe
    for exe in /proc/[0-9]*/exe; do
        [[ $(readlink -- "$exe" 2>/dev/null) != "$root"/usr/bin/limen* ]] || return 0
    done
    return 1
}
# Paths of limen that are not its account's line in /etc/passwd.
left() { (cd "$root" && find . -xdev -path ./proc -prune -o -path ./tmp/package -prune -o -name '*limen*' -print | sort); }

mkdir -p "$root/tmp/package"
cp -- "$work"/*.deb "$root/tmp/package/"
rm "$root/tmp/package/poor.deb"
[[ -z $(left) ]] || fail "the Debian system is not clean:" "$(left)"

# --- install

package -i "/tmp/package/${deb##*/}"
[[ $(state_of limen) == ii* ]] || fail "after installing, dpkg says $(state_of limen)"
package --verify limen
[[ ! -s $work/dpkg ]] || fail "dpkg --verify:" "$(<"$work/dpkg")"
ok "installs where systemd does not run; checksums are right"

# In a chroot nothing may be started; the service would have made its state folder.
running && fail "installing in a chroot started limen"
[[ ! -e $root/var/lib/limen ]] || fail "installing in a chroot made /var/lib/limen"
[[ -L $root/etc/systemd/system/multi-user.target.wants/limen.service ]] || fail "the service is not enabled"
ok "the service is enabled, and not started in a chroot"

while read -r mode owner path; do
    found=$(in_root stat -c '%a %U:%G' "$path")
    [[ $found == "$mode $owner" ]] || fail "$path is $found; $mode $owner is right"
done <<<"$modes"
ok "$(wc -l <<<"$modes") files are there with the right mode and owner"

[[ $(in_root getent passwd limen) == limen:*:/var/lib/limen:/usr/sbin/nologin ]] \
    || fail "the account limen is $(in_root getent passwd limen)"
for group in video gpio i2c spi; do
    [[ " $(in_root id -nG limen) " == *" $group "* ]] || fail "the account limen is not in the group $group"
done
ok "the account limen has no shell and is in video, gpio, i2c and spi"

[[ $(as_limen limen --version) == "limen $(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)" ]] \
    || fail "limen --version says $(as_limen limen --version)"
as_limen limen config check >"$work/said" 2>&1 || fail "limen config check:" "$(<"$work/said")"
grep -q '/etc/limen/limen.toml' "$work/said" || fail "limen config check did not read /etc/limen/limen.toml"
! grep -q '^[^#[]' "$root/etc/limen/limen.toml" || fail "a key in the default configuration is not commented"
ok "limen --version and config check; every key of the default configuration is commented"

as_limen limen --json selftest >"$work/said" 2>"$work/errors" || fail "limen selftest:" "$(<"$work/errors")"
mv "$root/usr/share/limen/models/sface-int8.tflite" "$work/sface"
! as_limen limen selftest >/dev/null 2>&1 || fail "limen selftest passes without a network"
mv "$work/sface" "$root/usr/share/limen/models/sface-int8.tflite"
ok "limen selftest passes with the installed networks and runtime: $(<"$work/said")"

missing=
mapfile -t commands < <(in_root limen help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' | grep -vx help)
[[ ${#commands[@]} -ge 15 ]] || fail "only ${#commands[@]} commands could be read out of limen help"
for page in limen "${commands[@]/#/limen-}"; do
    [[ -s $root/usr/share/man/man1/$page.1.gz ]] || missing+=" $page"
done
[[ -z $missing ]] || fail "no manual page for$missing"
bash -n "$root/usr/share/bash-completion/completions/limen"
ok "manual pages for limen and its ${#commands[@]} commands; completions for bash are a script"

tests=()
[[ ! -f $work/tests ]] || tests=("$work/tests")
dpkg-deb --fsys-tarfile "$deb" | tar -xO ./usr/share/doc/limen/licences.txt.gz | gzip -d >"$work/licences"
"$project/.setup/package/venv/bin/python3" tests/package/bill.py \
    "$root/usr/share/doc/limen/limen.cdx.json" "$root" "$work/licences" "${tests[@]}" | tee "$work/said" \
    || fail "bill of materials: the reason stands above"
passed=$((passed + $(grep -c '^ok: ' "$work/said")))

# --- use, then upgrade

# As systemd does for the unit.
in_root install -d -o limen -g limen -m 700 /var/lib/limen
cp tests/fixtures/portraits/grace_hopper_1.jpg "$root/tmp/grace.jpg"
as_limen limen enrol "Grace Hopper" /tmp/grace.jpg >"$work/said" 2>&1 || fail "limen enrol:" "$(<"$work/said")"
printf '\n[device]\nname = "back door"\n' >"$root/etc/limen/limen.toml.d/50-name.toml"
sed -i '0,/^#width = .*/s//width = 1280/' "$root/etc/limen/limen.toml"
as_limen limen config check >/dev/null || fail "the changed configuration is wrong"
edited=$(sha256sum <"$root/etc/limen/limen.toml")

enrolled() {
    as_limen limen --json subjects list >"$work/said" 2>&1 || fail "limen subjects list:" "$(<"$work/said")"
    grep -q 'Grace Hopper' "$work/said"
}
enrolled || fail "the subject that was enrolled is not listed"

# The next version, whose default configuration is another one: then dpkg has a choice to make.
next=$version.1
dpkg-deb -R "$deb" "$work/next"
sed -i "s/^Version: .*/Version: $next/" "$work/next/DEBIAN/control"
echo '# Something new in the next version.' >>"$work/next/etc/limen/limen.toml"
(cd "$work/next" && find . -type f -not -path './DEBIAN/*' -not -path './etc/*' -printf '%P\0' | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zgzip -z1 -b "$work/next" "$root/tmp/package/next.deb" >/dev/null

package -i --force-confdef --force-confold /tmp/package/next.deb
[[ $(field limen Version) == "$next" ]] || fail "the upgrade did not install $next"
[[ $(sha256sum <"$root/etc/limen/limen.toml") == "$edited" ]] || fail "the upgrade changed the user's configuration"
grep -q 'Something new' "$root/etc/limen/limen.toml.dpkg-dist" || fail "the new default is not beside the user's"
enrolled || fail "the upgrade lost a subject"
running && fail "upgrading in a chroot started limen"
ok "upgrade from $version to $next: the user's edit stays, the new default lies beside it, subjects stay"

package -r limen
[[ ! -e $root/usr/bin/limen && ! -e $root/usr/share/limen ]] || fail "limen is there after its removal"
[[ $(sha256sum <"$root/etc/limen/limen.toml") == "$edited" ]] || fail "removing changed the user's configuration"
[[ -e $root/var/lib/limen/gallery.db ]] || fail "removing took the gallery along"
package -i --force-confdef --force-confold /tmp/package/next.deb
enrolled || fail "after removing and installing again a subject is missing"
[[ $(sha256sum <"$root/etc/limen/limen.toml") == "$edited" ]] || fail "installing again changed the user's configuration"
ok "remove and install again: configuration and gallery are as they were"

# A device whose configuration nobody changed gets the new default.
package --purge limen
package -i "/tmp/package/${deb##*/}"
package -i /tmp/package/next.deb
grep -q 'Something new' "$root/etc/limen/limen.toml" || fail "a default that nobody changed was not replaced by the new one"
ok "a configuration that nobody changed becomes the new default"

# --- purge

in_root install -d -o limen -g limen -m 700 /var/lib/limen /srv/backup
as_limen limen enrol "Grace Hopper" /tmp/grace.jpg >"$work/said" 2>&1 || fail "limen enrol:" "$(<"$work/said")"
echo kept >"$root/srv/backup/limen-backup"
package --purge limen
[[ -z $(state_of limen) || $(state_of limen) == un* ]] || fail "after purging, dpkg says $(state_of limen)"
[[ ! -e $root/var/lib/limen && ! -e $root/etc/limen ]] || fail "purging left state or configuration behind"
[[ -e $root/srv/backup/limen-backup ]] || fail "purging took what lies elsewhere along"
rm -r "$root/srv/backup"
[[ -z $(left) ]] || fail "purging left behind:" "$(left)"
ok "purge: gallery, key and configuration are gone, nothing named limen is left, and backups elsewhere stay"

# --- the device's end of updates

if [[ -n $deploy ]]; then
    package -i "/tmp/package/${deploy##*/}"
    [[ $(in_root stat -c '%a %U:%G' /etc/sudoers.d/limen-deploy) == "440 root:root" ]] \
        || fail "/etc/sudoers.d/limen-deploy is $(in_root stat -c '%a %U:%G' /etc/sudoers.d/limen-deploy)"
    in_root visudo -cq || fail "sudo does not take the rule of limen-deploy"
    install -d -m 755 "$root/run/sshd"
    in_root ssh-keygen -A >/dev/null
    in_root sshd -t 2>"$work/errors" || fail "sshd does not start with the configuration of limen-deploy:" "$(<"$work/errors")"
    running && fail "installing limen-deploy in a chroot started something"
    package --purge limen-deploy
    [[ -z $(left) ]] || fail "purging limen-deploy left behind:" "$(left)"
    ok "limen-deploy: installs, sudo and sshd take its files, and purging leaves nothing"
fi

echo "package: $passed checks passed, in $SECONDS s"
