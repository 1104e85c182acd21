"""The benchmarks measure what they say, refuse wrong results, and the README shows what they found."""

from __future__ import annotations

import json
import pathlib

import pytest
import torch

import cutplan
from benchmarks import _report, gemm, overhead, readme

SHAPES = ["--shapes", "64x48x32", "8x40x24"]


@pytest.fixture
def record(tmp_path: pathlib.Path) -> _report.Record:
    path = tmp_path / "gemm.json"
    gemm.main(["--device", "cpu", "--quick", "--arch", "host", *SHAPES, "--json", str(path)])
    read: _report.Record = json.loads(path.read_text())
    return read


def test_every_sample_is_kept(record: _report.Record) -> None:
    assert len(record["entries"]) == 2 * 2 * 2  # shapes, layouts, types
    for entry in record["entries"]:
        assert [c["name"] for c in entry["contenders"]] == ["cutplan", "cutplan host", "torch"]
        for contender in entry["contenders"]:
            assert len(contender["microseconds"]) == record["rounds"] == gemm.QUICK_ROUNDS
            assert all(sample > 0 for sample in contender["microseconds"])
    assert record["device"]["name"] == cutplan.device_properties("cpu").name
    assert "--json" not in record["command"]


def test_figures() -> None:
    ours, peer = {"name": "cutplan", "microseconds": [3, 1, 2]}, {"name": "torch", "microseconds": [4.0]}
    entry = {"group": "g", "m": 1000, "n": 1000, "k": 1000, "layout": "rcr", "dtype": "float16"}
    entry |= {"d": "float16", "contenders": [ours, peer]}
    assert _report.ratio(entry, ours) == 2
    assert _report.rate(entry, ours) == "1000 TFLOP/s"
    assert _report.rate({**entry, "m": 1}, ours) == "1000 GB/s"
    slower = {**entry, "contenders": [{**ours, "microseconds": [8]}, peer]}
    (line,) = _report.summary([entry, slower])
    assert line.startswith("g, cutplan: 1.000 times torch in geometric mean of 2, at least 0.500")


def test_a_wrong_result_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gemm._cutplan

    def wrong(plan: cutplan.GemmPlan, name: str, operands: gemm.Operands, d: torch.Tensor) -> gemm.Contender:
        contender = right(plan, name, operands, d)

        def call() -> None:
            contender.call()
            d[-1, -1] += 1

        return gemm.Contender(name, call, contender.facts)

    monkeypatch.setattr(gemm, "_cutplan", wrong)
    with pytest.raises(SystemExit, match="wrong result.*1 of 3072 elements beyond the bound"):
        gemm.main(["--device", "cpu", "--quick", *SHAPES])


def test_overhead(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(overhead, "CALLS", 2)
    monkeypatch.setattr(overhead, "ROUNDS", 3)
    monkeypatch.setattr(overhead, "IMPORTS", 1)
    path = tmp_path / "overhead.json"
    overhead.main(["--device", "cpu", "--json", str(path)])
    record = json.loads(path.read_text())
    assert record["import_frameworks"] == []
    for problem in record["problems"]:
        assert all(len(samples) == 3 for samples in problem["microseconds"].values())
    assert "plan.can_implement(a, b, d)" in capsys.readouterr().out


def test_the_readme_shows_the_newest_result(
    record: _report.Record, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    old = {**record, "date": "2001-01-01T00:00:00+00:00", "command": "superseded"}
    (tmp_path / "old.json").write_text(json.dumps(old))
    text = readme.results()
    assert "64x48x32" in text and record["command"] in text and "superseded" not in text
    page = "above\n<!-- generated: results -->\nstale\n<!-- end: results -->\nbelow\n"
    rendered = readme.render(page, ["results"])
    assert text in rendered and "stale" not in rendered
    assert rendered.startswith("above\n") and rendered.endswith("\nbelow\n")
    assert readme.render(rendered, ["results"]) == rendered


def test_check_tells_a_stale_readme(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- generated: results -->\nstale\n<!-- end: results -->\n")
    monkeypatch.setattr(readme, "README", page)
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="not as generated"):
        readme.main(["--check", "results"])
    readme.main(["results"])
    readme.main(["--check", "results"])
