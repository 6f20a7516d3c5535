"""Measures the models on a folder laid out like lfw-dev.

Every figure in the model cards comes from here:

    measure.py accuracy  --data DIR --models models [models/build/f32]
    measure.py distance  --data DIR --models models [models/build/f32]
    measure.py landmarks --data DIR --models models/build/f32 --files FILE...
    measure.py embedder  --data DIR --models models models/build/f32
    measure.py latency --files FILE...   (memory is only right for the first)

The folder holds `calibration.txt`, `verification.csv`, `identification.csv`
and the pictures they name; pictures listed for calibration are never
measured.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import manifest
import pipeline

FPIR = 0.01
REPORTED_THRESHOLDS = (0.38, 0.40, 0.42, 0.43, 0.44, 0.45, 0.46, 0.48, 0.50, 0.52)
EYE_DISTANCE_IN_PHOTO = 44  # px between the eyes in a 250 px photo, median
Pair = tuple[str, str, bool, int]  # left, right, same, fold
Embeddings = dict[str, np.ndarray | None]

DISTANCES = {(640, 480): (16, 20, 24, 30, 40), (1280, 720): (24, 30, 40)}


class ModelSet:
    """The pipeline that a manifest describes."""

    def __init__(self, folder: Path, *, minimum_score: float | None = None) -> None:
        numbers = manifest.read(folder / "manifest.toml")
        self.name = numbers["embedder"]["embedding_space"]
        decode = numbers["detector"]["decode"]
        self.detector = pipeline.Detector(
            folder / numbers["detector"]["file"], minimum_score or decode["minimum_score"]
        )
        self.landmarks = pipeline.Landmarks(
            folder / numbers["landmarks"]["file"], numbers["landmarks"]["region"]["scale"]
        )
        self.embedder = pipeline.Embedder(folder / numbers["embedder"]["file"])
        self.finder = pipeline.FaceFinder(
            self.detector, self.landmarks, numbers["landmarks"]["minimum_presence"]
        )

    def embedding(self, picture: np.ndarray) -> np.ndarray | None:
        face = self.finder.nearest_to_centre(picture)
        if face is None:
            return None
        return self.embedder(pipeline.align(picture, face.mesh.five_points()))


@dataclass(frozen=True)
class Protocols:
    pairs: list[Pair]
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


def embeddings(data: Path, names: list[str], models: ModelSet) -> Embeddings:
    """One embedding a picture, None where no face was found."""
    return {name: models.embedding(pipeline.read_picture(data / name)) for name in names}


def score(embedding: Embeddings, left: str, right: str) -> float:
    """Comparison score; -1 where either picture gave no face."""
    a, b = embedding[left], embedding[right]
    return -1.0 if a is None or b is None else float(a @ b)


def verification_accuracy(pairs: list[Pair], embedding: Embeddings) -> float:
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


def identification(sets: Protocols, embedding: Embeddings, fpir: float) -> Identification:
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


def all_pairs(sets: Protocols, embedding: Embeddings) -> tuple[np.ndarray, np.ndarray]:
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


def accuracy(data: Path, models: ModelSet) -> None:
    sets = protocols(data)
    names = sets.pictures()
    embedding = embeddings(data, names, models)
    lost = sum(value is None for value in embedding.values())
    print(f"{models.name}: {len(names)} pictures, no face in {lost}")
    print(f"  verification accuracy {verification_accuracy(sets.pairs, embedding):.2f} %, {len(sets.pairs)} pairs")
    found = identification(sets, embedding, FPIR)
    print(
        f"  rank-1 {found.rank_1:.2f} %, FNIR {found.fnir:.2f} % at FPIR {100 * FPIR:.0f} %,"
        f" N = {len(sets.gallery)}, {len(sets.mated)} mated and {len(sets.non_mated)} non-mated probes,"
        f" threshold {found.threshold:.3f}"
    )
    genuine, impostor = all_pairs(sets, embedding)
    print(f"  all pairs: {len(genuine)} genuine, {len(impostor)} impostor")
    for rate in (1e-3, 1e-4, 1e-5):
        threshold = threshold_at(impostor, rate)
        print(f"    FMR {rate:.0e}: threshold {threshold:.3f}, FNMR {100 * (genuine < threshold).mean():.2f} %")
    for threshold in REPORTED_THRESHOLDS:
        positives, misses = open_set_rates(sets, embedding, threshold)
        print(
            f"    threshold {threshold:.2f}: FMR {(impostor >= threshold).mean():.1e},"
            f" FNMR {100 * (genuine < threshold).mean():.2f} %,"
            f" FPIR {100 * positives:.2f} %, FNIR {100 * misses:.2f} %"
        )
    print_margins(sets, embedding)


def open_set_rates(sets: Protocols, embedding: Embeddings, threshold: float) -> tuple[float, float]:
    """FPIR and FNIR of the whole gallery at one threshold."""
    gallery = np.array([_or_zero(embedding[name]) for _, name in sets.gallery])
    subjects = [subject for subject, _ in sets.gallery]
    positives = sum((gallery @ _or_zero(embedding[n])).max() >= threshold for _, n in sets.non_mated)
    misses = 0
    for subject, name in sets.mated:
        scores = gallery @ _or_zero(embedding[name])
        best = int(scores.argmax())
        misses += not (subjects[best] == subject and scores[best] >= threshold)
    return positives / len(sets.non_mated), misses / len(sets.mated)


def print_margins(sets: Protocols, embedding: Embeddings) -> None:
    """By how much the best subject leads the second, for mated probes found
    at rank 1 and for those where another subject leads."""
    gallery = np.array([_or_zero(embedding[name]) for _, name in sets.gallery])
    subjects = [subject for subject, _ in sets.gallery]
    right, wrong = [], []
    for subject, name in sets.mated:
        scores = gallery @ _or_zero(embedding[name])
        second, best = np.argsort(scores)[-2:]
        lead = scores[best] - scores[second]
        (right if subjects[best] == subject else wrong).append(lead)
    low = ", ".join(f"{100 * (np.array(right) < m).mean():.2f} % below {m}" for m in (0.03, 0.05, 0.1))
    print(f"  lead of the right subject, {len(right)} probes: {low}")
    print(f"  lead of a wrong subject, {len(wrong)} probes: {[round(float(m), 3) for m in sorted(wrong)]}")


def distance(data: Path, models: ModelSet, faces: int) -> None:
    detected: Counter = Counter()
    confirmed: Counter = Counter()
    wrong: Counter = Counter()
    wrong_confirmed: Counter = Counter()
    for size, eye_distance, frame, centre, side in distance_frames(data, faces):
        row = (*size, eye_distance)
        hits, hits_confirmed = 0, 0
        for detection in models.detector(frame):
            offset = np.abs((detection.box[:2] + detection.box[2:]) / 2 - centre).max()
            presence = models.landmarks(frame, detection).presence
            is_confirmed = presence >= models.finder.minimum_presence
            if offset < 0.15 * side:
                hits += 1
                hits_confirmed += is_confirmed
            elif offset > 0.5 * side:
                wrong[row] += 1
                wrong_confirmed[row] += is_confirmed
        detected[row] += hits > 0
        confirmed[row] += hits_confirmed > 0
    print(f"{models.name}: detection score {models.detector.minimum_score}, {faces} faces a row")
    print("  frame, eye distance: recall (wrong boxes); the same after face presence")
    for (width, height), distances in DISTANCES.items():
        for eye_distance in distances:
            row = (width, height, eye_distance)
            print(
                f"  {width}x{height} {eye_distance:3d} px: {100 * detected[row] / faces:5.1f} % ({wrong[row]});"
                f" {100 * confirmed[row] / faces:5.1f} % ({wrong_confirmed[row]})"
            )


def landmarks(data: Path, reference: ModelSet, candidates: list[Path], count: int) -> None:
    """Five-point error and its effect on the embedding, against `reference`."""
    names = protocols(data).pictures()
    random.Random(0).shuffle(names)
    meshes = {path: pipeline.Landmarks(path) for path in candidates}
    errors: dict[Path, list[np.ndarray]] = {path: [] for path in candidates}
    cosines: dict[Path, list[float]] = {path: [] for path in candidates}
    for name in names[:count]:
        picture = pipeline.read_picture(data / name)
        face = reference.finder.nearest_to_centre(picture)
        if face is None:
            continue
        points = face.mesh.five_points()
        expected = reference.embedder(pipeline.align(picture, points))
        for path, mesh in meshes.items():
            found = mesh(picture, face.detection).five_points()
            eye_distance = np.linalg.norm(points[1] - points[0])
            errors[path].append(100 * np.linalg.norm(found - points, axis=1) / eye_distance)
            cosines[path].append(float(reference.embedder(pipeline.align(picture, found)) @ expected))
    for path in candidates:
        error, cosine = np.array(errors[path]), np.array(cosines[path])
        print(
            f"{path.name}: {len(error)} faces, error of the five points in % of the eye distance:"
            f" mean {error.mean():.2f}, 95th percentile {np.percentile(error, 95):.2f}, largest {error.max():.2f};"
            f" cosine of the embeddings: mean {cosine.mean():.4f}, 5th percentile {np.percentile(cosine, 5):.4f}"
        )


def embedder(data: Path, tested: ModelSet, reference: ModelSet) -> None:
    """Cosine of two embedders on the same crops, those of `reference`."""
    cosines = []
    for name in protocols(data).pictures():
        picture = pipeline.read_picture(data / name)
        face = reference.finder.nearest_to_centre(picture)
        if face is not None:
            crop = pipeline.align(picture, face.mesh.five_points())
            cosines.append(float(tested.embedder(crop) @ reference.embedder(crop)))
    found = np.array(cosines)
    print(
        f"{tested.name} to {reference.name}, {len(found)} crops: cosine mean {found.mean():.4f},"
        f" 5th percentile {np.percentile(found, 5):.4f}, least {found.min():.4f}"
    )


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def latency(path: Path, runs: int = 200) -> None:
    before = resident_mb()
    model = pipeline.Model(path)
    noise = np.random.default_rng(0).integers(0, 256, model.input["shape"][1:]).astype(np.uint8)
    values = pipeline.quantised_pixels(noise)
    if not model.is_quantised:
        values = values.astype(np.float32) / 128
    for _ in range(10):
        model(values)
    memory = resident_mb() - before
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        model.interpreter.invoke()
        times.append(1e3 * (time.perf_counter() - start))
    print(
        f"{path.name}: one thread, median {np.median(times):.2f} ms, least {min(times):.2f} ms, {runs} runs;"
        f" resident memory +{memory:.1f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("accuracy", "distance", "landmarks", "embedder", "latency"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", type=Path, nargs="+", default=[Path("models")], help="folders with a manifest")
    parser.add_argument("--minimum-score", type=float, help="instead of the manifest's")
    parser.add_argument("--faces", type=int, default=150, help="faces a row, for `distance`")
    parser.add_argument("--count", type=int, default=300, help="pictures, for `landmarks`")
    parser.add_argument("--files", type=Path, nargs="+", default=[], help="models, for `landmarks` and `latency`")
    options = parser.parse_args()
    if options.what == "latency":
        for path in options.files:
            latency(path)
        return
    if options.data is None:
        parser.error("--data is needed: a folder laid out like lfw-dev")
    sets = [ModelSet(folder, minimum_score=options.minimum_score) for folder in options.models]
    if options.what == "landmarks":
        landmarks(options.data, sets[0], options.files, options.count)
    elif options.what == "embedder":
        embedder(options.data, sets[0], sets[1])
    for models in sets if options.what in ("accuracy", "distance") else []:
        if options.what == "accuracy":
            accuracy(options.data, models)
        else:
            distance(options.data, models, options.faces)


if __name__ == "__main__":
    main()
