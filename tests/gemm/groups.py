"""Random grouped problems: what belongs to no group is NaN, and what lies between results shows writes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import torch

import cutplan
from tests.gemm.problems import (
    GATE_ALPHAS,
    TORCH,
    Memory,
    crossed_options,
    d_types,
    interleave,
    poisoned_workspace,
    random_values,
)
from tests.gemm.problems import Options as GemmOptions
from tests.oracle import Product, Reference, complaint, inexact, reference

# Over m A's rows are shared out, over k both operands' runs must not be: the layouts that allow it.
GROUPED_LAYOUTS = {"m": ("rcr", "rrr"), "k": ("crr",)}


@dataclass(frozen=True)
class Groups:
    """Sizes of the groups, the other two extents, and how the operands lie in memory."""

    sizes: tuple[int, ...]
    n: int
    other: int  # k, or m over k
    over: str = "m"
    start: int = 0  # of the first group
    rest: int = 0  # rows, or k, beyond the last group
    pad: int = 0
    offset: int = 0  # elements by which A and B start beyond an aligned address
    d_pad: int = 0
    d_offset: int = 0
    integers: bool = False

    def __str__(self) -> str:
        plain = Groups(self.sizes, self.n, self.other, self.over)
        extra = [f"{f}={v!r}" for f, v in vars(self).items() if v != getattr(plain, f)]
        return " ".join([f"over {self.over} {self.sizes} n={self.n} other={self.other}", *extra])

    @property
    def extent(self) -> int:
        """Of what the groups share out."""
        return self.start + sum(self.sizes) + self.rest

    @property
    def m(self) -> int:
        return self.extent if self.over == "m" else self.other

    @property
    def k(self) -> int:
        return self.other if self.over == "m" else self.extent

    @property
    def offsets(self) -> list[int]:
        ends = [self.start]
        for size in self.sizes:
            ends.append(ends[-1] + size)
        return ends


def grouped_options(
    operand: str, over: str, source: random.Random, gates: tuple[str | None, ...]
) -> list[Any]:
    """Every term that groups take, any two of them together; over k there are none."""
    if over == "k":
        return [GemmOptions(d, alpha=alpha) for d in d_types(operand) for alpha in (1.0, -0.75)]
    found: list[GemmOptions] = []
    for o in crossed_options(operand, source, gates):
        bias = o.bias if o.bias_over == "n" else None
        found.append(
            replace(o, c=None, beta=0.0, residual=None, store=None, gradient=None, bias=bias, bias_over="n")
        )
    if None in gates:
        found += [
            GemmOptions(operand),
            GemmOptions(operand, bias=operand, column_scale=operand != "float64", activation="silu"),
        ]
    for gate in gates:
        if gate is not None:
            found.append(GemmOptions(operand, gate=gate, activation="silu", alpha=GATE_ALPHAS[0]))
            found.append(
                GemmOptions(operand, bias=operand, gate=gate, activation="gelu_erf", alpha=GATE_ALPHAS[0])
            )
    return list(dict.fromkeys(found))


class GroupedProblem:
    """Operands of one shape; of A, B and row_scale what belongs to no group is NaN."""

    def __init__(
        self,
        groups: Groups,
        operand: str,
        layout: str,
        device: str,
        source: torch.Generator,
        alignment: int = 0,
    ) -> None:
        self.groups, self.operand, self.layout, self.device = groups, operand, layout, device
        self.source = source
        self.alignment = max(alignment, TORCH[operand].itemsize)
        self.offsets = torch.tensor(groups.offsets, dtype=torch.int32, device=device)
        g = groups
        count = len(g.sizes)
        self.a = self._matrix(None, g.m, g.k, layout[0] == "r", "m" if g.over == "m" else "k")
        if g.over == "m":
            self.b = self._matrix(count, g.k, g.n, layout[1] == "r")
        else:
            self.b = self._matrix(None, g.k, g.n, layout[1] == "r", "m")
        self._extras: dict[tuple[str, str], torch.Tensor] = {}

    def rows(self, group: int) -> slice:
        """Its part of what the groups share out."""
        first, end = self.groups.offsets[group : group + 2]
        return slice(first, end)

    @property
    def inside(self) -> slice:
        return slice(self.groups.offsets[0], self.groups.offsets[-1])

    def _matrix(
        self,
        batch: int | None,
        rows: int,
        cols: int,
        row_major: bool,
        grouped: str = "",
        values: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`grouped`: "m" where the rows are shared out, "k" where the columns are."""
        dtype = TORCH[self.operand]
        g = self.groups
        memory = Memory(
            batch,
            rows,
            cols,
            dtype,
            self.device,
            row_major=row_major,
            pad=g.pad,
            offset=g.offset,
            align=self.alignment // dtype.itemsize,
        )
        view = memory.view
        part = view[self.inside] if grouped == "m" else view[:, self.inside] if grouped == "k" else view
        part.copy_(random_values(part.shape, g.integers, self.source) if values is None else values)
        return view

    def extra(self, name: str, dtype: str | None) -> torch.Tensor | None:
        """bias, bias2 or column_scale [groups, n]; row_scale [m]; b2, and both: b and b2 interleaved."""
        if dtype is None:
            return None
        if (name, dtype) not in self._extras:
            self._extras[name, dtype] = self._made(name, dtype)
        return self._extras[name, dtype]

    def _made(self, name: str, dtype: str) -> torch.Tensor:
        g, count = self.groups, len(self.groups.sizes)
        if name == "b2":
            return self._matrix(count, g.k, g.n, self.layout[1] == "r")
        if name == "both":
            other = self.extra("b2", self.operand)
            assert other is not None
            values = interleave(self.b, other)
            return self._matrix(count, g.k, 2 * g.n, self.layout[1] == "r", values=values)
        if name == "row_scale":
            made = Memory(None, 1, g.m, TORCH[dtype], self.device).view[0]
            part = made[self.inside]
            part.copy_(random_values(part.shape, g.integers, self.source))
            return made
        if name == "bias of both":
            x, y = self.extra("bias", dtype), self.extra("bias2", dtype)
            assert x is not None and y is not None
            made = Memory(None, count, 2 * g.n, TORCH[dtype], self.device).view
            made.copy_(interleave(x, y))
            return made
        made = Memory(None, count, g.n, TORCH[dtype], self.device).view
        made.copy_(random_values(made.shape, g.integers, self.source))
        return made

    def expected(self, o: GemmOptions, group: int) -> Reference:
        part = self.rows(group)
        if self.groups.over == "k":
            return reference(Product.of(self.a[:, part], self.b[part]), alpha=o.alpha)
        bias = self.extra("bias", o.bias)
        bias2 = self.extra("bias2", o.bias) if o.gate is not None else None
        other = self.extra("b2", self.operand) if o.gate is not None else None
        rows = self.extra("row_scale", "float32" if o.row_scale else None)
        columns = self.extra("column_scale", "float32" if o.column_scale else None)
        return reference(
            Product.of(self.a[part], self.b[group]),
            bias=None if bias is None else bias[group],
            row_scale=None if rows is None else rows[part],
            column_scale=None if columns is None else columns[group],
            product2=None if other is None else Product.of(self.a[part], other[group]),
            bias2=None if bias2 is None else bias2[group],
            alpha=o.alpha,
            activation=o.activation,
        )

    def descriptor(self, o: GemmOptions) -> cutplan.GroupedGemmDescriptor:
        g = self.groups
        return cutplan.GroupedGemmDescriptor(
            groups=len(g.sizes),
            m=g.m,
            n=g.n,
            k=g.k,
            a=self.operand,
            d=o.d,
            bias=o.bias,
            over=g.over,
            layout=self.layout,
            epilogue=o.epilogue,
            alignment=self.alignment,
        )

    def select(self, o: GemmOptions, **preference: Any) -> cutplan.GroupedGemmPlan:
        wanted = cutplan.PlanPreference(**preference)
        return cutplan.GroupedGemmPlan.select(self.descriptor(o), self.device, wanted)

    def output(self, o: GemmOptions) -> Memory:
        g = self.groups
        batch = len(g.sizes) if g.over == "k" else None
        return Memory(batch, g.m, g.n, TORCH[o.d], self.device, pad=g.d_pad, offset=g.d_offset)

    def operands(self, o: GemmOptions) -> dict[str, Any]:
        """The keywords of run()."""
        named: dict[str, Any] = {
            "bias": self.extra("bias", o.bias),
            "row_scale": self.extra("row_scale", "float32" if o.row_scale else None),
            "column_scale": self.extra("column_scale", "float32" if o.column_scale else None),
            "alpha": o.alpha,
        }
        if o.gate == "separate":
            named |= {"b2": self.extra("b2", self.operand), "bias2": self.extra("bias2", o.bias)}
        elif o.gate == "interleaved":
            named["bias"] = self.extra("bias of both", o.bias)
        return named

    def factor(self, o: GemmOptions) -> torch.Tensor:
        """What run() takes as b."""
        if o.gate != "interleaved":
            return self.b
        both = self.extra("both", self.operand)
        assert both is not None
        return both

    def enqueue(self, plan: cutplan.GroupedGemmPlan, o: GemmOptions, d: torch.Tensor, **how: Any) -> None:
        if plan.workspace_size and "workspace" not in how:
            how["workspace"] = poisoned_workspace(plan, self.device)
        plan.run(self.a, self.factor(o), d, self.offsets, **self.operands(o), **how)

    def run(self, plan: cutplan.GroupedGemmPlan, o: GemmOptions) -> Memory:
        """D, unchecked."""
        out = self.output(o)
        self.enqueue(plan, o, out.view)
        return out

    def complaint(self, plan: cutplan.GroupedGemmPlan, o: GemmOptions) -> str | None:
        """Runs the plan and says what is wrong; None: nothing is."""
        what = self.wrong(plan, o, self.run(plan, o))
        return None if what is None else f"{plan.sku.name} {self.layout} {self.groups} {o}: {what}"

    def wrong(self, plan: cutplan.GroupedGemmPlan, o: GemmOptions, out: Memory) -> str | None:
        g = self.groups
        stray = out.stray_write() if g.over == "k" else out.stray_write(self._written())
        if stray is not None:
            return stray
        for group in range(len(g.sizes)):
            result = out.view[group] if g.over == "k" else out.view[self.rows(group)]
            expected = self.expected(o, group)
            what = complaint(result, expected, plan.precision_guarantee)
            small = expected.magnitude.numel() == 0 or float(expected.magnitude.max()) < 2**24
            if what is None and g.integers and small and o.activation in ("none", "relu"):
                what = inexact(result, expected)
            if what is not None:
                return f"group {group}: {what}"
        return None

    def _written(self) -> torch.Tensor:
        """The rows of D that belong to a group."""
        rows = torch.arange(self.groups.m, device=self.device)
        return (rows >= self.inside.start) & (rows < self.inside.stop)
