"""cutplan's kernels in JAX programs.

    import cutplan.jax

    y = jax.jit(lambda x, w: cutplan.jax.matmul(x, w, transpose_b=True, activation="silu"))(x, w)

The functions take and return jax.Arrays, inside and outside of jit, grad, vmap, shard_map and jax.export.
Importing this package registers its targets with XLA, for CPUs and for NVIDIA's GPUs.
"""

from __future__ import annotations

from ._attention import attention, dot_product_attention
from ._attention_ops import KvCache, alibi, kv_cache_append, merge_states, rope
from ._call import export_checks
from ._grouped import grouped_matmul
from ._matmul import matmul

__all__ = [
    "KvCache",
    "alibi",
    "attention",
    "dot_product_attention",
    "export_checks",
    "grouped_matmul",
    "kv_cache_append",
    "matmul",
    "merge_states",
    "rope",
]
