#!/usr/bin/env python3
"""How long a start takes, as systemd would see it: from the program's start to READY=1, and from there to the first
recognised face. Not emulated: whatever machine this runs on.

    tests/lab/start_time.py PROGRAM [RUNS]

PROGRAM needs its runtime and models as always (LIMEN_LITERT__LIBRARY, LIMEN_MODELS__FOLDER, or installed).
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PORTRAITS = Path(__file__).resolve().parents[1] / "fixtures" / "portraits"
PATIENCE = 60.0


def start(program: str, state: Path, pictures: Path) -> tuple[float, float]:
    """Seconds to READY=1, and to the first event that names the subject; both from the start of the program."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = f"{folder}/notify"
        manager.bind(path)
        manager.settimeout(PATIENCE)
        environment = os.environ | {"NOTIFY_SOCKET": path, "LIMEN_HTTP__LISTEN": "", "LIMEN_STATE__FOLDER": str(state)}
        began = time.monotonic()
        command = [program, "run", "--json", "--source", f"replay:{pictures}"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            recognised: list[float] = []

            def read() -> None:
                assert process.stdout
                for line in process.stdout:
                    if json.loads(line)["event"] == "identified":
                        recognised.append(time.monotonic() - began)
                        return

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            try:
                while b"READY=1" not in manager.recv(4096):
                    pass
                ready = time.monotonic() - began
                reader.join(PATIENCE)
            finally:
                process.terminate()
                process.wait(PATIENCE)
        if not recognised:
            sys.exit(f"nobody was recognised within {PATIENCE:.0f} s")
        return ready, recognised[0]


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: tests/lab/start_time.py PROGRAM [RUNS]")
    program, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 5
    with tempfile.TemporaryDirectory() as folder:
        state, pictures = Path(folder) / "state", Path(folder) / "pictures"
        pictures.mkdir()
        subprocess.run(
            [program, "--state", str(state), "enrol", "Subject", str(PORTRAITS / "barack_obama_1.jpg")],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in ("a", "b"):
            (pictures / f"{name}.jpg").write_bytes((PORTRAITS / "barack_obama_2.jpg").read_bytes())
        measured = [start(program, state, pictures) for _ in range(runs)]
    for name, values in (("ready", [a for a, _ in measured]), ("recognised after ready", [b - a for a, b in measured])):
        print(f"{name}: median {statistics.median(values):.2f} s, {min(values):.2f} to {max(values):.2f} s, of {runs}")


if __name__ == "__main__":
    main()
