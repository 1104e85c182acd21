"""Models of Hugging Face on cutplan's attention and layers, and on torch's: training steps and generation.

python -m benchmarks.models [--json FILE] [--quick] [--device cpu]

A Llama and a GPT-OSS with random weights, bfloat16 on a GPU. Each is there twice with the same weights: on
torch's scaled_dot_product_attention (GPT-OSS, which has none: eager) and torch.nn.Linear, and on cutplan's
attention, layers and gated MLPs, as register_transformers() and replace_modules() put them in. Rounds run
both, in random order, and wait for the device. Logits are compared before anything is timed.
"""

from __future__ import annotations

import copy
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers

import cutplan.torch as ct
from benchmarks import _report
from benchmarks._programs import OURS, THEIRS, model_rows

ROUNDS, QUICK_ROUNDS, WARM_UP_ROUNDS = 12, 2, 2

_COMMON = {"vocab_size": 32000, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
_SIZES = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
}
_QUICK_SIZES = {**_SIZES, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}


def models(quick: bool) -> dict[str, Any]:
    sizes = _QUICK_SIZES if quick else _SIZES
    window = {"sliding_window": 128, "num_local_experts": 4, "num_experts_per_tok": 2}
    return {
        "Llama": transformers.LlamaConfig(**_COMMON, **sizes),
        "GPT-OSS": transformers.GptOssConfig(**_COMMON, **sizes, **window, head_dim=64),
    }


def _pair(name: str, config: Any, device: str) -> dict[str, Any]:
    torch.manual_seed(0)
    theirs = "eager" if name == "GPT-OSS" else "sdpa"
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=theirs, dtype=dtype)
    model = model.to(device)
    ours = copy.deepcopy(model)
    ct.register_transformers()
    ours.set_attn_implementation("cutplan")
    ct.replace_modules(ours)
    return {OURS: ours, THEIRS: model}


def _train(model: Any, tokens: torch.Tensor) -> Callable[[], None]:
    def step() -> None:
        model(tokens, labels=tokens, use_cache=False).loss.backward()
        model.zero_grad()

    return step


def _generate(model: Any, tokens: torch.Tensor, new: int) -> Callable[[], None]:
    def run() -> None:
        model.generate(tokens, max_new_tokens=new, min_new_tokens=new, do_sample=False)

    return run


def _check(pair: dict[str, Any], tokens: torch.Tensor) -> None:
    with torch.no_grad():
        ours, theirs = (pair[name].eval()(tokens).logits.float() for name in (OURS, THEIRS))
    # Of the median token: where two experts are nearly alike, rounding decides which a token goes to.
    error = ((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).median().item()
    if not error < 0.04:
        sys.exit(f"benchmarks.models: a relative error of {error:.3f} in the median token's logits")


def measure(problem: str, runs: dict[str, Callable[[], None]], rounds: int, device: str) -> _report.Record:
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(WARM_UP_ROUNDS + rounds):
        for name in random.sample(list(runs), len(runs)):
            if device != "cpu":
                torch.cuda.synchronize()
            start = time.perf_counter()
            runs[name]()
            if device != "cpu":
                torch.cuda.synchronize()
            if i >= WARM_UP_ROUNDS:
                samples[name].append(round((time.perf_counter() - start) * 1e6, 1))
    return {
        "problem": problem,
        "contenders": [{"name": name, "microseconds": times} for name, times in samples.items()],
    }


def main(arguments: Sequence[str]) -> None:
    parser = _report.arguments_of("models")
    options = parser.parse_args(arguments)
    device = _report.choose_device(parser, options.device)
    start = time.perf_counter()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    record = _report.begin(
        "models",
        arguments,
        device,
        seed=options.seed,
        rounds=rounds,
        warm_up_rounds=WARM_UP_ROUNDS,
        flush_bytes=0,
    )
    random.seed(options.seed)
    source = torch.Generator(device).manual_seed(options.seed)
    batch, length, prompt, new = (2, 16, 8, 4) if options.quick else (8, 1024, 128, 64)
    record["entries"] = []
    for name, config in models(options.quick).items():
        pair = _pair(name, config, device)
        tokens = torch.randint(3, 32000, (batch, length), generator=source, device=device)
        prompts = torch.randint(3, 32000, (16, prompt), generator=source, device=device)
        _check(pair, tokens[:1])
        training = f"{name}, a training step of {batch} x {length} tokens"
        steps = {key: _train(model.train(), tokens) for key, model in pair.items()}
        record["entries"].append(measure(training, steps, rounds, device))
        generation = f"{name}, {new} tokens for 16 prompts of {prompt}"
        texts = {key: _generate(model.eval(), prompts, new) for key, model in pair.items()}
        record["entries"].append(measure(generation, texts, rounds, device))
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _report.finish(record, device, start, options.json, lambda made: _report.print_table(*model_rows(made)))


if __name__ == "__main__":
    main(sys.argv[1:])
