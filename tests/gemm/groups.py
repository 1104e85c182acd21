"""Random grouped problems: what belongs to no group is NaN, and what lies between results shows writes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import torch

import cutplan
from tests.gemm import codes
from tests.gemm.codes import is_quantised
from tests.gemm.operands import Packing, format_of, types_of
from tests.gemm.packed import Weights, amid_poison, random_weights
from tests.gemm.problems import (
    GATE_ALPHAS,
    TYPES,
    Memory,
    crossed_options,
    d_types,
    fill,
    halves,
    interleave,
    poisoned_workspace,
    random_values,
)
from tests.gemm.problems import Options as GemmOptions
from tests.oracle import OutputBound, Product, Reference, amax_complaint, complaint, inexact, reference

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
        none = dict.fromkeys(("c", "residual", "store", "gradient", "a_zero", "b_zero"))
        found.append(replace(o, **none, beta=0.0, bias=bias, bias_over="n"))
    d = d_types(operand)[0]
    if None in gates:
        found += [
            GemmOptions(d),
            GemmOptions(d, bias=d, column_scale=operand != "float64", activation="silu"),
        ]
    for gate in gates:
        if gate is not None:
            found.append(GemmOptions(d, gate=gate, activation="silu", alpha=GATE_ALPHAS[0]))
            found.append(GemmOptions(d, bias=d, gate=gate, activation="gelu_erf", alpha=GATE_ALPHAS[0]))
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
        self.types = types_of(operand)
        of_a, of_b = (TYPES[t] for t in self.types)
        self.alignment = max(alignment, of_a.itemsize)
        self.offsets = torch.tensor(groups.offsets, dtype=torch.int32, device=device)
        g = groups
        count = len(g.sizes)
        self.a = self._matrix(None, g.m, g.k, layout[0] == "r", of_a, "m" if g.over == "m" else "k")
        self.format = format_of(operand)
        self._weights: dict[tuple[str, Packing], list[Weights]] = {}
        self._stacked: dict[tuple[str, Packing], torch.Tensor] = {}
        if self.format is not None:
            self.b = self.packed("b", Packing())
        elif g.over == "m":
            self.b = self._matrix(count, g.k, g.n, layout[1] == "r", of_b)
        else:
            self.b = self._matrix(None, g.k, g.n, layout[1] == "r", of_b, "m")
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
        dtype: torch.dtype,
        grouped: str = "",
        values: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`grouped`: "m" where the rows are shared out, "k" where the columns are."""
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
        if values is None:
            fill(part, g.integers, self.source)
        else:
            part.copy_(values)
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
            return self._matrix(count, g.k, g.n, self.layout[1] == "r", TYPES[dtype])
        if name == "both":
            values = interleave(self.b, self.other)
            return self._matrix(count, g.k, 2 * g.n, self.layout[1] == "r", TYPES[dtype], values=values)
        if name == "row_scale":
            made = Memory(None, 1, g.m, TYPES[dtype], self.device).view[0]
            part = made[self.inside]
            part.copy_(random_values(part.shape, g.integers, self.source))
            return made
        if name == "bias of both":
            x, y = self.extra("bias", dtype), self.extra("bias2", dtype)
            assert x is not None and y is not None
            made = Memory(None, count, 2 * g.n, TYPES[dtype], self.device).view
            made.copy_(interleave(x, y))
            return made
        made = Memory(None, count, g.n, TYPES[dtype], self.device).view
        made.copy_(random_values(made.shape, g.integers, self.source))
        return made

    @property
    def other(self) -> torch.Tensor:
        """The second factor of a gate."""
        other = self.extra("b2", self.types[1])
        assert other is not None
        return other

    def packing(self, o: GemmOptions) -> cutplan.WeightPacking | None:
        """What a descriptor says of packed weights."""
        g = self.groups
        return None if self.format is None else o.weights.within(g.k).of(self.format, halves(o) * g.n)

    def weights(self, name: str, packing: Packing) -> list[Weights]:
        """Packed weights of each group, made when first asked for: b, b2, and both of an interleaved gate."""
        g = self.groups
        packing = packing.within(g.k)
        key = (name, packing)
        if key not in self._weights:
            assert self.format is not None
            n = 2 * g.n if name == "both" else g.n
            self._weights[key] = [
                random_weights(self.format, packing, g.k, n, g.integers, self.source)
                for _ in range(max(1, len(g.sizes)))
            ]
        return self._weights[key]

    def packed(self, name: str, packing: Packing) -> torch.Tensor:
        """These in one tensor."""
        key, count = (name, packing.within(self.groups.k)), len(self.groups.sizes)
        if key not in self._stacked:
            rows = torch.stack([weights.data for weights in self.weights(name, packing)])
            self._stacked[key] = amid_poison(rows)[:count]
        return self._stacked[key]

    def coding(self, name: str, of: str | None) -> torch.Tensor | None:
        """a_scale, whose rows of no group are NaN, b_scale, b2_scale, and b_scale of an interleaved gate."""
        if of is None:
            return None
        if (name, of) not in self._extras:
            self._extras[name, of] = codes.scattered(self._coding(name, of), self.source)
        return self._extras[name, of]

    def _coding(self, name: str, of: str) -> torch.Tensor:
        g, of_a = self.groups, name == "a_scale"
        if name == "b_scale of both" and of in ("column", "group"):
            x, y = self.coding("b_scale", of), self.coding("b2_scale", of)
            assert x is not None and y is not None
            return interleave(x, y)
        columns = 2 * g.n if name == "b_scale of both" else g.n
        shape = codes.coding_shape(of, of_a, g.m if of_a else columns, g.k)
        shape = shape if of_a else (len(g.sizes), *shape)
        values = codes.random_coding(name, shape, TYPES[self.types[not of_a]], g.integers, self.source)
        if of_a and of != "tensor":
            values[: self.inside.start] = values[self.inside.stop :] = torch.nan
        return values

    def _meaning(self, name: str, o: GemmOptions, group: int) -> torch.Tensor:
        """What a group's part of a, b or b2 stands for."""
        of_a = name == "a"
        if self.format is not None and not of_a:
            if o.gate == "interleaved":
                return self.weights("both", o.weights)[group].meaning[:, int(name == "b2") :: 2]
            return self.weights(name, o.weights)[group].meaning
        x = self.a[self.rows(group)] if of_a else (self.b if name == "b" else self.other)[group]
        if not is_quantised(self.operand):
            return x
        of = o.a_scale if of_a else o.b_scale
        of_both = o.gate == "interleaved" and not of_a and of in ("tensor", "block")
        scale = self.coding("b_scale of both" if of_both else f"{name}_scale", of)
        if scale is not None and (not of_a or of != "tensor"):
            scale = scale[self.rows(group) if of_a else group]
        lines_of_block = codes.GROUP // (2 if of_both else 1)
        return codes.meaning(x, scale, of, None, None, of_a=of_a, lines_of_block=lines_of_block)

    def expected(self, o: GemmOptions, group: int) -> Reference:
        found = self._before_out_scale(o, group)
        return found if not o.out_scale else found.divided_by(self.out_scale(o))

    def out_scale(self, o: GemmOptions) -> torch.Tensor:
        """With which some of D saturates, or none does."""
        key = ("out_scale", str(o))
        if key not in self._extras:
            sizes = [
                codes.greatest(self._before_out_scale(o, group).exact)
                for group in range(len(self.groups.sizes))
            ]
            greatest = max(sizes, default=0.0)
            self._extras[key] = codes.out_scale(greatest, TYPES[o.d], self.groups.integers, self.source)
        return self._extras[key]

    def _before_out_scale(self, o: GemmOptions, group: int) -> Reference:
        part = self.rows(group)
        if self.groups.over == "k":
            return reference(Product.of(self.a[:, part], self.b[part]), alpha=o.alpha)
        bias = self.extra("bias", o.bias)
        bias2 = self.extra("bias2", o.bias) if o.gate is not None else None
        rows = self.extra("row_scale", "float32" if o.row_scale else None)
        columns = self.extra("column_scale", "float32" if o.column_scale else None)
        a = self._meaning("a", o, group)
        return reference(
            Product.of(a, self._meaning("b", o, group)),
            bias=None if bias is None else bias[group],
            row_scale=None if rows is None else rows[part],
            column_scale=None if columns is None else columns[group],
            product2=None if o.gate is None else Product.of(a, self._meaning("b2", o, group)),
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
            a=self.types[0],
            b=self.types[1],
            a_scale=o.a_scale,
            b_scale=o.b_scale,
            weights=self.packing(o),
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
        return Memory(batch, g.m, g.n, TYPES[o.d], self.device, pad=g.d_pad, offset=g.d_offset)

    def operands(self, o: GemmOptions) -> dict[str, Any]:
        """The keywords of run()."""
        named: dict[str, Any] = {
            "bias": self.extra("bias", o.bias),
            "row_scale": self.extra("row_scale", "float32" if o.row_scale else None),
            "column_scale": self.extra("column_scale", "float32" if o.column_scale else None),
            "alpha": o.alpha,
            "a_scale": self.coding("a_scale", o.a_scale),
            "b_scale": self.coding("b_scale", o.b_scale),
            "out_scale": self.out_scale(o) if o.out_scale else None,
        }
        if o.gate == "separate":
            other = self.other if self.format is None else self.packed("b2", o.weights)
            named |= {"b2": other, "bias2": self.extra("bias2", o.bias)}
            named["b2_scale"] = self.coding("b2_scale", o.b_scale)
        elif o.gate == "interleaved":
            named["bias"] = self.extra("bias of both", o.bias)
            named["b_scale"] = self.coding("b_scale of both", o.b_scale)
        return named

    def factor(self, o: GemmOptions) -> torch.Tensor:
        """What run() takes as b."""
        if self.format is not None:
            return self.packed("both" if o.gate == "interleaved" else "b", o.weights)
        if o.gate != "interleaved":
            return self.b
        both = self.extra("both", self.types[1])
        assert both is not None
        return both

    def enqueue(self, plan: cutplan.GroupedGemmPlan, o: GemmOptions, d: torch.Tensor, **how: Any) -> None:
        if plan.workspace_size and "workspace" not in how:
            how["workspace"] = poisoned_workspace(plan, self.device)
        if o.amax and "amax" not in how:
            how["amax"] = self.amax().view[0]
        plan.run(self.a, self.factor(o), d, self.offsets, **self.operands(o), **how)

    def amax(self) -> Memory:
        """For the greatest of D."""
        return Memory(None, 1, 1, torch.float32, self.device)

    def run(self, plan: cutplan.GroupedGemmPlan, o: GemmOptions, **how: Any) -> Memory:
        """D, unchecked."""
        out = self.output(o)
        self.enqueue(plan, o, out.view, **how)
        return out

    def complaint(self, plan: cutplan.GroupedGemmPlan, o: GemmOptions) -> str | None:
        """Runs the plan and says what is wrong; None: nothing is."""
        amax = self.amax() if o.amax else None
        what = self.wrong(plan, o, self.run(plan, o, **({} if amax is None else {"amax": amax.view[0]})))
        if what is None and amax is not None:
            what = amax.stray_write() or self._wrong_amax(plan, o, amax.view)
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

    def _wrong_amax(self, plan: cutplan.GroupedGemmPlan, o: GemmOptions, amax: torch.Tensor) -> str | None:
        """Of all groups together."""
        parts = [self._before_out_scale(o, group) for group in range(len(self.groups.sizes))]
        empty = torch.empty(0, dtype=torch.float64, device=self.device)
        exact, magnitude, error = (
            torch.cat([empty, *(getattr(part, field).flatten() for part in parts)])
            for field in ("exact", "magnitude", "error")
        )
        bound = OutputBound.of(plan.precision_guarantee, torch.float32, self.groups.k)
        return amax_complaint(amax, Reference(exact, magnitude, error), bound)

    def _written(self) -> torch.Tensor:
        """The rows of D that belong to a group."""
        rows = torch.arange(self.groups.m, device=self.device)
        return (rows >= self.inside.start) & (rows < self.inside.stop)
