"""SFace: from the published ONNX file to TFLite graphs.

The network is a plain chain: 27 convolutions, each with a batch norm and a
PReLU, then a batch norm and one fully connected layer. It is therefore read
into a list of layers, changed there as plain arrays, and written out; every
change is exact in real arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tflite_graph import LINEAR, RELU, SAME, VALID, Graph, Op, add, convolution, depthwise, multiply
from ai_edge_litert import schema_py_generated as schema

INPUT_SIZE = 112
EMBEDDING_SIZE = 128


@dataclass
class Layer:
    """A convolution with its batch norm folded in, followed by a PReLU.

    `weight` has the output channel first: (out, kh, kw, in), or for a
    depthwise layer (channel, kh, kw). All arrays are float64.
    """

    name: str
    is_depthwise: bool
    stride: int
    weight: np.ndarray
    bias: np.ndarray
    slope: np.ndarray

    def scale_outputs(self, factor: np.ndarray) -> None:
        self.weight = self.weight * factor.reshape(-1, *[1] * (self.weight.ndim - 1))
        self.bias = self.bias * factor

    def scale_inputs(self, factor: np.ndarray) -> None:
        if self.is_depthwise:
            self.weight = self.weight * factor[:, None, None]
        else:
            self.weight = self.weight * factor


@dataclass
class Network:
    """`head_weight` is (128, height, width, channel), as NHWC flattens."""

    layers: list[Layer]
    head_weight: np.ndarray
    head_bias: np.ndarray

    def scale_edge(self, index: int, produced: np.ndarray, consumed: np.ndarray) -> None:
        """Multiplies what layer `index` produces and what reads it."""
        self.layers[index].scale_outputs(produced)
        if index + 1 < len(self.layers):
            self.layers[index + 1].scale_inputs(consumed)
        else:
            self.head_weight = self.head_weight * consumed


def read(path: Path) -> Network:
    """Reads the ONNX file, folding normalisation and batch norms.

    The result takes `pixel - 128` (RGB), not `pixel`: the graph's own
    (x - 127.5) / 128 goes into the first layer, whose bias takes the half
    level. At the border the padding is half a grey level off the original.
    """
    graph = onnx.load(path).graph
    constants = {c.name: numpy_helper.to_array(c).astype(np.float64) for c in graph.initializer}
    nodes = list(graph.node)
    mean, scale = constants[nodes[0].input[1]].item(), constants[nodes[1].input[1]].item()
    layers: list[Layer] = []
    position = 2
    while nodes[position].op_type == "Conv":
        conv, norm, prelu = nodes[position : position + 3]
        layers.append(_read_layer(conv, norm, prelu, constants))
        position += 3
    norm, dropout, flatten, dense, last_norm = nodes[position:]
    expected = ["BatchNormalization", "Dropout", "Flatten", "Gemm", "BatchNormalization"]
    found = [node.op_type for node in (norm, dropout, flatten, dense, last_norm)]
    if found != expected or len(layers) != 27:
        raise ValueError(f"not the SFace graph this recipe knows: {len(layers)} layers, {found}")

    gain, offset = _batch_norm(norm, constants)
    weight, bias = constants[dense.input[1]], constants[dense.input[2]]
    side = int(round((weight.shape[1] / len(gain)) ** 0.5))
    weight = weight.reshape(len(bias), len(gain), side, side).transpose(0, 2, 3, 1)
    bias = bias + (weight * offset).sum(axis=(1, 2, 3))
    last_gain, last_offset = _batch_norm(last_norm, constants)
    network = Network(
        layers,
        weight * gain * last_gain[:, None, None, None],
        bias * last_gain + last_offset,
    )
    first = layers[0]
    first.scale_inputs(np.full(3, scale))
    first.bias = first.bias + (128 - mean) * first.weight.sum(axis=(1, 2, 3))
    return network


def _read_layer(conv, norm, prelu, constants) -> Layer:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in conv.attribute}
    kernel = attributes["kernel_shape"][0]
    if attributes["pads"] != [kernel // 2] * 4:
        raise ValueError(f"{conv.name}: unexpected padding {attributes['pads']}")
    weight = constants[conv.input[1]]
    is_depthwise = attributes["group"] > 1
    weight = weight[:, 0] if is_depthwise else weight.transpose(0, 2, 3, 1)
    gain, offset = _batch_norm(norm, constants)
    layer = Layer(
        name=conv.name.removesuffix("_conv2d"),
        is_depthwise=is_depthwise,
        stride=attributes["strides"][0],
        weight=weight,
        bias=np.zeros(len(gain)),
        slope=constants[prelu.input[1]].ravel(),
    )
    layer.scale_outputs(gain)
    layer.bias = layer.bias + offset
    return layer


def _batch_norm(node, constants) -> tuple[np.ndarray, np.ndarray]:
    gamma, beta, mean, variance = (constants[name] for name in node.input[1:])
    epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
    gain = gamma / np.sqrt(variance + epsilon)
    return gain, beta - mean * gain


def limit_slopes(network: Network) -> int:
    """Rewrites channels so that no PReLU slope exceeds one.

    For a > 1, `prelu_a(x) = -a * prelu_(1/a)(-x)`: the channel is negated
    and the gain goes to its reader. Returns the number of channels.
    """
    changed = 0
    for index, layer in enumerate(network.layers):
        steep = layer.slope > 1
        if not steep.any():
            continue
        sign = np.where(steep, -1.0, 1.0)
        gain = np.where(steep, layer.slope, 1.0)
        network.scale_edge(index, sign, sign * gain)
        layer.slope = np.where(steep, 1 / np.where(steep, layer.slope, 1.0), layer.slope)
        changed += int(steep.sum())
    return changed


def equalise(network: Network, steps: list[list[int]], per_octave: int) -> None:
    """Scales channels by 2 ** (step / per_octave) and their readers back."""
    for index, layer_steps in enumerate(steps):
        factor = np.array([_power(step, per_octave) for step in layer_steps])
        network.scale_edge(index, factor, 1 / factor)


def _power(step: int, per_octave: int) -> float:
    octave, remainder = divmod(step, per_octave)
    return float(np.ldexp(2 ** (remainder / per_octave), octave))


def write(network: Network, path: Path, *, native_prelu: bool) -> None:
    """Writes the TFLite graph.

    `native_prelu` keeps the PRELU operator, as the float model should;
    without it PReLU becomes `x + relu((a - 1) * x)`, since the quantiser has
    no PRELU and XNNPACK no int8 one.
    """
    graph = Graph.empty()
    current = graph.activation("input", (1, INPUT_SIZE, INPUT_SIZE, 3))
    graph.body.inputs = [current]
    size = INPUT_SIZE
    for layer in network.layers:
        current, size = _write_layer(graph, layer, current, size, native_prelu)

    channels = network.head_weight.shape[-1]
    flat = graph.activation("flat", (1, size * size * channels))
    shape = graph.constant("flat_shape", np.array([1, size * size * channels], np.int32))
    graph.append(Op.RESHAPE, [current, shape], flat, schema.ReshapeOptionsT())
    weight = network.head_weight.reshape(EMBEDDING_SIZE, -1).astype(np.float32)
    embedding = graph.activation("embedding", (1, EMBEDDING_SIZE))
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = LINEAR
    graph.append(
        Op.FULLY_CONNECTED,
        [
            flat,
            graph.constant("head_weight", weight),
            graph.constant("head_bias", network.head_bias.astype(np.float32)),
        ],
        embedding,
        options,
    )
    graph.body.outputs = [embedding]
    graph.save(path)


def _write_layer(
    graph: Graph, layer: Layer, current: int, size: int, native_prelu: bool
) -> tuple[int, int]:
    kernel = layer.weight.shape[1]
    padding = SAME
    if layer.stride > 1:
        # The original pads both sides; SAME would pad only after the last row.
        padded = graph.activation(f"{layer.name}/padded", (1, size + 2, size + 2, graph.shape(current)[3]))
        border = graph.constant(
            f"{layer.name}/border", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
        )
        current = graph.append(Op.PAD, [current, border], padded, schema.PadOptionsT())
        size = (size + 2 - kernel) // layer.stride + 1
        padding = VALID

    channels = len(layer.bias)
    linear = graph.activation(f"{layer.name}/linear", (1, size, size, channels))
    bias = graph.constant(f"{layer.name}/bias", layer.bias.astype(np.float32))
    if layer.is_depthwise:
        values = layer.weight.transpose(1, 2, 0)[None]
        code, options = Op.DEPTHWISE_CONV_2D, depthwise(layer.stride, padding)
    else:
        values = layer.weight
        code, options = Op.CONV_2D, convolution(layer.stride, padding)
    weight = graph.constant(f"{layer.name}/weight", values.astype(np.float32))
    graph.append(code, [current, weight, bias], linear, options)

    output = graph.activation(f"{layer.name}/out", (1, size, size, channels))
    if native_prelu:
        slope = graph.constant(f"{layer.name}/slope", layer.slope.reshape(1, 1, -1).astype(np.float32))
        graph.append(Op.PRELU, [linear, slope], output)
    else:
        if (layer.slope > 1).any():
            raise ValueError(f"{layer.name}: slopes above one; call limit_slopes first")
        bend = graph.activation(f"{layer.name}/bend", (1, size, size, channels))
        slope = graph.constant(f"{layer.name}/slope", (layer.slope - 1).astype(np.float32))
        graph.append(Op.MUL, [linear, slope], bend, multiply(RELU))
        graph.append(Op.ADD, [linear, bend], output, add())
    return output, size


def equalisation_steps(
    network: Network, peaks: list[np.ndarray], per_octave: int
) -> list[list[int]]:
    """Chooses channel scales from measured peaks, as whole steps.

    A channel's scale only matters to a reader that cannot undo it: in front
    of a depthwise layer, which has one int8 range for all channels of its
    input, ranges are made fully equal; in front of a pointwise layer only by
    half, since there the weights of the reader suffer in turn. Whole steps
    keep the result the same on every machine.
    """
    steps = []
    for index, peak in enumerate(peaks):
        floor = np.percentile(peak, 2) + 1e-6
        octaves = np.log2(np.maximum(peak, floor))
        following = network.layers[index + 1 : index + 2]
        strength = 1.0 if following and following[0].is_depthwise else 0.5
        wanted = -strength * (octaves - octaves.mean())
        steps.append([int(step) for step in np.round(wanted * per_octave)])
    return steps
