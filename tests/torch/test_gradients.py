"""Gradients of every operand of every function, in float64, and what the backward passes keep and refuse."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import cutplan
import cutplan.torch as ct

from ..gemm.problems import generator
from .cases import NAMES, Make, cases


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str, device: str, seed: int) -> None:
    case = cases(Make(seed, device))[name]
    leaves = case.leaves()

    def call(*tensors: torch.Tensor) -> Any:
        return case.call(**dict(zip(leaves, tensors, strict=True)))

    # Gradients of attention go through LSE, which is float32.
    loose = {"atol": 2e-5, "rtol": 1e-3} if name.startswith("attention") else {}
    torch.autograd.gradcheck(call, tuple(leaves.values()), nondet_tol=1e-12, **loose)


def test_gradients_of_several_outputs(device: str, seed: int) -> None:
    """Of Q, K and V at once, of some of them, and with what takes part in one product."""
    make = Make(seed, device)
    x, w, bias = make.normal(2, 5, 8), make.normal(8, 29), make.normal(29)

    def project(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor) -> Any:
        return ct.matmul(x, w, bias=bias, activation="silu", out_columns=(16, 8, 5))

    torch.autograd.gradcheck(project, (x, w, bias))
    q, k, v = project(x, w, bias)
    (got,) = torch.autograd.grad(k.sum(), w)
    assert bool((got[:, :16] == 0).all()) and bool((got[:, 24:] == 0).all())
    with torch.no_grad():
        for own, column in zip(project(x, w, bias), (q, k, v), strict=True):
            assert own.is_contiguous()
            torch.testing.assert_close(own, column)
    whole = ct.matmul(x, w, bias=bias, activation="silu")
    for got, part in zip(project(x, w, bias), whole.split([16, 8, 5], -1), strict=True):
        assert torch.equal(got, part)
    with pytest.raises(cutplan.InvalidProblem, match="n = 29 columns"):
        ct.matmul(x, w, out_columns=(16, 16))
    with pytest.raises(cutplan.ShapeMismatch, match="operand b: two dimensions"):
        ct.matmul(x, w[:, 0], out_columns=(1,))


def test_gradients_of_scales(device: str, seed: int) -> None:
    """float32, as scales are: against the formula."""
    make = Make(seed, device, torch.float32)
    a, b, rows, columns = make.normal(9, 8), make.normal(8, 6), make.normal(9), make.normal(6)
    y = ct.matmul(a, b, row_scale=rows, column_scale=columns, alpha=0.5, activation="silu", math="strict")
    expected = torch.nn.functional.silu(0.5 * (a.double() @ b.double()) * rows[:, None] * columns)
    grad = torch.randn_like(y)
    got = torch.autograd.grad(y, (a, b, rows, columns), grad)
    wanted = torch.autograd.grad(expected, (a, b, rows, columns), grad.double())
    for x, z in zip(got, wanted, strict=True):
        torch.testing.assert_close(x, z, atol=2e-5, rtol=2e-5)


def test_gradients_of_scales_of_groups(device: str, seed: int) -> None:
    make = Make(seed, device, torch.float32)
    offsets = make.integers(1, 4, 4, 9)
    a, b, rows, columns = make.normal(10, 8), make.normal(3, 8, 6), make.normal(10), make.normal(3, 6)
    y = ct.grouped_matmul(a, b, offsets, row_scale=rows, column_scale=columns, alpha=0.5, math="strict")
    grad = torch.randn_like(y)
    inside = torch.zeros(10, 1, device=device)
    inside[1:9] = 1
    got = torch.autograd.grad(y, (a, b, rows, columns), grad * inside)
    group = torch.tensor([0, 0, 0, 0, 2, 2, 2, 2, 2, 2], device=device)
    product = torch.einsum("mk,mkn->mn", a.double(), b.double()[group])
    expected = 0.5 * product * rows[:, None] * columns[group] * inside
    wanted = torch.autograd.grad(expected, (a, b, rows, columns), grad.double())
    for x, z in zip(got, wanted, strict=True):
        torch.testing.assert_close(x, z, atol=2e-5, rtol=2e-5)


def test_rows_outside_the_groups_have_gradient_0(device: str, seed: int) -> None:
    make = Make(seed, device)
    a, b = make.normal(9, 4), make.normal(2, 4, 6)
    y = ct.grouped_matmul(a, b, make.integers(1, 3, 7), activation="silu")
    (da,) = torch.autograd.grad(y, a, torch.ones_like(y))
    assert (da[[0, 7, 8]] == 0).all() and (da[1:7] != 0).all()


def test_gradients_of_merged_states(device: str, seed: int) -> None:
    make = Make(seed, device, torch.float32)
    o, lse = make.normal(3, 2, 4, 5, 8), make.normal(3, 2, 4, 5)
    with torch.no_grad():
        lse[0, 0, 0, 0] = -torch.inf
        o[0, 0, 0, 0] = torch.nan
    got = ct.merge_states(o, lse)
    for x, y in zip(got, ct.merge_states([*o], [*lse]), strict=True):
        assert torch.equal(x, y)
    whole = torch.logsumexp(lse.double(), 0)
    weights = torch.exp(lse.double() - whole)[..., None]
    expected = ((weights * o.double().nan_to_num(0)).sum(0), whole)
    grads = [torch.randn_like(x) for x in got]
    made = torch.autograd.grad(got, (o, lse), grads)
    wanted = torch.autograd.grad(expected, (o, lse), [g.double() for g in grads])
    for x, z in zip((*got, *made), (*expected, *wanted), strict=True):
        torch.testing.assert_close(x.double(), z.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gradients_of_a_linear_layer_are_the_plans(dtype: torch.dtype, device: str, seed: int) -> None:
    """To the bit what the products alone give, whose bounds are tested where they are."""
    make = Make(seed, device, dtype)
    x, w, bias = make.normal(3, 17, 40), make.normal(24, 40), make.normal(24)
    y = ct.linear(x, w, bias)
    grad = torch.randn_like(y)
    dx, dw, dbias = torch.autograd.grad(y, (x, w, bias), grad)
    flat, rows = grad.flatten(0, 1), x.detach().flatten(0, 1)
    with torch.no_grad():
        assert torch.equal(y, cutplan.matmul(x, w.t(), bias=bias))
        assert torch.equal(dx, cutplan.matmul(grad, w))
        assert torch.equal(dw, cutplan.matmul(flat.t(), rows))
        assert torch.equal(dbias, flat.sum(0))


def test_gradients_are_in_the_order_of_their_operands(device: str, seed: int) -> None:
    make = Make(seed, device)
    a, b = make.normal(5, 4), make.normal(6, 4).detach().mT.requires_grad_()
    for y in (ct.matmul(a, b), ct.matmul(a, b, activation="silu"), ct.matmul(a.expand(3, 5, 4), b)):
        (db,) = torch.autograd.grad(y, b, torch.ones_like(y))
        assert db.stride() == b.stride()


def test_gradients_that_are_one_number(device: str, seed: int) -> None:
    """``y.sum().backward()`` hands over strides of 0."""
    make = Make(seed, device)
    x, w = make.normal(3, 5, 8), make.normal(6, 8)
    ct.linear(x, w).sum().backward()
    torch.testing.assert_close(x.grad, w.sum(0).expand(3, 5, 8))
    q = make.normal(2, 3, 5, 8)
    ct.scaled_dot_product_attention(q, q, q).sum().backward()
    assert q.grad is not None


def test_what_needs_no_gradient_gets_none(device: str, seed: int) -> None:
    make = Make(seed, device)
    x, w, bias = make.normal(5, 8, grad=False), make.normal(6, 8, grad=False), make.normal(6)
    ct.linear(x, w, bias).sum().backward()
    assert x.grad is None and w.grad is None and bias.grad is not None


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("rope")])
def test_a_second_derivative_is_refused_by_name(name: str, seed: int) -> None:
    case = cases(Make(seed, "cpu"))[name]
    leaves = list(case.leaves().values())
    y = case.call()
    grads = torch.autograd.grad(y, leaves, torch.ones_like(y), create_graph=True)
    operator = {"attention": "attention", "groups": "grouped_matmul", "alibi": "alibi"}
    wanted = next((op for start, op in operator.items() if name.startswith(start)), "matmul")
    for grad in grads:
        if grad.numel() > 0 and grad.requires_grad:
            with pytest.raises(RuntimeError, match=f"cutplan::{wanted}_backward has no derivative"):
                grad.sum().backward(retain_graph=True)


def test_rope_is_differentiated_as_often_as_wanted(seed: int) -> None:
    x = Make(seed, "cpu").normal(1, 2, 3, 8)
    assert torch.autograd.gradgradcheck(lambda x: ct.rope(x), (x,))


def _kept(call: Any) -> list[torch.Tensor]:
    kept: list[torch.Tensor] = []

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        call()
    return kept


def _addresses(tensors: Any) -> set[int]:
    return {x.data_ptr() for x in tensors}


def test_what_the_backward_pass_keeps(seed: int) -> None:
    """What it reads, and no more."""
    make = Make(seed, "cpu")
    x, w = make.normal(5, 8), make.normal(6, 8)
    assert _addresses(_kept(lambda: ct.linear(x, w))) == _addresses([x, w])
    with_activation = _kept(lambda: ct.linear(x, w, activation="silu"))
    assert len(_addresses(with_activation) - _addresses([x, w])) == 1
    assert max(t.numel() for t in with_activation) == max(x.numel(), w.numel(), 30)
    frozen = make.normal(6, 8, grad=False)
    assert _addresses(_kept(lambda: ct.linear(x, frozen))) == _addresses([frozen])
    assert _addresses(_kept(lambda: ct.matmul(x, frozen.t(), residual=make.normal(5, 6)))) == _addresses(
        [frozen]
    )
    assert _kept(lambda: ct.linear(x.detach(), frozen, make.normal(6))) == []
    q, k, v = make.normal(2, 4, 5, 8), make.normal(2, 2, 7, 8), make.normal(2, 2, 7, 8)
    o: list[Any] = []
    kept = _kept(lambda: o.append(ct.attention(q, k, v, return_lse=True)))
    assert _addresses(kept) == _addresses([q, k, v, *o[0]])


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints_compute_again(use_reentrant: bool, seed: int) -> None:
    make = Make(seed, "cpu")
    x, w, w2 = make.normal(5, 8), make.normal(8, 8), make.normal(8, 8)

    def block(x: torch.Tensor) -> torch.Tensor:
        return ct.gated_mlp(ct.linear(x, w, activation="gelu_erf"), w, w2, w2)

    expected = torch.autograd.grad(block(x).sum(), (x, w, w2))
    checkpoint(block, x, use_reentrant=use_reentrant).sum().backward()
    assert all(torch.equal(t.grad, e) for t, e in zip((x, w, w2), expected, strict=True))
    if not use_reentrant:
        (grad,) = torch.autograd.grad(
            checkpoint(ct.linear, x, w, use_reentrant=False).sum(), x, create_graph=True
        )
        torch.testing.assert_close(grad, w.sum(0).expand(5, 8))


def test_gates_mean_the_same_with_gradients_and_without(device: str, seed: int) -> None:
    make = Make(seed, device)
    x, b, b2 = make.normal(3, 4), make.normal(4, 5), make.normal(5, 4).t()
    bias, c = make.normal(5), make.normal(3, 5)
    for options in ({}, {"bias": bias, "bias2": bias}, {"residual": c}, {"residual": make.normal(5, 3).t()}):
        y = ct.matmul(x, b, b2=b2, activation="silu", **options)
        with torch.no_grad():
            torch.testing.assert_close(ct.matmul(x, b, b2=b2, activation="silu", **options), y)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"b2": b2, "c": c}, "operand c"),
        ({"b2": b2, "bias": bias}, "operand bias2"),
        ({"b2": b2, "residual": make.normal(2, 3, 5)}, "operand residual"),
        ({"b2": b2, "gate": "interleaved"}, "operand b2"),
        ({"gate": "interleaved"}, "operand b: .*gate='interleaved'"),
        ({"b2": make.normal(4, 6)}, "operand b2"),
    ]
    for options, text in refused:
        for mode in (torch.enable_grad(), torch.no_grad()):
            with mode, pytest.raises(cutplan.Error, match=text):
                ct.matmul(x, b, activation="silu", **options)
    w, up = make.normal(5, 4), make.normal(4, 5).t()
    y = ct.gated_mlp(x, w, up, make.normal(6, 5), gate_bias=bias)
    assert y.shape == (3, 6) and y.requires_grad


def test_dropout_by_the_generator_of_torch(device: str, seed: int) -> None:
    q = Make(seed, device, torch.float32).normal(2, 3, 40, 16)
    made = []
    for chosen in (1, 1, 2):
        torch.manual_seed(chosen)
        made.append(ct.scaled_dot_product_attention(q, q, q, dropout_p=0.5))
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    (grad,) = torch.autograd.grad(made[0], q, torch.ones_like(q))
    assert grad.isfinite().all() and grad.abs().sum() > 0


def test_strides_of_everything_else(device: str, seed: int) -> None:
    """Vectors, tables, the second matrix of a gate, and matrices beside a result of another order."""
    make = Make(seed, device)

    def apart(x: torch.Tensor) -> torch.Tensor:
        return x.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_()

    a, b, offsets = make.normal(7, 4), make.normal(3, 4, 6), make.integers(0, 3, 3, 7)
    bias, rows, columns = make.normal(3, 6), make.normal(7), make.normal(3, 6)
    other = b.detach().mT.contiguous().mT.requires_grad_()
    expected = ct.grouped_matmul(a, b, offsets, bias=bias, b2=b, bias2=bias, activation="silu")
    turned = a.detach().t().contiguous().t().requires_grad_()
    got = ct.grouped_matmul(
        turned, b, offsets, bias=apart(bias), b2=other, bias2=apart(bias), activation="silu"
    )
    torch.testing.assert_close(got, expected)
    rows_of_b = make.normal(7, 6)
    columns_of_a = a.detach().t().contiguous()  # row-major, where groups over k want columns
    torch.testing.assert_close(
        ct.grouped_matmul(columns_of_a, rows_of_b, offsets), ct.grouped_matmul(a.t(), rows_of_b, offsets)
    )
    scaled = [x.detach().float() for x in (a, b)]
    torch.testing.assert_close(
        ct.grouped_matmul(
            *scaled, offsets, row_scale=apart(rows.float()), column_scale=apart(columns.float())
        ),
        ct.grouped_matmul(
            *scaled, offsets, row_scale=rows.detach().float(), column_scale=columns.detach().float()
        ),
    )
    x, w = make.normal(5, 4), make.normal(4, 6)
    residual, c = make.normal(6, 5).t(), make.normal(5, 6)
    torch.testing.assert_close(ct.matmul(x, w, residual=residual, c=c), x @ w + c + residual)
    q, table = make.normal(1, 2, 3, 8), make.normal(4, 3, dtype=torch.float32, grad=False).t()
    torch.testing.assert_close(
        ct.rope(q, cos=table, sin=table), ct.rope(q, cos=table.contiguous(), sin=table.contiguous())
    )


def test_strides_that_no_kernel_reads(device: str, seed: int) -> None:
    """Copied here, while the core refuses them."""
    source = generator(device, seed)

    def spread(*shape: int) -> torch.Tensor:
        big = torch.randn([2 * n for n in shape], generator=source, device=device, dtype=torch.float64)
        return big[tuple(slice(None, None, 2) for _ in shape)].requires_grad_()

    a, b, w = spread(5, 8), spread(8, 6), spread(6, 8)
    with pytest.raises(cutplan.Error), torch.no_grad():
        cutplan.matmul(a, b)
    q, k = spread(2, 3, 5, 8), spread(2, 3, 7, 8)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    for ours, theirs, operands in (
        (ct.matmul, torch.matmul, (a, b)),
        (ct.linear, torch.nn.functional.linear, (a, w)),
        (ct.scaled_dot_product_attention, sdpa, (q, k, k)),
    ):
        y, z = ours(*operands), theirs(*operands)
        torch.testing.assert_close(y, z)
        grad = torch.randn_like(y)
        leaves = list(dict.fromkeys(operands))
        for x, expected in itertools.zip_longest(
            torch.autograd.grad(y, leaves, grad), torch.autograd.grad(z, leaves, grad)
        ):
            torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-4)
