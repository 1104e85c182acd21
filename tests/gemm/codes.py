"""Quantised operands: random codes, scales and zeros of every granularity, and what they stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from tests.gemm.operands import types_of

CODES = {
    "int8": torch.int8,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
}
GROUP = 128
A_SCALES = (None, "tensor", "row", "group")
B_SCALES = (None, "tensor", "column", "group", "block")
A_ZEROS, B_ZEROS = (None, "tensor", "row"), (None, "tensor", "column")

# Scales with which random codes are numbers around 1.
_UNITS = {torch.int8: 2.0**-6, torch.float8_e4m3fn: 2.0**-7, torch.float8_e5m2: 2.0**-14}


def is_quantised(operand: str) -> bool:
    return types_of(operand)[0] in CODES


def random_codes(
    shape: Sequence[int], dtype: torch.dtype, integers: bool, source: torch.Generator
) -> torch.Tensor:
    """Any of the type's finite numbers, one code as likely as another; or integers whose sums are exact."""
    device = source.device
    if integers:
        return torch.randint(-3, 4, tuple(shape), generator=source, device=device).double().to(dtype)
    codes = torch.randint(-128, 128, tuple(shape), generator=source, device=device).to(torch.int8)
    if dtype == torch.int8:
        return codes
    return torch.where(codes.view(dtype).float().isfinite(), codes, 0x31).view(dtype)


def random_coding(
    name: str, shape: Sequence[int], dtype: torch.dtype, integers: bool, source: torch.Generator
) -> torch.Tensor:
    """Scales or zeros of codes of this type, whichever the name says."""
    device = source.device
    if "zero" in name:
        first, end = (-3, 4) if integers else (-128, 128)
        drawn = torch.randint(first, end, tuple(shape), generator=source, device=device)
        return drawn.to(torch.int32)
    if integers:
        return torch.randint(-3, 4, tuple(shape), generator=source, device=device).float()
    sizes = 2.0 ** torch.randint(-2, 3, tuple(shape), generator=source, device=device)
    return (torch.randn(tuple(shape), generator=source, device=device) * sizes * _UNITS[dtype]).float()


def greatest(x: torch.Tensor) -> float:
    """Of the magnitudes."""
    return 0.0 if x.numel() == 0 else float(x.abs().max())


def out_scale(size: float, d: torch.dtype, integers: bool, source: torch.Generator) -> torch.Tensor:
    """With which results of this size come to half of what the type holds, to all, or to four times that."""
    more = 2.0 ** int(torch.randint(-1, 3, (), generator=source, device=source.device))
    largest = 127.0 if d == torch.int8 else torch.finfo(d).max
    scale = size / (largest * more) or 1.0
    if integers:
        scale = 2.0 ** round(math.log2(scale))
    return scattered(torch.tensor([scale], dtype=torch.float32, device=source.device), source)


def meaning(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    of: str | None,
    zero: torch.Tensor | None,
    of_zero: str | None,
    *,
    of_a: bool,
    lines_of_block: int = GROUP,
) -> torch.Tensor:
    """(x - zero) scale in float64."""
    lines, k = (x.shape[-2], x.shape[-1]) if of_a else (x.shape[-1], x.shape[-2])
    found = x.double()
    if zero is not None and of_zero is not None:
        found = found - spread(zero.double(), of_zero, of_a, lines, k)
    if scale is not None and of is not None:
        found = found * spread(scale.double(), of, of_a, lines, k, lines_of_block)
    return found


def coding_shape(of: str, of_a: bool, lines: int, k: int) -> tuple[int, ...]:
    """Of scales or zeros; lines are A's rows or B's columns."""
    groups = -(-k // GROUP)
    if of in ("row", "column"):
        return (lines,)
    if of == "group":
        return (lines, groups) if of_a else (groups, lines)
    if of == "block":
        return (groups, -(-lines // GROUP))
    assert of == "tensor"
    return ()


def spread(
    x: torch.Tensor, of: str, of_a: bool, lines: int, k: int, lines_of_block: int = GROUP
) -> torch.Tensor:
    """What broadcasts with the operand, from what coding_shape() says with or without a batch before it."""
    if of == "tensor":
        return x
    if of in ("row", "column"):
        return x.unsqueeze(-1 if of_a else -2)
    if of_a:
        return x.repeat_interleave(GROUP, -1)[..., :k]
    if of == "block":
        x = x.repeat_interleave(lines_of_block, -1)[..., :lines]
    return x.repeat_interleave(GROUP, -2)[..., :k, :]


def scattered(values: torch.Tensor, source: torch.Generator) -> torch.Tensor:
    """The same amid poisoned memory, the dimensions in any order and with gaps between elements."""

    def pick(end: int) -> int:
        return int(torch.randint(end, (), generator=source, device=source.device))

    strides, step = [0] * values.dim(), 1 + pick(3)
    for dim in torch.randperm(values.dim(), generator=source, device=source.device).tolist():
        strides[dim] = step
        step = step * max(1, values.shape[dim]) + pick(4)
    memory = torch.full((step + 512,), 0x7FDA5A5A, dtype=torch.int32, device=values.device)
    view = memory.view(values.dtype).as_strided(values.shape, strides, 256)
    view.copy_(values)
    return view
