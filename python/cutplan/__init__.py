"""Matrix multiplication kernels behind typed plans that take any DLPack tensor.

    import cutplan

    y = cutplan.matmul(a, b, bias=bias, activation="gelu_erf")  # NumPy, torch, CuPy or JAX in, the same out

    descriptor = cutplan.GemmDescriptor(m=4096, n=4096, k=4096, a="bfloat16")
    plan = cutplan.GemmPlan.select(descriptor, device="cuda:0")  # which kernel, how exact, how much scratch
    plan.run(a, b, d)  # enqueue: no allocation, no copy, no synchronisation

Nothing is copied or cast behind the caller's back: what a kernel cannot read is refused, and the error names
the operand, what is required, what came and what would work.
"""

from __future__ import annotations

from ._core import (
    Activation,
    Arch,
    Backend,
    DeviceError,
    DeviceMismatch,
    DeviceProperties,
    DType,
    DTypeMismatch,
    Epilogue,
    Error,
    ExportRefused,
    GemmDescriptor,
    GemmLayout,
    GemmPlan,
    GemmSupport,
    InvalidProblem,
    KernelSku,
    LayoutMismatch,
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
    device_properties,
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
    "Arch",
    "Backend",
    "DType",
    "DTypeMismatch",
    "DeviceError",
    "DeviceMismatch",
    "DeviceProperties",
    "Epilogue",
    "Error",
    "ExportRefused",
    "GemmDescriptor",
    "GemmLayout",
    "GemmPlan",
    "GemmSupport",
    "InvalidProblem",
    "KernelSku",
    "LayoutMismatch",
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
    "built_architectures",
    "cuda_device_count",
    "cuda_unavailable_reason",
    "describe",
    "device_properties",
    "gemm_kernels",
    "gemm_registry",
    "gemm_support",
    "inspect",
    "matmul",
    "version",
]
