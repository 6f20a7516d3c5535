#!/usr/bin/env bash
# Compares every file that models/manifest.toml names with its sha256, finds model files that no entry
# names, and shows on a copy that one changed byte is noticed.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../models"

# Lines as sha256sum reads them, one for each table of the manifest with `file` and `sha256`.
listed=$(python3 - <<'PYTHON'
import sys, tomllib

with open("manifest.toml", "rb") as file:
    manifest = tomllib.load(file)
# The runtime library stands elsewhere; tools/setup.sh checks it.
manifest.pop("runtime", None)

def entries(value):
    if isinstance(value, list):
        for item in value:
            yield from entries(item)
    elif isinstance(value, dict):
        if isinstance(value.get("file"), str) and isinstance(value.get("sha256"), str):
            yield value
        else:
            # Tables inside an entry describe where it came from, not what is here.
            for item in value.values():
                yield from entries(item)

found = {entry["file"]: entry["sha256"] for entry in entries(manifest)}
if not found:
    sys.exit("models/manifest.toml names no file with its sha256")
for name, sha256 in sorted(found.items()):
    print(f"{sha256}  {name}")
PYTHON
)
sha256sum --check --strict <<<"$listed"

mapfile -t files < <(cut -c 67- <<<"$listed")
for file in *.tflite; do
    if ! printf '%s\n' "${files[@]}" | grep -qxF -- "$file"; then
        echo "models/$file is in no entry of models/manifest.toml" >&2
        exit 1
    fi
done

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
cp -- "${files[@]}" "$scratch/"
for file in "${files[@]}"; do
    byte=$(od -An -tu1 -j 100 -N 1 -- "$file")
    printf '%b' "\\x$(printf '%x' $((byte ^ 1)))" \
        | dd of="$scratch/$file" bs=1 seek=100 conv=notrunc status=none
    if (cd "$scratch" && grep -F -- "  $file" <<<"$listed" | sha256sum --check --status); then
        echo "a changed byte in $file goes unnoticed" >&2
        exit 1
    fi
done
echo "models: ${#files[@]} of ${#files[@]} files are the pinned ones; one changed byte in each is noticed"
