"""The pages' examples in C++, and the host's program in examples/cpp, against the installed package."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess

import pytest

import cutplan
from tests.environment import note_not_run

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = pathlib.Path(cutplan.__file__).parent

# What each page's example takes for granted, and what it leaves in `result`.
_AROUND = """
#include <cstdio>
#include <memory>
#include <vector>
{includes}
int main() {{
  void *stream = nullptr, *scratch = nullptr;
  {before}
  {body}
  for (auto value : result) std::printf("%g ", static_cast<double>(value));
  static_cast<void>(scratch);
}}
"""
_LAYER = """
  constexpr std::int64_t rows = 5, in = 7, out = 3;
  std::vector<float> memory(rows * in + out * in + out, 1.0f), result(rows * out);
  const float *x = memory.data(), *w = x + rows * in, *b = w + out * in;
  float* y = result.data();
"""
_APPEND = """
  constexpr std::int64_t batch = 2, heads = 1, capacity = 3, dim = 1;
  const std::int32_t lengths[batch] = {0, 2};
  const float k[batch] = {1, 2}, v[batch] = {3, 4};
  std::vector<float> result(2 * batch * capacity);
  float *k_cache = result.data(), *v_cache = k_cache + batch * capacity;
  std::int32_t grown[batch];
"""
_ROWS = """
  constexpr std::int64_t rows = 2, columns = 3;
  const float x[rows * columns] = {-2, 1, 2, 4, -1, 0};
  std::vector<signed char> result(rows * columns);
  signed char* data = result.data();
  float scale[rows];
"""
_WEIGHTS = """
  constexpr std::int64_t k = 8, n = 2;
  const std::int32_t qweight[n] = {0x76543210, 0x11111111};
  const float scales[n] = {0.5f, 2};
  std::vector<float> result(k * n);
  float* out = result.data();
"""
EXAMPLES = {
    "cpp.md": (_LAYER, "8 " * 15),  # 7 products of ones, and a bias of one
    "quantize.md": (_ROWS, "-127 64 127 127 -32 0 "),
    "weights.md": (_WEIGHTS, "0 2 0.5 2 1 2 1.5 2 2 2 2.5 2 3 2 3.5 2 "),
    "attention_ops.md": (_APPEND, "1 0 0 0 0 2 3 0 0 0 0 4 "),
}


def library() -> pathlib.Path:
    (path,) = (PACKAGE / "lib").glob("libcutplan.so*")
    return path


def built_and_run(source: pathlib.Path, folder: pathlib.Path) -> str | None:
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        note_not_run(f"{source.name}: no C++ compiler")
        return None
    program = folder / source.stem
    options = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{PACKAGE / 'include'}"]
    link = [str(library()), f"-Wl,-rpath,{library().parent}", "-o", str(program)]
    built = subprocess.run([compiler, *options, str(source), *link], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_library_is_named_by_its_abi() -> None:
    """What docs/cpp.md promises; a wheel that held a link as well would hold the library twice."""
    major, minor, _ = cutplan.__version__.split(".")
    assert library().name == f"libcutplan.so.{major if major != '0' else f'0.{minor}'}"


@pytest.mark.parametrize("page", EXAMPLES)
def test_example_of_the_page(page: str, tmp_path: pathlib.Path) -> None:
    before, expected = EXAMPLES[page]
    (block,) = re.findall(r"```cpp\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    lines = block.splitlines()
    includes = "\n".join(line for line in lines if line.startswith("#include"))
    body = "\n".join(line for line in lines if not line.startswith("#include"))
    source = tmp_path / "page.cpp"
    source.write_text(_AROUND.format(includes=includes, before=before, body=body))
    printed = built_and_run(source, tmp_path)
    assert printed is None or printed == expected


def test_the_hosts_example(tmp_path: pathlib.Path) -> None:
    printed = built_and_run(ROOT / "examples" / "cpp" / "linear_layer.cpp", tmp_path)
    assert printed is None or "y[0, 0] = 0.841345\n" in printed
