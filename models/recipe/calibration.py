"""Measures, on photographs, the numbers that the quantiser needs.

The result is small (value ranges of activations and scale steps of channels,
no picture) and is committed as `calibration.json`, so that anyone can rebuild
the int8 files bit for bit without the photographs.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

import pipeline

Ranges = dict[str, tuple[float, float]]

# Detector frames: how a camera sees it, from a face that fills the picture to
# one of 20 px, and frames with nobody.
FRAME_SIZES = ((640, 480), (1280, 720))
SMALLEST_FACE_PHOTO = 80  # px of a 250 px photo, about 14 px between the eyes
EMPTY_SHARE = 0.15


@dataclass
class ModelInputs:
    """What each network is to be calibrated with."""

    frames: list[np.ndarray]  # 192x192, detector
    regions: list[np.ndarray]  # 192x192, mesh
    crops: list[np.ndarray]  # 112x112, embedder


def photographs(source: Path) -> list[Path]:
    """A folder of pictures, or a text file with one path a line."""
    if source.is_dir():
        return sorted(p for p in source.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    lines = source.read_text().split()
    return [source.parent / line for line in lines]


def gather(source: Path, finder: pipeline.FaceFinder) -> ModelInputs:
    """Runs the float detector and mesh over the photographs."""
    photos, regions, crops = [], [], []
    for path in photographs(source):
        picture = pipeline.read_picture(path)
        face = finder.nearest_to_centre(picture)
        if face is None:
            continue
        photos.append(picture)
        transform = pipeline.region_transform(face.detection, pipeline.REGION_SCALE)
        regions.append(pipeline.warp(picture, transform, pipeline.REGION_SIZE))
        crops.append(pipeline.align(picture, face.mesh.five_points()))
    return ModelInputs(list(_detector_frames(photos)), regions, crops)


def _detector_frames(photos: list[np.ndarray]) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    size = pipeline.Detector.SIZE
    for index, photo in enumerate(photos):
        if index % 3 == 0:
            frame = photo
        else:
            width, height = FRAME_SIZES[index % 2]
            frame = _background(photos, random, width, height)
            if random.random() > EMPTY_SHARE:
                side = int(np.exp(random.uniform(np.log(SMALLEST_FACE_PHOTO), np.log(height))))
                left = random.integers(0, width - side + 1)
                top = random.integers(0, height - side + 1)
                small = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
                frame[top : top + side, left : left + side] = small
        yield pipeline.letterbox(frame, size)[0]


def _background(photos, random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A noise texture, a flat wall, or the blurred edge strip of a photograph."""
    kind = random.integers(0, 3)
    if kind == 0:
        coarse = random.integers(20, 236, (height // 40, width // 40, 3)).astype(np.uint8)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    if kind == 1:
        return np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
    photo = photos[random.integers(0, len(photos))]
    strip = photo[:, : photo.shape[1] // 6]
    return cv2.resize(strip, (width, height), interpolation=cv2.INTER_LINEAR)


def tensors(model: Path, inputs: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Runs a float model and yields all of its activations by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the memory this takes
        interpreter = Interpreter(str(model), num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    wanted: list[tuple[str, int]] | None = None
    for values in inputs:
        interpreter.set_tensor(index, values[None].astype(np.float32))
        interpreter.invoke()
        if wanted is None:
            wanted = list(_readable(interpreter))
        yield {name: interpreter.get_tensor(tensor) for name, tensor in wanted}


def _readable(interpreter: Interpreter) -> Iterator[tuple[str, int]]:
    for detail in interpreter.get_tensor_details():
        if detail["dtype"] != np.float32 or not detail["name"]:
            continue
        try:
            interpreter.get_tensor(detail["index"])
        except ValueError:  # the delegate took it: never materialised
            continue
        yield detail["name"], detail["index"]


def activation_ranges(model: Path, inputs: Iterable[np.ndarray], spread: float) -> Ranges:
    """Mean of the per-picture minimum and maximum, widened.

    Widened by `spread` standard deviations over the pictures, but never
    beyond what was seen. True extremes waste the int8 range on outliers, and
    the quantiser's own moving average forgets all but the last few dozen.
    """
    seen: dict[str, list[tuple[float, float]]] = {}
    for activations in tensors(model, inputs):
        for name, values in activations.items():
            seen.setdefault(name, []).append((float(values.min()), float(values.max())))
    ranges: Ranges = {}
    for name, extremes in seen.items():
        low, high = np.array(extremes).T
        ranges[name] = (
            float(max(low.min(), low.mean() - spread * low.std())),
            float(min(high.max(), high.mean() + spread * high.std())),
        )
    return ranges


def channel_peaks(model: Path, inputs: Iterable[np.ndarray], suffix: str) -> list[np.ndarray]:
    """For each activation whose name ends in `suffix`, per channel: the mean
    peak magnitude plus two standard deviations, in graph order."""
    peaks: dict[str, list[np.ndarray]] = {}
    for activations in tensors(model, inputs):
        for name, values in activations.items():
            if name.endswith(suffix):
                flat = np.abs(values).reshape(-1, values.shape[-1])
                peaks.setdefault(name, []).append(flat.max(axis=0))
    return [np.mean(p, axis=0) + 2 * np.std(p, axis=0) for p in peaks.values()]


def save(path: Path, numbers: dict) -> None:
    """One line per tensor, so that a new calibration gives a readable diff."""
    rounded = json.loads(json.dumps(numbers), parse_float=lambda text: float(f"{float(text):.6g}"))
    path.write_text(_format(rounded) + "\n")


def _format(value, indent: str = "") -> str:
    if isinstance(value, dict):
        inner = indent + " "
        items = [f"{inner}{json.dumps(k)}: {_format(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], list):
        inner = indent + " "
        return "[\n" + ",\n".join(inner + json.dumps(v, separators=(",", ":")) for v in value) + f"\n{indent}]"
    return json.dumps(value)


def load(path: Path) -> dict:
    return json.loads(path.read_text())
