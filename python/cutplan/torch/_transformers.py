"""Attention of Hugging Face's models."""

from __future__ import annotations

from typing import Any

import torch

from ._attention import attention
from ._operators import is_traced


def register_transformers(name: str = "cutplan") -> None:
    """Makes ``attn_implementation="cutplan"`` (or `name`) known to transformers.

    Causal and sliding windows, soft caps, sinks, grouped heads, padding and any mask, with a cache and
    without. Where the pattern is a plain causal one or a window no mask is made; padding is one row of it a
    sequence. Attention weights are never there: output_attentions is refused.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(name, attention_forward)
    AttentionMaskInterface.register(name, attention_mask)


def attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """`query` [B, H, Q, D], `key` and `value` [B, Hk, K, D]; the result [B, Q, H, D]."""
    if options.get("output_attentions"):
        raise ValueError("output_attentions: False required by cutplan's attention, which makes no weights")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    causal, window, mask, bias = None, (-1, -1), None, position_bias
    if attention_mask is None or attention_mask.dim() == 2:
        causal = "bottom_right" if is_causal else None
        if sliding_window is not None:
            window = (sliding_window - 1, 0 if is_causal else sliding_window - 1)
        if attention_mask is not None:
            mask = attention_mask[:, None, None, :]
    elif attention_mask.dtype == torch.bool:
        mask = attention_mask
    else:
        bias = attention_mask if bias is None else bias + attention_mask
    o = attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), layout="bshd", causal=causal,
        scale=scaling, window=window, softcap=softcap or 0.0, mask=mask, bias=bias, sink=s_aux,
        dropout_p=dropout,
    )  # fmt: skip
    return o, None


def attention_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Any = None,
    attention_mask: torch.Tensor | None = None,
    **options: Any,
) -> torch.Tensor | None:
    """None where causality and the window say all; bool [B, K] where there is padding beside; else bool [B,
    1, Q, K]."""
    from transformers import masking_utils

    if (
        isinstance(q_offset, int)
        and q_offset + q_length == kv_offset + kv_length
        and _is_known(mask_function, masking_utils)
        and options.get("allow_is_causal_skip", True)
    ):
        padding = masking_utils.prepare_padding_mask(attention_mask, kv_length, kv_offset)
        if padding is None:
            return None
        padding = padding[:, kv_offset : kv_offset + kv_length].bool()
        return None if not is_traced(padding) and bool(padding.all()) else padding
    return masking_utils.sdpa_mask(
        batch_size=batch_size, q_length=q_length, kv_length=kv_length, q_offset=q_offset, kv_offset=kv_offset,
        mask_function=mask_function, attention_mask=attention_mask,
        **{**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False},
    )  # fmt: skip


def _is_known(mask_function: Any, masking_utils: Any) -> bool:
    """Whether it is the causal pattern, or a window's, which the model hands to attention itself."""
    if mask_function is masking_utils.causal_mask_function:
        return True
    window = masking_utils.sliding_window_causal_mask_function(1)
    return _code(mask_function) == _code(window)


def _code(function: Any) -> Any:
    """Of a function made of functions: theirs."""
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    inner = [x for cell in cells for x in (cell if isinstance(cell, tuple) else (cell,)) if callable(x)]
    return getattr(function, "__code__", function), tuple(map(_code, inner))
