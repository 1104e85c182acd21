"""No less exact than a framework: errors against float64, compared with those of torch's attention of the
same operands on the same device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.fmha.oracle import attention, visible_keys
from tests.fmha.problems import TORCH, Case, Problem, generator

# Device, operands, math, and the largest error in units of torch's. torch has a fused attention of float64 on
# the host alone, and multiplies float32 to nearest, as strict does; tf32x3 keeps 22 bits of a factor, not 24.
SERVED_IN_TORCH = [
    *(("cpu", operand, "strict", 2) for operand in TORCH),
    *(
        pytest.param("cuda", *row, marks=pytest.mark.cuda)
        for row in (
            ("float16", "strict", 2),
            ("bfloat16", "strict", 2),
            ("float32", "strict", 2),
            ("float32", "tf32x3", 4),
        )
    ),
]

CASES: list[dict[str, Any]] = [
    {},
    {"causal": "top_left", "seq_q": 200},
    {"causal": "bottom_right", "heads_k": 1},
    {"window": (30, 10), "layout": "bshd"},
    {"bias": "operand"},
    {"alibi": "h", "mask": "bqk", "heads_k": 2},
]


def of_torch(problem: Problem) -> dict[str, torch.Tensor]:
    """A fused backend, which reads a rounded O in its backward as every fused attention does."""
    case = problem.case
    q, k, v = (
        problem.canonical(x).contiguous().detach().requires_grad_() for x in (problem.q, problem.k, problem.v)
    )
    causal = case.causal == "top_left" and case.seq_q == case.seq_k
    added = problem.bias
    seen, distance = visible_keys(problem.operands(), case.seq_q, case.seq_k)
    if problem.mask is not None:
        seen = seen & problem.mask
    if problem.alibi_slopes is not None:
        added = -(problem.alibi_slopes[..., None, None] * distance)
    if added is None and not bool(seen.all()) and not causal:
        added = torch.zeros((), device=q.device)
    if added is not None:
        added = added.masked_fill(~seen, -torch.inf).to(q.dtype)
        added = added.expand(case.batch, case.heads, case.seq_q, case.seq_k)
    flash = not q.is_cuda or (added is None and case.dtype in ("float16", "bfloat16"))
    group = case.heads // case.key_heads
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION if flash else SDPBackend.EFFICIENT_ATTENTION):
        o = torch.nn.functional.scaled_dot_product_attention(
            q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), attn_mask=added, is_causal=causal
        )
    gradients = torch.autograd.grad(o, (q, k, v), problem.canonical(problem.grad))
    return {"o": o.detach(), **dict(zip(("dq", "dk", "dv"), gradients, strict=True))}


@pytest.mark.parametrize("device, operand, math, most", SERVED_IN_TORCH)
@pytest.mark.parametrize("dim", [40, 64, 128, 256])
def test_errors_beside_those_of_torch(
    device: str, operand: str, math: str, most: float, dim: int, seed: int
) -> None:
    """Outputs and gradients. Of float64 the output: its gradients are as exact as LSE, which is float32."""
    source = generator(device, seed)
    failures = []
    for options in CASES:
        if options.get("bias") == "operand":
            options = {**options, "bias": operand}
        case = Case(**{"seq_q": 177, "seq_k": 200, "dim": dim, "heads": 4, "dtype": operand, **options})
        problem = Problem(case, device, source)
        for x in (problem.q, problem.k, problem.v, problem.grad):
            x.copy_(torch.randn(x.shape, generator=source, device=device))
        if problem.mask is not None:
            problem.mask[..., 0] = True  # torch has NaN where a row sees nothing
        forward, backward = problem.select(math=math), problem.select_backward(False, math=math)
        ours = problem.run(forward)
        ours |= problem.run(backward, given=(ours["o"], ours["lse"]))
        theirs = of_torch(problem)
        exact = attention(problem.operands())
        for name in ("o",) if operand == "float64" else ("o", "dq", "dk", "dv"):
            mine, other = (
                float(torch.linalg.vector_norm(x.double() - exact[name].exact))
                for x in (problem.canonical(ours[name]), theirs[name])
            )
            if not mine <= most * other:
                failures.append(f"{case}: {name}: error {mine:.3g}, torch's {other:.3g}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("math, unit", [("tf32", 2.0**-11), ("tf32x3", 2.0**-21), ("strict", 2.0**-21)])
def test_float32_is_as_exact_as_asked_for(device: str, math: str, unit: float, seed: int) -> None:
    """The bound of the plan that `math` gives, and the error that it has, are of the size that it says."""
    problem = Problem(Case(300, 300, 64, dtype="float32"), device, generator(device, seed))
    for x in (problem.q, problem.k, problem.v, problem.grad):
        x.copy_(torch.randn(x.shape, generator=problem.source, device=device))
    for plan in (problem.select(math=math), problem.select_backward(math=math)):
        assert problem.complaint(plan) is None
        assert plan.precision_guarantee.error_bound(1.0, 1.0, 5.0) < 10000 * unit
        for name, value in problem.run(plan).items():
            reference = problem.expected[name]
            relative = (value.double() - reference.exact).abs() / reference.magnitude
            assert float(relative.mean()) < 8 * unit, (plan.sku.name, name)
