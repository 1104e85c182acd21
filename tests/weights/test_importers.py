"""What others store, written down here bit by bit from each format's documentation, and unpacked again."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import cutplan
from tests.weights.problems import (
    DEVICES,
    FLOATS,
    NF4,
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

PROBLEMS = [(128, 64, 64), (256, 40, 32), (384, 136, 128), (192, 8, -1), (96, 24, 32)]  # k, n, group size


def int32_of(nibbles: Array, bits: int) -> Array:
    """[..., 32 / bits] as words, the first lowest."""
    words = np.zeros(nibbles.shape[:-1], np.uint32)
    for i in range(nibbles.shape[-1]):
        words |= nibbles[..., i].astype(np.uint32) << np.uint32(bits * i)
    return words.view(np.int32)


def gptq_weight(u: Array, bits: int) -> Array:
    per = 32 // bits
    k, n = u.shape
    return int32_of(u.reshape(k // per, per, n).transpose(0, 2, 1), bits)


def gptq_zeros(z: Array, bits: int) -> Array:
    per = 32 // bits
    return int32_of(z.reshape(z.shape[0], -1, per), bits)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("scale_type", FLOATS)
def test_gptq(device: str, bits: int, v2: bool, scale_type: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    for k, n, size in PROBLEMS:
        groups = groups_of(k, size)
        u = chance.integers(0, 1 << bits, (k, n), dtype=np.uint8)
        # Stored as one less: from 1 on; 2^bits is what the largest stands for.
        stored = chance.integers(0, 1 << bits, (groups, n), dtype=np.uint8)
        zero = stored.astype(np.float32) + (0 if v2 else 1)
        scale = scales(chance, groups, n, scale_type)
        tensors = gptq_weight(u, bits), gptq_zeros(stored, bits), scale
        p = cutplan.pack_weights.from_gptq(*(to(device, x) for x in tensors), bits=bits, v2=v2)
        assert (p.shape, p.has_zero, p.scale_dtype, p.has_permutation) == ((k, n), True, scale_type, False)
        value = u.astype(np.float32) - zero[np.arange(k) // (size if size > 0 else k)]
        expected = value * scale.astype(np.float32)[np.arange(k) // (size if size > 0 else k)]
        assert same(unpacked(p), expected)
        g_idx = (np.arange(k) // (size if size > 0 else k)).astype(np.int32)
        again = cutplan.pack_weights.from_gptq(
            *(to(device, x) for x in tensors), to(device, g_idx), bits=bits, group_size=size, v2=v2
        )
        assert np.array_equal(back(again.data), back(p.data))
        symmetric = cutplan.pack_weights.from_gptq(to(device, tensors[0]), None, to(device, scale), bits=bits)
        format = "int4" if bits == 4 else "int8"
        assert symmetric.format == format and not symmetric.has_zero
        assert same(unpacked(symmetric), dequantised(u, format, scale, None, size))


@pytest.mark.parametrize("device", DEVICES)
def test_gptq_act_order(device: str, seed: int) -> None:
    """Rows in any order, of groups that their index tells; the last group may be smaller."""
    chance = np.random.default_rng(seed)
    for k, n, size in [(128, 16, 32), (256, 72, 64), (352, 24, 128)]:
        groups = groups_of(k, size)
        g_idx = chance.permutation(np.arange(k) // size).astype(np.int32)
        u = chance.integers(0, 16, (k, n), dtype=np.uint8)
        stored, scale = (
            chance.integers(0, 15, (groups, n), dtype=np.uint8),
            scales(chance, groups, n, "float16"),
        )
        p = cutplan.pack_weights.from_gptq(
            *(to(device, x) for x in (gptq_weight(u, 4), gptq_zeros(stored, 4), scale, g_idx)),
            group_size=size,
        )
        assert p.has_permutation and p.group_size == size
        expected = (u.astype(np.float32) - (stored.astype(np.float32) + 1)[g_idx]) * scale.astype(np.float32)[
            g_idx
        ]
        assert same(unpacked(p), expected)
        data = back(p.data)
        at = int.from_bytes(data[80:88].tobytes(), "little")
        order = data[at : at + 4 * k].view(np.int32)
        assert np.array_equal(order, np.argsort(g_idx, kind="stable"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale_type", FLOATS)
def test_awq(device: str, scale_type: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # which of eight columns nibble i has
    for k, n, size in PROBLEMS:
        groups = groups_of(k, size)
        u = chance.integers(0, 16, (k, n), dtype=np.uint8)
        z = chance.integers(0, 16, (groups, n), dtype=np.uint8)
        scale = scales(chance, groups, n, scale_type)
        qweight, qzeros = (int32_of(x.reshape(x.shape[0], -1, 8)[:, :, order], 4) for x in (u, z))
        p = cutplan.pack_weights.from_awq(to(device, qweight), to(device, qzeros), to(device, scale))
        assert p.format == "uint4" and p.shape == (k, n)
        assert same(unpacked(p), dequantised(u, "uint4", scale, z, size))
        assert same(unpacked(p, scale_type), dequantised(u, "uint4", scale, z, size, scale_type))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", ["none", "packed", "values"])
def test_compressed_tensors(device: str, bits: int, zero: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    per, bias = 32 // bits, 1 << (bits - 1)
    for k, n, size in PROBLEMS:
        groups = groups_of(k, size)
        q = chance.integers(-bias, bias, (n, k))  # of the weight [n, k], two's complement
        scale = scales(chance, groups, n, "bfloat16").T.copy()
        points = chance.integers(-bias, bias, (n, groups))
        packed = int32_of((q + bias).reshape(n, k // per, per), bits)
        zero_point: Array | None = None
        if zero == "packed":
            zero_point = int32_of((points + bias).reshape(n // per, per, groups).transpose(0, 2, 1), bits)
        elif zero == "values":
            zero_point = points.astype(np.int8)
        g_idx = np.full(k, -1, np.int32)
        p = cutplan.pack_weights.from_compressed_tensors(
            to(device, packed), to(device, scale), to(device, np.array([n, k])), to(device, zero_point),
            to(device, g_idx), bits=bits,
        )  # fmt: skip
        assert (p.format, p.has_zero, p.has_permutation) == (f"int{bits}", zero != "none", False)
        group = np.arange(k) // (size if size > 0 else k)
        value = (q - (points[:, group] if zero != "none" else 0)).astype(np.float32)
        assert same(unpacked(p), (value * scale.astype(np.float32)[:, group]).T)
        assert p.shape == (k, n)
        if groups > 1:
            order = chance.permutation(group).astype(np.int32)
            p = cutplan.pack_weights.from_compressed_tensors(
                to(device, packed),
                to(device, scale),
                (n, k),
                to(device, zero_point),
                to(device, order),
                bits=bits,
            )
            value = (q - (points[:, order] if zero != "none" else 0)).astype(np.float32)
            assert p.has_permutation
            assert same(unpacked(p), (value * scale.astype(np.float32)[:, order]).T)


@pytest.mark.parametrize("device", DEVICES)
def test_torchao(device: str, seed: int) -> None:
    """Bytes of two codes and of one, in either order of nibbles, with either order of scales' dimensions."""
    chance = np.random.default_rng(seed)
    for k, n, size in PROBLEMS:
        groups = groups_of(k, size)
        group = np.arange(k) // (size if size > 0 else k)
        scale = scales(chance, groups, n, "bfloat16")
        q = chance.integers(-8, 8, (n, k)).astype(np.int8)
        z = chance.integers(-8, 8, (groups, n)).astype(np.int8)
        wide = scale.astype(np.float32)[group]
        low, high = q[:, ::2].view(np.uint8) & 15, q[:, 1::2].view(np.uint8) & 15

        signed = cutplan.pack_weights.from_torchao(
            to(device, (low | high << 4).view(np.int8)), to(device, scale), shape=(n, k)
        )
        assert signed.format == "int4" and same(unpacked(signed), q.T.astype(np.float32) * wide)

        alone = cutplan.pack_weights.from_torchao(
            to(device, q), to(device, scale.T.copy()), to(device, z.T.copy())
        )
        expected = (q.T.astype(np.float32) - z.astype(np.float32)[group]) * wide
        assert alone.has_zero and same(unpacked(alone), expected)

        u, points = (q + 8).astype(np.uint8), (z + 8).astype(np.uint8)
        unsigned = cutplan.pack_weights.from_torchao(
            to(device, u[:, ::2] << 4 | u[:, 1::2]), to(device, scale), to(device, points), high_first=True
        )
        assert unsigned.format == "uint4" and same(unpacked(unsigned), expected)

        eight = chance.integers(-128, 128, (n, k)).astype(np.int8)
        of_rows = scales(chance, 1, n, "float32")[0]
        p = cutplan.pack_weights.from_torchao(to(device, eight), to(device, of_rows), bits=8)
        assert p.format == "int8" and same(unpacked(p), eight.T.astype(np.float32) * of_rows)
        raised = cutplan.pack_weights.from_torchao(
            to(device, (eight.astype(np.int16) + 128).astype(np.uint8)), to(device, of_rows),
            to(device, np.full(n, 130, np.int32)), bits=8,
        )  # fmt: skip
        assert same(unpacked(raised), (eight.T.astype(np.float32) - 2) * of_rows)


def near(got: Array, value: Array, scale: Array, added: Array) -> bool:
    """value * scale + added, within the documented bound."""
    exact = value.astype(np.float64) * scale + added
    bound = 2.0**-22 * (np.abs(value * scale.astype(np.float64)) + np.abs(added))
    return bool((np.abs(got - exact) <= bound).all())


@pytest.mark.parametrize("device", DEVICES)
def test_torchao_zeros_that_are_added(device: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    for k, n, size in PROBLEMS:
        groups = groups_of(k, size)
        group = np.arange(k) // (size if size > 0 else k)
        q = chance.integers(-8, 8, (n, k)).astype(np.int8)
        scale, added = scales(chance, groups, n, "bfloat16"), scales(chance, groups, n, "bfloat16")
        data = (q[:, ::2].view(np.uint8) & 15 | q[:, 1::2].view(np.uint8) << 4).view(np.int8)
        p = cutplan.pack_weights.from_torchao(
            to(device, data), to(device, scale), to(device, added), shape=(n, k)
        )
        assert p.scale_dtype == "float32" and p.format == "int4"
        assert near(unpacked(p), q.T, scale.astype(np.float64)[group], added.astype(np.float64)[group])


def tiles_of(u: Array, inner: int) -> Array:
    """[n, k] as torch's fragments: tile by tile, lane by lane, nibble by nibble."""
    n, k = u.shape
    tiles = np.zeros((n // 8, k // (16 * inner), 32, inner // 2), np.uint32)
    for tile, outer, lane, pair in np.ndindex(*tiles.shape):
        row, first = tile * 8 + lane // 4, outer * 16 * inner + pair * 32 + lane % 4 * 2
        # First the even elements of four registers, then the odd ones.
        for nibble, column in enumerate([0, 8, 16, 24, 1, 9, 17, 25]):
            tiles[tile, outer, lane, pair] |= np.uint32(u[row, first + column]) << np.uint32(4 * nibble)
    return tiles.view(np.int32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("inner", [2, 4, 8])
def test_torchao_tiles(device: str, inner: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    for k, n, size in [(128, 16, 32), (256, 24, 64), (384, 8, 128)]:
        groups = groups_of(k, size)
        group = np.arange(k) // size
        u = chance.integers(0, 16, (n, k), dtype=np.uint8)
        both = chance.standard_normal((groups, n, 2)).astype(ml_dtypes.bfloat16)
        tiles = tiles_of(u, inner)
        p = cutplan.pack_weights.from_torchao(to(device, tiles), scale_and_zero=to(device, both))
        assert (p.shape, p.group_size, p.format) == ((k, n), size, "int4")
        scale, added = (both[:, :, i].astype(np.float64)[group] for i in (0, 1))
        assert near(unpacked(p), u.T.astype(np.float64) - 8, scale, added)
        cut = cutplan.pack_weights.from_torchao(
            to(device, tiles), scale_and_zero=to(device, both), shape=(n - 3, k - 40)
        )
        assert same(unpacked(cut), unpacked(p)[: k - 40, : n - 3])


@pytest.mark.cuda
@pytest.mark.parametrize("inner", [2, 4, 8])
def test_tiles_that_torch_made(inner: int, seed: int) -> None:
    import torch

    chance = np.random.default_rng(seed)
    u = chance.integers(0, 16, (32, 256), dtype=np.uint8)
    made = torch.ops.aten._convert_weight_to_int4pack(
        torch.from_numpy(u[:, ::2] << 4 | u[:, 1::2]).cuda(), inner
    )
    assert np.array_equal(made.cpu().numpy(), tiles_of(u, inner))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("blocksize", [32, 64, 128])
@pytest.mark.parametrize("nested", [False, True])
def test_nf4(device: str, blocksize: int, nested: bool, seed: int) -> None:
    chance = np.random.default_rng(seed)
    for k, n in [(128, 16), (256, 70), (384, 1), (128, 513)]:
        u = chance.integers(0, 16, (n, k), dtype=np.uint8)
        flat = u.reshape(-1)
        packed = (flat[::2] << 4 | flat[1::2]).reshape(-1, 1)
        blocks = n * k // blocksize
        options: dict[str, Any] = {"code": to(device, np.array(NF4, np.float32))}
        absmax = chance.random(blocks).astype(np.float32)
        given = absmax
        if nested:
            given = chance.integers(0, 256, blocks, dtype=np.uint8)
            code = np.linspace(-1, 1, 256).astype(np.float32)
            of_blocks = chance.random(-(-blocks // 256)).astype(np.float32)
            absmax = code[given] * of_blocks[np.arange(blocks) // 256] + np.float32(0.625)
            options |= {"nested_absmax": to(device, of_blocks), "nested_code": to(device, code)}
            options["nested_offset"] = 0.625
        p = cutplan.pack_weights.from_nf4(
            to(device, packed), to(device, given), (n, k), blocksize=blocksize, **options
        )
        assert p.format == "nf4" and p.shape == (k, n)
        expected = table("nf4")[u] * absmax.reshape(n, -1).repeat(blocksize, 1)
        assert same(unpacked(p), expected.T.astype(np.float32))
    whole = cutplan.pack_weights.from_nf4(
        to(device, packed[: 7 * 150 // 2]), to(device, absmax[:7]), (7, 150), blocksize=150
    ) if not nested else None  # fmt: skip
    assert whole is None or same(
        unpacked(whole), (table("nf4")[flat[: 7 * 150].reshape(7, 150)] * absmax[:7, None]).T
    )


@pytest.mark.parametrize("device", DEVICES)
def test_kaio(device: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    for k, n in [(128, 5), (256, 64), (384, 72)]:
        q = chance.integers(-8, 8, (k, n)).astype(np.int8)
        words = np.zeros(k // 8 * n, np.uint32)
        for row, column in np.ndindex(k, n):
            words[row // 8 + column * (k // 8)] |= np.uint32(q[row, column] & 15) << np.uint32(row % 8 * 4)
        scale = scales(chance, k // 128, n, "float16")
        packed = words.reshape(k // 8, n)  # as the starting system has it, whatever lies where
        for given in (packed, packed.view(np.int32)) if device == "cpu" else (packed.view(np.int32),):
            p = cutplan.pack_weights.from_kaio(to(device, given), to(device, scale))
            assert p.group_size == 128 and p.format == "int4"
            assert same(unpacked(p), dequantised((q + 8).astype(np.uint8), "int4", scale, None, 128))


def test_importers_in_torch() -> None:
    torch = pytest.importorskip("torch")
    chance = np.random.default_rng(3)
    k, n = 128, 16
    u, z = codes(chance, "uint4", k, n), codes(chance, "uint4", 4, n)
    g_idx = chance.permutation(np.arange(k) // 32).astype(np.int32)
    scale = scales(chance, 4, n, "float16")
    tensors = [gptq_weight(u, 4), gptq_zeros(z, 4), scale, g_idx]
    p = cutplan.pack_weights.from_gptq(*map(torch.from_numpy, tensors), v2=True)
    assert isinstance(p.data, torch.Tensor)
    assert np.array_equal(p.data.numpy(), cutplan.pack_weights.from_gptq(*tensors, v2=True).data)
    parameter = torch.nn.Parameter(torch.from_numpy(tensors[0]), requires_grad=False)
    rest = [torch.from_numpy(x) for x in tensors[1:]]
    assert torch.equal(cutplan.pack_weights.from_gptq(parameter, *rest, v2=True).data, p.data)
    words = torch.from_numpy(tensors[0]).view(torch.uint32)
    same_words = cutplan.pack_weights.from_kaio(words, torch.ones(1, n))
    assert torch.equal(
        same_words.data, cutplan.pack_weights.from_kaio(torch.from_numpy(tensors[0]), torch.ones(1, n)).data
    )
    tiles, both = tiles_of(u.T.copy(), 4), chance.standard_normal((4, n, 2)).astype(np.float32)
    tiled = cutplan.pack_weights.from_torchao(
        torch.from_numpy(tiles), scale_and_zero=torch.from_numpy(both).bfloat16()
    )
    again = cutplan.pack_weights.from_torchao(tiles, scale_and_zero=both.astype(dtype_of("bfloat16")))
    assert np.array_equal(tiled.data.numpy(), again.data)
    flat = chance.integers(0, 256, k * n // 2, dtype=np.uint8)
    nested = chance.integers(0, 256, k * n // 64, dtype=np.uint8)
    options = {"nested_absmax": np.ones(1, np.float32), "nested_code": np.arange(256, dtype=np.float32)}
    expected = cutplan.pack_weights.from_nf4(flat, nested, (n, k), **options)
    made = cutplan.pack_weights.from_nf4(
        torch.from_numpy(flat), torch.from_numpy(nested), (n, k),
        **{name: torch.from_numpy(x) for name, x in options.items()},
    )  # fmt: skip
    assert np.array_equal(made.data.numpy(), expected.data)
    both_zeros = [torch.from_numpy(scale).bfloat16(), torch.from_numpy(scale).bfloat16() + 1]
    folded = cutplan.pack_weights.from_torchao(torch.from_numpy(u.T.astype(np.int8) - 8), *both_zeros)
    assert folded.scale_dtype == "float32" and folded.has_zero
