"""Matrix multiplication and attention kernels behind typed plans that take any DLPack tensor.

    import cutplan

    y = cutplan.matmul(a, b, bias=bias, activation="gelu_erf")  # NumPy, torch, CuPy or JAX in, the same out
    o = cutplan.attention(q, k, v, causal="bottom_right")  # [batch, heads, sequence, head dimension]

    descriptor = cutplan.GemmDescriptor(m=4096, n=4096, k=4096, a="bfloat16")
    plan = cutplan.GemmPlan.select(descriptor, device="cuda:0")  # which kernel, how exact, how much scratch
    plan.run(a, b, d)  # enqueue: no allocation, no copy, no synchronisation

Nothing is copied or cast behind the caller's back: what a kernel cannot read is refused, and the error names
the operand, what is required, what came and what would work.
"""

from __future__ import annotations

from ._attention import AttentionGradients, attention, attention_backward
from ._core import (
    Activation,
    Align,
    Arch,
    Backend,
    Causal,
    DeviceError,
    DeviceMismatch,
    DeviceProperties,
    DType,
    DTypeMismatch,
    Epilogue,
    Error,
    ExportRefused,
    FmhaBackwardDescriptor,
    FmhaBackwardPlan,
    FmhaDescriptor,
    FmhaLayout,
    FmhaPlan,
    FmhaSupport,
    GemmDescriptor,
    GemmLayout,
    GemmPlan,
    GemmSupport,
    InvalidProblem,
    KernelSku,
    LayoutMismatch,
    Math,
    Misaligned,
    MissingOperand,
    Overlap,
    PlanPreference,
    PrecisionGuarantee,
    ReadOnly,
    ShapeMismatch,
    TensorInfo,
    TensorView,
    Unsupported,
    WorkspaceTooSmall,
    built_architectures,
    cuda_device_count,
    cuda_unavailable_reason,
    describe,
    describe_attention,
    device_properties,
    fmha_kernels,
    fmha_registry,
    fmha_support,
    gemm_kernels,
    gemm_registry,
    gemm_support,
    inspect,
    version,
)
from ._dtypes import as_dtype
from ._functional import matmul

__version__ = version()

__all__ = [
    "Activation",
    "Align",
    "Arch",
    "AttentionGradients",
    "Backend",
    "Causal",
    "DType",
    "DTypeMismatch",
    "DeviceError",
    "DeviceMismatch",
    "DeviceProperties",
    "Epilogue",
    "Error",
    "ExportRefused",
    "FmhaBackwardDescriptor",
    "FmhaBackwardPlan",
    "FmhaDescriptor",
    "FmhaLayout",
    "FmhaPlan",
    "FmhaSupport",
    "GemmDescriptor",
    "GemmLayout",
    "GemmPlan",
    "GemmSupport",
    "InvalidProblem",
    "KernelSku",
    "LayoutMismatch",
    "Math",
    "Misaligned",
    "MissingOperand",
    "Overlap",
    "PlanPreference",
    "PrecisionGuarantee",
    "ReadOnly",
    "ShapeMismatch",
    "TensorInfo",
    "TensorView",
    "Unsupported",
    "WorkspaceTooSmall",
    "as_dtype",
    "attention",
    "attention_backward",
    "built_architectures",
    "cuda_device_count",
    "cuda_unavailable_reason",
    "describe",
    "describe_attention",
    "device_properties",
    "fmha_kernels",
    "fmha_registry",
    "fmha_support",
    "gemm_kernels",
    "gemm_registry",
    "gemm_support",
    "inspect",
    "matmul",
    "version",
]
