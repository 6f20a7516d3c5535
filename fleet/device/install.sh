#!/bin/sh
# Lays out the device's end below a folder, for an image's recipe or a board that has no Debian packages. The package
# limen-deploy has the same files.
#
#   fleet/device/install.sh DESTDIR
set -eu
[ $# -eq 1 ] || { echo "usage: fleet/device/install.sh DESTDIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$1

put() { install -D -m "$1" "$here/$2" "$root$3"; }
put 755 limen-deploy /usr/sbin/limen-deploy
put 440 sudoers.d/limen-deploy /etc/sudoers.d/limen-deploy
put 644 sshd_config.d/limen-deploy.conf /etc/ssh/sshd_config.d/limen-deploy.conf
put 644 limen-deploy.conf /etc/limen-deploy/limen-deploy.conf
put 644 sysusers.d/limen-deploy.conf /usr/lib/sysusers.d/limen-deploy.conf
put 644 tmpfiles.d/limen-deploy.conf /usr/lib/tmpfiles.d/limen-deploy.conf
put 644 systemd/limen-deploy-recover.service /usr/lib/systemd/system/limen-deploy-recover.service
put 644 systemd/limen-deploy-recover.timer /usr/lib/systemd/system/limen-deploy-recover.timer
