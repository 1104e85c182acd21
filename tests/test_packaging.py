"""What is done before there is a package: where torch is got from, and the page that an index shows."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import pathlib
import re
import subprocess
import types
from collections.abc import Sequence
from typing import Any

import pytest

import cutplan

ROOT = pathlib.Path(__file__).parent.parent


def _load(path: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


get_torch = _load(".ci/get_torch.py")
index_page = _load("cmake/index_page.py")


class _Pip:
    """Stands in for pip, which knows torch at some of three places: the configured indices' CPU build,
    PyTorch's CPU index, and the default index."""

    def __init__(self, *has: str) -> None:
        self.has, self.asked = has, list[str]()

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "pip", "--quiet"] and ":all:" in command
        place = "pytorch" if get_torch.CPU_INDEX in command else "default"
        if place == "default" and command[-1] == get_torch.CPU_BUILD:
            place = "configured"
        self.asked.append(place)
        if place in self.has:
            return subprocess.CompletedProcess(command, 0, "")
        said = "ERROR: nothing of that name\n\n"
        if place == "pytorch":
            said = "WARNING: Retrying after connection broken by 'NoRoute(\"x\")': /torch/\n" + said
        return subprocess.CompletedProcess(command, 1, said)


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.parametrize(
    "has, asked",
    [
        (("configured", "pytorch", "default"), ["configured"]),
        (("pytorch", "default"), ["configured", "pytorch"]),
        (("default",), ["configured", "pytorch", "default"]),
        ((), ["configured", "pytorch", "default"]),
    ],
)
def test_torch_is_got_from_the_first_place_that_has_it(
    has: tuple[str, ...],
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    without_torch: None,
) -> None:
    pip = _Pip(*has)
    monkeypatch.setattr(subprocess, "run", pip.run)
    assert get_torch.main() == 0
    assert pip.asked == asked
    told = capsys.readouterr().out
    refused = asked[:-1] if has else asked
    assert told.count("  no: ERROR: nothing of that name") == len(set(refused) - {"pytorch"})
    assert told.count('  no: NoRoute("x")\n') == refused.count("pytorch")
    assert ("no torch" in told) == (not has)
    assert all(re.search(r"[\d.]+ GB", line) for line in told.splitlines() if ": getting " in line)


def test_torch_that_is_there_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = []
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.2.3" if name == "torch" else None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    assert get_torch.main() == 0
    assert [command[1:] for command in commands] == [["-c", "import torch"]]
    assert "torch 1.2.3 is there" in capsys.readouterr().out


def test_the_default_build_is_called_large_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for system, machine, words in (("Linux", "x86_64", "3 GB"), ("Linux", "aarch64", "0.2 GB")):
        monkeypatch.setattr(get_torch.platform, "system", lambda system=system: system)
        monkeypatch.setattr(get_torch.platform, "machine", lambda machine=machine: machine)
        assert words in get_torch.default_size()


PAGE = (
    "![plot](docs/a.svg)\n\nSee [plans](docs/plans.md), [torch](https://pytorch.org) and [below](#below).\n"
)


def test_links_of_the_index_page() -> None:
    assert (
        index_page.render(PAGE, None) == "\n\nSee plans, [torch](https://pytorch.org) and [below](#below).\n"
    )
    assert index_page.render(PAGE, "https://host/blob/main/") == (
        "![plot](https://host/blob/main/docs/a.svg)\n\n"
        "See [plans](https://host/blob/main/docs/plans.md), [torch](https://pytorch.org) "
        "and [below](#below).\n"
    )
    text = index_page.dynamic_metadata({}, {"name": "cutplan"})["readme"]["text"]
    assert text.startswith("# cutplan") and not re.search(r"\]\((?!https?:|#)|src=", text)
    with pytest.raises(ValueError, match="no settings, got home"):
        index_page.dynamic_metadata({"home": ""}, {})


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
    assert "9. Accepting Warranty or Additional Liability." in text


def test_the_metadata_of_what_is_installed() -> None:
    installed = importlib.metadata.distribution("cutplan")
    fields = installed.metadata
    assert fields["License-Expression"] == "Apache-2.0 AND BSD-3-Clause AND LicenseRef-NVIDIA-CUDA-EULA"
    assert "attention" in fields["Summary"] and "matmul" in fields["Summary"]
    assert not [word for word in fields.get_all("Classifier") if word.startswith("License ::")]
    assert not re.search(r"\]\((?!https?:|#)", str(installed.read_text("METADATA")))
    licences = {path.name: path.locate() for path in installed.files or () if "licenses" in path.parts}
    assert pathlib.Path(licences["LICENSE"]).read_text() == (ROOT / "LICENSE").read_text()
    linked_in = {"nanobind.txt"}
    if list(cutplan.built_architectures()) != ["host"]:
        linked_in |= {"CUTLASS.txt", "CUDA.txt"}
    for name in linked_in:
        assert pathlib.Path(licences[name]).stat().st_size > 500
