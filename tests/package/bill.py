"""Checks a package's bill of materials.

    bill.py BILL ROOT LICENCES [TESTS]

BILL is the file, ROOT the folder below which the package is installed. The bill has to be valid by CycloneDX's own
schema; to name every crate that the program itself names, by the paths of sources in its messages of panics (those
in the file TESTS, a name-version on each line, may be missing: a program that was built together with its tests has
them besides); to name the networks and LiteRT with the hashes of the files beside it; and each of
its crates has to stand in the list of licences. Each check is shown to fail on a bill that was spoilt.
"""

import copy
import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

# What the program names by the paths of its sources, at least: fewer would mean that nothing was found.
FEWEST_NAMED = 100


def invalid(bill: dict) -> str | None:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill))
    return None if error is None else str(error.data)[:300]


def named(program: bytes) -> set[str]:
    """Crates, as name-version, whose sources the program names."""
    return {name.decode() for name in re.findall(rb"registry/src/[^/\0]+/([A-Za-z0-9_.+-]+)/", program)}


def incomplete(bill: dict, program: set[str]) -> str | None:
    listed = {f"{component['name']}-{component['version']}" for component in bill["components"]}
    missing = program - listed
    return f"the program contains {sorted(missing)}, and the bill does not" if missing else None


def unhashed(bill: dict, root: Path) -> str | None:
    hashes = {
        entry["content"] for component in bill["components"] for entry in component.get("hashes", [])
    }
    files = [root / "usr/lib/limen/libLiteRt.so", *sorted((root / "usr/share/limen/models").glob("*.tflite"))]
    for file in files:
        if hashlib.sha256(file.read_bytes()).hexdigest() not in hashes:
            return f"{file.name} is not in the bill with its hash"
    manifest = tomllib.loads((root / "usr/share/limen/models/manifest.toml").read_text())
    if len(files) != 1 + sum("card" in table for table in manifest.values() if isinstance(table, dict)):
        return "the package does not have the networks that the manifest names"
    return None


def unlicensed(bill: dict, licences: str) -> str | None:
    for component in bill["components"]:
        if component["bom-ref"].startswith("pkg:cargo/"):
            [licence] = component["licenses"]
            line = f"{component['name']} {component['version']}: {licence['expression']}"
            if line not in licences.splitlines():
                return f"the list of licences has no line \"{line}\""
    return None


def main() -> None:
    path, root, licences = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]).read_text()
    tests = set(Path(sys.argv[4]).read_text().split()) if len(sys.argv) > 4 else set()
    program = named((root / "usr/bin/limen").read_bytes()) - tests
    bill = json.loads(path.read_text())
    found = len(program)
    if found < FEWEST_NAMED:
        sys.exit(f"only {found} crates could be read out of the program; at least {FEWEST_NAMED} were expected")

    def spoilt(change) -> dict:
        other = copy.deepcopy(bill)
        change(other)
        return other

    def drop(name: str):
        return lambda other: other.update(
            components=[component for component in other["components"] if component["name"] != name]
        )

    one = sorted(program)[0].rpartition("-")[0]
    checks = [
        ("valid by the schema of CycloneDX 1.6", invalid, (), lambda other: other["components"][0].pop("name")),
        (f"names all {found} crates that the program names", incomplete, (program,), drop(one)),
        ("names LiteRT and the networks with their hashes", unhashed, (root,), drop("LiteRT")),
        ("each crate's licence is in the list", unlicensed, (licences,),
         lambda other: other["components"][0].update(licenses=[{"expression": "Beerware"}])),
    ]
    for what, check, arguments, spoil in checks:
        if problem := check(bill, *arguments):
            sys.exit(f"bill of materials: {problem}")
        if not check(spoilt(spoil), *arguments):
            sys.exit(f"bill of materials: a spoilt one passes as \"{what}\"")
        print(f"ok: bill of materials, {len(bill['components'])} components: {what}; a spoilt one is refused")


if __name__ == "__main__":
    main()
