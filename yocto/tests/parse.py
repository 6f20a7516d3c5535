"""bitbake's own parser reads the layer, for each machine: parse.py LAYER MACHINE...

The rest of a build is missing: classes that recipes inherit are empty files here, so what they add is not seen, and
nothing is fetched, packaged or built. What the recipes say themselves is read, expanded for the machine, and looked at.
"""

import pathlib
import subprocess
import sys
import tempfile
import types

# The package on PyPI leaves out the client of the hash server, which parsing does not use.
for name in ("hashserv", "hashserv.client"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["hashserv"].client = sys.modules["hashserv.client"]

import bb.data_smart  # noqa: E402
import bb.fetch2  # noqa: E402
import bb.parse  # noqa: E402

CLASSES = "allarch base bundle cargo core-image deploy nopackages packagegroup pkgconfig systemd useradd"
WANTED = {
    "raspberrypi": {
        ("limen-image", "WKS_FILE"): "limen-raspberrypi.wks",
        ("limen-image", "IMAGE_INSTALL"): "packagegroup-core-boot packagegroup-limen",
        ("limen-image", "do_image_wic[depends]"): "limen-boot-image:do_deploy",
        ("limen-bundle", "RAUC_BUNDLE_SLOTS"): "rootfs boot",
        ("limen-update", "SYSTEMD_SERVICE:limen-update"):
            "limen-mark-good.service limen-fall-back.timer limen-tryboot.service boot-select.mount",
    },
    "qemuarm64": {
        ("limen-image", "WKS_FILE"): "limen-qemuarm64.wks",
        ("limen-image", "IMAGE_INSTALL"):
            "packagegroup-core-boot packagegroup-limen kernel-image libubootenv-bin u-boot-env",
        ("limen-image", "do_image_wic[depends]"): "u-boot:do_deploy",
        ("limen-bundle", "RAUC_BUNDLE_SLOTS"): "rootfs",
        ("limen-update", "SYSTEMD_SERVICE:limen-update"):
            "limen-mark-good.service limen-fall-back.timer boot-uboot.mount",
    },
}


def start(layer: pathlib.Path, machine: str, stubs: str) -> bb.data_smart.DataSmart:
    data = bb.data_smart.DataSmart()
    data.setVar("BB_SIGNATURE_HANDLER", "noop")
    bb.parse.init_parser(data)
    data.setVar("BBPATH", f"{layer}:{stubs}")
    data.setVar("LAYERDIR", str(layer))
    data.setVar("__bbclasstype", "recipe")
    data.setVar("MACHINE", machine)
    board = "rpi:" if machine.startswith("raspberrypi") else ""
    data.setVar("OVERRIDES", f"aarch64:{board}{machine}:limen")
    for conf in ("conf/layer.conf", "conf/distro/limen.conf"):
        data = bb.parse.handle(str(layer / conf), data, True)
    return data


def read(path: pathlib.Path, data: bb.data_smart.DataSmart, stubs: str) -> tuple[str, bb.data_smart.DataSmart]:
    name, _, version = path.stem.partition("_")
    recipe = data.createCopy()
    for key, value in {"PN": name, "PV": version or "1.0", "BP": f"{name}-{version}", "FILE": str(path)}.items():
        recipe.setVar(key, value)
    if path.suffix == ".bbappend":
        # Appended to a recipe that is not here, it is read as what a recipe includes.
        copy = pathlib.Path(stubs) / f"{name}.inc"
        copy.write_text(path.read_text())
        return name, bb.parse.handle(str(copy), recipe, 1)
    return name, bb.parse.handle(str(path), recipe, 0)[""]


def look(name: str, recipe: bb.data_smart.DataSmart) -> int:
    """Addresses are of a known form, and functions are shell, or Python. Returns how many were looked at."""
    looked = 0
    for address in (recipe.getVar("SRC_URI") or "").split():
        kind, _, path, *_ = bb.fetch2.decodeurl(address)
        assert kind in ("crate", "file", "git", "https") and path, f"{name}: {address}"
        looked += 1
    for function in list(recipe):
        if not recipe.getVarFlag(function, "func", False):
            continue
        body = recipe.getVar(function, not recipe.getVarFlag(function, "python", False)) or ""
        if recipe.getVarFlag(function, "python", False):
            compile("def function(d):\n" + (body.strip("\n") or " pass"), f"{name}:{function}", "exec")
        else:
            done = subprocess.run(["sh", "-n"], input=body, text=True, capture_output=True)
            assert done.returncode == 0, f"{name}: {function}: {done.stderr}"
        looked += 1
    return looked


def main() -> None:
    layer = pathlib.Path(sys.argv[1]).resolve()
    for machine in sys.argv[2:]:
        with tempfile.TemporaryDirectory() as stubs:
            (pathlib.Path(stubs) / "classes").mkdir()
            for each in CLASSES.split():
                (pathlib.Path(stubs) / "classes" / f"{each}.bbclass").touch()
            data = start(layer, machine, stubs)
            files = sorted(layer.glob("recipes-*/*/*.bb*"))
            if machine.startswith("raspberrypi"):
                files += sorted(layer.glob("dynamic-layers/raspberrypi/recipes-*/*/*.bbappend"))
            recipes, looked = {}, 0
            for path in files:
                name, recipe = read(path, data, stubs)
                looked += look(name, recipe)
                recipes[name] = recipe
            wanted = next(each for start_of, each in WANTED.items() if machine.startswith(start_of))
            for (name, variable), value in wanted.items():
                key, _, flag = variable.rstrip("]").partition("[")
                recipe = recipes[name]
                found = recipe.getVarFlag(key, flag) if flag else recipe.getVar(key)
                assert " ".join((found or "").split()) == value, f"{machine}: {name}: {variable} is {found}"
            hashes = [flag for flag in recipes["limen"].getVarFlags("SRC_URI") if flag.endswith(".sha256sum")]
            crates = [each for each in recipes["limen"].getVar("SRC_URI").split() if each.startswith("crate:")]
            assert len(hashes) == len(crates) > 0, f"{len(crates)} crates and {len(hashes)} hashes"
            print(f"ok: bitbake's parser: {machine}: {len(files)} files, {looked} addresses and functions")


main()
