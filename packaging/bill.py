#!/usr/bin/env python3
"""What limen is made of, for its packages.

    packaging/bill.py models                           files that models/manifest.toml names, a line each
    packaging/bill.py bill TRIPLE [--version V] [--program FILE]
                                                       bill of materials, CycloneDX 1.6 as JSON
    packaging/bill.py licences TRIPLE                  the licence texts of everything in it

TRIPLE is x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu. What is listed is what the program for that target
contains: crates that are linked or expand to code in it (`cargo tree` for the target), C sources that come as a
build dependency, the standard library, LiteRT and the networks. Crates that only tests or build scripts use are not
in it. The system's libraries are not either: the package depends on them.

The same sources, and the same SOURCE_DATE_EPOCH, give the same bytes.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

# Build dependencies whose sources are compiled into the program.
COMPILED_SOURCES = {"sqlcipher-src"}

LICENCE_FILE = re.compile(r"(un)?licen[cs]e|copying|copyright|notice", re.IGNORECASE)

MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def cargo(*arguments: str) -> str:
    """What cargo prints."""
    command = ["cargo", *arguments]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"bill: `{' '.join(command)}` failed: its reason stands above")
    return done.stdout


def manifest() -> dict:
    return tomllib.loads((PROJECT / "models/manifest.toml").read_text())


def networks() -> list[dict]:
    """The tables of the manifest that describe a network."""
    found = [table for table in manifest().values() if isinstance(table, dict) and "card" in table]
    if not found:
        sys.exit("bill: models/manifest.toml names no network")
    return found


def runtime(triple: str) -> dict:
    """What the manifest says of the LiteRT library for a target."""
    machine = triple.partition("-")[0]
    for library in manifest()["runtime"]["library"]:
        if library["arch"] == machine:
            return library
    sys.exit(f"bill: models/manifest.toml names no LiteRT library for {machine}")


class Crates:
    """The crates that the program for a target contains."""

    def __init__(self, triple: str) -> None:
        metadata = json.loads(cargo("metadata", "--format-version=1", "--locked", f"--filter-platform={triple}"))
        tree = cargo(
            "tree", "--quiet", "--locked", "--package=limen", "--edges=normal", f"--target={triple}", "--prefix=none",
            "--format={p}",
        )
        # "name v1.2.3 (proc-macro) (*)"
        contained = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
        packages = [
            package for package in metadata["packages"]
            if (package["name"], "v" + package["version"]) in contained or package["name"] in COMPILED_SOURCES
        ]
        missing = contained - {(package["name"], "v" + package["version"]) for package in packages}
        if missing:
            sys.exit(f"bill: cargo tree and cargo metadata disagree about {sorted(missing)}")
        self.packages = sorted(packages, key=lambda package: (package["name"], package["version"]))
        by_id = {package["id"]: package for package in self.packages}
        self.uses = {
            ref(by_id[node["id"]]): sorted(ref(by_id[used]) for used in node["dependencies"] if used in by_id)
            for node in metadata["resolve"]["nodes"]
            if node["id"] in by_id
        }
        lock = tomllib.loads((PROJECT / "Cargo.lock").read_text())
        self.checksums = {
            (package["name"], package["version"]): package["checksum"]
            for package in lock["package"]
            if "checksum" in package
        }


def ref(package: dict) -> str:
    return f"pkg:cargo/{package['name']}@{package['version']}"


def expression(package: dict) -> str:
    """The licence as an SPDX expression; older crates write a slash for OR."""
    licence = package["license"]
    if not licence:
        sys.exit(f"bill: {package['name']} {package['version']} states no licence")
    return re.sub(r"\s*/\s*", " OR ", licence)


def crate_component(package: dict, checksums: dict) -> dict:
    component = {
        "type": "library",
        "bom-ref": ref(package),
        "name": package["name"],
        "version": package["version"],
        "licenses": [{"expression": expression(package)}],
        "purl": ref(package),
    }
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    elif package["source"]:
        sys.exit(f"bill: Cargo.lock has no checksum of {package['name']} {package['version']}")
    if package.get("description"):
        component["description"] = " ".join(package["description"].split())
    # Only what the schema takes for an address.
    if re.fullmatch(r"https?://[^\s<>\"{}|\\^`]+", package.get("repository") or ""):
        component["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return component


def runtime_component(triple: str) -> dict:
    library = runtime(triple)
    purl = f"pkg:pypi/{library['package']}@{library['package_version']}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": manifest()["runtime"]["name"],
        "version": library["package_version"],
        "description": f"{library['file']} for {library['arch']}, out of the package {library['package']}",
        "hashes": [{"alg": "SHA-256", "content": library["sha256"]}],
        "licenses": [{"expression": "Apache-2.0"}],
        "purl": purl,
    }


def network_component(network: dict) -> dict:
    source = network["source"]
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{network['name']}",
        "publisher": network["publisher"],
        "name": network["name"],
        "version": network["sha256"][:16],
        "description": f"{network['file']}; its card is {network['card']}",
        "hashes": [{"alg": "SHA-256", "content": network["sha256"]}],
        "licenses": [{"expression": network["licence"]}],
        "pedigree": {
            "ancestors": [{
                "type": "machine-learning-model",
                "name": source["path"].rpartition("/")[2],
                "description": f"{source['path']} in the package {source['package']} {source['version']}",
                "hashes": [{"alg": "SHA-256", "content": source["sha256"]}],
                "purl": f"pkg:pypi/{source['package']}@{source['version']}",
            }]
        },
    }


def standard_library(program: Path) -> dict:
    """Rust's own library, by the compiler's note in the program."""
    versions = set(re.findall(rb"rustc version (\d+\.\d+\.\d+)", program.read_bytes()))
    if not versions:
        sys.exit(f"bill: {program} does not say which compiler made it; is it stripped already?")
    # The library may have been compiled by a patch release before the compiler's own.
    version = max(versions, key=lambda text: [int(part) for part in text.split(b".")]).decode()
    return {
        "type": "library",
        "bom-ref": f"pkg:generic/rust-std@{version}",
        "name": "rust-std",
        "version": version,
        "description": "The standard library of Rust",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "purl": f"pkg:generic/rust-std@{version}",
    }


def bill(triple: str, version: str | None, program: Path | None) -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch.isdecimal():
        sys.exit("bill: SOURCE_DATE_EPOCH is not set; packaging/epoch.sh prints it")
    crates = Crates(triple)
    (ours,) = [package for package in crates.packages if package["name"] == "limen"]
    components = [crate_component(package, crates.checksums) for package in crates.packages if package is not ours]
    others = [runtime_component(triple), *map(network_component, networks())]
    if program:
        others.append(standard_library(program))
    components += others
    root = crate_component(ours, crates.checksums) | {
        "type": "application",
        "bom-ref": "limen",
        "version": version or ours["version"],
        "purl": f"pkg:generic/limen@{version or ours['version']}",
    }
    uses = {"limen" if name == ref(ours) else name: used for name, used in crates.uses.items()}
    uses["limen"] = sorted(uses["limen"] + [component["bom-ref"] for component in others])
    uses |= {component["bom-ref"]: [] for component in others}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(int(epoch), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": root,
            "properties": [{"name": "limen:target", "value": triple}],
        },
        "components": components,
        "dependencies": [{"ref": name, "dependsOn": uses[name]} for name in sorted(uses)],
    }
    # Made from the content, so that the same content has the same number.
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    document["serialNumber"] = f"urn:uuid:{number}"
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True)


def crate_texts(package: dict) -> list[str]:
    """The licence texts that a crate comes with, or those it names where it comes with none."""
    folder = Path(package["manifest_path"]).parent
    if package["source"] is None:
        # Ours: the repository has them.
        folder = PROJECT
    files = sorted(file for file in folder.iterdir() if LICENCE_FILE.match(file.name) and file.is_file())
    if not files:
        # Some keep them in a folder.
        files = sorted(file for file in folder.glob("[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*/*") if file.is_file())
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files if file.suffix not in {".rs", ".py"}]
    if texts:
        return texts
    stated = expression(package)
    if "Apache-2.0" in stated and " AND " not in stated:
        return [(PROJECT / "models/LICENSE-APACHE-2.0").read_text()]
    if stated == "MIT":
        authors = ", ".join(re.sub(r"\s*<.*>", "", author) for author in package["authors"])
        return [f"Copyright {authors or 'the authors of ' + package['name']}\n\n{MIT}"]
    sys.exit(f"bill: {package['name']} {package['version']} ({stated}) comes without a licence text; add one here")


def licences(triple: str) -> str:
    # The same text, however it is wrapped, is printed once.
    holders: dict[str, tuple[str, list[str]]] = {}

    def add(text: str, whose: str) -> None:
        text = "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").replace("\f", "\n").splitlines()).strip("\n")
        key = " ".join(text.split()).lower()
        if not key:
            return
        whom = holders.setdefault(key, (text, []))[1]
        if whose not in whom:
            whom.append(whose)

    listed = []
    apache = (PROJECT / "models/LICENSE-APACHE-2.0").read_text()
    library = runtime(triple)
    listed.append((f"LiteRT {library['package_version']} ({library['file']})", "Apache-2.0"))
    add(apache, listed[-1][0])
    for network in networks():
        listed.append((f"{network['name']} ({network['file']}), by {network['publisher']}", network["licence"]))
        if network["licence"] != "Apache-2.0":
            sys.exit(f"bill: {network['name']} is under {network['licence']}, whose text is not at hand here")
        add(apache, listed[-1][0])
    for package in Crates(triple).packages:
        listed.append((f"{package['name']} {package['version']}", expression(package)))
        for text in crate_texts(package):
            add(text, listed[-1][0])
    rule = "-" * 100
    parts = [
        "What limen contains, and under which licences. Where there is a choice, limen is under all that may be chosen.\n"
        "The texts follow. jpeg-encoder is based in part on the work of the Independent JPEG Group.\n",
        *(f"{name}: {licence}" for name, licence in listed),
    ]
    for text, whose in holders.values():
        parts.append(f"\n{rule}\n{', '.join(whose)}:\n\n{text}")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description="What limen is made of, for its packages.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("models")
    triples = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
    command = commands.add_parser("bill")
    command.add_argument("triple", choices=triples)
    command.add_argument("--version")
    command.add_argument("--program", type=Path)
    commands.add_parser("licences").add_argument("triple", choices=triples)
    arguments = parser.parse_args()
    match arguments.command:
        case "models":
            for network in networks():
                print(network["file"], network["card"], sep="\n")
        case "bill":
            print(bill(arguments.triple, arguments.version, arguments.program))
        case "licences":
            print(licences(arguments.triple))


if __name__ == "__main__":
    main()
