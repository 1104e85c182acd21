"""What is refused, with which error and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import cutplan

X = torch.linspace(-3, 3, 24).reshape(4, 6)


def call(x: Any = X, dtype: Any = "int8", **options: Any) -> Callable[[], object]:
    return lambda: cutplan.quantize(x, dtype, **options)


def dequantize(
    out_dtype: Any = "float32", like: dict[str, Any] | None = None, **changes: Any
) -> Callable[[], object]:
    q = cutplan.quantize(X, "int8", **(like or {}))._replace(**changes)
    return lambda: cutplan.dequantize(q, out_dtype)


ONE = torch.ones(1)
REFUSED = [
    (
        call(dtype="float32"),
        cutplan.Unsupported,
        "dtype: one of int8, int4, float8_e4m3fn, float8_e5m2 required, got float32",
    ),
    (call(dtype="int16"), TypeError, "dtype: must be an element type"),
    (
        call(X.double()),
        cutplan.Unsupported,
        "operand x: one of float16, bfloat16, float32 required, whose elements float32 holds, got float64",
    ),
    (
        call(X.int()),
        cutplan.Unsupported,
        "operand x: one of float16, bfloat16, float32 required, whose elements float32 holds, got int32",
    ),
    (
        call(dtype="float8_e5m2", symmetric=False),
        cutplan.Unsupported,
        "symmetric: True required with float8_e5m2, which has no zero point, got False; int8 "
        "and int4 have one",
    ),
    (
        call(granularity="rows"),
        ValueError,
        "granularity: must be one of 'tensor', 'row', 'column', 'group', 'block'; got 'rows'",
    ),
    (
        call(granularity="group"),
        cutplan.InvalidProblem,
        "group_size: elements that share a scale, at least 1, required with granularity "
        "'group', got 0; 128 is usual",
    ),
    (
        call(granularity="block", group_size=-1),
        cutplan.InvalidProblem,
        "group_size: elements that share a scale, at least 1, required with granularity "
        "'block', got -1; 128 is usual",
    ),
    (
        call(granularity="row", group_size=4),
        cutplan.InvalidProblem,
        "group_size: none required with granularity 'row', got 4; granularity 'group' or 'block' has one",
    ),
    (
        call(granularity="group", group_size=2**41),
        cutplan.InvalidProblem,
        "group_size: at most 2^40 required, got 2199023255552",
    ),
    (
        call(granularity="group", group_size=4, axis=0),
        cutplan.InvalidProblem,
        "axis: -1, along a row, or -2, along a column, required with granularity 'group', got 0",
    ),
    (
        call(axis=-2),
        cutplan.InvalidProblem,
        "axis: -1 required with granularity 'tensor', got -2; groups alone have one",
    ),
    (
        call(X[:, :5], "int4"),
        cutplan.InvalidProblem,
        "columns: an even number required with int4, two of which are one byte, got 5; pad to 6",
    ),
    (
        call(dtype="int4", granularity="group", group_size=3),
        cutplan.InvalidProblem,
        "group_size: an even number required with int4, two of which are one byte, got 3; 4 is the next",
    ),
    (
        call(scale=torch.ones(2)),
        cutplan.ShapeMismatch,
        "operand scale: shape [1] (one of all) required, got [2]",
    ),
    (
        call(scale=torch.ones(5), granularity="row"),
        cutplan.ShapeMismatch,
        "operand scale: shape [4] (rows) required, got [5]",
    ),
    (
        call(scale=torch.ones(2, 2), granularity="block", group_size=4),
        cutplan.ShapeMismatch,
        "operand scale: shape [1, 2] (blocks of rows, blocks of columns) required, got [2, 2]",
    ),
    (
        call(X[None].expand(2, 4, 6), scale=ONE, granularity="column"),
        cutplan.ShapeMismatch,
        "operand scale: shape [2, 6] (batch, columns) required, got [1]",
    ),
    (
        call(scale=ONE.double()),
        cutplan.DTypeMismatch,
        "operand scale: dtype float32 required, got float64; cutplan never casts: convert it",
    ),
    (call(scale=ONE, symmetric=False), cutplan.MissingOperand, "operand zero: required, not given"),
    (
        call(scale=ONE, zero=ONE, symmetric=False),
        cutplan.DTypeMismatch,
        "operand zero: dtype int32 required, got float32",
    ),
    (
        call(scale=ONE, zero=ONE.int()),
        cutplan.MissingOperand,
        "operand zero: given, but the plan was selected without it; select with "
        "QuantizeDescriptor(symmetric=False)",
    ),
    (
        call(zero=ONE.int(), symmetric=False),
        cutplan.MissingOperand,
        "operand scale: required with zero, not given",
    ),
    (
        call(amax=torch.ones(3), granularity="row"),
        cutplan.ShapeMismatch,
        "operand amax: shape [4] (rows) required, got [3]",
    ),
    (call(amax=ONE.half()), cutplan.DTypeMismatch, "operand amax: dtype float32 required, got float16"),
    (
        call(amax=X[0], granularity="column"),
        cutplan.Overlap,
        "operand amax: must not share memory with operand x",
    ),
    (
        call(X.T),
        cutplan.LayoutMismatch,
        "operand x: a contiguous last dimension and strides >= 0 required, got stride 6",
    ),
    (call(X[0]), cutplan.ShapeMismatch, "operand x: rank 2 or 3 required, got [6]"),
    (
        call(torch.ones(2, 3, 4, 5).transpose(0, 1)),
        cutplan.LayoutMismatch,
        "operand x: leading dimensions that one stride steps through required, got strides "
        "[20, 60, 5, 1] of [3, 2, 4, 5]; pass a contiguous copy, or one of three dimensions",
    ),
    (call(X.to("meta")), cutplan.Error, ""),
    (
        dequantize("float64"),
        cutplan.Unsupported,
        "operand out: one of float16, bfloat16, float32 required, whose elements float32 holds, got float64",
    ),
    (
        dequantize(scale=torch.ones(3)),
        cutplan.ShapeMismatch,
        "operand scale: shape [1] (one of all) required, got [3]",
    ),
    (
        dequantize(zero=torch.zeros(1)),
        cutplan.DTypeMismatch,
        "operand zero: dtype int32 required, got float32",
    ),
    (dequantize(data=X), cutplan.DTypeMismatch, "operand data: dtype int8 required, got float32"),
    (dequantize(dtype="int4"), cutplan.DTypeMismatch, "operand data: dtype uint8 required, got int8"),
    (
        dequantize(granularity="row"),
        cutplan.ShapeMismatch,
        "operand scale: shape [4] (rows) required, got [1]",
    ),
    (
        lambda: cutplan.dequantize((X, ONE), "float32"),
        TypeError,
        "q: a Quantized required, as quantize() returns it, got tuple",
    ),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("case", REFUSED, ids=[f"{i}" for i in range(len(REFUSED))])
def test_refusals(case: tuple[Callable[[], object], type[Exception], str]) -> None:
    refused, error, words = case
    with pytest.raises(error) as caught:
        refused()
    assert words in str(caught.value)


def test_what_plans_refuse() -> None:
    descriptor = cutplan.QuantizeDescriptor(rows=4, columns=6, x="float32", dtype="int8")
    plan = cutplan.QuantizePlan.select(descriptor, "cpu")
    data, scale = torch.empty(4, 6, dtype=torch.int8), torch.empty(1)
    with pytest.raises(cutplan.MissingOperand, match=r"amax.*QuantizeDescriptor\(amax=True\)"):
        plan.run(X, data, scale, amax=scale)
    with pytest.raises(
        cutplan.DTypeMismatch, match="operand data: dtype int8 required by the descriptor, got uint8"
    ):
        plan.run(X, data.view(torch.uint8), scale)
    with pytest.raises(
        cutplan.ShapeMismatch, match=r"operand data: shape \[4, 6\] \(rows, columns\) required"
    ):
        plan.can_implement(X, data[:3], scale)
    with pytest.raises(cutplan.Overlap, match="operand data: must not share memory with operand x"):
        plan.run(X, X.view(torch.int8)[:, :6], scale)
    with pytest.raises(cutplan.Overlap, match="operand scale: its elements must not share memory"):
        row = cutplan.QuantizeDescriptor(rows=4, columns=6, x="float32", dtype="int8", granularity="row")
        cutplan.QuantizePlan.select(row, "cpu").run(X, data, scale.expand(4))
    read_only = np.empty(1, np.float32)
    read_only.flags.writeable = False
    with pytest.raises(cutplan.ReadOnly, match="operand scale: must be writable"):
        plan.run(X.numpy(), data.numpy(), read_only)
    plan.can_implement(X, data, scale)
    with pytest.raises(cutplan.InvalidProblem, match="rows: an extent >= 0 required, got -1"):
        cutplan.QuantizePlan.select(
            cutplan.QuantizeDescriptor(rows=-1, columns=6, x="float32", dtype="int8"), "cpu"
        )


@pytest.mark.cuda
def test_extents_beyond_those_of_kernels() -> None:
    for words, fields in (
        ("2.31 scales or more", {"rows": 2**16, "columns": 2**16, "granularity": "group", "group_size": 2}),
        ("2.31 rows or more", {"rows": 2**31, "columns": 2}),
        ("rows of 2.30 elements or more", {"rows": 1, "columns": 2**30, "granularity": "row"}),
        (
            "blocks of 2.30 elements or more",
            {"rows": 2**20, "columns": 2**20, "granularity": "block", "group_size": 2**20},
        ),
    ):
        descriptor = cutplan.QuantizeDescriptor(x="float16", dtype="int8", **fields)  # type: ignore[arg-type]
        with pytest.raises(cutplan.Unsupported, match=words):
            cutplan.QuantizePlan.select(descriptor, "cuda")
