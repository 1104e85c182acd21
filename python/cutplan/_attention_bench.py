"""``cutplan bench attention``: times the attention kernels that can serve a problem.

Operands and the clock are an array library's: torch's or CuPy's on a GPU, with events of its current stream
around each run and L2 overwritten before it; NumPy's on the host, with the processor's clock. The kernels
take turns, so that heat and power meet all of them alike, and the medians count.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from . import _core
from ._dtypes import as_dtype

_SECONDS, _LEAST_ROUNDS, _MOST_ROUNDS = 1.0, 3, 15
_LEAST_FLUSH_BYTES = 256 << 20

Descriptor = _core.FmhaDescriptor | _core.FmhaBackwardDescriptor


class NoClock(Exception):
    """No library is there that can hold operands on the device and time it."""


class Measurement(NamedTuple):
    sku: _core.KernelSku
    seconds: float


class _Library(Protocol):
    def random(self, shape: tuple[int, ...], dtype: str) -> Any: ...
    def empty(self, shape: tuple[int, ...], dtype: str) -> Any: ...
    def seconds(self, call: Callable[[], object]) -> float: ...


def _flush_bytes(device: str) -> int:
    return max(_LEAST_FLUSH_BYTES, 4 * _core.device_properties(device).l2_bytes)


class _Torch:
    def __init__(self, device: str) -> None:
        self._torch = importlib.import_module("torch")
        self._device = device
        self._torch.cuda.set_device(device)
        self._flush = self.empty((_flush_bytes(device),), "uint8")

    def random(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._torch.randn(shape, device=self._device).to(getattr(self._torch, dtype))

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._torch.empty(shape, device=self._device, dtype=getattr(self._torch, dtype))

    def seconds(self, call: Callable[[], object]) -> float:
        start, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3


class _Arrays:
    """NumPy's way, and CuPy's. Neither can name bfloat16: its bits are the upper half of a float32's."""

    def __init__(self, library: str) -> None:
        self._np = importlib.import_module(library)

    def random(self, shape: tuple[int, ...], dtype: str) -> Any:
        values = self._np.random.standard_normal(shape).astype("float32")
        if dtype == "bfloat16":
            return as_dtype((values.view("uint32") >> 16).astype("uint16"), dtype)
        return values.astype(dtype)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        if dtype == "bfloat16":
            return as_dtype(self._np.empty(shape, "uint16"), dtype)
        return self._np.empty(shape, dtype)

    def seconds(self, call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


class _CuPy(_Arrays):
    def __init__(self, device: str) -> None:
        super().__init__("cupy")
        self._cuda = importlib.import_module("cupy.cuda")
        self._cuda.Device(int(device.partition(":")[2] or 0)).use()
        self._flush = self.empty((_flush_bytes(device),), "uint8")

    def seconds(self, call: Callable[[], object]) -> float:
        start, end = self._cuda.Event(), self._cuda.Event()
        self._flush.fill(0)
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(self._cuda.get_elapsed_time(start, end)) * 1e-3


def _torch_obstacle() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    torch = importlib.import_module("torch")
    return None if torch.cuda.is_available() else f"torch {torch.__version__} sees no GPU"


def _library(device: str) -> _Library:
    if device == "cpu":
        if importlib.util.find_spec("numpy") is None:
            raise NoClock("the host's operands are NumPy's, and NumPy is not installed")
        return _Arrays("numpy")
    why = _torch_obstacle()
    if why is None:
        return _Torch(device)
    if importlib.util.find_spec("cupy") is not None:
        return _CuPy(device)
    raise NoClock(f"{device} is timed with torch's events or CuPy's: {why}, CuPy is not installed")


def _empty_aligned(library: _Library, size: int, alignment: int = 256) -> Any:
    if size == 0:
        return None
    buffer = library.empty((size + alignment,), "uint8")
    begin = -_core.inspect(buffer).data % alignment
    return buffer[begin : begin + size]


def _shapes(g: _core.FmhaDescriptor) -> tuple[tuple[int, ...], ...]:
    """Of q, k, v and o."""

    def shape(heads: int, rows: int, dim: int) -> tuple[int, ...]:
        return (g.batch, heads, rows, dim)

    return (
        shape(g.heads, g.seq_q, g.dim),
        shape(g.heads_k, g.seq_k, g.dim),
        shape(g.heads_k, g.seq_k, g.dim_v),
        shape(g.heads, g.seq_q, g.dim_v),
    )


def _runner(
    g: Descriptor, device: str, library: _Library
) -> Callable[[_core.PlanPreference], Callable[[], object]]:
    """Operands of the problem; the function returned makes a call out of a preference."""
    forward = g if isinstance(g, _core.FmhaDescriptor) else g.forward
    shapes, dtype = _shapes(forward), str(forward.dtype)
    q, k, v = (library.random(shape, dtype) for shape in shapes[:3])
    o = library.empty(shapes[3], str(forward.o))
    lse: Any = library.empty(shapes[0][:3], "float32") if forward.lse else None

    def run_forward(preference: _core.PlanPreference) -> Callable[[], object]:
        plan = _core.FmhaPlan.select(forward, device, preference)
        scratch = _empty_aligned(library, plan.workspace_size)
        return lambda: plan.run(q, k, v, o, lse=lse, workspace=scratch)

    if isinstance(g, _core.FmhaDescriptor):
        return run_forward
    run_forward(_core.PlanPreference())()  # the backward reads o and lse
    backward = g
    grad = library.random(shapes[3], dtype)
    dq, dk, dv = (library.empty(shape, str(backward.grad)) for shape in shapes[:3])

    def run_backward(preference: _core.PlanPreference) -> Callable[[], object]:
        plan = _core.FmhaBackwardPlan.select(backward, device, preference)
        scratch = _empty_aligned(library, plan.workspace_size)
        return lambda: plan.run(grad, q, k, v, o, lse, dq, dk, dv, workspace=scratch)

    return run_backward


def measure(g: Descriptor, device: str, candidates: int = 0) -> list[Measurement]:
    """The kernels that can serve `g`, fastest first; with `candidates`, of the first ones of the cost model.

    Raises Unsupported where there is none, NoClock where nothing can time the device.
    """
    preference = _core.PlanPreference(tune="off")
    properties = _core.device_properties(device)
    # Each overload takes one of the two classes.
    ranked = (
        _core.fmha_kernels(g, properties, preference)
        if isinstance(g, _core.FmhaDescriptor)
        else _core.fmha_kernels(g, properties, preference)
    )
    library = _library(device)
    prepare = _runner(g, device, library)
    chosen = ranked[:candidates] if candidates else ranked
    calls = {sku.name: prepare(_core.PlanPreference(kernel=sku.name)) for sku in chosen}
    for call in calls.values():
        call()  # what is made once, such as a kernel's loading, is not timed
    samples = {name: [library.seconds(call)] for name, call in calls.items()}
    once = sum(first for (first,) in samples.values())
    rounds = max(_LEAST_ROUNDS, min(_MOST_ROUNDS, int(_SECONDS / max(once, 1e-9))))
    for _ in range(rounds - 1):
        for name, call in calls.items():
            samples[name].append(library.seconds(call))
    found = [Measurement(sku, statistics.median(samples[sku.name])) for sku in chosen]
    return sorted(found, key=lambda entry: entry.seconds)


def visible_pairs(g: _core.FmhaDescriptor) -> int:
    """Pairs of query and key that causal and window let through, in one head."""
    offset = g.seq_k - g.seq_q if str(g.align) == "bottom_right" else 0
    left, right = g.window
    if g.causal is not None:
        right = 0 if right < 0 else min(right, 0)
    first = [0 if left < 0 else max(0, i + offset - left) for i in range(g.seq_q)]
    last = [g.seq_k - 1 if right < 0 else min(g.seq_k - 1, i + offset + right) for i in range(g.seq_q)]
    return sum(max(0, end - begin + 1) for begin, end in zip(first, last, strict=True))


def flop(g: Descriptor) -> float:
    """Two products forward, five backward, of two operations for each visible pair and element of a head."""
    if isinstance(g, _core.FmhaDescriptor):
        forward, per_pair = g, g.dim + g.dim_v
    else:
        forward = g.forward
        per_pair = 3 * forward.dim + 2 * forward.dim_v
    return 2.0 * math.prod((forward.batch, forward.heads, per_pair, visible_pairs(forward)))


def moved_bytes(g: Descriptor) -> float:
    """Of Q, K, V and O, and with the gradients as much again, each moved once."""
    forward = g if isinstance(g, _core.FmhaDescriptor) else g.forward
    elements = sum(math.prod(shape) for shape in _shapes(forward))
    return elements * forward.dtype.bits / 8 * (1 if g is forward else 2)


def summary(g: Descriptor) -> str:
    """One line for people."""
    forward = g if isinstance(g, _core.FmhaDescriptor) else g.forward
    text = f"{forward.batch} x {forward.heads} heads x {forward.seq_q} x {forward.seq_k} x {forward.dim}"
    if forward.dim_v != forward.dim:
        text += f" ({forward.dim_v})"
    text += f" {forward.dtype}"
    if forward.heads_k != forward.heads:
        text += f", {forward.heads_k} key heads"
    if forward.causal is not None:
        text += f", causal {forward.causal}"
    if forward.window != (-1, -1):
        text += f", window {forward.window[0]} {forward.window[1]}"
    return text if isinstance(g, _core.FmhaDescriptor) else f"{text}, backward"
