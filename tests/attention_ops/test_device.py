"""What a device adds: graphs that are replayed, streams, threads, and more elements than 32 bits count."""

from __future__ import annotations

import threading

import pytest
import torch

import cutplan
from tests.attention_ops.problems import generator, normal

pytestmark = pytest.mark.cuda


def test_a_step_of_decoding_is_replayed_with_new_offsets(seed: int) -> None:
    """Append, turn and attend in one graph, whose offsets are in device memory."""
    source = generator("cuda", seed)
    batch, heads, heads_k, dim, length = 2, 4, 2, 64, 9
    q = normal((batch, length, heads, dim), torch.float16, source)
    k, v = (normal((batch, length, heads_k, dim), torch.float16, source) for _ in "kv")
    caches = [torch.zeros(batch, 16, heads_k, dim, dtype=torch.float16, device="cuda") for _ in "kv"]
    token = [x[:, :1].clone() for x in (q, k, v)]
    offsets, lengths = (torch.zeros(batch, dtype=torch.int32, device="cuda") for _ in range(2))
    rejected = torch.zeros(1, dtype=torch.int32, device="cuda")

    def step() -> torch.Tensor:
        turned_q, turned_k = cutplan.rope((token[0], token[1]), offsets=offsets, layout="bshd")
        cutplan.kv_cache_append(
            turned_k, token[2], *caches, offsets, lengths_out=lengths, rejected=rejected, layout="bshd"
        )
        return cutplan.attention(turned_q, *caches, seqused_k=lengths, layout="bshd")

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        o = step()
    turned_q, turned_k = cutplan.rope((q, k), layout="bshd")
    whole = cutplan.attention(turned_q, turned_k, v, causal="top_left", layout="bshd")
    for t in range(length):
        for to, of in zip(token, (q, k, v), strict=True):
            to.copy_(of[:, t : t + 1])
        offsets.fill_(t)
        graph.replay()
        assert torch.allclose(o[:, 0].float(), whole[:, t].float(), atol=2e-3), t
    assert lengths.tolist() == [length] * batch and int(rejected) == 0
    offsets.fill_(16)  # no room
    graph.replay()
    assert int(rejected) == batch


def test_offsets_on_another_device() -> None:
    k, offsets = torch.ones(2, 3, 1, 8, device="cuda"), torch.zeros(2, dtype=torch.int32)
    caches = [torch.zeros(2, 3, 5, 8, device="cuda") for _ in "kv"]
    with pytest.raises(cutplan.DeviceMismatch, match="operand offsets: must be on cuda:0"):
        cutplan.kv_cache_append(k, k, *caches, offsets)


def test_packed_rows_of_no_sequence(seed: int) -> None:
    """Padding before the first sequence and behind the last, as graphs have it: not written, and counted."""
    source = generator("cuda", seed)
    k, v = (normal((20, 3, 16), torch.float16, source) for _ in "kv")
    bounds = torch.tensor([2, 5, 5, 11], dtype=torch.int32, device="cuda")
    offsets = torch.tensor([1, 0, 4], dtype=torch.int32, device="cuda")
    caches = [torch.full((3, 12, 3, 16), 7.0, dtype=torch.float16, device="cuda") for _ in "kv"]
    counted, lengths = (torch.zeros(n, dtype=torch.int32, device="cuda") for n in (1, 3))
    cutplan.kv_cache_append(
        k, v, *caches, offsets, cu_seqlens=bounds, lengths_out=lengths, rejected=counted, layout="bshd"
    )
    for cache, rows in zip(caches, (k, v), strict=True):
        expected = torch.full_like(cache, 7.0)
        expected[0, 1:4], expected[2, 4:10] = rows[2:5], rows[5:11]
        assert torch.equal(cache, expected)
    assert int(counted) == 20 - 9 and lengths.tolist() == [4, 0, 10]
    turned = cutplan.rope(k, cu_seqlens=bounds, offsets=offsets, layout="bshd")
    assert torch.equal(turned[:2], k[:2]) and torch.equal(turned[11:], k[11:])  # at position 0
    assert torch.equal(turned[2:5], cutplan.rope(k[None, 2:5], offsets=offsets[:1], layout="bshd")[0])
    # Rows without any sequence.
    none = {"cu_seqlens": bounds[:1], "layout": "bshd"}
    assert torch.equal(cutplan.rope(k, offsets=offsets[:0], **none), k)
    counted.zero_()
    empty = [cache[:0] for cache in caches]
    cutplan.kv_cache_append(k, v, *empty, offsets[:0], rejected=counted, **none)  # type: ignore[arg-type]
    assert int(counted) == 20


def test_extents_beyond_those_of_kernels() -> None:
    for descriptor, plan in (
        (cutplan.AlibiDescriptor(heads=1, seq_q=1, seq_k=2**30, dtype="float16"), cutplan.AlibiPlan),
        (cutplan.AlibiDescriptor(heads=1, seq_q=2**30, seq_k=1, dtype="float16"), cutplan.AlibiPlan),
        (cutplan.RopeDescriptor(heads=1, seq=1, dim=2**30, rotary_dim=2, dtype="float16"), cutplan.RopePlan),
        (
            cutplan.KvCacheAppendDescriptor(heads=1, seq=1, dim=8, dim_v=2**30, dtype="float16", capacity=1),
            cutplan.KvCacheAppendPlan,
        ),
        (cutplan.MergeStatesDescriptor(heads=1, rows=1, dim=2**30, dtype="float16"), cutplan.MergeStatesPlan),
    ):
        with pytest.raises(cutplan.Unsupported, match="of 2.30 elements or more"):
            plan.select(descriptor, "cuda")  # type: ignore[attr-defined]


def test_streams_and_threads(seed: int) -> None:
    source = generator("cuda", seed)
    x = normal((4, 8, 512, 64), torch.float16, source)
    expected = cutplan.rope(x)
    scores = normal((2, 8, 256, 256), torch.float32, source)
    slopes = cutplan.alibi_backward(scores).dslopes
    torch.cuda.synchronize()
    failures: list[str] = []

    def work() -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(20):
                turned = cutplan.rope(x)
                summed = cutplan.alibi_backward(scores, dscores=False).dslopes
                stream.synchronize()
                if not (torch.equal(turned, expected) and torch.equal(summed, slopes)):
                    failures.append("another result")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.large
def test_more_than_2_to_31_elements(seed: int) -> None:
    """What lies beyond is as what lies before it."""
    source = generator("cuda", seed)
    head = normal((1, 1, 1 << 20, 128), torch.float16, source)
    x = head.expand(1, 17, 1 << 20, 128).contiguous()
    assert x.numel() > 2**31
    expected = cutplan.rope(head)
    assert cutplan.rope(x, out=x) is x
    for which in (0, 15, 16):
        assert torch.equal(x[:, which], expected[:, 0])
    del x
    rows = normal((1, 1, 1, 1 << 16), torch.float16, source)
    scores = rows.expand(1, 1, 33000, 1 << 16).contiguous()
    assert scores.numel() > 2**31
    one = torch.ones(1, device="cuda")
    last = cutplan.alibi(rows, one, align="bottom_right")
    assert torch.equal(cutplan.alibi(scores, one, align="bottom_right", out=scores)[:, :, -1:], last)
    del scores
    caches = [torch.zeros(1 << 14, 16, 8, 1 << 10, dtype=torch.float16, device="cuda") for _ in "kv"]
    assert caches[0].numel() >= 2**31
    k = normal((1, 8, 1, 1 << 10), torch.float16, source)
    table = torch.tensor([[(1 << 14) - 1]], dtype=torch.int32, device="cuda")
    cutplan.kv_cache_append(k, k, *caches, torch.tensor([15], device="cuda"), block_table=table)
    for cache in caches:
        assert torch.equal(cache[-1, -1], k[0, :, 0])
