"""Makes MediaPipe's BlazeFace and face mesh ready for the quantiser.

The files as published hold half-precision weights behind DEQUANTIZE
operators, separate RELUs (BlazeFace) or PRELUs (mesh), and no signature. The
quantiser then refuses, or leaves weights in float without saying so, and
XNNPACK falls apart into dozens of partitions instead of one.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_graph import LINEAR, RELU, Graph, Op, add, multiply


def fold_half_precision(graph: Graph) -> int:
    """Turns `constant f16 -> DEQUANTIZE` into float32 constants (exact)."""
    kept, folded = [], 0
    for operator in graph.body.operators:
        source = operator.inputs[0]
        if graph.code(operator) == Op.DEQUANTIZE and graph.is_constant(source):
            values = graph.values(source).astype(np.float32)
            graph.set_values(operator.outputs[0], values)
            folded += 1
        else:
            kept.append(operator)
    graph.body.operators = kept
    return folded


def fuse_relu(graph: Graph) -> int:
    """Moves each RELU into the only operator that feeds it (exact)."""
    consumers: dict[int, int] = {}
    for operator in graph.body.operators:
        for tensor in operator.inputs:
            consumers[tensor] = consumers.get(tensor, 0) + 1
    producers = {operator.outputs[0]: operator for operator in graph.body.operators}
    kept, fused = [], 0
    for operator in graph.body.operators:
        source = operator.inputs[0]
        producer = producers.get(source)
        fusable = (
            graph.code(operator) == Op.RELU
            and producer is not None
            and graph.code(producer) in (Op.CONV_2D, Op.DEPTHWISE_CONV_2D, Op.ADD)
            and producer.builtinOptions.fusedActivationFunction == LINEAR
            and consumers[source] == 1
        )
        if fusable:
            producer.builtinOptions.fusedActivationFunction = RELU
            producer.outputs = [operator.outputs[0]]
            fused += 1
        else:
            kept.append(operator)
    graph.body.operators = kept
    return fused


def shift_input(graph: Graph, offset: float) -> None:
    """Lets the network take `x - offset` where it took `x`.

    `conv(x, w) + b = conv(x - offset, w) + (b + offset * sum(w))`: exact
    wherever the kernel sees no padding.
    """
    first = next(op for op in graph.body.operators if op.inputs[0] == graph.body.inputs[0])
    if graph.code(first) != Op.CONV_2D:
        raise ValueError("the first operator is not a convolution")
    weight = graph.values(first.inputs[1]).astype(np.float64)
    bias = graph.values(first.inputs[2]).astype(np.float64)
    shifted = bias + offset * weight.sum(axis=(1, 2, 3))
    graph.set_values(first.inputs[2], shifted.astype(np.float32))


def replace_prelu(graph: Graph) -> int:
    """Writes PRELU with operators that exist in int8.

    With slope `a`: `prelu(x) = x + s * relu((a - 1) * x * s)`, s = 1 where
    a <= 1 and -1 elsewhere. The multiplication by `s` is only emitted for the
    layers that have a slope above one.
    """
    kept, replaced = [], 0
    for operator in graph.body.operators:
        if graph.code(operator) != Op.PRELU:
            kept.append(operator)
            continue
        source, target = operator.inputs[0], operator.outputs[0]
        slope = graph.values(operator.inputs[1]).ravel()
        sign = np.where(slope > 1, -1, 1).astype(np.float32)
        label = graph.name(target)

        bend = graph.activation(f"{label}/bend", graph.shape(source))
        factor = graph.constant(f"{label}/slope", ((slope - 1) * sign).astype(np.float32))
        kept.append(graph.operator(Op.MUL, [source, factor], bend, multiply(RELU)))
        if (sign < 0).any():
            signed = graph.activation(f"{label}/signed", graph.shape(source))
            factor = graph.constant(f"{label}/sign", sign)
            kept.append(graph.operator(Op.MUL, [bend, factor], signed, multiply()))
            bend = signed
        kept.append(graph.operator(Op.ADD, [source, bend], target, add()))
        replaced += 1
    graph.body.operators = kept
    return replaced


SMALLEST_STORED = 64  # values; below that half precision saves nothing


def store_half_precision(graph: Graph) -> int:
    """Stores weights as f16 behind DEQUANTIZE; arithmetic stays float32.

    XNNPACK unpacks them once, when the model is loaded.
    """
    unpacked = []
    for tensor in range(len(graph.body.tensors)):
        entry = graph.body.tensors[tensor]
        is_weight = entry.type == schema.TensorType.FLOAT32 and graph.is_constant(tensor)
        if not is_weight or graph.values(tensor).size < SMALLEST_STORED:
            continue
        half = graph.constant(f"{graph.name(tensor)}/f16", graph.values(tensor).astype(np.float16))
        entry.buffer = 0
        unpacked.append(graph.operator(Op.DEQUANTIZE, [half], tensor, schema.DequantizeOptionsT()))
    graph.body.operators = unpacked + graph.body.operators
    return len(unpacked)
