"""The benchmark of quantised products measures every kind of them, and says what a peer refuses."""

from __future__ import annotations

import json
import pathlib

import pytest

from benchmarks import _report, gemm, quantized


def test_every_kind_of_product(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "quantized.json"
    quantized.main(
        ["--device", "cpu", "--quick", "--only", " 1x128x|groups|bfloat16 .* 1x256x", "--json", str(path)]
    )
    record: _report.Record = json.loads(path.read_text())
    said = capsys.readouterr().out
    groups = [entry["group"] for entry in record["entries"]]
    assert groups == [
        "int8, row and column scales",
        *(f"e4m3, {scales}" for scales in quantized.SCALES),
        "e4m3, 2 groups of rows",
        *(f"bfloat16 and {form}" for form in ("int4", *quantized.FORMATS)),
    ]
    for entry in record["entries"]:
        names = [c["name"] for c in entry["contenders"]]
        assert names[0] == "cutplan" and len(set(names)) == len(names) > 1
        for contender in entry["contenders"]:
            if "refused" not in contender:
                assert len(contender["microseconds"]) == record["rounds"] == gemm.QUICK_ROUNDS
        ours = _report.find(entry, "cutplan")
        assert ours is not None and ".host." in ours["sku"] and ours["bytes_of_b"] > 0
        assert f"{entry['group']}, cutplan: " in said or len(entry["contenders"]) == 2
    assert "torch refuses bfloat16 and int4 1x256x256: " in said  # it has that on GPUs


def test_the_whole_set(capsys: pytest.CaptureFixture[str]) -> None:
    quantized.main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert len(set(lines)) == len(lines)
    for line in (
        "int8, row and column scales 64x28672x8192",
        "e4m3, tensor scales 1x4096x4096",
        "e4m3, 1x128 and 128x128 scales 8192x8192x8192",
        "e4m3, 64 groups of rows 17122x4096x4096",
        "bfloat16 and int4 4096x28672x8192",
        "bfloat16 and nf4 2048x8192x8192",
    ):
        assert line in lines
    for bad in (["--only", "("], ["--device", "cpu"]):
        with pytest.raises(SystemExit):
            quantized.main(bad)
    with pytest.raises(SystemExit, match="no problem's line"):
        quantized.main(["--device", "cpu", "--quick", "--only", "nothing like this"])
