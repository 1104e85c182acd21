"""Trains a small GPT twice from the same weights, on torch's layers and attention and on cutplan's.

    python examples/torch_gpt.py             # 100 million parameters on a GPU, a tiny one on a CPU
    python examples/torch_gpt.py --compile   # both under torch.compile

Text is made up: each token follows from the one before it, with noise, so that there is something to learn.
Both see the same batches; the loss, of the last tenth of the steps too, and the median time of a step are
printed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from typing import Any

import torch

import cutplan.torch as ct


class Block(torch.nn.Module):
    """A pre-norm layer. Its attention and its layers are torch's until cutplan's are put in their place."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.RMSNorm(width), torch.nn.RMSNorm(width)
        self.qkv = torch.nn.Linear(width, 3 * width, bias=False)
        self.out = torch.nn.Linear(width, width, bias=False)
        self.mlp = MLP(width, width * 8 // 3 // 64 * 64)
        self.attention: Any = torch.nn.functional.scaled_dot_product_attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        o = self.attention(q, k, v, is_causal=True)
        x = x + self.out(o.transpose(1, 2).flatten(-2))
        return x + self.mlp(self.norm2(x))


class MLP(torch.nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = torch.nn.Linear(width, hidden, bias=False)
        self.up_proj = torch.nn.Linear(width, hidden, bias=False)
        self.down_proj = torch.nn.Linear(hidden, width, bias=False)
        self.act_fn = torch.nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class GPT(torch.nn.Module):
    def __init__(self, vocabulary: int, length: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.tokens, self.places = torch.nn.Embedding(vocabulary, width), torch.nn.Embedding(length, width)
        self.blocks = torch.nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = torch.nn.RMSNorm(width)
        self.head = torch.nn.Linear(width, vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def made_up_text(vocabulary: int, shape: tuple[int, int], source: torch.Generator) -> torch.Tensor:
    batch, length = shape
    text = torch.randint(0, vocabulary, (batch, length + 1), generator=source)
    noise = torch.rand(batch, length + 1, generator=source) < 0.1
    for i in range(1, length + 1):
        text[:, i] = torch.where(noise[:, i], text[:, i], (5 * text[:, i - 1] + 7) % vocabulary)
    return text


def train(model: GPT, batches: list[torch.Tensor], compiled: bool) -> tuple[list[float], float]:
    """The losses, and the median time of a step in ms."""
    device = next(model.parameters()).device
    run: Any = torch.compile(model) if compiled else model
    is_gpu = device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3 if is_gpu else 1e-2, fused=is_gpu)
    losses, times = [], []
    for batch in batches:
        batch = batch.to(device)
        start = time.perf_counter()
        logits = run(batch[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())  # waits for the device
        times.append(time.perf_counter() - start)
    return losses, 1e3 * statistics.median(times)


def main() -> None:
    has_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=200 if has_gpu else 40)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    device = "cuda" if has_gpu else "cpu"
    sizes = {"vocabulary": 8192, "length": 1024, "width": 768, "heads": 12, "layers": 13}
    if not has_gpu:
        sizes = {"vocabulary": 64, "length": 32, "width": 64, "heads": 4, "layers": 2}
    torch.manual_seed(options.seed)
    of_torch = GPT(**sizes).to(device, torch.bfloat16 if has_gpu else torch.float32)
    ours = copy.deepcopy(of_torch)
    done = ct.replace_modules(ours)
    for block in ours.blocks:
        block.attention = ct.scaled_dot_product_attention
    count = sum(p.numel() for p in ours.parameters())
    print(f"{count / 1e6:.1f} million parameters on {device}; replaced {len(done.replaced)} modules")

    source = torch.Generator().manual_seed(options.seed)
    shape = (8, sizes["length"])
    batches = [made_up_text(sizes["vocabulary"], shape, source) for _ in range(options.steps)]
    last = max(options.steps // 10, 1)
    for name, model in (("torch", of_torch), ("cutplan", ours)):
        losses, step = train(model, batches, options.compile)
        print(f"{name:8} loss {losses[0]:.3f} -> {statistics.mean(losses[-last:]):.3f}, {step:.1f} ms a step")


if __name__ == "__main__":
    main()
