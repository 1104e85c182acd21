"""The first run of every plan of a process: inside a capture, and behind a kernel that is busy for a second.

Whatever a run launches is loaded by select. Loading inside a capture may be refused, and behind a busy kernel
it may wait.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.cuda

_PROGRAM = """
import sys
import torch
import cutplan

how, where = sys.argv[1], "cuda"
torch.manual_seed(int(sys.argv[2]))
gib = torch.empty(1 << 28, dtype=torch.uint8, device=where)


def scratch(plan):
    global gib
    start = -gib.data_ptr() % 256
    taken, gib = gib[start : start + plan.workspace_size], gib[start + plan.workspace_size :]
    return taken if plan.workspace_size else None


def product(m, n, k, dtype, batch=(), **preference):
    a = torch.randn(*batch, m, k, device=where).to(dtype)
    b = torch.randn(*batch, k, n, device=where).to(dtype)
    d = torch.full((*batch, m, n), torch.nan, device=where, dtype=dtype)
    plan = cutplan.GemmPlan.select(cutplan.describe(a, b, d), where, cutplan.PlanPreference(**preference))
    work = scratch(plan)
    kept.append((a, b, work))
    return plan.sku, lambda: plan.run(a, b, d, workspace=work), d, lambda: a.double() @ b.double()


def grouped(dtype):
    a, b = torch.randn(300, 64, device=where).to(dtype), torch.randn(3, 64, 96, device=where).to(dtype)
    offsets = torch.tensor([0, 100, 100, 300], dtype=torch.int32, device=where)
    d = torch.full((300, 96), torch.nan, device=where, dtype=dtype)
    plan = cutplan.GroupedGemmPlan.select(cutplan.describe_grouped(a, b, d, offsets), where)
    work = scratch(plan)
    kept.append((a, b, offsets, work))
    exact = lambda: torch.cat([a[:100].double() @ b[0].double(), a[100:].double() @ b[2].double()])
    return plan.sku, lambda: plan.run(a, b, d, offsets, workspace=work), d, exact


def attention(dtype, rows, keys, backward=False, **preference):
    q = torch.randn(1, 2, rows, 64, device=where).to(dtype)
    k, v = (torch.randn(1, 2, keys, 64, device=where).to(dtype) for _ in range(2))
    bias = torch.randn(1, 2, rows, keys, device=where).to(dtype)
    slopes, sink = torch.rand(2, device=where), torch.randn(2, device=where)
    options = {"bias": bias, "alibi_slopes": slopes, "sink": sink} if backward else {}
    o, lse = torch.full_like(q, torch.nan), torch.empty(1, 2, rows, device=where)
    described = cutplan.describe_attention(q, k, v, o, lse=lse, **options)
    forward = cutplan.FmhaPlan.select(described, where)
    work = scratch(forward)
    kept.append((q, k, v, options, lse, work))
    run = lambda: forward.run(q, k, v, o, lse=lse, workspace=work, **options)
    if not backward:
        exact = lambda: torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
        return forward.sku, run, o, exact
    wanted = cutplan.FmhaBackwardDescriptor(described, dbias=True, dalibi_slopes=True, dsink=True)
    plan = cutplan.FmhaBackwardPlan.select(wanted, where, cutplan.PlanPreference(**preference))
    grad = torch.randn_like(q)
    dq, dk, dv, dbias = (torch.full_like(x, torch.nan) for x in (q, k, v, bias))
    dslopes, dsink = torch.empty_like(slopes), torch.full_like(sink, torch.nan)
    more = scratch(plan)
    kept.append((grad, dq, dk, dv, dbias, dslopes, more))

    def both():
        run()
        plan.run(grad, q, k, v, o, lse, dq, dk, dv, dbias=dbias, dalibi_slopes=dslopes, dsink=dsink,
                 workspace=more, **options)

    def exact():
        s = sink.double().requires_grad_()
        i, j = torch.arange(rows, device=where)[:, None], torch.arange(keys, device=where)
        distance = (i + keys - rows - j).abs()
        scores = q.double() @ k.double().mT / 8 - slopes.double()[:, None, None] * distance + bias.double()
        logits = torch.cat([scores, s[None, :, None, None].expand(1, 2, rows, 1)], -1)
        (logits.softmax(-1)[..., :-1] @ v.double() * grad.double()).sum().backward()
        return s.grad

    return plan.sku, both, dsink, exact


kept = []
jobs = [
    product(64, 128, 16384, torch.float16),  # K split in slices
    product(2100, 2048, 2048, torch.bfloat16),  # perhaps stream-K
    product(64, 64, 16384, torch.float32, math="strict"),
    product(64, 64, 16384, torch.float64),
    product(1, 512, 512, torch.float16),
    product(100, 100, 100, torch.float16, batch=(3,)),
    grouped(torch.float16),
    grouped(torch.float32),
    attention(torch.float16, 1, 20000),  # keys split
    attention(torch.bfloat16, 300, 300, backward=True),
    attention(torch.float16, 300, 300, backward=True, deterministic=True),
    attention(torch.float32, 100, 100, backward=True),
]
torch.cuda.synchronize()
stream = torch.cuda.Stream()
if how == "capture":
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _, run, _, _ in jobs:
            run()
    graph.replay()
else:
    with torch.cuda.stream(stream):
        torch.cuda._sleep(2_000_000_000)  # a second
        for sku, run, _, _ in jobs:
            run()
            assert not stream.query(), f"{sku.name}: the first run waited for the device"
torch.cuda.synchronize()
for sku, _, got, exact in jobs:
    want = exact()
    error = ((got.double() - want).norm() / want.norm()).item()
    assert error < 0.02, f"{sku.name}: {error}"
print("right")
"""


@pytest.mark.parametrize("how", ["capture", "behind a busy kernel"])
def test_first_runs(how: str, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, how, str(seed % 2**31)], capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "right\n", done.stderr[-2000:]
