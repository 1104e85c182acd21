"""Rows that go into caches of keys and values: bit by bit, and nothing else of the caches."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch

import cutplan
from tests.attention_ops.problems import DEVICES, FLOATS, TORCH, Home, generator, normal

QUANTISED = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2, "int8": torch.int8}
LARGEST = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0, "int8": 127.0}


class Caches:
    """K's and V's, as one tensor of sequences or as pages, and where a row of a sequence is in them."""

    def __init__(
        self,
        dtype: torch.dtype,
        dims: tuple[int, int],
        heads: int,
        device: str,
        chance: random.Random,
        *,
        paged: bool,
        batch: int,
        capacity: int,
        layout: str,
        indexed: bool,
    ) -> None:
        self.paged, self.capacity, self.batch = paged, capacity, batch
        self.arguments: dict[str, Any] = {}
        if paged:
            self.page_size = chance.choice([1, 3, 16])
            self.max_pages = -(-capacity // self.page_size)
            self.pages = batch * self.max_pages + 3
            self.capacity = self.page_size * self.max_pages
            order = list(range(self.pages))
            chance.shuffle(order)
            self.table = [order[b * self.max_pages : (b + 1) * self.max_pages] for b in range(batch)]
            page_layout = chance.choice(["nhd", "hnd"])
            self.heads_first = page_layout == "hnd"
            outer, rows = self.pages, self.page_size
            home = Home((batch, self.max_pages), torch.int32, device, chance, free_rows=True)
            self.arguments["block_table"] = home.set(torch.tensor(self.table, device=device))
            self.page_layout = page_layout
        else:
            outer, rows = (batch + 2 if indexed else batch), capacity
            self.index = chance.sample(range(outer), batch) if indexed else list(range(batch))
            if indexed:
                self.arguments["cache_batch_idx"] = torch.tensor(self.index, dtype=torch.int32, device=device)
            self.heads_first = layout == "bhsd"
            self.page_layout = "nhd"
        self.outer = outer
        shapes = [(outer, heads, rows, d) if self.heads_first else (outer, rows, heads, d) for d in dims]
        self.homes = [Home(shape, dtype, device, chance) for shape in shapes]
        self.before = [home.view.clone() for home in self.homes]

    def place(self, sequence: int, row: int) -> tuple[int, int] | None:
        if not 0 <= row < self.capacity:
            return None
        if self.paged:
            return self.table[sequence][row // self.page_size], row % self.page_size
        return self.index[sequence], row

    def expect(self, which: int, sequence: int, row: int, values: torch.Tensor) -> bool:
        """Notes that a row of all heads [H, D] belongs there; whether it fits."""
        place = self.place(sequence, row)
        if place is None:
            return False
        at = (place[0], slice(None), place[1]) if self.heads_first else place
        self.before[which][at] = values
        return True

    def complaint(self) -> str | None:
        for name, home, expected in zip("kv", self.homes, self.before, strict=True):
            size = home.view.dtype.itemsize
            whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size]
            wrong = home.view.contiguous().view(whole) != expected.contiguous().view(whole)
            if bool(wrong.any()):
                return f"{name}_cache: {int(wrong.sum())} of {wrong.numel()} elements are wrong"
            if not home.rest_is_poison():
                return f"{name}_cache: written outside"
        return None


def quantised(x: torch.Tensor, scale: torch.Tensor, name: str) -> torch.Tensor:
    """x / scale to nearest even, saturated; x [..., H, D], scale [1] or [H]."""
    y = (x.float() / scale[:, None]).clamp(-LARGEST[name] - (name == "int8"), LARGEST[name])
    return torch.round(y).to(torch.int8) if name == "int8" else y.to(QUANTISED[name])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_bits(device: str, operand: str, paged: bool, packed: bool, layout: str, seed: int) -> None:
    chance, source = random.Random(seed), generator(device, seed)
    types = [operand] if operand == "float64" else [operand, *QUANTISED]
    for cache_type, (dim, dim_v, heads, batch) in itertools.product(
        types, [(64, 64, 2, 3), (40, 24, 3, 1), (33, 1, 1, 2), (128, 256, 8, 2)]
    ):
        dtype = TORCH.get(cache_type) or QUANTISED[cache_type]
        lengths = (
            [chance.randrange(0, 6) for _ in range(batch)] if packed else [chance.randrange(1, 5)] * batch
        )
        rows, capacity = (sum(lengths) if packed else lengths[0]), chance.choice([8, 17, 40])
        caches = Caches(
            dtype, (dim, dim_v), heads, device, chance, paged=paged, batch=batch, capacity=capacity,
            layout=layout, indexed=chance.random() < 0.5,
        )  # fmt: skip
        offsets = [chance.randrange(-1, caches.capacity + 1) for _ in range(batch)]
        integer = chance.choice([torch.int32, torch.int64])
        inner = (heads, rows) if layout == "bhsd" else (rows, heads)
        new = []
        for d in (dim, dim_v):
            shape = (*inner, d) if packed else (batch, *inner, d)
            new.append(
                Home(shape, TORCH[operand], device, chance).set(normal(shape, TORCH[operand], source, 3.0))
            )
        arguments = dict(caches.arguments)
        if packed:
            bounds = [0, *itertools.accumulate(lengths)]
            arguments["cu_seqlens"] = torch.tensor(bounds, dtype=torch.int32, device=device)
        scales = None
        if cache_type in QUANTISED:
            count = chance.choice([1, heads])
            scales = [torch.rand(count, generator=source, device=device) + 0.01 for _ in "kv"]
            arguments |= {"k_scale": scales[0], "v_scale": scales[1]}
        rejected = torch.tensor([100], dtype=torch.int32, device=device)
        lengths_out = Home((batch,), integer, device, chance, free_rows=True)
        offset_home = Home((batch,), integer, device, chance, free_rows=True)
        cutplan.kv_cache_append(
            *new, *(home.view for home in caches.homes),
            offset_home.set(torch.tensor(offsets, device=device)),
            page_layout=caches.page_layout, layout=layout, rejected=rejected, lengths_out=lengths_out.view,
            **arguments,
        )  # fmt: skip
        left_out = 0
        for b, i in [(b, i) for b, n in enumerate(lengths) for i in range(n)]:
            fits = True
            for which, x in enumerate(new):
                at = (sum(lengths[:b]) + i) if packed else i
                of_batch = x if packed else x[b]
                row = of_batch[:, at] if layout == "bhsd" else of_batch[at]
                value = row if scales is None else quantised(row, scales[which], cache_type)
                fits = caches.expect(which, b, offsets[b] + i, value)
            left_out += not fits
        what = caches.complaint()
        assert what is None, f"{what}: {cache_type} {dim} x {dim_v}, paged={paged}"
        assert int(rejected) == 100 + left_out
        assert lengths_out.view.tolist() == [o + n for o, n in zip(offsets, lengths, strict=True)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_turned_on_the_way(device: str, operand: str, interleaved: bool, layout: str, seed: int) -> None:
    """As rope() turns it, bit by bit, and Q with it, in place too."""
    source = generator(device, seed)
    for dim, rotary, rows in ((64, 64, 3), (40, 16, 1), (33, 10, 2)):
        shape = {"k": (2, 2, rows, dim), "q": (2, 5, rows, dim), "cache": (2, 2, 32, dim)}
        if layout == "bshd":
            shape = {name: (s[0], s[2], s[1], s[3]) for name, s in shape.items()}
        k, v = (normal(shape["k"], TORCH[operand], source) for _ in "kv")
        q = normal(shape["q"], TORCH[operand], source)
        cos, sin = (normal((32, rotary // 2), torch.float32, source) for _ in range(2))
        caches = [torch.zeros(shape["cache"], dtype=TORCH[operand], device=device) for _ in "kv"]
        offsets = torch.tensor([4, 20], device=device)
        how: dict[str, Any] = {"cos": cos, "sin": sin, "interleaved": interleaved, "layout": layout}
        turned_q, turned_k = cutplan.rope((q, k), offsets=offsets, **how)
        q_out = torch.empty_like(q)
        cutplan.kv_cache_append(k, v, *caches, offsets, q=q, q_out=q_out, **how)
        row = 2 if layout == "bhsd" else 1
        for b, offset in enumerate(offsets.tolist()):
            assert torch.equal(caches[0][b].narrow(row - 1, offset, rows), turned_k[b])
            assert torch.equal(caches[1][b].narrow(row - 1, offset, rows), v[b])
        assert torch.equal(q_out, turned_q)
        cutplan.kv_cache_append(k, v, *caches, offsets, q=q, q_out=q, **how)
        assert torch.equal(q, turned_q)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", QUANTISED)
def test_every_number_is_rounded_to_nearest_even(device: str, name: str) -> None:
    """All numbers of 16 bits, and those between the quantised ones."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16).float()
    between = torch.arange(-1023, 1024).float() / 8
    values = torch.cat(
        [every[every.isfinite()], between * 2.0**-7, between, between * 600, torch.tensor([3e38, -3e38])]
    )
    values = torch.nn.functional.pad(values, (0, -len(values) % 64)).view(1, 1, -1, 64).to(device)
    rows = values.shape[2]
    caches = [torch.zeros(1, 1, rows, 64, dtype=QUANTISED[name], device=device) for _ in "kv"]
    one = torch.ones(1, device=device)
    zero = torch.zeros(1, dtype=torch.int32, device=device)
    cutplan.kv_cache_append(values, values, *caches, zero, k_scale=one, v_scale=one)
    expected = quantised(values, one, name).view(torch.uint8)
    for cache in caches:
        assert torch.equal(cache.view(torch.uint8), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("operand", ["float16", "bfloat16", "float32"])
def test_turned_and_quantised(device: str, operand: str, name: str, seed: int) -> None:
    source, dtype, dim = generator(device, seed), TORCH[operand], 64
    k = normal((2, 3, 200, dim), dtype, source)
    cos, sin = (normal((300, dim // 2), torch.float32, source) for _ in range(2))
    scale = torch.rand(3, generator=source, device=device) / 10 + 0.01
    caches = [torch.zeros(2, 3, 256, dim, device=device).to(QUANTISED[name]) for _ in "kv"]
    offsets = torch.tensor([3, 50], device=device)
    arguments: dict[str, Any] = {"cos": cos, "sin": sin, "k_scale": scale, "v_scale": scale}
    descriptor = cutplan.KvCacheAppendDescriptor(
        batch=2, heads=3, seq=200, dim=dim, dtype=operand, cache=name, capacity=256, offsets="int64",
        table_rows=300, rotary_dim=dim, scales_by_head=True,
    )  # fmt: skip
    plan = cutplan.KvCacheAppendPlan.select(descriptor, device)
    plan.run(k, k, *caches, offsets, **arguments)
    for b, first in enumerate(offsets.tolist()):
        a, c = (x.double() for x in k[b].chunk(2, -1))
        cosine, sine = (x[first : first + 200].double() for x in (cos, sin))
        exact = torch.cat([a * cosine - c * sine, c * cosine + a * sine], -1) / scale[:, None, None].double()
        size = torch.cat([a.abs() * cosine.abs() + c.abs() * sine.abs()] * 2, -1)
        size[..., dim // 2 :] = c.abs() * cosine.abs() + a.abs() * sine.abs()
        bound = plan.precision_guarantee.error_bound(
            (size / scale[:, None, None]).cpu().numpy(), exact.cpu().numpy()
        )
        limited = exact.clamp(-LARGEST[name] - (name == "int8"), LARGEST[name])
        error = (caches[0][b, :, first : first + 200].double() - limited).abs().cpu()
        assert bool((error <= torch.from_numpy(bound)).all()), float((error / torch.from_numpy(bound)).max())


@pytest.mark.parametrize("device", DEVICES)
def test_token_by_token_is_attention_over_all(device: str, seed: int) -> None:
    """Three lines a token: append, turn, attend."""
    source = generator(device, seed)
    batch, heads, heads_k, dim, length = 2, 4, 2, 32, 11
    shape = (batch, length, heads, dim)
    q = normal(shape, torch.float16, source)
    k, v = (normal((batch, length, heads_k, dim), torch.float16, source) for _ in "kv")
    turned_q, turned_k = cutplan.rope((q, k), layout="bshd")
    whole = cutplan.attention(turned_q, turned_k, v, causal="top_left", layout="bshd")
    caches = [torch.zeros(batch, 16, heads_k, dim, dtype=torch.float16, device=device) for _ in "kv"]
    lengths = torch.zeros(batch, dtype=torch.int32, device=device)
    for t in range(length):
        token_q, token_k = cutplan.rope((q[:, t : t + 1], k[:, t : t + 1]), offsets=lengths, layout="bshd")
        cutplan.kv_cache_append(
            token_k, v[:, t : t + 1], *caches, lengths, lengths_out=(after := lengths.clone()), layout="bshd"
        )
        lengths = after
        o = cutplan.attention(token_q, *caches, seqused_k=lengths, layout="bshd")
        assert torch.allclose(o[:, 0].float(), whole[:, t].float(), atol=2e-3), t
    assert lengths.tolist() == [length] * batch


@pytest.mark.parametrize("device", DEVICES)
def test_far_offsets_are_counted(device: str) -> None:
    k = torch.ones(4, 1, 3, 8, device=device)
    caches = [torch.zeros(4, 1, 5, 8, device=device) for _ in "kv"]
    offsets = torch.tensor([2**63 - 1, -(2**63), 2**62, 2], device=device)
    counted = torch.zeros(1, dtype=torch.int32, device=device)
    cutplan.kv_cache_append(k, k, *caches, offsets, rejected=counted)
    assert int(counted) == 9
    assert all(int(cache.sum()) == 24 for cache in caches)


def test_refusals() -> None:
    k = torch.ones(2, 3, 1, 8)
    cache, offsets = torch.zeros(2, 3, 5, 8), torch.tensor([0, 4])
    with pytest.raises(
        cutplan.InvalidProblem,
        match="operand offsets: from 0 to 4 required for 1 new rows.* got 5 at index 1",
    ):
        cutplan.kv_cache_append(k, k, cache, cache.clone(), torch.tensor([0, 5]))
    with pytest.raises(cutplan.InvalidProblem, match="operand offsets: .* got -1 at index 0"):
        cutplan.kv_cache_append(k, k, cache, cache.clone(), torch.tensor([-1, 0]))
    assert not bool(cache.any())
    with pytest.raises(cutplan.Overlap, match="operand v_cache: must not share memory with operand k_cache"):
        cutplan.kv_cache_append(k, k, cache, cache, offsets)
    whole = torch.zeros(2, 3, 6, 8)
    with pytest.raises(cutplan.Overlap, match="operand k_cache: must not share memory with operand k"):
        cutplan.kv_cache_append(whole[:, :, 5:], k, whole, torch.zeros(2, 3, 6, 8), offsets)
    with pytest.raises(
        cutplan.Overlap, match="operand lengths_out: must not share memory with operand offsets"
    ):
        cutplan.kv_cache_append(k, k, cache, cache.clone(), offsets, lengths_out=offsets)
    with pytest.raises(
        cutplan.Unsupported, match="operand offsets: dtype int32 or int64 required, got float32"
    ):
        cutplan.kv_cache_append(k, k, cache, cache.clone(), offsets.float())
    with pytest.raises(
        cutplan.Unsupported, match="operand k_cache: dtype float32, float8_e4m3fn, .* got float16"
    ):
        cutplan.kv_cache_append(k, k, cache.half(), cache.half(), offsets)
    with pytest.raises(cutplan.DTypeMismatch, match="operand v_cache: dtype float32 required"):
        cutplan.kv_cache_append(k, k, cache, cache.half(), offsets)
    with pytest.raises(cutplan.MissingOperand, match="operand k_scale: given"):
        cutplan.kv_cache_append(
            k, k, cache, cache.clone(), offsets, k_scale=torch.ones(1), v_scale=torch.ones(1)
        )
    with pytest.raises(cutplan.MissingOperand, match="operand k_scale: required"):
        cutplan.kv_cache_append(k, k, cache.to(torch.int8), cache.to(torch.int8), offsets)
    table = torch.zeros(2, 3, dtype=torch.int32)
    pages = torch.zeros(4, 2, 3, 8)
    with pytest.raises(cutplan.DTypeMismatch, match="operand block_table: dtype int32 required, got int64"):
        cutplan.kv_cache_append(k, k, pages, pages.clone(), offsets, block_table=table.long())
    with pytest.raises(
        cutplan.InvalidProblem, match=r"operand block_table: pages from 0 to 3 required, got 9 at \[1, 2\]"
    ):
        cutplan.kv_cache_append(
            k,
            k,
            pages,
            pages.clone(),
            offsets,
            block_table=torch.tensor([[0, 1, 2], [0, 1, 9]], dtype=torch.int32),
        )
    with pytest.raises(cutplan.MissingOperand, match="operand sin: not given"):
        cutplan.kv_cache_append(k, k, cache, cache.clone(), offsets, cos=torch.ones(5, 4))
    with pytest.raises(
        cutplan.InvalidProblem, match="operand cos: a row for each position up to 4 required, got 3"
    ):
        cutplan.kv_cache_append(
            k, k, cache, cache.clone(), offsets, cos=torch.ones(3, 4), sin=torch.ones(3, 4)
        )
    with pytest.raises(cutplan.InvalidProblem, match="operand q: cos and sin required with it"):
        cutplan.kv_cache_append(k, k, cache, cache.clone(), offsets, q=k, q_out=k.clone())
    with pytest.raises(cutplan.MissingOperand, match="operand q_out: required, not given"):
        cutplan.kv_cache_append(
            k, k, cache, cache.clone(), offsets, q=k, cos=torch.ones(5, 4), sin=torch.ones(5, 4)
        )
    with pytest.raises(
        cutplan.InvalidProblem,
        match="sequences: 2, those of k and v, required without cache_batch_idx, got 3",
    ):
        cutplan.kv_cache_append(k, k, torch.zeros(3, 3, 5, 8), torch.zeros(3, 3, 5, 8), offsets)
    with pytest.raises(cutplan.ShapeMismatch, match="operand v_cache: shape"):
        cutplan.kv_cache_append(k, k, cache, torch.zeros(2, 3, 6, 8), offsets)
