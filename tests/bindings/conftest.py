"""The libraries whose tensors are tried, each on every device that it has here."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.environment import HAS_TORCH, has_cuda, note_not_run, why_no_cuda

if HAS_TORCH:
    import torch

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave GPU memory to the other libraries


@dataclass(frozen=True)
class Library:
    """One library on one device: arrays from NumPy and back, and where an array lies."""

    name: str
    device: str
    make: Callable[[np.ndarray], Any]
    numpy: Callable[[Any], np.ndarray]
    address: Callable[[Any], int]
    dtypes: tuple[str, ...]
    immutable: bool = False

    @property
    def id(self) -> str:
        return f"{self.name}-{self.device.split(':')[0]}"


_FLOATS = ("float64", "float32", "float16")


def _torch_to_numpy(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()


def _torch_make(device: str, x: np.ndarray) -> torch.Tensor:
    if x.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return torch.from_numpy(x.astype("float32")).to(device=device, dtype=getattr(torch, x.dtype.name))
    return torch.from_numpy(x).to(device)


def _jax_make(device: str, x: np.ndarray) -> Any:
    import jax

    return jax.device_put(x, jax.devices(device)[0])


def _jax_devices() -> list[str]:
    import jax

    devices = ["cpu"]
    if has_cuda():
        try:
            jax.devices("cuda")
        except RuntimeError as error:
            note_not_run(f"bindings: JAX on the GPU ({str(error).splitlines()[0]})")
        else:
            devices.append("cuda:0")
    return devices


def _find() -> list[Library]:
    address = lambda x: x.ctypes.data  # noqa: E731
    as_float64 = lambda x: np.asarray(x, dtype="float64")  # noqa: E731
    found = [
        Library(
            "numpy", "cpu", lambda x: x, as_float64, address, (*_FLOATS, "int64", "int8", "uint8", "bool")
        )
    ]
    extra = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
    if importlib.util.find_spec("ml_dtypes"):
        found.append(Library("ml_dtypes", "cpu", lambda x: x, as_float64, address, extra))
    else:
        note_not_run("bindings: ml_dtypes is not installed")
    torch_dtypes = (
        *_FLOATS,
        "bfloat16",
        "float8_e4m3fn",
        "float8_e5m2",
        "int64",
        "int32",
        "int8",
        "uint8",
        "bool",
    )
    for device in ["cpu", "cuda:0"] if has_cuda() else ["cpu"] if HAS_TORCH else []:
        make = functools.partial(_torch_make, device)
        found.append(Library("torch", device, make, _torch_to_numpy, lambda x: x.data_ptr(), torch_dtypes))
    if importlib.util.find_spec("jax"):
        for device in _jax_devices():
            found.append(
                Library(
                    "jax",
                    device,
                    functools.partial(_jax_make, device.split(":")[0]),
                    as_float64,
                    lambda x: x.unsafe_buffer_pointer(),
                    ("float32", "float16", "bfloat16", "float8_e4m3fn", "int32", "int8", "uint8", "bool"),
                    immutable=True,
                )
            )
    else:
        note_not_run("bindings: JAX is not installed")
    if not HAS_TORCH:
        note_not_run("bindings: torch is not installed")
    if not has_cuda():
        note_not_run(f"bindings: torch, JAX and CuPy on the GPU ({why_no_cuda()})")
    elif importlib.util.find_spec("cupy"):
        import cupy

        found.append(
            Library(
                "cupy",
                "cuda:0",
                cupy.asarray,
                lambda x: x.get().astype("float64"),
                lambda x: x.data.ptr,
                _FLOATS,
            )
        )
    else:
        note_not_run("bindings: CuPy is not installed")
    return found


LIBRARIES = _find()


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.id)
def library(request: pytest.FixtureRequest) -> Library:
    return request.param


def numpy_dtype(name: str) -> np.dtype:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def random_array(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (rng.standard_normal(shape) * 3).astype(numpy_dtype(dtype))
