"""Random GEMM problems: operands amid poisoned memory, and outputs that show every stray write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch

import cutplan
from tests.oracle import Product, Reference, complaint, inexact, reference

TORCH = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
# (device, operand type) of every pair that some backend serves.
SERVED = [
    *(("cpu", operand) for operand in TORCH),
    *(pytest.param("cuda", operand, marks=pytest.mark.cuda) for operand in ("float16", "bfloat16")),
]
LAYOUTS = ("rcr", "rrr", "crr", "ccr")
ACTIVATIONS = ("none", "relu", "gelu_erf", "gelu_tanh", "silu")

# NaNs of every format, so that what a kernel reads beyond an operand or leaves unwritten in D shows up.
_POISON = {2: 0x7FDA, 4: 0x7FDA5A5A, 8: 0x7FFA5A5A5A5A5A5A}
_INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def output_types(operand: str) -> tuple[str, ...]:
    return (operand, "float32") if operand in ("float16", "bfloat16") else (operand,)


def round_up(x: int, to: int) -> int:
    return -(-x // to) * to


@dataclass(frozen=True)
class Shape:
    """Extents, and how the operands lie in memory."""

    m: int
    n: int
    k: int
    batch: int | None = None  # None: rank 2
    shared: str = ""  # operands, of a, b and c, that one matrix serves for the whole batch
    pad: int = 0  # elements between the end of a run and the next one, at least
    offset: int = 0  # elements by which A and B start beyond an aligned address
    d_pad: int = 0
    d_offset: int = 0
    integers: bool = False

    def __str__(self) -> str:
        plain = Shape(self.m, self.n, self.k)
        extra = [f"{f}={v!r}" for f, v in vars(self).items() if f not in "mnk" and v != getattr(plain, f)]
        return " ".join([f"{self.m}x{self.n}x{self.k}", *extra])


@dataclass(frozen=True)
class Options:
    """The epilogue."""

    d: str
    bias: str | None = None  # its dtype; None: absent
    c: str | None = None
    activation: str = "none"
    alpha: float = 1.0
    beta: float = 0.0

    def __str__(self) -> str:
        plain = Options(self.d)
        extra = [f"{f}={v}" for f, v in vars(self).items() if v != getattr(plain, f)]
        return " ".join([f"d={self.d}", *extra])


def all_options(operand: str) -> list[Options]:
    """Every output type x bias x c x activation, with scalars that differ from one to the next."""
    chosen = []
    for d in output_types(operand):
        for bias in (None, d):
            for c in (None, d):
                for activation in ACTIVATIONS:
                    odd = len(chosen) % 2 == 1
                    beta = 0.0 if c is None else (-1.0, 0.5, 0.0)[len(chosen) % 3]
                    chosen.append(Options(d, bias, c, activation, alpha=-0.75 if odd else 1.0, beta=beta))
    return chosen


class Memory:
    """A poisoned allocation with one strided view in the middle of it."""

    def __init__(
        self,
        batch: int | None,
        runs: int,
        run: int,
        dtype: torch.dtype,
        device: str,
        *,
        pad: int = 0,
        offset: int = 0,
        align: int = 1,
        guard: int = 256,
    ) -> None:
        """`run` adjacent elements, `runs` times, `batch` times; strides are multiples of `align` elements."""
        self.ld = round_up(run + pad, align)
        stride = round_up(runs * self.ld + (pad if batch is not None else 0), align)
        count = 2 * guard + offset + (batch or 1) * stride
        self.poison = _POISON[dtype.itemsize]
        self.integers = torch.full((count,), self.poison, dtype=_INTEGER[dtype.itemsize], device=device)
        shape, strides = [runs, run], [self.ld, 1]
        if batch is not None:
            shape, strides = [batch, *shape], [stride, *strides]
        self._place = (shape, strides, guard + offset)
        self.view = self.integers.view(dtype).as_strided(*self._place)

    def stray_write(self) -> str | None:
        """Whether anything outside the view has changed."""
        rest = self.integers.clone()
        rest.as_strided(*self._place).fill_(self.poison)
        changed = rest != self.poison
        if not bool(changed.any()):
            return None
        first = int(changed.nonzero()[0])
        away = first - self._place[2]
        return f"{int(changed.sum())} elements outside d overwritten, the first {away} away from d[0, 0]"

    def touched(self) -> bool:
        """Whether anything at all has changed."""
        return bool((self.integers != self.poison).any())


def generator(device: str, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def random_values(shape: Sequence[int], integers: bool, source: torch.Generator) -> torch.Tensor:
    """Normal values, rows and columns scaled by powers of two; or integers whose sums float32 holds."""
    device = source.device
    if integers:
        return torch.randint(-3, 4, tuple(shape), generator=source, device=device).double()
    values = torch.randn(tuple(shape), generator=source, device=device, dtype=torch.float64)
    for dim in range(len(shape)):
        spread = [1] * len(shape)
        spread[dim] = shape[dim]
        values *= 2.0 ** torch.randint(-2, 3, spread, generator=source, device=device)
    return values


class Problem:
    """Operands of one shape. A's and B's addresses and strides are multiples of `alignment` bytes."""

    def __init__(
        self,
        shape: Shape,
        operand: str,
        layout: str,
        device: str,
        source: torch.Generator,
        alignment: int = 0,
    ) -> None:
        self.shape, self.operand, self.layout, self.device = shape, operand, layout, device
        self.source = source
        dtype = TORCH[operand]
        self.alignment = max(alignment, dtype.itemsize)
        self.a = self._matrix("a", shape.m, shape.k, layout[0] == "r", dtype)
        self.b = self._matrix("b", shape.k, shape.n, layout[1] == "r", dtype)
        self._extras: dict[tuple[str, str], torch.Tensor] = {}

    def _matrix(self, name: str, rows: int, cols: int, row_major: bool, dtype: torch.dtype) -> torch.Tensor:
        s = self.shape
        batch = None if name in s.shared else s.batch
        runs, run = (rows, cols) if row_major else (cols, rows)
        align = self.alignment // dtype.itemsize if name in "ab" else 1
        offset = s.offset if name in "ab" else 0
        view = Memory(batch, runs, run, dtype, self.device, pad=s.pad, offset=offset, align=align).view
        view = view if row_major else view.mT
        view.copy_(random_values(view.shape, s.integers, self.source))
        # A shared operand comes with a batch dimension of stride 0.
        return view if s.batch is None or batch is not None else view.expand(s.batch, rows, cols)

    def extra(self, name: str, dtype: str | None) -> torch.Tensor | None:
        """c or bias, made when first asked for."""
        if dtype is None:
            return None
        if (name, dtype) not in self._extras:
            s = self.shape
            if name == "bias":
                made = Memory(None, 1, s.n, TORCH[dtype], self.device).view[0]
                made.copy_(random_values(made.shape, s.integers, self.source))
            else:
                made = self._matrix("c", s.m, s.n, True, TORCH[dtype])
            self._extras[name, dtype] = made
        return self._extras[name, dtype]

    @cached_property
    def product(self) -> Product:
        return Product.of(self.a, self.b)

    def expected(self, o: Options) -> Reference:
        return reference(
            self.product,
            c=self.extra("c", o.c),
            bias=self.extra("bias", o.bias),
            alpha=o.alpha,
            beta=o.beta,
            activation=o.activation,
        )

    def descriptor(self, o: Options) -> cutplan.GemmDescriptor:
        s = self.shape
        return cutplan.GemmDescriptor(
            m=s.m,
            n=s.n,
            k=s.k,
            batch=1 if s.batch is None else s.batch,
            a=self.operand,
            b=self.operand,
            d=o.d,
            c=o.c,
            bias=o.bias,
            layout=self.layout,
            epilogue=cutplan.Epilogue(bias=o.bias is not None, c=o.c is not None, activation=o.activation),
            alignment=self.alignment,
        )

    def select(self, o: Options, **preference: Any) -> cutplan.GemmPlan:
        return cutplan.GemmPlan.select(self.descriptor(o), self.device, cutplan.PlanPreference(**preference))

    def output(self, o: Options) -> Memory:
        s = self.shape
        return Memory(s.batch, s.m, s.n, TORCH[o.d], self.device, pad=s.d_pad, offset=s.d_offset)

    def enqueue(self, plan: cutplan.GemmPlan, o: Options, d: torch.Tensor, **how: Any) -> None:
        if plan.workspace_size and "workspace" not in how:
            how["workspace"] = poisoned_workspace(plan, self.device)
        c, bias = self.extra("c", o.c), self.extra("bias", o.bias)
        if c is not None and o.beta == 0:
            c = torch.full_like(c, torch.nan)  # beta = 0 promises that C is not read
        plan.run(self.a, self.b, d, c=c, bias=bias, alpha=o.alpha, beta=o.beta, **how)

    def run(self, plan: cutplan.GemmPlan, o: Options) -> torch.Tensor:
        """D alone, unchecked."""
        out = self.output(o)
        self.enqueue(plan, o, out.view)
        return out.view

    def complaint(self, plan: cutplan.GemmPlan, o: Options) -> str | None:
        """Runs the plan and says what is wrong; None: nothing is."""
        out = self.output(o)
        self.enqueue(plan, o, out.view)
        expected = self.expected(o)
        what = out.stray_write() or complaint(out.view, expected, plan.precision_guarantee)
        if what is None and self.shape.integers and o.activation in ("none", "relu"):
            what = inexact(out.view, expected)
        return None if what is None else f"{plan.sku.name} {self.shape} {o}: {what}"


def poisoned_workspace(plan: cutplan.GemmPlan, device: str) -> torch.Tensor:
    """Exactly what the plan asks for, full of NaN."""
    workspace = torch.full((plan.workspace_size,), 0xFF, dtype=torch.uint8, device=device)
    assert workspace.data_ptr() % 256 == 0
    return workspace


def report(failures: Sequence[str]) -> None:
    """Fails with every combination that failed, twenty in full."""
    if failures:
        more = f"\n... and {len(failures) - 20} more" if len(failures) > 20 else ""
        raise AssertionError(f"{len(failures)} failed:\n" + "\n".join(failures[:20]) + more)
