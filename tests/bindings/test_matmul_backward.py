"""cutplan.matmul_backward and grouped_matmul as calls: libraries, types, how many runs, errors.

tests/gemm has their numbers: the inputs here are integers that every type sums exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from cutplan import _plans
from tests.bindings.conftest import LIBRARIES, Library, numpy_dtype
from tests.bindings.test_matmul import SHAPES, every_library, gemm_dtypes


def integers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """-1, 0 and 1."""
    return rng.integers(-1, 2, shape).astype("float64")


def summed(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    extra = x.ndim - len(shape)
    x = x.sum(tuple(range(extra)))
    return x.sum(tuple(i for i, size in enumerate(shape) if size == 1), keepdims=True)


def exact(g: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a2, b2 = np.atleast_2d(a), b[:, None] if b.ndim == 1 else b
    g2 = g.reshape(np.broadcast_shapes(a2.shape[:-2], b2.shape[:-2]) + (a2.shape[-2], b2.shape[-1]))
    da = summed(g2 @ b2.swapaxes(-1, -2), a2.shape).reshape(a.shape)
    db = summed(a2.swapaxes(-1, -2) @ g2, b2.shape).reshape(b.shape)
    return da, db, g2.sum(tuple(range(g2.ndim - 1)))


@every_library
@pytest.mark.parametrize(("a_shape", "b_shape"), SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_shapes_and_libraries(
    library: Library, a_shape: tuple[int, ...], b_shape: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = integers(rng, a_shape), integers(rng, b_shape)
    g = integers(rng, np.matmul(a, b).shape)
    for dtype in gemm_dtypes(library):
        given = [library.make(x.astype(numpy_dtype(dtype))) for x in (g, a, b)]
        gradients = cutplan.matmul_backward(*given, bias=True)
        for name, got, want in zip(gradients._fields, gradients, exact(g, a, b), strict=True):
            info = cutplan.inspect(got)
            assert info.framework == ("numpy" if library.name == "ml_dtypes" else library.name)
            assert (str(info.dtype), info.device) == (dtype, library.device)
            assert info.shape == want.shape and (library.numpy(got) == want).all(), name


def test_gradients_that_are_asked_for(device: str) -> None:
    g, a, b = (torch.ones(s, dtype=torch.float16, device=device) for s in ((3, 5), (3, 4), (4, 5)))
    assert cutplan.matmul_backward(g, a, b).dbias is None
    wide = cutplan.matmul_backward(g, a, b, bias="m", grad_dtype="float32")
    assert {x.dtype for x in wide} == {torch.float32}
    assert wide.dbias.shape == (3, 1) and (wide.dbias == 5).all()
    assert (wide.da == 5).all() and (wide.db == 3).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_few_runs_and_one_rounding(dtype: str) -> None:
    """Sums over a batch are part of k where the strides allow; else they are added up in float32."""
    runs: list[cutplan.GemmDescriptor] = []
    kind = getattr(torch, dtype)
    ones = lambda *shape: torch.ones(shape, dtype=kind)  # noqa: E731

    def problems(g: torch.Tensor, a: torch.Tensor, b: torch.Tensor, **options: Any) -> list[tuple[int, ...]]:
        gradients = cutplan.matmul_backward(g, a, b, **options)
        runs[:] = [plan.descriptor for plan in _plans.of_thread.plans]
        assert (gradients.da == g.numel() * a.shape[-1] / a.numel()).all()
        assert (gradients.db == g.numel() * b.shape[-2] / b.numel()).all()
        return [(x.batch, x.m, x.n, x.k) for x in runs]

    assert problems(ones(3, 5), ones(3, 4), ones(4, 5)) == [(1, 3, 4, 5), (1, 4, 5, 3)]
    assert problems(ones(2, 7, 3, 5), ones(2, 7, 3, 4), ones(4, 5), bias=True) == [
        (1, 42, 4, 5),
        (1, 4, 5, 42),
        (1, 1, 5, 42),
    ], "one product each"
    assert problems(ones(7, 3, 5), ones(7, 3, 4), ones(7, 4, 5)) == [(7, 3, 4, 5), (7, 4, 5, 3)]
    shared = problems(ones(7, 3, 5), ones(3, 4), ones(7, 4, 5))
    assert shared == [(1, 3, 4, 5)] * 7 + [(7, 4, 5, 3)], "g and b step apart: seven products add up"
    if dtype == "float16":
        assert [str(x.d) for x in runs[:7]] == ["float32"] * 6 + ["float16"]
    assert [str(x.c) for x in runs[1:7]] == ["float32"] * 6 and runs[0].epilogue.c is False
    assert problems(ones(2, 7, 3, 5), ones(2, 7, 3, 4), ones(7, 4, 5)) == [
        *[(7, 3, 4, 5)] * 2,
        *[(7, 4, 5, 3)] * 2,
    ]


def test_sums_of_nothing_are_written() -> None:
    g, a, b = torch.ones(0, 3, 5), torch.ones(0, 3, 4), torch.ones(4, 5)
    gradients = cutplan.matmul_backward(g, a, b, bias=True)
    assert (gradients.db == 0).all() and (gradients.dbias == 0).all() and gradients.da.shape == (0, 3, 4)
    gradients = cutplan.matmul_backward(torch.ones(0, 3, 5), torch.ones(3, 4), torch.ones(0, 4, 5), bias="m")
    assert (gradients.da == 0).all() and (gradients.dbias == 0).all()


@every_library
def test_through_an_activation(library: Library, seed: int) -> None:
    """relu has a derivative that every type holds exactly."""
    rng = np.random.default_rng(seed)
    a, b, g, aux = (integers(rng, s) for s in ((2, 3, 4), (4, 5), (2, 3, 5), (2, 3, 5)))
    want = exact(g * (aux > 0), a, b)
    for dtype in gemm_dtypes(library):
        given = [library.make(x.astype(numpy_dtype(dtype))) for x in (g, a, b, aux)]
        gradients = cutplan.matmul_backward(*given[:3], bias=True, activation="relu", aux=given[3])
        for got, right in zip(gradients, want, strict=True):
            assert (library.numpy(got) == right).all()


def test_a_wider_gradient_than_its_operands(device: str) -> None:
    a, b = (torch.ones(s, dtype=torch.float16, device=device) for s in ((3, 4), (4, 5)))
    g = torch.full((3, 5), 0.5, dtype=torch.float32, device=device)
    gradients = cutplan.matmul_backward(g, a, b, activation="relu", aux=g)
    assert (gradients.da == 2.5).all() and gradients.da.dtype == torch.float16


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"grad": torch.ones(3, 4)}, cutplan.ShapeMismatch, r"operand grad: shape \[3, 5\] required"),
        (
            {"grad": torch.ones(3, 5).half()},
            cutplan.DTypeMismatch,
            "operand grad: a's dtype float32 required",
        ),
        (
            {"grad": torch.ones(6, 10)[::2, ::2]},
            cutplan.LayoutMismatch,
            "operand grad: one of its last two dimensions contiguous .*; pass one that is contiguous",
        ),
        ({"b": torch.ones(5, 5)}, cutplan.ShapeMismatch, "operand b: 4 rows required"),
        ({"b": torch.ones(4, 5).half()}, cutplan.DTypeMismatch, "operand b: a's dtype float32 required"),
        ({"activation": "silu"}, cutplan.MissingOperand, "operand aux: required by activation='silu'"),
        ({"aux": torch.ones(3, 5)}, cutplan.InvalidProblem, "aux: an activation required"),
        ({"aux": torch.ones(5), "activation": "relu"}, cutplan.ShapeMismatch, r"operand aux: shape \[3, 5\]"),
        ({"activation": "tanh"}, ValueError, "activation: must be one of"),
        ({"bias": "k"}, ValueError, "bias: must be one of False, True, 'n', 'm'"),
        ({"grad_dtype": "int8"}, cutplan.Unsupported, "operand da: dtype"),
        ({"stream": 7}, cutplan.InvalidProblem, "stream"),
    ],
)
def test_refusals(change: dict[str, Any], error: type[Exception], text: str) -> None:
    good: dict[str, Any] = {"grad": torch.ones(3, 5), "a": torch.ones(3, 4), "b": torch.ones(4, 5)}
    with pytest.raises(error, match=text):
        cutplan.matmul_backward(**{**good, **change})
    assert (cutplan.matmul_backward(**good).db == 3).all(), "the next call works"


# ---- grouped_matmul


WITH_OFFSETS = [x for x in LIBRARIES if x.name in ("numpy", "torch", "jax") and x.device == "cpu"]


@pytest.mark.parametrize("library", WITH_OFFSETS, ids=lambda x: x.id)
def test_groups_of_every_library(library: Library, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, g = (integers(rng, s) for s in ((7, 4), (3, 4, 5), (7, 5)))
    bounds = [0, 3, 3, 7]
    offsets = library.make(np.array(bounds, "int32"))
    for dtype in gemm_dtypes(library):
        x, weights, grad = (library.make(t.astype(numpy_dtype(dtype))) for t in (a, b, g))
        y = cutplan.grouped_matmul(x, weights, offsets)
        assert cutplan.inspect(y).framework == library.name and str(cutplan.inspect(y).dtype) == dtype
        assert (library.numpy(y) == np.concatenate([a[:3] @ b[0], a[3:] @ b[2]])).all()
        transposed = cutplan.TensorView(x, shape=(4, 7), strides=(1, 4))  # JAX's own x.T is a copy
        dw = cutplan.grouped_matmul(transposed, grad, offsets)
        assert (
            library.numpy(dw)
            == np.stack([a[i:j].T @ g[i:j] for i, j in zip(bounds, bounds[1:], strict=False)])
        ).all()


def test_groups_are_written_where_they_are(device: str) -> None:
    a = torch.ones(6, 4, dtype=torch.float16, device=device)
    b = torch.ones(2, 4, 5, dtype=torch.float16, device=device)
    offsets = torch.tensor([1, 2, 4], dtype=torch.int32, device=device)
    out = torch.full((6, 5), torch.nan, dtype=torch.float32, device=device)
    assert cutplan.grouped_matmul(a, b, offsets, out=out) is out
    assert (out[1:4] == 4).all() and out[[0, 4, 5]].isnan().all()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            {"a": torch.ones(1, 6, 4)},
            cutplan.ShapeMismatch,
            r"operand a: rank 2 required, got shape \[1, 6, 4\]",
        ),
        ({"b": torch.ones(4)}, cutplan.ShapeMismatch, "operand b: rank 2 or 3 required"),
        ({"offsets": torch.ones(1, 3).int()}, cutplan.ShapeMismatch, "operand offsets: rank 1 required"),
        (
            {"offsets": torch.tensor([0, 6]).int()},
            cutplan.ShapeMismatch,
            r"operand offsets: shape \[3\].*required",
        ),
        (
            {"offsets": torch.tensor([0, 1, 6])},
            cutplan.DTypeMismatch,
            "operand offsets: dtype int32 required",
        ),
        ({"offsets": torch.tensor([0, 7, 6]).int()}, cutplan.InvalidProblem, "operand offsets: entry 1"),
        ({"gate": "interleaved"}, cutplan.ShapeMismatch, r"operand b: an even number of columns"),
        ({"out": torch.ones(6, 4)}, cutplan.ShapeMismatch, r"operand out: shape \[6, 5\] required"),
    ],
)
def test_groups_that_are_refused(change: dict[str, Any], error: type[Exception], text: str) -> None:
    good = {"a": torch.ones(6, 4), "b": torch.ones(2, 4, 5), "offsets": torch.tensor([0, 1, 6]).int()}
    with pytest.raises(error, match=text):
        cutplan.grouped_matmul(**{**good, **change})
    assert (cutplan.grouped_matmul(**good) == 4).all(), "the next call works"


# ---- gradients as autograd makes and wants them


WITH_STRIDES = [x for x in LIBRARIES if x.name in ("numpy", "torch", "cupy")]


def expand(library: Library, value: np.ndarray, shape: tuple[int, ...]) -> Any:
    """A view of stride 0, by the library's own means."""
    x = library.make(value)
    if library.name == "torch":
        return x.expand(shape)
    import importlib

    return importlib.import_module(library.name).broadcast_to(x, shape)


@pytest.mark.parametrize("library", WITH_STRIDES, ids=lambda x: x.id)
@pytest.mark.parametrize("of", [(), (1, 5), (3, 1), (2, 1, 1), (2, 1, 5), (3, 5)], ids=str)
@pytest.mark.parametrize("activation", ["none", "relu"])
def test_gradients_of_stride_zero(library: Library, of: tuple[int, ...], activation: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = gemm_dtypes(library)[0]
    cast = lambda x: x.astype(numpy_dtype(dtype))  # noqa: E731
    a, b, g, aux = (integers(rng, s) for s in ((2, 3, 4), (4, 5), of, (2, 3, 5)))
    grad = expand(library, cast(g), (2, 3, 5))
    assert 0 in cutplan.inspect(grad).strides
    options: Any = {"activation": activation, "aux": library.make(cast(aux))} if activation != "none" else {}
    gradients = cutplan.matmul_backward(
        grad, library.make(cast(a)), library.make(cast(b)), bias=True, **options
    )
    dz = np.broadcast_to(g, (2, 3, 5)) * ((aux > 0) if options else 1)
    for got, want in zip(gradients, exact(dz, a, b), strict=True):
        assert (library.numpy(got) == want).all()


def test_only_the_gradient_that_cannot_be_read_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    inspect = cutplan._core.inspect

    def spy(tensor: Any, name: str = "tensor") -> cutplan.TensorInfo:
        info = inspect(tensor, name)
        if name == "grad":
            read.append(info.data)
        return info

    monkeypatch.setattr(cutplan._core, "inspect", spy)
    a, b = torch.ones(2, 3, 4), torch.ones(4, 5)
    for grad, copied in (
        (torch.ones(2, 3, 5), False),
        (torch.ones(3, 5).expand(2, 3, 5), False),  # a batch that is shared is read as it is
        (torch.ones(2, 5, 3).mT, False),
        (torch.ones(2, 3, 9)[..., 2:7], False),
        (torch.ones(1, 5).expand(2, 3, 5), True),
        (torch.ones(2, 3, 1).expand(2, 3, 5), True),
        (torch.ones(30).as_strided((2, 3, 5), (7, 1, 1)), True),  # overlapping
        (torch.ones(40).as_strided((2, 3, 5), (12, 4, 1)), True),
    ):
        read.clear()
        assert (cutplan.matmul_backward(grad, a, b).da == 5).all()
        assert len(set(read)) == (2 if copied else 1)


def test_autograd_of_a_sum(device: str) -> None:
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x, w)
            return cutplan.matmul(x.detach(), w.detach())

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> Any:  # type: ignore[override]
            return cutplan.matmul_backward(grad, *ctx.saved_tensors)[:2]

    x = torch.ones(3, 4, device=device, dtype=torch.float16, requires_grad=True)
    w = torch.ones(5, 4, device=device, dtype=torch.float16, requires_grad=True)
    Product.apply(x, w.T).sum().backward()  # type: ignore[no-untyped-call]
    assert (x.grad == 5).all() and (w.grad == 3).all()  # type: ignore[union-attr]
    assert w.grad.is_contiguous()  # type: ignore[union-attr]


@pytest.mark.parametrize("library", WITH_STRIDES, ids=lambda x: x.id)
@pytest.mark.parametrize("grad_dtype", [None, "float32"])
def test_a_gradient_is_laid_out_as_its_operand(library: Library, grad_dtype: str | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = next(x for x in gemm_dtypes(library) if grad_dtype is None or x == "float16")
    cast = lambda x: library.make(x.astype(numpy_dtype(dtype)))  # noqa: E731
    a, b, g = (integers(rng, s) for s in ((7, 3, 4), (4, 5), (7, 3, 5)))
    turn = lambda x: cast(np.ascontiguousarray(x.swapaxes(-1, -2))).swapaxes(-1, -2)  # noqa: E731
    for make_a, make_b in ((cast, turn), (turn, cast), (turn, turn), (cast, cast)):
        given = make_a(a), make_b(b)
        gradients = cutplan.matmul_backward(cast(g), *given, grad_dtype=grad_dtype)
        for got, like, want in zip(gradients, given, exact(g, a, b), strict=False):
            strides = cutplan.inspect(got).strides
            wanted = cutplan.inspect(like).strides
            assert (strides[-1] == 1) == (wanted[-1] == 1) and 1 in strides[-2:]
            assert cutplan.inspect(got).shape == cutplan.inspect(like).shape
            assert (library.numpy(got) == want).all()
    # Summed product by product, in a total of the same order.
    a2, b2, g2 = integers(rng, (3, 4)), integers(rng, (7, 4, 5)), g
    gradients = cutplan.matmul_backward(cast(g2), turn(a2), turn(b2), grad_dtype=grad_dtype)
    assert (library.numpy(gradients.da) == exact(g2, a2, b2)[0]).all()
    assert cutplan.inspect(gradients.da).strides[0] == 1
