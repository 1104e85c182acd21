"""The examples of README.md and docs/plans.md run as they are printed, and those of examples/ as they are."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import cutplan
from tests.environment import has_cuda, note_not_run, why_no_cuda

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
PACKAGE = pathlib.Path(cutplan.__file__).parent


def _blocks(language: str, page: pathlib.Path = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def _jax_has_gpu() -> bool:
    probe = "import jax; jax.devices('cuda')"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode == 0


def _obstacle(block: str) -> str | None:
    """Why this machine cannot run the example; None: it can."""
    for package in re.findall(r"^import (\w+)", block, re.MULTILINE):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    if ("cupy" in block or 'devices("cuda")' in block) and not has_cuda():
        return why_no_cuda()
    if 'devices("cuda")' in block and not _jax_has_gpu():
        return "JAX has no GPU"
    return None


def _title(block: str) -> str:
    libraries = [m for m in re.findall(r"^import (\w+)", block, re.MULTILINE) if m != "cutplan"]
    kinds = {"GemmPlan": "plan", 'devices("cuda")': "gpu", "attention(": "attention"}
    what = next((kind for mark, kind in kinds.items() if mark in block), "matmul")
    return "-".join([*libraries, what])


def _runnable() -> list[object]:
    blocks = []
    for block in _blocks("python"):
        if why := _obstacle(block):
            note_not_run(f"README.md, example {_title(block)}: {why}")
        else:
            blocks.append(pytest.param(block, id=_title(block)))
    return blocks


def _run(command: list[str]) -> str:
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# What the examples end with, against float64; their variables are in scope.
_CHECK = """
if "y" in globals():
    import numpy as np
    def wide(x):
        x = x.get() if hasattr(x, "get") else x.cpu().double() if hasattr(x, "cpu") else x
        return np.asarray(x, "float64")
    a, b = (wide(x), wide(weight).T) if "weight" in globals() else (wide(a), wide(b))
    exact = a @ b
    if "weight" in globals():
        from math import erf, sqrt
        exact += wide(bias)
        exact *= 0.5 * (1 + np.vectorize(erf)(exact / sqrt(2)))
    elif exact.ndim == 3:
        exact = np.maximum(exact, 0)
    assert type(y).__module__.split(".")[0] in ("torch", "numpy", "cupy", "jaxlib", "jax"), type(y)
    assert wide(y).shape == exact.shape
    assert np.linalg.norm(wide(y) - exact) <= 0.01 * np.linalg.norm(exact)
elif "lse" in globals():
    wide = [x.double().requires_grad_() for x in (q, k, v)]
    keys, values = (x.repeat_interleave(4, 1) for x in wide[1:])
    exact = torch.nn.functional.scaled_dot_product_attention(wide[0], keys, values, is_causal=True)
    pairs = [(o, exact), *zip(gradients, torch.autograd.grad(exact, wide, grad.double()))]
    assert len(pairs) == 4
    for computed, right in pairs:
        assert computed.shape == right.shape
        assert (computed.double() - right).norm() <= 0.02 * right.norm()
else:
    assert bool((d == 512).all())
"""


@pytest.mark.parametrize("block", _runnable())
def test_python_example(block: str) -> None:
    _run([sys.executable, "-c", block + _CHECK])


def test_every_library_has_an_example() -> None:
    titles = [_title(block) for block in _blocks("python")]
    assert titles == [
        "torch-matmul",
        "cupy-matmul",
        "jax-matmul",
        "jax-torch-gpu",
        "numpy-matmul",
        "torch-attention",
        "torch-plan",
    ]
    assert len(_blocks("cpp")) == 1


def test_cpp_example(tmp_path: pathlib.Path) -> None:
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        note_not_run("README.md, C++ example: no C++ compiler")
        return
    (block,) = _blocks("cpp")
    source, program = tmp_path / "example.cpp", tmp_path / "example"
    source.write_text(block)
    (library,) = (PACKAGE / "lib").glob("libcutplan.so.*")  # its SONAME; a wheel holds no link to it
    _run(
        [
            compiler,
            "-std=c++17",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{PACKAGE / 'include'}",
            str(source),
            str(library),
            f"-Wl,-rpath,{library.parent}",
            f"-o{program}",
        ]
    )
    assert _run([str(program)]).endswith("d[0, 0] = 128\n")


# What docs/plans.md's examples take for granted: square matrices, so that each fits everywhere; on the host,
# which serves every one of them in float32.
_OPERANDS = """
import torch, cutplan
def random(*shape):
    return torch.randn(shape)
a, b, c, x, y, weight, w1, w2, w_gate, w_up, dy, dz1, dz2, aux1 = (random(16, 16) for _ in range(14))
bias, b1, per_token, per_channel = (random(16) for _ in range(4))
w_both, weights = torch.stack([w_gate, w_up], 1).reshape(32, 16), random(2, 16, 16)
offsets = torch.tensor([0, 4, 16], dtype=torch.int32)
"""

# What each leaves, against torch, by a word in it.
_PLANS_CHECKS = {
    "per_token": "(d, a @ b), (y, weight @ x.T + bias[:, None])",
    "interleaved": "(h, torch.nn.functional.silu(x @ w_gate.T) * (x @ w_up.T))",
    "db1": "(aux, z), (y, torch.nn.functional.silu(z)), (dw1, x.T @ dz), (dx, dz @ w1.T), (db1, dz.sum(0))",
    "aux_mode": "(dz1, (dz2 @ w2.T) * derivative(aux1))",
    "grouped_matmul": "(dw[1], dy[4:].T @ x[4:]), (dx[:4], dy[:4] @ weights[0])",
}

_PLANS_CHECK = """
def derivative(x):
    return torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x)))
z = x @ w1 + b1
dz = dy * derivative(z)
pairs = [{pairs}]
for computed, right in pairs:
    assert computed.shape == right.shape
    assert torch.linalg.norm(computed - right) <= 1e-3 * torch.linalg.norm(right)
"""


@pytest.mark.parametrize("word", _PLANS_CHECKS)
def test_example_of_plans(word: str) -> None:
    (block,) = [x for x in _blocks("python", ROOT / "docs" / "plans.md") if word in x]
    _run([sys.executable, "-c", _OPERANDS + block + _PLANS_CHECK.format(pairs=_PLANS_CHECKS[word])])


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_example_file(name: str) -> None:
    assert _run([sys.executable, str(ROOT / "examples" / name)])
