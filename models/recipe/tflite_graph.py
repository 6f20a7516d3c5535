"""A small editor for single-subgraph TFLite files.

Everything the recipe does to a network before quantisation goes through
`Graph`: read a file or start empty, add tensors and operators, replace
constants, write the result with a signature (the quantiser addresses inputs
by signature).
"""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

Op = schema.BuiltinOperator
RELU = schema.ActivationFunctionType.RELU
LINEAR = schema.ActivationFunctionType.NONE
SAME = schema.Padding.SAME
VALID = schema.Padding.VALID

_NUMPY_TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
}
_TENSOR_TYPES = {np.dtype(v): k for k, v in _NUMPY_TYPES.items()}


class Graph:
    """One TFLite subgraph. Tensors are named by their index, as in the file."""

    def __init__(self, model: schema.ModelT) -> None:
        if len(model.subgraphs) != 1:
            raise ValueError(f"expected one subgraph, found {len(model.subgraphs)}")
        self.model = model
        self.body = model.subgraphs[0]
        # Files older than schema version 3a carry only the deprecated field,
        # and the quantiser reads only the new one.
        for entry in model.operatorCodes:
            entry.builtinCode = max(entry.builtinCode, entry.deprecatedBuiltinCode)

    @classmethod
    def load(cls, path: Path) -> Graph:
        return cls(schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0))

    @classmethod
    def empty(cls) -> Graph:
        model = schema.ModelT()
        model.version = 3
        model.operatorCodes = []
        model.buffers = [schema.BufferT()]  # buffer 0 means "no data"
        body = schema.SubGraphT()
        body.name = "main"
        body.tensors, body.operators = [], []
        body.inputs, body.outputs = [], []
        model.subgraphs = [body]
        return cls(model)

    # Tensors

    def name(self, tensor: int) -> str:
        name = self.body.tensors[tensor].name
        return name.decode() if isinstance(name, bytes) else name

    def shape(self, tensor: int) -> list[int]:
        return [int(extent) for extent in self.body.tensors[tensor].shape]

    def is_constant(self, tensor: int) -> bool:
        data = self.model.buffers[self.body.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def values(self, tensor: int) -> np.ndarray:
        """A copy of a constant's values."""
        entry = self.body.tensors[tensor]
        data = self.model.buffers[entry.buffer].data
        if data is None:
            raise ValueError(f"tensor {self.name(tensor)!r} is not a constant")
        flat = np.frombuffer(bytes(bytearray(data)), _NUMPY_TYPES[entry.type])
        return flat.reshape(self.shape(tensor)).copy()

    def set_values(self, tensor: int, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        entry = self.body.tensors[tensor]
        entry.buffer = len(self.model.buffers) - 1
        entry.type = _TENSOR_TYPES[values.dtype]
        entry.shape = [int(extent) for extent in values.shape]

    def constant(self, name: str, values: np.ndarray) -> int:
        tensor = self.activation(name, values.shape)
        self.set_values(tensor, values)
        return tensor

    def activation(self, name: str, shape: tuple[int, ...] | list[int]) -> int:
        entry = schema.TensorT()
        entry.type = schema.TensorType.FLOAT32
        entry.name = name
        entry.shape = [int(extent) for extent in shape]
        entry.buffer = 0
        self.body.tensors.append(entry)
        return len(self.body.tensors) - 1

    # Operators

    def code(self, operator: schema.OperatorT) -> int:
        return self.model.operatorCodes[operator.opcodeIndex].builtinCode

    def operator(self, code: int, inputs: list[int], output: int, options=None) -> schema.OperatorT:
        """Makes an operator without placing it; see `append`."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code_index(code)
        operator.inputs, operator.outputs = list(inputs), [output]
        operator.builtinOptions = options
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        return operator

    def append(self, code: int, inputs: list[int], output: int, options=None) -> int:
        self.body.operators.append(self.operator(code, inputs, output, options))
        return output

    def _code_index(self, code: int) -> int:
        for index, entry in enumerate(self.model.operatorCodes):
            if entry.builtinCode == code:
                return index
        entry = schema.OperatorCodeT()
        entry.builtinCode = code
        entry.deprecatedBuiltinCode = min(code, 127)
        entry.version = 1
        self.model.operatorCodes.append(entry)
        return len(self.model.operatorCodes) - 1

    # Whole graph

    def save(self, path: Path) -> None:
        self._drop_unused()
        self._sign()
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(builder.Output()))

    def _drop_unused(self) -> None:
        body = self.body
        used = set(body.inputs) | set(body.outputs)
        for operator in body.operators:
            used |= {t for t in (*operator.inputs, *operator.outputs) if t >= 0}
        kept = sorted(used)
        renumbered = {old: new for new, old in enumerate(kept)} | {-1: -1}
        body.tensors = [body.tensors[t] for t in kept]
        body.inputs = [renumbered[t] for t in body.inputs]
        body.outputs = [renumbered[t] for t in body.outputs]
        for operator in body.operators:
            operator.inputs = [renumbered[t] for t in operator.inputs]
            operator.outputs = [renumbered[t] for t in operator.outputs]

        buffers = sorted({0} | {entry.buffer for entry in body.tensors})
        moved = {old: new for new, old in enumerate(buffers)}
        self.model.buffers = [self.model.buffers[b] for b in buffers]
        for entry in body.tensors:
            entry.buffer = moved[entry.buffer]
        self.model.metadata = None
        self.model.metadataBuffer = None

    def _sign(self) -> None:
        def entries(tensors: list[int]) -> list[schema.TensorMapT]:
            mapped = []
            for tensor in tensors:
                entry = schema.TensorMapT()
                entry.name, entry.tensorIndex = self.name(tensor), int(tensor)
                mapped.append(entry)
            return mapped

        signature = schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.subgraphIndex = 0
        signature.inputs = entries(self.body.inputs)
        signature.outputs = entries(self.body.outputs)
        self.model.signatureDefs = [signature]


def convolution(stride: int, padding: int, activation: int = LINEAR) -> schema.Conv2DOptionsT:
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = stride
    options.dilationHFactor = options.dilationWFactor = 1
    options.padding, options.fusedActivationFunction = padding, activation
    return options


def depthwise(stride: int, padding: int, activation: int = LINEAR) -> schema.DepthwiseConv2DOptionsT:
    options = schema.DepthwiseConv2DOptionsT()
    options.strideH = options.strideW = stride
    options.dilationHFactor = options.dilationWFactor = 1
    options.depthMultiplier = 1
    options.padding, options.fusedActivationFunction = padding, activation
    return options


def multiply(activation: int = LINEAR) -> schema.MulOptionsT:
    options = schema.MulOptionsT()
    options.fusedActivationFunction = activation
    return options


def add(activation: int = LINEAR) -> schema.AddOptionsT:
    options = schema.AddOptionsT()
    options.fusedActivationFunction = activation
    return options
