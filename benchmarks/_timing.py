"""Times contenders against each other: in every round each takes one turn, in random order, so that clock,
heat and power meet all of them alike.

On a GPU a turn lies between two CUDA events, and before it a buffer several times the size of L2 is written,
so that operands come from memory as they do in a model; or it is read: what is written has yet to be written
back, during the turn, which is a third more traffic for a product of few rows. The host runs ahead: while the
GPU is at the buffer, the turn is already enqueued, and its host time is not in the sample.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Literal

import torch

import cutplan

Flush = Literal["written", "read"]

WARM_UP_ROUNDS = 3
_LEAST_FLUSH_BYTES = 256 << 20


class Stopwatch:
    """Takes the samples of one device."""

    def __init__(self, device: str, seed: int) -> None:
        self._random = random.Random(seed)
        self.flush_bytes = 0
        if device != "cpu":
            self.flush_bytes = max(_LEAST_FLUSH_BYTES, 4 * cutplan.device_properties(device).l2_bytes)
            self._flush = torch.zeros(self.flush_bytes // 4, dtype=torch.int32, device=device)

    def compare(
        self, contenders: Mapping[str, Callable[[], object]], rounds: int, *, flush: Flush = "written"
    ) -> dict[str, list[float]]:
        """Microseconds of every turn of every contender, in the order of the rounds."""
        for _ in range(WARM_UP_ROUNDS):
            for call in contenders.values():
                call()
        turns = list(contenders.items())
        if self.flush_bytes == 0:
            return self._on_host(turns, rounds)
        return self._on_gpu(turns, rounds, flush)

    def _on_host(self, turns: list[tuple[str, Callable[[], object]]], rounds: int) -> dict[str, list[float]]:
        samples: dict[str, list[float]] = {name: [] for name, _ in turns}
        for _ in range(rounds):
            self._random.shuffle(turns)
            for name, call in turns:
                start = time.perf_counter_ns()
                call()
                samples[name].append(round((time.perf_counter_ns() - start) * 1e-3, 3))
        return samples

    def _on_gpu(
        self, turns: list[tuple[str, Callable[[], object]]], rounds: int, flush: Flush
    ) -> dict[str, list[float]]:
        events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name, _ in turns}
        for _ in range(rounds):
            self._random.shuffle(turns)
            for name, call in turns:
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                self._flush.zero_() if flush == "written" else self._flush.sum()
                start.record()
                call()
                end.record()
                events[name].append((start, end))
        torch.cuda.synchronize()
        return {
            name: [round(start.elapsed_time(end) * 1e3, 3) for start, end in pairs]
            for name, pairs in events.items()
        }
