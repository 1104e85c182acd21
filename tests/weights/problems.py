"""Packed weights in NumPy: the layout written down once more, and what codes, scales and zero "
"points stand for."""

from __future__ import annotations

import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import cutplan
from tests.environment import HAS_TORCH

if HAS_TORCH:
    import torch

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
FORMATS = ["int4", "uint4", "int8", "e4m3", "nf4", "e2m1"]
ZEROS = ["int4", "uint4", "int8"]  # that have zero points
BITS = {"int4": 4, "uint4": 4, "int8": 8, "e4m3": 8, "nf4": 4, "e2m1": 4}
FLOATS = ["float16", "bfloat16", "float32"]
SHAPES = [(1, 1), (64, 64), (128, 192), (100, 130), (33, 7), (257, 65), (320, 1)]  # k, n
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
_E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]

Array = np.ndarray[Any, Any]


def dtype_of(name: str) -> Any:
    return np.dtype(getattr(ml_dtypes, name, name))


def table(format: str) -> Array:
    """What each code stands for."""
    return {
        "int4": np.arange(16) - 8.0,
        "uint4": np.arange(16) * 1.0,
        "int8": np.arange(256) - 128.0,
        "e4m3": np.arange(256).astype(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64),
        "nf4": np.array(NF4),
        "e2m1": np.array([*_E2M1, *(-x for x in _E2M1)]),
    }[format].astype(np.float32)


def groups_of(k: int, group_size: int) -> int:
    return -(-k // group_size) if group_size > 0 else min(k, 1)


def codes(chance: np.random.Generator, format: str, k: int, n: int) -> Array:
    return chance.integers(0, 1 << BITS[format], (k, n), dtype=np.uint8)


def scales(chance: np.random.Generator, groups: int, n: int, dtype: str) -> Array:
    return (chance.standard_normal((groups, n)) * np.exp2(chance.integers(-6, 3, (groups, n)))).astype(
        dtype_of(dtype)
    )


def dequantised(
    codes: Array, format: str, scale: Array, zero: Array | None, group_size: int, out: str = "float32"
) -> Array:
    """(decode(u) - zero) * scale: float32 arithmetic, each step of it rounded."""
    k = codes.shape[0]
    group = np.arange(k) // (group_size if group_size > 0 else max(k, 1))
    value = table(format)[codes]
    if zero is not None:
        value = value - zero.astype(np.float32)[group]
    with np.errstate(over="ignore", invalid="ignore"):
        return (value * scale.astype(np.float32)[group]).astype(dtype_of(out))


def same(got: Array, expected: Array) -> bool:
    """Bit for bit, but that any NaN is as good as another."""
    return (
        got.dtype == expected.dtype
        and got.shape == expected.shape
        and bool(np.array_equal(got.astype(np.float64), expected.astype(np.float64), equal_nan=True))
    )


# ---- the layout ----


def _words(digits: Array, bits: int) -> Array:
    """Of the last dimension's digits, the first lowest."""
    shifts = np.arange(digits.shape[-1], dtype=np.uint64) * np.uint64(bits)
    return (digits.astype(np.uint64) << shifts).sum(-1).astype(np.uint32)


def bricks(codes: Array, bits: int) -> bytes:
    """Codes [k, n] as bricks, by splitting n and k into what they index."""
    k, n = codes.shape
    padded = np.zeros((-(-n // 64) * 64, -(-k // 64) * 64), np.uint8)
    padded[:n, :k] = codes.T
    # n: brick, piece, upper or lower eight, row of them; k: brick, k32, k16, upper or lower eight, pair, half
    x = padded.reshape(padded.shape[0] // 64, 4, 2, 8, padded.shape[1] // 64, 2, 2, 2, 4, 2)
    brick_n, piece, n8, row, brick_k, k32, k16, k8, pair, half = range(10)
    if bits == 4:
        x = x.transpose(brick_n, brick_k, piece, row, pair, k32, k16, half, k8, n8)
        return _words(x.reshape(-1, 8), 4).tobytes()
    x = x[:, :, ::-1].transpose(brick_n, brick_k, piece, k32, row, pair, k16, k8, half, n8)
    return _words(x.reshape(-1, 4), 8).tobytes()


def _padded(x: bytes) -> bytes:
    return x + bytes(-len(x) % 256)


def packed_bytes(
    codes: Array, format: str, scale: Array, zero: Array | None, permutation: Array | None, group_size: int
) -> bytes:
    """All of a packed tensor. Row j of `codes` is what is stored as row j."""
    k, n = codes.shape
    if group_size not in (32, 64, 128):
        group_size = max(-(-k // 64) * 64, 64)

    def wide(x: Array) -> bytes:
        rows = np.zeros((x.shape[0], -(-n // 64) * 64), x.dtype)
        rows[:, :n] = x
        return rows.tobytes()

    parts = [_padded(bricks(codes, BITS[format])), _padded(wide(scale))]
    has = [True, True, zero is not None, permutation is not None]
    parts.append(b"" if zero is None else _padded(wide(zero.astype(scale.dtype))))
    order = b"" if permutation is None else permutation.astype("<i4").tobytes() + bytes(4 * (-k % 64))
    parts.append(_padded(order))
    offsets, at = [], 256
    for part, there in zip(parts, has, strict=True):
        offsets.append(at if there else 0)
        at += len(part)
    header = struct.pack(
        "<8sIIqqqIIIIqqqqq", b"CUTPLANW", 1, FORMATS.index(format), n, k, group_size,
        FLOATS.index(str(scale.dtype)), zero is not None, permutation is not None, 0, *offsets, at,
    )  # fmt: skip
    return _padded(header) + b"".join(parts)


# ---- tensors of a device ----


def to(device: str, x: Array | None) -> Any:
    """NumPy's own on the host, torch's on a GPU; strides stay."""
    if x is None or device == "cpu":
        return x
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16)).to(device).view(torch.bfloat16)
    if x.dtype == ml_dtypes.float8_e4m3fn:
        return torch.from_numpy(x.view(np.uint8)).to(device).view(torch.float8_e4m3fn)
    return torch.from_numpy(x).to(device)


def back(x: Any) -> Array:
    if isinstance(x, np.ndarray):
        return x
    if HAS_TORCH and isinstance(x, torch.Tensor):
        if x.dtype == torch.bfloat16:
            return x.cpu().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return x.cpu().numpy()
    return np.asarray(x)


def unpacked(packed: cutplan.PackedWeights, out: str = "float32") -> Array:
    return back(cutplan.unpack_weights(packed, out))


def poisoned(size: int) -> tuple[Array, Array]:
    """Memory of one byte everywhere, and `size` bytes within it."""
    memory = np.full(size + 128, 0x7B, np.uint8)
    return memory, memory[64 : 64 + size]
