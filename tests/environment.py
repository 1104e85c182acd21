"""What this machine has, and what the tests therefore leave out."""

from __future__ import annotations

from collections import Counter

import torch

import cutplan

not_run: Counter[str] = Counter()


def note_not_run(what: str, count: int = 1) -> None:
    """Counts tests, or parts of them, that this machine cannot run; the summary lists them."""
    not_run[what] += count


def has_cuda() -> bool:
    return torch.cuda.is_available() and cutplan.cuda_device_count() > 0


def why_no_cuda() -> str:
    if not torch.cuda.is_available():
        return "torch sees no GPU"
    return f"cutplan sees no GPU: {cutplan.cuda_unavailable_reason()}"
