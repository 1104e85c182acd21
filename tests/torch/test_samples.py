"""torch's own samples of its operators, with their strides: results and gradients against torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import expecttest  # noqa: F401 (torch keeps its samples beside its tests, which import it)
import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db

import cutplan.torch as ct


def _add(
    c: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, alpha: float = 1, beta: float = 1
) -> torch.Tensor:
    return ct.matmul(a, b, c=c, alpha=alpha, beta=beta)


FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "matmul": ct.matmul,
    "mm": ct.matmul,
    "bmm": ct.matmul,
    "addmm": _add,
    "baddbmm": _add,
    "nn.functional.linear": ct.linear,
    "nn.functional.scaled_dot_product_attention": ct.scaled_dot_product_attention,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_samples(name: str, dtype: torch.dtype, device: str) -> None:
    (operator,) = (op for op in op_db if op.name == name and not op.variant_test_name)
    samples = list(operator.sample_inputs(device, dtype, requires_grad=True))
    assert samples
    for sample in samples:
        options: dict[str, Any] = dict(sample.kwargs)
        if "dropout_p" in options:
            options["dropout_p"] = 0.0  # random
        operands = (sample.input, *sample.args)
        expected, got = operator.op(*operands, **options), FUNCTIONS[name](*operands, **options)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        leaves = [x for x in operands if isinstance(x, torch.Tensor) and x.requires_grad]
        grad = torch.randn_like(expected)
        for x, y in zip(
            torch.autograd.grad(got, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
        ):
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)
