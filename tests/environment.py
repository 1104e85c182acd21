"""What this machine has, and what the tests therefore leave out."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable
from typing import Any

import cutplan

HAS_TORCH = importlib.util.find_spec("torch") is not None
if HAS_TORCH:
    import torch

not_run: Counter[str] = Counter()


def note_not_run(what: str, count: int = 1) -> None:
    """Counts tests, or parts of them, that this machine cannot run; the summary lists them."""
    not_run[what] += count


def has_cuda() -> bool:
    return HAS_TORCH and torch.cuda.is_available() and cutplan.cuda_device_count() > 0


def why_no_cutplan_jax() -> str | None:
    """None: it can be imported."""
    try:
        import cutplan.jax  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def allocates(work: Callable[[], None]) -> bool:
    """Whether the work takes GPU memory each time it is done. What other processes take meanwhile shows too,
    so that one time without is enough."""
    for _ in range(20):
        torch.cuda.synchronize()
        before = torch.cuda.mem_get_info()[0], torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        if (torch.cuda.mem_get_info()[0], torch.cuda.memory_allocated()) == before:
            return False
    return True


def capturing(graph: torch.cuda.CUDAGraph) -> Any:
    """Captures what this thread enqueues. In torch's default mode calls of other threads would spoil it, and
    JAX, once used, has some that look after its events."""
    return torch.cuda.graph(graph, capture_error_mode="thread_local")


def why_no_cuda() -> str:
    if not HAS_TORCH:
        return "torch is not installed"
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    return f"cutplan sees no GPU: {cutplan.cuda_unavailable_reason()}"
