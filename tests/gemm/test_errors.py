"""Bad input, one row each: the error's type and text, an untouched output, and a next call that works."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from tests.gemm.problems import (
    TORCH,
    Options,
    Problem,
    Shape,
    askew,
    flipped,
    generator,
    lend,
    random_values,
)
from tests.oracle import Product, complaint, reference

M, N, K = 48, 40, 32
Call = dict[str, Any]


@dataclass(frozen=True)
class Bad:
    """One way to misuse `plan.run`, as a change to the arguments of a good call."""

    name: str
    error: str
    says: tuple[str, ...]  # patterns that the message must all contain
    change: Callable[[Call], Call]
    epilogue: dict[str, Any] = field(default_factory=dict)  # of the plan


def replace(**new: Callable[[Call], Any]) -> Callable[[Call], Call]:
    return lambda call: {**call, **{name: make(call) for name, make in new.items()}}


def other_device(x: torch.Tensor) -> torch.Tensor:
    return x.cpu() if x.is_cuda else x.cuda()


def every_second(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, x], dim=-1)[..., ::2]


def inside(d: torch.Tensor, rows: int, cols: int, dtype: torch.dtype) -> torch.Tensor:
    """A matrix that lies on D's own memory."""
    return d.view(-1).view(dtype).as_strided((rows, cols), (1, rows))


WITH_BIAS = {"bias": "float16"}
WITH_C = {"c": "float16"}
WITH_BIAS_OVER_M = {"bias": "float16", "bias_over": "m"}
WITH_RESIDUAL = {"residual": "float16"}
WITH_SCALES = {"row_scale": True, "column_scale": True}
STORING = {"store": "float16", "activation": "silu"}
GRADIENT = {"gradient": "float16", "activation": "silu"}
GATED = {"gate": "separate", "bias": "float16"}
INTERLEAVED = {"gate": "interleaved", "bias": "float16"}

BAD_CALLS = [
    # rank and shape
    Bad(
        "a_rank_1",
        "ShapeMismatch",
        ("operand a", rf"\[{M}, {K}\]", "required", rf"got \[{K}\]"),
        replace(a=lambda x: x["a"][0]),
    ),
    Bad("a_rank_4", "ShapeMismatch", ("operand a", "got"), replace(a=lambda x: x["a"][None, None])),
    Bad(
        "a_rows",
        "ShapeMismatch",
        ("operand a", rf"\[{M}, {K}\]", rf"got \[{M - 1}, {K}\]"),
        replace(a=lambda x: x["a"][:-1]),
    ),
    Bad("a_transposed", "ShapeMismatch", ("operand a", rf"got \[{K}, {M}\]"), replace(a=lambda x: x["a"].T)),
    Bad(
        "b_k",
        "ShapeMismatch",
        ("operand b", rf"\[{K}, {N}\]", rf"got \[{K - 8}, {N}\]"),
        replace(b=lambda x: x["b"][:-8]),
    ),
    Bad(
        "d_columns",
        "ShapeMismatch",
        ("operand d", rf"got \[{M}, {N - 8}\]"),
        replace(d=lambda x: x["d"][:, :-8]),
    ),
    Bad(
        "a_batched",
        "ShapeMismatch",
        ("operand a", rf"got \[2, {M}, {K}\]"),
        replace(a=lambda x: x["a"].expand(2, M, K)),
    ),
    Bad(
        "bias_short",
        "ShapeMismatch",
        ("operand bias", rf"\[{N}\]", rf"got \[{N - 1}\]"),
        replace(bias=lambda x: x["bias"][:-1]),
        WITH_BIAS,
    ),
    Bad(
        "bias_rank_2",
        "ShapeMismatch",
        ("operand bias", rf"got \[1, {N}\]"),
        replace(bias=lambda x: x["bias"][None]),
        WITH_BIAS,
    ),
    Bad(
        "c_rows",
        "ShapeMismatch",
        ("operand c", rf"got \[{M - 1}, {N}\]"),
        replace(c=lambda x: x["c"][:-1]),
        WITH_C,
    ),
    # dtype
    Bad(
        "a_dtype",
        "DTypeMismatch",
        ("operand a", "float16 required", "got bfloat16"),
        replace(a=lambda x: x["a"].bfloat16()),
    ),
    Bad(
        "b_dtype",
        "DTypeMismatch",
        ("operand b", "float16 required", "got float32"),
        replace(b=lambda x: x["b"].float()),
    ),
    Bad(
        "d_dtype",
        "DTypeMismatch",
        ("operand d", "float16 required", "got bfloat16"),
        replace(d=lambda x: x["d"].view(torch.bfloat16)),
    ),
    Bad(
        "bias_dtype",
        "DTypeMismatch",
        ("operand bias", "got float32"),
        replace(bias=lambda x: x["bias"].float()),
        WITH_BIAS,
    ),
    Bad(
        "c_dtype", "DTypeMismatch", ("operand c", "got float32"), replace(c=lambda x: x["c"].float()), WITH_C
    ),
    Bad("a_integers", "DTypeMismatch", ("operand a", "got int32"), replace(a=lambda x: x["a"].int())),
    # layout
    Bad(
        "b_row_major",
        "LayoutMismatch",
        ("operand b", "column-major", "got"),
        replace(b=lambda x: x["b"].contiguous()),
    ),
    Bad(
        "a_column_major",
        "LayoutMismatch",
        ("operand a", "row-major", "got"),
        replace(a=lambda x: x["a"].T.contiguous().T),
    ),
    Bad("a_every_second", "LayoutMismatch", ("operand a", "got"), replace(a=lambda x: every_second(x["a"]))),
    Bad(
        "d_column_major",
        "LayoutMismatch",
        ("operand d", "row-major"),
        replace(d=lambda x: x["d"].view(-1)[: M * N].view(N, M).T),
    ),
    Bad(
        "bias_every_second",
        "LayoutMismatch",
        ("operand bias", "contiguous", "got stride 2"),
        replace(bias=lambda x: every_second(x["bias"])),
        WITH_BIAS,
    ),
    # presence
    Bad(
        "bias_missing",
        "MissingOperand",
        ("operand bias", "required", "not given"),
        replace(bias=lambda x: None),
        WITH_BIAS,
    ),
    Bad(
        "c_missing",
        "MissingOperand",
        ("operand c", "required", "not given"),
        replace(c=lambda x: None, beta=lambda x: 0.0),
        WITH_C,
    ),
    Bad(
        "bias_unexpected",
        "MissingOperand",
        ("operand bias", "without it", r"Epilogue\(bias=True\)"),
        replace(bias=lambda x: x["a"][0].new_zeros(N)),
    ),
    Bad(
        "c_unexpected",
        "MissingOperand",
        ("operand c", "without it", r"Epilogue\(c=True\)"),
        replace(c=lambda x: x["a"].new_zeros(M, N), beta=lambda x: 0.0),
    ),
    Bad("d_missing", "MissingOperand", ("operand d",), replace(d=lambda x: None)),
    # scalars
    Bad("alpha_nan", "InvalidProblem", ("alpha", "finite", "got nan"), replace(alpha=lambda x: math.nan)),
    Bad(
        "alpha_infinite", "InvalidProblem", ("alpha", "finite", "got inf"), replace(alpha=lambda x: math.inf)
    ),
    *(
        Bad(
            f"{scalar}_{value}",
            "InvalidProblem",
            (
                scalar,
                "a finite number that float32 holds to 24 bits required",
                f"got {value:g}".replace("+", r"\+"),
            ),
            replace(**{scalar: lambda x, value=value: value}),
            WITH_C,
        )
        for scalar in ("alpha", "beta")
        for value in (1e40, -1e300, 1e-50, -1.5e-45)
    ),
    Bad(
        "beta_nan", "InvalidProblem", ("beta", "finite", "got nan"), replace(beta=lambda x: math.nan), WITH_C
    ),
    Bad(
        "beta_without_c",
        "InvalidProblem",
        ("beta", "without operand c", "got 0.5"),
        replace(beta=lambda x: 0.5),
    ),
    # outputs that may not be written, or not without harm
    Bad(
        "d_on_a",
        "Overlap",
        ("operand d", "operand a"),
        replace(a=lambda x: x["d"].view(-1).as_strided((M, K), (K, 1))),
    ),
    Bad(
        "d_on_b",
        "Overlap",
        ("operand d", "operand b"),
        replace(b=lambda x: inside(x["d"], K, N, torch.float16)),
    ),
    Bad("d_on_bias", "Overlap", ("operand d", "operand bias"), replace(bias=lambda x: x["d"][7]), WITH_BIAS),
    Bad(
        "d_beside_c",
        "Overlap",
        ("operand d", "operand c"),
        replace(c=lambda x: x["d"].view(-1).as_strided((M, N), (N, 1), x["d"].storage_offset() + 8)),
        WITH_C,
    ),
    Bad(
        "d_on_one_element_of_c",
        "Overlap",
        ("operand d", "operand c"),
        replace(c=lambda x: x["d"][5:6, 7:8].expand(M, N)),
        WITH_C,
    ),
    Bad(
        "d_on_one_column_of_c",
        "Overlap",
        ("operand d", "operand c"),
        replace(c=lambda x: x["d"][:, :1].expand(M, N)),
        WITH_C,
    ),
    Bad(
        "d_on_every_second_of_a_row_of_residual",
        "Overlap",
        ("operand d", "operand residual"),
        replace(residual=lambda x: x["d"].view(-1)[: 2 * N : 2].expand(M, N)),
        WITH_RESIDUAL,
    ),
    Bad(
        "c_every_second",
        "LayoutMismatch",
        ("operand c", "row-major", "or of stride 0", "got stride 2"),
        replace(c=lambda x: every_second(x["c"])),
        WITH_C,
    ),
    Bad(
        "d_of_one_column",
        "LayoutMismatch",
        ("operand d", "row-major", "got stride 0"),
        replace(d=lambda x: x["d"][:, :1].expand(M, N)),
    ),
    Bad("d_on_itself", "Overlap", ("operand d",), replace(d=lambda x: x["d"][:1].expand(M, N))),
    Bad(
        "d_rows_overlap",
        "Overlap",
        ("operand d",),
        replace(d=lambda x: x["d"].view(-1).as_strided((M, N), (N - 8, 1))),
    ),
    # what the producer will not lend
    Bad(
        "a_requires_grad",
        "ExportRefused",
        ("a", "grad", "detach"),
        replace(a=lambda x: x["a"].clone().requires_grad_()),
    ),
    Bad(
        "d_requires_grad",
        "ExportRefused",
        ("d", "grad"),
        replace(d=lambda x: torch.zeros_like(x["d"]).requires_grad_()),
    ),
    # what the epilogue and the gate take
    Bad(
        "bias_over_m_rank_1",
        "ShapeMismatch",
        (
            "operand bias",
            rf"\[{M}, 1\]",
            rf"got \[{M}\]",
        ),
        replace(bias=lambda x: x["bias"][:, 0]),
        WITH_BIAS_OVER_M,
    ),
    Bad(
        "bias_over_m_short",
        "ShapeMismatch",
        (
            "operand bias",
            rf"\[{M}, 1\]",
            rf"got \[{M - 1}, 1\]",
        ),
        replace(bias=lambda x: x["bias"][1:]),
        WITH_BIAS_OVER_M,
    ),
    Bad(
        "bias_over_m_as_a_row",
        "ShapeMismatch",
        (
            "operand bias",
            rf"\[{M}, 1\]",
            rf"got \[1, {M}\]",
        ),
        replace(bias=lambda x: x["bias"].T),
        WITH_BIAS_OVER_M,
    ),
    Bad(
        "bias_over_m_every_second",
        "LayoutMismatch",
        (
            "operand bias",
            "contiguous",
            "got stride 2",
        ),
        replace(bias=lambda x: every_second(x["bias"].T).T),
        WITH_BIAS_OVER_M,
    ),
    Bad(
        "bias_over_m_missing",
        "MissingOperand",
        (
            "operand bias",
            "not given",
        ),
        replace(bias=lambda x: None),
        WITH_BIAS_OVER_M,
    ),
    Bad(
        "residual_columns",
        "ShapeMismatch",
        (
            "operand residual",
            rf"\[{M}, {N}\]",
            rf"got \[{M}, {N - 1}\]",
        ),
        replace(residual=lambda x: x["residual"][:, 1:]),
        WITH_RESIDUAL,
    ),
    Bad(
        "residual_batched",
        "ShapeMismatch",
        (
            "operand residual",
            rf"\[{M}, {N}\]",
            rf"got \[2, {M}, {N}\]",
        ),
        replace(residual=lambda x: x["residual"].expand(2, M, N)),
        WITH_RESIDUAL,
    ),
    Bad(
        "residual_dtype",
        "DTypeMismatch",
        (
            "operand residual",
            "float16 required",
            "got float32",
        ),
        replace(residual=lambda x: x["residual"].float()),
        WITH_RESIDUAL,
    ),
    Bad(
        "residual_column_major",
        "LayoutMismatch",
        (
            "operand residual",
            "row-major",
            "got",
        ),
        replace(residual=lambda x: x["residual"].T.contiguous().T),
        WITH_RESIDUAL,
    ),
    Bad(
        "residual_missing",
        "MissingOperand",
        (
            "operand residual",
            "required",
            "not given",
        ),
        replace(residual=lambda x: None),
        WITH_RESIDUAL,
    ),
    Bad(
        "residual_unexpected",
        "MissingOperand",
        (
            "operand residual",
            "without it",
            r"Epilogue\(residual=True\)",
        ),
        replace(residual=lambda x: x["a"].new_zeros(M, N)),
    ),
    Bad(
        "d_beside_residual",
        "Overlap",
        (
            "operand d",
            "operand residual",
        ),
        replace(residual=lambda x: x["d"].view(-1).as_strided((M, N), (N, 1), x["d"].storage_offset() + 8)),
        WITH_RESIDUAL,
    ),
    Bad(
        "row_scale_short",
        "ShapeMismatch",
        (
            "operand row_scale",
            rf"\[{M}\]",
            rf"got \[{M - 1}\]",
        ),
        replace(row_scale=lambda x: x["row_scale"][1:]),
        WITH_SCALES,
    ),
    Bad(
        "row_scale_rank_2",
        "ShapeMismatch",
        (
            "operand row_scale",
            rf"\[{M}\]",
            rf"got \[1, {M}\]",
        ),
        replace(row_scale=lambda x: x["row_scale"][None]),
        WITH_SCALES,
    ),
    Bad(
        "row_scale_dtype",
        "DTypeMismatch",
        (
            "operand row_scale",
            "float32 required",
            "got float16",
        ),
        replace(row_scale=lambda x: x["row_scale"].half()),
        WITH_SCALES,
    ),
    Bad(
        "row_scale_every_second",
        "LayoutMismatch",
        (
            "operand row_scale",
            "contiguous",
            "got stride 2",
        ),
        replace(row_scale=lambda x: every_second(x["row_scale"])),
        WITH_SCALES,
    ),
    Bad(
        "row_scale_missing",
        "MissingOperand",
        (
            "operand row_scale",
            "required",
            "not given",
        ),
        replace(row_scale=lambda x: None),
        WITH_SCALES,
    ),
    Bad(
        "row_scale_unexpected",
        "MissingOperand",
        (
            "operand row_scale",
            "without it",
            r"Epilogue\(row_scale=True\)",
        ),
        replace(row_scale=lambda x: x["a"].new_zeros(M).float()),
    ),
    Bad(
        "d_on_row_scale",
        "Overlap",
        (
            "operand d",
            "operand row_scale",
        ),
        replace(row_scale=lambda x: x["d"].view(-1)[: 2 * M].view(torch.float32)),
        WITH_SCALES,
    ),
    Bad(
        "column_scale_short",
        "ShapeMismatch",
        (
            "operand column_scale",
            rf"\[{N}\]",
            rf"got \[{N - 1}\]",
        ),
        replace(column_scale=lambda x: x["column_scale"][1:]),
        WITH_SCALES,
    ),
    Bad(
        "column_scale_rank_2",
        "ShapeMismatch",
        (
            "operand column_scale",
            rf"\[{N}\]",
            rf"got \[1, {N}\]",
        ),
        replace(column_scale=lambda x: x["column_scale"][None]),
        WITH_SCALES,
    ),
    Bad(
        "column_scale_dtype",
        "DTypeMismatch",
        (
            "operand column_scale",
            "float32 required",
            "got float16",
        ),
        replace(column_scale=lambda x: x["column_scale"].half()),
        WITH_SCALES,
    ),
    Bad(
        "column_scale_every_second",
        "LayoutMismatch",
        (
            "operand column_scale",
            "contiguous",
            "got stride 2",
        ),
        replace(column_scale=lambda x: every_second(x["column_scale"])),
        WITH_SCALES,
    ),
    Bad(
        "column_scale_missing",
        "MissingOperand",
        (
            "operand column_scale",
            "required",
            "not given",
        ),
        replace(column_scale=lambda x: None),
        WITH_SCALES,
    ),
    Bad(
        "column_scale_unexpected",
        "MissingOperand",
        (
            "operand column_scale",
            "without it",
            r"Epilogue\(column_scale=True\)",
        ),
        replace(column_scale=lambda x: x["a"].new_zeros(N).float()),
    ),
    Bad(
        "d_on_column_scale",
        "Overlap",
        (
            "operand d",
            "operand column_scale",
        ),
        replace(column_scale=lambda x: x["d"].view(-1)[: 2 * N].view(torch.float32)),
        WITH_SCALES,
    ),
    Bad(
        "stored_aux_shape",
        "ShapeMismatch",
        (
            "operand aux",
            rf"\[{M}, {N}\]",
            rf"got \[{M - 1}, {N}\]",
        ),
        replace(aux=lambda x: x["aux"][1:]),
        STORING,
    ),
    Bad(
        "stored_aux_dtype",
        "DTypeMismatch",
        (
            "operand aux",
            "float16 required",
            "got bfloat16",
        ),
        replace(aux=lambda x: x["aux"].bfloat16()),
        STORING,
    ),
    Bad(
        "stored_aux_column_major",
        "LayoutMismatch",
        (
            "operand aux",
            "row-major",
        ),
        replace(aux=lambda x: x["aux"].T.contiguous().T),
        STORING,
    ),
    Bad(
        "stored_aux_missing",
        "MissingOperand",
        (
            "operand aux",
            "required",
            "not given",
        ),
        replace(aux=lambda x: None),
        STORING,
    ),
    Bad(
        "stored_aux_on_d",
        "Overlap",
        (
            "operand aux",
            "operand d",
        ),
        replace(aux=lambda x: x["d"]),
        STORING,
    ),
    Bad(
        "stored_aux_on_a",
        "Overlap",
        (
            "operand aux",
            "operand a",
        ),
        replace(a=lambda x: x["aux"].view(-1).as_strided((M, K), (K, 1))),
        STORING,
    ),
    Bad(
        "stored_aux_on_itself",
        "Overlap",
        ("operand aux",),
        replace(aux=lambda x: x["aux"][:1].expand(M, N)),
        STORING,
    ),
    Bad(
        "aux_unexpected",
        "MissingOperand",
        (
            "operand aux",
            "without it",
            r"Epilogue\(aux=",
        ),
        replace(aux=lambda x: x["a"].new_zeros(M, N)),
    ),
    Bad(
        "gradient_shape",
        "ShapeMismatch",
        (
            "operand aux",
            rf"\[{M}, {N}\]",
            rf"got \[{M}, {N - 1}\]",
        ),
        replace(aux=lambda x: x["aux"][:, 1:]),
        GRADIENT,
    ),
    Bad(
        "gradient_dtype",
        "DTypeMismatch",
        (
            "operand aux",
            "float16 required",
            "got float32",
        ),
        replace(aux=lambda x: x["aux"].float()),
        GRADIENT,
    ),
    Bad(
        "gradient_missing",
        "MissingOperand",
        (
            "operand aux",
            "required",
            "not given",
        ),
        replace(aux=lambda x: None),
        GRADIENT,
    ),
    Bad(
        "d_on_gradient",
        "Overlap",
        (
            "operand d",
            "operand aux",
        ),
        replace(aux=lambda x: x["d"].view(-1).as_strided((M, N), (N, 1), x["d"].storage_offset() + 8)),
        GRADIENT,
    ),
    Bad(
        "b2_shape",
        "ShapeMismatch",
        (
            "operand b2",
            rf"\[{K}, {N}\]",
            rf"got \[{K - 8}, {N}\]",
        ),
        replace(b2=lambda x: x["b2"][8:]),
        GATED,
    ),
    Bad(
        "b2_dtype",
        "DTypeMismatch",
        (
            "operand b2",
            "float16 required",
            "got float32",
        ),
        replace(b2=lambda x: x["b2"].float()),
        GATED,
    ),
    Bad(
        "b2_row_major",
        "LayoutMismatch",
        (
            "operand b2",
            "column-major",
            "got",
        ),
        replace(b2=lambda x: x["b2"].contiguous()),
        GATED,
    ),
    Bad(
        "b2_missing",
        "MissingOperand",
        (
            "operand b2",
            "required",
            "not given",
        ),
        replace(b2=lambda x: None),
        GATED,
    ),
    Bad(
        "b2_unexpected",
        "MissingOperand",
        (
            "operand b2",
            "without it",
            "gate=.separate",
        ),
        replace(b2=lambda x: x["b"]),
    ),
    Bad(
        "b2_beside_interleaved",
        "MissingOperand",
        (
            "operand b2",
            "without it",
        ),
        replace(b2=lambda x: x["b"]),
        INTERLEAVED,
    ),
    Bad(
        "bias2_shape",
        "ShapeMismatch",
        (
            "operand bias2",
            rf"\[{N}\]",
            rf"got \[{N - 1}\]",
        ),
        replace(bias2=lambda x: x["bias2"][1:]),
        GATED,
    ),
    Bad(
        "bias2_dtype",
        "DTypeMismatch",
        (
            "operand bias2",
            "float16 required",
            "got float32",
        ),
        replace(bias2=lambda x: x["bias2"].float()),
        GATED,
    ),
    Bad(
        "bias2_missing",
        "MissingOperand",
        (
            "operand bias2",
            "required",
            "not given",
        ),
        replace(bias2=lambda x: None),
        GATED,
    ),
    Bad(
        "bias2_unexpected",
        "MissingOperand",
        (
            "operand bias2",
            "without it",
        ),
        replace(bias2=lambda x: x["a"][0].new_zeros(N)),
        WITH_BIAS,
    ),
    Bad(
        "d_on_b2",
        "Overlap",
        (
            "operand d",
            "operand b2",
        ),
        replace(b2=lambda x: inside(x["d"], K, N, torch.float16)),
        GATED,
    ),
    Bad(
        "interleaved_b_shape",
        "ShapeMismatch",
        (
            "operand b",
            rf"\[{K}, {2 * N}\]",
            rf"got \[{K}, {N}\]",
        ),
        replace(b=lambda x: x["b"][:, :N]),
        INTERLEAVED,
    ),
    Bad(
        "interleaved_bias_shape",
        "ShapeMismatch",
        (
            "operand bias",
            rf"\[{2 * N}\]",
            rf"got \[{N}\]",
        ),
        replace(bias=lambda x: x["bias"][:N]),
        INTERLEAVED,
    ),
    # not a tensor at all
    Bad("a_list", "ExportRefused", ("operand a", "list"), replace(a=lambda x: [[1.0]])),
]


def good_call(device: str, seed: int, epilogue: dict[str, Any]) -> tuple[Problem, Options, cutplan.GemmPlan]:
    options = Options("float16", **epilogue)
    problem = Problem(Shape(M, N, K), "float16", "rcr", device, generator(device, seed), 16)
    return problem, options, problem.select(options)


def refused(bad: Bad, device: str, seed: int) -> None:
    problem, options, plan = good_call(device, seed, bad.epilogue)
    # A D without padding and with room behind it, so that a test may lay other operands over it.
    memory = torch.full((M + 1, N), torch.nan, dtype=torch.float16, device=device)
    before = memory.view(torch.int16).clone()
    call: Call = {
        **{"a": problem.a, "b": problem.factor(options), "d": memory[:M]},
        **problem.operands(options),
        "c": problem.extra("c", options.c),
        "beta": 1.0 if options.c else 0.0,
    }
    if options.store:
        call["aux"] = torch.zeros(M, N, dtype=torch.float16, device=device)
    changed = bad.change(call)
    for entrance in (plan.run, plan.can_implement):
        with pytest.raises(getattr(cutplan, bad.error)) as caught:
            entrance(changed.pop("a"), changed.pop("b"), changed.pop("d"), **changed)
        assert type(caught.value) is getattr(cutplan, bad.error)
        message = str(caught.value)
        for pattern in bad.says:
            assert re.search(pattern, message), f"{pattern!r} not in {message!r}"
        changed = bad.change(call)
    assert torch.equal(memory.view(torch.int16), before), "d was written"
    assert problem.complaint(plan, options) is None, "the next call is wrong"


@pytest.mark.parametrize("bad", BAD_CALLS, ids=lambda bad: bad.name)
def test_bad_call(bad: Bad, device: str, seed: int) -> None:
    refused(bad, device, seed)


# Every operand, and the epilogue of a plan that takes it.
each_operand = pytest.mark.parametrize(
    ("operand", "epilogue"),
    [
        *((name, {**WITH_BIAS, **WITH_C}) for name in ("a", "b", "d", "c", "bias")),
        ("bias", WITH_BIAS_OVER_M),
        ("residual", WITH_RESIDUAL),
        ("row_scale", WITH_SCALES),
        ("column_scale", WITH_SCALES),
        ("aux", STORING),
        ("aux", GRADIENT),
        ("b2", GATED),
        ("bias2", GATED),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x),
)


@each_operand
def test_an_address_within_an_element(operand: str, epilogue: dict[str, Any], device: str, seed: int) -> None:
    """On a GPU a kernel that read there would end the context, and every later call with it."""
    element = 4 if "scale" in operand else 2
    says = (f"operand {operand}:", f"multiple of {element} bytes", "1 past one")
    bad = Bad("address", "Misaligned", says, replace(**{operand: lambda x: askew(x[operand])}), epilogue)
    refused(bad, device, seed)


@pytest.mark.parametrize("operand", TORCH)
def test_an_address_within_an_element_is_no_alignment(operand: str, device: str, seed: int) -> None:
    """A descriptor cannot be read off it, whatever the type."""
    problem = Problem(Shape(M, N, K), operand, "rrr", device, generator(device, seed))
    other = problem.extra("b2", operand)
    assert other is not None
    factors, d = {"a": problem.a, "b": problem.b, "b2": other}, problem.output(Options(operand)).view
    for name, x in factors.items():
        with pytest.raises(cutplan.Misaligned, match=f"operand {name}: .*multiple of {x.itemsize} bytes"):
            cutplan.describe(**{**factors, "d": d, name: askew(x)})
        with pytest.raises(cutplan.Misaligned, match=f"operand {name}: .*multiple of {x.itemsize} bytes"):
            cutplan.matmul(**{"a": problem.a, "b": problem.b, "out": d, name: askew(x)})


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_flipped_batch(wrapped: bool, device: str, seed: int) -> None:
    """No kernel steps backwards: matmul() runs over such a batch, and a plan names the operand."""
    source = generator(device, seed)
    x, w, c = (random_values(s, False, source).half() for s in ((3, 16, 32), (3, 32, 8), (3, 16, 8)))
    bound = cutplan.GemmPlan.select(
        cutplan.GemmDescriptor(m=16, n=8, k=32, a="float16", epilogue=cutplan.Epilogue(c=True)), device
    ).precision_guarantee
    for backwards in ("a", "b", "c", "ab", "abc"):
        there = {name: t.flip(0) if name in backwards else t for name, t in (("a", x), ("b", w), ("c", c))}
        lent = {
            name: flipped(t, wrapped) if name in backwards else t
            for name, t in (("a", x), ("b", w), ("c", c))
        }
        out = torch.full((3, 16, 8), torch.nan, dtype=torch.float16, device=device)
        cutplan.matmul(**lent, out=out)
        expected = reference(Product.of(there["a"], there["b"]), c=there["c"], beta=1.0)
        assert (what := complaint(out, expected, bound)) is None, f"{backwards}: {what}"
    d = torch.full((3, 16, 8), torch.nan, dtype=torch.float16, device=device)
    plan = cutplan.GemmPlan.select(cutplan.describe(x, w, d), device)
    stream = None if device == "cpu" else torch.cuda.current_stream().cuda_stream
    for name, t in (("a", x), ("b", w), ("d", d)):
        with pytest.raises(cutplan.LayoutMismatch, match=f"operand {name}: .*got stride -"):
            plan.run(**{"a": x, "b": w, "d": d, name: flipped(t, wrapped)}, stream=stream)
    assert d.isnan().all()


@pytest.mark.parametrize("dimension", [0, 1])
def test_strides_beyond_all_memory(dimension: int, device: str, seed: int) -> None:
    """A tensor map counts a step in 40 bits: a plan refuses a longer one by name, and not while it runs."""
    options = Options("float16", c="float16", beta=1.0, residual="float16")
    shape = Shape(M, N, K, batch=2)
    problem = Problem(shape, "float16", "rrr", device, generator(device, seed), 16)
    plan, out = problem.select(options), problem.output(options)
    good = {"a": problem.a, "b": problem.b, "d": out.view, **problem.operands(options)}
    limit = 56 if device == "cpu" else 39
    for operand in ("a", "b", "d", "c", "residual"):
        strides = list(good[operand].stride())
        strides[dimension] = 2 ** (limit - 1)
        far = lend(good[operand], tuple(strides))
        with pytest.raises(cutplan.LayoutMismatch, match=rf"operand {operand}: .*2\^{limit} bytes or more"):
            plan.run(**{**good, operand: far})
    assert not out.touched()
    assert problem.complaint(plan, options) is None


@pytest.mark.cuda
@each_operand
def test_wrong_device(operand: str, epilogue: dict[str, Any], device: str, seed: int) -> None:
    kind = "cpu" if device == "cuda" else "cuda"
    says = (f"operand {operand}", f"must be on {device}", f"got {kind}")
    bad = Bad(
        "device",
        "DeviceMismatch",
        says,
        replace(**{operand: lambda x: other_device(x[operand])}),
        epilogue,
    )
    refused(bad, device, seed)


def test_numpy_output_that_is_read_only(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((8, 8)), random.standard_normal((8, 8))
    d = np.full((8, 8), 7.0)
    d.flags.writeable = False
    plan = cutplan.GemmPlan.select(cutplan.describe(a, b, np.empty((8, 8))), "cpu")
    with pytest.raises(cutplan.ReadOnly, match="operand d.*read-only"):
        plan.run(a, b, d)
    assert (d == 7).all()
    out = np.empty((8, 8))
    plan.run(a, b, out)
    np.testing.assert_allclose(out, a @ b, atol=1e-13)


def test_read_only_inputs_are_fine() -> None:
    a, b = np.eye(8), np.eye(8)
    a.flags.writeable = b.flags.writeable = False
    assert (cutplan.matmul(a, b) == np.eye(8)).all()


@pytest.mark.cuda
@pytest.mark.built("sm80")
def test_gates_that_no_device_serves() -> None:
    """Named, with what works in their place."""
    for layout in ("rrr", "crr"):
        with pytest.raises(cutplan.Unsupported, match="interleaved.*separate"):
            select("cuda", layout=layout, epilogue=cutplan.Epilogue(gate="interleaved"))
    for operand in ("float32", "float64"):
        with pytest.raises(cutplan.Unsupported, match=f"gate.*{operand}|{operand}.*gate"):
            select("cuda", a=operand, epilogue=cutplan.Epilogue(gate="separate"))


@pytest.mark.cuda
def test_misaligned_operand_for_a_forced_kernel(seed: int) -> None:
    _, options, plan = good_call("cuda", seed, {})
    assert plan.sku.alignment == 16
    for operand in "ab":
        odd = Problem(Shape(M, N, K), "float16", "rcr", "cuda", generator("cuda", seed), 16)
        out = odd.output(options)
        late = Problem(Shape(M, N, K, offset=1), "float16", "rcr", "cuda", generator("cuda", seed), 2)
        setattr(odd, operand, getattr(late, operand))
        with pytest.raises(
            cutplan.Misaligned, match=f"operand {operand}: .*multiples of 16 bytes.*got.*alignment=2"
        ):
            odd.enqueue(plan, options, out.view)
        assert not out.touched()
    with pytest.raises(cutplan.Unsupported, match="align"):
        late.select(options, kernel=plan.sku.name)


@pytest.mark.cuda
@pytest.mark.built("sm80")
def test_workspace_is_checked(seed: int) -> None:
    options = Options("float16")
    problem = Problem(Shape(64, 128, 32768), "float16", "rcr", "cuda", generator("cuda", seed), 16)
    plan = problem.select(options, arch="sm80")  # which cuts K into a workspace on every card
    size = plan.workspace_size
    assert size > 0 and plan.sku.split_k > 1
    room = torch.empty(size + 512, dtype=torch.uint8, device="cuda")
    out = problem.output(options)
    for workspace, got in ((None, 0), (room[: size - 1], size - 1), (room[:0], 0)):
        with pytest.raises(cutplan.WorkspaceTooSmall, match=rf"{size} bytes required.*got {got}"):
            problem.enqueue(plan, options, out.view, workspace=workspace)
    for late in (1, 16, 128):
        with pytest.raises(cutplan.WorkspaceTooSmall, match=f"multiple of 256.*{late} "):
            problem.enqueue(plan, options, out.view, workspace=room[late : late + size])
    with pytest.raises(cutplan.DeviceMismatch, match="workspace"):
        problem.enqueue(plan, options, out.view, workspace=torch.empty(size, dtype=torch.uint8))
    assert not out.touched()
    assert problem.complaint(plan, options) is None


def select(device: str, preference: dict[str, Any] | None = None, **descriptor: Any) -> cutplan.GemmPlan:
    fields = {"m": M, "n": N, "k": K, "a": "float16", **descriptor}
    return cutplan.GemmPlan.select(
        cutplan.GemmDescriptor(**fields), device, cutplan.PlanPreference(**(preference or {}))
    )


@pytest.mark.parametrize(
    "error, says, descriptor",
    [
        ("InvalidProblem", ("^m:", ">= 0 required", "got -1"), {"m": -1}),
        ("InvalidProblem", ("^n:", "got -8"), {"n": -8}),
        ("InvalidProblem", ("^k:", "got -2"), {"k": -2}),
        ("InvalidProblem", ("^batch:", "got -3"), {"batch": -3}),
        ("InvalidProblem", ("^k:", "2\\^40", "got"), {"k": 2**50}),
        ("InvalidProblem", ("^alignment:", "power of two", "got 3"), {"alignment": 3}),
        ("InvalidProblem", ("^alignment:", "2 bytes", "got 1"), {"alignment": 1}),
        ("Unsupported", ("operands a and b", "float16 and bfloat16"), {"b": "bfloat16"}),
        ("Unsupported", ("operand d", "float16.*float32.*required", "got float64"), {"d": "float64"}),
        ("Unsupported", ("operand d", "float64 required", "got float32"), {"a": "float64", "d": "float32"}),
        ("Unsupported", ("operands a and b", "float16", "got bool"), {"a": "bool"}),
        ("Unsupported", ("operand c", "got float64"), {"c": "float64", "epilogue": cutplan.Epilogue(c=True)}),
        (
            "Unsupported",
            ("operand bias", "got int32"),
            {"bias": "int32", "epilogue": cutplan.Epilogue(bias=True)},
        ),
        (
            "Unsupported",
            ("operand residual", "got float64"),
            {"residual": "float64", "epilogue": cutplan.Epilogue(residual=True)},
        ),
        (
            "Unsupported",
            ("operand aux", "got int8"),
            {"aux": "int8", "epilogue": cutplan.Epilogue(aux="store")},
        ),
        (
            "InvalidProblem",
            ("^aux:", "an activation required", "got activation 'none'"),
            {"epilogue": cutplan.Epilogue(aux="gradient")},
        ),
        (
            "Unsupported",
            ("^row_scale", "float32", "got float64"),
            {"a": "float64", "epilogue": cutplan.Epilogue(row_scale=True)},
        ),
        (
            "Unsupported",
            ("^column_scale", "float32", "got float64"),
            {"a": "float64", "epilogue": cutplan.Epilogue(column_scale=True)},
        ),
        *(
            ("Unsupported", ("^gate: 'separate'", f"got {what}"), {"epilogue": cutplan.Epilogue(**terms)})
            for what, terms in (
                ("c", {"gate": "separate", "c": True}),
                ("aux", {"gate": "separate", "aux": "store"}),
                ("column_scale", {"gate": "separate", "column_scale": True}),
                ("a bias over m", {"gate": "separate", "bias": "m"}),
            )
        ),
        (
            "Unsupported",
            ("^gate: a row-major d required", "got layout rrc", "rrr works"),
            {"layout": "rrc", "epilogue": cutplan.Epilogue(gate="interleaved")},
        ),
    ],
    ids=lambda x: str(x)[:40],
)
def test_bad_descriptor(error: str, says: tuple[str, ...], descriptor: dict[str, Any], device: str) -> None:
    with pytest.raises(getattr(cutplan, error)) as caught:
        select(device, **descriptor)
    assert type(caught.value) is getattr(cutplan, error)
    for pattern in says:
        assert re.search(pattern, str(caught.value)), f"{pattern!r} not in {str(caught.value)!r}"
    assert select(device).sku.name


def test_bad_preference(device: str) -> None:
    with pytest.raises(cutplan.Unsupported, match='holds no kernel "gemm.nonsense".*gemm_registry'):
        select(device, {"kernel": "gemm.nonsense"})
    with pytest.raises(cutplan.InvalidProblem, match="sm_count.*got -1"):
        select(device, {"sm_count": -1})
    with pytest.raises(cutplan.Unsupported, match="host|architecture"):
        select(device, {"arch": "sm90" if device == "cpu" else "host"})
    with pytest.raises(ValueError, match="arch.*'sm80'.*'sm61'"):
        select(device, {"arch": "sm61"})
    other = select(device, layout="rrr").sku.name
    with pytest.raises(cutplan.Unsupported, match="another operand type, layout"):
        select(device, {"kernel": other}, layout="rcr")


@pytest.mark.cuda
def test_bad_preference_of_workspace() -> None:
    long = {"m": 64, "n": 128, "k": 32768}
    plan = select("cuda", {"arch": "sm80"}, **long)
    name, needed = plan.sku.name, plan.workspace_size
    assert needed > 0
    with pytest.raises(cutplan.Unsupported, match=f"{needed} bytes of workspace.*max_workspace_bytes"):
        select("cuda", {"kernel": name, "max_workspace_bytes": needed - 1}, **long)
    assert select("cuda", {"arch": "sm80", "max_workspace_bytes": needed - 1}, **long).workspace_size < needed
    with pytest.raises(cutplan.Unsupported, match="batch"):
        select("cuda", {"kernel": name, "batch_invariant": True}, **long)


def test_bad_names() -> None:
    with pytest.raises(TypeError, match="^a: .*float16.*'float17'"):
        cutplan.GemmDescriptor(m=1, n=1, k=1, a="float17")
    with pytest.raises(ValueError, match="^layout: .*'rcr'.*'rcx'"):
        cutplan.GemmDescriptor(m=1, n=1, k=1, a="float16", layout="rcx")
    with pytest.raises(ValueError, match="^activation: .*'gelu_erf'.*'gelu'"):
        cutplan.Epilogue(activation="gelu")
    with pytest.raises(ValueError, match="^bias: .*'n'.*'m'.*'k'"):
        cutplan.Epilogue(bias="k")
    with pytest.raises(ValueError, match="^aux: .*'store'.*'gradient'.*'load'"):
        cutplan.Epilogue(aux="load")
    with pytest.raises(ValueError, match="^gate: .*'separate'.*'interleaved'.*'both'"):
        cutplan.Epilogue(gate="both")
    with pytest.raises(ValueError, match="^math: .*'tf32x3'.*'fp8'"):
        cutplan.PlanPreference(math="fp8")
    with pytest.raises(ValueError, match="^over: .*'m'.*'k'.*'n'"):
        cutplan.GroupedGemmDescriptor(groups=1, m=1, n=1, k=1, a="float16", over="n")
    with pytest.raises(ValueError, match="^device: .*'tpu'"):
        select("tpu")


def test_a_device_that_does_not_exist() -> None:
    with pytest.raises(cutplan.DeviceError, match="cuda:977"):
        select("cuda:977")


def test_legal_neighbours_of_overlap(device: str, seed: int) -> None:
    """C or the residual may be D itself, and column slices of one buffer may be inputs and output at once."""
    source = generator(device, seed)
    problem = Problem(Shape(M, N, K), "float16", "rrr", device, source, 16)
    options = Options("float16", c="float16", beta=0.5)
    expected = problem.expected(options)
    in_place = problem.extra("c", "float16").clone()
    plan = problem.select(options)
    plan.run(problem.a, problem.b, in_place, c=in_place, beta=0.5)
    assert complaint(in_place, expected, plan.precision_guarantee) is None

    options = Options("float16", residual="float16", activation="relu")
    expected = problem.expected(options)
    in_place = problem.operands(options)["residual"].clone()
    plan = problem.select(options)
    plan.run(problem.a, problem.b, in_place, residual=in_place)
    assert complaint(in_place, expected, plan.precision_guarantee) is None

    wide = torch.zeros(M, K + N, dtype=torch.float16, device=device)
    wide[:, :K] = problem.a
    plan = problem.select(Options("float16"))
    plan.run(wide[:, :K], problem.b, wide[:, K:])
    assert complaint(wide[:, K:], problem.expected(Options("float16")), plan.precision_guarantee) is None
    assert torch.equal(wide[:, :K], problem.a)


@pytest.mark.parametrize("layout", ["rrr", "rrc"])
@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_vector_as_a_matrix(step: int, layout: str, device: str, seed: int) -> None:
    """A row or a column of any step, repeated, is c, residual and a gradient's aux for either order of D; one
    between the columns that D writes shares no memory with it."""
    source = generator(device, seed)
    problem = Problem(Shape(M, N, K), "float16", layout, device, source, 16)
    room = random_values((3 * max(M, N),), False, source).half()
    wide = torch.zeros(M, 2 * N, dtype=torch.float16, device=device)
    wide.copy_(random_values(wide.shape, False, source))
    row, column = room.as_strided((M, N), (0, step)), room.as_strided((M, N), (step, 0))
    for x, y in itertools.product((row, column), repeat=2):
        d = problem.output(Options("float16")).view
        operands = {"c": x, "residual": y, "aux": x}
        descriptor = cutplan.describe(
            problem.a, problem.b, d, **operands, aux_mode="gradient", activation="gelu_tanh"
        )
        assert str(descriptor.layout) == layout
        plan = cutplan.GemmPlan.select(descriptor, device)
        plan.run(problem.a, problem.b, d, **operands, beta=2.0)
        expected = reference(problem.product, **operands, beta=2.0, activation="gelu_tanh")
        assert (what := complaint(d, expected, plan.precision_guarantee)) is None, what
    if layout == "rrr":
        left, behind = wide[:, :N], wide[:, N : N + 1].expand(M, N)
        expected = reference(problem.product, c=behind, beta=1.0)
        plan = cutplan.GemmPlan.select(cutplan.describe(problem.a, problem.b, left, c=behind), device)
        plan.run(problem.a, problem.b, left, c=behind)
        assert complaint(left, expected, plan.precision_guarantee) is None


def test_factors_that_the_sums_type_holds() -> None:
    x, zeros = torch.ones(2, 2), torch.zeros(2, 2)
    for alpha in (3.4028234663852886e38, 2.0**-149, -(2.0**-126), 0.0, 0.1):
        assert (cutplan.matmul(x, zeros, alpha=alpha) == 0).all()
    for alpha in (1e300, 1e-300):
        assert (cutplan.matmul(x.double(), x.double(), alpha=alpha) == 2 * alpha).all()
