"""Products of packed weights: against float64 products of what they unpack to."""

from __future__ import annotations

import random

import pytest
import torch

import cutplan
from tests.gemm.problems import TORCH

FORMATS = ("int4", "uint4", "int8", "e4m3", "nf4", "e2m1")


def packed_of(k: int, n: int, fmt: str, group_size: int, seed: int) -> cutplan.PackedWeights:
    generator = torch.Generator().manual_seed(seed)
    return cutplan.pack_weights(torch.randn(k, n, generator=generator), fmt, group_size=group_size)


def permuted(k: int, n: int, seed: int) -> cutplan.PackedWeights:
    """As GPTQ leaves them with act_order."""
    generator = torch.Generator().manual_seed(seed)
    qweight = torch.randint(-(2**31), 2**31, (k // 8, n), generator=generator, dtype=torch.int64).int()
    groups = -(-k // 64)
    qzeros = torch.randint(-(2**31), 2**31, (groups, n // 8), generator=generator, dtype=torch.int64).int()
    scales = torch.rand(groups, n, generator=generator).half()
    g_idx = (torch.randperm(k, generator=generator) // 64).int()
    packed = cutplan.pack_weights.from_gptq(qweight, qzeros, scales, g_idx)
    assert packed.has_permutation
    return packed


def check(y: torch.Tensor, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    exact = x.double() @ w.double() + (0 if bias is None else bias.double())
    magnitude = x.double().abs() @ w.double().abs() + (0 if bias is None else bias.double().abs())
    descriptor = cutplan.GemmDescriptor(
        m=x.shape[0],
        n=w.shape[1],
        k=w.shape[0],
        a=str(x.dtype).removeprefix("torch."),
        d=str(y.dtype).removeprefix("torch."),
        layout="rcr",
        epilogue=cutplan.Epilogue(bias=bias is not None),
        weights=cutplan.WeightPacking(format="int8", n=w.shape[1], scale="float32"),
    )
    guarantee = cutplan.GemmPlan.select(descriptor, "cpu").precision_guarantee
    pairs = zip(magnitude.flatten().tolist(), exact.flatten().tolist(), strict=True)
    bound = torch.tensor([guarantee.error_bound(*pair) for pair in pairs]).reshape(exact.shape)
    assert ((y.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_formats_and_edges(fmt: str, dtype: str) -> None:
    for _ in range(6):
        m, k, n = (
            random.choice([1, 3, 70, 200]),
            random.choice([1, 62, 64, 130, 300]),
            random.choice([2, 64, 66, 130]),
        )
        packed = packed_of(k + k % 2, n, fmt, random.choice([32, 64, 128, -1]), random.getrandbits(30))
        x = torch.randn(m, packed.k).to(TORCH[dtype])
        bias = torch.randn(n) if random.random() < 0.5 else None
        d = random.choice(["float32", dtype])
        check(cutplan.matmul(x, packed, bias=bias, out_dtype=d), x, cutplan.unpack_weights(packed), bias)


def test_rows_of_their_own_order() -> None:
    for k, n in ((128, 64), (256, 40), (192, 8)):
        packed = permuted(k, n, k)
        w = cutplan.unpack_weights(packed)
        for m in (1, 65, 200):
            x = torch.randn(m, k, dtype=torch.float32).bfloat16()
            check(cutplan.matmul(x, packed, out_dtype="float32"), x, w)
            columns = x.T.contiguous().T
            check(cutplan.matmul(columns, packed, out_dtype="float32"), x, w)


@pytest.mark.parametrize("m", [1, 100])
def test_gates(m: int) -> None:
    k, n = 192, 66
    x = torch.randn(m, k).half()
    p1, p2 = packed_of(k, n, "int4", 64, 1), packed_of(k, n, "int4", 64, 2)
    y = cutplan.matmul(x, p1, b2=p2, activation="silu", out_dtype="float32")
    w1, w2 = cutplan.unpack_weights(p1), cutplan.unpack_weights(p2)
    exact = torch.nn.functional.silu(x.double() @ w1.double()) * (x.double() @ w2.double())
    torch.testing.assert_close(y.double(), exact, rtol=1e-4, atol=1e-4)
    both = cutplan.pack_weights(torch.stack([w1, w2], 2).reshape(k, 2 * n), "int8", group_size=32)
    w = cutplan.unpack_weights(both)
    y = cutplan.matmul(x, both, gate="interleaved", activation="silu", out_dtype="float32")
    exact = torch.nn.functional.silu(x.double() @ w[:, ::2].double()) * (x.double() @ w[:, 1::2].double())
    torch.testing.assert_close(y.double(), exact, rtol=1e-4, atol=1e-4)


def test_groups_of_rows() -> None:
    k, n, groups = 128, 70, 3
    each = [packed_of(k, n, "int4", 32, seed) for seed in range(groups)]
    stacked = each[0]._replace(data=torch.stack([p.data for p in each]))
    x = torch.randn(50, k).bfloat16()
    offsets = torch.tensor([0, 20, 20, 50], dtype=torch.int32)
    y = cutplan.grouped_matmul(x, stacked, offsets, out_dtype="float32")
    for g, (first, last) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        exact = x[first:last].double() @ cutplan.unpack_weights(each[g]).double()
        torch.testing.assert_close(y[first:last].double(), exact, rtol=1e-5, atol=1e-4)


def test_leading_dimensions_are_rows() -> None:
    packed = packed_of(64, 32, "int8", 32, 0)
    x = torch.randn(2, 3, 64).bfloat16()
    assert torch.equal(cutplan.matmul(x, packed), cutplan.matmul(x.reshape(6, 64), packed).reshape(2, 3, 32))


def test_refusals() -> None:
    packed = packed_of(64, 32, "int4", 32, 0)
    x = torch.randn(4, 64).half()
    with pytest.raises(cutplan.ShapeMismatch, match="operand b"):
        cutplan.matmul(x[:, :32].contiguous(), packed)
    with pytest.raises(cutplan.Unsupported, match="operand"):
        cutplan.matmul(x.float(), packed)
    with pytest.raises(cutplan.Unsupported, match="operand b2: packed weights as b"):
        cutplan.matmul(x, packed, b2=packed_of(64, 32, "int8", 32, 0))
    with pytest.raises(cutplan.Unsupported, match="packed weights"):
        cutplan.matmul(x, packed, b_scale=torch.ones(1))
    with pytest.raises(cutplan.ShapeMismatch, match="operand b"):
        cutplan.matmul(x, packed._replace(data=packed.data[:-1]))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("m", [1, 16, 40, 300])
def test_scales_far_apart(device: str, m: int) -> None:
    """A group's scale is its own: the next one's, read too late, would show, and not in every run."""
    k, n, group_size = 4096, 1024, 128
    generator = torch.Generator().manual_seed(m)
    codes = torch.randint(-8, 8, (k, n), generator=generator, dtype=torch.int8)
    scale = 2.0 ** torch.randint(-6, 7, (k // group_size, n), generator=generator)
    packed = cutplan.pack_weights(codes, "int4", group_size=group_size, scale=scale)
    w = codes.double() * scale.double().repeat_interleave(group_size, 0)
    x = torch.randn(m, k, generator=generator).bfloat16()
    there = packed._replace(data=packed.data.to(device))
    first = cutplan.matmul(x.to(device), there, out_dtype="float32")
    check(first.cpu(), x, w)
    for _ in range(20 if device == "cuda" else 1):
        assert torch.equal(cutplan.matmul(x.to(device), there, out_dtype="float32"), first)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("m", [1, 100])
def test_numbers_that_are_no_row(device: str, m: int) -> None:
    """In a permutation: what they would name is not read, and their products are left out."""
    packed = permuted(256, 64, 1)
    w = cutplan.unpack_weights(packed)
    data = packed.data.clone()
    order = data[-256 * 4 :].view(torch.int32)
    lost = order[:3].tolist()
    order[:3] = torch.tensor([-5, 256, 2**31 - 1], dtype=torch.int32)
    w[lost] = 0
    x = torch.randn(m, 256).bfloat16()
    y = cutplan.matmul(x.to(device), packed._replace(data=data.to(device)), out_dtype="float32")
    check(y.cpu(), x, w)
