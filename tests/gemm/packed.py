"""Packed weights as B: random codes, scales, zeros and orders of rows, and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

import cutplan
from tests.gemm.operands import Packing
from tests.weights.problems import ZEROS, groups_of, table

_FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# Scales with which random codes are numbers around 1.
_UNITS = {
    "int4": 2.0**-2,
    "uint4": 2.0**-3,
    "int8": 2.0**-6,
    "e4m3": 2.0**-7,
    "nf4": 1.0,
    "e2m1": 2.0**-1,
}


class Weights(NamedTuple):
    data: torch.Tensor
    meaning: torch.Tensor  # [k, n], float64


def packing_fields(form: str) -> dict[str, Sequence[Any]]:
    """Every value of every field, first that which goes with all formats."""
    return {
        "group_size": (128, 32, 64, 0),
        "scale": ("float32", "float16", "bfloat16"),
        "zero": (None, "integers", "fractions") if form in ZEROS else (None,),
        "permutation": (False, True),
    }


def single_packings(form: str) -> list[Packing]:
    """Each value but the first alone."""
    return [
        replace(Packing(), **{field: value})
        for field, values in packing_fields(form).items()
        for value in values[1:]
    ]


def random_weights(
    form: str, packing: Packing, k: int, n: int, integers: bool, source: torch.Generator
) -> Weights:
    """Any of the format's finite numbers; or integers whose sums are exact. Packed by the host, whatever
    device computes the products."""

    def draw(first: int, end: int, *shape: int) -> torch.Tensor:
        return torch.randint(first, end, shape, generator=source, device=source.device).cpu()

    def normal(*shape: int) -> torch.Tensor:
        drawn = torch.randn(shape, generator=source, device=source.device).cpu()
        return drawn * 2.0 ** draw(-2, 3, *shape)

    number_of = torch.from_numpy(table(form)).double()
    small = (number_of.abs() <= 3) & (number_of == number_of.round())
    allowed = (small if integers else number_of.isfinite()).nonzero().flatten()
    codes = allowed[draw(0, len(allowed), k, n)]
    groups = groups_of(k, packing.group_size)
    kind = _FLOATS[packing.scale]
    scale = (draw(-3, 4, groups, n) if integers else normal(groups, n) * _UNITS[form]).to(kind)
    zero = None
    if packing.zero is not None:
        low, high = (-3, 3) if integers else (int(number_of.min()), int(number_of.max()))
        zero = draw(low, high + 1, groups, n).to(kind)
        if packing.zero == "fractions" and not integers:
            zero = (zero + torch.rand(groups, n, generator=source, device=source.device).cpu()).to(kind)
    order = torch.arange(k, dtype=torch.int32)
    if packing.permutation:
        order = torch.randperm(k, generator=source, device=source.device).int().cpu()

    group = torch.arange(k) // (packing.group_size or max(k, 1))
    rows = order.long()  # row j in memory is row order[j] of the weight
    values = number_of[codes[rows]] - (0 if zero is None else zero.double()[group])
    meaning = torch.empty_like(values)
    meaning[rows] = values * scale.double()[group]

    descriptor = cutplan.PackWeightsDescriptor(
        n=n,
        k=k,
        format=form,  # type: ignore[arg-type]
        group_size=packing.group_size,
        w="uint8",
        scale=packing.scale,  # type: ignore[arg-type]
        zero=None if zero is None else packing.scale,  # type: ignore[arg-type]
        permutation=packing.permutation,
    )
    data = torch.empty(cutplan.packed_weights_size(descriptor), dtype=torch.uint8)
    cutplan.PackWeightsPlan.select(descriptor, "cpu").run(
        codes.byte(), scale, data, zero=zero, permutation=order if packing.permutation else None
    )
    return Weights(amid_poison(data[None].to(source.device))[0], meaning.to(source.device))


def amid_poison(rows: torch.Tensor) -> torch.Tensor:
    """The same, of which what is beside each row are bytes that no weight has: NaN, and NaN's codes."""
    guard = 256  # which keeps every row as aligned as the first
    memory = rows.new_full((guard + rows.shape[0] * (rows.shape[1] + guard),), 0x7F)
    view = memory[guard:].view(rows.shape[0], rows.shape[1] + guard)[:, : rows.shape[1]]
    view.copy_(rows)
    return view
