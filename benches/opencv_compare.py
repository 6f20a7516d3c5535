"""limen against OpenCV's YuNet and SFace, on the same frames, in one run, one thread each.

    benches/opencv_compare.sh            sets up what this needs and calls it

Two questions:

1. CPU time of one fully processed frame: JPEG to embedding of the face in it. OpenCV twice, with
   YuNet at the frame's own 640x480 and at half of it, which sees half as far.
2. CPU time for each second of a 15 Hz stream with one person in view. OpenCV does all of the above
   for every frame; limen runs as the appliance does and decides itself what to look at.

Rounds alternate between the programs, so that a machine that changes its speed changes it for both;
ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

RATE_HZ = 15
SCORE = 0.6


class OpenCv:
    """YuNet and SFace through OpenCV's own classes."""

    def __init__(self, models: Path, side: tuple[int, int]) -> None:
        self.side = side
        yunet, sface = models / "face_detection_yunet_2023mar.onnx", models / "face_recognition_sface_2021dec.onnx"
        self.detector = cv2.FaceDetectorYN.create(str(yunet), "", side, score_threshold=SCORE)
        self.recogniser = cv2.FaceRecognizerSF.create(str(sface), "")

    def process(self, jpeg: np.ndarray) -> np.ndarray:
        frame = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        height, width = frame.shape[:2]
        small = frame if (width, height) == self.side else cv2.resize(frame, self.side)
        _, faces = self.detector.detect(small)
        if faces is None:
            raise SystemExit("OpenCV found no face in a frame that limen found one in")
        face = faces[faces[:, -1].argmax()].copy()
        face[:14] *= width / self.side[0]
        return self.recogniser.feature(self.recogniser.alignCrop(frame, face))

    def cpu_ms(self, jpegs: list[np.ndarray]) -> float:
        """Median over the frames."""
        times = []
        for jpeg in jpegs:
            start = time.process_time()
            self.process(jpeg)
            times.append((time.process_time() - start) * 1e3)
        return statistics.median(times)


def limen_cpu_ms(limen: Path, frames: Path) -> float:
    command = [limen, "bench", "frames", "--pictures", frames, "--rounds", "2", "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)["frames"]["whole"]["median_ms"]


def limen_cpu_of_stream(limen: Path, frames: Path, seconds: int) -> tuple[float, dict]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [limen, "run", "--demo", "--json", "--source", f"replay:{frames}", "--seconds", str(seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    summary = next(line["summary"] for line in lines if line["event"] == "stopped")
    if not any(line["event"] == "identified" for line in lines):
        raise SystemExit("limen identified nobody in the stream")
    return used, summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limen", type=Path, required=True, help="the release binary")
    parser.add_argument("--models", type=Path, required=True, help="folder with the two ONNX files")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=20, help="length of the stream")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder)
        command = [options.limen, "bench", "frames", "--export", frames, "--rounds", "1", "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        jpegs = [np.fromfile(path, np.uint8) for path in sorted(frames.glob("*.jpg"))]
        whole, half = OpenCv(options.models, (640, 480)), OpenCv(options.models, (320, 240))
        for warm in (whole, half):
            warm.cpu_ms(jpegs[:4])
        rows = []
        for number in range(options.rounds):
            rows.append((limen_cpu_ms(options.limen, frames), whole.cpu_ms(jpegs), half.cpu_ms(jpegs)))
            print(f"round {number + 1} of {options.rounds}: " + ", ".join(f"{ms:.1f}" for ms in rows[-1]), file=sys.stderr)
        # A start costs the same whatever follows it, so a short run is taken off a long one.
        short, _ = limen_cpu_of_stream(options.limen, frames, 3)
        long, summary = limen_cpu_of_stream(options.limen, frames, options.seconds + 3)
    ours, theirs, theirs_half = (statistics.median(column) for column in zip(*rows))
    per_second = (long - short) / options.seconds * 1e3
    ratio = statistics.median(row[0] / row[1] for row in rows)
    ratio_half = statistics.median(row[0] / row[2] for row in rows)
    print(f"OpenCV {cv2.__version__}, {len(jpegs)} frames of 640x480 with one face, {options.rounds} rounds, one thread")
    print()
    print("CPU time of one fully processed frame, median, ms          limen is")
    print(f"  limen                                          {ours:6.1f}")
    print(f"  YuNet at 640x480 and SFace                     {theirs:6.1f}   {ratio:.2f} of it")
    print(f"  YuNet at 320x240 and SFace                     {theirs_half:6.1f}   {ratio_half:.2f} of it")
    print()
    print(f"CPU time for each second of a {RATE_HZ} Hz stream with one person in view, ms")
    looks, probes = summary["recogniser"]["looks"], summary["recogniser"]["probes"]
    print(f"  limen, as `limen run` does it                  {per_second:6.1f}   ({looks} looks, {probes} embeddings)")
    for name, cost in (("640x480", theirs), ("320x240", theirs_half)):
        every = cost * RATE_HZ
        print(f"  YuNet at {name} and SFace, every frame      {every:6.1f}   {every / per_second:.1f} times limen's")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
