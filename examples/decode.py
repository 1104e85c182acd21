"""Decoding with a cache, token by token, against attention over the whole sequence.

A step reads positions from `lengths`, in device memory, and writes the next ones to `after`. The two then
swap: a tensor that a step reads is not written by it.
"""

from __future__ import annotations

import torch

import cutplan


def rope_tables(positions: int, dim: int, base: float = 10000.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [positions, dim / 2] in float64."""
    frequencies = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies)
    return angles.cos(), angles.sin()


def exact_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """All tokens at once, in float64."""

    def turned(x: torch.Tensor) -> torch.Tensor:
        a, b = x.double().chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    return torch.nn.functional.scaled_dot_product_attention(
        turned(q), turned(k), v.double(), is_causal=True, enable_gqa=True
    )


def main() -> None:
    gpu = cutplan.cuda_device_count() > 0 and torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    batch, heads, heads_k, dim, tokens, capacity = 2, 8, 2, 64, 24, 32

    def random(of_heads: int) -> torch.Tensor:
        return torch.randn(batch, of_heads, tokens, dim, device=device).to(dtype)

    q, k, v = random(heads), random(heads_k), random(heads_k)
    k_cache, v_cache = torch.zeros(2, batch, heads_k, capacity, dim, device=device, dtype=dtype)
    lengths, after = torch.zeros(2, batch, device=device, dtype=torch.int32)
    wide_cos, wide_sin = (table.to(device) for table in rope_tables(capacity, dim))
    cos, sin = wide_cos.float(), wide_sin.float()

    exact = exact_attention(q, k, v, wide_cos[:tokens], wide_sin[:tokens])
    worst = 0.0
    for t in range(tokens):
        new_q, new_k, new_v = (x[:, :, t : t + 1] for x in (q, k, v))

        new_q = cutplan.rope(new_q, cos=cos, sin=sin, offsets=lengths)
        cutplan.kv_cache_append(new_k, new_v, k_cache, v_cache, lengths, cos=cos, sin=sin, lengths_out=after)
        o = cutplan.attention(new_q, k_cache, v_cache, seqused_k=after)
        lengths, after = after, lengths

        right = exact[:, :, t : t + 1]
        worst = max(worst, ((o.double() - right).norm() / right.norm()).item())
    print(f"{tokens} tokens of {batch} sequences, one by one: at most {worst:.1e} from float64")
    assert lengths.tolist() == [tokens] * batch
    assert worst < (0.02 if dtype is torch.bfloat16 else 1e-5)


if __name__ == "__main__":
    main()
