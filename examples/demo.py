"""Matrix products and attention through every array library installed, on the host and on a GPU if there.

For each run: the kernel that ran, the largest error against float64 arithmetic on the same inputs, the
largest share of the plan's own bound that any element used, and the time. An element off its bound fails.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

import cutplan


class Library(NamedTuple):
    """An array library on one device."""

    name: str
    device: str
    dtype: str
    make: Callable[[np.ndarray], Any]  # from float32 values
    numpy: Callable[[Any], np.ndarray]  # to float64
    wait: Callable[[], None]  # for the GPU
    integers: Callable[[np.ndarray], Any] | None = None  # as they are; None: its arrays cannot be written


def _nothing() -> None:
    return None


def _torch(device: str) -> Library:
    import torch

    return Library(
        "torch",
        device,
        "bfloat16",
        lambda x: torch.from_numpy(x).to(device=device, dtype=torch.bfloat16),
        lambda x: x.double().cpu().numpy(),
        torch.cuda.synchronize if device != "cpu" else _nothing,
        lambda x: torch.from_numpy(x).to(device),
    )


def _libraries() -> Iterator[Library]:
    """Those that are installed; of the others it is said why they are left out."""
    gpu = cutplan.cuda_device_count() > 0
    if not gpu:
        print(f"host only: {cutplan.cuda_unavailable_reason()}\n")
    yield Library(
        "numpy", "cpu", "float32", lambda x: x, lambda x: x.astype("float64"), _nothing, lambda x: x
    )
    missing = []
    for name in ("torch", "jax", "cupy"):
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}\n")
    if "torch" not in missing:
        import torch

        yield _torch("cpu")
        if gpu and torch.cuda.is_available():
            yield _torch("cuda:0")
    if "jax" not in missing:
        import jax

        cpu = jax.devices("cpu")[0]
        yield Library(
            "jax",
            "cpu",
            "bfloat16",
            lambda x: jax.device_put(x.astype(jax.numpy.bfloat16), cpu),
            lambda x: np.asarray(x, "float64"),
            _nothing,
        )
    if gpu and "cupy" not in missing:
        import cupy

        yield Library(
            "cupy",
            "cuda:0",
            "float16",
            lambda x: cupy.asarray(x, dtype="float16"),
            lambda x: x.get().astype("float64"),
            cupy.cuda.Device().synchronize,
            cupy.asarray,
        )


def _gelu(x: np.ndarray) -> np.ndarray:
    """x/2 (1 + erf(x/sqrt 2)); through erfc, which keeps its digits where erf is near -1."""
    from math import erfc, sqrt

    y: np.ndarray = 0.5 * x * np.vectorize(erfc, otypes=[np.float64])(-x / sqrt(2))
    return y


def _show(library: Library, m: int, n: int, k: int, epilogue: bool, rng: np.random.Generator) -> bool:
    """One multiplication: b is a weight matrix [n, k] used transposed, as in a linear layer."""
    scale = np.float32(1 / np.sqrt(k))
    a = library.make(rng.standard_normal((m, k), dtype="float32"))
    weight = library.make(rng.standard_normal((n, k), dtype="float32") * scale)
    bias = library.make(rng.standard_normal(n, dtype="float32")) if epilogue else None
    activation: Literal["none", "gelu_erf"] = "gelu_erf" if epilogue else "none"

    y = cutplan.matmul(a, weight.T, bias=bias, activation=activation)  # the first call chooses the plan
    library.wait()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        y = cutplan.matmul(a, weight.T, bias=bias, activation=activation)
        library.wait()
        seconds.append(time.perf_counter() - start)

    plan = cutplan.GemmPlan.select(
        cutplan.describe(a, weight.T, y, bias=bias, activation=activation), library.device
    )
    wide_a, wide_b = library.numpy(a), library.numpy(weight).T
    exact = wide_a @ wide_b
    magnitude = np.abs(wide_a) @ np.abs(wide_b)
    if bias is not None:
        exact += library.numpy(bias)
        magnitude += np.abs(library.numpy(bias))
        exact = _gelu(exact)
    error = np.abs(library.numpy(y) - exact)
    ratio = float((error / plan.precision_guarantee.error_bound(magnitude, exact)).max())
    print(
        f"{library.name:5} {library.device:6} {library.dtype:8} {m} x {n} x {k}"
        f"{', bias and gelu' if epilogue else ''}\n"
        f"      ran {plan.sku}\n"
        f"      largest error {error.max():.2e}, at most {ratio:.1%} of the plan's own bound\n"
        f"      {min(seconds) * 1e3:.2f} ms, {2e-9 * m * n * k / min(seconds):.1f} GFLOP/s"
    )
    return ratio <= 1


def _show_attention(library: Library, heads: int, heads_k: int, rows: int, rng: np.random.Generator) -> bool:
    """Causal attention with grouped heads, and its gradients."""
    dim = 64
    shapes = ((2, heads, rows, dim), (2, heads_k, rows, dim), (2, heads_k, rows, dim))
    q, k, v = (library.make(rng.standard_normal(shape, dtype="float32")) for shape in shapes)

    o, lse = cutplan.attention(q, k, v, causal="bottom_right", return_lse=True)
    gradients = cutplan.attention_backward(o, q, k, v, o, lse, causal="bottom_right")
    library.wait()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        cutplan.attention(q, k, v, causal="bottom_right")
        library.wait()
        seconds.append(time.perf_counter() - start)

    plan = cutplan.FmhaPlan.select(
        cutplan.describe_attention(q, k, v, o, causal="bottom_right"), library.device
    )
    wide_q, wide_k, wide_v = library.numpy(q), library.numpy(k), library.numpy(v)
    wide_k, wide_v = (np.repeat(x, heads // heads_k, 1) for x in (wide_k, wide_v))
    seen: np.ndarray = np.tri(rows, dtype=bool)
    scores = np.where(seen, wide_q @ wide_k.swapaxes(-1, -2) / np.sqrt(dim), -np.inf)
    sizes = np.where(seen, np.abs(wide_q) @ np.abs(wide_k).swapaxes(-1, -2) / np.sqrt(dim), 0)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    exact, magnitude = weights @ wide_v, weights @ np.abs(wide_v)
    error = np.abs(library.numpy(o) - exact)
    bound = plan.precision_guarantee.error_bound(magnitude, exact, sizes.max(-1, keepdims=True))
    ratio = float((error / bound).max())

    # O is linear in V: with o as its own gradient, <dV, V> = <o, o>.
    along = float((library.numpy(gradients.dv) * library.numpy(v)).sum())
    squared = float((library.numpy(o) ** 2).sum())
    flop = 2 * heads * 4 * dim * seen.sum()
    agree = abs(along - squared) <= 1e-2 * squared
    print(
        f"{library.name:5} {library.device:6} {library.dtype:8} "
        f"attention, {heads} heads on {heads_k}, {rows} rows, causal\n"
        f"      ran {plan.sku}\n"
        f"      largest error {error.max():.2e}, at most {ratio:.1%} of the plan's own bound\n"
        f"      <dV, V> {along:.6g}, <o, o> {squared:.6g}\n"
        f"      {min(seconds) * 1e3:.2f} ms, {1e-9 * flop / min(seconds):.1f} GFLOP/s"
    )
    return ratio <= 1 and agree


def _show_around(library: Library, rng: np.random.Generator) -> bool:
    """Keys turned and put into caches, and attention over two parts of them, merged."""
    shape: dict[str, Any] = {"batch": 2, "heads": 4, "dim": 64, "dtype": library.dtype}
    q, k, v = (library.make(rng.standard_normal((2, 4, 100, 64), dtype="float32")) for _ in range(3))
    turned = cutplan.rope(k)
    a, b = np.split(library.numpy(k), 2, -1)
    angles = np.arange(100)[:, None] * 10000.0 ** (-np.arange(32) / 32)
    pairs = (a + 1j * b) * np.exp(1j * angles)
    exact, size = np.concatenate([pairs.real, pairs.imag], -1), np.tile(np.abs(a) + np.abs(b), 2)
    rope = cutplan.RopePlan.select(cutplan.RopeDescriptor(seq=100, **shape), library.device)
    share = np.abs(library.numpy(turned) - exact) / rope.precision_guarantee.error_bound(size, exact)

    halves = [(turned[:, :, s], v[:, :, s]) for s in (slice(0, 60), slice(60, 100))]
    (o, lse), (o2, lse2) = (cutplan.attention(q, *half, return_lse=True) for half in halves)
    merged, _ = cutplan.merge_states([o, o2], [lse, lse2])
    second = 1 / (1 + np.exp(library.numpy(lse) - library.numpy(lse2)))[..., None]  # the second part's weight
    terms = (1 - second) * library.numpy(o), second * library.numpy(o2)
    merge = cutplan.MergeStatesPlan.select(cutplan.MergeStatesDescriptor(rows=100, **shape), library.device)
    bound = merge.precision_guarantee.error_bound(np.abs(terms).sum(0), sum(terms))
    worst = float(max(share.max(), (np.abs(library.numpy(merged) - sum(terms)) / bound).max()))
    held = worst <= 1
    if library.integers is not None:
        k_cache, v_cache = (library.make(np.zeros((2, 4, 128, 64), "float32")) for _ in range(2))
        cutplan.kv_cache_append(turned, v, k_cache, v_cache, library.integers(np.array([28, 28], "int32")))
        held &= np.array_equal(library.numpy(k_cache)[:, :, 28:], library.numpy(turned))
    print(
        f"{library.name:5} {library.device:6} {library.dtype:8} around attention\n"
        f"      ran {rope.sku.name}, {merge.sku.name}{', kv_cache_append' if library.integers else ''}\n"
        f"      at most {worst:.1%} of the plans' own bounds"
    )
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of the random numbers (default: a fresh one)")
    seed = parser.parse_args().seed
    if seed is None:
        seed = time.time_ns() % 2**31
    print(
        f"cutplan {cutplan.__version__}, built for {', '.join(cutplan.built_architectures())}, seed {seed}\n"
    )
    rng = np.random.default_rng(seed)
    held = True
    for library in _libraries():
        size = 1024 if library.device == "cpu" else 4096
        held &= _show(library, size, size, size, False, rng)
        held &= _show(library, 200, 300, 401, True, rng)
        held &= _show_attention(library, 8, 2, 256 if library.device == "cpu" else 2048, rng)
        held &= _show_around(library, rng)
        print()
    print("every element within its bound" if held else "AN ELEMENT IS OFF ITS BOUND")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
