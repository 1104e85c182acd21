"""The oracle itself, against torch's float64 attention and differentiation, and Philox's known answers."""

from __future__ import annotations

import math

import pytest
import torch

from tests.fmha import oracle
from tests.fmha.oracle import Operands, attention, kept, philox, visible_keys


def test_philox() -> None:
    """Known answers of Philox4x32-10, published with the Random123 library."""
    for counter, key, answer in (
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ):
        assert " ".join(f"{int(word):08x}" for word in philox(counter, key)) == answer


def test_dropout_takes_half_words_in_order() -> None:
    """One weight at a time, as cpp/src/fmha/score.hpp words it."""
    seed, offset, p = -(2**62) - 12345, 2**40 + 77, 0.3
    mask = kept((seed, offset), p, torch.arange(6).view(2, 3), 5, 21)
    wide_seed = seed & 0xFFFFFFFFFFFFFFFF
    for b, h, i, j in [(0, 0, 0, 0), (1, 2, 4, 20), (1, 0, 3, 7), (0, 2, 2, 8), (0, 1, 1, 13)]:
        words = philox(
            [j // 8, i, b * 3 + h, offset & 0xFFFFFFFF],
            [wide_seed & 0xFFFFFFFF, (wide_seed >> 32) ^ (offset >> 32)],
        )
        bits = int(words[j % 8 // 2]) >> (j % 2 * 16) & 0xFFFF
        assert bool(mask[b, h, i, j]) == (bits < round(0.7 * 65536)), (b, h, i, j)


@pytest.mark.parametrize("alignment", ["top_left", "bottom_right"])
def test_visible_keys(alignment: str) -> None:
    """Against the sentence of the contract, one pair at a time."""
    for len_q, len_k in ((5, 5), (3, 7), (7, 3), (1, 4), (4, 1)):
        for causal in (False, True):
            for left, right in ((-1, -1), (0, 0), (2, -1), (-1, 1), (1, 2)):
                q, k = torch.zeros(1, 1, len_q, 4), torch.zeros(1, 1, len_k, 4)
                which = {"causal": alignment} if causal else {"align": alignment}
                x = Operands(q, k, k, window=(left, right), **which)
                seen, distance = visible_keys(x, len_q, len_k)
                off = 0 if alignment == "top_left" else len_k - len_q
                for i in range(len_q):
                    for j in range(len_k):
                        want = left < 0 or i + off - left <= j
                        want = want and (right < 0 or j <= i + off + right)
                        want = want and (not causal or j <= i + off)
                        assert bool(seen[i, j]) == want
                        assert float(distance[i, j]) == abs(i + off - j)


def random(*shape: int, source: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=source, dtype=torch.float64)


@pytest.mark.parametrize("causal", [False, True])
def test_against_torch(causal: bool, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    q, k = random(2, 4, 9, 5, source=source), random(2, 2, 11, 5, source=source)
    v = random(2, 2, 11, 6, source=source)
    bias = random(1, 4, 9, 11, source=source)
    bias = bias.masked_fill(torch.ones(9, 11).tril().logical_not(), -torch.inf) if causal else bias
    x = Operands(q, k, v, bias=None if causal else bias, causal="top_left" if causal else None)
    wide = [t.repeat_interleave(2, 1) for t in (k, v)]
    attend = torch.nn.functional.scaled_dot_product_attention
    want = attend(q, *wide, is_causal=True) if causal else attend(q, *wide, attn_mask=bias)
    torch.testing.assert_close(attention(x)["o"].exact, want, rtol=1e-12, atol=1e-12)


def _plain(
    x: Operands, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Attention written once more, for automatic differentiation, one batch entry and head at a time."""
    packed = x.cu_seqlens_q is not None
    heads, group = q.shape[-3], q.shape[-3] // k.shape[-3]
    out = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=torch.float64)
    entries = len(x.cu_seqlens_q) - 1 if x.cu_seqlens_q is not None else q.shape[0]
    for b in range(entries):
        rows_q = slice(x.cu_seqlens_q[b], x.cu_seqlens_q[b + 1]) if packed else slice(None)
        rows_k = slice(x.cu_seqlens_k[b], x.cu_seqlens_k[b + 1]) if packed else slice(None)
        for h in range(heads):
            qi = (q if packed else q[b])[h, rows_q]
            ki, vi = ((t if packed else t[b])[h // group, rows_k] for t in (k, v))
            if x.seqused_k is not None:
                ki, vi = ki[: x.seqused_k[b]], vi[: x.seqused_k[b]]
            len_q, len_k = len(qi), len(ki)
            seen, distance = visible_keys(x, len_q, len_k)
            s = qi @ ki.T * (x.scale or 1 / math.sqrt(q.shape[-1]))
            if x.softcap:
                s = x.softcap * torch.tanh(s / x.softcap)
            if "alibi_slopes" in extra:
                slopes = extra["alibi_slopes"]
                s = s - (slopes[b, h] if slopes.ndim == 2 else slopes[h]) * distance
            if "bias" in extra:
                bias = extra["bias"].expand(entries, heads, max(len_q, extra["bias"].shape[2]), -1)
                s = s + bias[b, h, :len_q, :len_k]
            if x.mask is not None:
                seen = seen & x.mask.expand(entries, heads, len_q, -1)[b, h, :, :len_k]
            s = s.masked_fill(~seen, -1e300)
            # where there is no sink, one far below every score takes all the weight of a fully masked row
            logit = extra["sink"][h] if "sink" in extra else torch.tensor(-1e299, dtype=torch.float64)
            sink = logit.expand(len_q, 1)
            p = torch.softmax(torch.cat([s, sink], -1), -1)[:, :-1]
            if x.rng_state is not None:
                keep = kept(x.rng_state, x.dropout_p, torch.tensor(b * heads + h), len_q, len_k)
                p = p * keep * 65536 / oracle.keep_threshold(x.dropout_p)
            if packed:
                out[h, rows_q] = p @ vi
            else:
                out[b, h] = p @ vi
    return out


@pytest.mark.parametrize("bias_dims", ["bhqk", "hqk", "k", "bq", ""])
@pytest.mark.parametrize("packed", [False, True])
def test_gradients_against_automatic_differentiation(packed: bool, bias_dims: str, seed: int) -> None:
    """With everything on at once, fully masked rows and empty sequences included."""
    source = torch.Generator().manual_seed(seed)
    heads, heads_k, dim, dim_v = 4, 2, 3, 5
    cu_q, cu_k = ([0, 4, 4, 11], [0, 6, 9, 9]) if packed else (None, None)
    len_q, len_k = (11, 9) if packed else (5, 7)
    outer = (lambda h: (h,)) if packed else (lambda h: (3, h))
    q = random(*outer(heads), len_q, dim, source=source)
    k = random(*outer(heads_k), len_k, dim, source=source)
    v = random(*outer(heads_k), len_k, dim_v, source=source)
    grad = random(*outer(heads), len_q, dim_v, source=source)
    extents = {"b": 3, "h": heads, "q": len_q, "k": len_k}
    shape = [extents[d] if d in bias_dims else 1 for d in "bhqk"]
    mask = torch.rand(3, 1, len_q, len_k, generator=source) < 0.7
    mask[0, 0, 2] = False
    x = Operands(
        q,
        k,
        v,
        grad,
        bias=None if packed else random(*shape, source=source),
        mask=None if packed else mask,
        alibi_slopes=random(*((heads,) if bias_dims == "k" else (3, heads)), source=source),
        sink=random(heads, source=source) if bias_dims != "k" else None,
        seqused_k=(3, 2, 0) if packed else (7, 0, 4),
        cu_seqlens_q=cu_q,
        cu_seqlens_k=cu_k,
        rng_state=(123, 456),
        dropout_p=0.25,
        causal="top_left" if bias_dims == "k" else None,
        window=(3, 4),
        softcap=1.5,
        scale=0.7,
    )
    extra = {
        name: value.clone().requires_grad_()
        for name in ("bias", "alibi_slopes", "sink")
        if (value := getattr(x, name)) is not None
    }
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    o = _plain(x, *leaves, extra)
    found = attention(x)
    torch.testing.assert_close(found["o"].exact, o.detach(), rtol=1e-11, atol=1e-12)
    gradients = torch.autograd.grad(o, [*leaves, *extra.values()], grad)
    names = ["dq", "dk", "dv", *(f"d{name}" for name in extra)]
    for name, gradient in zip(names, gradients, strict=True):
        one = found[name]
        torch.testing.assert_close(one.exact, gradient, rtol=1e-10, atol=1e-11, msg=name)
        assert (one.magnitude >= one.exact.abs() * (1 - 1e-12)).all(), name
        assert (one.error <= 1e-10 * (1 + one.magnitude)).all(), name
    assert set(found) == {"o", "lse", *names}


def test_magnitudes_are_those_of_the_definition(seed: int) -> None:
    """Where everything is positive and nothing cancels, magnitudes are the values themselves."""
    source = torch.Generator().manual_seed(seed)
    q, k, v = (random(1, 2, 6, 4, source=source).abs() for _ in range(3))
    found = attention(Operands(q, k, v, random(1, 2, 6, 4, source=source).abs()))
    torch.testing.assert_close(found["o"].exact, found["o"].magnitude)
    torch.testing.assert_close(found["dv"].exact, found["dv"].magnitude)
    assert (found["lse"].magnitude == 1).all()
    size = (0.5 * q @ k.mT).amax(-1, keepdim=True)
    torch.testing.assert_close(found["o"].scores, size.expand_as(q))
    torch.testing.assert_close(found["dk"].scores, size.amax(2, keepdim=True).expand_as(k))
