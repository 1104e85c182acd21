"""cutplan for torch."""

from ._attention import attention, scaled_dot_product_attention
from ._attention_ops import alibi, kv_cache_append, merge_states, rope
from ._grouped import grouped_matmul
from ._matmul import gated_mlp, linear, matmul

__all__ = [
    "alibi",
    "attention",
    "gated_mlp",
    "grouped_matmul",
    "kv_cache_append",
    "linear",
    "matmul",
    "merge_states",
    "rope",
    "scaled_dot_product_attention",
]
