"""cutplan in torch's own terms: functions and modules with gradients, and operators for what traces.

from cutplan.torch import linear, scaled_dot_product_attention

Importing this registers the operators ``torch.ops.cutplan.*``. Under torch.compile, torch.export, torch.func
and modes such as FlopCounterMode a call is one of them; otherwise it goes straight to a plan, through an
autograd function where gradients are recorded. Everything works on the CPU, too, by the host backend.
"""

from ._attention import attention, scaled_dot_product_attention
from ._attention_ops import alibi, kv_cache_append, merge_states, rope
from ._grouped import grouped_matmul
from ._matmul import gated_mlp, linear, matmul
from ._modules import GatedMLP, Linear, MultiheadAttention, Replacement, replace_modules
from ._quantize_modules import Float8Linear, QuantizedLinear, quantize_module
from ._quantized import dequantize, float8_linear, quantize, unpack_weights
from ._transformers import register_transformers

__all__ = [
    "Float8Linear",
    "GatedMLP",
    "Linear",
    "MultiheadAttention",
    "QuantizedLinear",
    "Replacement",
    "alibi",
    "attention",
    "dequantize",
    "float8_linear",
    "gated_mlp",
    "grouped_matmul",
    "kv_cache_append",
    "linear",
    "matmul",
    "merge_states",
    "quantize",
    "quantize_module",
    "register_transformers",
    "replace_modules",
    "rope",
    "scaled_dot_product_attention",
    "unpack_weights",
]
