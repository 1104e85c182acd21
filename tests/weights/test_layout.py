"""Every byte of packed tensors against the layout as NumPy has it; strides, padding, orders of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cutplan
from tests.weights.problems import (
    BITS,
    DEVICES,
    FLOATS,
    FORMATS,
    SHAPES,
    ZEROS,
    Array,
    back,
    codes,
    dequantised,
    dtype_of,
    groups_of,
    packed_bytes,
    poisoned,
    same,
    scales,
    to,
)  # fmt: skip

SIZES = [32, 64, 128, 0]


def run(
    device: str,
    descriptor: cutplan.PackWeightsDescriptor,
    w: Array,
    scale: Array,
    zero: Array | None,
    permutation: Array | None,
) -> Array:
    """By the plan, into poisoned memory whose rest must stay as it is."""
    size = cutplan.packed_weights_size(descriptor)
    plan = cutplan.PackWeightsPlan.select(descriptor, device)
    assert plan.workspace_size == 0
    memory, within = poisoned(size)
    memory = to(device, memory)
    within = within if device == "cpu" else memory[64 : 64 + size]
    plan.run(
        to(device, w), to(device, scale), within, zero=to(device, zero), permutation=to(device, permutation)
    )
    rest = back(memory)
    assert (rest[:64] == 0x7B).all() and (rest[64 + size :] == 0x7B).all()
    return back(within)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("scale_type", FLOATS)
def test_every_byte(device: str, format: str, scale_type: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    for k, n in SHAPES:
        for size in SIZES:
            for has_zero in (False, True) if format in ZEROS else (False,):
                groups = groups_of(k, size)
                permuted = groups > 1 and bool(chance.integers(2))
                w, scale = codes(chance, format, k, n), scales(chance, groups, n, scale_type)
                zero = scales(chance, groups, n, scale_type) if has_zero else None
                order = chance.permutation(k).astype(np.int32) if permuted else None
                descriptor = cutplan.PackWeightsDescriptor(
                    n=n, k=k, format=format, group_size=size, w="uint8", scale=scale_type,  # type: ignore[arg-type]
                    zero=scale_type if has_zero else None, permutation=permuted,
                )  # fmt: skip
                got = run(device, descriptor, w, scale, zero, order)
                rows = w if order is None else w[order]
                assert got.tobytes() == packed_bytes(rows, format, scale, zero, order, size), descriptor
                header = cutplan.read_packed_weights(got[:256].tobytes(), got.size)
                assert (header.n, header.k, header.format) == (n, k, format)
                assert (str(header.scale), header.zero, header.permutation) == (
                    scale_type,
                    has_zero,
                    permuted,
                )
                assert (
                    header.group_size
                    == cutplan.PackWeightsPlan.select(descriptor, "cpu").descriptor.group_size
                )
                check_unpacked(
                    device, header, got, dequantised(rows, format, scale, zero, size), order, chance
                )


def check_unpacked(
    device: str,
    header: cutplan.UnpackWeightsDescriptor,
    packed: Array,
    expected: Array,
    order: Array | None,
    chance: np.random.Generator,
) -> None:
    """By the plan, to rows, columns, or elements further apart, of any float type."""
    k, n = expected.shape
    out_type = FLOATS[chance.integers(3)]
    step, turned = int(chance.integers(1, 3)), bool(chance.integers(2))
    memory = np.full((n + 1, k * step) if turned else (k + 1, n * step), 123, dtype_of(out_type))
    memory = to(device, memory)
    out = memory[:n, ::step].T if turned else memory[:k, ::step]
    fields = {
        f: getattr(header, f) for f in ("n", "k", "format", "group_size", "scale", "zero", "permutation")
    }
    descriptor = cutplan.UnpackWeightsDescriptor(**fields, out=out_type)
    cutplan.UnpackWeightsPlan.select(descriptor, device).run(to(device, packed), out)
    if order is not None:
        original = np.empty_like(expected)
        original[order] = expected
        expected = original
    with np.errstate(over="ignore"):
        assert same(back(out), expected.astype(dtype_of(out_type))), descriptor
    assert (back(memory)[-1].astype(np.float32) == 123).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("format", FORMATS)
def test_elements_that_hold_codes(device: str, format: str, seed: int) -> None:
    """Each type of w and of zero, each order of codes in them, along n and k, strided and turned."""
    chance = np.random.default_rng(seed)
    bits = BITS[format]
    k, n, size = 192, 72, 64
    for kind in ("int32", "uint8", "int8", "int64"):
        width = np.dtype(kind).itemsize * 8
        for along in ("none", "k", "n"):
            per = 1 if along == "none" else width // bits
            if along != "none" and (per < 2 or kind == "int64"):
                continue
            for order in ("linear", "high_first", "awq"):
                if order != "linear" and (along == "none" or (order == "awq" and per != 8)):
                    continue
                for signed in (False, True) if format in ("int4", "int8") else (False,):
                    u = codes(chance, format, k, n)
                    stored = u ^ (1 << (bits - 1)) if signed else u
                    w = elements(stored, kind, bits, along, order)
                    scale = scales(chance, groups_of(k, size), n, "float32")
                    zero, real = None, None
                    bias = int(chance.integers(-3, 3))
                    if format in ZEROS:
                        z = codes(chance, format, groups_of(k, size), n)
                        zero = elements(z, kind, bits, "n" if per > 1 else "none", order)
                        if per == 1 and kind == "int8":
                            z = z.view(np.int8)  # all of it counts, with its sign
                        real = (z.astype(np.int64) + bias).astype(np.float32)
                    descriptor = cutplan.PackWeightsDescriptor(
                        n=n, k=k, format=format, group_size=size, w=kind, scale="float32",  # type: ignore[arg-type]
                        zero=kind if zero is not None else None, packed_along=along, order=order,  # type: ignore[arg-type]
                        signed_codes=signed, zero_packed=zero is not None and per > 1,
                        zero_bias=bias if zero is not None else 0,
                    )  # fmt: skip
                    got = run(device, descriptor, apart(w, chance), apart(scale, chance),
                              zero if zero is None else apart(zero, chance), None)  # fmt: skip
                    assert got.tobytes() == packed_bytes(u, format, scale, real, None, size), descriptor


def elements(u: Array, kind: str, bits: int, along: str, order: str) -> Array:
    """Codes [k, n] put into elements of `kind`, by the words of each order."""
    width = np.dtype(kind).itemsize * 8
    if along == "none":
        return u.astype(kind)
    per = width // bits
    x = u.T if along == "k" else u
    x = x.reshape(x.shape[0], -1, per)
    places = {
        "linear": list(range(per)),
        "high_first": list(range(per))[::-1],
        "awq": [0, 2, 4, 6, 1, 3, 5, 7],
    }[order]
    words = np.zeros(x.shape[:2], np.uint64)
    for place, code in enumerate(places):  # from the lowest bits on: which code is there
        words |= x[:, :, code].astype(np.uint64) << np.uint64(bits * place)
    held: Any = words.astype(f"uint{width}").view(kind)
    return held.T if along == "k" else held


def apart(x: Array, chance: np.random.Generator) -> Array:
    """The same elements with gaps between them, in rows or in columns."""
    steps = chance.integers(1, 4, 2)
    if chance.integers(2):
        memory = np.full((x.shape[1] * steps[0], x.shape[0] * steps[1]), 77).astype(x.dtype).T
        view = memory[:: steps[1], :: steps[0]]
    else:
        memory = np.full((x.shape[0] * steps[0], x.shape[1] * steps[1]), 77).astype(x.dtype)
        view = memory[:: steps[0], :: steps[1]]
    view[...] = x
    return view


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("format", ["nf4", "e2m1"])
@pytest.mark.parametrize("kind", FLOATS)
def test_nearest_codes(device: str, format: str, kind: str, seed: int) -> None:
    """Floats become the nearest entry of the table times scale."""
    chance = np.random.default_rng(seed)
    k, n, size = 130, 70, 32
    values = (chance.standard_normal((k, n)) * 3).astype(dtype_of(kind))
    values[3, 4] = 0
    scale = np.abs(scales(chance, groups_of(k, size), n, "float32")) + np.float32(0.01)
    scale[1, 5] = 0
    order = chance.permutation(k).astype(np.int32)
    descriptor = cutplan.PackWeightsDescriptor(
        n=n, k=k, format=format, group_size=size, w=kind, scale="float32", permutation=True,  # type: ignore[arg-type]
    )  # fmt: skip
    got = run(device, descriptor, values, scale, None, order)
    of_rows = scale[np.arange(k) // size]
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = np.where(of_rows == 0, 0, values[order].astype(np.float32) / of_rows).astype(np.float64)
    entries = table_of(format)
    u = np.abs(quotient[..., None] - entries).argmin(-1).astype(np.uint8)
    u = np.where((entries[u] == 0) & (quotient < 0) & (format == "e2m1"), 8, u).astype(np.uint8)
    assert got.tobytes() == packed_bytes(u, format, scale, None, order, size)


def table_of(format: str) -> Array:
    from tests.weights.problems import table

    return table(format).astype(np.float64)


def test_ties_and_odd_floats() -> None:
    """Of e2m1 the even mantissa, of nf4 the lower entry; NaN is 0, infinity the greatest."""
    values = np.array(
        [[0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 100, np.inf, np.nan, -0.25, -5, -np.inf]], np.float32
    )
    scale = np.ones((1, values.shape[1]), np.float32)
    for format, expected in (
        ("e2m1", [0, 1, 1, 2, 2, 4, 4, 6, 6, 0, 0, -4, -6]),
        ("nf4", None),
    ):
        descriptor = cutplan.PackWeightsDescriptor(
            n=values.shape[1],
            k=1,
            format=format,
            w="float32",
            scale="float32",  # type: ignore[arg-type]
        )
        data = np.empty(cutplan.packed_weights_size(descriptor), np.uint8)
        cutplan.PackWeightsPlan.select(descriptor, "cpu").run(values, scale, data)
        got = cutplan.unpack_weights(cutplan.PackedWeights.from_tensor(data))
        if expected is not None:
            assert got.tolist() == [expected]
        else:
            assert got[0, 7] == got[0, 8] == 1 and got[0, 9] == 0 and got[0, 12] == -1


def test_numbers_that_are_no_rows() -> None:
    """They are not followed: packing makes codes of 0, unpacking leaves what is there."""
    k, n = 70, 5
    w, scale = np.full((k, n), 9, np.uint8), np.ones((3, n), np.float32)
    order = np.arange(k, dtype=np.int32)
    order[[1, 2, 69]] = [-1, k, 2**31 - 1]
    descriptor = cutplan.PackWeightsDescriptor(
        n=n, k=k, format="uint4", group_size=32, w="uint8", scale="float32", permutation=True
    )
    data = np.empty(cutplan.packed_weights_size(descriptor), np.uint8)
    cutplan.PackWeightsPlan.select(descriptor, "cpu").run(w, scale, data, permutation=order)
    out = np.full((k, n), -1, np.float32)
    header = cutplan.read_packed_weights(data[:256].tobytes(), data.size)
    cutplan.UnpackWeightsPlan.select(header, "cpu").run(data, out)
    assert (np.delete(out, [1, 2, 69], 0) == 9).all() and (out[[1, 2, 69]] == -1).all()
    rows = w.copy()
    rows[[1, 2, 69]] = 0
    assert data.tobytes() == packed_bytes(rows, "uint4", scale, None, order, 32)
