"""The benchmarks measure what they say, refuse wrong results, and the README shows what they found."""

from __future__ import annotations

import json
import pathlib
import statistics
import types
from xml.etree import ElementTree

import pytest
import torch

import cutplan
from benchmarks import _report, _selection, gemm, overhead, plots, readme, selection

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


def test_the_standard_set_holds_what_it_must(capsys: pytest.CaptureFixture[str]) -> None:
    gemm.main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert len(set(lines)) == len(lines)
    for dtype in ("float16", "bfloat16"):
        assert sum(line.startswith(f"six shapes, {dtype} ") for line in lines) == 12
        assert f"gated MLP 4096x14336x4096 rcr {dtype}" in lines
        assert f"64 groups over m 17122x4096x4096 rcr {dtype}" in lines
        assert f"64 groups over k 4096x4096x17122 crr {dtype}" in lines
    for group in ("float32 D", "tf32", "float32", "float64"):
        assert sum(line.startswith(tuple(f"{group} {digit}" for digit in "12468")) for line in lines) == 6
    gemm.main(["--list", "--only", "^tf32 4096"])
    assert capsys.readouterr().out == "tf32 4096x4096x4096 rcr float32 (tf32)\n"
    for bad in (["--only", "("], ["--shapes", "0x1x1"], ["--device", "cpu"]):
        with pytest.raises(SystemExit):
            gemm.main(bad)
    with pytest.raises(SystemExit, match="no problem's line"):
        gemm.main(["--device", "cpu", *SHAPES, "--only", "nothing like this"])


def test_uneven_groups() -> None:
    sizes = gemm.uneven(64, 17122)
    assert len(sizes) == 64 and sum(sizes) == 17122 and min(sizes) >= 0
    assert max(sizes) > 2 * 17122 / 64 > 20 * min(sizes)


@pytest.fixture
def full(record: _report.Record) -> _report.Record:
    """A record with gated and grouped products, as a GPU makes them."""
    bench = gemm.Bench("cpu", 1, 3)
    assert bench.copy()["bytes"] == gemm.COPY_BYTES
    gated, grouped = [], []
    for dtype in ("float16", "float32"):
        gated += bench.gated(gemm.Case("gated MLP", 24, 40, 32, "rcr", dtype, dtype))
    for over in "mk":
        grouped += bench.grouped(gemm.Grouped(over, (16, 0, 8, 8), 32, 16, "bfloat16"))
    copied = {"bytes": 1 << 20, "microseconds": [2.0]}
    return {**record, "gated": gated, "grouped": grouped, "copy": copied}


@pytest.fixture(autouse=True)
def small_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "COPY_BYTES", 1 << 16)


def test_gated_and_grouped_products(full: _report.Record, capsys: pytest.CaptureFixture[str]) -> None:
    for entry in full["gated"]:
        names = [contender["name"] for contender in entry["contenders"]]
        assert names == ["cutplan", "cutplan interleaved", "torch"]
        mine = _report.find(entry, "cutplan")
        assert mine is not None and mine["sku"].startswith("gemm.host")
    for entry in full["grouped"]:
        mine = _report.find(entry, "cutplan")
        assert mine is not None and mine["sku"].startswith("grouped_gemm.host")
        assert {contender["name"] for contender in entry["contenders"]} == {"cutplan", "torch"}
    gemm.report(full)
    said = capsys.readouterr().out
    for group in ("gated MLP", "4 groups over m", "4 groups over k"):
        assert group in said
    assert "gated MLP, cutplan interleaved: " in said
    assert "copy of 1 MiB: 1049 GB/s, read and written" in said


def test_a_peer_that_refuses_is_listed() -> None:
    bench = gemm.Bench("cpu", 1, 3)
    case = gemm.Case("g", 8, 8, 8, "rcr", "float32", "float32")

    def refusing() -> gemm.Contender:
        raise RuntimeError("no such thing\nat all")

    d = torch.zeros(8, 8)
    expected = gemm.reference(gemm.Product.of(d, d))
    ours = gemm.Contender("cutplan", lambda: d, {"sku": "s"})
    fields = {"group": "g", "m": 8, "n": 8, "k": 8, "layout": "rcr", "dtype": "float32", "d": "float32"}
    entry = bench._against(case, fields, [ours], [("torch", refusing)], d, expected)
    assert _report.find(entry, "torch") is None and _report.ratio(entry, entry["contenders"][0]) is None
    assert _report.refusals([entry]) == ["torch refuses g 8x8x8: no such thing"]


def test_share_of_copy_bandwidth() -> None:
    mine = {"name": "cutplan", "microseconds": [100.0]}
    entry = {"group": "g", "m": 16, "n": 8192, "k": 10000, "layout": "rcr", "dtype": "float16"}
    entry |= {"d": "float16", "flush": "read", "contenders": [mine]}
    copy = _report.copy_bandwidth({"copy": {"bytes": 10**9, "microseconds": [1000.0]}})
    assert copy == 2000
    assert _report.rate(entry, mine, copy) == "1638 GB/s (82 %)"
    slow = [{**mine, "microseconds": [1000.0]}]
    others = [{**entry, "n": 100}, {**entry, "flush": "written", "contenders": slow}]
    (line,) = _report.bandwidth_summary([entry, *others], copy)
    assert line.startswith("M to 16, N and K from 8192, cutplan: at least 82 % of copy bandwidth")
    assert _report.bandwidth_summary([entry], None) == []


def test_the_readme_shows_gated_and_grouped_products(
    full: _report.Record, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gemm.json").write_text(json.dumps(full))
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    text = readme.results()
    assert "| gated MLP | 24x40x32 | float16 | cutplan interleaved |" in text
    assert "| 4 groups over k | 16x32x32 | bfloat16 | cutplan |" in text
    assert "of the 1049 GB/s" in text


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


@pytest.mark.parametrize("page, section", [("README.md", "speed"), ("docs/measurements.md", "results")])
def test_check_tells_a_stale_page(
    page: str,
    section: str,
    record: _report.Record,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / page
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"<!-- generated: {section} -->\nstale\n<!-- end: {section} -->\n")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    (tmp_path / "new.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match=f"not as generated: {page}: make readme"):
        readme.main(["--check", section])
    assert "\n-stale\n" in capsys.readouterr().out
    readme.main([section])
    readme.main(["--check", section])
    path.write_text("no place for it")
    with pytest.raises(SystemExit, match=f"{page} must hold one pair of <!-- generated: {section} -->"):
        readme.main([section])


def test_check_tells_a_stale_plot(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    for stale in (None, "<svg/>"):
        for name in ("docs/matmul.svg", "docs/attention.svg"):
            if stale:
                (tmp_path / name).write_text(stale)
        with pytest.raises(SystemExit, match="not as generated: docs/matmul.svg, docs/attention.svg"):
            readme.main(["--check", "plots"])
        readme.main(["plots"])
        readme.main(["--check", "plots"])


def test_sections_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        readme.main(["result"])
    assert "no section result; there are speed, selection, limits," in capsys.readouterr().err


def _newest(benchmark: str) -> _report.Record:
    (record, *_) = readme._newest(benchmark)
    return record


def test_figures_are_the_results() -> None:
    """Each figure on the front page, computed again by another way."""
    text = readme.speed()
    products = []
    for entry in _newest("gemm")["entries"]:
        if entry["group"].startswith("six shapes"):
            medians = {c["name"]: statistics.median(c["microseconds"]) for c in entry["contenders"]}
            products.append(medians["torch"] / medians["cutplan"])
    assert f"16-bit: {statistics.geometric_mean(products):.3f} times cuBLAS's" in text
    for name in ("forward", "backward"):
        ratios = []
        for entry in _newest("fmha")["entries"]:
            if entry["group"] == name:
                medians = {
                    c["name"]: statistics.median(c["microseconds"])
                    for c in entry["contenders"]
                    if "microseconds" in c
                }
                ratios.append(medians["cuDNN"] / medians["cutplan"])
        line = next(
            line for line in text.splitlines() if f"Attention, {name}, {len(ratios)} problems" in line
        )
        assert f"{statistics.geometric_mean(ratios):.3f} times cuDNN's" in line


def test_the_speed_of_what_is_picked(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """By the cost model of the build, which has to hold all kernels, and have measured what it picks."""
    path = tmp_path / "selection.json"
    selection.main(["--device", "cpu", "--shapes", "64x48x32", "--json", str(path)])
    record: _report.Record = json.loads(path.read_text())
    for problem, speed in zip(record["problems"], (2.0, 0.5), strict=True):
        (name,) = (name for name in problem["medians"] if name != "torch")
        problem["medians"] = {"torch": 3 * speed, name: 3.0}
    path.write_text(json.dumps(record))
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    monkeypatch.setattr(cutplan, "built_architectures", lambda: ["host"])
    with pytest.raises(SystemExit, match="lacks sm80, sm89, sm90"):
        readme.selection()
    monkeypatch.setattr(cutplan, "built_architectures", lambda: [str(arch) for arch in cutplan.Arch])
    assert "2 problems from 1 row to 64" in readme.selection()
    assert "runs at 1.000 times cuBLAS's speed" in readme.selection()
    record["problems"][0]["medians"] = {"torch": 4.0, "gemm.other": 1.0}
    path.write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="picked, but not measured: 64x48x32 gemm.host"):
        readme.selection()


def test_limits_are_read_off_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutplan, "built_architectures", lambda: [str(arch) for arch in cutplan.Arch])
    gemm = [row for row in cutplan.gemm_support() if str(row.arch) == "host"]
    half = types.SimpleNamespace(
        arch="sm90", operand="float16", operand_b="float16", layouts=["rcr"], d=["float16"], note=""
    )
    codes = [
        types.SimpleNamespace(**{**vars(half), "operand": of, "operand_b": of, "arch": arch, "layouts": some})
        for of, arch, some in (
            ("int8", "sm80", ["rcr", "rrr", "crr", "ccr", "rcc", "rrc", "crc", "ccc"]),
            ("int8", "sm90", ["rcr", "rcc"]),
            ("float8_e4m3fn", "sm89", ["rcr", "rcc"]),
        )
    ]
    monkeypatch.setattr(cutplan, "gemm_support", lambda: [*gemm, half, *codes])
    attention = [row for row in cutplan.fmha_support() if str(row.arch) == "host"]
    of_gpus = [
        types.SimpleNamespace(arch=arch, operand=row.operand, largest_dim=row.largest_dim)
        for arch in ("sm80", "sm89")
        for row in attention
    ]
    monkeypatch.setattr(cutplan, "fmha_support", lambda: [*attention, *of_gpus])
    text = readme.limits()
    assert "A and B of one type: float16, bfloat16, float32 or float64, on the host; float16 on GPUs." in text
    assert "- sm90 kernels of float16 serve the layouts rcr;" in text
    assert text.count("of int8 serve") == text.count("- sm90 kernels of int8 serve the layouts rcr and rcc;")
    assert "- sm90 kernels of int8 serve" in text
    assert "- On GPUs float8 operands have the layout rcr or rcc." in text
    assert (
        "- With scales matrix multiplication takes int8, float8_e4m3fn, float8_e4m3fn with float8_e5m2 and "
        "float8_e5m2 with float8_e4m3fn, on the host." in text
    )
    assert "int32" in next(line for line in text.splitlines() if line.startswith("- Neither of them takes"))
    assert "Q, K and V of one type: float16, bfloat16, float32 or float64, on the host and on GPUs." in text
    assert (
        text.count("has no kernels of its own for") == text.count("has no kernels of its own for sm90") == 1
    )


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", plots.PAGES)
def test_plots_stand_out_from_every_page(page: str) -> None:
    """By the contrast that WCAG asks of graphics, 3; text has 4, as no grey has the 4.5 of text on both."""
    for name, picture in readme.draw().items():
        root = ElementTree.fromstring(picture)
        assert "background" not in picture and "prefers-color-scheme" not in picture
        for element in root.iter():
            colour = element.get("fill") or element.get("stroke")
            if colour is None or element.get("stroke-width") == "0.4":
                continue  # the helping lines of the grid
            light, dark = sorted((_luminance(colour), _luminance(page)), reverse=True)
            least = 4 if element.tag.endswith("text") else 3
            assert (light + 0.05) / (dark + 0.05) >= least, (name, colour)


def test_plots_show_every_problem() -> None:
    gemm, judged = _newest("gemm"), _newest("selection")
    matmul = ElementTree.fromstring(plots.matmul(gemm, judged))
    dots = [e for e in matmul.iter() if e.tag.endswith("circle")]
    large = [e for e in gemm["entries"] if e["group"].startswith("six shapes")]
    assert len(dots) == len(judged["problems"]) + len(large)
    _, _, width, height = map(float, matmul.attrib["viewBox"].split())
    for dot in dots:
        assert 0 < float(dot.attrib["cx"]) < width and 0 < float(dot.attrib["cy"]) < height
    # The higher, the faster.
    by_height = sorted(dots, key=lambda dot: -float(dot.attrib["cy"]))
    speeds = [float((dot[0].text or "").rpartition(": ")[2]) for dot in by_height]
    assert speeds == pytest.approx(sorted(speeds), abs=0.011)
    attention = ElementTree.fromstring(plots.attention(_newest("fmha")))
    bars = [e for e in attention.iter() if e.tag.endswith("rect") and "TFLOP/s" in (e[0].text or "")]
    assert len(bars) == 4 * 12
    rates = [float((bar[0].text or "").split()[-2]) for bar in bars]
    scale = [float(bar.attrib["height"]) / rate for bar, rate in zip(bars, rates, strict=True)]
    assert max(scale) == pytest.approx(min(scale), rel=0.02)


def test_plots_are_the_same_each_time() -> None:
    assert readme.draw() == readme.draw()
    for name, picture in readme.draw().items():
        assert (readme.ROOT / name).read_text() == picture


def test_selection_judges_what_it_measured(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "selection.json"
    selection.main(["--device", "cpu", "--shapes", "64x48x32", "--json", str(path)])
    measured = capsys.readouterr().out
    record: _report.Record = json.loads(path.read_text())
    assert [(p["dtype"], p["layout"]) for p in record["problems"]] == list(selection.KINDS)
    selection.main(["--judge", str(path)])
    judged = capsys.readouterr().out
    assert judged and judged in measured

    for problem in record[
        "problems"
    ]:  # the model's choice takes twice as long as another, and half as long as torch
        choice = next(name for name in problem["medians"] if name != "torch")
        problem["medians"] = {"torch": 4.0, choice: 2.0, "gemm.faster": 1.0}
    verdicts, unmeasured = _selection.judge(record)
    assert verdicts["all"] == _selection.Verdict(2, pytest.approx(2), 2.0, pytest.approx(2), 1.0)
    assert not unmeasured
    record["problems"][0]["medians"] = {"torch": 4.0, "gemm.faster": 1.0}
    verdicts, unmeasured = _selection.judge(record)
    assert verdicts["all"].count == len(unmeasured) == 1


@pytest.mark.built("sm90")
@pytest.mark.parametrize("path", sorted(readme.RESULTS.glob("selection-*.json")), ids=lambda path: path.stem)
def test_the_cost_model_picks_what_is_fast(path: pathlib.Path) -> None:
    """The model of this build, on times that were taken once."""
    verdicts, unmeasured = _selection.judge(json.loads(path.read_text()))
    assert not unmeasured
    assert verdicts["all"].loss < 1.025
    invariant, of_whole_sums = verdicts["all"].invariant, verdicts["K is not split"].invariant
    assert invariant is not None and invariant > 0.9
    assert of_whole_sums is not None and of_whole_sums > 0.99


@pytest.mark.built("sm80")
@pytest.mark.parametrize(
    "path", sorted(readme.RESULTS.glob("attention_selection-*.json")), ids=lambda path: path.stem
)
def test_the_cost_model_picks_attention_that_is_fast(path: pathlib.Path) -> None:
    verdicts, unmeasured = _selection.judge(json.loads(path.read_text()))
    assert not unmeasured
    assert verdicts["all"].count >= 60 and verdicts["all"].loss < 1.02
