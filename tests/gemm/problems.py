"""Random GEMM problems: operands amid poisoned memory, and outputs that show every stray write."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import pytest
import torch

import cutplan
from tests.bindings.producers import BFLOAT, CPU, CUDA, FLOAT, INT, CupyLikeProducer, Producer
from tests.gemm import codes
from tests.gemm.codes import CODES, is_quantised, random_codes
from tests.gemm.operands import PACKED, QUANTISED, Packing, format_of, types_of
from tests.gemm.packed import Weights, packing_fields, random_weights, single_packings
from tests.oracle import (
    OutputBound,
    Product,
    Reference,
    amax_complaint,
    before_activation,
    complaint,
    inexact,
    reference,
)

TORCH = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
TYPES = {
    **TORCH,
    **CODES,
    "int32": torch.int32,
    "uint8": torch.uint8,
}  # every one that an operand or a result may have
# (device, operand type) of every pair that some backend serves.
SERVED = [
    *(("cpu", operand) for operand in TORCH),
    *(pytest.param("cuda", operand, marks=pytest.mark.cuda) for operand in TORCH),
]
SERVED_QUANTISED = [
    *(("cpu", operand) for operand in QUANTISED),
    *(pytest.param("cuda", operand, marks=pytest.mark.cuda) for operand in QUANTISED),
]
SERVED_PACKED = [
    *(("cpu", operand) for operand in PACKED),
    *(pytest.param("cuda", operand, marks=pytest.mark.cuda) for operand in PACKED),
]
LAYOUTS = ("rcr", "rrr", "crr", "ccr")  # with a row-major D
ALL_LAYOUTS = (*LAYOUTS, "rcc", "rrc", "crc", "ccc")
ACTIVATIONS = ("none", "relu", "gelu_erf", "gelu_tanh", "silu")
GATES = ("separate", "interleaved")
GATE_ALPHAS = (2.0**-5, -3 * 2.0**-7)  # two sums are multiplied: this keeps most of them within float16

# NaNs of every format, of int8 the greatest, so that what a kernel reads beyond an operand or leaves
# unwritten in D shows up.
_POISON = {1: 0x7F, 2: 0x7FDA, 4: 0x7FDA5A5A, 8: 0x7FFA5A5A5A5A5A5A}
_INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def output_types(operand: str) -> tuple[str, ...]:
    """The operands' type and what their products are summed in."""
    return (operand, "float32") if operand in ("float16", "bfloat16") else (operand,)


def d_types(operand: str) -> tuple[str, ...]:
    """Every type that D may have, first the one that goes with every term."""
    operand = operand if format_of(operand) is None else types_of(operand)[0]
    if operand == "int8":
        return ("bfloat16", "float16", "float32", "int8", "int32")
    if is_quantised(operand):
        return ("bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e5m2")
    if operand == "float64":
        return ("float64",)
    return (operand, *(d for d in ("float16", "bfloat16", "float32") if d != operand))


def extra_types(operand: str, d: str) -> tuple[str, ...]:
    """Every type that C, bias, residual and aux may have beside a D of type `d`."""
    if is_quantised(operand):
        return ("bfloat16", "float32", "float16")
    operand = types_of(operand)[0]
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
    a_scale: str | None = None  # granularities, of quantised operands
    b_scale: str | None = None
    a_zero: str | None = None
    b_zero: str | None = None
    out_scale: bool = False
    amax: bool = False
    weights: Packing = Packing()  # of packed weights
    outputs: int = 1  # that D is cut into, or as many as its columns make
    cut: int = 8  # of whose multiples all but the last have columns

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
            out_scale=self.out_scale,
            amax=self.amax,
        )

    @property
    def codings(self) -> dict[str, str | None]:
        """What a descriptor says of scales and zeros."""
        return {name: getattr(self, name) for name in ("a_scale", "b_scale", "a_zero", "b_zero")}

    @property
    def legal(self) -> bool:
        """Whether the descriptor takes these terms together."""
        if self.store is not None and self.gradient is not None:
            return False
        if self.gradient is not None and self.activation == "none":
            return False
        if self.row_scale and self.a_scale in ("tensor", "row"):
            return False
        if self.column_scale and self.b_scale in ("tensor", "column"):
            return False
        if self.out_scale and self.d not in CODES:
            return False
        if self.d == "int32":  # sums, less zeros
            return replace(self, a_zero=None, b_zero=None, outputs=1, cut=8) == Options("int32")
        if self.gate is not None and (self.a_zero or self.b_zero):
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
    d, _, scaled = d.partition("/")
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
        **{name: values.get(name) for name in ("a_scale", "b_scale", "a_zero", "b_zero")},
        out_scale=bool(scaled),
        amax=values.get("amax", False),
        weights=Packing(**{f.name: values[f.name] for f in fields(Packing) if f.name in values}),
    )
    return o if o.legal else None


def option_fields(operand: str, gates: Iterable[str | None] = (None,)) -> dict[str, Sequence[Any]]:
    scales = (False,) if operand == "float64" else (False, True)
    quantised: dict[str, Sequence[Any]] = {}
    if is_quantised(operand):
        quantised = {"a_scale": codes.A_SCALES, "b_scale": codes.B_SCALES, "amax": (False, True)}
    if operand == "int8":
        quantised |= {"a_zero": codes.A_ZEROS, "b_zero": codes.B_ZEROS}
    form = format_of(operand)
    if form is not None:
        quantised = packing_fields(form)
    types = d_types(operand)
    return {
        "d": (*types, *(f"{d}/out_scale" for d in types if d in CODES)),
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
        **quantised,
    }


def single_options(operand: str, gates: Iterable[str | None] = (None,)) -> list[Options]:
    """Each term of the epilogue alone, the activations with each kind of aux, the gates with their biases."""
    chosen = []
    wide = operand == "float64"
    several, operand = operand, d_types(operand)[0]
    for gate in gates:
        plain = Options(operand, gate=gate, alpha=1.0 if gate is None else GATE_ALPHAS[0])
        if is_quantised(several):
            chosen += _single_codings(several, plain)
        form = format_of(several)
        if form is not None:
            chosen += [replace(plain, weights=packing) for packing in single_packings(form)]
        chosen += [plain, replace(plain, bias=operand), replace(plain, residual=operand)]
        chosen += [p for d in d_types(several)[1:] if (p := replace(plain, d=d)).legal]
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


def _single_codings(operand: str, plain: Options) -> list[Options]:
    """Each scale and each zero alone, all kinds of scales together, and what a D of few bits has."""
    scales = [of for of in codes.B_SCALES if of is not None]
    chosen = [replace(plain, b_scale=of) for of in scales] + [replace(plain, amax=True)]
    for a in codes.A_SCALES[1:]:
        chosen += [replace(plain, a_scale=a), *(replace(plain, a_scale=a, b_scale=b) for b in scales)]
    chosen += [
        replace(plain, d=d, a_scale="row", b_scale="column", out_scale=True, amax=True)
        for d in d_types(operand)
        if d in CODES
    ]
    if operand == "int8" and plain.gate is None:
        zeros = [(a, b) for a in codes.A_ZEROS for b in codes.B_ZEROS]
        chosen += [replace(plain, d=d, a_zero=a, b_zero=b) for a, b in zeros for d in (plain.d, "int32")]
    return chosen


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
    def target(self) -> torch.Tensor:
        """What run() takes."""
        return self.view

    @property
    def parts(self) -> list[Memory]:
        return [self]

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


class Outputs:
    """D as several matrices, each in a poisoned allocation of its own."""

    def __init__(self, parts: list[Memory]) -> None:
        self.parts = parts

    @property
    def view(self) -> torch.Tensor:
        """A copy of them side by side."""
        return torch.cat([part.view for part in self.parts], dim=-1)

    @property
    def target(self) -> list[torch.Tensor]:
        return [part.view for part in self.parts]

    def stray_write(self) -> str | None:
        return next((what for part in self.parts if (what := part.stray_write()) is not None), None)

    def touched(self) -> bool:
        return any(part.touched() for part in self.parts)


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


def fill(view: torch.Tensor, integers: bool, source: torch.Generator) -> None:
    """With random values, of the whole range of codes where it holds codes."""
    if view.dtype in CODES.values():
        view.copy_(random_codes(view.shape, view.dtype, integers, source))
    else:
        view.copy_(random_values(view.shape, integers, source))


def halves(o: Options) -> int:
    """Columns of B to one of D."""
    return 2 if o.gate == "interleaved" else 1


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
        self.types = types_of(operand)
        of_a, of_b = (TYPES[t] for t in self.types)
        self.alignment = max(alignment, of_a.itemsize)
        self.a = self._matrix("a", shape.m, shape.k, layout[0] == "r", of_a)
        self.format = format_of(operand)
        self._weights: dict[tuple[str, Packing], Weights] = {}
        if self.format is None:
            self.b = self._matrix("b", shape.k, shape.n, layout[1] == "r", of_b)
        else:
            self.b = self.weights("b", Packing()).data  # as it is packed where nothing is asked for
        self._products: dict[Any, tuple[Product, Product | None]] = {}
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
            fill(view, s.integers, self.source)
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
        s, kind = self.shape, TYPES[dtype]
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
            return self._matrix("both", s.k, 2 * s.n, b_row_major, kind, interleave(self.b, self.other))
        return self._matrix(name, s.m, s.n, self.layout[2] == "r", kind)

    @property
    def other(self) -> torch.Tensor:
        """The second factor of a gate."""
        other = self.extra("b2", self.types[1])
        assert other is not None
        return other

    def packing(self, o: Options) -> cutplan.WeightPacking | None:
        """What a descriptor says of packed weights."""
        s = self.shape
        return None if self.format is None else o.weights.within(s.k).of(self.format, halves(o) * s.n)

    def weights(self, name: str, packing: Packing) -> Weights:
        """Packed weights, made when first asked for: b, b2, and both of an interleaved gate."""
        s = self.shape
        packing = packing.within(s.k)
        key = (name, packing)
        if key not in self._weights:
            assert self.format is not None
            n = 2 * s.n if name == "both" else s.n
            self._weights[key] = random_weights(self.format, packing, s.k, n, s.integers, self.source)
        return self._weights[key]

    def coding(self, name: str, of: str | None) -> torch.Tensor | None:
        """a_scale, b_scale, b2_scale; b_scale of both, which an interleaved gate has; a_zero and b_zero.
        Of each matrix of a batch, or of all of them, without that dimension or with a stride of 0 there."""
        if of is None:
            return None
        if (name, of) not in self._extras:
            self._extras[name, of] = self._coding(name, of)
        return self._extras[name, of]

    def _coding(self, name: str, of: str) -> torch.Tensor:
        s, of_a = self.shape, name[0] == "a"
        chance = random.Random(f"{s}{name}{of}{self.source.initial_seed()}")
        shared = chance.choice(("left out", "stride 0", "no"))
        if name == "b_scale of both" and of in ("column", "group"):
            x, y = self.coding("b_scale", of), self.coding("b2_scale", of)
            assert x is not None and y is not None
            return codes.scattered(interleave(*torch.broadcast_tensors(x, y)), self.source)
        columns = 2 * s.n if name == "b_scale of both" else s.n
        shape: tuple[int, ...] = codes.coding_shape(of, of_a, s.m if of_a else columns, s.k)
        batched = s.batch is not None and of != "tensor"
        if batched and shared != "left out":
            assert s.batch is not None
            shape = (1 if shared == "stride 0" else s.batch, *shape)
        values = codes.random_coding(name, shape, TYPES[self.types[not of_a]], s.integers, self.source)
        view = codes.scattered(values, self.source)
        if batched and shared == "stride 0":
            return view.expand(s.batch, *view.shape[1:])
        return view.view(1) if of == "tensor" and chance.random() < 0.5 else view

    def _meaning(self, name: str, o: Options) -> torch.Tensor:
        """What a, b or b2 stands for."""
        of_a = name == "a"
        if self.format is not None and not of_a:
            if o.gate == "interleaved":
                return self.weights("both", o.weights).meaning[:, int(name == "b2") :: 2]
            return self.weights(name, o.weights).meaning
        x = self.a if of_a else self.b if name == "b" else self.other
        if not is_quantised(self.operand):
            return x
        side = name[0]
        of, of_zero = o.codings[f"{side}_scale"], o.codings[f"{side}_zero"]
        of_both = o.gate == "interleaved" and not of_a and of in ("tensor", "block")
        return codes.meaning(
            x,
            self.coding("b_scale of both" if of_both else f"{name}_scale", of),
            of,
            self.coding(f"{name}_zero", of_zero),
            of_zero,
            of_a=of_a,
            lines_of_block=codes.GROUP // (2 if of_both else 1),
        )

    def products(self, o: Options) -> tuple[Product, Product | None]:
        """A B, and a gate's second one."""
        key: Any = (o.gate is not None,)
        if is_quantised(self.operand):
            key = (o.gate, *o.codings.values())
        if self.format is not None:
            key = (o.gate, o.weights)
        if key not in self._products:
            a = self._meaning("a", o)
            second = None if o.gate is None else Product.of(a, self._meaning("b2", o))
            self._products[key] = (Product.of(a, self._meaning("b", o)), second)
        return self._products[key]

    def refill(self) -> None:
        """Other random values in every operand that has been made, where it is; but for out_scale."""
        s = self.shape
        for x in (self.a,) if self.format is not None else (self.a, self.b):
            fill(_stored(x), s.integers, self.source)
        for (name, _), x in self._extras.items():
            x = _stored(x)
            if name.endswith(("_zero", "_scale", "_scale of both")) and name[0] in "ab":
                dtype = TYPES[self.types[name[0] == "b"]]
                x.copy_(codes.random_coding(name, x.shape, dtype, s.integers, self.source))
            elif name != "out_scale":
                fill(x, s.integers, self.source)
        for (name, packing), (data, _) in self._weights.items():
            assert self.format is not None
            n = 2 * s.n if name == "both" else s.n
            made = random_weights(self.format, packing, s.k, n, s.integers, self.source)
            data.copy_(made.data)
            self._weights[name, packing] = Weights(data, made.meaning)
        self._products.clear()

    @property
    def product(self) -> Product:
        """Without scales."""
        return self.products(Options(self.operand))[0]

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
        found = self._before_out_scale(o)
        return found if not o.out_scale else found.divided_by(self.out_scale(o))

    def _before_out_scale(self, o: Options) -> Reference:
        product, product2 = self.products(o)
        return reference(
            product,
            **self._terms(o),
            residual=self.extra("residual", o.residual),
            aux=self.extra("gradient", o.gradient),
            product2=product2,
            bias2=self.extra("bias2", o.bias) if o.gate is not None else None,
            activation=o.activation,
        )

    def expected_aux(self, o: Options) -> Reference:
        return before_activation(self.products(o)[0], **self._terms(o))

    def out_scale(self, o: Options) -> torch.Tensor:
        """With which some of D saturates, or none does."""
        key = ("out_scale", str(o))
        if key not in self._extras:
            greatest = codes.greatest(self._before_out_scale(o).exact)
            self._extras[key] = codes.out_scale(greatest, TYPES[o.d], self.shape.integers, self.source)
        return self._extras[key]

    def descriptor(self, o: Options) -> cutplan.GemmDescriptor:
        s = self.shape
        return cutplan.GemmDescriptor(
            m=s.m,
            n=s.n,
            k=s.k,
            batch=1 if s.batch is None else s.batch,
            a=self.types[0],
            b=self.types[1],
            d=o.d,
            c=o.c,
            **o.codings,
            weights=self.packing(o),
            bias=o.bias,
            residual=o.residual,
            aux=o.store or o.gradient,
            layout=self.layout,
            epilogue=o.epilogue,
            alignment=self.alignment,
            out_columns=self.out_columns(o),
            **{f"d{i + 2}": d for i, d in enumerate(self._further(o))},
        )

    def out_columns(self, o: Options) -> tuple[int, ...]:
        """Of each output; (): D is one."""
        n, chance = self.shape.n, random.Random(f"{self.shape}{o.outputs}{o.cut}")
        places = range(o.cut, n, o.cut)
        if o.outputs == 1 or n == 0:
            return ()
        cuts = sorted(chance.sample(places, min(o.outputs - 1, len(places))))
        return tuple(end - begin for begin, end in itertools.pairwise([0, *cuts, n]))

    def _further(self, o: Options) -> list[str]:
        """Types of the outputs after the first: D's, and others of as many bits."""
        alike = [d for d in d_types(self.operand) if TYPES[d].itemsize == TYPES[o.d].itemsize]
        alike = [d for d in alike if (d == "int32") == (o.d == "int32")]
        first = alike.index(o.d)
        return [alike[(first + i) % len(alike)] for i in range(len(self.out_columns(o)))][1:]

    def select(self, o: Options, **preference: Any) -> cutplan.GemmPlan:
        return cutplan.GemmPlan.select(self.descriptor(o), self.device, cutplan.PlanPreference(**preference))

    def outputs(self, o: Options) -> Memory | Outputs:
        """For D, or all that it is cut into."""
        columns, types = self.out_columns(o), [o.d, *self._further(o)]
        if not columns:
            return self.output(o)
        return Outputs([self.output(o, d, n) for d, n in zip(types, columns, strict=True)])

    def output(self, o: Options, dtype: str | None = None, columns: int | None = None) -> Memory:
        """For D, or an aux of another type."""
        s = self.shape
        return Memory(
            s.batch,
            s.m,
            s.n if columns is None else columns,
            TYPES[dtype or o.d],
            self.device,
            row_major=self.layout[2] == "r",
            pad=s.d_pad,
            offset=s.d_offset,
        )

    def amax(self) -> Memory:
        """For the greatest of D."""
        return Memory(None, 1, 1, torch.float32, self.device)

    def operands(self, o: Options) -> dict[str, Any]:
        """The keywords of run(), but for outputs."""
        named: dict[str, Any] = {
            **self._terms(o),
            "residual": self.extra("residual", o.residual),
            "aux": self.extra("gradient", o.gradient),
            **{name: self.coding(name, of) for name, of in o.codings.items()},
            "out_scale": self.out_scale(o) if o.out_scale else None,
        }
        if named["c"] is not None and o.beta == 0:
            # beta = 0 promises that C is not read
            named["c"] = named["c"].new_full((), torch.nan).expand_as(named["c"])
        if o.gate == "separate":
            other = self.other if self.format is None else self.weights("b2", o.weights).data
            named |= {"b2": other, "bias2": self.extra("bias2", o.bias)}
            named["b2_scale"] = self.coding("b2_scale", o.b_scale)
        elif o.gate == "interleaved":
            named["bias"] = self.extra("bias of both", o.bias)
            named["b_scale"] = self.coding("b_scale of both", o.b_scale)
        return named

    def factor(self, o: Options) -> torch.Tensor:
        """What run() takes as b."""
        if self.format is not None:
            return self.weights("both" if o.gate == "interleaved" else "b", o.weights).data
        if o.gate != "interleaved":
            return self.b
        both = self.extra("both", self.types[1])
        assert both is not None
        return both

    def enqueue(
        self,
        plan: cutplan.GemmPlan,
        o: Options,
        d: torch.Tensor | list[torch.Tensor],
        aux: torch.Tensor | None = None,
        amax: torch.Tensor | None = None,
        **how: Any,
    ) -> None:
        """`aux` takes the value before the activation, `amax` the greatest, where they are asked for."""
        if isinstance(d, list):
            how |= {f"d{i + 2}": further for i, further in enumerate(d[1:])}
            d = d[0]
        if plan.workspace_size and "workspace" not in how:
            how["workspace"] = poisoned_workspace(plan, self.device)
        named = self.operands(o)
        if o.store is not None:
            named["aux"] = self.output(o, o.store).view if aux is None else aux
        if o.amax:
            named["amax"] = self.amax().view[0] if amax is None else amax
        plan.run(self.a, self.factor(o), d, **named, **how)

    def run(self, plan: cutplan.GemmPlan, o: Options) -> torch.Tensor:
        """D alone, unchecked."""
        out = self.outputs(o)
        self.enqueue(plan, o, out.target)
        return out.view

    def complaint(self, plan: cutplan.GemmPlan, o: Options) -> str | None:
        """Runs the plan and says what is wrong; None: nothing is."""
        out = self.outputs(o)
        aux = None if o.store is None else self.output(o, o.store)
        amax = self.amax() if o.amax else None
        self.enqueue(
            plan, o, out.target, None if aux is None else aux.view, None if amax is None else amax.view[0]
        )
        what = self.wrong(plan, o, out, aux, amax)
        return None if what is None else f"{plan.sku.name} {self.layout} {self.shape} {o}: {what}"

    def wrong(
        self,
        plan: cutplan.GemmPlan,
        o: Options,
        out: Memory | Outputs,
        aux: Memory | None = None,
        amax: Memory | None = None,
    ) -> str | None:
        """What is wrong with the results of a run; None: nothing is."""
        expected = self.expected(o)
        guarantee = plan.precision_guarantee
        what, last = out.stray_write(), 0
        one_type = o.store is None and len({part.view.dtype for part in out.parts}) == 1
        for part in out.parts:
            of_d = guarantee if one_type else OutputBound.of(guarantee, part.view.dtype, self.shape.k)
            first, last = last, last + part.view.shape[-1]
            own = expected if isinstance(out, Memory) else expected.columns(first, last)
            what = what or complaint(part.view, own, of_d)
            if what is None and self.shape.integers and o.activation in ("none", "relu"):
                what = self._inexact(part, own)
        if what is None and aux is not None and o.store is not None:
            of_x = self.expected_aux(o)
            bound = OutputBound.of(guarantee, TYPES[o.store], self.shape.k).before_activation
            what = aux.stray_write() or complaint(aux.view, of_x, bound, "aux")
            if what is None and self.shape.integers:
                what = self._inexact(aux, of_x)
        if what is None and amax is not None:
            bound = OutputBound.of(guarantee, torch.float32, self.shape.k)
            what = amax.stray_write() or amax_complaint(amax.view, self._before_out_scale(o), bound)
        return what

    @staticmethod
    def _inexact(out: Memory, expected: Reference) -> str | None:
        """Integers below 2^24 have one right answer in every accumulator."""
        exact = expected.magnitude.numel() == 0 or float(expected.magnitude.max()) < 2**24
        return inexact(out.view, expected) if exact else None


def _stored(x: torch.Tensor) -> torch.Tensor:
    """Of a batch that one matrix, or vector, serves for that alone."""
    return x[0] if x.dim() >= 2 and x.stride(0) == 0 and x.shape[0] > 0 else x


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
