"""ONNX forms of operators that torch's exporter translates for one size of image only, not at all, or into operators
that a runtime gets wrong; each is exact up to rounding, for every size.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import FLOAT, INT64, ir
from onnxscript.onnx_opset import opset20

op: Any = opset20


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the forms by the operator that they stand for, as torch.onnx.export takes them."""
    aten = torch.ops.aten
    return {
        operator.floordiv: floor_division,
        aten.adaptive_avg_pool2d.default: grid_pooling,
        aten._adaptive_avg_pool2d.default: grid_pooling,
        aten._upsample_bicubic2d_aa.default: antialiased_bicubic,
    }


def floor_division(number: INT64, divisor: INT64) -> INT64:
    """Divide and round down; ONNX rounds towards zero, which differs in ``-(-height // 2)``."""
    return op.Div(op.Sub(number, op.Mod(number, divisor)), divisor)  # type: ignore[no-any-return]


def grid_pooling(x: FLOAT, output_size: Sequence[int]) -> FLOAT:
    """Average (N, C, H, W) over a grid of cells: the product with one matrix for rows and one for columns."""
    rows, columns = output_size
    if rows == columns == 1:
        return op.ReduceMean(x, _ints(2, 3), keepdims=1)  # type: ignore[no-any-return]
    down = _cells(op.Shape(x, start=2, end=3), rows)  # (rows, H)
    across = _cells(op.Shape(x, start=3, end=4), columns)  # (columns, W)
    return op.MatMul(op.MatMul(down, x), op.Transpose(across, perm=[1, 0]))  # type: ignore[no-any-return]


def _cells(length: INT64, count: int) -> Any:
    """Return (count, length): the share that each pixel has in each cell, which may overlap its neighbours."""
    index = op.Constant(value=ir.tensor([[cell] for cell in range(count)], dtype=ir.DataType.INT64))
    number = op.Constant(value_int=count)
    start = op.Div(op.Mul(index, length), number)
    stop = op.Div(op.Add(op.Mul(op.Add(index, _ints(1)), length), _ints(count - 1)), number)
    pixel = _positions(length)
    inside = op.And(op.GreaterOrEqual(pixel, start), op.Less(pixel, stop))
    return op.Div(op.Cast(inside, to=ir.DataType.FLOAT), op.Cast(op.Sub(stop, start), to=ir.DataType.FLOAT))


def antialiased_bicubic(
    x: FLOAT,
    output_size: INT64,
    align_corners: bool,  # noqa: ARG001 - torch ignores it here
    scales_h: float | None = None,  # noqa: ARG001
    scales_w: float | None = None,  # noqa: ARG001
) -> FLOAT:
    """Resize (N, C, H, W) with a cubic filter as wide as the step between samples: again two products.

    OpenVINO reads ONNX's own operator for this and leaves out the filter.
    """
    down = _filters(op.Shape(x, start=2, end=3), op.Slice(output_size, _ints(0), _ints(1)))
    across = _filters(op.Shape(x, start=3, end=4), op.Slice(output_size, _ints(1), _ints(2)))
    return op.MatMul(op.MatMul(down, x), op.Transpose(across, perm=[1, 0]))  # type: ignore[no-any-return]


def _filters(length: INT64, wanted: INT64) -> Any:
    """Return (wanted, length): the weight of each pixel in each sample, Keys' kernel with a = -0.5."""
    scale = op.Div(op.Cast(length, to=ir.DataType.FLOAT), op.Cast(wanted, to=ir.DataType.FLOAT))
    half = _floats(0.5)
    centre = op.Mul(op.Add(op.Cast(_positions(wanted), to=ir.DataType.FLOAT), half), scale)
    pixel = op.Add(op.Cast(_positions(length), to=ir.DataType.FLOAT), half)
    gap = op.Sub(op.Unsqueeze(pixel, _ints(0)), op.Unsqueeze(centre, _ints(1)))
    d = op.Abs(op.Div(gap, op.Max(scale, _floats(1.0))))
    square = op.Mul(d, d)
    cube = op.Mul(square, d)
    near = op.Add(op.Sub(op.Mul(_floats(1.5), cube), op.Mul(_floats(2.5), square)), _floats(1.0))
    far = op.Add(
        op.Sub(op.Mul(_floats(2.5), square), op.Mul(half, cube)), op.Sub(_floats(2.0), op.Mul(_floats(4.0), d))
    )
    weights = op.Where(op.Less(d, _floats(1.0)), near, op.Where(op.Less(d, _floats(2.0)), far, _floats(0.0)))
    return op.Div(weights, op.ReduceSum(weights, _ints(1), keepdims=1))


def _positions(length: INT64) -> Any:
    """Return 0, 1, ..., length - 1 for a length of shape (1,)."""
    return op.Range(op.Constant(value_int=0), op.Squeeze(length), op.Constant(value_int=1))


def _ints(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


def _floats(value: float) -> Any:
    return op.Constant(value_float=value)
