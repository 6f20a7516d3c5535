#!/usr/bin/env bash
# Makes the root that all hosts of the fleet test share: Debian 12 with an SSH server, what the packages depend on, and
# RAUC with a bus for those with two slots, unpacked in .setup/fleet/base-KEY. Fetched once; apt checks signatures.
#
#   tests/fleet/base.sh      prints the folder
#
# The package `systemctl` of Debian (a systemctl that needs no systemd as PID 1, after docker-systemctl-replacement)
# starts the units in hosts that have no kernel of their own. It knows Type=notify, User= and Restart=, and nothing of
# sandboxes, StateDirectory= and conditions: those are proved in the lab, under systemd itself.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../.."

packages=openssh-server,openssh-client,sudo,curl,jq,ca-certificates,openssl,libssl3,libstdc++6,libgcc-s1,procps
packages+=,systemctl,systemd-standalone-sysusers,systemd-standalone-tmpfiles
# Of RAUC what it links with and calls; cryptsetup-bin has veritysetup, see verity.c.
packages+=,dbus,libglib2.0-0,libjson-glib-1.0-0,libcurl3-gnutls,libfdisk1,cryptsetup-bin
# RAUC itself depends on systemd, which the package `systemctl` stands for: unpacked and not installed.
unpacked='rauc rauc-service'
key=$(printf '%s\n' "$packages $unpacked" | sha256sum | cut -c 1-12)
base=.setup/fleet/base-$key
if [[ ! -e $base/ready ]]; then
    type -P mmdebstrap >/dev/null || {
        echo "fleet: mmdebstrap is missing: apt-get install mmdebstrap" >&2
        exit 4
    }
    mkdir -p .setup/fleet
    rm -rf -- "$base"
    mkdir -- "$base"
    echo "fleet: fetching Debian 12 for the hosts, once" >&2
    # /lib is a link, and stays one.
    fetch="cd /root; apt-get -q download $unpacked
        for one in *.deb; do dpkg --fsys-tarfile \$one | tar -x -C / --keep-directory-symlink; rm \$one; done"
    mmdebstrap --variant=minbase --include="$packages" --customize-hook="chroot \"\$1\" /bin/sh -ec '$fetch'" \
        bookworm "$base/root" \
        >"$base/log" 2>&1 || {
        tail -n 20 -- "$base/log" >&2
        exit 6
    }
    # Every host has keys of its own, and waits for the disk as a board does.
    rm -f -- "$base"/root/etc/ssh/ssh_host_* "$base"/root/etc/dpkg/dpkg.cfg.d/*force-unsafe-io* "$base"/root/etc/dpkg/dpkg.cfg.d/99mmdebstrap
    rm -rf -- "$base"/root/var/cache/apt/* "$base"/root/var/lib/apt/lists/*
    touch "$base/ready"
fi
printf '%s\n' "$PWD/$base/root"
