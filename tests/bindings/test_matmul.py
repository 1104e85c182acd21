"""cutplan.matmul against numpy.matmul: shapes, broadcasting, strides, epilogues, outputs, every library."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from cutplan import _core, _plans
from tests.bindings.conftest import LIBRARIES, Library, numpy_dtype, random_array
from tests.environment import note_not_run

SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 1), (1, 1)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((4,), (4,)),
    ((7, 3, 4), (4, 5)),
    ((3, 4), (7, 4, 5)),
    ((7, 3, 4), (7, 4, 5)),
    ((4,), (7, 4, 5)),
    ((7, 3, 4), (4,)),
    ((7, 1, 4), (4, 5)),
    ((2, 7, 3, 4), (4, 5)),
    ((2, 7, 3, 4), (7, 4, 5)),
    ((2, 1, 3, 4), (1, 7, 4, 5)),
    ((2, 3, 2, 3, 4), (3, 1, 4, 5)),
    ((1, 7, 3, 4), (7, 4, 5)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
    ((3, 4), (4, 0)),
    ((0, 3, 4), (4, 5)),
    ((2, 0, 3), (3,)),
    ((0,), (0,)),
]


def check(
    y: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    dtype: str,
    *,
    out_dtype: str | None = None,
    device: str = "cpu",
) -> None:
    """Every element within the bound of the plan for a problem of this depth."""
    a, b = a.astype("float64"), b.astype("float64")
    exact = np.matmul(a, b)
    magnitude = np.matmul(np.abs(a), np.abs(b))
    assert y.shape == exact.shape
    descriptor = cutplan.GemmDescriptor(m=3, n=5, k=max(a.shape[-1], 1), a=dtype, d=out_dtype, layout="rrr")
    bound = cutplan.GemmPlan.select(descriptor, device).precision_guarantee.error_bound(magnitude, exact)
    slack = 2.0**-52 * (a.shape[-1] + 1) * magnitude  # of the float64 reference itself
    excess = np.abs(y - exact) - bound - slack
    assert not (excess > 0).any() and not np.isnan(y).any(), f"off the bound by {np.nanmax(excess)}"


def gemm_dtypes(library: Library) -> list[str]:
    known = (
        {"float16", "bfloat16"} if library.device != "cpu" else {"float16", "bfloat16", "float32", "float64"}
    )
    return [dtype for dtype in library.dtypes if dtype in known]


# JAX on the GPU has no outputs to allocate: see test_jax_on_the_gpu_needs_an_output.
WITH_OUTPUTS = [x for x in LIBRARIES if not (x.immutable and x.device != "cpu")]
every_library = pytest.mark.parametrize("library", WITH_OUTPUTS, ids=lambda x: x.id)


@every_library
@pytest.mark.parametrize(("a_shape", "b_shape"), SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_shapes_of_numpy(
    library: Library, a_shape: tuple[int, ...], b_shape: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    for dtype in gemm_dtypes(library):
        a, b = random_array(rng, a_shape, dtype), random_array(rng, b_shape, dtype)
        y = cutplan.matmul(library.make(a), library.make(b))
        info = cutplan.inspect(y)
        assert info.framework == ("numpy" if library.name == "ml_dtypes" else library.name)
        assert (str(info.dtype), info.device) == (dtype, library.device)
        check(library.numpy(y), a, b, dtype, device=library.device)


VIEWS: list[tuple[str, Any, Any]] = [
    ("transposed", lambda a: a.swapaxes(-1, -2), lambda b: b.swapaxes(-1, -2)),
    ("batches swapped", lambda a: a.swapaxes(0, 1), lambda b: b.swapaxes(0, 1)),
    ("batches of one swapped", lambda a: a.swapaxes(0, 1), lambda b: b.reshape(3, 4, 6, 6)),
    ("every second batch", lambda a: a[::2, 1:], lambda b: b[::2, 1:]),
    ("batches backwards", lambda a: a[::-1], lambda b: b),
    ("rows of a slice", lambda a: a[:, :, 1:4], lambda b: b),
    ("columns of a slice", lambda a: a[..., 1:5], lambda b: b[:, :, 1:5, 2:]),
    ("one batch broadcast", lambda a: np.broadcast_to(a[1, 2], (4, 3, 6, 6)), lambda b: b),
    ("shared by all", lambda a: a, lambda b: np.broadcast_to(b[1, 2], (4, 3, 6, 6))),
    ("outer batch shared", lambda a: a, lambda b: np.broadcast_to(b[2], (4, 3, 6, 6))),
    ("inner batch shared", lambda a: a, lambda b: np.broadcast_to(b[:, :1], (4, 3, 6, 6))),
    ("rows as batches", lambda a: a.swapaxes(1, 2), lambda b: b[0, 0]),
    ("vector of a matrix", lambda a: a[0, 0, 0], lambda b: b[:, :, :, ::1]),
]


@pytest.mark.parametrize(("view_a", "view_b"), [case[1:] for case in VIEWS], ids=[case[0] for case in VIEWS])
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_views_are_read_where_they_lie(view_a: Any, view_b: Any, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = view_a(random_array(rng, (4, 3, 6, 6), dtype))
    b = view_b(random_array(rng, (4, 3, 6, 6), dtype))
    check(cutplan.matmul(a, b).astype("float64"), a, b, dtype)
    strided = np.full((5, *np.matmul(a, b).shape), np.nan, dtype).swapaxes(0, 1)[:, 2]
    assert cutplan.matmul(a, b, out=strided) is strided
    check(strided.astype("float64"), a, b, dtype)


def test_even_batches_are_one_run() -> None:
    ones = lambda *shape: np.ones(shape, "float32")  # noqa: E731

    def problems(a: np.ndarray, b: np.ndarray, **options: Any) -> list[tuple[int, int]]:
        y = cutplan.matmul(a, b, **options)
        added = {"c", "residual", "bias"} & set(options)
        assert (y == a.shape[-1] + len(added)).all()
        return [(plan.descriptor.batch, plan.descriptor.m) for plan in _plans.of_thread.plans]

    assert problems(ones(2, 7, 3, 4), ones(2, 7, 4, 5)) == [(14, 3)]
    assert problems(ones(2, 7, 3, 4), ones(4, 5)) == [(1, 42)], "batches that share B are rows of A"
    assert problems(ones(2, 7, 3, 4), ones(4, 5), c=ones(2, 7, 3, 5)) == [(1, 42)]
    assert problems(ones(2, 7, 3, 4), ones(4, 5), c=ones(3, 5)) == [(14, 3)], "a shared C is not more rows"
    assert problems(ones(2, 7, 3, 4), ones(4, 5), residual=ones(2, 7, 3, 5)) == [(1, 42)]
    assert problems(ones(2, 7, 3, 4), ones(4, 5), aux=ones(2, 7, 3, 5)) == [(1, 42)]
    assert problems(ones(2, 7, 3, 4), ones(4, 5), bias=ones(5)) == [(1, 42)]
    assert problems(ones(2, 7, 3, 4), ones(4, 5), column_scale=ones(5)) == [(1, 42)]
    assert problems(ones(2, 7, 3, 4), ones(4, 5), bias=ones(3, 1)) == [(14, 3)], "m is what it was"
    assert problems(ones(2, 7, 3, 4), ones(4, 5), row_scale=ones(3)) == [(14, 3)], "m is what it was"
    assert problems(ones(2, 7, 1, 4), ones(4, 5)) == [(1, 14)]
    assert problems(ones(3, 4), ones(7, 4, 5)) == [(7, 3)]
    assert problems(ones(2, 7, 3, 4), ones(7, 4, 5)) == [(7, 3), (7, 3)]
    assert problems(ones(7, 2, 3, 4), ones(7, 1, 4, 5)) == [(7, 6)]
    assert problems(ones(2, 7, 3, 4)[:, ::-1], ones(2, 7, 4, 5)) == [(2, 3)] * 7, "no kernel steps backwards"


def test_plans_are_kept(device: str) -> None:
    a = torch.ones(32, 32, dtype=torch.float16, device=device)
    cutplan.clear_tuning()
    before = _core.chosen_plans()
    for _ in range(3):
        cutplan.matmul(a, a)
    assert _core.chosen_plans() == before + 1


def test_what_a_plan_depends_on_is_part_of_its_key() -> None:
    a = torch.ones(8, 8)
    cutplan.clear_tuning()
    before = _core.chosen_plans()
    for options in ({}, {"math": "strict"}, {"deterministic": True}, {"residual": a}, {"activation": "silu"}):
        for _ in range(2):
            cutplan.matmul(a, a, **options)  # type: ignore[arg-type]
    assert _core.chosen_plans() == before + 5


def test_a_call_costs_little_beside_its_plan() -> None:
    """Description, look-up and allocation: what matmul() does beside what run() does."""
    a = torch.ones(1, 1)
    cutplan.matmul(a, a)
    (plan,) = _plans.of_thread.plans
    d = torch.empty(1, 1)

    def seconds(call: Callable[[], object]) -> float:
        return (
            min(timeit.repeat(call, number=100, repeat=300)) / 100
        )  # too short to be interrupted every time

    call, run = seconds(lambda: cutplan.matmul(a, a)), seconds(lambda: plan.run(a, a, d))
    assert call <= 6 * run, f"{call * 1e6:.2f} us for {run * 1e6:.2f}"


@every_library
@pytest.mark.parametrize(
    "activation", ["none", "relu", "gelu_erf", "gelu_tanh", "silu", cutplan.Activation.relu]
)
def test_epilogue(library: Library, activation: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = gemm_dtypes(library)[0]
    a, b = random_array(rng, (6, 3, 8), dtype), random_array(rng, (8, 5), dtype)
    bias, c = random_array(rng, (5,), dtype), random_array(rng, (3, 5), dtype)
    make = library.make
    y = library.numpy(
        cutplan.matmul(
            make(a), make(b), bias=make(bias), c=make(c), alpha=0.5, beta=-2, activation=activation
        )
    )
    wide = [torch.from_numpy(x.astype("float64")) for x in (a, b, bias, c)]
    exact = 0.5 * wide[0] @ wide[1] - 2 * wide[3] + wide[2]
    magnitude = 0.5 * wide[0].abs() @ wide[1].abs() + 2 * wide[3].abs() + wide[2].abs()
    functions: dict[str, Any] = {
        "none": lambda x: x,
        "relu": torch.relu,
        "gelu_erf": torch.nn.functional.gelu,
        "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "silu": torch.nn.functional.silu,
    }
    exact = functions[str(activation)](exact)
    plan = cutplan.GemmPlan.select(
        cutplan.GemmDescriptor(
            m=18,
            n=5,
            k=8,
            a=dtype,
            layout="rrr",
            epilogue=cutplan.Epilogue(bias=True, c=True, activation=activation),
        ),
        library.device,
    )
    bound = plan.precision_guarantee.error_bound(magnitude.numpy(), exact.numpy())
    slack = 2.0**-48 * magnitude.numpy()  # of the float64 reference itself
    assert (np.abs(y - exact.numpy()) <= bound + slack).all()


@pytest.mark.parametrize(
    ("dtype", "out_dtype"), [("float16", "float32"), ("bfloat16", torch.float32), ("float16", None)]
)
def test_out_dtype(dtype: str, out_dtype: Any, device: str, seed: int) -> None:
    torch.manual_seed(seed % 2**31)
    a, b = (torch.randn(9, 9, device=device).to(getattr(torch, dtype)) for _ in range(2))
    y = cutplan.matmul(a, b, out_dtype=out_dtype)
    wanted = "float32" if out_dtype is not None else dtype
    assert y.dtype == getattr(torch, wanted)
    wide = [x.double().cpu().numpy() for x in (y, a, b)]
    check(wide[0], wide[1], wide[2], dtype, out_dtype=wanted, device=device)


def test_out_is_written_and_returned(device: str) -> None:
    a = torch.ones(2, 3, 4, dtype=torch.float16, device=device)
    out = torch.full((2, 3, 3), torch.nan, dtype=torch.float32, device=device)
    assert cutplan.matmul(a, a.mT, out=out) is out
    assert (out == 4).all()
    for wrong in (torch.empty(2, 3, 4), torch.empty(3, 3), torch.empty(1, 2, 3, 3)):
        with pytest.raises(cutplan.ShapeMismatch, match=r"operand out: shape .2, 3, 3. required, got"):
            cutplan.matmul(a, a.mT, out=wrong.to(out))
    with pytest.raises(cutplan.DTypeMismatch, match="operand out: out_dtype float16 required, got float32"):
        cutplan.matmul(a, a.mT, out=out, out_dtype="float16")
    with pytest.raises(cutplan.Overlap):
        square = torch.ones(4, 4, dtype=torch.float16, device=device)
        cutplan.matmul(square, square, out=square)


@every_library
def test_every_operand_of_every_library(library: Library, seed: int) -> None:
    """Operands reach the kernel as what they are named: each changes the result in its own way."""
    rng = np.random.default_rng(seed)
    dtype = gemm_dtypes(library)[0]
    scales = library.name != "ml_dtypes" and dtype != "float64"
    a, b, b2 = (
        np.rint(random_array(rng, s, "float32")).astype(numpy_dtype(dtype)) for s in ((3, 4), (4, 5), (4, 5))
    )
    row, column = np.array([1, 2, 4], "float32"), np.array([1, 0, 2, 4, -1], "float32")
    make = library.make
    exact = a.astype("float64") @ b.astype("float64")
    residual, bias = np.rint(exact) + 1, np.arange(5)
    cast = lambda x: make(np.asarray(x).astype(numpy_dtype(dtype)))  # noqa: E731

    def product(**options: Any) -> np.ndarray:
        return library.numpy(cutplan.matmul(make(a), make(b), **options))

    assert (product(residual=cast(residual)) == exact + residual).all()
    assert (product(bias=cast(row[:, None])) == exact + row[:, None]).all()
    assert (product(residual=cast(bias)) == exact + bias).all(), "broadcast"
    second = a.astype("float64") @ b2.astype("float64")
    gated = np.maximum(exact, 0) * second
    assert (product(b2=make(b2), activation="relu") == gated.astype(numpy_dtype(dtype))).all()
    both = make(
        np.ascontiguousarray(np.stack([b, b2], -1).reshape(4, 10).T)
    ).T  # column-major, as CUDA kernels want it
    interleaved = cutplan.matmul(make(a), both, gate="interleaved", activation="relu")
    assert (library.numpy(interleaved) == gated.astype(numpy_dtype(dtype))).all()
    if scales:
        assert (
            product(row_scale=make(row), column_scale=make(column)) == exact * row[:, None] * column
        ).all()
    if not library.immutable:
        aux = cast(np.full((3, 5), np.nan))
        assert (product(activation="relu", aux=aux) == np.maximum(exact, 0)).all()
        assert (library.numpy(aux) == exact).all()


def test_a_column_major_output(device: str) -> None:
    a, b = (torch.arange(12.0, device=device).reshape(s).half() for s in ((3, 4), (4, 3)))
    out = torch.full((3, 3), torch.nan, dtype=torch.float16, device=device).T
    assert cutplan.matmul(a, b, out=out) is out
    assert (out.double() == a.double() @ b.double()).all()


def test_an_output_without_strides_is_refused() -> None:
    """A result that several batches share is not their sum."""
    a, b = torch.ones(2, 3, 4), torch.ones(2, 4, 5)
    out = torch.zeros(3, 5)
    with pytest.raises(cutplan.Overlap):
        cutplan.matmul(a, b, out=out.expand(2, 3, 5))
    assert (out == 0).all()


def test_c_may_be_the_output(device: str) -> None:
    a = torch.ones(4, 4, dtype=torch.float16, device=device)
    c = torch.full((4, 4), 2.0, dtype=torch.float16, device=device)
    assert cutplan.matmul(a, a, c=c, out=c) is c
    assert (c == 6).all()


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "text"),
    [
        (
            (3, 4),
            (5, 6),
            {},
            cutplan.ShapeMismatch,
            r"operand b: 4 rows required .* got 5 \(a has shape \[3, 4\]",
        ),
        ((4,), (5,), {}, cutplan.ShapeMismatch, "operand b: 4 rows required"),
        ((), (4, 4), {}, cutplan.ShapeMismatch, "operand a: at least one dimension"),
        ((4, 4), (), {}, cutplan.ShapeMismatch, "operand b: at least one dimension"),
        (
            (2, 3, 4),
            (3, 4, 5),
            {},
            cutplan.ShapeMismatch,
            r"operand b: batch dimensions that broadcast with a's \[2\]",
        ),
        (
            (3, 4),
            (4, 5),
            {"c": (4, 5)},
            cutplan.ShapeMismatch,
            r"operand c: .*\[3, 5\]|operand c: shape \[3, 5\]",
        ),
        (
            (2, 3, 4),
            (4, 5),
            {"c": (3, 3, 5)},
            cutplan.ShapeMismatch,
            r"operand c: .*broadcasts to \[2, 3, 5\]",
        ),
        ((3, 4), (4, 5), {"bias": (4,)}, cutplan.ShapeMismatch, r"operand bias: shape \[5\]"),
        ((3, 4), (4, 5), {"bias": (1, 5)}, cutplan.ShapeMismatch, "operand bias"),
        ((3, 4), (4, 5), {"bias": (4, 1)}, cutplan.ShapeMismatch, r"operand bias: shape \[3, 1\]"),
        (
            (3, 4),
            (4, 5),
            {"residual": (4, 5)},
            cutplan.ShapeMismatch,
            r"residual: .*\[3, 5\] required, got \[4, 5\]",
        ),
        ((3, 4), (4, 5), {"row_scale": (5,)}, cutplan.ShapeMismatch, r"operand row_scale: shape \[3\]"),
        ((3, 4), (4, 5), {"column_scale": (3,)}, cutplan.ShapeMismatch, r"operand column_scale: shape \[5\]"),
        ((3, 4), (4, 5), {"aux": (1, 5)}, cutplan.ShapeMismatch, r"operand aux: shape \[3, 5\]"),
        ((2, 3, 4), (4, 5), {"aux": (3, 5)}, cutplan.ShapeMismatch, r"operand aux: shape \[2, 3, 5\]"),
        ((3, 4), (4, 5), {"b2": (4, 4)}, cutplan.ShapeMismatch, r"operand b2: shape \[4, 5\]"),
        ((2, 3, 4), (4, 5), {"b2": (2, 4, 5)}, cutplan.ShapeMismatch, r"operand b2: b's shape \[4, 5\]"),
        ((3, 4), (4, 5), {"gate": "separate"}, cutplan.MissingOperand, "operand b2"),
        (
            (3, 4),
            (4, 5),
            {"gate": "interleaved"},
            cutplan.ShapeMismatch,
            r"operand b: an even number of columns",
        ),
        ((3, 4), (4,), {"gate": "interleaved"}, cutplan.ShapeMismatch, r"operand b: shape \[..., k, 2 n\]"),
        ((3, 4), (4, 5), {"b2": (4, 5), "c": (3, 5)}, cutplan.Unsupported, "gate"),
        ((3, 4), (4, 5), {"math": "exact"}, ValueError, "math: must be one of 'fast', 'tf32'"),
        ((3, 4), (4, 5), {"beta": 1.0}, cutplan.InvalidProblem, "beta: must be 0 without operand c"),
        ((3, 4), (4, 5), {"alpha": float("inf")}, cutplan.InvalidProblem, "alpha"),
        ((3, 4), (4, 5), {"activation": "tanh"}, ValueError, "activation: must be one of"),
        ((3, 4), (4, 5), {"out_dtype": "float64"}, cutplan.Unsupported, "operand out: dtype"),
        ((3, 4), (4, 5), {"stream": 7}, cutplan.InvalidProblem, "stream"),
    ],
)
def test_refusals(
    a: tuple[int, ...], b: tuple[int, ...], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    tensors = {
        name: torch.ones(value) if isinstance(value, tuple) else value for name, value in options.items()
    }
    with pytest.raises(error, match=text):
        cutplan.matmul(torch.ones(a), torch.ones(b), **tensors)
    assert (cutplan.matmul(torch.ones(2, 3), torch.ones(3, 2)) == 3).all(), "the next call works"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool, torch.complex64, torch.float8_e5m2])
def test_types_without_kernels(dtype: torch.dtype) -> None:
    x = torch.ones(4, 4).to(dtype)
    with pytest.raises((cutplan.Unsupported, cutplan.DTypeMismatch), match=str(dtype).removeprefix("torch.")):
        cutplan.matmul(x, x)


def test_mixed_types_and_devices() -> None:
    with pytest.raises(cutplan.Unsupported, match="one element type required, got float16 and bfloat16"):
        cutplan.matmul(torch.ones(2, 2).half(), torch.ones(2, 2).bfloat16())
    with pytest.raises(cutplan.Unsupported, match="one element type required, got float32 and float16"):
        cutplan.matmul(torch.ones(2, 3), torch.ones(3, 3).half())  # aligned to two bytes alone
    with pytest.raises(cutplan.LayoutMismatch, match="operand a"):
        cutplan.matmul(torch.ones(8, 8)[::2, ::2], torch.ones(4, 4))


@pytest.mark.cuda
def test_operands_on_two_devices() -> None:
    x = torch.ones(2, 2, dtype=torch.float16)
    with pytest.raises(cutplan.DeviceMismatch, match="operand b: .*cuda:0.*got cpu"):
        cutplan.matmul(x.cuda(), x)
    with pytest.raises(cutplan.DeviceMismatch, match="operand b: .*cpu.*got cuda:0"):
        cutplan.matmul(x, x.cuda())


def test_libraries_mix() -> None:
    a, b = np.ones((3, 4), "float32"), torch.ones(4, 5)
    assert isinstance(cutplan.matmul(a, b), np.ndarray)
    assert isinstance(cutplan.matmul(b.T, a.T), torch.Tensor)
    out = torch.full((3, 5), torch.nan)
    assert cutplan.matmul(a, b, out=out) is out
    assert (out == 4).all()


def test_libraries_without_an_allocator_need_an_output() -> None:
    from tests.bindings.producers import Producer

    a = Producer((2, 2))
    np.frombuffer(a.memory, "float32", 4)[:] = 1
    b = np.ones((2, 2), "float32")
    with pytest.raises(cutplan.MissingOperand, match=r"operand out: required.*producers\.Producer"):
        cutplan.matmul(a, b)
    assert (cutplan.matmul(a, b, out=np.empty((2, 2), "float32")) == 2).all()


def test_plans_need_no_scratch_where_nobody_can_allocate_it() -> None:
    from tests.bindings.producers import Producer

    known = np.ones((2, 2), "float32")
    unknown, out = Producer((2, 2)), Producer((2, 2))
    np.frombuffer(unknown.memory, "float32", 4)[:] = 1
    limits = []
    for a, b, to in (
        (unknown, known, out),
        (known, unknown, out),
        (unknown, unknown, np.empty((2, 2), "float32")),
    ):
        cutplan.matmul(a, b, out=to)
        limits.append(_plans.of_thread.plans[0].preference.max_workspace_bytes)
    assert (np.frombuffer(out.memory, "float32", 4) == 2).all()
    assert limits == [0, None, None]


def test_jax_results_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    library = next((x for x in LIBRARIES if x.name == "jax"), None)
    if library is None:
        note_not_run("bindings: JAX is not installed")
        return
    from cutplan import _frameworks

    made: list[np.ndarray] = []
    empty = _frameworks.empty
    monkeypatch.setattr(_frameworks, "empty", lambda *args: made.append(empty(*args)) or made[-1])
    for dtype in ("float32", "bfloat16"):
        a = library.make(random_array(np.random.default_rng(0), (64, 64), dtype))
        y = cutplan.matmul(a, a)
        assert y.unsafe_buffer_pointer() == made[-1].ctypes.data
    with pytest.raises(cutplan.Unsupported, match="jax_enable_x64"):
        x = np.ones((2, 2))
        _frameworks.finish(cutplan.inspect(a), a, x)


@pytest.mark.cuda
def test_jax_on_the_gpu_needs_an_output() -> None:
    library = next((x for x in LIBRARIES if x.name == "jax" and x.device != "cpu"), None)
    if library is None:
        note_not_run("bindings: JAX on the GPU")
        return
    a = library.make(np.ones((16, 16), "float16"))
    with pytest.raises(cutplan.Unsupported, match="operand out: JAX arrays are immutable"):
        cutplan.matmul(a, a)
    out = torch.full((16, 16), torch.nan, dtype=torch.float16, device="cuda")
    assert (cutplan.matmul(a, a, out=out) == 16).all()


@pytest.mark.cuda
def test_explicit_stream_orders_the_fresh_output() -> None:
    """Memory still in use on torch's current stream must not become the output of a run on another one."""
    side = torch.cuda.Stream()
    a = torch.ones(512, 512, dtype=torch.float16, device="cuda")
    torch.cuda.synchronize()
    torch.cuda._sleep(50_000_000)
    busy = torch.zeros(512, 512, dtype=torch.float16, device="cuda")
    del busy  # its block is free for the current stream, on which the zeros are yet to be written
    y = cutplan.matmul(a, a, stream=side)
    torch.cuda.synchronize()
    assert (y == 512).all()


SMALLER = [
    *((), (1,), (5,), (3, 1), (1, 5), (1, 1), (3, 5)),
    *((1, 1, 1), (4, 1, 1), (1, 3, 1), (1, 3, 5), (4, 1, 5), (4, 3, 1), (4, 3, 5)),
    *((2, 1, 1, 1), (2, 1, 3, 5), (1, 4, 1, 5), (2, 4, 1, 1), (2, 4, 3, 1), (2, 4, 3, 5)),
]
# Batches of a and of b, and a shape that broadcasts to the result. Without b's, batches may be rows of a.
BROADCAST = [
    (batch, b_batch, shape)
    for batch, b_batch in (((), ()), ((4,), ()), ((4,), (4,)), ((2, 4), ()), ((2, 4), (2, 4)))
    for shape in SMALLER
    if len(shape) <= len(batch) + 2
]


@pytest.mark.parametrize(("batch", "b_batch", "shape"), BROADCAST, ids=str)
@pytest.mark.parametrize("name", ["c", "residual"])
def test_c_and_residual_broadcast(
    name: str,
    batch: tuple[int, ...],
    b_batch: tuple[int, ...],
    shape: tuple[int, ...],
    device: str,
    seed: int,
) -> None:
    """As NumPy broadcasts them to the result. Integers are exact."""
    torch.manual_seed(seed % 2**31)
    whole = lambda *size: torch.randint(-3, 4, size, device=device).half()  # noqa: E731
    a, b, t = whole(*batch, 3, 8), whole(*b_batch, 8, 5), whole(*shape)
    exact = a.double() @ b.double() + t.double()
    y = cutplan.matmul(a, b, **{name: t})  # type: ignore[arg-type]
    assert y.shape == exact.shape and (y.double() == exact).all()
    out = torch.full(exact.shape, torch.nan, dtype=torch.float16, device=device)
    cutplan.matmul(a, b, out=out, **{name: t.expand(exact.shape)})
    assert (out.double() == exact).all(), "given as a view of stride 0"


@pytest.mark.parametrize("name", ["c", "residual"])
def test_vectors_times_matrices_broadcast_too(name: str) -> None:
    m, v = torch.arange(12.0).reshape(3, 4), torch.arange(4.0)
    for a, b in ((v, m.T), (m, v), (v, v), (torch.stack([m, m]), v)):
        for shape in {(), (a @ b).shape[-1:] and (1,), (a @ b).shape}:  # a number has no dimension to spare
            t = torch.full(tuple(shape), 2.0)
            assert torch.equal(cutplan.matmul(a, b, **{name: t}), a @ b + 2)  # type: ignore[arg-type]
