"""Writes the reference values that the Rust stages are compared with.

    reference.py --models models --out tests/parity PICTURE...

Each picture is reduced by area averaging to at most 400 px in width and
height and stored as PNG, so that every decoder sees the same pixels. Beside it goes a
JSON file with what each stage of `pipeline.py` makes of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

import measure
import pipeline

LARGEST_SIDE = 400
# Mesh vertices spread over the face: nose tip, forehead, eye corners, cheeks,
# mouth corners, chin.
MESH_SAMPLES = (1, 10, 33, 133, 263, 362, 234, 454, 61, 291, 152)
# The negative control: a shift of the five points that a careless resampler
# or an off-by-one in the coordinates would cause.
SKEW_PX = (2.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--out", type=Path, default=Path("tests/parity"))
    parser.add_argument("pictures", type=Path, nargs="+")
    options = parser.parse_args()
    models = measure.ModelSet(options.models)
    options.out.mkdir(parents=True, exist_ok=True)
    for source in options.pictures:
        png = options.out / f"{source.stem}.png"
        write_reduced(source, png)
        values = reference(png, models)
        png.with_suffix(".json").write_text(to_text(values))
        print(
            f"{png.name}: {len(values['detections'])} faces, cosine to the skewed control"
            f" {values['cosine_to_skewed']:.4f}"
        )


def write_reduced(source: Path, target: Path) -> None:
    picture = cv2.imread(str(source), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{source}: not a picture OpenCV can decode")
    scale = min(1.0, LARGEST_SIDE / max(picture.shape[:2]))
    reduced = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(target), reduced, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def reference(png: Path, models: measure.ModelSet) -> dict:
    picture = pipeline.read_picture(png)
    detections = models.detector(picture)
    if not detections:
        raise SystemExit(f"{png}: no face found")
    best = detections[0]
    mesh = models.landmarks(picture, best)
    points = mesh.five_points()
    to_crop = pipeline.similarity(points, pipeline.TEMPLATE)
    embedding = models.embedder(pipeline.align(picture, points))
    skewed = models.embedder(pipeline.align(picture, points + np.array(SKEW_PX)))
    height, width = picture.shape[:2]
    return {
        "picture": png.name,
        "sha256_of_rgb": hashlib.sha256(picture.tobytes()).hexdigest(),
        "width": width,
        "height": height,
        "decoder": f"libpng in OpenCV {cv2.__version__}",
        "resampling": "letterbox: area averaging (INTER_AREA); warps: bilinear (INTER_LINEAR), black border",
        "embedding_space": models.name,
        "detections": [
            {"score": d.score, "box": d.box, "keypoints": d.keypoints} for d in detections
        ],
        "to_region": pipeline.region_transform(best, models.landmarks.region_scale),
        "face_presence": mesh.presence,
        "mesh": {str(index): mesh.points[index] for index in MESH_SAMPLES},
        "five_points": points,
        "to_crop": to_crop,
        "embedding": embedding,
        "skew_px": SKEW_PX,
        "embedding_skewed": skewed,
        "cosine_to_skewed": float(embedding @ skewed),
    }


def to_text(values: dict) -> str:
    """JSON, one key a line, numbers with six decimals."""

    def plain(value):
        if isinstance(value, np.ndarray):
            return plain(value.tolist())
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return round(value, 6) if isinstance(value, float) else value

    lines = [f" {json.dumps(key)}: {json.dumps(plain(value))}" for key, value in values.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
