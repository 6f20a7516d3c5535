"""Measures the models on a folder laid out like lfw-dev.

Every figure in the model cards comes from here. Subcommands: `accuracy`,
`distance`, `landmarks`, `latency`, `thresholds`. The folder holds
`calibration.txt`, `verification.csv`, `identification.csv` and the pictures
they name; pictures listed for calibration are never measured.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import pipeline

FPIR = 0.01
EYE_DISTANCE_IN_PHOTO = 44  # px between the eyes in a 250 px photo, median
DISTANCES = {(640, 480): (16, 20, 24, 30, 40), (1280, 720): (24, 30, 40)}


@dataclass(frozen=True)
class ModelFiles:
    """The three files under test."""

    detector: Path
    landmarks: Path
    embedder: Path


@dataclass(frozen=True)
class Protocols:
    pairs: list[tuple[str, str, bool, int]]
    gallery: list[tuple[str, str]]  # subject, picture
    mated: list[tuple[str, str]]
    non_mated: list[tuple[str, str]]

    def pictures(self) -> list[str]:
        named = {name for left, right, _, _ in self.pairs for name in (left, right)}
        for role in (self.gallery, self.mated, self.non_mated):
            named |= {name for _, name in role}
        return sorted(named)


def protocols(data: Path) -> Protocols:
    with (data / "verification.csv").open() as file:
        pairs = [
            (row["left"], row["right"], row["same"] == "1", int(row["fold"]))
            for row in csv.DictReader(file)
        ]
    roles: dict[str, list[tuple[str, str]]] = {"gallery": [], "mated_probe": [], "non_mated_probe": []}
    with (data / "identification.csv").open() as file:
        for row in csv.DictReader(file):
            roles[row["role"]].append((row["subject"], row["image"]))
    return Protocols(pairs, roles["gallery"], roles["mated_probe"], roles["non_mated_probe"])


def embeddings(data: Path, names: list[str], files: ModelFiles, minimum_score: float) -> dict[str, np.ndarray | None]:
    """One embedding a picture, None where no face was found."""
    detect = pipeline.Detector(files.detector, minimum_score)
    mesh, embed = pipeline.Landmarks(files.landmarks), pipeline.Embedder(files.embedder)
    found: dict[str, np.ndarray | None] = {}
    for name in names:
        picture = pipeline.read_picture(data / name)
        face = pipeline.nearest_to_centre(detect(picture), picture)
        if face is None:
            found[name] = None
        else:
            crop = pipeline.align(picture, mesh(picture, face).five_points())
            found[name] = embed(crop)
    return found


def score(embedding: dict[str, np.ndarray | None], left: str, right: str) -> float:
    """Comparison score; -1 where either picture gave no face."""
    a, b = embedding[left], embedding[right]
    return -1.0 if a is None or b is None else float(a @ b)


def verification_accuracy(pairs, embedding) -> float:
    """Ten folds: threshold from nine, accuracy on the tenth. A picture
    without a face makes its pair wrong whatever the threshold."""
    scores = np.array([score(embedding, left, right) for left, right, _, _ in pairs])
    same = np.array([is_same for _, _, is_same, _ in pairs])
    lost = np.array([embedding[left] is None or embedding[right] is None for left, right, _, _ in pairs])
    folds = np.array([fold for _, _, _, fold in pairs])
    correct = 0
    for fold in np.unique(folds):
        test, train = folds == fold, folds != fold
        candidates = np.unique(scores[train])
        right = [((scores[train] >= t) == same[train]).mean() for t in candidates]
        best = np.flatnonzero(right == np.max(right))
        threshold = candidates[best[len(best) // 2]]
        correct += int((((scores[test] >= threshold) == same[test]) & ~lost[test]).sum())
    return 100 * correct / len(pairs)


@dataclass(frozen=True)
class Identification:
    rank_1: float
    fnir: float
    threshold: float


def identification(sets: Protocols, embedding, fpir: float) -> Identification:
    """Open-set search of the whole gallery; one picture a subject."""
    gallery = np.array([_or_zero(embedding[name]) for _, name in sets.gallery])
    subjects = np.array([subject for subject, _ in sets.gallery])
    top_non_mated = np.sort(
        [(gallery @ _or_zero(embedding[name])).max() for _, name in sets.non_mated]
    )[::-1]
    # The largest number of false positives the rate allows stays above it.
    threshold = float(top_non_mated[int(fpir * len(top_non_mated))])
    first, missed = 0, 0
    for subject, name in sets.mated:
        scores = gallery @ _or_zero(embedding[name])
        best = int(scores.argmax())
        is_first = subjects[best] == subject and embedding[name] is not None
        first += is_first
        missed += not (is_first and scores[best] > threshold)
    count = len(sets.mated)
    return Identification(100 * first / count, 100 * missed / count, threshold)


def _or_zero(embedding: np.ndarray | None) -> np.ndarray:
    return np.zeros(128) if embedding is None else embedding


def impostor_scores(sets: Protocols, embedding) -> tuple[np.ndarray, np.ndarray]:
    """All-pairs genuine and impostor scores over the protocol pictures."""
    names = [n for n in sets.pictures() if embedding[n] is not None]
    subjects = np.array([Path(n).parent.name for n in names])
    matrix = np.array([embedding[n] for n in names])
    upper = np.triu_indices(len(names), 1)
    scores = (matrix @ matrix.T)[upper]
    same = (subjects[:, None] == subjects[None])[upper]
    return scores[same], scores[~same]


def threshold_at(impostors: np.ndarray, rate: float) -> float:
    count = max(int(len(impostors) * rate), 1)
    return float(np.partition(impostors, -count)[-count])


def distance_frames(data: Path, faces: int) -> Iterator[tuple[tuple[int, int], int, np.ndarray, np.ndarray, int]]:
    """Photographs pasted at a known distance between the eyes into texture.

    Yields frame size, eye distance, frame, centre of the face, side of the
    paste. The same sequence every time.
    """
    listed = set((data / "calibration.txt").read_text().split())
    photos = sorted(p for p in data.glob("images/*/*_0001.jpg") if str(p.relative_to(data)) not in listed)
    random.Random(1).shuffle(photos)
    noise = np.random.default_rng(0)
    for (width, height), distances in DISTANCES.items():
        for eye_distance in distances:
            side = int(250 * eye_distance / EYE_DISTANCE_IN_PHOTO)
            for path in photos[:faces]:
                photo = cv2.resize(pipeline.read_picture(path), (side, side), interpolation=cv2.INTER_AREA)
                frame = _texture(noise, width, height)
                left, top = noise.integers(0, width - side + 1), noise.integers(0, height - side + 1)
                frame[top : top + side, left : left + side] = photo
                yield (width, height), eye_distance, frame, np.array([left, top]) + side / 2, side


def _texture(noise: np.random.Generator, width: int, height: int) -> np.ndarray:
    coarse = noise.integers(40, 215, (height // 40, width // 40, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(smooth + noise.integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8)
