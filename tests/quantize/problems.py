"""Quantisation in float64: what data and scales have to be, of any granularity."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

import cutplan
from tests.attention_ops.problems import DEVICES, Home, generator
from tests.gemm.problems import TORCH

__all__ = ["DEVICES", "FLOATS", "KINDS", "SHAPES", "TORCH", "Case", "cases", "generator", "values"]

FLOATS = ["float16", "bfloat16", "float32"]
KINDS = [  # type of data, symmetric
    ("int8", True), ("int8", False), ("int4", True), ("int4", False),
    ("float8_e4m3fn", True), ("float8_e5m2", True),
]  # fmt: skip
GRANULARITIES: list[tuple[str, int, int]] = [  # granularity, group_size, axis
    ("tensor", 0, -1), ("row", 0, -1), ("column", 0, -1), ("group", 32, -1), ("group", 128, -1),
    ("group", 10, -1), ("group", 16, -2), ("group", 7, -2), ("block", 0, -1), ("block", 32, -1),
    ("block", 6, -1),
]  # fmt: skip
SHAPES = [(1, 1, 2), (2, 3, 64), (1, 33, 130), (3, 7, 1000), (1, 300, 48), (1, 129, 256), (2, 2, 5002)]

_LARGEST = {"int8": 127.0, "int4": 7.0, "float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}
_BOUNDS = {
    ("int8", True): (-127, 127), ("int8", False): (-128, 127), ("int4", True): (-7, 7),
    ("int4", False): (0, 15),
}  # fmt: skip
_FLOAT_MAX = torch.finfo(torch.float32).max


def values(shape: tuple[int, ...], dtype: torch.dtype, source: torch.Generator) -> torch.Tensor:
    """Of magnitudes that differ from row to row and from column to column, around a mean that is not 0."""
    device = source.device

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=source, device=device, dtype=torch.float64)

    spread = torch.exp2(2 * normal(*shape[:-1], 1) + normal(*shape[:-2], 1, shape[-1]))
    return ((normal(*shape) + 0.5) * spread).to(dtype)


@dataclass(frozen=True)
class Case:
    """One problem, its operands amid poison; all that is computed here is float64 on the host."""

    descriptor: cutplan.QuantizeDescriptor
    device: str
    x: Home
    data: Home
    scale: Home
    zero: Home | None
    amax: Home | None

    @property
    def name(self) -> str:
        return f"{self.descriptor} {self.x.view.stride()}"

    def run(self) -> cutplan.QuantizePlan:
        plan = cutplan.QuantizePlan.select(self.descriptor, self.device)
        scratch = torch.full((plan.workspace_size,), 0xA5, dtype=torch.uint8, device=self.device)
        plan.run(
            self.x.view, self.data.view, self.scale.view, zero=self.zero and self.zero.view,
            amax=self.amax and self.amax.view, workspace=scratch,
        )  # fmt: skip
        return plan

    def rest_is_poison(self) -> bool:
        homes = (self.x, self.data, self.scale, self.zero, self.amax)
        return all(home is None or home.rest_is_poison() for home in homes)

    # ---- the oracle ----

    @property
    def exact_x(self) -> torch.Tensor:
        return self.x.view.cpu().double()

    def groups(self) -> tuple[int, int]:
        """Rows and columns that share a scale."""
        g = self.descriptor
        size = g.group_size or 128
        return {
            "tensor": (g.rows, g.columns),
            "row": (1, g.columns),
            "column": (g.rows, 1),
            "group": (1, size) if g.axis == -1 else (size, 1),
            "block": (size, size),
        }[g.granularity]

    def spread(self, of_scales: torch.Tensor) -> torch.Tensor:
        """What each element of x has, of what each scale has."""
        g = self.descriptor
        of_scales = of_scales.cpu()
        if g.granularity == "tensor":
            return of_scales.reshape(1, 1, 1).expand(g.batch, g.rows, g.columns)
        if g.granularity == "row":
            of_scales = of_scales[:, :, None]
        elif g.granularity == "column":
            of_scales = of_scales[:, None, :]
        rows, columns = self.groups()
        down = torch.arange(g.rows) // max(rows, 1)
        across = torch.arange(g.columns) // max(columns, 1)
        return of_scales[:, down][:, :, across]

    def greatest(self, x: torch.Tensor) -> torch.Tensor:
        """The greatest of each scale's elements and 0, NaN left out; of scale's shape."""
        g = self.descriptor
        rows, columns = self.groups()
        x = torch.where(x.isnan(), 0.0, x)
        if g.granularity == "tensor":
            return torch.cat([x.flatten(), x.new_zeros(1)]).max().reshape(1)
        down, across = -(-g.rows // max(rows, 1)), -(-g.columns // max(columns, 1))
        if g.granularity == "column":
            down, rows = 1, max(rows, 1)
        if g.granularity == "row":
            across, columns = 1, max(columns, 1)
        padded = x.new_zeros(g.batch, down * rows, across * columns)
        padded[:, : g.rows, : g.columns] = x
        blocks = padded.reshape(g.batch, down, rows, across, columns)
        most = blocks.amax((2, 4)).clamp(min=0.0)
        return (
            most.squeeze(2 if g.granularity == "row" else 1) if g.granularity in ("row", "column") else most
        )

    def expected_scale(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """scale, zero and amax, of float32 arithmetic."""
        g = self.descriptor
        above, below = self.greatest(self.exact_x).float(), self.greatest(-self.exact_x).float()
        amax = torch.maximum(above, below)
        most_above, most_below = above.clamp(max=_FLOAT_MAX), below.clamp(max=_FLOAT_MAX)
        if g.symmetric:
            scale = torch.maximum(most_above, most_below) / _LARGEST[str(g.dtype)]
        else:
            first, last = _BOUNDS[str(g.dtype), False]
            steps = float(last - first)
            scale = most_above / steps + most_below / steps
        scale = torch.where(amax > 0, scale.clamp(min=2.0**-126), 1.0)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        if not g.symmetric:
            offset = torch.round(most_below.double() * (1 / scale).double())
            zero = (offset + first).clamp(max=last).int()
        return scale, zero, amax

    def decoded(self) -> torch.Tensor:
        """Data as float64, zero not taken away."""
        g, data = self.descriptor, self.data.view.cpu()
        if str(g.dtype) != "int4":
            return data.double()
        nibbles = torch.stack([data & 15, data >> 4], -1).flatten(-2).double()
        return torch.where((nibbles > 7) & g.symmetric, nibbles - 16, nibbles)

    def expected_data(self, x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
        """As float64, of x times what 1 / scale is in float32."""
        return self.rounded(x * self.spread(1 / scale).double(), zero, exact=False)

    def rounded(self, quotient: torch.Tensor, zero: torch.Tensor, exact: bool = True) -> torch.Tensor:
        """To data's type. Not exact: of fp8 the quotient is first rounded to float32, as kernels do."""
        g = self.descriptor
        if str(g.dtype).startswith("float8"):
            largest = _LARGEST[str(g.dtype)]
            near = quotient if exact else quotient.float().double()
            return _to_fp8(near.clamp(-largest, largest), str(g.dtype))
        first, last = _BOUNDS[str(g.dtype), g.symmetric]
        whole = torch.round(torch.where(quotient.isnan(), 0.0, quotient))
        return (whole + self.spread(zero.clamp(first, last)).double()).clamp(first, last)


def _to_fp8(x: torch.Tensor, name: str) -> torch.Tensor:
    """Rounded to nearest even, in float64: within the type's range."""
    mantissa, least = (3, -6) if name == "float8_e4m3fn" else (2, -14)
    exponent = torch.frexp(x)[1].clamp(min=least + 1) - 1
    step = torch.exp2((exponent - mantissa).double())
    return torch.round(x / step) * step


def cases(
    device: str,
    operand: str,
    kind: tuple[str, bool],
    chance: random.Random | None,
    source: torch.Generator,
    *,
    shapes: list[tuple[int, int, int]] = SHAPES,
    granularities: list[tuple[str, int, int]] = GRANULARITIES,
    amax: bool = False,
    static: bool = False,
) -> Iterator[Case]:
    """Of every granularity and shape; x has values, given scales are near those that fit."""
    dtype, symmetric = kind
    for shape in shapes:
        for granularity, group_size, axis in granularities:
            batch, rows, columns = shape
            packed = dtype == "int4"
            if packed and group_size % 2 and axis == -1:
                continue
            descriptor = cutplan.QuantizeDescriptor(
                batch=batch, rows=rows, columns=columns, x=operand, dtype=dtype, granularity=granularity,
                group_size=group_size, axis=axis, symmetric=symmetric, static_scale=static, amax=amax,
            )  # fmt: skip
            x = Home(shape, TORCH[operand], device, chance)
            x.set(values(shape, TORCH[operand], source))
            code = torch.uint8 if packed else getattr(torch, dtype)
            data = Home((batch, rows, columns // 2 if packed else columns), code, device, chance)
            case = Case(descriptor, device, x, data, None, None, None)  # type: ignore[arg-type]
            sized = tuple(case.greatest(case.exact_x).shape)

            def of_scales(kind: torch.dtype, sized: Any = sized) -> Home:
                return Home(sized, kind, device, chance, free_rows=True)

            scale, zero = of_scales(torch.float32), None if symmetric else of_scales(torch.int32)
            if static:
                fitting, offset, _ = case.expected_scale()
                factor = torch.rand(sized, generator=source, device=device) + 0.5
                scale.set(fitting.to(device) * factor)
                if zero is not None:
                    zero.set(offset.to(device))
            yield Case(descriptor, device, x, data, scale, zero, of_scales(torch.float32) if amax else None)
