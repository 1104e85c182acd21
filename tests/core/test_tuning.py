"""Measured kernels: what is kept, who finds it, and what becomes of it in bad hands."""

from __future__ import annotations

import itertools
import os
import pathlib
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import cutplan
from cutplan.__main__ import main

H200 = cutplan.DeviceProperties(
    name="NVIDIA H200", compute_capability=90, sm_count=132, shared_memory=232448, l2_bytes=62914560
)
# As tables spell it, which other machines and later versions read: a change makes exported ones worthless.
SQUARE = (
    "gemm m=512 n=384 k=1024 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132"
)

_made_up = itertools.count()


def made_up_device() -> cutplan.DeviceProperties:
    """One that no other test knows anything about."""
    return cutplan.DeviceProperties(
        name=f"Made-up GPU {next(_made_up)}", compute_capability=90, sm_count=132, shared_memory=232448
    )


def square(**options: object) -> cutplan.GemmDescriptor:
    fields = {"m": 512, "n": 384, "k": 1024, "a": "bfloat16", **options}
    return cutplan.GemmDescriptor(**fields)  # type: ignore[arg-type]


def tiny(m: int = 8) -> cutplan.GemmDescriptor:
    return cutplan.GemmDescriptor(m=m, n=8, k=8, a="float32")


def table(device: cutplan.DeviceProperties, *entries: tuple[str, str]) -> str:
    """Problems and the kernels that were fastest for them."""
    lines = ["cutplan-tuning\t1", f"device\t{device.name}\t{device.compute_capability}\t0\t0.0.0"]
    lines += [f"{problem}\t{kernel}\t1000\t2000" for problem, kernel in entries]
    return "\n".join([*lines, f"end\t{len(entries)}", ""])


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """An empty cache, for this test alone."""
    path = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setenv("CUTPLAN_CACHE_DIR", str(path))
        assert kept() == []
        yield path
    cutplan.tuning_cache()


def fresh_python(code: str, **environment: str | None) -> str:
    """What another process prints. None takes a variable away."""
    variables = {**os.environ, **environment}
    given = {name: value for name, value in variables.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, env=given, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def kept() -> list[cutplan.TuningEntry]:
    """What the files hold."""
    return [entry for entry in cutplan.tuning_cache().entries if entry.source != "shipped"]


def kernels() -> dict[str, str]:
    return {entry.problem: entry.kernel for entry in kept()}


def only_file(folder: pathlib.Path) -> pathlib.Path:
    (path,) = folder.glob("tuning-*.txt")
    return path


# ---- measuring and keeping


def test_measuring_keeps_an_entry_that_another_process_finds(folder: pathlib.Path) -> None:
    measured = cutplan.tune_gemm(tiny(), "cpu")
    assert [entry.sku.name for entry in measured] == [cutplan.GemmPlan.select(tiny(), "cpu").sku.name]
    assert 0 < measured[0].seconds < 1
    (entry,) = kept()
    assert entry.kernel == measured[0].sku.name and entry.source == "measured" and entry.device == "host"
    assert entry.seconds == pytest.approx(measured[0].seconds, abs=1e-9)
    found = cutplan.tuned_gemm(tiny(), cutplan.device_properties("cpu"))
    assert found is not None and found.problem == entry.problem
    told = fresh_python(
        "import cutplan\n"
        "d = cutplan.GemmDescriptor(m=8, n=8, k=8, a='float32')\n"
        "print(cutplan.tuned_gemm(d, cutplan.device_properties('cpu')))"
    )
    assert told.strip() == repr(found)


def test_a_second_process_follows_the_file_without_measuring(folder: pathlib.Path) -> None:
    """The file is made to name a kernel that was never measured; whoever measured would find another."""
    cutplan.tune_gemm(tiny(), "cpu")
    path = only_file(folder)
    path.write_text(path.read_text().replace("gemm.host.", "gemm.elsewhere."))
    before = path.read_bytes()
    told = fresh_python(
        "import cutplan\n"
        "d = cutplan.GemmDescriptor(m=8, n=8, k=8, a='float32')\n"
        "cutplan.GemmPlan.select(d, 'cpu', cutplan.PlanPreference(tune='measure'))\n"
        "print(cutplan.tuned_gemm(d, cutplan.device_properties('cpu')).kernel)"
    )
    assert told.startswith("gemm.elsewhere.")
    assert path.read_bytes() == before


def test_the_host_has_nothing_to_choose_and_so_nothing_to_measure(folder: pathlib.Path) -> None:
    off, cached, measure = (
        cutplan.GemmPlan.select(tiny(), "cpu", cutplan.PlanPreference(tune=tune)).sku.name
        for tune in ("off", "cached", "measure")
    )
    assert off == cached == measure
    assert not folder.exists()


def test_measure_gemm_keeps_nothing(folder: pathlib.Path) -> None:
    progress: list[tuple[int, int]] = []
    measured = cutplan.measure_gemm(
        tiny(), "cpu", progress=lambda done, total: progress.append((done, total))
    )
    assert len(measured) == 1 and measured[0].predicted_seconds is None
    assert progress[0][0] == 0 and progress[-1][0] == progress[-1][1]
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert not folder.exists() and kept() == []


def test_a_progress_callback_may_stop_the_measurement(folder: pathlib.Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        cutplan.tune_gemm(tiny(), "cpu", progress=stop)
    assert kept() == []


@pytest.mark.parametrize("layout", ["rcr", "rrr", "crr", "ccr", "rcc", "rrc", "crc", "ccc"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_operands_of_every_layout_and_type(dtype: str, layout: str) -> None:
    descriptor = cutplan.GemmDescriptor(m=9, n=7, k=5, a=dtype, layout=layout, batch=2, alignment=16)
    assert len(cutplan.measure_gemm(descriptor, "cpu")) == 1


@pytest.mark.parametrize(
    "epilogue",
    [
        cutplan.Epilogue(bias=True, c=True, residual=True, activation="silu", aux="store"),
        cutplan.Epilogue(bias="m", row_scale=True, column_scale=True),
        cutplan.Epilogue(activation="gelu_erf", aux="gradient"),
        cutplan.Epilogue(bias=True, activation="silu", gate="separate", row_scale=True),
        cutplan.Epilogue(bias=True, activation="relu", gate="interleaved", residual=True),
    ],
)
def test_operands_of_every_epilogue(epilogue: cutplan.Epilogue) -> None:
    descriptor = cutplan.GemmDescriptor(m=9, n=7, k=5, a="float32", epilogue=epilogue, batch=2)
    assert len(cutplan.measure_gemm(descriptor, "cpu")) == 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layout": "rrr", "d": "float32"},
        {"groups": 1, "epilogue": cutplan.Epilogue(bias=True, column_scale=True, row_scale=True)},
        {"epilogue": cutplan.Epilogue(bias=True, activation="silu", gate="separate")},
        {"epilogue": cutplan.Epilogue(bias=True, activation="silu", gate="interleaved")},
        {"over": "k", "layout": "crr"},
        {"over": "k", "layout": "crr", "groups": 1},
    ],
)
def test_grouped_products(folder: pathlib.Path, options: dict[str, object]) -> None:
    fields = {"groups": 3, "m": 20, "n": 7, "k": 11, "a": "bfloat16", **options}
    descriptor = cutplan.GroupedGemmDescriptor(**fields)  # type: ignore[arg-type]
    (measured,) = cutplan.tune_gemm(descriptor, "cpu")
    assert measured.sku.name == cutplan.GroupedGemmPlan.select(descriptor, "cpu").sku.name
    found = cutplan.tuned_gemm(descriptor, cutplan.device_properties("cpu"))
    assert found is not None and found.kernel == measured.sku.name
    beginning = f"grouped_gemm m=20 n=7 k=11 groups={fields['groups']} over={fields.get('over', 'm')} "
    assert found.problem.startswith(beginning)
    assert len(cutplan.measure_gemm(descriptor, "cpu")) == 1


def test_what_cannot_be_measured(folder: pathlib.Path) -> None:
    with pytest.raises(cutplan.InvalidProblem, match="extents of at least 1 required, got gemm m=0"):
        cutplan.measure_gemm(tiny(0), "cpu")
    with pytest.raises(cutplan.InvalidProblem, match="kernel: none required"):
        kernel = cutplan.GemmPlan.select(tiny(), "cpu").sku.name
        cutplan.tune_gemm(tiny(), "cpu", cutplan.PlanPreference(kernel=kernel))
    with pytest.raises(cutplan.Unsupported, match="operand d"):
        cutplan.measure_gemm(cutplan.GemmDescriptor(m=8, n=8, k=8, a="float64", d="float32"), "cpu")
    with pytest.raises(ValueError, match="tune: must be one of 'off', 'cached', 'measure'; got 'always'"):
        cutplan.PlanPreference(tune="always")
    assert not folder.exists()


# ---- look-up


def test_shipped_below_imported_below_measured(folder: pathlib.Path) -> None:
    host = cutplan.device_properties("cpu")
    cutplan.tune_gemm(tiny(), "cpu")
    (measured,) = kept()
    cutplan.clear_tuning()
    assert cutplan.tuned_gemm(tiny(), host) is None

    found: Callable[[], cutplan.TuningEntry | None] = lambda: cutplan.tuned_gemm(tiny(), host)  # noqa: E731
    assert cutplan.import_tuning(table(host, (measured.problem, "gemm.imported"))) == 1
    entry = found()
    assert entry is not None and (entry.kernel, entry.source) == ("gemm.imported", "imported")
    assert (entry.seconds, entry.model_seconds) == (1e-6, 2e-6)
    cutplan.tune_gemm(tiny(), "cpu")
    entry = found()
    assert entry is not None and (entry.kernel, entry.source) == (measured.kernel, "measured")


def test_a_shipped_table_corrects_the_model_on_its_device(folder: pathlib.Path) -> None:
    device, other = made_up_device(), made_up_device()
    assert cutplan.tuned_gemm(square(), device) is None
    assert cutplan.add_tuning(table(device, (SQUARE, "gemm.shipped"))) == 1
    entry = cutplan.tuned_gemm(square(), device)
    assert entry is not None and (entry.kernel, entry.source, entry.problem) == (
        "gemm.shipped",
        "shipped",
        SQUARE,
    )
    assert cutplan.tuned_gemm(square(), other) is None
    cutplan.import_tuning(table(device, (SQUARE, "gemm.imported")))
    entry = cutplan.tuned_gemm(square(), device)
    assert entry is not None and entry.kernel == "gemm.imported"
    cutplan.clear_tuning()
    entry = cutplan.tuned_gemm(square(), device)
    assert entry is not None and entry.kernel == "gemm.shipped"
    assert SQUARE not in cutplan.export_tuning()  # only what was measured or imported


def test_what_makes_a_problem() -> None:
    device = made_up_device()
    cutplan.add_tuning(table(device, (SQUARE, "gemm.this")))

    def known(preference: cutplan.PlanPreference | None = None, **options: object) -> bool:
        return cutplan.tuned_gemm(square(**options), device, preference) is not None

    def prefer(**options: object) -> cutplan.PlanPreference:
        return cutplan.PlanPreference(**options)  # type: ignore[arg-type]

    assert known() and known(layout="rcr", alignment=16, b="bfloat16", d="bfloat16")
    assert known(prefer(tune="off")) and known(prefer(math="strict"))  # which is about float32
    # An epilogue hardly changes which main loop is best.
    assert known(epilogue=cutplan.Epilogue(bias=True, activation="silu", residual=True))
    # D^T = B^T A^T is the same work.
    assert known(m=384, n=512, layout="rcc")
    for options in (
        {"m": 513},
        {"n": 385},
        {"k": 1032},
        {"batch": 2},
        {"a": "float16"},
        {"d": "float32"},
        {"layout": "rrr"},
        {"alignment": 8},
        {"epilogue": cutplan.Epilogue(gate="separate")},
    ):
        assert not known(**options), options
    for preference in (
        prefer(sm_count=100),
        prefer(arch="sm80"),
        prefer(deterministic=True),
        prefer(batch_invariant=True),
        prefer(max_workspace_bytes=0),
    ):
        assert not known(preference), preference


def test_an_epilogue_of_its_own_wins_over_the_product_alone() -> None:
    device = made_up_device()
    epilogue = cutplan.Epilogue(bias=True, activation="silu")
    with_bias = f"{SQUARE} bias=bfloat16 activation=silu"
    cutplan.add_tuning(table(device, (SQUARE, "gemm.plain"), (with_bias, "gemm.silu")))
    entry = cutplan.tuned_gemm(square(epilogue=epilogue), device)
    assert entry is not None and (entry.problem, entry.kernel) == (with_bias, "gemm.silu")


def test_batch_invariant_choices_are_measured_for_themselves() -> None:
    device = made_up_device()
    cutplan.add_tuning(table(device, (f"{SQUARE} batch_invariant", "gemm.same_bits"), (SQUARE, "gemm.any")))
    preference = cutplan.PlanPreference(batch_invariant=True)
    entry = cutplan.tuned_gemm(square(), device, preference)
    assert entry is not None and entry.kernel == "gemm.same_bits"
    assert cutplan.tuned_gemm(square(m=1), device, preference) is None


def test_workspace_limits_by_powers_of_two() -> None:
    device = made_up_device()
    cutplan.add_tuning(table(device, (f"{SQUARE} workspace=1048576", "gemm.small")))

    def known(limit: int | None) -> bool:
        preference = cutplan.PlanPreference(max_workspace_bytes=limit)
        return cutplan.tuned_gemm(square(), device, preference) is not None

    assert [known(limit) for limit in (2**20 - 1, 2**20, 2**21 - 1, 2**21, None)] == [
        False,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.built("sm80")
def test_the_measured_kernel_comes_first(folder: pathlib.Path) -> None:
    modelled = [sku.name for sku in cutplan.gemm_kernels(square(), H200, cutplan.PlanPreference(tune="off"))]
    assert len(modelled) > 2
    for chosen in (modelled[-1], next(name for name in modelled if re.search(r"\.k\d+$", name))):
        cutplan.import_tuning(table(H200, (SQUARE, chosen)))
        found = [sku.name for sku in cutplan.gemm_kernels(square(), H200)]
        assert found == [chosen, *(name for name in modelled if name != chosen)]
        off = cutplan.gemm_kernels(square(), H200, cutplan.PlanPreference(tune="off"))
        assert [sku.name for sku in off] == modelled
        named = cutplan.gemm_kernels(square(), H200, cutplan.PlanPreference(kernel=modelled[0]))
        assert [sku.name for sku in named] == [modelled[0]]


@pytest.mark.built("sm80")
def test_kernels_that_this_build_lacks_are_passed_over(folder: pathlib.Path) -> None:
    modelled = [sku.name for sku in cutplan.gemm_kernels(square(), H200, cutplan.PlanPreference(tune="off"))]
    for unknown in (
        "gemm.sm80.bf16.rcr.1x1x1",
        f"{modelled[1]}.k5",
        f"{modelled[1]}x",
        modelled[1][:-1],
        "?",
    ):
        cutplan.import_tuning(table(H200, (SQUARE, unknown)))
        entry = cutplan.tuned_gemm(square(), H200)
        assert entry is not None and entry.kernel == unknown
        assert [sku.name for sku in cutplan.gemm_kernels(square(), H200)] == modelled


@pytest.mark.built("sm80")
def test_a_kernel_that_the_workspace_limit_rules_out_is_passed_over(folder: pathlib.Path) -> None:
    limit = cutplan.PlanPreference(max_workspace_bytes=1, tune="off")
    modelled = [sku.name for sku in cutplan.gemm_kernels(square(), H200, limit)]
    everything = [sku.name for sku in cutplan.gemm_kernels(square(), H200)]
    too_much = next(name for name in everything if name not in modelled)
    cutplan.import_tuning(table(H200, (f"{SQUARE} workspace=1", too_much)))
    found = cutplan.gemm_kernels(square(), H200, cutplan.PlanPreference(max_workspace_bytes=1))
    assert [sku.name for sku in found] == modelled


@pytest.mark.cuda
@pytest.mark.parametrize("tune", ["cached", "measure"])
def test_measured_once_followed_by_every_process(folder: pathlib.Path, tune: str) -> None:
    """The file is then made to name the slowest: whoever measured again would not choose it."""
    descriptor = square(m=16)
    chosen = cutplan.GemmPlan.select(descriptor, "cuda", cutplan.PlanPreference(tune="measure")).sku.name
    (entry,) = kept()
    assert entry.kernel == chosen and 0 < entry.seconds <= entry.model_seconds
    slowest = cutplan.measure_gemm(descriptor, "cuda")[-1].sku.name
    path = only_file(folder)
    path.write_text(path.read_text().replace(f"\t{chosen}\t", f"\t{slowest}\t"))
    told = fresh_python(
        "import cutplan\n"
        "d = cutplan.GemmDescriptor(m=16, n=384, k=1024, a='bfloat16')\n"
        f"print(cutplan.GemmPlan.select(d, 'cuda', cutplan.PlanPreference(tune='{tune}')).sku)"
    )
    assert told.strip() == slowest != chosen


@pytest.mark.cuda
def test_tuning_grouped_products(folder: pathlib.Path) -> None:
    descriptor = cutplan.GroupedGemmDescriptor(groups=8, m=512, n=256, k=128, a="bfloat16")
    preference = cutplan.PlanPreference(tune="measure")
    chosen = cutplan.GroupedGemmPlan.select(descriptor, "cuda", preference).sku.name
    (entry,) = kept()
    assert entry.kernel == chosen and entry.problem.startswith(
        "grouped_gemm m=512 n=256 k=128 groups=8 over=m "
    )


@pytest.mark.cuda
def test_measuring_beyond_the_device_memory_is_refused(folder: pathlib.Path) -> None:
    huge = cutplan.GemmDescriptor(m=2**20, n=2**20, k=2**10, a="bfloat16")
    with pytest.raises(cutplan.Unsupported, match=r"tune: measuring needs \d+ bytes .* are free"):
        cutplan.tune_gemm(huge, "cuda")


@pytest.mark.parametrize(
    "measure, descriptor",
    [
        (cutplan.measure_gemm, cutplan.GemmDescriptor(m=2**20, n=2**20, k=2**20, a="float64")),
        (cutplan.measure_gemm, cutplan.GemmDescriptor(m=2**32, n=2**32, k=2**32, a="float64")),
        (cutplan.measure_gemm, cutplan.GemmDescriptor(m=1024, n=1024, k=1024, a="float32", batch=2**40)),
        (
            cutplan.measure_fmha,
            cutplan.FmhaDescriptor(
                batch=2**20, heads=2**20, seq_q=2**20, seq_k=2**20, dim=64, dtype="float32"
            ),
        ),
    ],
    ids=["fits 64 bits", "matrices", "batches", "attention"],
)
def test_measuring_beyond_the_memory_of_the_host_is_refused(
    measure: Callable[..., object], descriptor: object, folder: pathlib.Path
) -> None:
    needed = r"(\d+ bytes|2\^50 bytes or more) of memory on cpu"
    with pytest.raises(cutplan.Unsupported, match=rf"tune: measuring needs {needed} .*, and \d+ are free"):
        measure(descriptor, "cpu")


# ---- files


def test_many_processes_write_at_once(folder: pathlib.Path) -> None:
    writers, entries = 6, 12
    code = (
        "import sys, cutplan\n"
        "first, count = map(int, sys.argv[1:])\n"
        "for m in range(first, first + count):\n"
        "    cutplan.tune_gemm(cutplan.GemmDescriptor(m=m, n=8, k=8, a='float32'), 'cpu')\n"
        "assert cutplan.tuning_cache().problems == []\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(1 + i * entries), str(entries)])
        for i in range(writers)
    ]
    seen = 0
    while any(process.poll() is None for process in running):
        cache = cutplan.tuning_cache()
        assert cache.problems == [] and len(kept()) >= seen
        seen = len(kept())
    assert [process.returncode for process in running] == [0] * writers
    rows = {int(re.search(r" m=(\d+) ", problem)[1]) for problem in kernels()}  # type: ignore[index]
    assert rows == set(range(1, 1 + writers * entries))


def test_many_threads_write_at_once(folder: pathlib.Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda m: cutplan.tune_gemm(tiny(m), "cpu"), range(1, 25)))
    assert len(kept()) == 24 and cutplan.tuning_cache().problems == []


def test_a_callback_may_tune(folder: pathlib.Path) -> None:
    """Also in another thread that it waits for: nothing of the outer measurement is being timed meanwhile."""
    code = """
import threading
import cutplan

def tiny(m):
    return cutplan.GemmDescriptor(m=m, n=8, k=8, a="float32")

def inner(done, total):
    if done == 0:
        cutplan.tune_gemm(tiny(9), "cpu")
        cutplan.GemmPlan.select(tiny(10), "cpu", cutplan.PlanPreference(tune="measure"))
        thread = threading.Thread(target=cutplan.tune_gemm, args=(tiny(11), "cpu"))
        thread.start()
        thread.join()

cutplan.tune_gemm(tiny(8), "cpu", progress=inner)
entries = cutplan.tuning_cache().entries
print(sorted(entry.problem.split()[1] for entry in entries if entry.source == "measured"))
"""
    # select() has one kernel to choose from on the host, and then it measures nothing.
    assert fresh_python(code) == "['m=11', 'm=8', 'm=9']\n"


# Threads that want the GIL back from a run, a selection, a measurement and its callback while Python ends.
BUSY_TO_THE_END = """
import random, sys, threading, time
import numpy
import cutplan

random.seed(int(sys.argv[1]))
first = cutplan.GemmDescriptor(m=8, n=8, k=8, a="float32", layout="rrr")
a, d = numpy.ones((8, 8), numpy.float32), [numpy.empty((8, 8), numpy.float32) for _ in range(4)]

def work(i):
    plan = cutplan.GemmPlan.select(first, "cpu")
    while True:
        plan.run(a, a, d[i])
        g = cutplan.GemmDescriptor(m=random.randint(1, 32), n=8, k=8, a="float32")
        cutplan.tune_gemm(g, "cpu", progress=(lambda done, total: None) if i % 2 else None)
        cutplan.GemmPlan.select(g, "cpu", cutplan.PlanPreference(tune="measure"))

for i in range(4):
    threading.Thread(target=work, args=(i,), daemon=True).start()
time.sleep(random.random() * 0.1)
sys.exit(7)
"""


def test_threads_still_tuning_when_the_process_ends(folder: pathlib.Path, seed: int) -> None:
    for attempt in range(12):
        done = subprocess.run(
            [sys.executable, "-c", BUSY_TO_THE_END, str(seed + attempt)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stdout, done.stderr) == (7, "", ""), f"seed {seed + attempt}"


def test_a_file_cut_off_anywhere(folder: pathlib.Path) -> None:
    for m in (8, 16, 24):
        cutplan.tune_gemm(tiny(m), "cpu")
    path = only_file(folder)
    whole, known = path.read_bytes(), kernels()
    assert len(known) == 3
    counts = set()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        cache = cutplan.tuning_cache()
        assert len(cache.problems) == 1 and str(path) in cache.problems[0], size
        assert kernels().items() <= known.items(), size
        counts.add(len(kept()))
    assert counts == {0, 1, 2, 3}

    # The next measurement keeps what is left, and says no more.
    path.write_bytes(whole[: whole.index(b"\nend")])
    left = kernels()
    with pytest.warns(RuntimeWarning, match="damaged or cut off; the next measurement mends the file"):
        cutplan.tune_gemm(tiny(32), "cpu")
    assert cutplan.tuning_cache().problems == []
    assert len(left) == 2 and len(kept()) == 3 and left.items() <= kernels().items()


@pytest.mark.parametrize("byte", [b"\x00", b"\xff", b"\n", b"\t", b"-", b"9"])
def test_a_file_with_any_byte_changed(folder: pathlib.Path, byte: bytes) -> None:
    cutplan.tune_gemm(tiny(), "cpu")
    path = only_file(folder)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + byte + whole[place + 1 :])
        cache = cutplan.tuning_cache()
        assert len(kept()) <= 1 and len(cache.problems) <= 1
        assert all(entry.seconds > 0 and entry.device for entry in kept())
        if byte in b"\x00\xff":
            assert len(cache.problems) == 1, place


@pytest.mark.parametrize(
    "content, complaint",
    [
        (b"", "it is empty"),
        (b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 20, "not a tuning table"),
        (b"{'a': 1}\n", "not a tuning table"),
        (b"cutplan-tuning\t1\nend\t5\n", "lines are missing"),
        (b"cutplan-tuning\t1\ngemm m=8\tgemm.k\t1\t1\nend\t1\n", "1 line ignored, the first is line 2"),
        (
            b"cutplan-tuning\t1\ndevice\thost\t0\t0\t\nx\ty\tz\n0\nend\t0\n",
            "2 lines ignored, the first is line 3",
        ),
    ],
)
def test_foreign_files_are_told_once(folder: pathlib.Path, content: bytes, complaint: str) -> None:
    cutplan.tune_gemm(tiny(), "cpu")
    path = only_file(folder)
    cutplan.clear_tuning()
    path.write_bytes(content)
    (problem,) = cutplan.tuning_cache().problems
    assert complaint in problem and str(path) in problem
    with pytest.warns(RuntimeWarning, match=re.escape(complaint)):
        cutplan.measure_gemm(tiny(), "cpu")
    cutplan.tuning_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cutplan.measure_gemm(tiny(), "cpu")


def test_files_of_other_drivers_and_versions_do_not_count(folder: pathlib.Path) -> None:
    cutplan.tune_gemm(tiny(), "cpu")
    path = only_file(folder)
    content = path.read_text()
    for old, new in (
        (f"\t{cutplan.__version__}\n", "\t99.0.0\n"),
        ("device\thost\t0\t0\t", "device\thost\t0\t7\t"),
    ):
        assert old in content
        path.write_text(content.replace(old, new))
        assert kept() == []
    path.write_text(content)
    path.rename(folder / path.name.replace(cutplan.__version__, "99.0.0"))
    assert kept() == []


# ---- folders


_FOLDER = "import cutplan; print(cutplan.tuning_cache().folder)"


def test_clear_deletes_what_cutplan_writes_and_nothing_else(folder: pathlib.Path) -> None:
    cutplan.tune_gemm(tiny(), "cpu")
    cutplan.import_tuning(table(H200, (SQUARE, "gemm.anything")))
    older = "tuning-NVIDIA_H200-cc90-driver12080-0.0.1.txt"
    ours = [only.name for only in folder.glob("tuning-*")] + [older, f"{older}.new"]
    (folder / older).write_text("damaged")
    (folder / f"{older}.new").write_text("")
    others = [
        "tuning-notes.txt",
        "tuning-results.csv",
        "tuning-GPU-cc90-driver.txt",
        "notes.txt",
        "tuning-dir",
    ]
    for name in others[:-1]:
        (folder / name).write_text("mine")
    for name in ("tuning-dir", "tuning-x-cc1-driver1-1.txt"):
        (folder / name).mkdir()
        (folder / name / "mine").write_text("mine")
    assert len(ours) == 4
    cutplan.clear_tuning()
    left = {path.name for path in folder.iterdir()} - {"tuning.lock"}
    assert left == {*others, "tuning-x-cc1-driver1-1.txt"} and not kept()


def test_which_folder(tmp_path: pathlib.Path) -> None:
    own, cache, home = (str(tmp_path / name) for name in ("own", "cache", "home"))
    every = {"CUTPLAN_CACHE_DIR": own, "XDG_CACHE_HOME": cache, "HOME": home}
    assert fresh_python(_FOLDER, **every).strip() == own
    every["CUTPLAN_CACHE_DIR"] = None  # type: ignore[assignment]
    assert fresh_python(_FOLDER, **every).strip() == f"{cache}/cutplan"
    every["XDG_CACHE_HOME"] = "relative"
    assert fresh_python(_FOLDER, **every).strip() == f"{home}/.cache/cutplan"
    assert not any(tmp_path.iterdir())  # looking makes nothing


_KEEPS_FOR_ITSELF = (
    "import cutplan\n"
    "d = cutplan.GemmDescriptor(m=8, n=8, k=8, a='float32')\n"
    "for _ in range(2): cutplan.tune_gemm(d, 'cpu')\n"
    "assert cutplan.tuned_gemm(d, cutplan.device_properties('cpu')).source == 'measured'\n"
    "cache = cutplan.tuning_cache()\n"
    "assert [entry.source for entry in cache.entries if entry.source != 'shipped'] == ['measured']\n"
)


def test_without_a_folder_a_process_keeps_its_measurements(tmp_path: pathlib.Path) -> None:
    nowhere: dict[str, str | None] = {"CUTPLAN_CACHE_DIR": None, "XDG_CACHE_HOME": None, "HOME": None}
    told = fresh_python(_KEEPS_FOR_ITSELF + "assert cache.folder is None", **nowhere)
    assert told.count("RuntimeWarning: no folder for measurements: one of CUTPLAN_CACHE_DIR") == 1
    told = fresh_python(
        "import cutplan\ntry: cutplan.import_tuning(cutplan.export_tuning())\nexcept OSError as e: print(e)",
        **nowhere,
    )
    assert "no folder for measurements" in told


def test_with_an_unusable_folder_a_process_keeps_its_measurements(tmp_path: pathlib.Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    told = fresh_python(_KEEPS_FOR_ITSELF, CUTPLAN_CACHE_DIR=str(blocked))
    assert told.count("RuntimeWarning: measurements of this process are not kept") == 1
    assert blocked.read_text() == "no folder"


# ---- tables that travel


def test_export_and_import(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for m in (8, 16):
        cutplan.tune_gemm(tiny(m), "cpu")
    measured = kernels()
    exported = cutplan.export_tuning()
    cutplan.clear_tuning()
    assert kept() == [] and list(folder.glob("tuning-*")) == []
    assert cutplan.import_tuning(exported) == 2
    assert kernels() == measured and {entry.source for entry in kept()} == {"imported"}
    assert cutplan.export_tuning() == exported


def test_tables_of_other_machines_hold_for_devices_of_their_name(folder: pathlib.Path) -> None:
    device = made_up_device()
    cutplan.import_tuning(table(device, (SQUARE, "gemm.first")))
    cutplan.import_tuning(table(device, (SQUARE.replace("m=512", "m=640"), "gemm.second")))
    cutplan.import_tuning(table(device, (SQUARE, "gemm.third")))
    assert sorted(kernels().values()) == ["gemm.second", "gemm.third"]
    assert cutplan.tuned_gemm(square(), made_up_device()) is None


@pytest.mark.parametrize("receive", [cutplan.import_tuning, cutplan.add_tuning])
def test_tables_that_are_not_whole_are_refused(folder: pathlib.Path, receive: Callable[[str], int]) -> None:
    whole = table(H200, (SQUARE, "gemm.x"))
    for size in range(len(whole)):
        with pytest.raises(cutplan.InvalidProblem, match="table: what export_tuning"):
            receive(whole[:size])
    assert kept() == []


# ---- the command line


def test_tune_on_the_command_line(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = [
        "--m",
        "8,16",
        "--n",
        "8",
        "--k",
        "8",
        "--dtype",
        "float32",
        "--layout",
        "rcr,rrr",
        "--device",
        "cpu",
    ]
    assert main(["tune", "gemm", *problem]) == 0
    out = capsys.readouterr().out
    assert out.count("the cost model's choice") == 4 and "16 x 8 x 8 float32 -> float32 rrr" in out
    exported, header = tmp_path / "table.txt", tmp_path / "measured.hpp"
    assert main(["tune", "--export", str(exported)]) == 0
    assert main(["tune", "--export", str(header)]) == 0
    assert exported.read_text() == cutplan.export_tuning() and exported.read_text() in header.read_text()
    assert main(["tune", "--clear"]) == 0
    assert main(["tune", "--show"]) == 0
    assert "nothing was measured or imported" in capsys.readouterr().out
    assert main(["tune", "--import", str(exported), "--show"]) == 0
    out = capsys.readouterr().out
    assert "4 entries imported" in out and str(folder) in out and out.count("(imported)") == 4
    shipped = [entry for entry in cutplan.tuning_cache().entries if entry.source == "shipped"]
    here = {cutplan.device_properties(f"cuda:{i}").name for i in range(cutplan.cuda_device_count())}
    elsewhere = sum(entry.device not in here for entry in shipped)
    assert elsewhere == 0 or f"\n{elsewhere} entries of devices that are not here: --show --all\n" in out
    assert out.count("(shipped)") == len(shipped) - elsewhere
    assert main(["tune", "--show", "--all"]) == 0
    out = capsys.readouterr().out
    assert out.count("(shipped)") == len(shipped) > 0 and "not here" not in out
    with pytest.raises(SystemExit):
        main(["tune", "--import", str(header)])
    assert "not a tuning table" in capsys.readouterr().err


def test_clear_saves_and_prints_first(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cutplan.tune_gemm(tiny(), "cpu")
    before, exported = cutplan.export_tuning(), tmp_path / "table.txt"
    assert main(["tune", "--export", str(exported), "--show", "--clear"]) == 0
    assert exported.read_text() == before and "(measured)" in capsys.readouterr().out and not kept()


def test_clear_and_import_replace_the_table(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    cutplan.tune_gemm(tiny(), "cpu")
    other, saved = tmp_path / "other.txt", tmp_path / "saved.txt"
    other.write_text(table(H200, (SQUARE, "gemm.anything")))
    assert main(["tune", "--clear", "--import", str(other), "--export", str(saved)]) == 0
    assert kernels() == {SQUARE: "gemm.anything"} and "gemm.host." in saved.read_text()


@pytest.mark.parametrize(
    "beside",
    [
        ["--import", "/nowhere/missing"],
        ["--import", __file__],
        ["--export", "/nowhere/missing"],
        ["gemm", "--m", "8"],
        ["gemm", "--m", "8", "--n", "8", "--k", "8", "--layout", "xyz"],
        ["--show", "gemm", "--m", "8", "--n", "8", "--k", "8", "--dtype", "float32", "--device", "cpu"],
    ],
    ids=" ".join,
)
def test_clear_forgets_nothing_for_a_command_that_fails(beside: list[str], folder: pathlib.Path) -> None:
    cutplan.tune_gemm(tiny(), "cpu")
    before = cutplan.export_tuning()
    with pytest.raises(SystemExit):
        main(["tune", "--clear", *beside])
    assert cutplan.export_tuning() == before and kept()


# Of tqdm, which need not be installed, what the bar uses.
_FAKE_TQDM = """
class tqdm:
    def __init__(self, total, bar_format):
        self.total, self.n, self.seen = total, 0, []
    def __enter__(self):
        return self
    def __exit__(self, *error):
        print("bar:", *self.seen, "of", self.total)
    def set_postfix_str(self, text):
        print("bar:", text)
    def refresh(self):
        self.seen.append(f"{self.n:.2f}")
"""


def test_tune_shows_a_bar_where_tqdm_is_installed(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tqdm.py").write_text(_FAKE_TQDM)
    command = ["tune", "gemm", "--m", "8,16", "--n", "8", "--k", "8", "--dtype", "float32", "--device", "cpu"]
    told = fresh_python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"from cutplan.__main__ import main\n"
        f"main({command})"
    )
    assert "bar: 8 x 8 x 8 float32 -> float32 rcr" in told and "[1/2]" not in told
    (steps,) = re.findall(r"bar: ([\d. ]+) of 2", told)
    seen = [float(step) for step in steps.split()]
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 2 and 1 in seen


def test_bench_on_the_command_line(capsys: pytest.CaptureFixture[str], folder: pathlib.Path) -> None:
    problem = ["--m", "8", "--n", "8", "--k", "8", "--device", "cpu"]
    assert main(["bench", "gemm", *problem, "--dtype", "float32,float64"]) == 0
    out = capsys.readouterr().out
    for column in ("kernel", "us", "TFLOP/s", "GB/s", "predicted us", "gemm.host.f32.", "gemm.host.f64."):
        assert column in out
    assert main(["bench", "gemm", *problem, "--dtype", "float64", "--d", "float32"]) == 1
    assert "none: operand d" in capsys.readouterr().out
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["tune"], "a family to measure, --show, --export, --import or --clear required"),
        (["tune", "gemm", "--m", "8"], "gemm: --n, --k required"),
        (
            ["tune", "gemm", "--m", "8,x", "--n", "8", "--k", "8"],
            "positive integers with commas between, got '8,x'",
        ),
        (["bench", "gemm", "--m", "0", "--n", "8", "--k", "8"], "positive integers"),
        (["bench", "gemm", "--m", "8", "--n", "8", "--k", "8", "--layout", "xyz"], "layout: must be one of"),
        (
            ["bench", "gemm", "--m", "8", "--n", "8", "--k", "8", "--dtype", "int7"],
            "--dtype: one or more of float16, bfloat16, float32, float64, int8, float8_e4m3fn, float8_e5m2 "
            "required, got 'int7'",
        ),
        (["bench"], "required: family"),
        (["bench", "conv"], "invalid choice: 'conv'"),
        (["tune", "--all"], "--all goes with --show"),
        (
            ["bench", "gemm", "--m", "8", "--n", "8", "--k", "8", "--device", "cuda:99"],
            "cuda:99 is not there",
        ),
        (["tune", "gemm", "--m", "8", "--n", "8", "--k", "8", "--device", "cuda:99"], "cuda:99 is not there"),
    ],
)
def test_bad_command_lines(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err
