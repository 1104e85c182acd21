"""Property tests: extents, groups, strides and options that nobody thought of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cutplan
from tests.weights.problems import (
    BITS,
    DEVICES,
    FLOATS,
    FORMATS,
    ZEROS,
    codes,
    dequantised,
    dtype_of,
    groups_of,
    packed_bytes,
    scales,
)  # fmt: skip
from tests.weights.test_layout import apart, check_unpacked, elements, run

extents = st.one_of(st.integers(0, 20), st.integers(21, 300), st.sampled_from([64, 128, 256]))


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    format=st.sampled_from(FORMATS),
    k=extents,
    n=extents,
    group_size=st.sampled_from([32, 64, 128, 0, 1000]),
    kind=st.sampled_from(["uint8", "int8", "int32", "int64"]),
    along=st.sampled_from(["none", "k", "n"]),
    order=st.sampled_from(["linear", "high_first", "awq"]),
    signed=st.booleans(),
    scale_type=st.sampled_from(FLOATS),
    zero_kind=st.sampled_from([None, "own", "int8", "int32", "packed"]),
    bias=st.integers(-200, 200),
    permuted=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_any_problem(
    device: str,
    format: str,
    k: int,
    n: int,
    group_size: int,
    kind: str,
    along: str,
    order: str,
    signed: bool,
    scale_type: str,
    zero_kind: str | None,
    bias: int,
    permuted: bool,
    seed: int,
) -> None:
    chance = np.random.default_rng(seed)
    bits = BITS[format]
    per = np.dtype(kind).itemsize * 8 // bits
    if kind == "int64" or per < 2:
        along = "none"
    if along == "none" or (order == "awq" and per != 8):
        order = "linear"
    signed = signed and format in ("int4", "int8")
    if format not in ZEROS or (
        zero_kind == "packed" and (order == "high_first" or (order == "awq" and bits == 8))
    ):
        zero_kind = None
    if along == "k":
        k -= k % per
    if along == "n":
        n -= n % per
    if zero_kind == "packed":
        n -= n % (32 // bits)
    size = group_size if group_size in (32, 64, 128) else 0
    groups = groups_of(k, size)
    permuted = permuted and groups > 1

    u = codes(chance, format, k, n)
    w = elements(u ^ (1 << (bits - 1)) if signed else u, kind, bits, along, order) if u.size else (
        np.zeros((k // (per if along == "k" else 1), n // (per if along == "n" else 1)), kind)
    )  # fmt: skip
    scale, zero, stored, zero_type = scales(chance, groups, n, scale_type), None, None, None
    if zero_kind == "own":
        zero, zero_type, bias = scales(chance, groups, n, scale_type), scale_type, 0
        stored = zero
    elif zero_kind in ("int8", "int32"):
        stored, zero_type = chance.integers(-128, 128, (groups, n)).astype(zero_kind), zero_kind
        zero = (stored.astype(np.int64) + bias).astype(np.float32).astype(dtype_of(scale_type))
    elif zero_kind == "packed":
        z = chance.integers(0, 1 << bits, (groups, n), dtype=np.uint8)
        stored = (
            elements(z, "int32", bits, "n", order)
            if z.size
            else np.zeros((groups, n // (32 // bits)), np.int32)
        )
        zero_type = "int32"
        zero = (z.astype(np.int64) + bias).astype(np.float32).astype(dtype_of(scale_type))
    rows = chance.permutation(k).astype(np.int32) if permuted else None
    descriptor = cutplan.PackWeightsDescriptor(
        n=n, k=k, format=format, group_size=group_size, w=kind, scale=scale_type, zero=zero_type,  # type: ignore[arg-type]
        packed_along=along, order=order, signed_codes=signed, zero_packed=zero_kind == "packed",  # type: ignore[arg-type]
        zero_bias=0 if zero is None else bias, permutation=permuted,
    )  # fmt: skip
    got = run(device, descriptor, apart(w, chance), apart(scale, chance),
              None if stored is None else apart(stored, chance), rows)  # fmt: skip
    kept = u if rows is None else u[rows]
    assert got.tobytes() == packed_bytes(kept, format, scale, zero, rows, size), descriptor
    header = cutplan.read_packed_weights(got[:256].tobytes(), got.size)
    check_unpacked(device, header, got, dequantised(kept, format, scale, zero, size), rows, chance)
