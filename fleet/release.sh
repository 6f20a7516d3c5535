#!/usr/bin/env bash
# Makes and signs a release for the fleet: a folder with the packages (or bundles), what they are, and who says so.
#
#   fleet/release.sh VERSION KEY FOLDER FILE...
#
#   VERSION  of the release; a .deb has to carry the same
#   KEY      private key of OpenSSH that signs it (ssh-keygen -t ed25519), whose public half the devices have in
#            /etc/limen-deploy/allowed_signers. With a public key the agent, or a hardware key, signs
#   FOLDER   where releases are kept; FOLDER/VERSION is made, and must not be there yet
#   FILE     limen_VERSION_ARCH.deb for each architecture, or a RAUC bundle (.raucb)
#
# Exit codes: 0 made, 1 not made, 2 wrong use.
set -euo pipefail
export LC_ALL=C

fail() {
    local code=$1
    shift
    printf 'release: %s\n' "$@" >&2
    exit "$code"
}
[[ $# -ge 4 ]] || fail 2 "usage: fleet/release.sh VERSION KEY FOLDER FILE..."
version=$1 key=$2 folder=$3
shift 3
[[ ${#version} -le 64 && $version =~ ^[0-9][A-Za-z0-9.+~-]*$ ]] || fail 2 "'$version' is no version such as 0.1.0"
[[ -r $key ]] || fail 2 "there is no key $key"
[[ ! -e $folder/$version ]] || fail 1 "$folder/$version is there already: a release is never changed, make a new version"

mkdir -p -- "$folder"
work=$(mktemp -d "$folder/.release.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
manifest=$work/limen_$version.manifest
printf 'limen-release 1\nversion %s\n' "$version" >"$manifest"
for file in "$@"; do
    [[ -f $file ]] || fail 1 "there is no file $file"
    case $file in
        *.deb)
            package=$(dpkg-deb -f "$file" Package) found=$(dpkg-deb -f "$file" Version) arch=$(dpkg-deb -f "$file" Architecture)
            [[ $package == limen ]] || fail 1 "$file is the package $package; a release is of limen"
            [[ $found == "$version" ]] || fail 1 "$file is version $found, not $version"
            name=limen_${version}_$arch.deb
            ;;
        *.raucb)
            # An image tells its version by os-release, which has no other letters.
            [[ $version =~ ^[a-z0-9.-]+$ ]] || fail 1 "$version: the version of an image has small letters, digits, '.' and '-' only"
            name=${file##*/} name=${name%.raucb} name=limen_${version}_${name##*_}.raucb
            [[ $name =~ _[a-z0-9-]+\.raucb$ ]] || fail 1 "$file: the name should end with _MACHINE.raucb, in small letters"
            ;;
        *) fail 1 "$file is neither a .deb nor a .raucb" ;;
    esac
    [[ ! -e $work/$name ]] || fail 1 "there are two files for $name"
    cp -- "$file" "$work/$name"
    printf 'file %s %s %s\n' "$name" "$(stat -c %s -- "$work/$name")" "$(sha256sum <"$work/$name" | cut -d ' ' -f 1)" >>"$manifest"
done
ssh-keygen -q -Y sign -f "$key" -n limen-release "$manifest" 2>&1 || fail 1 "ssh-keygen could not sign with $key"
chmod 755 -- "$work"
chmod 644 -- "$work"/*
mv -T -- "$work" "$folder/$version"
trap - EXIT
printf 'release: %s is signed in %s\n' "$version" "$folder/$version"
