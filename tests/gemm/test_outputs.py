"""Several outputs: D as up to four matrices whose columns follow each other. They hold what the same product
with one D does, to the bit."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from tests.bindings.producers import CUDA, FLOAT, Producer
from tests.gemm.problems import GATES, TORCH, interleave

COLUMNS = ((16, 8, 21), (45,), (8, 37), (8, 8, 8, 21), (24, 16, 5))
M, K, N = 37, 48, 45


def random_matrix(*shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64).to(dtype)


def split(y: torch.Tensor, columns: tuple[int, ...]) -> list[torch.Tensor]:
    return list(y.split(list(columns), dim=-1))


def outputs(*columns: int, rows: int = M, dtype: torch.dtype = torch.float16) -> list[torch.Tensor]:
    return [torch.full((rows, n), 7, dtype=dtype) for n in columns]


def same(got: Any, expected: list[torch.Tensor]) -> None:
    assert isinstance(got, tuple) and len(got) == len(expected)
    for x, y in zip(got, expected, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        assert torch.equal(x, y)


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("operand", TORCH)
def test_outputs_are_one_product_split(operand: str, columns: tuple[int, ...]) -> None:
    dtype = TORCH[operand]
    a, b, bias = (
        random_matrix(M, K, dtype=dtype),
        random_matrix(K, N, dtype=dtype),
        random_matrix(N, dtype=dtype),
    )
    residual = random_matrix(M, N, dtype=dtype)
    for layout in itertools.product((a, a.T.contiguous().T), (b, b.T.contiguous().T)):
        terms = {"bias": bias, "activation": "silu", "residual": residual, "alpha": 0.5}
        expected = split(cutplan.matmul(*layout, **terms), columns)
        same(cutplan.matmul(*layout, **terms, out_columns=columns), expected)
        assert cutplan.last_kernels()[0].startswith("gemm.host")


def test_outputs_of_the_caller() -> None:
    """Each at an address, with strides and of a type of its own, and within its memory."""
    a, b = random_matrix(M, K), random_matrix(K, N)
    room = [torch.full((M + 2, n + 13), 7.0, dtype=torch.float16) for n in (16, 8, 21)]
    room[2] = room[2].bfloat16()
    outs = [x[1 : M + 1, 3 + i : 3 + i + n] for i, (x, n) in enumerate(zip(room, (16, 8, 21), strict=True))]
    got = cutplan.matmul(a, b, out=outs)
    assert all(x is y for x, y in zip(got, outs, strict=True))
    y = cutplan.matmul(a, b)
    same(got, [y[:, :16], y[:, 16:24], cutplan.matmul(a, b, out_dtype="bfloat16")[:, 24:]])
    for x, out in zip(room, outs, strict=True):
        out.fill_(7)
        assert bool((x == 7).all())


def test_outputs_in_one_buffer() -> None:
    """Columns of one matrix, in an order of their own, with room between them."""
    a, b = random_matrix(M, K), random_matrix(K, N)
    cache = torch.full((M, 64), 7.0, dtype=torch.float16)
    q, k, v = cache[:, 40:56], cache[:, 8:16], cache[:, 17:38]
    cutplan.matmul(a, b, out=[q, k, v])
    same((q, k, v), split(cutplan.matmul(a, b), (16, 8, 21)))
    assert bool((cache[:, [*range(8), 16, 38, 39, *range(56, 64)]] == 7).all())


def test_batches_and_leading_dimensions() -> None:
    columns = (16, 8, 21)
    b = random_matrix(K, N)
    for shape in ((2, 5, K), (2, 3, 5, K), (1, K), (3, 1, K)):
        x = random_matrix(*shape)
        same(cutplan.matmul(x, b, out_columns=columns), split(cutplan.matmul(x, b), columns))
    batch = random_matrix(3, M, K), random_matrix(3, K, N)
    same(cutplan.matmul(*batch, out_columns=columns), split(cutplan.matmul(*batch), columns))
    outs = [torch.empty(3, M + 1, n, dtype=torch.float16)[:, 1:] for n in columns]
    same(cutplan.matmul(*batch, out=outs), split(cutplan.matmul(*batch), columns))
    # What runs piece by piece: rows that no one stride steps through, batches that broadcast.
    for a, w in (
        (random_matrix(3, 2, 9, K)[:, :, :5], b),
        (random_matrix(2, 1, M, K), random_matrix(3, K, N)),
        (random_matrix(3, 2, M, K).transpose(0, 1), random_matrix(2, 3, K, N)),
        (random_matrix(K), b),
    ):
        bias = random_matrix(N)
        expected = split(cutplan.matmul(a, w, bias=bias), columns)
        same(cutplan.matmul(a, w, bias=bias, out_columns=columns), expected)
        outs = [torch.empty_like(x) for x in expected]
        same(cutplan.matmul(a, w, bias=bias, out=outs), expected)


def test_terms_have_the_columns_of_all() -> None:
    columns = (16, 8, 21)
    a, b, b2, c = random_matrix(M, K), random_matrix(K, N), random_matrix(K, N), random_matrix(M, N)
    bias, bias2 = random_matrix(N), random_matrix(N)
    scales = {"row_scale": torch.rand(M), "column_scale": torch.rand(N)}
    every: list[dict[str, Any]] = [
        {"c": c, "beta": 0.5, **scales},
        {"bias": random_matrix(M, 1), "activation": "gelu_erf"},
        {"b2": b2, "bias": bias, "bias2": bias2, "activation": "silu", "residual": c},
    ]
    for terms in every:
        same(
            cutplan.matmul(a, b, **terms, out_columns=columns), split(cutplan.matmul(a, b, **terms), columns)
        )
    both = interleave(b, b2)
    expected = split(cutplan.matmul(a, both, gate=GATES[1]), columns)
    same(cutplan.matmul(a, both, gate=GATES[1], out_columns=columns), expected)
    aux, one_aux = torch.empty_like(c), torch.empty_like(c)
    expected = split(cutplan.matmul(a, b, activation="silu", aux=one_aux), columns)
    same(cutplan.matmul(a, b, activation="silu", aux=aux, out_columns=columns), expected)
    assert torch.equal(aux, one_aux)


@pytest.mark.parametrize("operand", ["int8", "float8_e4m3fn"])
def test_quantised(operand: str) -> None:
    columns = (128, 32, 21)
    x = cutplan.quantize(torch.randn(M, 256), operand, granularity="row")
    w = cutplan.quantize(torch.randn(sum(columns), 256), operand, granularity="row").T
    bias = torch.randn(sum(columns), dtype=torch.float32)
    amax, one_amax = torch.empty(1), torch.empty(1)
    for d in ("bfloat16", "float32", operand):
        more = {"out_scale": torch.tensor([0.5])} if d == operand else {}
        y = cutplan.matmul(x, w, bias=bias, out_dtype=d, amax=one_amax, **more)
        got = cutplan.matmul(x, w, bias=bias, out_dtype=d, amax=amax, out_columns=columns, **more)
        same(
            tuple(t.view(torch.int8) if d == operand else t for t in got),
            split(y.view(torch.int8) if d == operand else y, columns),
        )
        assert torch.equal(amax, one_amax)
    same(cutplan.qkv_project(x, w, out_columns=columns), split(cutplan.matmul(x, w), columns))


def test_sums_of_integers() -> None:
    a, b = (torch.randint(-128, 128, shape, dtype=torch.int8) for shape in ((M, K), (K, N)))
    y = a.int() @ b.int()
    same(cutplan.matmul(a, b, out_columns=(16, 8, 21)), split(y, (16, 8, 21)))


@pytest.mark.parametrize("fmt", ["int4", "uint4", "int8", "nf4"])
def test_packed_weights(fmt: str) -> None:
    """Unequal numbers of heads: 4 of queries, 1 of keys and of values, of 32 columns."""
    columns = (128, 32, 32)
    packed = cutplan.pack_weights(torch.randn(256, 192), fmt)
    x, bias = random_matrix(2, 5, 256, dtype=torch.bfloat16), random_matrix(192, dtype=torch.bfloat16)
    expected = split(cutplan.matmul(x, packed, bias=bias), columns)
    same(cutplan.qkv_project(x, packed, bias=bias, out_columns=columns), expected)
    outs = [torch.empty(2, 5, n, dtype=torch.bfloat16) for n in columns]
    same(cutplan.qkv_project(x, packed, bias=bias, out=outs), expected)


@pytest.mark.parametrize("operand", ["float16", "bfloat16"])
def test_qkv_project(operand: str) -> None:
    """As a Llama has it: weights [n, k], fewer heads of keys and values than of queries."""
    dtype = TORCH[operand]
    q, k, v = (random_matrix(n, K, dtype=dtype) for n in (64, 16, 16))
    x = random_matrix(2, 7, K, dtype=dtype)
    fused = torch.cat([q, k, v]).T
    got = cutplan.qkv_project(x, fused, out_columns=(64, 16, 16))
    same(got, [cutplan.matmul(x, w.T) for w in (q, k, v)])
    assert all(t.is_contiguous() for t in got)


def test_numpy() -> None:
    a, b = np.random.randn(M, K).astype("float32"), np.random.randn(K, N).astype("float32")
    got, y = cutplan.matmul(a, b, out_columns=[16, 8, 21]), cutplan.matmul(a, b)
    assert all(isinstance(x, np.ndarray) for x in got)
    np.testing.assert_array_equal(np.concatenate(got, axis=1), y)


def test_empty_extents() -> None:
    for m, k in ((0, K), (M, 0), (0, 0)):
        a, b = torch.zeros(m, k), torch.zeros(k, N)
        same(cutplan.matmul(a, b, out_columns=(16, 29)), split(torch.zeros(m, N), (16, 29)))


def test_plans_and_descriptors() -> None:
    three = cutplan.GemmDescriptor(m=M, n=N, k=K, a="float16", out_columns=(16, 8, 21), d3="bfloat16")
    assert (
        three.out_columns == (16, 8, 21)
        and cutplan.GemmDescriptor(m=1, n=1, k=1, a="float16").out_columns == ()
    )
    assert pickle.loads(pickle.dumps(three)) == three
    assert three != cutplan.GemmDescriptor(m=M, n=N, k=K, a="float16", out_columns=(24, 21))
    plan = cutplan.GemmPlan.select(three, "cpu")
    assert plan.descriptor.d2 == cutplan.DType.float16 and plan.descriptor.d3 == cutplan.DType.bfloat16
    assert plan.sku.epilogue.endswith("out_columns")
    assert plan.precision_guarantee.rounding == 2.0**-8  # the coarser type's
    a, b = random_matrix(M, K), random_matrix(N, K).T
    d, d2, d3 = outputs(16, 8, 21)
    described = cutplan.describe(a, b, d, d2=d2, d3=d3)
    assert described.out_columns == (16, 8, 21) and described.d3 == cutplan.DType.float16
    assert cutplan.describe(a, b, out_columns=(16, 29)).out_columns == (16, 29)
    plan.run(a, b, d, d2=d2, d3=(third := d3.bfloat16()))
    y = cutplan.matmul(a, b)
    same((d, d2), split(y, (16, 8, 21))[:2])
    assert torch.equal(third, cutplan.matmul(a, b, out_dtype="bfloat16")[:, 24:])


A, B, C = random_matrix(M, K), random_matrix(K, N), random_matrix(M, N)
# (name, error, what it says, the call's outputs, further arguments)
BAD: list[tuple[str, type[Exception], tuple[str, ...], Callable[[], Any], dict[str, Any]]] = [
    (
        "width",
        cutplan.Unsupported,
        ("out_columns", "multiples of 8", "20 of 20 + 25", "last"),
        lambda: outputs(20, 25),
        {},
    ),
    ("sum", cutplan.InvalidProblem, ("out_columns", "n = 45", "16 + 25 = 41"), lambda: outputs(16, 25), {}),
    (
        "rows",
        cutplan.ShapeMismatch,
        (r"operand out[1]", "[37, 29]", "[36, 29]"),
        lambda: [*outputs(16), *outputs(29, rows=36)],
        {},
    ),
    ("rank", cutplan.ShapeMismatch, ("operand out[1]",), lambda: [*outputs(16), torch.zeros(29).half()], {}),
    (
        "no_columns",
        cutplan.ShapeMismatch,
        ("operand out[1]", "at least one column"),
        lambda: outputs(16, 0, 29),
        {},
    ),
    (
        "column_major",
        cutplan.Unsupported,
        ("operand out[1]", "row-major"),
        lambda: [*outputs(16), torch.zeros(29, M).half().T],
        {},
    ),
    (
        "strided",
        cutplan.LayoutMismatch,
        ("operand out[1]",),
        lambda: [*outputs(16), outputs(58)[0][:, ::2]],
        {},
    ),
    (
        "bits",
        cutplan.Unsupported,
        ("operand out[1]", "16 bits", "float32"),
        lambda: [*outputs(16), *outputs(29, dtype=torch.float32)],
        {},
    ),
    (
        "out_dtype",
        cutplan.DTypeMismatch,
        ("operand out[1]", "bfloat16"),
        lambda: [*outputs(16, dtype=torch.bfloat16), *outputs(29)],
        {"out_dtype": "bfloat16"},
    ),
    ("none", cutplan.MissingOperand, ("operand out[1]",), lambda: [*outputs(16), None, *outputs(29)], {}),
    ("no_outputs", cutplan.InvalidProblem, ("out: ", "got 0"), list, {}),
    ("five", cutplan.InvalidProblem, ("out: ", "got 5"), lambda: outputs(8, 8, 8, 8, 13), {}),
    (
        "fewer",
        cutplan.InvalidProblem,
        ("out: ", "3 tensors", "got 2"),
        lambda: outputs(16, 29),
        {"out_columns": (16, 8, 21)},
    ),
    (
        "other_columns",
        cutplan.ShapeMismatch,
        ("operand out[0]", "[37, 8]"),
        lambda: outputs(16, 29),
        {"out_columns": (8, 37)},
    ),
    (
        "one_tensor",
        cutplan.InvalidProblem,
        ("out: ", "one tensor"),
        lambda: outputs(45)[0],
        {"out_columns": (16, 29)},
    ),
    (
        "each_other",
        cutplan.Overlap,
        ("operand out[1]", "operand out[0]"),
        lambda: [(x := outputs(60)[0])[:, :16], x[:, 15:44]],
        {},
    ),
    (
        "itself",
        cutplan.Overlap,
        ("operand out[1]", "its elements"),
        lambda: [*outputs(16), outputs(29)[0][:1].expand(M, 29)],
        {},
    ),
    ("input", cutplan.Overlap, ("operand out[1]", "operand a"), lambda: [*outputs(16), A[:, :29]], {}),
    ("read_only", cutplan.ReadOnly, ("operand out[1]",), lambda: [*outputs(16), frozen(29)], {}),
    ("device", cutplan.DeviceMismatch, ("operand out[1]",), lambda: [*outputs(16), elsewhere(29)], {}),
    ("c_in_place", cutplan.Overlap, ("operand out[0]", "operand c"), lambda: split(C, (16, 29)), {"c": None}),
    (
        "c_column_major",
        cutplan.LayoutMismatch,
        ("operand c",),
        lambda: outputs(16, 29),
        {"c": torch.zeros(N, M).half().T},
    ),
    (
        "gradient_of_columns",
        cutplan.ShapeMismatch,
        ("operand aux",),
        lambda: outputs(16, 29),
        {"aux": torch.zeros(M, 29).half(), "activation": "silu"},
    ),
]


def frozen(columns: int) -> np.ndarray[Any, Any]:
    x = np.zeros((M, columns), "float16")
    x.flags.writeable = False
    return x


def elsewhere(columns: int) -> Any:
    return Producer((M, columns), code=FLOAT, bits=16, device=(CUDA, 0))


@pytest.mark.parametrize("name, error, says, make, more", BAD, ids=[row[0] for row in BAD])
def test_refusals(
    name: str,
    error: type[Exception],
    says: tuple[str, ...],
    make: Callable[[], Any],
    more: dict[str, Any],
) -> None:
    """Nothing is written, and the next call works."""
    outs = make()
    more = {key: C if key == "c" and value is None else value for key, value in more.items()}
    kept = [
        x.clone() if isinstance(x, torch.Tensor) else None
        for x in (outs if isinstance(outs, list) else [outs])
    ]
    with pytest.raises(error) as caught:
        cutplan.matmul(A, B, out=outs, **more)
    for words in says:
        assert words in str(caught.value), str(caught.value)
    for x, before in zip(outs if isinstance(outs, list) else [outs], kept, strict=True):
        assert before is None or torch.equal(x, before)
    good = cutplan.matmul(A, B, out_columns=(16, 29))
    same(good, split(cutplan.matmul(A, B), (16, 29)))


@pytest.mark.parametrize(
    "columns, error, says",
    [
        ((0, 45), ValueError, "at least 1 column"),
        ((-8, 53), ValueError, "at least 1 column"),
        ((8, 8, 8, 8, 13), ValueError, "at most four"),
        (45, TypeError, "up to four integers"),
        ("45", TypeError, "up to four integers"),
        ((16.5, 28.5), TypeError, "out_columns"),
        ((16, 8), cutplan.InvalidProblem, "16 \\+ 8 = 24"),
        ((4, 41), cutplan.Unsupported, "multiples of 8"),
    ],
)
def test_columns_that_are_none(columns: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        cutplan.matmul(A, B, out_columns=columns)


def test_a_vector_has_no_columns() -> None:
    with pytest.raises(cutplan.ShapeMismatch, match="operand b: two dimensions"):
        cutplan.matmul(A, B[:, 0], out_columns=(1,))


def test_plans_refuse() -> None:
    g = {"m": M, "n": N, "k": K, "a": "float16"}
    for more, says in (
        ({"out_columns": (16, 29), "layout": "rcc"}, "row-major d"),
        ({"out_columns": (16, 29), "d3": "float16"}, "operand d3: out_columns of 3"),
        ({"d2": "float16"}, "operand d2: out_columns of 2"),
    ):
        with pytest.raises(cutplan.Error, match=says):
            cutplan.GemmPlan.select(cutplan.GemmDescriptor(**g, **more), "cpu")
    plan = cutplan.GemmPlan.select(
        cutplan.GemmDescriptor(**g, layout="rrr", out_columns=(16, 29), alignment=2), "cpu"
    )
    first, second = outputs(16, 29)
    with pytest.raises(cutplan.MissingOperand, match="operand d2"):
        plan.run(A, B, first)
    with pytest.raises(cutplan.MissingOperand, match="operand d3"):
        plan.run(A, B, first, d2=second, d3=second)
    assert bool((first == 7).all()) and bool((second == 7).all())
    one = cutplan.GemmPlan.select(cutplan.GemmDescriptor(**g, layout="rrr", alignment=2), "cpu")
    with pytest.raises(cutplan.MissingOperand, match="operand d2: .*out_columns= of two outputs"):
        one.run(A, B, torch.empty(M, N).half(), d2=second)


def test_integer_sums_are_all_or_none() -> None:
    a, b = torch.ones(4, 16, dtype=torch.int8), torch.ones(16, 24, dtype=torch.int8)
    outs = [torch.empty(4, 16, dtype=torch.int32), torch.empty(4, 8)]
    with pytest.raises(cutplan.Unsupported, match="int32 for all or none"):
        cutplan.matmul(a, b, out=outs)


def test_qkv_project_says_what_it_needs() -> None:
    with pytest.raises(cutplan.MissingOperand, match="out_columns"):
        cutplan.qkv_project(A, B)
    with pytest.raises(cutplan.InvalidProblem, match="out_columns: three, of Q, K and V, required, got 2"):
        cutplan.qkv_project(A, B, out_columns=(16, 29))
    with pytest.raises(cutplan.InvalidProblem, match="out: three"):
        cutplan.qkv_project(A, B, out=outputs(16, 29))
    with pytest.raises(TypeError, match="weights: one tensor .*concatenate"):
        cutplan.qkv_project(A, [B, B, B], out_columns=(16, 8, 21))  # type: ignore[arg-type]
