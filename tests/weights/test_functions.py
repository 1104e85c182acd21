"""pack_weights() of floats, codes and Quantized, unpack_weights(), and what a PackedWeights carries."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import cutplan
from tests.environment import HAS_TORCH
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
    same,
    scales,
    table,
    to,
    unpacked,
)  # fmt: skip


def values(chance: np.random.Generator, k: int, n: int, kind: str) -> Array:
    return (chance.standard_normal((k, n)) * np.exp2(chance.integers(-3, 3, (1, n)))).astype(dtype_of(kind))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("out", FLOATS)
def test_every_code(device: str, format: str, out: str, seed: int) -> None:
    """Each code there is, times scales of each type, to each type."""
    chance = np.random.default_rng(seed)
    count = 1 << BITS[format]
    k, n = 128, 2 * count
    u = np.tile(np.arange(n) % count, (k, 1)).astype(np.uint8)
    u = chance.permuted(u, axis=0)
    for kind in FLOATS:
        scale = scales(chance, 4, n, kind)
        scale[0] = 0
        zero = scales(chance, 4, n, kind) if format in ZEROS else None
        p = cutplan.pack_weights(
            to(device, u),
            format,
            group_size=32,
            scale=to(device, scale),
            zero=to(device, zero),  # type: ignore[arg-type]
        )
        assert same(unpacked(p, out), dequantised(u, format, scale, zero, 32, out))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("format", ["int4", "int8"])
def test_values_and_codes(device: str, format: str, seed: int) -> None:
    """Types with a sign hold values, uint8 holds codes."""
    chance = np.random.default_rng(seed)
    u, scale = codes(chance, format, 70, 9), scales(chance, 3, 9, "float16")
    z = chance.integers(-8, 8, (3, 9))
    half = 1 << (BITS[format] - 1)
    packs = [cutplan.pack_weights(to(device, u), format, group_size=32, scale=to(device, scale),  # type: ignore[arg-type]
                                  zero=to(device, z.astype(np.float16)))]  # fmt: skip
    for kind in ("int8", "int32", "int64"):
        w = (u.astype(np.int64) - half).astype(kind)
        packs.append(cutplan.pack_weights(to(device, w), format, group_size=32, scale=to(device, scale),  # type: ignore[arg-type]
                                          zero=to(device, z.astype(kind))))  # fmt: skip
    for p in packs:
        assert np.array_equal(back(p.data), back(packs[0].data))
        assert same(unpacked(p), dequantised(u, format, scale, z.astype(np.float16), 32))


def test_bits_of_e4m3(seed: int) -> None:
    chance = np.random.default_rng(seed)
    u, scale = codes(chance, "e4m3", 64, 9), scales(chance, 1, 9, "float32")
    raw = cutplan.pack_weights(u, "e4m3", group_size=-1, scale=scale[0])
    named = cutplan.pack_weights(u.view(ml_dtypes.float8_e4m3fn), "e4m3", group_size=64, scale=scale)
    view = cutplan.pack_weights(cutplan.as_dtype(u, "float8_e4m3fn"), "e4m3", group_size=100, scale=scale)
    assert raw.data.tobytes() == named.data.tobytes() == view.data.tobytes()


# ---- floats ----


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("group_size", [32, 64, 128, -1])
def test_floats_are_quantised_as_quantize_does(device: str, kind: str, group_size: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    for k, n in [(1, 1), (64, 64), (130, 70), (101, 33), (300, 35), (7, 4)]:
        w = values(chance, k, n, kind)
        size = k if group_size == -1 else group_size
        for format, name in (
            ("int4", "int4"),
            ("uint4", "int4"),
            ("int8", "int8"),
            ("e4m3", "float8_e4m3fn"),
        ):
            if format == "uint4" and n % 2:
                continue
            padded = np.zeros((k, n + n % 2), w.dtype)  # int4 of quantize() has pairs
            padded[:, :n] = w
            q = cutplan.quantize(
                padded, name, granularity="group", group_size=size, axis=-2, symmetric=format != "uint4"
            )
            expected = cutplan.dequantize(q, "float32")[:, :n]
            got = cutplan.pack_weights(to(device, w), format, group_size=group_size)  # type: ignore[arg-type]
            assert got.scale_dtype == "float32" and got.has_zero == (format == "uint4")
            assert same(unpacked(got), expected), (format, k, n)
            if format == "uint4" and k % 2:
                continue
            turned = cutplan.pack_weights(to(device, np.asfortranarray(w)), format, group_size=group_size)  # type: ignore[arg-type]
            assert np.array_equal(back(turned.data), back(got.data)), (format, k, n)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("format", ["nf4", "e2m1"])
def test_floats_become_the_nearest_entries(device: str, kind: str, format: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    entries = table(format).astype(np.float64)
    for k, n in [(1, 1), (64, 64), (130, 70), (101, 33)]:
        for group_size in (32, -1):
            w = values(chance, k, n, kind)
            w[: min(k, 32), 0] = 0  # a group of nothing
            groups, size = groups_of(k, group_size), group_size if group_size > 0 else k
            amax = np.stack(
                [np.abs(w[g * size : (g + 1) * size].astype(np.float32)).max(0) for g in range(groups)]
            )
            scale = amax / np.float32(1 if format == "nf4" else 6)
            scale[scale == 0] = 1
            spread = scale[np.arange(k) // size]
            quotient = (w.astype(np.float32) / spread).astype(np.float64)
            nearest = entries[np.abs(quotient[..., None] - entries).argmin(-1)].astype(np.float32)
            for x in (w, np.asfortranarray(w)):
                p = cutplan.pack_weights(to(device, x), format, group_size=group_size)  # type: ignore[arg-type]
                got = unpacked(p)
                ties = (
                    np.abs(np.abs(quotient[..., None] - entries) - np.abs(quotient - nearest)[..., None])
                    < 1e-7
                )
                clear = (ties.sum(-1) == 1) | (format == "e2m1") & (nearest == 0)
                assert np.array_equal(got[clear], (nearest * spread)[clear])
                largest = np.float64(0.152 if format == "nf4" else 1.0001)
                assert (np.abs(got - w.astype(np.float64)) <= largest * spread).all()


# ---- what quantize() returned ----


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", [("int4", True), ("int4", False), ("int8", True), ("int8", False),
                                  ("float8_e4m3fn", True)])  # fmt: skip
def test_quantized(device: str, kind: tuple[str, bool], seed: int) -> None:
    chance = np.random.default_rng(seed)
    name, symmetric = kind
    format = {"float8_e4m3fn": "e4m3", "int4": "int4" if symmetric else "uint4"}.get(name, name)
    w = to(device, values(chance, 130, 36, "float32"))
    for granularity, size in [
        ("group", 32),
        ("group", 128),
        ("group", 130),
        ("column", None),
        ("tensor", None),
    ]:
        q = cutplan.quantize(
            w, name, granularity=granularity, group_size=size, axis=-2 if granularity == "group" else -1,  # type: ignore[arg-type]
            symmetric=symmetric,
        )  # fmt: skip
        p = cutplan.pack_weights(q, format)  # type: ignore[arg-type]
        assert p.has_zero == (not symmetric) and p.shape == (130, 36)
        assert same(unpacked(p), back(cutplan.dequantize(q, "float32")))
        if granularity == "group" and size == 32:
            assert np.array_equal(back(cutplan.pack_weights(q, format, group_size=32).data), back(p.data))  # type: ignore[arg-type]


# ---- tensors ----


def test_frameworks() -> None:
    chance = np.random.default_rng(5)
    u, scale = codes(chance, "uint4", 96, 40), scales(chance, 3, 40, "float32")
    zero = scales(chance, 3, 40, "float32")
    w = values(chance, 96, 40, "float32")
    expected = cutplan.pack_weights(u, "uint4", group_size=32, scale=scale, zero=zero)
    assert isinstance(expected.data, np.ndarray)
    of_floats = {f: cutplan.pack_weights(w, f, group_size=32).data for f in FORMATS}  # type: ignore[arg-type]
    makers: list[Any] = []
    if HAS_TORCH:
        import torch

        makers.append((torch.from_numpy, torch.Tensor))
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        pass
    else:
        cpu = jax.devices("cpu")[0]
        makers.append((lambda x: jax.device_put(jnp.asarray(x), cpu), jax.Array))
    for make, kind in makers:
        p = cutplan.pack_weights(make(u), "uint4", group_size=32, scale=make(scale), zero=make(zero))
        assert isinstance(p.data, kind) and np.array_equal(np.asarray(p.data), expected.data)
        out = cutplan.unpack_weights(p, "float16")
        assert isinstance(out, kind) and same(np.asarray(out), cutplan.unpack_weights(expected, "float16"))
        again = cutplan.PackedWeights.from_tensor(p.data)
        assert again[1:] == expected[1:]
        for format, data in of_floats.items():
            got = cutplan.pack_weights(make(w), format, group_size=32)  # type: ignore[arg-type]
            assert isinstance(got.data, kind) and np.array_equal(np.asarray(got.data), data), format
        words = chance.integers(-(2**31), 2**31, (16, 8)).astype(np.int32)
        g_idx = chance.permutation(np.arange(128) // 32).astype(np.int32)
        tensors = (words, words[:4, :1], scale[:1].repeat(4, 0)[:, :8], g_idx)
        imported = cutplan.pack_weights.from_gptq(*map(make, tensors))
        assert isinstance(imported.data, kind)
        assert np.array_equal(np.asarray(imported.data), cutplan.pack_weights.from_gptq(*tensors).data)


def test_what_a_packed_tensor_carries(tmp_path: Any) -> None:
    chance = np.random.default_rng(5)
    u, scale = codes(chance, "uint4", 96, 40), scales(chance, 3, 40, "bfloat16")
    p = cutplan.pack_weights(u, "uint4", group_size=32, scale=scale, zero=scale)
    assert p.shape == (96, 40)
    assert p[1:] == ("uint4", 40, 96, 32, "bfloat16", True, False)
    np.save(tmp_path / "weights.npy", p.data)
    saved = cutplan.PackedWeights.from_tensor(np.load(tmp_path / "weights.npy"))
    expected = cutplan.unpack_weights(p)
    for q in (saved, copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert q[1:] == p[1:] and same(cutplan.unpack_weights(q), expected)
    assert pickle.loads(pickle.dumps(cutplan.pack_weights)) is cutplan.pack_weights
    # At an odd address, as a file that is mapped may have it.
    memory = np.zeros(p.data.size + 1, np.uint8)
    memory[1:] = p.data
    assert same(cutplan.unpack_weights(cutplan.PackedWeights.from_tensor(memory[1:])), expected)


@pytest.mark.skipif(not HAS_TORCH, reason="a state dict is torch's")
def test_state_dict(tmp_path: Any) -> None:
    import torch

    p = cutplan.pack_weights(torch.randn(64, 48), "nf4")
    layer = torch.nn.Module()
    layer.register_buffer("weight", p.data)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    state = torch.load(tmp_path / "layer.pt")
    again = cutplan.PackedWeights.from_tensor(state["weight"])
    assert again[1:] == p[1:] and torch.equal(cutplan.unpack_weights(again), cutplan.unpack_weights(p))


def test_kernels_by_name() -> None:
    p = cutplan.pack_weights(np.ones((8, 8), np.uint8), "uint4", scale=np.ones((1, 8), np.float32))
    assert cutplan.last_kernels() == ("pack_weights.host.uint8",)
    cutplan.unpack_weights(p, "bfloat16")
    assert cutplan.last_kernels() == ("unpack_weights.host.bf16",)
    names = [sku.name for sku in cutplan.weights_registry()]
    assert len(names) == len(set(names)) and "unpack_weights.host.f16" in names
    descriptor = cutplan.PackWeightsDescriptor(n=8, k=8, format="uint4", w="uint8", scale="float32")
    plan = cutplan.PackWeightsPlan.select(descriptor, "cpu", cutplan.PlanPreference(kernel=names[0]))
    assert pickle.loads(pickle.dumps(plan)).sku.name == plan.sku.name == "pack_weights.host.uint8"
    (measured,) = cutplan.measure_pack_weights(descriptor, "cpu")
    assert measured.sku.name == plan.sku.name


def test_empty_extents() -> None:
    for k, n in ((0, 0), (0, 5), (70, 0)):
        for format in FORMATS:
            u = np.empty((k, n), np.uint8)
            for size in (32, -1):
                scale = np.empty((groups_of(k, size), n), np.float16)
                p = cutplan.pack_weights(u, format, group_size=size, scale=scale)  # type: ignore[arg-type]
                assert p.shape == (k, n) and p.data.size >= 256
                assert cutplan.PackedWeights.from_tensor(p.data)[1:] == p[1:]
                assert cutplan.unpack_weights(p).shape == (k, n)
            if format == "uint4" and n % 2:
                continue  # of floats it takes pairs
            of_floats = cutplan.pack_weights(u.astype(np.float32), format)  # type: ignore[arg-type]
            assert cutplan.unpack_weights(of_floats).shape == (k, n)
    empty = np.empty((0, 16), np.int32)
    p = cutplan.pack_weights.from_gptq(empty, np.empty((0, 2), np.int32), np.empty((0, 16), np.float16))
    assert p.shape == (0, 16)


@pytest.mark.parametrize("shape", SHAPES)
def test_bounds_hold(shape: tuple[int, int], seed: int) -> None:
    """Of unpacking: between out and the exact product, by the plan's own guarantee."""
    chance = np.random.default_rng(seed)
    k, n = shape
    u = codes(chance, "int8", k, n)
    scale, zero = (
        scales(chance, groups_of(k, 32), n, "float32"),
        scales(chance, groups_of(k, 32), n, "float32"),
    )
    p = cutplan.pack_weights(u, "int8", group_size=32, scale=scale, zero=zero)
    group = np.arange(k) // 32
    exact = (table("int8")[u].astype(np.float64) - zero.astype(np.float64)[group]) * scale.astype(np.float64)[
        group
    ]
    for out in FLOATS:
        d = cutplan.UnpackWeightsDescriptor(
            n=n, k=k, format="int8", group_size=32, scale="float32", zero=True, out=out
        )
        guarantee = cutplan.UnpackWeightsPlan.select(d, "cpu").precision_guarantee
        got = cutplan.unpack_weights(p, out).astype(np.float64)
        magnitude = (np.abs(table("int8")[u]) + np.abs(zero.astype(np.float64))[group]) * np.abs(scale)[group]
        bound = (
            guarantee.evaluation * magnitude + guarantee.rounding * np.abs(exact) * 1.001 + guarantee.smallest
        )
        assert (np.abs(got - exact) <= bound).all()


def test_nothing_is_imported() -> None:
    program = "import sys, cutplan; print(sorted({'numpy', 'torch', 'jax', 'cupy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
