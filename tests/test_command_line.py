"""`cutplan` and `python -m cutplan`: what they print and refuse. Tuning is in core/test_tuning.py."""

from __future__ import annotations

import importlib.metadata
import pathlib
import random
import subprocess
import sys
from typing import Any

import pytest

import cutplan
from cutplan import _problems
from cutplan.__main__ import main


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cutplan", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_script_is_the_module() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="cutplan")
    assert script.load() is main
    program = pathlib.Path(sys.executable).parent / "cutplan"
    for command in ([str(program)], [sys.executable, "-m", "cutplan"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, f"cutplan {cutplan.__version__}\n"), done.stderr


def test_directories_and_nothing() -> None:
    directories = run("--cmake-dir", "--include-dir").stdout.split()
    assert [path.rpartition("/")[2] for path in directories] == ["cutplan", "include"]
    nothing = run()
    assert nothing.returncode == 2 and nothing.stdout.startswith("usage: cutplan ")


def test_info() -> None:
    info = run("info")
    assert info.returncode == 0, info.stderr
    first, *rest = info.stdout.splitlines()
    assert first.startswith(
        f"cutplan {cutplan.__version__}, kernels for {', '.join(cutplan.built_architectures())}; "
    )
    if cutplan.cuda_device_count() == 0:
        assert first.endswith(f"; no GPU used: {cutplan.cuda_unavailable_reason()}")
    for device in ["cpu", *(f"cuda:{i}" for i in range(cutplan.cuda_device_count()))]:
        assert sum(line.startswith(f"{device}: ") for line in rest) == 1
        if device != "cpu":
            assert f"{device} {cutplan.device_properties(device).name}" in first
    assert len(rest) == 2 * (1 + cutplan.cuda_device_count()) and "gemm." not in info.stdout


def test_info_says_why_a_gpu_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a machine with two GPUs, one of which no kernel of the build serves."""
    names = {"cuda:0": "old", "cuda:1": "new", "cpu": "host"}

    def select(descriptor: Any, device: str) -> None:
        if device == "cuda:0":
            raise cutplan.Unsupported("no kernel for compute capability 7.0\nand more")

    monkeypatch.setattr(cutplan, "cuda_device_count", lambda: 2)
    monkeypatch.setattr(
        cutplan, "device_properties", lambda device: cutplan.DeviceProperties(name=names[device])
    )
    monkeypatch.setattr(cutplan.GemmPlan, "select", staticmethod(select))
    assert main(["info"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.endswith("; cuda:0 old not used: no kernel for compute capability 7.0; cuda:1 new")


def test_info_with_kernels() -> None:
    info = run("info", "--kernels")
    assert info.returncode == 0, info.stderr
    for sku in [*cutplan.gemm_registry(), *cutplan.fmha_registry()]:
        assert f"\n  {sku}\n" in info.stdout
    for problem in (
        "4096 x 4096 x 4096 bfloat16",
        "4 x 16 heads x 4096 x 4096 x 128 bfloat16",
        ", backward\n",
    ):
        assert info.stdout.count(problem) >= 1 + cutplan.cuda_device_count()


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_bench_attention(device: str, backward: bool, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    """Every kernel that can serve the problem is in the table, fastest first."""
    chance = random.Random(seed)
    heads_k, dim, seq, seq_k = 2, chance.choice((16, 64)), chance.randint(1, 90), chance.randint(1, 90)
    dtypes = ("bfloat16", "float16", "float32")
    options = {
        "--heads": 4,
        "--heads-k": heads_k,
        "--dim": dim,
        "--seq": seq,
        "--seq-k": seq_k,
        "--window": 20,
    }
    flags = [str(word) for pair in options.items() for word in pair] + (["--backward"] if backward else [])
    where = "cuda:0" if device == "cuda" else device
    assert main(["bench", "attention", *flags, "--dtype", ",".join(dtypes), "--device", where]) == 0
    out = capsys.readouterr().out
    blocks = [block.splitlines() for block in out.split(f" on {where}\n")[1:]]
    assert len(blocks) == len(dtypes)
    for dtype, block in zip(dtypes, blocks, strict=True):
        g = cutplan.FmhaDescriptor(
            heads=4,
            heads_k=heads_k,
            seq_q=seq,
            seq_k=seq_k,
            dim=dim,
            dtype=dtype,
            window=(20, 0),
            lse=backward,
        )
        properties = cutplan.device_properties(where)
        kernels = (
            cutplan.fmha_kernels(cutplan.FmhaBackwardDescriptor(g), properties)
            if backward
            else cutplan.fmha_kernels(g, properties)
        )
        header, *rows = [line.split() for line in block if line.startswith("  ")]
        assert header == ["kernel", "us", "TFLOP/s", "GB/s", "predicted", "us"]
        assert sorted(row[0] for row in rows) == sorted(sku.name for sku in kernels)
        times = [float(row[1]) for row in rows]
        assert times == sorted(times) and min(times) > 0


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_tune_attention(device: str, backward: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured decides, in this process and in others that find the file."""
    where = "cuda:0" if device == "cuda" else device
    flags = ["--seq", "70", "--heads", "2", "--dim", "32", "--dtype", "float32", "--device", where]
    assert main(["tune", "attention", *flags, *(["--backward"] if backward else [])]) == 0
    said = capsys.readouterr().out
    g = cutplan.FmhaDescriptor(heads=2, seq_q=70, seq_k=70, dim=32, dtype="float32", lse=backward)
    problem = cutplan.FmhaBackwardDescriptor(g) if backward else g
    entry = cutplan.tuned_fmha(problem, cutplan.device_properties(where))
    assert entry is not None and entry.source == "measured" and entry.kernel in said
    plan = cutplan.FmhaBackwardPlan if backward else cutplan.FmhaPlan
    assert plan.select(problem, where).sku.name == entry.kernel
    assert entry.problem.split()[0] == ("fmha_backward" if backward else "fmha")
    cutplan.clear_tuning()


def test_tune_for_batch_invariance(device: str) -> None:
    where = "cuda:0" if device == "cuda" else device
    flags = ["--m", "5", "--n", "64", "--k", "64", "--dtype", "float32", "--device", where]
    assert main(["tune", "gemm", *flags, "--batch-invariant"]) == 0
    g = cutplan.GemmDescriptor(m=5, n=64, k=64, a="float32")
    for batch_invariant in (True, False):
        preference = cutplan.PlanPreference(batch_invariant=batch_invariant)
        entry = cutplan.tuned_gemm(g, cutplan.device_properties(where), preference)
        assert (entry is not None) == batch_invariant
    cutplan.clear_tuning()


def test_work_of_attention(seed: int) -> None:
    """Visible pairs, by the definition of every mask."""
    chance = random.Random(seed)
    for _ in range(50):
        seq_q, seq_k = chance.randint(1, 40), chance.randint(1, 40)
        causal = chance.choice((None, "top_left", "bottom_right"))
        window = (chance.choice((-1, 0, 3, 50)), chance.choice((-1, 0, 2)))
        g = cutplan.FmhaDescriptor(
            batch=3,
            heads=2,
            seq_q=seq_q,
            seq_k=seq_k,
            dim=8,
            dim_v=4,
            dtype="float32",
            causal=causal,
            window=window,
            lse=True,
        )
        offset = seq_k - seq_q if str(g.align) == "bottom_right" else 0
        seen = [
            (causal is None or j <= i + offset)
            and (window[0] < 0 or j >= i + offset - window[0])
            and (window[1] < 0 or j <= i + offset + window[1])
            for i in range(seq_q)
            for j in range(seq_k)
        ]
        assert _problems.visible_pairs(g) == sum(seen), g
        assert _problems.flop(g) == 2 * 3 * 2 * sum(seen) * (8 + 4)
        assert _problems.flop(cutplan.FmhaBackwardDescriptor(g)) == 2 * 3 * 2 * sum(seen) * (3 * 8 + 2 * 4)
        moved = 4 * 3 * 2 * (seq_q * (8 + 4) + seq_k * (8 + 4))
        assert _problems.moved_bytes(g) == moved
        assert _problems.moved_bytes(cutplan.FmhaBackwardDescriptor(g)) == 2 * moved


@pytest.mark.parametrize(
    "options, complaint",
    [
        ([], "the following arguments are required: --seq"),
        (
            ["--seq", "8", "--heads", "3", "--heads-k", "2"],
            "--heads-k: a divisor of heads, 3, required of k and v, got 2",
        ),
        (
            ["--seq", "8", "--dtype", "float32,bf16"],
            "argument --dtype: one or more of float16, bfloat16, float32, float64 required, got 'bf16'",
        ),
        (["--seq", "8", "--dtype", "int8"], "argument --dtype: one or more of"),
        (["--seq", "8", "--causal", "left"], "--causal: must be one of"),
        (["--seq", "8", "--window", "-5"], "--window: -1 (no limit) or a count"),
        (
            ["--seq", "8", "--heads", "4,3", "--heads-k", "2", "--backward"],
            "--heads-k: a divisor of heads, 3",
        ),
        (["--seq", "8", "--device", "gpu"], "--device: must be"),
        (["--seq", "8", "--heads-k", "0"], "--heads-k: a positive integer, got '0'"),
        (["--seq", "8,", "--heads", "3"], "positive integers with commas between, got '8,'"),
        (["--seq", "8", "--device", "cuda:99"], "cuda:99 is not there"),
    ],
)
def test_bad_command_lines(options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "attention", *options])
    said = capsys.readouterr()
    assert stopped.value.code == 2 and complaint in said.err and not said.out


@pytest.mark.parametrize("command", ["bench", "tune"])
@pytest.mark.parametrize(
    "options, complaint",
    [
        (
            ["--dtype", "bf16"],
            "--dtype: one or more of float16, bfloat16, float32, float64, int8, float8_e4m3fn, float8_e5m2 "
            "required, got 'bf16'",
        ),
        (["--dtype", "float32,int4"], "--dtype: one or more of float16, bfloat16, float32, float64, int8, "),
        (["--d", "bf16"], "--d: invalid choice: 'bf16' (choose from "),
        (["--layout", "rr"], "--layout: must be one of 'rcr', "),
        (["--activation", "gelu"], "--activation: must be one of 'none', "),
        (["--math", "exact"], "--math: must be one of 'fast', 'tf32', "),
        (["--alignment", "3"], "--alignment: a power of two of bytes"),
        (["--sm-count", "-1"], "--sm-count: 0 (all) or a positive count required, got -1"),
        (["--device", "gpu"], "--device: must be"),
    ],
)
def test_options_are_named_as_typed(
    command: str, options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "gemm", "--m", "4", "--n", "4", "--k", "4", *options])
    said = capsys.readouterr()
    assert stopped.value.code == 2 and complaint in said.err and not said.out


def test_a_problem_that_no_kernel_serves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "attention", "--seq", "8", "--dim", "300,64", "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert "none: dim: a head dimension of at most 256 required" in out and "fmha.host." in out
