"""The attention benchmark measures what it says, refuses wrong results, and reports peers that refuse."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import torch

import cutplan
from benchmarks import _attention, _report, fmha, readme

SHAPES = ["--shapes", "2x4x2x24x24x16", "1x2x2x1x40x8"]


@pytest.fixture
def record(tmp_path: pathlib.Path) -> _report.Record:
    path = tmp_path / "fmha.json"
    fmha.main(["--device", "cpu", "--quick", "--dtype", "float32", *SHAPES, "--json", str(path)])
    read: _report.Record = json.loads(path.read_text())
    return read


def test_every_sample_is_kept(record: _report.Record) -> None:
    assert len(record["entries"]) == 2 * 2 + 2  # passes and masks of the first shape, passes of the second
    for entry in record["entries"]:
        ours = [_attention.OURS] + ([_attention.DETERMINISTIC] if entry["pass"] == "backward" else [])
        names = [contender["name"] for contender in entry["contenders"]]
        assert sorted(names) == sorted([*ours, *_attention.PEERS])
        for contender in _attention.measured(entry):
            assert len(contender["microseconds"]) == record["rounds"] == fmha.QUICK_ROUNDS
            assert all(sample > 0 for sample in contender["microseconds"])
        # torch has its own flash attention on the host, and no cuDNN
        assert _attention.refusal(entry, _attention.CUDNN)
    assert any(_attention.contender(entry, _attention.FA2) for entry in record["entries"])
    assert record["memory"] == [] and "--json" not in record["command"]


def test_the_standard_set_holds_what_it_must() -> None:
    cases = fmha.standard_cases()
    assert len(set(map(str, cases))) == len(cases)
    for case in cases:
        if case.group in ("forward", "backward"):
            assert case.batch * case.seq_q == 16384 and case.heads * case.dim == 2048
    assert [sum(case.group == group for case in cases) for group in ("forward", "backward")] == [18, 12]
    assert {case.mask for case in cases} == {"full", "causal", "window 1024", "bias", "bias, dbias"}
    assert {case.seq_k for case in cases if case.group == "one query"} == {8192, 4096, 131072}


def entry(**given: Any) -> _report.Record:
    fields: _report.Record = {
        "group": "g",
        "pass": "forward",
        "batch": 2,
        "heads": 10,
        "heads_k": 10,
        "seq_q": 1000,
        "seq_k": 1000,
        "dim": 50,
        "mask": "full",
        "dtype": "bfloat16",
        "contenders": [
            {"name": "cutplan", "sku": "fmha.x", "workspace_bytes": 0, "microseconds": [3, 1, 2]},
            {"name": "FA2", "call": "f", "microseconds": [4.0]},
            {"name": "cuDNN", "refused": "no such thing"},
        ],
    }
    return {**fields, **given}


def test_figures() -> None:
    one = entry()
    mine = _attention.contender(one, "cutplan")
    assert mine is not None
    assert _attention.flop(one) == 4e9
    assert _attention.flop(entry(mask="causal")) == 2e9
    assert _attention.flop({**one, "pass": "backward"}) == 10e9
    assert _attention.visible_pairs(entry(mask="window 2", seq_q=4, seq_k=4)) == 1 + 2 + 3 + 3
    assert _attention.visible_pairs(entry(mask="window 2", seq_q=2, seq_k=4)) == 3 + 3
    assert _attention.rate(one, mine) == "2000 TFLOP/s"
    decode = entry(seq_q=1, heads_k=5)
    assert _attention.key_bytes(decode) == 2 * 2 * 5 * 1000 * 50 * 2
    assert _attention.rate(decode, mine) == "1000 GB/s"
    assert _attention.ratio(one, "FA2") == 2
    assert _attention.ratio(one, "cuDNN") is None and _attention.ratio(one, "mem-efficient") is None
    assert _attention.refusal(one, "cuDNN") == "no such thing"


def test_summary() -> None:
    slower = entry(mask="causal")
    slower["contenders"] = [{**slower["contenders"][0], "microseconds": [8]}, slower["contenders"][1]]
    lines = _attention.summary([entry(), slower])
    assert lines == [
        "g, cutplan: 1.000 times FA2 in geometric mean of 2, at least 0.500 "
        "(b2 h10 s1000 d50 causal bfloat16)",
        "g: cuDNN takes none of the 1",
    ]
    assert _attention.refusals([entry(), slower]) == ["cuDNN refuses g b2 h10 s1000 d50 full: no such thing"]


def test_the_report_prints_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    backward = entry(group="g, backward", heads_k=2)
    backward["pass"] = "backward"
    slow = {**backward["contenders"][0], "name": "cutplan deterministic", "microseconds": [4]}
    backward["contenders"].append({**slow, "workspace_bytes": 3 << 20})
    memory = [
        {"seq": seq, "peak_bytes": {"forward": seq << 10, "backward": seq << 12}} for seq in (1024, 2048)
    ]
    fmha.report({"entries": [entry(), backward], "memory": memory})
    said = capsys.readouterr().out
    assert "b2 h10/2 s1000 d50" in said
    assert "g, backward, cutplan deterministic: 0.500 times the default in geometric mean of 1" in said
    (row,) = [line.split() for line in said.splitlines() if line.split()[:1] == ["2048"]]
    assert row == ["2048", "2.0", "2.00", "8.0", "2.00"]
    assert "cuDNN refuses g b2 h10 s1000 d50 full; g, backward b2 h10/2 s1000 d50 full: no such thing" in said


def test_the_readme_shows_it(
    record: _report.Record, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = [{"seq": seq, "peak_bytes": {"forward": seq << 10}} for seq in (1024, 2048)]
    results = tmp_path / "results"
    results.mkdir()
    (results / "fmha.json").write_text(json.dumps({**record, "memory": memory}))
    monkeypatch.setattr(readme, "RESULTS", results)
    text = readme.results()
    assert record["command"] in text and "| b2 h4/2 s24 d16 | causal |" in text
    assert "| 2048 | 2.0 | 2.00 |" in text
    for line in _attention.summary(record["entries"]):
        assert f"- {line}" in text


def test_the_readme_has_a_table_of_what_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutplan, "built_architectures", lambda: [str(arch) for arch in cutplan.Arch])
    text = readme.attention_support()
    assert "| host | CPU | float64 | float64 | 1 to 256 |" in text
    assert text.count("\n") == 1 + len(cutplan.fmha_support())


def test_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    fmha.main(["--list", "--only", r"^backward .* d256 causal"])
    assert capsys.readouterr().out.split() == [
        *["backward", "b8", "h8", "s2048", "d256", "causal", "bfloat16"],
        *["backward", "b2", "h8", "s8192", "d256", "causal", "bfloat16"],
    ]
    for bad in (
        ["--shapes", "2x3x2x1x1x1"],
        ["--shapes", "1x1x1x0x1x1"],
        ["--only", "("],
        ["--device", "cpu"],
    ):
        with pytest.raises(SystemExit):
            fmha.main(bad)
    with pytest.raises(SystemExit, match="no problem's line"):
        fmha.main(["--device", "cpu", *SHAPES, "--only", "nothing like this"])


def test_a_wrong_result_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fmha._backward

    def wrong(case: fmha.Case, x: fmha.Tensors, device: str, deterministic: bool) -> fmha.Contender:
        made = right(case, x, device, deterministic)

        def call() -> None:
            made.call()
            made.results()["dk"][0, :, 3] += 1

        return fmha.Contender(made.name, call, made.results, made.facts, made.guarantee)

    monkeypatch.setattr(fmha, "_backward", wrong)
    with pytest.raises(SystemExit, match="wrong result for backward.*elements beyond the bound; dk"):
        fmha.main(["--device", "cpu", "--quick", "--shapes", "1x2x2x24x24x16"])


def test_a_peer_that_is_wrong_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def zero(name: str, case: fmha.Case, x: fmha.Tensors) -> fmha.Contender:
        return fmha.Contender(name, lambda: None, lambda: {"o": torch.zeros_like(x.q)}, {"call": "zeros"})

    monkeypatch.setattr(fmha, "_peer", zero)
    with pytest.raises(SystemExit, match="wrong result for forward.*FA2: o: relative error 1"):
        fmha.main(["--device", "cpu", "--quick", "--shapes", "1x2x2x24x24x16"])


@pytest.mark.cuda
def test_a_window_has_a_peer_on_the_card() -> None:
    """FlashAttention-2's own operators, forward and backward, agree with the oracle."""
    bench = fmha.Bench("cuda:0", 1, 3)
    for backward in (False, True):
        case = fmha.Case("window", 1, 4, 4, 512, 512, 64, "window 100", backward=backward)
        measured = bench.measure(case)
        assert _attention.ratio(measured, _attention.FA2)
        for peer in (_attention.CUDNN, _attention.EFFICIENT):
            assert "window" in (_attention.refusal(measured, peer) or "")
