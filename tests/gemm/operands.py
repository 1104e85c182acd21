"""What products multiply, in words; of what needs no torch."""

from __future__ import annotations

import cutplan

# Operands as problems name them: A's type, and B's where it is another one.
QUANTISED = ("int8", "float8_e4m3fn", "float8_e4m3fn*float8_e5m2", "float8_e5m2*float8_e4m3fn")


def types_of(operand: str) -> tuple[str, str]:
    """A's and B's."""
    a, _, b = operand.partition("*")
    return a, b or a


def operand_of(sku: cutplan.KernelSku, layout: str | None = None) -> str:
    """What a kernel multiplies; with a column-major D, whose problem it transposes, A and B change places."""
    a, b = (str(sku.a), str(sku.b)) if layout is None or layout[2] == "r" else (str(sku.b), str(sku.a))
    return a if a == b else f"{a}*{b}"
