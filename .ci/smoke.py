"""Checks an installed wheel with nothing but NumPy beside it: import time, imports, script, one product."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

IMPORT_LIMIT_MS = 50
FRAMEWORKS = ("numpy", "torch", "jax", "jaxlib", "cupy", "ml_dtypes")
PROBE = f"""
import sys, time
start = time.process_time()
import cutplan
print((time.process_time() - start) * 1e3, *[m for m in {FRAMEWORKS} if m in sys.modules])
"""


def check_import() -> None:
    """CPU time, not wall time, which other processes lengthen; the least of several fresh interpreters."""
    times = []
    for _ in range(7):
        output = subprocess.run(
            [sys.executable, "-c", PROBE], check=True, capture_output=True, text=True
        ).stdout
        elapsed, *imported = output.split()
        if imported:
            sys.exit(f"smoke: import cutplan must import no framework, but imported {', '.join(imported)}")
        times.append(float(elapsed))
    print(f"import cutplan: {min(times):.1f} ms")
    if min(times) > IMPORT_LIMIT_MS:
        sys.exit(f"smoke: import cutplan may take {IMPORT_LIMIT_MS} ms, took {min(times):.1f} ms")


def check_script() -> None:
    script = pathlib.Path(sys.executable).with_name("cutplan")
    told = subprocess.run([script, "info"], check=True, capture_output=True, text=True).stdout
    print(told.splitlines()[0])


def check_matmul() -> None:
    import numpy as np

    import cutplan

    seed = time.time_ns() % 2**32
    random = np.random.default_rng(seed)
    m, n, k = (int(x) for x in random.integers(1, 200, 3))
    a = (random.standard_normal((m, k)) * 10.0 ** random.integers(-3, 4, (m, 1))).astype(np.float32)
    b = random.standard_normal((k, n)).astype(np.float32)
    d = cutplan.matmul(a, b)
    if type(d) is not np.ndarray or d.dtype != np.float32 or d.shape != (m, n):
        sys.exit(f"smoke: matmul must return a float32 array of shape {(m, n)}, got {d!r}")

    descriptor = cutplan.GemmDescriptor(m=m, n=n, k=k, a="float32", b="float32", d="float32", layout="rrr")
    plan = cutplan.GemmPlan.select(descriptor, "cpu")
    exact = a.astype(np.float64) @ b.astype(np.float64)
    magnitude = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    guarantee = plan.precision_guarantee
    worst = max(
        abs(float(got) - want) / guarantee.error_bound(size, want)
        for got, want, size in zip(d.ravel(), exact.ravel().tolist(), magnitude.ravel().tolist(), strict=True)
    )
    print(f"matmul {m} x {n} x {k}, seed {seed}: {plan.sku.name}, error {worst:.3f} of the plan's bound")
    if not worst <= 1:
        sys.exit("smoke: the error exceeds the plan's own bound")


if __name__ == "__main__":
    print(f"Python {sys.version.split()[0]}")
    check_import()
    check_script()
    check_matmul()
