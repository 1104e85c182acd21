"""What quantised layers cost in accuracy: a small GPT of bytes, trained on Python's manual, in each format.

    python -m benchmarks.formats                  # on a CPU: accuracy has no need of another device
    python -m benchmarks.formats --training       # instead: how its loss falls, in float32 and in float8

Errors are |x - y| / |y| over all elements, y that of float32: of one layer whose weights and inputs are
normal, and of the model's logits for the last tenth of the text, which training has not seen; of that also
the loss, in nats a byte, beside float32's.
"""

from __future__ import annotations

import argparse
import copy
import functools
import pydoc_data.topics
from typing import Any

import torch

import cutplan.torch as ct
from examples.torch_gpt import GPT

LENGTH, BATCH = 128, 8
FORMATS: dict[str, dict[str, Any]] = {
    "bfloat16": {},
    "w4a16, int4, groups of 128": {"format": "w4a16"},
    "w4a16, int4, groups of 32": {"format": "w4a16", "group_size": 32},
    "w4a16, uint4, groups of 128": {"format": "w4a16", "weights": "uint4"},
    "w4a16, uint4, groups of 32": {"format": "w4a16", "weights": "uint4", "group_size": 32},
    "w4a16, nf4, groups of 64": {"format": "w4a16", "weights": "nf4", "group_size": 64},
    "w4a16, e2m1, groups of 32": {"format": "w4a16", "weights": "e2m1", "group_size": 32},
    "w4a16, int8, groups of 128": {"format": "w4a16", "weights": "int8"},
    "w4a16, e4m3, rows": {"format": "w4a16", "weights": "e4m3", "group_size": -1},
    "w8a8": {"format": "w8a8"},
    "fp8": {"format": "fp8"},
}


def text() -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes to train with, and those to evaluate with: what pydoc shows of the language's reference."""
    topics: dict[str, str] = pydoc_data.topics.topics
    pages = "".join(topics[name] for name in sorted(topics)).encode()
    read = torch.frombuffer(bytearray(pages), dtype=torch.uint8).long()
    cut = len(read) * 9 // 10
    return read[:cut], read[cut:]


def batch(read: torch.Tensor, source: torch.Generator) -> torch.Tensor:
    starts = torch.randint(0, len(read) - LENGTH - 1, (BATCH,), generator=source)
    return torch.stack([read[start : start + LENGTH + 1] for start in starts.tolist()])


def loss_of(logits: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def train(model: GPT, read: torch.Tensor, steps: int) -> list[float]:
    source = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(steps):
        tokens = batch(read, source)
        loss = loss_of(model(tokens[:, :-1]), tokens)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def weight_bits(model: GPT) -> float:
    """Of a weight in the blocks, with all that is beside it."""
    state = {name: x for name, x in model.blocks.state_dict().items() if "norm" not in name}
    held = sum(x.numel() * x.element_size() for x in state.values())
    weights = sum(
        layer.in_features * layer.out_features
        for layer in model.blocks.modules()
        if isinstance(layer, torch.nn.Linear)
    )
    return float(8 * held / weights)


def error(got: torch.Tensor, exact: torch.Tensor) -> float:
    return float((got - exact).norm() / exact.norm())


def error_of_layer(options: dict[str, Any]) -> float:
    source = torch.Generator().manual_seed(2)
    layer = torch.nn.Sequential(torch.nn.Linear(512, 256, bias=False))
    layer[0].weight.copy_(torch.randn(256, 512, generator=source))
    x = torch.randn(64, 512, generator=source)
    exact = layer(x)
    if options:
        ct.quantize_module(layer, **options)
    return error(layer.to(torch.bfloat16)(x.to(torch.bfloat16)).float(), exact)


def training_errors() -> None:
    """Of one layer with normal weights, inputs and gradients."""
    source = torch.Generator().manual_seed(3)
    weight, x, grad = (torch.randn(shape, generator=source) for shape in ((256, 512), (256, 512), (256, 256)))
    leaves = [x.requires_grad_(), weight.requires_grad_()]

    def step(layer: Any) -> list[torch.Tensor]:
        y = layer(x, weight)
        return [y.detach(), *torch.autograd.grad(y, leaves, grad)]

    exact = step(torch.nn.functional.linear)
    print("\n| | error of Y | of dX | of dW |\n|---|---|---|---|")
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        got = step(functools.partial(ct.float8_linear, grad_dtype=dtype))
        errors = " | ".join(f"{error(a, b):.4f}" for a, b in zip(got, exact, strict=True))
        print(f"| gradients {str(dtype).removeprefix('torch.')} | {errors} |")


def accuracy(model: GPT, unseen: torch.Tensor) -> None:
    source = torch.Generator().manual_seed(1)
    tokens = [batch(unseen, source) for _ in range(2)]
    with torch.no_grad():
        exact = [model(t[:, :-1]) for t in tokens]
        loss = sum(loss_of(y, t).item() for y, t in zip(exact, tokens, strict=True)) / len(tokens)
        print(f"loss of float32: {loss:.4f}\n")
        print(
            "| | bits a weight | error of a layer | of logits | loss beside float32's |\n"
            "|---|---|---|---|---|"
        )
        for name, options in FORMATS.items():
            other = copy.deepcopy(model)
            if options:
                ct.quantize_module(other, skip=["head"], **options)
            other = other.to(torch.bfloat16)
            got = [other(t[:, :-1]).float() for t in tokens]
            of_logits = error(torch.stack(got), torch.stack(exact))
            worse = sum(loss_of(y, t).item() for y, t in zip(got, tokens, strict=True)) / len(tokens) - loss
            of_layer = error_of_layer(options)
            numbers = f"{weight_bits(other):.2f} | {of_layer:.4f} | {of_logits:.4f} | {worse:+.4f}"
            print(f"| {name} | {numbers} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--training", action="store_true")
    options = parser.parse_args()
    read, unseen = text()
    torch.manual_seed(0)
    model = GPT(vocabulary=256, length=LENGTH, width=256, heads=4, layers=2)
    if not options.training:
        train(model, read, options.steps)
        accuracy(model, unseen)
        training_errors()
        return
    for name, choice in {
        "float32": None,
        "fp8": {},
        "fp8, gradients float8_e5m2": {"grad_dtype": torch.float8_e5m2},
    }.items():
        other = copy.deepcopy(model)
        if choice is not None:
            ct.quantize_module(other, "fp8", training=True, skip=["head"], **choice)
        losses = train(other, read, options.steps)
        marks = [losses[0], *(sum(losses[i - 10 : i]) / 10 for i in range(50, len(losses) + 1, 50))]
        print(name, " ".join(f"{x:.3f}" for x in marks), flush=True)


if __name__ == "__main__":
    main()
