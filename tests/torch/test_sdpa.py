"""scaled_dot_product_attention() against torch's own, argument for argument."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as of_torch

import cutplan.torch as ct

from .cases import Make


def _problems(make: Make) -> dict[str, tuple[list[Any], dict[str, Any]]]:
    n = make.normal
    q, k, v = n(2, 4, 5, 8), n(2, 4, 7, 8), n(2, 4, 7, 6)
    return {
        "4 dimensions": ([q, k, v], {}),
        "3 dimensions": ([n(4, 5, 8), n(4, 7, 8), n(4, 7, 8)], {}),
        "2 dimensions": ([n(5, 8), n(7, 8), n(7, 8)], {}),
        "5 dimensions": ([n(3, 2, 4, 5, 8), n(3, 2, 4, 7, 8), n(3, 2, 4, 7, 8)], {}),
        "causal": ([q, k, v], {"is_causal": True}),
        "scale": ([q, k, v], {"scale": 0.7}),
        "groups of heads": ([q, n(2, 2, 7, 8), n(2, 2, 7, 8)], {"enable_gqa": True}),
        "mask of floats": ([q, k, v, n(5, 7)], {}),
        "mask of floats for a batch": ([q, k, v, n(2, 1, 5, 7)], {}),
        "mask of floats for a key": ([q, k, v, n(2, 1, 1, 7)], {}),
        "mask": ([q, k, v, make.mask(5, 7)], {}),
        "mask for a batch": (
            [q, k, v, make.mask(2, 1, 1, 7) | (torch.arange(7, device=make.device) == 0)],
            {},
        ),
        "one batch for all": ([n(1, 4, 5, 8), k, v], {}),
        "one head for all": ([q, n(2, 1, 7, 8), n(2, 1, 7, 8)], {}),
        "3 dimensions, mask": ([n(4, 5, 8), n(4, 7, 8), n(4, 7, 8), n(5, 7)], {}),
        "5 dimensions, mask": ([n(3, 2, 4, 5, 8), n(3, 2, 4, 7, 8), n(3, 2, 4, 7, 8), n(3, 1, 4, 5, 7)], {}),
    }


@pytest.mark.parametrize("name", list(_problems(Make(0, "cpu"))))
def test_results_and_gradients(name: str, device: str, seed: int) -> None:
    arguments, options = _problems(Make(seed, device))[name]
    if name.startswith("mask") and arguments[3].dtype == torch.bool:
        arguments[3][..., 0] = True  # torch gives NaN where a row sees no key
    leaves = [x for x in arguments if x.requires_grad]
    expected = of_torch(*arguments, **options)
    got = ct.scaled_dot_product_attention(*arguments, **options)
    torch.testing.assert_close(got, expected)
    grad = torch.randn_like(expected)
    for x, y in zip(
        torch.autograd.grad(got, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
    ):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)


def test_the_signature_is_torch_s() -> None:
    ours = [
        (p.name, p.default) for p in inspect.signature(ct.scaled_dot_product_attention).parameters.values()
    ]
    assert ours == [
        ("query", inspect.Parameter.empty),
        ("key", inspect.Parameter.empty),
        ("value", inspect.Parameter.empty),
        ("attn_mask", None),
        ("dropout_p", 0.0),
        ("is_causal", False),
        ("scale", None),
        ("enable_gqa", False),
    ]


def test_rows_without_keys_give_0(device: str, seed: int) -> None:
    q = Make(seed, device).normal(1, 2, 4, 8)
    mask = torch.ones(4, 4, dtype=torch.bool, device=device)
    mask[2] = False
    o = ct.scaled_dot_product_attention(q, q, q, mask)
    assert (o[:, :, 2] == 0).all() and (o[:, :, 1] != 0).any()
    (grad,) = torch.autograd.grad(o, q, torch.ones_like(o))
    assert grad.isfinite().all()


@pytest.mark.parametrize("grad", [False, True])
def test_heads_beside_each_other_stay_so(grad: bool, device: str, seed: int) -> None:
    """Then the next product takes a row's heads without a copy."""
    make = Make(seed, device, torch.float32)
    q, k, v = make.normal(2, 9, 3 * 4 * 8, grad=grad).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
    o = ct.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert o.transpose(1, 2).is_contiguous()
    torch.testing.assert_close(o, of_torch(q, k, v, is_causal=True))
    compiled = torch.compile(ct.scaled_dot_product_attention, backend="aot_eager", fullgraph=True)
    assert compiled(q, k, v).stride() == ct.scaled_dot_product_attention(q, k, v).stride()
    assert ct.scaled_dot_product_attention(q.contiguous(), k, v).is_contiguous()


def test_what_is_refused() -> None:
    q, k = torch.ones(1, 4, 3, 8), torch.ones(1, 2, 3, 8)
    with pytest.raises(RuntimeError, match="is_causal"):
        ct.scaled_dot_product_attention(q, q, q, torch.ones(3, 3), is_causal=True)
    with pytest.raises(RuntimeError, match="enable_gqa=True"):
        ct.scaled_dot_product_attention(q, k, k)
    with pytest.raises(RuntimeError, match="at least 2 dimensions"):
        ct.scaled_dot_product_attention(q[0, 0, 0], q, q)
    with pytest.raises(RuntimeError, match="dropout_p from 0 to below 1"):
        ct.scaled_dot_product_attention(q, q, q, dropout_p=-0.1)
    for dtype in (torch.int64, torch.float64):
        with pytest.raises(RuntimeError, match="attn_mask of torch.bool or torch.float32, query's type"):
            ct.scaled_dot_product_attention(q, q, q, torch.ones(3, 3, dtype=dtype))


@pytest.mark.parametrize("grad", [False, True])
def test_a_model_changed_by_one_line(grad: bool, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """torch's own encoder layer calls the function by its name in torch.nn.functional."""
    torch.manual_seed(seed)
    layer = torch.nn.TransformerDecoderLayer(16, 4, 32, dropout=0.0, batch_first=True, dtype=torch.float64)
    x = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=grad)
    expected = layer(x, x)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", ct.scaled_dot_product_attention)
    torch.testing.assert_close(layer(x, x), expected)
