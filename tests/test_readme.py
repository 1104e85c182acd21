"""The examples of the pages run and print what the page shows, and its limits are those of the code."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

import cutplan
from benchmarks import readme
from tests.environment import HAS_TORCH, has_cuda, note_not_run, why_no_cuda, why_no_cutplan_jax

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = (
    "README.md",
    "docs/libraries.md",
    "docs/attention_ops.md",
    "docs/quantize.md",
    "docs/weights.md",
    "docs/torch.md",
    "docs/formats.md",
    "docs/jax.md",
)
PROGRAMS = ("docs/torch.md", "docs/formats.md")  # whole ones
PACKAGE = pathlib.Path(cutplan.__file__).parent


class Example(NamedTuple):
    name: str
    code: str
    output: str | None


def _blocks(language: str, page: pathlib.Path = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def _examples() -> list[Example]:
    """Every Python block of the pages, with the block of output that follows it."""
    found = []
    pattern = r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?"
    for page in PAGES:
        blocks = re.finditer(pattern, (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
        found += [Example(f"{page}, example {i}", *block.groups()) for i, block in enumerate(blocks, 1)]
    return found


EXAMPLES = _examples()


def _jax_has_gpu() -> bool:
    probe = "import jax; jax.devices('cuda')"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode == 0


def _obstacle(code: str) -> str | None:
    """Why this machine cannot run the example; None: it can."""
    for package in re.findall(r"^import (\w+)", code, re.MULTILINE):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    if "cutplan.jax" in code and why_no_cutplan_jax() is not None:
        return why_no_cutplan_jax()
    if ("cupy" in code or 'devices("cuda")' in code) and not has_cuda():
        return why_no_cuda()
    if 'devices("cuda")' in code and not _jax_has_gpu():
        return "JAX has no GPU"
    return None


def _runnable() -> list[Example]:
    obstacles = {example.name: _obstacle(example.code) for example in EXAMPLES}
    for name, why in obstacles.items():
        if why is not None:
            note_not_run(f"{name}: {why}")
    return [example for example in EXAMPLES if obstacles[example.name] is None]


def _run(command: list[str]) -> str:
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("example", _runnable(), ids=lambda example: example.name)
def test_python_example(example: Example) -> None:
    assert _run([sys.executable, "-c", example.code]) == example.output


def test_every_library_has_an_example_that_shows_its_output() -> None:
    used = {name for e in EXAMPLES for name in re.findall(r"^import (\w+)", e.code, re.MULTILINE)}
    assert used == {"cutplan", "torch", "cupy", "jax", "numpy", "transformers"}
    assert all(example.output for example in EXAMPLES)
    short = [example for example in EXAMPLES if not example.name.startswith(PROGRAMS)]
    assert all(len(example.code.splitlines()) <= 17 for example in short) and len(short) < len(EXAMPLES)
    assert len(_blocks("cpp")) == 1


def test_the_first_result_is_on_the_first_screen() -> None:
    """And what the reader decides by comes before the details: reasons, figures, pictures, needs."""
    text = README.read_text()
    assert text[: text.index("```text")].count("\n") < 25
    marks = [
        "`pip install",
        "driver 580",
        "glibc",
        "```text",
        "Why use it",
        "<!-- generated: speed",
        "docs/matmul.svg",
        "docs/attention.svg",
        "## Install",
        "## Examples",
    ]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert len(text.split()) < 2000


def test_links_lead_somewhere() -> None:
    for page in [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#[^)]*)?\)", page.read_text()):
            assert not link or (page.parent / link).exists(), f"{page.name}: {link}"


def test_support_tables_have_the_rows_of_this_build() -> None:
    """The page is written with the kernels of all architectures; each has the rows that the code has."""
    text = (ROOT / "docs" / "support.md").read_text()
    for row in cutplan.gemm_support():
        layouts = ", ".join(map(str, row.layouts))
        of_row = readme.operands(row)
        start = f"| {row.arch} | {readme._capability(row.minimum_compute_capability)} | {of_row} | "
        assert f"{start}{', '.join(map(str, row.d))} | {layouts} | {row.note} |" in text
    for row in cutplan.fmha_support():
        start = f"| {row.arch} | {readme._capability(row.minimum_compute_capability)} | {row.operand} | "
        assert f"{start}{', '.join(map(str, row.o))} | 1 to {row.largest_dim} | {row.note} |" in text


def _limits() -> str:
    _, _, rest = README.read_text().partition("<!-- generated: limits -->")
    return rest.partition("<!-- end: limits -->")[0]


@pytest.mark.parametrize("dtype", list(map(str, cutplan.DType)))
def test_the_limits_of_types_are_those_of_the_code(dtype: str) -> None:
    served = re.findall(r"(?:A and B|Q, K and V) of one type: ([\w, ]+), on the host and on GPUs", _limits())
    assert len(served) == 2
    scaled = re.findall(r"With scales matrix multiplication takes ([\w, ]+), on the host", _limits())[0]
    refused = re.findall(r"Neither of them takes ([\w, ]+)\.", _limits())[0]

    def listed(words: str) -> list[str]:
        return re.split(r", | or ", words)

    kinds = [served[0], *re.split(r", | and | with ", scaled)]
    assert (dtype in listed(refused)) != any(dtype in listed(words) for words in kinds)
    for words, select in (
        (served[0], lambda: cutplan.GemmPlan.select(cutplan.GemmDescriptor(m=8, n=8, k=8, a=dtype), "cpu")),
        (
            served[1],
            lambda: cutplan.FmhaPlan.select(
                cutplan.FmhaDescriptor(heads=1, seq_q=8, seq_k=8, dim=8, dtype=dtype), "cpu"
            ),
        ),
    ):
        of_scaled = words is served[0] and re.search(rf"\b{dtype}\b(?! with)", scaled)
        if dtype in listed(words) or (of_scaled and dtype != "float8_e5m2"):  # which goes with another b
            assert select().device == "cpu"
        else:
            with pytest.raises(cutplan.Error):
                select()


def test_other_limits() -> None:
    text = README.read_text()
    dims = [int(words) for words in re.findall(r"Head dimensions of attention go to (\d+)", text)]
    assert dims == [row.largest_dim for row in cutplan.fmha_support()][:1]
    for dim, fits in ((dims[0], True), (dims[0] + 1, False)):
        g = cutplan.FmhaDescriptor(heads=1, seq_q=8, seq_k=8, dim=dim, dtype="float32")
        if fits:
            cutplan.FmhaPlan.select(g, "cpu")
        else:
            with pytest.raises(cutplan.Unsupported):
                cutplan.FmhaPlan.select(g, "cpu")
    assert "sm90 kernels run on compute capability 9.0 alone" in text
    for sku in [*cutplan.gemm_registry(), *cutplan.fmha_registry()]:
        assert str(sku.arch) != "sm90" or sku.category == "matmul"
    assert "a torch tensor that requires grad is refused there" in text
    if not HAS_TORCH:
        note_not_run("README.md, limits of torch: torch is not installed")
        return
    import torch

    with pytest.raises(cutplan.ExportRefused, match="cutplan.torch"):
        cutplan.matmul(torch.ones(2, 2, requires_grad=True), torch.ones(2, 2))


def test_the_refusal_that_the_page_shows() -> None:
    a, b, d = (np.ones((512, 512), np.float16) for _ in range(3))
    problem = cutplan.GemmDescriptor(m=512, n=512, k=512, a="float16", layout="rcr")
    with pytest.raises(cutplan.LayoutMismatch) as refusal:
        cutplan.GemmPlan.select(problem, "cpu").run(a, b, d)
    assert str(refusal.value) in " ".join(README.read_text().split())


def test_the_driver_that_a_build_needs_is_that_of_its_compiler() -> None:
    (release,) = set(
        re.findall(r"^nvidia-cuda-nvcc==(\d+\.\d+)", (ROOT / "third_party" / "cuda.txt").read_text(), re.M)
    )
    needs = {"13.0": "580"}  # of every minor release of CUDA 13: 580
    assert f"driver {needs[release]} or newer" in README.read_text()
    assert f"CUDA {release} compiler" in README.read_text()


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


needs_torch = pytest.mark.torch


@needs_torch
@pytest.mark.parametrize("word", _PLANS_CHECKS)
def test_example_of_plans(word: str) -> None:
    (block,) = [x for x in _blocks("python", ROOT / "docs" / "plans.md") if word in x]
    _run([sys.executable, "-c", _OPERANDS + block + _PLANS_CHECK.format(pairs=_PLANS_CHECKS[word])])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.name, marks=[needs_torch] if "\nimport torch\n" in path.read_text() else [])
        for path in sorted((ROOT / "examples").glob("*.py"))
    ],
)
def test_example_file(name: str) -> None:
    assert _run([sys.executable, str(ROOT / "examples" / name)])
