"""A Llama in each format of quantised layers: how fast it is, what it takes, how far its logits are off.

    python -m benchmarks.llama [--json FILE] [--quick] [--device cpu]

A Llama of Hugging Face with random weights, bfloat16, on cutplan's attention: as it is, on torch.nn.Linear,
and as quantize_module() makes it in each format of benchmarks.formats, but for groups of 32. Decoding is
greedy, one token a step for each sequence, after a prompt that is in the cache: eagerly and, on a GPU, with
the step in a CUDA graph. A sample is the wall time of several steps, or of one prompt. Rounds run all
formats, in random order. Errors are |x - y| / |y| over all logits of random tokens, y those in bfloat16.
"""

from __future__ import annotations

import copy
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

import cutplan.torch as ct
from benchmarks import _report, formats
from benchmarks._programs import UNQUANTISED, llama_rows
from benchmarks.models import QUICK_ROUNDS, ROUNDS, WARM_UP_ROUNDS, measure

FORMATS = {name: options for name, options in formats.FORMATS.items() if "groups of 32" not in name}

_SIZES = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 8,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
_QUICK_SIZES = {
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True)
class Lengths:
    """In tokens."""

    batches: tuple[int, ...] = (1, 64)
    cached: int = 512  # positions that are filled before the first step
    steps: int = 16  # of one sample
    prompt: int = 2048
    compared: int = 512  # whose logits are


_QUICK_LENGTHS = Lengths(batches=(1, 4), cached=16, steps=2, prompt=32, compared=16)


def models(sizes: dict[str, int], device: str) -> tuple[dict[str, Any], list[str]]:
    """The same model in each format, and the names of the linear layers that are left as they are."""
    torch.manual_seed(0)
    ct.register_transformers()
    config = transformers.LlamaConfig(
        **sizes, max_position_embeddings=4096, pad_token_id=0, bos_token_id=1, eos_token_id=None
    )
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(
            config, attn_implementation="cutplan", dtype=torch.bfloat16
        ).eval()
    made: dict[str, Any] = {}
    left: set[str] = set()
    for name, options in FORMATS.items():
        made[name] = copy.deepcopy(model) if options else model
        if options:
            left |= ct.quantize_module(made[name], **options).left.keys()
    return made, sorted(left)


def weight_bytes(model: Any) -> int:
    return sum(x.numel() * x.element_size() for x in model.state_dict().values())


def errors(made: dict[str, Any], tokens: torch.Tensor) -> dict[str, float]:
    exact = made[UNQUANTISED](tokens, use_cache=False).logits.float()
    return {
        name: formats.error(model(tokens, use_cache=False).logits.float(), exact)
        for name, model in made.items()
    }


def decoder(model: Any, tokens: torch.Tensor, cache: Any) -> Callable[[], None]:
    """A step: `tokens` [batch, 1] become those that follow them."""

    def step() -> None:
        # By position: newer versions call the argument `cache`, older ones `past_key_values`.
        tokens.copy_(model(tokens, None, None, cache).logits.argmax(-1))

    return step


def rewind(cache: Any, length: int) -> None:
    for layer in cache.layers:
        layer.cumulative_length.fill_(length)


def decoding(
    made: dict[str, Any], prompts: torch.Tensor, lengths: Lengths, rounds: int
) -> list[_report.Record]:
    """Of all sequences at once: eagerly and, on a GPU, as graphs. What is in the cache does not change how
    long a step takes, so that one serves all formats; every sample takes the steps after the prompt anew."""
    batch, cached = prompts.shape
    model, device = made[UNQUANTISED], prompts.device.type
    cache = transformers.StaticCache(config=model.config, max_cache_len=cached + lengths.steps)
    model(prompts, None, None, cache, logits_to_keep=1)
    tokens = prompts[:, -1:].clone()

    def repeated(step: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            rewind(cache, cached)
            for _ in range(lengths.steps):
                step()

        return run

    problem = f"{batch} sequence{'s' if batch > 1 else ''}"
    steps = {name: decoder(model, tokens, cache) for name, model in made.items()}
    eager = {name: repeated(step) for name, step in steps.items()}
    entries = [measure(problem, eager, rounds, device)]
    if device != "cpu":
        graphs, refused = {}, []
        for name, step in steps.items():
            rewind(cache, cached)
            try:
                graphs[name] = repeated(_captured(step))
            except RuntimeError as error:
                refused.append({"name": name, "refused": str(error).partition("\n")[0]})
        entry = measure(f"{problem}, CUDA graph", graphs, rounds, device)
        entry["contenders"] += refused
        entries.append(entry)
    for entry in entries:
        entry["tokens"] = batch * lengths.steps
    return entries


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    """Of a step that has run before, so that its plans are selected."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def prompt(made: dict[str, Any], tokens: torch.Tensor, rounds: int) -> _report.Record:
    """As generation reads it: into a new cache, and the logits of its last token alone."""

    def run_of(model: Any) -> Callable[[], None]:
        def run() -> None:
            model(tokens, use_cache=True, logits_to_keep=1)

        return run

    runs = {name: run_of(model) for name, model in made.items()}
    entry = measure(f"a prompt of {tokens.numel()}", runs, rounds, tokens.device.type)
    return {**entry, "tokens": tokens.numel()}


def report(record: _report.Record) -> None:
    left = ", ".join(record["left"])
    print(f"tokens a second, and x those of {UNQUANTISED}; {left} and embeddings are not quantised")
    _report.print_table(*llama_rows(record))
    for entry in record["entries"]:
        for c in entry["contenders"]:
            if "refused" in c:
                print(f"{entry['problem']}, {c['name']}: {c['refused']}")


def main(arguments: Sequence[str]) -> None:
    parser = _report.arguments_of("llama")
    options = parser.parse_args(arguments)
    device = _report.choose_device(parser, options.device)
    start = time.perf_counter()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    sizes, lengths = (_QUICK_SIZES, _QUICK_LENGTHS) if options.quick else (_SIZES, Lengths())
    record = _report.begin(
        "llama",
        arguments,
        device,
        seed=options.seed,
        rounds=rounds,
        warm_up_rounds=WARM_UP_ROUNDS,
        flush_bytes=0,
    )
    record["versions"]["transformers"] = transformers.__version__
    random.seed(options.seed)
    source = torch.Generator(device).manual_seed(options.seed)

    def tokens(batch: int, length: int) -> torch.Tensor:
        return torch.randint(3, sizes["vocab_size"], (batch, length), generator=source, device=device)

    with torch.no_grad():
        made, left = models(sizes, device)
        off = errors(made, tokens(1, lengths.compared))
        record |= {
            "model": sizes,
            "left": left,
            "cached": lengths.cached,
            "compared": lengths.compared,
            "formats": [
                {"name": name, "bytes": weight_bytes(model), "error": off[name]}
                for name, model in made.items()
            ],
            "entries": [],
        }
        for batch in lengths.batches:
            record["entries"] += decoding(made, tokens(batch, lengths.cached), lengths, rounds)
        record["entries"].append(prompt(made, tokens(1, lengths.prompt), rounds))
    _report.finish(record, device, start, options.json, report)


if __name__ == "__main__":
    main(sys.argv[1:])
