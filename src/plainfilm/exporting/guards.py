"""What an ONNX file may hold before it is run: known operators, its own tensors, and results of a bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from plainfilm.errors import BundleError

if TYPE_CHECKING:
    import onnx

MAX_NODES = 50_000
MAX_VALUES = 1 << 28  # in one result of a batch of `TRIED`; the largest of VGG-16 at 224x224 has 51 million
TRIED = 16  # images for which the sizes of all results are worked out
SMALL = 1024  # values; larger tensors play no part in shapes
DOMAINS = ("", "ai.onnx")


def check_graph(model: onnx.ModelProto) -> None:
    """Refuse a graph that reads other files, calls operators that are not ONNX's own, or asks for too much.

    Raises:
        BundleError: `BUN_OPERATOR`, `BUN_OUTSIDE`, `BUN_DAMAGED`, `BUN_TOO_LARGE` or `BUN_NOT_FINITE`.
    """
    _check_operators(model)
    for tensor in _tensors(model.graph):
        _check_tensor(tensor)
    _check_sizes(model)


def _check_operators(model: onnx.ModelProto) -> None:
    from onnx import defs

    if model.functions or any(entry.domain not in DOMAINS for entry in model.opset_import):
        raise BundleError("the ONNX file brings operators of its own; only ONNX's are run.", code="BUN_OPERATOR")
    if len(model.graph.node) > MAX_NODES:
        raise BundleError(f"the ONNX file has more than {MAX_NODES:,} nodes.", code="BUN_TOO_LARGE")
    for node in model.graph.node:
        if node.domain not in DOMAINS or not defs.has(node.op_type):
            raise BundleError("the ONNX file has an operator that is not ONNX's own.", code="BUN_OPERATOR")
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise BundleError("the ONNX file has loops or branches; no export of ours does.", code="BUN_OPERATOR")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the file holds."""
    if graph.sparse_initializer or any(a.HasField("sparse_tensor") for node in graph.node for a in node.attribute):
        raise BundleError("the ONNX file has sparse tensors; no export of ours does.", code="BUN_OPERATOR")
    yield from graph.initializer
    for attribute in chain.from_iterable(node.attribute for node in graph.node):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def _check_tensor(tensor: onnx.TensorProto) -> None:
    from onnx import TensorProto, helper, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise BundleError("the ONNX file wants tensors from other files; those are not read.", code="BUN_OUTSIDE")
    try:
        size = prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError):
        raise BundleError("the ONNX file has a tensor of an unknown type.", code="BUN_DAMAGED") from None
    if min(tensor.dims, default=0) < 0 or size > tensor.ByteSize() * 8:  # fields other than raw_data pack tighter
        raise BundleError("the ONNX file declares a tensor larger than what it holds.", code="BUN_DAMAGED")
    try:
        values = numpy_helper.to_array(tensor)
    except (TypeError, ValueError):
        raise BundleError("the ONNX file has a tensor that is not sound.", code="BUN_DAMAGED") from None
    # Masks of attention are infinite on purpose, and small: a weight is not.
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise BundleError("the ONNX file holds values that are no numbers.", code="BUN_NOT_FINITE")


def _check_sizes(model: onnx.ModelProto) -> None:
    """Work out the shape of every result for a batch, from a copy without the weights."""
    import onnx

    outline = _outline(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(outline, strict_mode=True, data_prop=True)
    except Exception:  # what onnx raises for graphs that are not sound is of many kinds
        raise BundleError("the ONNX file is not a sound graph.", code="BUN_DAMAGED") from None
    shapes = {value.name: _shape(value) for value in chain(inferred.graph.value_info, inferred.graph.output)}
    for node in model.graph.node:
        for name in filter(None, node.output):
            shape = shapes.get(name)
            if shape is None:
                raise BundleError("the ONNX file has results of a size that cannot be foreseen.", code="BUN_TOO_LARGE")
            if prod(shape) > MAX_VALUES:
                raise BundleError(f"the ONNX file asks for more than {MAX_VALUES:,} values.", code="BUN_TOO_LARGE")


def _outline(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph for a batch of `TRIED`, its large tensors replaced by their shapes, and no shape taken on trust."""
    import onnx

    graph = onnx.GraphProto(name="outline", node=model.graph.node)
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        sides = [TRIED if index == 0 else dim.dim_value for index, dim in enumerate(dims)]
        graph.input.append(onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, sides))
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for value in model.graph.output:
        graph.output.append(onnx.ValueInfoProto(name=value.name))
    return onnx.ModelProto(graph=graph, opset_import=model.opset_import, ir_version=model.ir_version)


def _shape(value: Any) -> tuple[int, ...] | None:
    """All sides of a value; None where one is not known."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    if any(not dim.HasField("dim_value") or dim.dim_value < 0 for dim in kind.shape.dim):
        return None
    return tuple(dim.dim_value for dim in kind.shape.dim)
