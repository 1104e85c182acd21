"""Random GEMM problems: operands amid poisoned memory, and outputs that show every stray write."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import pytest
import torch

import cutplan
from tests.bindings.producers import BFLOAT, CPU, CUDA, FLOAT, INT, CupyLikeProducer, Producer
from tests.oracle import OutputBound, Product, Reference, before_activation, complaint, inexact, reference

TORCH = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
# (device, operand type) of every pair that some backend serves.
SERVED = [
    *(("cpu", operand) for operand in TORCH),
    *(pytest.param("cuda", operand, marks=pytest.mark.cuda) for operand in TORCH),
]
LAYOUTS = ("rcr", "rrr", "crr", "ccr")  # with a row-major D
ALL_LAYOUTS = (*LAYOUTS, "rcc", "rrc", "crc", "ccc")
ACTIVATIONS = ("none", "relu", "gelu_erf", "gelu_tanh", "silu")
GATES = ("separate", "interleaved")
GATE_ALPHAS = (2.0**-5, -3 * 2.0**-7)  # two sums are multiplied: this keeps most of them within float16

# NaNs of every format, so that what a kernel reads beyond an operand or leaves unwritten in D shows up.
_POISON = {2: 0x7FDA, 4: 0x7FDA5A5A, 8: 0x7FFA5A5A5A5A5A5A}
_INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def output_types(operand: str) -> tuple[str, ...]:
    """The operands' type and what their products are summed in."""
    return (operand, "float32") if operand in ("float16", "bfloat16") else (operand,)


def d_types(operand: str) -> tuple[str, ...]:
    """Every type that D may have."""
    if operand == "float64":
        return ("float64",)
    return (operand, *(d for d in ("float16", "bfloat16", "float32") if d != operand))


def extra_types(operand: str, d: str) -> tuple[str, ...]:
    """Every type that C, bias, residual and aux may have beside a D of type `d`."""
    return tuple(dict.fromkeys((d, operand) if operand == "float64" else (d, operand, "float32")))


def round_up(x: int, to: int) -> int:
    return -(-x // to) * to


def transposed(layout: str) -> str:
    """The layout of the transposed problem: the kernel of one serves the other, because D^T = B^T A^T."""
    other = {"r": "c", "c": "r"}
    return other[layout[1]] + other[layout[0]] + other[layout[2]]


@dataclass(frozen=True)
class Shape:
    """Extents, and how the operands lie in memory."""

    m: int
    n: int
    k: int
    batch: int | None = None  # None: rank 2
    shared: str = (
        ""  # operands, of a, b and c, that one matrix serves for the whole batch; c: residual and aux too
    )
    pad: int = 0  # elements between the end of a run and the next one, at least
    offset: int = 0  # elements by which A and B start beyond an aligned address
    d_pad: int = 0
    d_offset: int = 0
    repeats: str = ""  # m: one row of c, residual and a gradient's aux serves for all; n: one column does
    integers: bool = False

    def __str__(self) -> str:
        plain = Shape(self.m, self.n, self.k)
        extra = [f"{f}={v!r}" for f, v in vars(self).items() if f not in "mnk" and v != getattr(plain, f)]
        return " ".join([f"{self.m}x{self.n}x{self.k}", *extra])


@dataclass(frozen=True)
class Options:
    """The epilogue. Operands are given by their dtype; None: absent."""

    d: str
    bias: str | None = None
    c: str | None = None
    activation: str = "none"
    bias_over: str = "n"
    residual: str | None = None
    row_scale: bool = False
    column_scale: bool = False
    store: str | None = None  # an aux that takes the value before the activation
    gradient: str | None = None  # an aux at which the activation's derivative is taken
    gate: str | None = None
    alpha: float = 1.0
    beta: float = 0.0

    def __str__(self) -> str:
        plain = Options(self.d)
        extra = [f"{f}={v}" for f, v in vars(self).items() if v != getattr(plain, f)]
        return " ".join([f"d={self.d}", *extra])

    @property
    def epilogue(self) -> cutplan.Epilogue:
        return cutplan.Epilogue(
            bias=self.bias_over if self.bias is not None else False,
            c=self.c is not None,
            residual=self.residual is not None,
            row_scale=self.row_scale,
            column_scale=self.column_scale,
            activation=self.activation,
            aux="store" if self.store is not None else "gradient" if self.gradient is not None else None,
            gate=self.gate,
        )

    @property
    def legal(self) -> bool:
        """Whether the descriptor takes these terms together."""
        if self.store is not None and self.gradient is not None:
            return False
        if self.gradient is not None and self.activation == "none":
            return False
        others = (self.c, self.store, self.gradient)
        over_m = self.bias is not None and self.bias_over == "m"
        return self.gate is None or not (any(others) or self.column_scale or over_m)


_Row = TypeVar("_Row")


def pairwise(
    fields: Mapping[str, Sequence[Any]], make: Callable[[dict[str, Any]], _Row | None], source: random.Random
) -> list[_Row]:
    """Few rows in which any two values of any two fields meet, where they may: `make` gives None for what
    may not be. The first value of a field is the one that goes with all others."""
    plain = {name: values[0] for name, values in fields.items()}
    pairs = {
        ((x, i), (y, j))
        for x, y in itertools.combinations(fields, 2)
        for i, j in itertools.product(range(len(fields[x])), range(len(fields[y])))
        if make({**plain, x: fields[x][i], y: fields[y][j]}) is not None
    }
    rows = []
    while pairs:
        needed = dict(source.choice(sorted(pairs)))
        best: tuple[int, _Row, set[Any]] | None = None
        for attempt in range(24):
            # ever fewer fields leave their plain value, so that a legal row is found
            chosen = {
                name: needed.get(name, source.randrange(len(values)) if source.random() * 24 > attempt else 0)
                for name, values in fields.items()
            }
            row = make({name: fields[name][index] for name, index in chosen.items()})
            if row is None and attempt == 23:
                row = make({**plain, **{name: fields[name][index] for name, index in needed.items()}})
                chosen = {name: needed.get(name, 0) for name in fields}
            if row is not None:
                met = pairs & set(itertools.combinations(chosen.items(), 2))
                if best is None or len(met) > best[0]:
                    best = (len(met), row, met)
        assert best is not None and best[2]
        rows.append(best[1])
        pairs -= best[2]
    return rows


def options_of(values: dict[str, Any], operand: str) -> Options | None:
    """From one value each of option_fields()."""
    d, first = values["d"], values["types"]
    types = extra_types(operand, d)
    c, bias, residual, aux = (types[(first + i) % len(types)] for i in range(4))
    alpha, activation = values["alpha"], values["activation"]
    if values["gate"] is not None:
        alpha = GATE_ALPHAS[alpha != 1.0]
    if values["aux"] == "gradient" and activation == "none":
        activation = "relu"
    o = Options(
        d,
        bias=bias if values["bias"] else None,
        bias_over=values["bias"] or "n",
        c=None if values["beta"] is None else c,
        beta=values["beta"] or 0.0,
        residual=residual if values["residual"] else None,
        row_scale=values["row_scale"],
        column_scale=values["column_scale"],
        activation=activation,
        store=aux if values["aux"] == "store" else None,
        gradient=aux if values["aux"] == "gradient" else None,
        gate=values["gate"],
        alpha=alpha,
    )
    return o if o.legal else None


def option_fields(operand: str, gates: Iterable[str | None] = (None,)) -> dict[str, Sequence[Any]]:
    scales = (False,) if operand == "float64" else (False, True)
    return {
        "d": d_types(operand),
        "types": (0, 1, 2),
        "bias": (None, "n", "m"),
        "beta": (None, 0.5, -1.0, 0.0),  # None: without C
        "residual": (False, True),
        "row_scale": scales,
        "column_scale": scales,
        "activation": ACTIVATIONS,
        "aux": (None, "store", "gradient"),
        "gate": tuple(gates),
        "alpha": (1.0, -0.75),
    }


def single_options(operand: str, gates: Iterable[str | None] = (None,)) -> list[Options]:
    """Each term of the epilogue alone, the activations with each kind of aux, the gates with their biases."""
    chosen = []
    wide = operand == "float64"
    for gate in gates:
        plain = Options(operand, gate=gate, alpha=1.0 if gate is None else GATE_ALPHAS[0])
        chosen += [plain, replace(plain, bias=operand), replace(plain, residual=operand)]
        chosen += [replace(plain, d=d) for d in d_types(operand)[1:]]
        chosen += [replace(plain, activation=activation) for activation in ACTIVATIONS[1:]]
        chosen += [] if wide else [replace(plain, row_scale=True)]
        if gate is not None:
            chosen += [replace(plain, bias=operand, activation=a, residual=operand) for a in ACTIVATIONS]
            continue
        chosen += [replace(plain, bias=operand, bias_over="m"), replace(plain, c=operand, beta=1.0)]
        chosen += [] if wide else [replace(plain, column_scale=True)]
        chosen += [replace(plain, store=operand, activation=a) for a in ACTIVATIONS]
        chosen += [replace(plain, gradient=operand, activation=a) for a in ACTIVATIONS[1:]]
    return list(dict.fromkeys(chosen))


def crossed_options(
    operand: str, source: random.Random, gates: Iterable[str | None] = (None,)
) -> list[Options]:
    """Any two terms, with any types, at least once together."""
    rows = pairwise(option_fields(operand, gates), lambda values: options_of(values, operand), source)
    return list(dict.fromkeys(rows))


class Memory:
    """A poisoned allocation with one strided matrix, or batch of them, in the middle of it."""

    def __init__(
        self,
        batch: int | None,
        rows: int,
        cols: int,
        dtype: torch.dtype,
        device: str,
        *,
        row_major: bool = True,
        pad: int = 0,
        offset: int = 0,
        align: int = 1,
        guard: int = 256,
    ) -> None:
        """Strides are multiples of `align` elements; `offset` elements beyond such an address it begins."""
        runs, run = (rows, cols) if row_major else (cols, rows)
        ld = round_up(run + pad, align)
        stride = round_up(runs * ld + (pad if batch is not None else 0), align)
        count = 2 * guard + offset + (batch or 1) * stride
        self.poison = _POISON[dtype.itemsize]
        self.integers = torch.full((count,), self.poison, dtype=_INTEGER[dtype.itemsize], device=device)
        shape = [rows, cols]
        strides = [ld, 1] if row_major else [1, ld]
        if batch is not None:
            shape, strides = [batch, *shape], [stride, *strides]
        self._place = (shape, strides, guard + offset)
        self.view = self.integers.view(dtype).as_strided(*self._place)

    @property
    def bits(self) -> torch.Tensor:
        """The matrix as integers."""
        return self.integers.as_strided(*self._place)

    def stray_write(self, written: torch.Tensor | None = None) -> str | None:
        """Whether anything outside the matrix, or outside its rows `written`, has changed."""
        rest = self.integers.clone()
        inside = rest.as_strided(*self._place)
        if written is None:
            inside.fill_(self.poison)
        else:
            inside[written] = self.poison
        changed = rest != self.poison
        if not bool(changed.any()):
            return None
        first = int(changed.nonzero()[0])
        away = first - self._place[2]
        return f"{int(changed.sum())} elements outside overwritten, the first {away} away from [0, 0]"

    def touched(self) -> bool:
        """Whether anything at all has changed."""
        return bool((self.integers != self.poison).any())


def lend(
    x: torch.Tensor, strides: tuple[int, ...], byte_offset: int = 0, kind: type[Producer] = Producer
) -> Producer:
    """The tensor's memory by DLPack, `byte_offset` beyond its first element and with other strides: such as
    torch itself cannot have."""
    code = BFLOAT if x.dtype == torch.bfloat16 else FLOAT if x.is_floating_point() else INT
    device = (CUDA, x.device.index) if x.is_cuda else (CPU, 0)
    lent = kind(tuple(x.shape), strides=strides, code=code, bits=8 * x.itemsize, device=device)
    lent.managed.tensor.data = x.data_ptr() + byte_offset
    lent.memory = x  # which is to live as long
    return lent


def askew(x: torch.Tensor) -> Producer:
    """One byte late."""
    return lend(x, x.stride(), 1)


def flipped(x: torch.Tensor, wrapped: bool = False) -> Producer:
    """What x.flip(0) has, without a copy. `wrapped`: as CuPy exports it, its negative step divided by the
    size of an element without a sign."""
    step = x.stride(0)
    back = (2**64 - step * x.itemsize) // x.itemsize if wrapped else -step
    kind = CupyLikeProducer if wrapped else Producer
    return lend(x, (back, *x.stride()[1:]), (x.shape[0] - 1) * step * x.itemsize, kind)


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


def interleave(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Column 2 j is x's column j, 2 j + 1 is y's."""
    return torch.stack([x, y], dim=-1).flatten(-2)


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

    def _matrix(
        self,
        name: str,
        rows: int,
        cols: int,
        row_major: bool,
        dtype: torch.dtype,
        values: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Random, or `values` with the batch dimension that the operand has."""
        s = self.shape
        is_operand = name in ("a", "b", "b2", "both")
        kind = name if name == "a" else "b" if is_operand else "c"  # what Shape.shared calls it
        batch = None if kind in s.shared else s.batch
        align = self.alignment // dtype.itemsize if is_operand else 1
        offset = s.offset if is_operand else 0
        whole = (rows, cols)
        if kind == "c":
            rows, cols = (1 if "m" in s.repeats else rows), (1 if "n" in s.repeats else cols)
        memory = Memory(
            batch, rows, cols, dtype, self.device, row_major=row_major, pad=s.pad, offset=offset, align=align
        )
        view = memory.view
        if values is not None and values.dim() == view.dim():
            view.copy_(values)
        elif values is not None and values.shape[0] > 0:
            view.copy_(values[0])
        else:
            view.copy_(random_values(view.shape, s.integers, self.source))
        # What is shared or repeated comes with dimensions of stride 0.
        return view.expand(*whole) if s.batch is None else view.expand(s.batch, *whole)

    def _vector(self, extent: int, dtype: torch.dtype, values: torch.Tensor | None = None) -> torch.Tensor:
        made = Memory(None, 1, extent, dtype, self.device).view[0]
        made.copy_(random_values(made.shape, self.shape.integers, self.source) if values is None else values)
        return made

    def extra(self, name: str, dtype: str | None) -> torch.Tensor | None:
        """An operand beside a and b, made when first asked for: c, residual or gradient; bias, bias2,
        bias over m; row_scale, column_scale; b2, and both: b and b2 interleaved."""
        if dtype is None:
            return None
        if (name, dtype) not in self._extras:
            self._extras[name, dtype] = self._made(name, dtype)
        return self._extras[name, dtype]

    def _made(self, name: str, dtype: str) -> torch.Tensor:
        s, kind = self.shape, TORCH[dtype]
        b_row_major = self.layout[1] == "r"
        if name in ("bias", "bias2", "column_scale"):
            return self._vector(s.n, kind)
        if name == "bias over m":
            return self._vector(s.m, kind).unsqueeze(-1)
        if name == "row_scale":
            return self._vector(s.m, kind)
        if name == "bias of both":
            x, y = self.extra("bias", dtype), self.extra("bias2", dtype)
            assert x is not None and y is not None
            return self._vector(2 * s.n, kind, interleave(x, y))
        if name == "b2":
            return self._matrix("b2", s.k, s.n, b_row_major, kind)
        if name == "both":
            other = self.extra("b2", dtype)
            assert other is not None
            return self._matrix("both", s.k, 2 * s.n, b_row_major, kind, interleave(self.b, other))
        return self._matrix(name, s.m, s.n, self.layout[2] == "r", kind)

    @cached_property
    def product(self) -> Product:
        return Product.of(self.a, self.b)

    @cached_property
    def product2(self) -> Product:
        other = self.extra("b2", self.operand)
        assert other is not None
        return Product.of(self.a, other)

    def _terms(self, o: Options) -> dict[str, Any]:
        """What x is made of, besides the product."""
        return {
            "c": self.extra("c", o.c),
            "bias": self.extra("bias" if o.bias_over == "n" else "bias over m", o.bias),
            "row_scale": self.extra("row_scale", "float32" if o.row_scale else None),
            "column_scale": self.extra("column_scale", "float32" if o.column_scale else None),
            "alpha": o.alpha,
            "beta": o.beta,
        }

    def expected(self, o: Options) -> Reference:
        return reference(
            self.product,
            **self._terms(o),
            residual=self.extra("residual", o.residual),
            aux=self.extra("gradient", o.gradient),
            product2=self.product2 if o.gate is not None else None,
            bias2=self.extra("bias2", o.bias) if o.gate is not None else None,
            activation=o.activation,
        )

    def expected_aux(self, o: Options) -> Reference:
        return before_activation(self.product, **self._terms(o))

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
            residual=o.residual,
            aux=o.store or o.gradient,
            layout=self.layout,
            epilogue=o.epilogue,
            alignment=self.alignment,
        )

    def select(self, o: Options, **preference: Any) -> cutplan.GemmPlan:
        return cutplan.GemmPlan.select(self.descriptor(o), self.device, cutplan.PlanPreference(**preference))

    def output(self, o: Options, dtype: str | None = None) -> Memory:
        """For D, or an aux of another type."""
        s = self.shape
        return Memory(
            s.batch,
            s.m,
            s.n,
            TORCH[dtype or o.d],
            self.device,
            row_major=self.layout[2] == "r",
            pad=s.d_pad,
            offset=s.d_offset,
        )

    def operands(self, o: Options) -> dict[str, Any]:
        """The keywords of run(), but for outputs."""
        named: dict[str, Any] = {
            **self._terms(o),
            "residual": self.extra("residual", o.residual),
            "aux": self.extra("gradient", o.gradient),
        }
        if named["c"] is not None and o.beta == 0:
            # beta = 0 promises that C is not read
            named["c"] = named["c"].new_full((), torch.nan).expand_as(named["c"])
        if o.gate == "separate":
            named |= {"b2": self.extra("b2", self.operand), "bias2": self.extra("bias2", o.bias)}
        elif o.gate == "interleaved":
            named["bias"] = self.extra("bias of both", o.bias)
        return named

    def factor(self, o: Options) -> torch.Tensor:
        """What run() takes as b."""
        if o.gate != "interleaved":
            return self.b
        both = self.extra("both", self.operand)
        assert both is not None
        return both

    def enqueue(
        self,
        plan: cutplan.GemmPlan,
        o: Options,
        d: torch.Tensor,
        aux: torch.Tensor | None = None,
        **how: Any,
    ) -> None:
        """`aux` takes the value before the activation, where that is asked for."""
        if plan.workspace_size and "workspace" not in how:
            how["workspace"] = poisoned_workspace(plan, self.device)
        named = self.operands(o)
        if o.store is not None:
            named["aux"] = self.output(o, o.store).view if aux is None else aux
        plan.run(self.a, self.factor(o), d, **named, **how)

    def run(self, plan: cutplan.GemmPlan, o: Options) -> torch.Tensor:
        """D alone, unchecked."""
        out = self.output(o)
        self.enqueue(plan, o, out.view)
        return out.view

    def complaint(self, plan: cutplan.GemmPlan, o: Options) -> str | None:
        """Runs the plan and says what is wrong; None: nothing is."""
        out = self.output(o)
        aux = None if o.store is None else self.output(o, o.store)
        self.enqueue(plan, o, out.view, None if aux is None else aux.view)
        what = self.wrong(plan, o, out, aux)
        return None if what is None else f"{plan.sku.name} {self.layout} {self.shape} {o}: {what}"

    def wrong(self, plan: cutplan.GemmPlan, o: Options, out: Memory, aux: Memory | None = None) -> str | None:
        """What is wrong with the results of a run; None: nothing is."""
        expected = self.expected(o)
        guarantee = plan.precision_guarantee
        of_d = guarantee if o.store is None else OutputBound.of(guarantee, TORCH[o.d])
        what = out.stray_write() or complaint(out.view, expected, of_d)
        if what is None and self.shape.integers and o.activation in ("none", "relu"):
            what = self._inexact(out, expected)
        if what is None and aux is not None and o.store is not None:
            of_x = self.expected_aux(o)
            bound = OutputBound.of(guarantee, TORCH[o.store]).before_activation
            what = aux.stray_write() or complaint(aux.view, of_x, bound, "aux")
            if what is None and self.shape.integers:
                what = self._inexact(aux, of_x)
        return what

    @staticmethod
    def _inexact(out: Memory, expected: Reference) -> str | None:
        """Integers below 2^24 have one right answer in every accumulator."""
        exact = expected.magnitude.numel() == 0 or float(expected.magnitude.max()) < 2**24
        return inexact(out.view, expected) if exact else None


def poisoned_workspace(plan: Any, device: str) -> torch.Tensor:
    """Exactly what the plan asks for, full of NaN."""
    workspace = torch.full((plan.workspace_size,), 0xFF, dtype=torch.uint8, device=device)
    assert workspace.data_ptr() % 256 == 0
    return workspace


def report(failures: Sequence[str]) -> None:
    """Fails with every combination that failed, twenty in full."""
    if failures:
        more = f"\n... and {len(failures) - 20} more" if len(failures) > 20 else ""
        raise AssertionError(f"{len(failures)} failed:\n" + "\n".join(failures[:20]) + more)
