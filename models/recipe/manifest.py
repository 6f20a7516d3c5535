"""Keeps the machine-made values of `manifest.toml` true.

The manifest is written by hand, comments included. Only the values that
follow from a model file are set from here, in place, line by line.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from packages import sha256

TABLES = ("detector", "landmarks", "embedder")


def read(path: Path) -> dict:
    return tomllib.loads(path.read_text())


def describe(text: str, table: str, model: Path) -> str:
    """Sets file, sha256, bytes and the tensors of one model."""
    interpreter = Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    text = _set(text, f"[{table}]", "file", f'"{model.name}"')
    text = _set(text, f"[{table}]", "sha256", f'"{sha256(model)}"')
    text = _set(text, f"[{table}]", "bytes", str(model.stat().st_size))
    text = _tensor(text, f"[{table}.input]", 0, interpreter.get_input_details()[0])
    for index, output in enumerate(interpreter.get_output_details()):
        text = _tensor(text, f"[[{table}.output]]", index, output)
    return text


def _tensor(text: str, header: str, index: int, details: dict) -> str:
    kind = details["dtype"].__name__
    text = _set(text, header, "name", f'"{details["name"]}"', index)
    text = _set(text, header, "type", f'"{kind}"', index)
    text = _set(text, header, "shape", str([int(n) for n in details["shape"]]), index)
    if kind == "int8":
        scale, zero_point = details["quantization"]
        text = _set(text, header, "scale", repr(float(scale)), index)
        text = _set(text, header, "zero_point", str(zero_point), index)
    return text


def _set(text: str, header: str, key: str, value: str, index: int = 0) -> str:
    """Replaces one value, keeping a comment behind it."""
    start = [m.end() for m in re.finditer(rf"^{re.escape(header)}$", text, re.MULTILINE)][index]
    following = re.search(r"^\[", text[start:], re.MULTILINE)
    end = start + following.start() if following else len(text)
    pattern = rf"^({key}\s*=\s*)(\"[^\"]*\"|\[[^\]]*\]|[^\s#]+)"
    table, count = re.subn(pattern, lambda m: m[1] + value, text[start:end], count=1, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"manifest: {header} number {index} has no line for {key}")
    return text[:start] + table + text[end:]


def as_float(text: str) -> str:
    """The manifest of the float reference models, from the shipped one.

    Scale and zero point give way to the mapping of a float input, and the
    embedding space gets a name of its own.
    """
    mappings = {"detector": ("0.00784313725490196", "-1.0"), "embedder": ("1.0", "-128.0")}
    for table, (scale, offset) in mappings.items():
        header = f"[{table}.input]"
        text = re.sub(
            rf"(?ms)^({re.escape(header)}\n.*?)^scale = [^\n]*\nzero_point = [^\n]*\n",
            rf"\g<1>level_scale = {scale}\nlevel_offset = {offset}\n",
            text,
            count=1,
        )
    return text.replace("sface-2021dec-int8-mesh5/1", "sface-2021dec-f32-mesh5/1")


def check(path: Path) -> list[str]:
    """Differences between the manifest and the files beside it."""
    numbers, problems = read(path), []
    for table in TABLES:
        entry = numbers[table]
        model = path.parent / entry["file"]
        if not model.exists():
            problems.append(f"{model.name}: missing")
        elif sha256(model) != entry["sha256"]:
            problems.append(f"{model.name}: sha256 {sha256(model)}, manifest says {entry['sha256']}")
        elif model.stat().st_size != entry["bytes"]:
            problems.append(f"{model.name}: {model.stat().st_size} bytes, manifest says {entry['bytes']}")
    return problems
