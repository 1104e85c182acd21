"""What problems are to people: one line each, and how many operations and bytes they take."""

from __future__ import annotations

import math

from . import _core

Attention = _core.FmhaDescriptor | _core.FmhaBackwardDescriptor
Descriptor = _core.GemmDescriptor | Attention


def summary(g: Descriptor) -> str:
    """One line."""
    if isinstance(g, _core.GemmDescriptor):
        return _gemm_summary(g)
    f = _forward(g)
    text = f"{f.batch} x {f.heads} heads x {f.seq_q} x {f.seq_k} x {f.dim}"
    if f.dim_v != f.dim:
        text += f" ({f.dim_v})"
    text += f" {f.dtype}"
    if f.heads_k != f.heads:
        text += f", {f.heads_k} key heads"
    if f.causal is not None:
        text += f", causal {f.causal}"
    if f.window != (-1, -1):
        text += f", window {f.window[0]} {f.window[1]}"
    return text if g is f else f"{text}, backward"


def flop(g: Descriptor) -> float:
    """Two for each pair of factors. Attention: two products forward, five backward, of visible pairs."""
    if isinstance(g, _core.GemmDescriptor):
        return 2.0 * g.batch * g.m * _columns(g) * g.k
    f = _forward(g)
    per_pair = f.dim + f.dim_v if g is f else 3 * f.dim + 2 * f.dim_v
    return 2.0 * math.prod((f.batch, f.heads, per_pair, visible_pairs(f)))


def moved_bytes(g: Descriptor) -> float:
    """Of the operands and the result, each moved once; of gradients as much again."""
    if isinstance(g, _core.GemmDescriptor):
        bits = g.m * g.k * g.a.bits + g.k * _columns(g) * g.b.bits + g.m * g.n * g.d.bits
        return g.batch * bits / 8
    f = _forward(g)
    rows = f.heads * f.seq_q + f.heads_k * f.seq_k
    return f.batch * rows * (f.dim + f.dim_v) * f.dtype.bits / 8 * (1 if g is f else 2)


def _forward(g: Attention) -> _core.FmhaDescriptor:
    return g if isinstance(g, _core.FmhaDescriptor) else g.forward


def _columns(g: _core.GemmDescriptor) -> int:
    """Of B."""
    return g.n * (2 if g.epilogue.gate is not None else 1)


def _gemm_summary(g: _core.GemmDescriptor) -> str:
    text = f"{g.m} x {g.n} x {g.k} {g.a} -> {g.d} {g.layout}"
    if g.batch != 1:
        text += f", batch {g.batch}"
    if g.epilogue.bias is not None:
        text += f", bias over {g.epilogue.bias}"
    if str(g.epilogue.activation) != "none":
        text += f", {g.epilogue.activation}"
    if g.epilogue.gate is not None:
        text += f", {g.epilogue.gate} gate"
    if g.out_columns:
        text += f", in columns of {' + '.join(map(str, g.out_columns))}"
    return text


def visible_pairs(g: _core.FmhaDescriptor) -> int:
    """Pairs of query and key that causal and window let through, in one head."""
    offset = g.seq_k - g.seq_q if str(g.align) == "bottom_right" else 0
    left, right = g.window
    if g.causal is not None:
        right = 0 if right < 0 else min(right, 0)
    first = [0 if left < 0 else max(0, i + offset - left) for i in range(g.seq_q)]
    last = [g.seq_k - 1 if right < 0 else min(g.seq_k - 1, i + offset + right) for i in range(g.seq_q)]
    return sum(max(0, end - begin + 1) for begin, end in zip(first, last, strict=True))
