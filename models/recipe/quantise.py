"""Static int8 quantisation with ranges of our own."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
from litert_quantizer import Quantizer, qtyping, recipe
from litert_quantizer.algorithm_manager import AlgorithmName

from calibration import Ranges
from tflite_graph import Graph


def to_int8(
    source: Path,
    target: Path,
    ranges: Ranges,
    *,
    keep_float: tuple[str, ...] = (),
    dynamic: tuple[str, ...] = (),
) -> None:
    """Writes `target`, int8 throughout but for two lists of expressions.

    Operators whose output name matches `keep_float` stay float. Those that
    match `dynamic` keep int8 weights, but take and give float: their input is
    quantised anew at each inference, and their output is not quantised.
    """
    quantiser = Quantizer(str(source))
    quantiser.load_quantization_recipe(recipe.static_wi8_ai8())
    for expression in (*keep_float, *dynamic):
        quantiser.update_quantization_recipe(
            regex=expression,
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            algorithm_key=AlgorithmName.NO_QUANTIZE,
        )
    for expression in dynamic:
        for operation in (qtyping.TFLOperationName.CONV_2D, qtyping.TFLOperationName.FULLY_CONNECTED):
            quantiser.add_dynamic_config(regex=expression, operation_name=operation, num_bits=8)
    graph = Graph.load(source)
    statistics = {}
    for tensor in range(len(graph.body.tensors)):
        if graph.is_constant(tensor):
            continue
        name = graph.name(tensor)
        if name not in ranges:
            raise ValueError(f"{source.name}: no calibrated range for activation {name!r}")
        low, high = (np.full([1] * len(graph.shape(tensor)), end, np.float32) for end in ranges[name])
        statistics[name] = {"min": low, "max": high}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    # Its progress bars go to stderr whatever one asks for; errors are raised.
    with contextlib.redirect_stderr(io.StringIO()):
        result = quantiser.quantize(statistics, enable_progress_report=False)
    result.export_model(str(target))
    target.chmod(0o644)
