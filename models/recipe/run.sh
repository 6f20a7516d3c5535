#!/bin/sh
# Makes or checks the model files in an environment of their own.
#   models/recipe/run.sh                           rebuild from the recorded calibration
#   models/recipe/run.sh FOLDER_OR_LIST            calibrate anew on photographs
#   models/recipe/run.sh --verify                  compare files with the manifest
# Further arguments go to make.py. Needs python3 (3.11 or later) with venv.
set -eu

# The recipe runs in the project's root, so a relative path has to be made absolute first.
case ${1-} in
'' | -*) ;;
*)
    photographs=$(realpath -- "$1")
    shift
    set -- --calibration "$photographs" "$@"
    ;;
esac
cd "$(dirname "$0")/../.."

environment=.setup/models-venv
stamp=$environment/requirements.txt
if ! cmp -s models/recipe/requirements.txt "$stamp"; then
    echo "installing the recipe's requirements into $environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check \
        -r models/recipe/requirements.txt
    cp models/recipe/requirements.txt "$stamp"
fi
export TF_CPP_MIN_LOG_LEVEL=2
exec "$environment/bin/python" models/recipe/make.py "$@"
