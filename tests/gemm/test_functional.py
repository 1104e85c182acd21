"""What matmul() decides above its plans: several runs, the order of new results, batch invariance, words."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from cutplan import _plans


def values(*shape: int, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float16) -> torch.Tensor:
    """Integers, of which small products are exact."""
    source = torch.Generator().manual_seed(seed % 2**31)
    return torch.randint(-3, 4, shape, generator=source).to(dtype).to(device)


# ---- several runs


def c_in_out(memory: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"out": memory[:2], "c": memory[0]}


def residual_beside_out(memory: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"out": memory[:2], "residual": memory[1:]}


def aux_over_out(memory: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"out": memory[:2], "aux": memory[1:]}


def one_for_all(memory: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"out": memory[:1].expand(2, 3, 8, 8)}


def aux_one_for_all(memory: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"out": memory[:2], "aux": memory[2:].expand(2, 3, 8, 8)}


def half_a_step(memory: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"out": memory.as_strided((2, 3, 8, 8), (96, 64, 8, 1))}


def a_is_written_by_an_earlier_run(memory: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"a": memory[:2], "out": memory[1:]}


def bias_in_out(memory: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"out": memory[:2], "bias": memory[1, 2, 7]}


@pytest.mark.parametrize(
    ("shared", "text"),
    [
        (c_in_out, "operand out: must not share memory with operand c, .*only c may be the result itself"),
        (residual_beside_out, "operand out: must not share memory with operand residual"),
        (aux_over_out, "operand aux: must not share memory with operand out"),
        (
            one_for_all,
            r"operand out: its elements must not share memory, got float16 \[2, 3, 8, 8\] with strides "
            r"\[0, 64, 8, 1\]",
        ),
        (aux_one_for_all, r"operand aux: its elements must not share memory, got float16 \[2, 3, 8, 8\]"),
        (half_a_step, r"operand out: its elements .* with strides \[96, 64, 8, 1\]"),
        (a_is_written_by_an_earlier_run, "operand out: must not share memory with operand a"),
        (bias_in_out, "operand out: must not share memory with operand bias"),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_runs_share_no_output(
    shared: Callable[[torch.Tensor], dict[str, torch.Tensor]],
    text: str,
    backwards: bool,
    device: str,
    seed: int,
) -> None:
    """Refused as one run refuses it, and before the first has written."""
    memory = values(3, 3, 8, 8, seed=seed, device=device)
    b = values(3, 8, 8, seed=seed + 1, device=device)
    before = memory.clone()
    operands: dict[str, Any] = {"a": values(2, 3, 8, 8, seed=seed + 2, device=device), **shared(memory)}
    if backwards:  # which NumPy steps and torch does not
        if device != "cpu":
            pytest.skip("torch tensors have no negative strides")
        operands = {name: x.numpy()[::-1] if x.ndim == 4 else x for name, x in operands.items()}
        text = text.replace(r"[96,", r"[-96,")
    with pytest.raises(cutplan.Overlap, match=text):
        cutplan.matmul(b=b, **operands)
    assert torch.equal(memory, before)


def test_runs_may_share_what_one_run_may(device: str, seed: int) -> None:
    """C that is the result itself, and slices of one buffer side by side."""
    a, b = values(2, 3, 8, 8, seed=seed, device=device), values(3, 8, 8, seed=seed + 1, device=device)
    out = values(2, 3, 8, 8, seed=seed + 2, device=device)
    expected = a @ b + out
    assert torch.equal(cutplan.matmul(a, b, c=out, out=out), expected)
    assert len(_plans.of_thread.plans) == 2
    for of in (
        lambda wide, i: wide[..., 8 * i : 8 * i + 8],
        lambda wide, i: wide.view(2, 3, 2, 8, 8)[:, :, i],
        lambda wide, i: wide.view(2, 2, 3, 8, 8)[:, i],
    ):
        wide = torch.zeros(2, 3, 8, 16, dtype=a.dtype, device=device)
        of(wide, 0).copy_(a)
        cutplan.matmul(of(wide, 0), b, out=of(wide, 1))
        assert torch.equal(of(wide, 1), a @ b) and torch.equal(of(wide, 0), a)


# ---- the order of a new result


@pytest.mark.parametrize("like", ["c", "residual", "aux"])
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((4, 8), (8, 6)),
        ((2, 4, 8), (2, 8, 6)),
        ((2, 4, 8), (8, 6)),
        ((4, 8), (2, 8, 6)),
        ((3, 2, 4, 8), (8, 6)),
        ((3, 2, 4, 8), (2, 8, 6)),
        ((3, 2, 4, 8), (3, 2, 8, 6)),
    ],
    ids=str,
)
def test_a_result_is_ordered_as_what_goes_with_it(
    like: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...], device: str, seed: int
) -> None:
    a, b = values(*a_shape, seed=seed, device=device), values(*b_shape, seed=seed + 1, device=device)
    exact = a @ b
    layouts = {exact.mT.shape: lambda t: t.mT}
    if exact.ndim > 2:  # in memory one column-major matrix of all rows
        layouts[(6, *exact.shape[:-1])] = lambda t: t.movedim(0, -1)
    for shape, turn in layouts.items():
        x = turn(values(*shape, seed=seed + 2, device=device))
        y = cutplan.matmul(a, b, **{like: x})  # type: ignore[arg-type]
        assert torch.equal(y, exact if like == "aux" else exact + x) and y.mT.stride(-1) == 1
        assert like != "aux" or torch.equal(x, exact)
    if like != "aux" and exact.ndim > 2:
        x = values(6, 4, seed=seed + 2, device=device).T
        y = cutplan.matmul(a, b, **{like: x})  # type: ignore[arg-type]
        assert torch.equal(y, exact + x) and y.mT.stride(-1) == 1, "one for all batches"


def test_a_numpy_result_is_ordered_so_too(seed: int) -> None:
    a, b, c = (values(*shape, seed=seed).float().numpy() for shape in ((4, 8), (8, 6), (6, 4)))
    y = cutplan.matmul(a, b, c=c.T)
    assert isinstance(y, np.ndarray) and y.flags.f_contiguous and (y == a @ b + c.T).all()


# ---- words


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((2, 3, 4), (4, 5)), ((2, 2, 3, 4), (4, 5)), ((2, 2, 3, 4), (2, 4, 5)), ((2, 2, 3, 4), (2, 2, 4, 5))],
    ids=str,
)
def test_errors_show_the_shapes_of_the_call(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    """Whatever matrices a call is laid out as."""
    a, b, batch = torch.ones(a_shape), torch.ones(b_shape), list(a_shape[:-2])
    for operand in ("out", "aux"):
        said = f"operand {operand}: shape {[*batch, 3, 5]} required, got {[*batch, 3, 6]}"
        with pytest.raises(cutplan.ShapeMismatch) as caught:
            cutplan.matmul(a, b, **{operand: torch.ones(*batch, 3, 6)})  # type: ignore[arg-type]
        assert str(caught.value) == said
    gaps = torch.ones(*batch, 3, 10)[..., ::2]
    for operand in ("out", "aux", "c", "residual"):
        with pytest.raises(cutplan.LayoutMismatch) as caught:
            cutplan.matmul(a, b, **{operand: gaps})  # type: ignore[arg-type]
        assert f"got stride 2 (float32 {[*gaps.shape]} with strides {[*gaps.stride()]})" in str(caught.value)
    frozen = np.ones((*batch, 3, 5), "float32")
    frozen.flags.writeable = False
    with pytest.raises(cutplan.ReadOnly) as caught:
        cutplan.matmul(a, b, out=frozen)
    assert f"float32 {[*frozen.shape]} with strides" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda t: cutplan.matmul(t(4, 8), t(6, 8).T, b2=t(8, 6)),
            r"operand b2: column-major \(first dimension contiguous\), as b, .*pass one that is ordered so",
        ),
        (
            lambda t: cutplan.matmul(t(2, 4, 8), t(2, 6, 8).mT, b2=t(2, 8, 6)),
            r"operand b2: column-major \(second to last dimension contiguous\), as b, ",
        ),
        (
            lambda t: cutplan.matmul(t(4, 8), t(8, 6), b2=t(6, 8).T),
            r"operand b2: row-major \(last dimension contiguous\), as b, .*pass one that is contiguous",
        ),
        (
            lambda t: cutplan.GemmPlan.select(
                cutplan.GemmDescriptor(m=4, n=6, k=8, batch=2, a="float32"), "cpu"
            ).run(t(2, 4, 8), t(2, 8, 6), t(2, 4, 6)),
            r"operand b: column-major \(second to last dimension contiguous\) .*by the plan's layout",
        ),
        (
            lambda t: cutplan.matmul(t(4, 8), t(8, 6), b2=t(8, 6), residual=t(6, 4).T),
            "operand residual: row-major required with gate 'separate', got a column-major one",
        ),
        (
            lambda t: cutplan.matmul(t(4, 8), t(8, 6), c=t(6, 4).T, out=t(4, 6)),
            "operand c: row-major",
        ),
        (
            lambda t: cutplan.describe(t(4, 8), t(8, 6), t(4, 6), aux=t(4, 6)),
            "operand aux: aux_mode required beside it.* 'store' or 'gradient'$",
        ),
    ],
)
def test_words(call: Callable[[Callable[..., torch.Tensor]], object], text: str) -> None:
    with pytest.raises(cutplan.Error, match=text):
        call(torch.ones)


@pytest.mark.parametrize("make", [torch.ones, np.ones], ids=["torch", "numpy"])
def test_a_result_that_is_too_large(make: Callable[..., Any]) -> None:
    with pytest.raises(MemoryError):
        cutplan.matmul(make((2**24, 1)), make((1, 2**24)))


# ---- batch invariance


INVARIANT = cutplan.PlanPreference(batch_invariant=True)


@pytest.mark.parametrize("k, n", [(64, 8), (12, 8), (7, 5)])
def test_batch_invariant_plans_do_not_see_how_many_rows_there_are(k: int, n: int, device: str) -> None:
    """A single row tells neither its order nor its pitch."""
    w = torch.ones(n, k, dtype=torch.float16, device=device)
    for b in (w.T, w.T.contiguous()):
        alignments = set()
        for m, batch in itertools.product((1, 2, 5), ((), (1,), (3,))):
            a = torch.ones(*batch, m, k, dtype=torch.float16, device=device)
            cutplan.matmul(a, b, preference=INVARIANT)
            alignments.add(_plans.of_thread.plans[0].descriptor.alignment)
        assert len(alignments) == 1


def test_batch_invariance_needs_a_row_major_a(device: str) -> None:
    x = torch.ones(8, 4, dtype=torch.float16, device=device)
    for a, b in ((x.T, x), (x.T.expand(2, 4, 8), x), (x.T.expand(3, 2, 4, 8), x.expand(2, 8, 4))):
        with pytest.raises(cutplan.Unsupported, match="operand a: row-major required with batch_invariant"):
            cutplan.matmul(a, b, preference=INVARIANT)
    da, db, _ = cutplan.matmul_backward(x @ x.T, x, x.T, preference=INVARIANT)
    assert torch.equal(da, x @ x.T @ x) and torch.equal(db, x.T @ (x @ x.T)), "db sums over rows"
    with pytest.raises(cutplan.Unsupported, match="operand grad: row-major required with batch_invariant"):
        cutplan.matmul_backward(torch.ones_like(x).T, x[:4], x.T, preference=INVARIANT)


@pytest.mark.cuda
def test_batch_invariance_needs_the_alignment_of_contiguous_rows() -> None:
    padded = torch.ones(4, 65, dtype=torch.float16, device="cuda")[:, :64]
    w = torch.ones(64, 64, dtype=torch.float16, device="cuda")
    with pytest.raises(
        cutplan.Misaligned, match="operand a: .* required with batch_invariant.*contiguous copy$"
    ):
        cutplan.matmul(padded, w, preference=INVARIANT)
    assert (cutplan.matmul(padded, w) == 64).all()
