"""Tensors for the ops around attention: of any strides, in memory whose rest must stay as it is."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch

from tests.gemm.problems import TORCH, generator

__all__ = ["DEVICES", "FLOATS", "TORCH", "Home", "generator", "normal"]

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
FLOATS = ["float64", "float32", "float16", "bfloat16"]
_POISON = 0x7B


class Home:
    """A tensor in a larger buffer: outer dimensions in any order with gaps between, rows adjacent."""

    def __init__(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: str,
        chance: random.Random | None = None,
        free_rows: bool = False,
    ) -> None:
        rank = len(shape)
        order, gaps, element = list(range(rank - 1)), [0] * rank, 1
        offset = 0
        if chance is not None:
            chance.shuffle(order)
            gaps = [chance.choice([0, 0, 1, 3, 8]) for _ in shape]
            offset = chance.choice([0, 1, 8])
            element = chance.choice([1, 2]) if free_rows else 1
        strides = [0] * rank
        reach = element * shape[-1] + gaps[-1]
        strides[-1] = element
        for dimension in reversed(order):
            strides[dimension] = reach
            reach = reach * shape[dimension] + gaps[dimension]
        size = offset + max(reach, 1)
        self.bytes = torch.full((size * dtype.itemsize,), _POISON, dtype=torch.uint8, device=device)
        self.view = self.bytes.view(dtype).as_strided(tuple(shape), strides, offset)

    def set(self, values: torch.Tensor) -> torch.Tensor:
        self.view.copy_(values)
        return self.view

    def rest_is_poison(self) -> bool:
        """Whether all that is not of the view is as it was made."""
        view, size = self.view, self.view.dtype.itemsize
        mine = torch.zeros_like(self.bytes).view(view.dtype)
        mine.as_strided(view.shape, view.stride(), view.storage_offset()).fill_(1)
        outside = (mine.view(torch.uint8).view(-1, size) == 0).all(1).repeat_interleave(size)
        return bool((self.bytes[outside] == _POISON).all())


def normal(
    shape: Sequence[int], dtype: torch.dtype, source: torch.Generator, scale: float = 1.0
) -> torch.Tensor:
    values = torch.randn(tuple(shape), generator=source, device=source.device, dtype=torch.float64)
    return (values * scale).to(dtype)
