"""What products multiply, in words; of what needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cutplan

# Operands as problems name them: A's type, and B's where it is another one, or the format of packed weights.
QUANTISED = ("int8", "float8_e4m3fn", "float8_e4m3fn*float8_e5m2", "float8_e5m2*float8_e4m3fn")
FORMATS = ("int4", "uint4", "int8", "e4m3", "nf4", "e2m1")
PACKED = tuple(f"{a}*{form}" for a in ("float16", "bfloat16") for form in FORMATS)


def format_of(operand: str) -> str | None:
    """Of packed weights; None: B is a matrix."""
    return operand.partition("*")[2] if operand in PACKED else None


def types_of(operand: str) -> tuple[str, str]:
    """A's and B's."""
    a, _, b = operand.partition("*")
    return a, "uint8" if operand in PACKED else b or a


def operands_of(sku: cutplan.KernelSku) -> tuple[str, ...]:
    """What a kernel multiplies: of packed weights any format, some of which it may refuse."""
    a, b = str(sku.a), str(sku.b)
    if b == "uint8":
        return tuple(operand for operand in PACKED if types_of(operand)[0] == a)
    return (a if a == b else f"{a}*{b}",)


def ordered(operand: str, layout: str) -> str:
    """What a problem of this layout multiplies where its kernel multiplies `operand`: with a column-major D,
    whose problem it transposes, A and B change places."""
    a, star, b = operand.partition("*")
    return operand if layout[2] == "r" else f"{b or a}{star}{a if star else ''}"


@dataclass(frozen=True)
class Packing:
    """What a format leaves open."""

    group_size: int = 128  # 0: a whole column
    scale: str = "float32"
    zero: str | None = None  # "integers", or "fractions" too
    permutation: bool = False  # rows have an order of their own

    def within(self, k: int) -> Packing:
        """That of so many rows: those of one group have no order."""
        one_group = self.group_size == 0 or k <= self.group_size
        return replace(self, permutation=self.permutation and not one_group)

    def of(self, form: str, n: int) -> cutplan.WeightPacking:
        """As descriptors of products have it."""
        return cutplan.WeightPacking(
            format=form,  # type: ignore[arg-type]
            n=n,
            group_size=self.group_size,
            scale=self.scale,
            zero=self.zero is not None,
            permutation=self.permutation,
        )
