"""Memory lent to a call is given back once the device has read it: no sooner, and not much later."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from typing import Any

import pytest

import cutplan
from tests.environment import HAS_TORCH, note_not_run

if HAS_TORCH:
    import torch

pytestmark = pytest.mark.cuda

_CYCLES = 1_000_000_000  # half a second
_EXTENT = 1024


class Lender:
    """A tensor of an unknown library: once it is given back, its memory may be overwritten."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


def lent(value: float) -> Lender:
    return Lender(torch.full((_EXTENT, _EXTENT), value, dtype=torch.bfloat16, device="cuda"))


def in_use() -> int:
    gc.collect()
    return torch.cuda.memory_allocated()


def test_a_loan_outlasts_its_owner() -> None:
    """Dropped while the kernel waits, and memory like it asked for and overwritten at once."""
    eye = torch.eye(_EXTENT, dtype=torch.bfloat16, device="cuda")
    cutplan.matmul(lent(0), eye, out=torch.zeros_like(eye))  # selected before the stream is made to wait
    for run in range(5):
        out = torch.zeros_like(eye)
        a = lent(run + 1)
        torch.cuda.synchronize()
        before = in_use()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(_CYCLES)
            cutplan.matmul(a, eye, out=out)
        del a
        kept = torch.cuda.memory_allocated() == before  # at once, while the device sleeps
        others = [torch.full_like(eye, torch.nan) for _ in range(8)]
        assert not stream.query(), "run() waited for the device"
        assert kept, "given back before the device has read it"
        stream.synchronize()
        assert bool((out == run + 1).all())
        del others
        deadline = time.monotonic() + 10
        while in_use() >= before and time.monotonic() < deadline:
            time.sleep(0.001)
        assert in_use() < before, "kept after the device has read it"


def test_a_loan_in_the_order_of_the_stream_ends_with_the_call() -> None:
    """torch's own tensors on its current stream: it reuses their memory in order, and nothing is kept."""
    eye = torch.eye(_EXTENT, dtype=torch.bfloat16, device="cuda")
    out = torch.empty_like(eye)
    a = torch.ones_like(eye)
    plan = cutplan.GemmPlan.select(
        cutplan.describe(a, eye, out), "cuda", cutplan.PlanPreference(max_workspace_bytes=0)
    )
    before = in_use()
    torch.cuda._sleep(_CYCLES)
    plan.run(a, eye, out)
    del a
    assert in_use() < before
    torch.cuda.synchronize()
    assert bool((out == 1).all())


def test_a_capture_keeps_nothing() -> None:
    """Whoever replays a graph keeps its operands: there is no point in time at which it has read them."""
    eye = torch.eye(_EXTENT, dtype=torch.bfloat16, device="cuda")
    a, out = lent(2), torch.empty_like(eye)
    plan = cutplan.GemmPlan.select(
        cutplan.describe(a, eye, out), "cuda", cutplan.PlanPreference(max_workspace_bytes=0)
    )
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    with torch.cuda.graph(graph, stream=stream):
        plan.run(a, eye, out, stream=stream)
    graph.replay()
    torch.cuda.synchronize()
    assert bool((out == 2).all())
    before = in_use()
    del a
    assert in_use() < before


def test_the_process_ends_with_loans_outstanding() -> None:
    program = f"""
import torch, cutplan
from tests.bindings.test_loans import lent
eye = torch.eye({_EXTENT}, dtype=torch.bfloat16, device="cuda")
out = torch.empty_like(eye)
torch.cuda._sleep({_CYCLES})
for i in range(20):
    cutplan.matmul(lent(i), eye, out=out)
print("enqueued")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "enqueued\n", "")


def test_jax_arrays_dropped_while_the_kernel_waits() -> None:
    try:
        import jax
        import jax.numpy as jnp

        device = jax.devices("cuda")[0]
    except (ImportError, RuntimeError) as error:
        note_not_run(f"loans: JAX on the GPU ({str(error).splitlines()[0]})")
        return
    for run in range(5):
        a = jax.device_put(jnp.full((_EXTENT, _EXTENT), run + 1, jnp.bfloat16), device)
        b = jax.device_put(jnp.eye(_EXTENT, dtype=jnp.bfloat16), device)
        jax.block_until_ready((a, b))
        out = torch.zeros(_EXTENT, _EXTENT, dtype=torch.bfloat16, device="cuda")
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(_CYCLES)
            cutplan.matmul(a, b, out=out)
        del a, b
        others = [jnp.full((_EXTENT, _EXTENT), jnp.nan, jnp.bfloat16).block_until_ready() for _ in range(8)]
        torch.cuda.synchronize()
        del others
        assert bool((out == run + 1).all())


def test_a_full_queue_behind_a_callback_into_python() -> None:
    """run() waits there for room in the queue, and the callback for the GIL."""
    try:
        import cupy  # noqa: F401
    except ImportError:
        note_not_run("launches behind a host callback (CuPy is not installed)")
        return
    program = """
import time, cupy, torch, cutplan
stream = cupy.cuda.Stream(non_blocking=True)
x, q = torch.randn(64, 64, device="cuda").half(), torch.randn(1, 1, 64, 64, device="cuda").half()
d, o, g = torch.empty_like(x), torch.empty_like(q), torch.empty(1, 64, 64, device="cuda").half()
lse = torch.empty(1, 1, 64, device="cuda")
offsets = torch.tensor([0, 64], dtype=torch.int32, device="cuda")
gemm = cutplan.GemmPlan.select(cutplan.describe(x, x, d), x)
grouped = cutplan.GroupedGemmPlan.select(cutplan.describe_grouped(x, x[None], d, offsets), x)
described = cutplan.describe_attention(q, q, q, o, lse=lse)
forward = cutplan.FmhaPlan.select(described, q)
backward = cutplan.FmhaBackwardPlan.select(cutplan.FmhaBackwardDescriptor(described), q)
scratch = torch.empty(backward.workspace_size, dtype=torch.uint8, device="cuda")
dq, dk, dv = (torch.empty_like(q) for _ in range(3))
torch.cuda.synchronize()
stream.launch_host_func(lambda _: [time.sleep(0.2) for _ in range(3)], None)
for _ in range(1000):
    gemm.run(x, x, d, stream=stream.ptr)
    grouped.run(x, x[None], d, offsets, stream=stream.ptr)
    forward.run(q, q, q, o, lse=lse, stream=stream.ptr)
    backward.run(q, q, q, q, o, lse, dq, dk, dv, stream=stream.ptr, workspace=scratch)
stream.synchronize()
print("through")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "through\n", done.stderr
