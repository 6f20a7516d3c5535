"""The perception pipeline in Python: the reference for the Rust stages.

Picture to embedding with the same models, through ai-edge-litert. It is used
for calibration, for measuring, and for the parity values of the tests. All
coordinates are pixels of the source picture; pictures are RGB, uint8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from ai_edge_litert.interpreter import Interpreter

# Alignment template for a 112x112 crop: eyes, nose, mouth corners, in the
# order of the image from left to right.
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
CROP_SIZE = 112
# Picture, width, height to the smaller picture.
Shrink = Callable[[np.ndarray, int, int], np.ndarray]
REGION_SIZE = 192
REGION_SCALE = 1.5

# Mesh vertices averaged into each of the five points.
MESH_POINTS = ((33, 133, 159, 145), (362, 263, 386, 374), (1, 4), (61,), (291,))


class Model:
    """A TFLite file with one thread, called with real-valued input."""

    def __init__(self, path: Path) -> None:
        self.interpreter = Interpreter(str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]
        self.outputs = self.interpreter.get_output_details()
        self.is_quantised = self.input["dtype"] == np.int8

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        """Runs one int8 or float32 input; int8 outputs come back as real values."""
        self.interpreter.set_tensor(self.input["index"], values[None])
        self.interpreter.invoke()
        results = []
        for output in self.outputs:
            result = self.interpreter.get_tensor(output["index"])
            if result.dtype == np.int8:
                scale, zero_point = output["quantization"]
                result = (result.astype(np.float32) - zero_point) * np.float32(scale)
            results.append(result)
        return results


def quantised_pixels(pixels: np.ndarray) -> np.ndarray:
    """The input of every int8 model: pixel - 128."""
    return (pixels.astype(np.int16) - 128).astype(np.int8)


@dataclass(frozen=True)
class Detection:
    score: float
    box: np.ndarray  # left, top, right, bottom
    keypoints: np.ndarray  # (6, 2): eye, eye, nose tip, mouth, tragion, tragion


class Detector:
    """BlazeFace full-range: one anchor in each cell of a 48x48 grid."""

    SIZE = 192
    GRID = 48
    OVERLAP = 0.3

    def __init__(self, path: Path, minimum_score: float, shrink: Shrink | None = None) -> None:
        self.model = Model(path)
        self.minimum_score = minimum_score
        self.shrink = shrink or shrink_by_hamming
        centres = (np.arange(self.GRID) + 0.5) / self.GRID
        self.anchors = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)

    def __call__(self, picture: np.ndarray, fill: float = 1.0) -> list[Detection]:
        """Best first. The longer side of the picture takes `fill` of the input."""
        square, scale, offset = letterbox(picture, self.SIZE, fill, self.shrink)
        if self.model.is_quantised:
            values = quantised_pixels(square)
        else:
            values = square.astype(np.float32) / 127.5 - 1
        first, second = self.model(values)
        regressors, logits = (first, second) if first.shape[-1] == 16 else (second, first)
        scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0].astype(np.float64), -100, 100)))
        wanted = scores >= self.minimum_score
        raw = regressors[0][wanted].reshape(-1, 8, 2).astype(np.float64) / self.SIZE
        anchors = self.anchors[wanted]
        centre, extent = raw[:, 0] + anchors, raw[:, 1]
        boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
        keypoints = raw[:, 2:] + anchors[:, None]

        def to_source(points: np.ndarray) -> np.ndarray:
            return (points * self.SIZE - offset) / scale

        return [
            Detection(score, to_source(box.reshape(2, 2)).ravel(), to_source(points))
            for score, box, points in weighted_suppression(
                scores[wanted], boxes, keypoints, self.OVERLAP
            )
        ]


def shrink_by_area(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Area averaging; what the committed calibration was made with."""
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def shrink_by_hamming(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A Hamming window, as the Rust stage shrinks."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.HAMMING))


def letterbox(
    picture: np.ndarray, size: int, fill: float = 1.0, shrink: Shrink = shrink_by_hamming
) -> tuple[np.ndarray, float, np.ndarray]:
    """Fits a picture into a black square. Grows it bilinearly.

    Returns the square, the scale, and the offset of the picture in it.
    """
    height, width = picture.shape[:2]
    scale = fill * size / max(height, width)
    new_width, new_height = round(width * scale), round(height * scale)
    left, top = (size - new_width) // 2, (size - new_height) // 2
    if scale < 1:
        fitted = shrink(picture, new_width, new_height)
    else:
        fitted = cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    square = np.zeros((size, size, 3), np.uint8)
    square[top : top + new_height, left : left + new_width] = fitted
    return square, scale, np.array([left, top])


def weighted_suppression(
    scores: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray, overlap: float
) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Merges overlapping boxes, each weighted by its score; best first."""
    remaining = np.argsort(-scores, kind="stable")
    merged = []
    while len(remaining):
        best = remaining[0]
        close = intersection_over_union(boxes[best], boxes[remaining]) > overlap
        close[0] = True
        group = remaining[close]
        weights = scores[group] / scores[group].sum()
        merged.append(
            (
                float(scores[best]),
                np.tensordot(weights, boxes[group], 1),
                np.tensordot(weights, keypoints[group], 1),
            )
        )
        remaining = remaining[~close]
    return merged


def intersection_over_union(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    area = (box[2:] - box[:2]).prod()
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return shared / np.maximum(area + areas - shared, 1e-12)


@dataclass(frozen=True)
class Mesh:
    points: np.ndarray  # (468, 2)
    presence: float  # probability that the region holds a face

    def five_points(self) -> np.ndarray:
        return np.array([self.points[list(group)].mean(axis=0) for group in MESH_POINTS])


class Landmarks:
    """Face mesh on a region turned so that the eyes are level."""

    def __init__(self, path: Path, region_scale: float = REGION_SCALE) -> None:
        self.model = Model(path)
        self.region_scale = region_scale

    def __call__(self, picture: np.ndarray, detection: Detection) -> Mesh:
        to_region = region_transform(detection, self.region_scale)
        region = warp(picture, to_region, REGION_SIZE)
        if self.model.is_quantised:
            values = quantised_pixels(region)
        else:
            values = region.astype(np.float32) / 255
        first, second = self.model(values)
        points, logit = (first, second) if first.size > 1 else (second, first)
        points = points.reshape(468, 3)[:, :2].astype(np.float64)
        return Mesh(
            (points - to_region[:, 2]) @ np.linalg.inv(to_region[:, :2]).T,
            float(1 / (1 + np.exp(-float(logit.item())))),
        )


def region_transform(detection: Detection, region_scale: float) -> np.ndarray:
    """Similarity from the picture to the 192x192 region of the mesh."""
    across = detection.keypoints[1] - detection.keypoints[0]
    angle = np.arctan2(across[1], across[0])
    centre = (detection.box[:2] + detection.box[2:]) / 2
    side = region_scale * (detection.box[2:] - detection.box[:2]).max()
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]]) * (REGION_SIZE / side)
    return np.column_stack([turn, REGION_SIZE / 2 - turn @ centre])


def warp(picture: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, black outside the picture; pixel centres are whole numbers."""
    return cv2.warpAffine(picture, transform, (size, size), flags=cv2.INTER_LINEAR, borderValue=0)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares rotation, scale and shift taking source to target (2x3)."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    s, t = source - source_mean, target - target_mean
    energy = (s**2).sum()
    a = (s * t).sum() / energy
    b = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / energy
    turn = np.array([[a, -b], [b, a]])
    return np.column_stack([turn, target_mean - turn @ source_mean])


class Embedder:
    """SFace on a 112x112 crop; the float model also takes pixel - 128."""

    def __init__(self, path: Path) -> None:
        self.model = Model(path)

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        values = quantised_pixels(crop)
        if not self.model.is_quantised:
            values = values.astype(np.float32)
        embedding = self.model(values)[0].ravel().astype(np.float64)
        return embedding / np.linalg.norm(embedding)


def align(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    return warp(picture, similarity(points, TEMPLATE), CROP_SIZE)


@dataclass(frozen=True)
class Face:
    detection: Detection
    mesh: Mesh


class FaceFinder:
    """Detector and mesh together: a face is a detection the mesh confirms."""

    # Faces that fill the picture score low: where nobody is found, the
    # picture is tried once more at this share of the detector's input.
    RETRY_FILL = 0.5

    def __init__(self, detector: Detector, landmarks: Landmarks, minimum_presence: float) -> None:
        self.detector = detector
        self.landmarks = landmarks
        self.minimum_presence = minimum_presence

    def all(self, picture: np.ndarray) -> list[Face]:
        return self._once(picture, 1.0) or self._once(picture, self.RETRY_FILL)

    def _once(self, picture: np.ndarray, fill: float) -> list[Face]:
        faces = [Face(d, self.landmarks(picture, d)) for d in self.detector(picture, fill)]
        return [face for face in faces if face.mesh.presence >= self.minimum_presence]

    def nearest_to_centre(self, picture: np.ndarray) -> Face | None:
        """The face meant in a photograph of one person."""
        height, width = picture.shape[:2]
        centre = np.array([width / 2, height / 2])

        def distance(face: Face) -> float:
            box = face.detection.box
            return float(np.linalg.norm((box[:2] + box[2:]) / 2 - centre))

        return min(self.all(picture), key=distance, default=None)


def read_picture(path: Path) -> np.ndarray:
    """Decodes with OpenCV's bundled libjpeg-turbo or libpng, as RGB."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{path}: not a picture OpenCV can decode")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
