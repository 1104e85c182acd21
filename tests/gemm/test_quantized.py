"""Products of int8 and float8 by matmul() and grouped_matmul(): what users hand over, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from tests.gemm import codes
from tests.gemm.operands import QUANTISED, types_of
from tests.gemm.problems import Options, Problem, Shape, generator, report, single_options

INT8, E4M3, E5M2 = torch.int8, torch.float8_e4m3fn, torch.float8_e5m2
GRANULARITIES = [
    ("tensor", "tensor"),
    ("row", "row"),
    ("group", "group"),
    ("row", "block"),
    ("group", "block"),
]


def drawn(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    return codes.random_codes(shape, dtype, False, generator("cpu", seed))


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator("cpu", seed))


def narrowed(x: Any, dtype: str, granularity: str) -> cutplan.Quantized:
    size = {"group_size": 128} if granularity == "group" else {}
    return cutplan.quantize(x, dtype, granularity=granularity, **size)


def near(d: torch.Tensor, exact: torch.Tensor, magnitude: torch.Tensor) -> bool:
    """Within a few roundings of float32, and that of D."""
    unit = 2.0**-20 + torch.finfo(d.dtype).eps
    return d.shape == exact.shape and bool(((d.double() - exact).abs() <= unit * magnitude).all())


# ---- what is computed


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
@pytest.mark.parametrize("of_x, of_w", GRANULARITIES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_quantized_times_quantized(
    dtype: str, of_x: str, of_w: str, batch: tuple[int, ...], seed: int
) -> None:
    """Activations in batches times weights [n, k], which one matrix or one for each batch holds."""
    x = normal(*batch, 5, 300, seed=seed)
    q = narrowed(x, dtype, of_x)
    wide = cutplan.dequantize(q, "float32").double()
    for own in ((), batch[-1:]) if len(batch) < 2 else ((),):
        p = narrowed(normal(*own, 7, 300, seed=seed + 1), dtype, of_w)
        weights = cutplan.dequantize(p, "float32").double().mT
        for out_dtype in (None, "float32"):
            d = cutplan.matmul(q, p.T, out_dtype=out_dtype)
            assert d.dtype == (torch.float32 if out_dtype else torch.bfloat16)
            assert near(d, wide @ weights, wide.abs() @ weights.abs())


def test_types_of_results(seed: int) -> None:
    """Of matrices, of vectors and of what broadcasts alike."""
    a, b = drawn((2, 3, 5, 40), INT8, seed), drawn((40, 8), INT8, seed + 1)
    one = torch.ones(1)
    for x, y in (
        (a[0, 0], b),
        (a[0], b),
        (a, b),
        (a[0, 0, 0], b),
        (a[0, 0], b[:, 0]),
        (a, b.expand(3, 40, 8)),
    ):
        d = cutplan.matmul(x, y)
        assert d.dtype == torch.int32 and torch.equal(d.long(), x.long() @ y.long())
        assert cutplan.matmul(x, y, a_scale=one).dtype == torch.bfloat16
        assert cutplan.matmul(x, y, activation="relu").dtype == torch.bfloat16
        assert cutplan.matmul(x, y, out_dtype="int8").dtype == INT8
        eight = cutplan.matmul(x.to(E4M3), y.to(E4M3))
        assert eight.dtype == torch.bfloat16
    out = torch.empty(5, 8, dtype=torch.float32)
    assert cutplan.matmul(a[0, 0], b, b_scale=one, out=out) is out
    assert torch.equal(out, (a[0, 0].long() @ b.long()).float())


@pytest.mark.parametrize("k", [100, 128, 300])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_shapes_of_scales(k: int, batch: tuple[int, ...], seed: int) -> None:
    """One number without a dimension, rows and columns as reductions leave them, groups; one group, too."""
    a, b = drawn((*batch, 5, k), INT8, seed), drawn((k, 7), INT8, seed + 1)
    rows, columns = torch.rand(*batch, 5) + 0.5, torch.rand(7) + 0.5
    exact = a.double() @ b.double()
    whole = rows.double()[..., None] * columns.double()
    magnitude = a.double().abs() @ b.double().abs() * whole
    for a_scale in (rows, rows[..., None], rows[..., None].contiguous()):
        for b_scale in (columns, columns[None]):
            d = cutplan.matmul(a, b, a_scale=a_scale, b_scale=b_scale, out_dtype="float32")
            assert near(d, exact * whole, magnitude)
    half, two = torch.tensor(0.5), torch.tensor([2.0])
    assert near(
        cutplan.matmul(a, b, a_scale=half, b_scale=two, out_dtype="float32"), exact, magnitude / whole
    )
    groups = torch.rand(*batch, 5, -(-k // 128))
    wide = a.double() * codes.spread(groups.double(), "group", True, 5, k)
    d = cutplan.matmul(a, b, a_scale=groups, b_scale=columns, out_dtype="float32")
    assert near(d, wide @ b.double() * columns, wide.abs() @ b.double().abs() * columns)


def test_zeros(seed: int) -> None:
    """Asymmetric activations, of rows in batches too; int32 sums of (a - zero)."""
    x = normal(2, 5, 300, seed=seed) + 1
    q = cutplan.quantize(x, "int8", granularity="row", symmetric=False)
    p = narrowed(normal(7, 300, seed=seed + 1), "int8", "row")
    wide, weights = (cutplan.dequantize(y, "float32").double() for y in (q, p))
    d = cutplan.matmul(q, p.T, out_dtype="float32")
    assert near(d, wide @ weights.T, wide.abs() @ weights.abs().T)
    sums = cutplan.matmul(q.data, p.data.T, a_zero=q.zero)
    right = (q.data.long() - q.zero.long()[..., None]) @ p.data.long().T
    assert sums.dtype == torch.int32 and torch.equal(sums.long(), right)


def test_the_longest_sums_are_exact() -> None:
    for k, zero in ((131071, 0), (33024, 127)):
        a = torch.full((2, k), -128, dtype=INT8)
        named = {"a_zero": torch.tensor([zero], dtype=torch.int32)} if zero else {}
        named |= {"b_zero": torch.tensor([zero], dtype=torch.int32)} if zero else {}
        assert (cutplan.matmul(a, a.T, **named) == k * (128 + zero) ** 2).all()


def test_numpy(seed: int) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    random = np.random.default_rng(seed)
    x, w = (random.standard_normal(shape).astype(np.float32) for shape in ((5, 300), (7, 300)))
    for dtype in ("int8", "float8_e4m3fn"):
        for of_x, of_w in GRANULARITIES:
            q, p = narrowed(x, dtype, of_x), narrowed(w, dtype, of_w)
            d = cutplan.matmul(q, p.T)
            assert isinstance(d, np.ndarray) and d.dtype == ml_dtypes.bfloat16
            wide, weights = (cutplan.dequantize(y, "float32").astype(np.float64) for y in (q, p))
            error = np.abs(d.astype(np.float64) - wide @ weights.T)
            assert (error <= 2.0**-7 * (np.abs(wide) @ np.abs(weights.T))).all()


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_transposed_there_and_back(kind: str, seed: int) -> None:
    x: Any = normal(2, 5, 300, seed=seed) if kind == "torch" else normal(5, 300, seed=seed).numpy()
    for granularity in ("tensor", "row", "column", "group", "block"):
        q = narrowed(x, "int8", granularity)
        back = q.T.T
        assert back[3:] == q[3:]
        assert all(bool((now == before).all()) for now, before in zip(back[:2], q[:2], strict=True))
        wide = cutplan.dequantize(q, "float32")
        turned = q.T._replace(data=q.T.data.contiguous() if kind == "torch" else q.T.data.copy())
        transposed = wide.mT if kind == "torch" else wide.T
        assert bool((cutplan.dequantize(turned, "float32") == transposed).all())


@pytest.mark.parametrize("operand", QUANTISED)
def test_amax_of_nothing_is_zero(operand: str) -> None:
    a_type, b_type = (codes.CODES[t] for t in types_of(operand))
    amax = torch.full((1,), torch.nan)
    for m, k, n in ((0, 5, 3), (3, 5, 0), (3, 0, 4), (0, 0, 0)):
        amax.fill_(7.0)
        d = cutplan.matmul(
            torch.ones(m, k).to(a_type), torch.ones(k, n).to(b_type), amax=amax, out_dtype="float32"
        )
        assert d.shape == (m, n) and not d.any() and float(amax) == 0
    offsets = torch.zeros(3, dtype=torch.int32)
    amax.fill_(7.0)
    cutplan.grouped_matmul(
        torch.ones(4, 5).to(a_type), torch.ones(2, 5, 3).to(b_type), offsets, amax=amax, out_dtype="float32"
    )
    assert float(amax) == 0


def test_nan_and_infinite_scales(seed: int) -> None:
    """What IEEE arithmetic makes of them in floats; NaN is 0 in int8, the largest saturates."""
    a, b = drawn((5, 40), INT8, seed), drawn((40, 7), INT8, seed + 1)
    a[0], b[:, 0] = 1, 1
    rows = torch.ones(5)
    rows[2], rows[3] = torch.nan, torch.inf
    sums = cutplan.matmul(a, b)
    d = cutplan.matmul(a, b, a_scale=rows, out_dtype="float32")
    assert torch.equal(d[:2], sums[:2].float()) and d[2].isnan().all()
    right = sums[3].double() * torch.inf
    assert torch.equal(d[3].nan_to_num(), right.float().nan_to_num())
    narrow = cutplan.matmul(a, b, a_scale=rows, out_dtype="int8")
    assert (narrow[2] == 0).all()
    assert torch.equal(narrow[3].double(), right.nan_to_num(0.0).clamp(-128, 127))
    eight = cutplan.matmul(a.to(E4M3), b.to(E4M3), a_scale=rows, out_dtype="float8_e4m3fn")
    assert eight[2].isnan().all()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("dtype", [INT8, E4M3])
def test_scales_whose_product_is_subnormal(device: str, dtype: torch.dtype, seed: int) -> None:
    """Sums meet one scale after the other: the product of the two, 1e-42, would keep 3 digits."""
    a, b = (torch.full(shape, 64.0).to(dtype).to(device) for shape in ((130, 512), (264, 512)))
    rows, columns = (
        x * (1 + torch.rand(n, generator=generator("cpu", seed)).to(device))
        for x, n in ((1e-30, 130), (1e-12, 264))
    )
    d = cutplan.matmul(a, b.mT, a_scale=rows, b_scale=columns, out_dtype="float32")
    exact = 512 * 64.0 * 64 * rows.double()[:, None] * columns.double()
    assert near(d, exact, exact)


# ---- what stays the same


@pytest.mark.parametrize("operand", QUANTISED)
def test_threads_and_company_do_not_change_the_bits(operand: str, seed: int) -> None:
    problem = Problem(Shape(611, 1301, 613), operand, "rcr", "cpu", generator("cpu", seed))
    o = Options("bfloat16", bias="bfloat16", activation="gelu_erf", a_scale="row", b_scale="block", amax=True)
    first = problem.run(problem.select(o, sm_count=1), o)
    for threads in (2, 7, 64):
        plan = problem.select(o, sm_count=threads)
        assert plan.precision_guarantee.deterministic and plan.precision_guarantee.batch_invariant
        assert torch.equal(problem.run(plan, o), first), threads
    scale, weights = problem.coding("a_scale", "row"), problem.coding("b_scale", "block")
    assert scale is not None
    for start, count in ((0, 1), (7, 16), (100, 300)):
        some = slice(start, start + count)
        named = {"bias": problem.extra("bias", "bfloat16"), "activation": "gelu_erf", "b_scale": weights}
        part = cutplan.matmul(problem.a[some], problem.b, a_scale=scale[some], **named)
        assert torch.equal(part, first[some]), (start, count)


@pytest.mark.parametrize("device, operand", [("cpu", operand) for operand in QUANTISED])
def test_describe_reads_granularities(device: str, operand: str, seed: int) -> None:
    """A plan for the description of some operands runs on those operands, in every way that scales come."""
    failures = []
    for shape in (Shape(5, 300, 300), Shape(260, 7, 130, batch=3), Shape(5, 300, 300, batch=2)):
        problem = Problem(shape, operand, "rcr", device, generator(device, seed))
        for o in single_options(operand):
            named = {name: x for name, x in problem.operands(o).items() if name not in ("alpha", "beta")}
            views = [x for name, x in named.items() if name in o.codings and x is not None]
            if shape.batch is not None and any(x.dim() == 2 for x in views):
                continue  # the batch left out of groups: as many dimensions as rows of a batch have
            if o.store is not None:
                named["aux"] = problem.output(o, o.store).view
            if o.amax:
                named["amax"] = torch.empty(1)
            mode = "store" if o.store else "gradient" if o.gradient else None
            described = cutplan.describe(
                problem.a,
                problem.b,
                problem.output(o).view,
                **named,
                activation=o.activation,
                aux_mode=mode,
            )
            assert described.epilogue == o.epilogue
            failures.append(problem.complaint(cutplan.GemmPlan.select(described, device), o))
    report([what for what in failures if what])


# ---- what is refused

_I, _W = torch.ones(5, 300, dtype=INT8), torch.ones(300, 7, dtype=INT8)
_E = torch.ones(5, 300).to(E4M3)
_ZERO = torch.zeros(1, dtype=torch.int32)
_ONE = torch.ones(1)


@pytest.mark.parametrize(
    "error, says, call",
    [
        (
            "Unsupported",
            "a_scale: goes with int8 and float8",
            lambda f: f(_I.half(), _W.half(), a_scale=_ONE),
        ),
        (
            "Unsupported",
            "b_scale: goes with int8 and float8",
            lambda f: f(_I.half(), _W.half(), b_scale=_ONE),
        ),
        ("Unsupported", "a_zero: goes with int8", lambda f: f(_E, _E.T, a_zero=_ZERO)),
        ("Unsupported", "b_zero: none with gate", lambda f: f(_I, _W, b2=_W, b_zero=_ZERO)),
        (
            "Unsupported",
            "alpha|d: a float32.*bias",
            lambda f: f(_I, _W, bias=torch.ones(7), out_dtype="int32"),
        ),
        ("Unsupported", "d: a float32.*a_scale", lambda f: f(_I, _W, a_scale=_ONE, out_dtype="int32")),
        ("InvalidProblem", "alpha: 1 required", lambda f: f(_I, _W, alpha=2.0)),
        ("Unsupported", "out_scale: goes with a d", lambda f: f(_I, _W, out_scale=_ONE, out_dtype="float32")),
        ("Unsupported", "amax: goes with int8", lambda f: f(_I.half(), _W.half(), amax=torch.empty(1))),
        (
            "Unsupported",
            "row_scale: not",
            lambda f: f(_I, _W, row_scale=torch.ones(5), a_scale=torch.ones(5)),
        ),
        ("Unsupported", "column_scale: not", lambda f: f(_I, _W, column_scale=torch.ones(7), b_scale=_ONE)),
        ("ShapeMismatch", "operand a_scale", lambda f: f(_I, _W, a_scale=torch.ones(4))),
        ("ShapeMismatch", "operand a_scale", lambda f: f(_I[None, None], _W, a_scale=torch.ones(1, 4))),
        ("ShapeMismatch", "operand b_scale", lambda f: f(_I, _W, b_scale=torch.ones(8))),
        ("ShapeMismatch", "operand b_scale", lambda f: f(_I, _W, b_scale=torch.ones(2, 7))),
        ("ShapeMismatch", "operand a_zero", lambda f: f(_I, _W, a_zero=_ZERO.expand(4))),
        ("DTypeMismatch", "operand a_scale.*float32", lambda f: f(_I, _W, a_scale=_ONE.half())),
        ("DTypeMismatch", "operand a_zero.*int32", lambda f: f(_I, _W, a_zero=_ONE)),
        ("DTypeMismatch", "operand amax", lambda f: f(_E, _E.T, amax=torch.empty(1).double())),
        ("Unsupported", "operand b: dtype int8 required", lambda f: f(_I, _W.to(E4M3))),
        ("Unsupported", "operand b: dtype float8_e4m3fn required", lambda f: f(_E.to(E5M2), _E.to(E5M2).T)),
        ("MissingOperand", "operand b2_scale", lambda f: f(_I, _W, b2=_W, b_scale=_ONE)),
        ("MissingOperand", "operand b2_scale", lambda f: f(_I, _W, b_scale=_ONE, b2_scale=_ONE)),
        (
            "Unsupported",
            "k: at most 131071",
            lambda f: f(_I[:1, :1].expand(1, 131072), _W[:1].expand(131072, 7)),
        ),
        (
            "Unsupported",
            "k: at most 33024",
            lambda f: f(_I[:1, :1].expand(1, 33025), _W[:1].expand(33025, 7), b_zero=_ZERO),
        ),
    ],
)
def test_refusals(error: str, says: str, call: Callable[[Any], Any]) -> None:
    with pytest.raises(getattr(cutplan, error), match=says):
        call(cutplan.matmul)
    assert (cutplan.matmul(_I, _W) == 300).all(), "the next call works"


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"a_scale": "column"}, "a_scale: one of 'tensor', 'row', 'group' required, got 'column'"),
        ({"a_scale": "block"}, "a_scale.*got 'block'"),
        ({"b_scale": "row"}, "b_scale: one of 'tensor', 'column', 'group', 'block' required, got 'row'"),
        ({"a_zero": "group"}, "a_zero: one of 'tensor', 'row' required, got 'group'"),
        ({"b_zero": "row"}, "b_zero: one of 'tensor', 'column' required, got 'row'"),
        ({"b_zero": "block"}, "b_zero.*got 'block'"),
    ],
)
def test_granularities_of_the_other_operand(fields: dict[str, str], says: str) -> None:
    with pytest.raises(cutplan.Unsupported, match=says):
        cutplan.GemmPlan.select(cutplan.GemmDescriptor(m=8, n=8, k=8, a="int8", **fields), "cpu")


def test_quantized_of_another_kind(seed: int) -> None:
    x, w = normal(5, 256, seed=seed), normal(6, 256, seed=seed + 1)
    q, p = narrowed(x, "int8", "row"), narrowed(w, "int8", "row")
    for says, call in (
        ("operand b: .*'row'.*pass q.T", lambda: cutplan.matmul(q, p)),
        ("operand a: .*got 'column'", lambda: cutplan.matmul(narrowed(x, "int8", "column"), p.T)),
        ("operand a: .*'block'", lambda: cutplan.matmul(narrowed(x, "int8", "block"), p.T)),
        (
            "operand a: .*of 64",
            lambda: cutplan.matmul(cutplan.quantize(x, "int8", granularity="group", group_size=64), p.T),
        ),
        (
            "operand a: .*axis -2",
            lambda: cutplan.matmul(
                cutplan.quantize(x, "int8", granularity="group", group_size=128, axis=-2), p.T
            ),
        ),
        ("operand a: .*int4", lambda: cutplan.matmul(cutplan.quantize(x, "int4", granularity="row"), p.T)),
        ("int4", lambda: cutplan.quantize(x, "int4", granularity="row").T),
    ):
        with pytest.raises(cutplan.Unsupported, match=says):
            call()
    with pytest.raises(cutplan.InvalidProblem, match="a_scale: none required beside a Quantized"):
        cutplan.matmul(q, p.T, a_scale=_ONE)


def test_amax_of_several_runs_is_refused() -> None:
    a = torch.ones(4, 3, 5, 16, dtype=INT8)[::2, :, :, :].transpose(0, 1)
    b = torch.ones(3, 1, 16, 7, dtype=INT8).expand(3, 2, 16, 7)[:, :, :, ::1]
    amax = torch.empty(1)
    out = torch.empty(2, 3, 5, 7).transpose(0, 1)
    with pytest.raises(cutplan.Unsupported, match="amax"):
        cutplan.matmul(a, b, amax=amax, out=out)
    assert (cutplan.matmul(a, b, out=out) == 16).all()
