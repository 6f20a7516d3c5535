#!/usr/bin/env bash
# The Yocto layer, as far as it can be tested without building an image: recipes are linted and compared with what they
# package, kas files validated, units verified, and every script run. yocto/meta-limen/README.md says what that leaves
# untried. Needs root (mount namespaces) and a built limen (LIMEN_TEST_PROGRAM, or target/debug/limen).
# shellcheck disable=SC2154,SC2034 # project, layer, passed, service: of lib.sh and rauc.sh
set -euo pipefail
# shellcheck source=/dev/null
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../yocto/tests/lib.sh"
cd -- "$project"

packaging/need.sh rauc squashfs-tools jq curl openssl dbus-bin dbus-daemon shellcheck systemd util-linux git python3-venv

# The linter, bitbake's parser and kas, by the hashes in yocto/requirements.txt.
venv=$project/.setup/yocto list=$project/yocto/requirements.txt
if ! { [[ -x $venv/bin/oelint-adv && -x $venv/bin/kas ]] \
    && cmp -s "$list" "$venv/requirements.txt"; }; then
    python3 -m venv --clear "$venv" || fail "python3 -m venv failed: its reason stands above"
    PIP_REQUIRE_VIRTUALENV=0 "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement "$list" || fail "oelint-adv, bitbake-setup and kas could not be fetched: pip's reason stands above"
    cp "$list" "$venv/requirements.txt"
fi

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# Scripts
mapfile -t scripts < <(grep -rlE '^#!/(bin/sh|usr/bin/env bash)' yocto --include='*' | sort)
shellcheck "${scripts[@]}" yocto/tests/*.sh tests/yocto.sh
ok "shellcheck: ${#scripts[@]} scripts"

# Crates
found=$("$layer/scripts/update-crates" --check) || fail "the list of crates is not current"
ok "the list of crates is that of Cargo.lock: $found"
mkdir -p "$work/copy/yocto"
cp -r yocto/meta-limen "$work/copy/yocto/"
sed '0,/^checksum = "/s/^checksum = "./checksum = "0/' Cargo.lock >"$work/copy/Cargo.lock"
if cmp -s Cargo.lock "$work/copy/Cargo.lock"; then
    sed '0,/^checksum = "/s/^checksum = "./checksum = "1/' Cargo.lock >"$work/copy/Cargo.lock"
fi
refused "a list with one hash changed is found out" "is not what Cargo.lock says" \
    "$work/copy/yocto/meta-limen/scripts/update-crates" --check

# What recipes state, against what they package
"$venv/bin/python3" - "$project" "$layer" <<'PYTHON' || fail "a recipe and what it packages do not agree"
import hashlib
import pathlib
import re
import sys
import tomllib

project, layer = map(pathlib.Path, sys.argv[1:])
failures = []


def check(name, expected, found):
    if expected == found:
        print(f"ok: {name}: {found if isinstance(found, str) else 'as expected'}")
    else:
        failures.append(f"FAILED: {name}\n  expected: {expected}\n  found:    {found}")


def recipe(name):
    (path,) = layer.glob(f"recipes-*/*/{name}_*.bb")
    return path.stem.split("_")[1], path.read_text()


def assigned(text, variable):
    return re.search(rf'^{re.escape(variable)} = "([^"]*)"', text, re.MULTILINE)[1]


cargo = tomllib.loads((project / "Cargo.toml").read_text())
manifest = tomllib.loads((project / "models/manifest.toml").read_text())
version = cargo["package"]["version"]
for name in ("limen", "limen-deploy", "limen-models"):
    check(f"version of {name}", version, recipe(name)[0])
check("version of the distribution", version, assigned((layer / "conf/distro/limen.conf").read_text(), "DISTRO_VERSION"))

# 1.94.1 is what the release has; README.md says where that is known from.
needed = tuple(map(int, cargo["workspace"]["package"]["rust-version"].split(".")))
check("Rust of the release is recent enough", True, needed <= (1, 94, 1))

litert_version, litert = recipe("litert")
for library in manifest["runtime"]["library"]:
    override = library["arch"].replace("_", "-")
    check(f"version of LiteRT for {override}", library["package_version"], litert_version)
    check(f"wheel of LiteRT for {override}", library["wheel_sha256"], assigned(litert, f"WHEEL_SHA256:{override}"))
    check(f"library of LiteRT for {override}", library["sha256"], assigned(litert, f"LIBRARY_SHA256:{override}"))

limen = recipe("limen")[1]
for text, where in ((limen, "limen"), *((recipe(name)[1], name) for name in ("limen-deploy", "limen-models"))):
    for name, md5 in re.findall(r"file://([A-Z-]+);md5=([0-9a-f]{32})", text):
        check(f"md5 of {name} in {where}", hashlib.md5((project / name).read_bytes()).hexdigest(), md5)

deny = tomllib.loads((project / "deny.toml").read_text())["licenses"]
licences = {each.replace(" WITH LLVM-exception", "-with-LLVM-exception") for each in deny["allow"]}
licences.update(each for exception in deny["exceptions"] for each in exception["allow"])
stated = set(re.split(r"[ &|()]+", assigned(limen, "LICENSE"))) - {""}
check("licences of what is linked in", sorted(licences), sorted(stated))

packaged = re.findall(r"\$\{S\}/(systemd/[\w.]+)", limen)
check("files of systemd/", sorted(packaged), sorted(str(each.relative_to(project)) for each in (project / "systemd").iterdir()))
sysusers = (project / "systemd/limen.sysusers").read_text()
groups = set(re.findall(r"^m limen (\w+)", sysusers, re.MULTILINE))
check("groups of the account", groups, set(re.search(r"--groups ([\w,]+)", limen)[1].split(",")))
check("name of the account", re.search(r'^u limen - "(.*?)"', sysusers, re.MULTILINE)[1], re.search(r"--comment '(.*?)'", limen)[1])

# Every file that a recipe names lies beside it.
named = 0
for path in layer.rglob("*.bb*"):
    for name in re.findall(r"file://([\w.-]+)(?=[\s\"\\])", path.read_text()):
        if name.startswith("LICENSE"):
            continue
        named += 1
        if not list(path.parent.rglob(name)):
            failures.append(f"FAILED: {path.name} names {name}, which does not lie beside it")
check("files that recipes name", True, named > 20)

# The image, the bundle and RAUC agree on partitions.
wks = (layer / "files/wic/limen-raspberrypi.wks").read_text()
boot = (layer / "recipes-bsp/limen-boot-image/limen-boot-image_1.0.bb").read_text()
conf = (layer / "recipes-core/rauc/files/rpi/system.conf").read_text()
parts = [line for line in wks.splitlines() if line.startswith("part ")]
# The fourth is the extended one, which wic adds.
numbers = dict(zip((1, 2, 3, 5, 6, 7), parts))
check("partitions of the card", 6, len(parts))
for index, slot in enumerate("AB"):
    root = re.search(rf"\[slot\.rootfs\.{index}\]\ndevice=/dev/mmcblk0p(\d)", conf)[1]
    label = f"limen-root-{slot.lower()}"
    check(f"root of slot {slot} on the card and for RAUC", True, label in numbers[int(root)])
    check(f"root of slot {slot} for the kernel", True, f'("{slot}", {root})' in boot)
    check(f"boot partition of slot {slot} for RAUC", str(2 + index),
          re.search(rf"\[slot\.boot\.{index}\]\ndevice=/dev/mmcblk0p(\d)", conf)[1])
print("\n".join(failures), file=sys.stderr)
sys.exit(bool(failures))
PYTHON
passed=$((passed + 1))

# Lint
mapfile -t recipes < <(cd yocto && find meta-limen -name '*.bb' -o -name '*.bbappend' -o -path '*/conf/*.conf' | sort)
(cd yocto && "$venv/bin/oelint-adv" "${recipes[@]}") || fail "oelint-adv: its findings stand above"
ok "oelint-adv: ${#recipes[@]} files, no errors and no warnings"
mkdir "$work/lint"
cp yocto/.oelint.cfg yocto/oelint.json "$work/lint/"
sed '/^SUMMARY/d' "$layer/recipes-limen/litert/litert_2.3.0.bb" >"$work/lint/litert_2.3.0.bb"
# shellcheck disable=SC2016 # for the shell that it is given to
refused "oelint-adv finds a recipe without a summary" "SUMMARY" \
    bash -c 'cd "$1" && "$2" litert_2.3.0.bb' - "$work/lint" "$venv/bin/oelint-adv"

# bitbake
"$venv/bin/python3" yocto/tests/parse.py "$layer" raspberrypi4-64 raspberrypi5 qemuarm64 \
    || fail "bitbake's parser: its reason stands above"
passed=$((passed + 1))
# shellcheck disable=SC2016 # as it stands in the recipe
sed -i 's/^    install -d ${D}/    if ${D}/' "$work/copy/yocto/meta-limen/recipes-limen/limen/limen_0.1.0.bb"
refused "bitbake's parser, and a shell, find a function that is wrong" "limen: do_install" \
    "$venv/bin/python3" yocto/tests/parse.py "$work/copy/yocto/meta-limen" qemuarm64

# kas
validate() {
    "$venv/bin/python3" - "$@" <<'PYTHON'
import sys

from kas.context import create_global_context
from kas.includehandler import IncludeHandler
from kas.kas import kas_get_argparser

create_global_context(kas_get_argparser().parse_args(["dump", sys.argv[1]]))
for name in sys.argv[1:]:
    config, missing = IncludeHandler([name], use_lock=False).get_config()
    assert not missing, f"{name} includes what lies in other repositories: {missing}"
    for key in ("machine", "distro", "target", "repos"):
        assert config.get(key), f"{name} states no {key}"
    branches = {repo.get("branch") for repo in config["repos"].values() if repo.get("url")}
    assert branches <= {"wrynose", "2.18"}, f"{name} mixes releases: {branches}"
    print(f"ok: kas: {name}: {config['machine']}, {len(config['repos'])} repositories")
PYTHON
}
validate "$project"/yocto/kas/{raspberrypi4-64,raspberrypi5,qemuarm64}.yml || fail "kas: its reason stands above"
passed=$((passed + 1))
printf 'header:\n  version: 14\nmachine: [1]\n' >"$work/broken.yml"
refused "kas refuses a file that is not of its form" "" validate "$work/broken.yml"

# Units
root=$work/root units=$work/root/usr/lib/systemd/system
mkdir -p "$units/limen.service.d" "$root"/usr/{libexec/limen,bin,sbin}
cp "$layer"/recipes-limen/*/files/*.{service,mount,timer} fleet/device/systemd/* systemd/limen.service "$units/"
cp "$layer/recipes-limen/limen-system/files/limen-image.conf" "$units/limen.service.d/"
for target in local-fs sysinit umount reboot multi-user basic shutdown final timers; do
    cp "/lib/systemd/system/$target.target" "$units/"
done
cp /lib/systemd/system/systemd-reboot.service "$units/"
for stub in libexec/limen/limen-tryboot libexec/limen/limen-mark-good bin/limen bin/systemd-tmpfiles sbin/limen-deploy; do
    install -m 0755 /bin/true "$root/usr/$stub"
done
# Good is what it says nothing about: of a line that it does not understand it says so and goes on.
verify() {
    local said
    said=$(systemd-analyze verify --man=no --generators=no --recursive-errors=no --root="$root" "$1" 2>&1 \
        || echo "exit code $?")
    [[ -z $said ]] || fail "systemd-analyze verify $1: $said"
}
count=0
for unit in "$layer"/recipes-limen/*/files/*.{service,mount,timer} fleet/device/systemd/*; do
    verify "$(basename -- "$unit")"
    count=$((count + 1))
done
ok "systemd takes $count units"
printf '[Service]\nExecStart=/usr/bin/limen\nRestart=perhaps\n' >"$units/broken.service"
refused "systemd finds a unit that is wrong" "perhaps" verify broken.service

own=$passed
for test in tryboot updates mark_good preinit; do
    "yocto/tests/$test.sh"
done
printf 'yocto: %d checks of the layer passed, and those of four scripts; no image was built\n' "$own"
