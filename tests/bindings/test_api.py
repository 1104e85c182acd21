"""The typed face: descriptors, options, dtypes, errors, workspaces, and what importing cutplan costs."""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from tests.environment import note_not_run

DTYPES = [
    *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
    *("int64", "int32", "int8", "uint8", "int4", "uint4", "bool"),
]


def fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- dtypes and options


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes_by_name(name: str) -> None:
    dtype = cutplan.DType(name)
    assert str(dtype) == name
    assert cutplan.DType(dtype) is dtype
    assert pickle.loads(pickle.dumps(dtype)) is dtype


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "int64", "int32", "int8", "uint8", "bool"])
def test_dtypes_of_numpy(name: str) -> None:
    assert str(cutplan.DType(np.dtype(name))) == name
    assert str(cutplan.DType(np.dtype(name).type)) == name


def test_dtypes_of_torch() -> None:
    for name in DTYPES:
        if not name.endswith("int4"):
            assert str(cutplan.DType(getattr(torch, name))) == name


def test_dtypes_of_ml_dtypes_and_jax() -> None:
    try:
        import jax.numpy as jnp
        import ml_dtypes
    except ImportError as error:
        note_not_run(f"bindings: dtypes of JAX and ml_dtypes ({error})")
        return
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4"):
        assert str(cutplan.DType(getattr(ml_dtypes, name))) == name
        assert str(cutplan.DType(np.dtype(getattr(ml_dtypes, name)))) == name
        assert str(cutplan.DType(getattr(jnp, name))) == name
    assert str(cutplan.DType(jnp.float32)) == "float32"


@pytest.mark.parametrize(
    "bad", ["float", "f16", "", None, float, object(), np.complex64, torch.complex64, np.dtype("V2")]
)
def test_what_is_no_dtype(bad: Any) -> None:
    with pytest.raises(ValueError, match="not a valid DType"):
        cutplan.DType(bad)
    if bad is not None:
        with pytest.raises(TypeError, match=r"a: must be an element type, one of float64, .*got "):
            cutplan.GemmDescriptor(m=1, n=1, k=1, a=bad)


def test_options_by_name() -> None:
    for option, names in (
        (cutplan.GemmLayout, "rcr rrr crr ccr rcc rrc crc ccc"),
        (cutplan.Activation, "none relu gelu_erf gelu_tanh silu"),
        (cutplan.Arch, "host sm80 sm89 sm90"),
        (cutplan.Backend, "host cute"),
        (cutplan.Math, "fast tf32 tf32x3 strict"),
        (cutplan.Tune, "off cached measure"),
    ):
        assert [str(member) for member in option] == names.split()
        for name in names.split():
            assert option(name) is getattr(option, name)
        with pytest.raises(ValueError, match="not a valid"):
            option("nonesuch")


def test_unknown_options_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match="layout: must be one of 'rcr', 'rrr', .*'ccc'; got 'rrx'"):
        cutplan.GemmDescriptor(m=1, n=1, k=1, a="float16", layout="rrx")
    with pytest.raises(ValueError, match="activation: must be one of 'none', .*; got 'gelu'"):
        cutplan.Epilogue(activation="gelu")
    with pytest.raises(ValueError, match="arch: must be one of 'host', .*; got 'sm70'"):
        cutplan.PlanPreference(arch="sm70")
    with pytest.raises(ValueError, match="tune: must be one of 'off', 'cached', 'measure'; got 'always'"):
        cutplan.PlanPreference(tune="always")
    with pytest.raises(ValueError, match="bias: must be one of False, True, 'n', 'm'; got 'k'"):
        cutplan.Epilogue(bias="k")
    with pytest.raises(ValueError, match="aux: must be one of None, 'store', 'gradient'; got 'load'"):
        cutplan.Epilogue(aux="load")
    with pytest.raises(ValueError, match="gate: must be one of None, 'separate', 'interleaved'; got 'glu'"):
        cutplan.Epilogue(gate="glu")
    with pytest.raises(ValueError, match="over: must be one of 'm', 'k'; got 'n'"):
        cutplan.GroupedGemmDescriptor(groups=1, m=1, n=1, k=1, a="float16", over="n")


# ---- descriptors


def test_descriptor_defaults_and_fields() -> None:
    g = cutplan.GemmDescriptor(m=3, n=4, k=5, a="float16")
    assert (g.m, g.n, g.k, g.batch, g.alignment) == (3, 4, 5, 1, 0)
    assert g.a is g.b is g.d is cutplan.DType.float16
    assert g.c is g.bias is g.residual is g.aux is None
    assert g.layout is cutplan.GemmLayout.rcr
    assert g.epilogue == cutplan.Epilogue() == cutplan.Epilogue(bias=None, c=False, activation="none")
    assert g.epilogue.bias is g.epilogue.aux is g.epilogue.gate is None
    with pytest.raises(TypeError):
        cutplan.GemmDescriptor(3, 4, 5, "float16")  # type: ignore[misc]
    with pytest.raises(AttributeError):
        g.m = 4  # type: ignore[misc]


def check_values(make: Any, fields: dict[str, tuple[Any, ...]], base: dict[str, Any]) -> None:
    """Whatever differs in one field differs, hashes differently, and prints as what makes it again."""
    made = [make(**base)]
    made += [make(**{**base, name: value}) for name, values in fields.items() for value in values]
    for x, y in itertools.combinations(made, 2):
        assert x != y
    assert len({hash(x) for x in made}) == len(made)
    for x in made:
        again = eval(repr(x), vars(cutplan))
        assert again == x
        assert hash(again) == hash(x)
    assert made[0] != "a descriptor"


EPILOGUES: dict[str, tuple[Any, ...]] = {
    "bias": ("n", "m"),
    "c": (True,),
    "residual": (True,),
    "row_scale": (True,),
    "column_scale": (True,),
    "activation": ("relu", "gelu_erf", "gelu_tanh", "silu"),
    "aux": ("store", "gradient"),
    "gate": ("separate", "interleaved"),
}


def test_descriptors_are_values() -> None:
    check_values(cutplan.Epilogue, EPILOGUES, {})
    types: tuple[Any, ...] = ("bfloat16",)
    epilogues = tuple(
        cutplan.Epilogue(**{name: value}) for name, values in EPILOGUES.items() for value in values
    )
    extents: dict[str, tuple[Any, ...]] = {"m": (2,), "n": (2,), "k": (2,)}
    further: dict[str, tuple[Any, ...]] = {
        **{"a": types, "b": types, "d": ("float32",), "bias": ("float32",)},
        **{"layout": ("rrr", "ccc"), "alignment": (2,), "epilogue": epilogues},
    }
    base = {"m": 1, "n": 1, "k": 1, "a": "float16", "b": "float16", "d": "float16"}
    check_values(
        cutplan.GemmDescriptor,
        {
            **extents,
            "batch": (2,),
            **further,
            "c": ("float32",),
            "residual": ("float32",),
            "aux": ("float32",),
        },
        base,
    )
    check_values(
        cutplan.GroupedGemmDescriptor,
        {**extents, "groups": (2,), "over": ("k",), **further},
        {**base, "groups": 1},
    )


def test_true_is_a_bias_over_n() -> None:
    assert cutplan.Epilogue(bias=True) == cutplan.Epilogue(bias="n")
    assert cutplan.Epilogue(bias=True).bias == "n"
    assert cutplan.Epilogue(aux="store", gate=None).aux == "store"
    assert repr(cutplan.Epilogue()) == "Epilogue()"


def test_preferences_print_what_makes_them() -> None:
    preference = cutplan.PlanPreference(
        max_workspace_bytes=3,
        deterministic=True,
        arch="sm80",
        kernel="x",
        sm_count=2,
        math="tf32",
        tune="measure",
    )
    again = eval(repr(preference), {"PlanPreference": cutplan.PlanPreference})
    assert repr(again) == repr(preference)
    assert (again.max_workspace_bytes, again.deterministic, again.batch_invariant) == (3, True, False)
    assert (again.arch, again.kernel, again.sm_count) == (cutplan.Arch.sm80, "x", 2)
    assert (again.math, again.tune) == (cutplan.Math.tf32, cutplan.Tune.measure)
    default = cutplan.PlanPreference()
    assert default.max_workspace_bytes is default.arch is default.kernel is None
    assert (default.math, default.tune) == (cutplan.Math.tf32x3, cutplan.Tune.cached)


def test_describe_reads_every_operand() -> None:
    """Each in the place that its name says, and nothing from what is not given."""
    a, b, d = torch.ones(4, 8), torch.ones(8, 6), torch.empty(4, 6)
    plain = cutplan.describe(a, b, d)
    assert plain.epilogue == cutplan.Epilogue()
    matrix, double = torch.empty(4, 6), torch.empty(4, 6, dtype=torch.float64)
    for operands, epilogue in (
        ({"c": matrix}, {"c": True}),
        ({"bias": torch.ones(6)}, {"bias": "n"}),
        ({"bias": torch.ones(4, 1)}, {"bias": "m"}),
        ({"residual": matrix}, {"residual": True}),
        ({"row_scale": torch.ones(4)}, {"row_scale": True}),
        ({"column_scale": torch.ones(6)}, {"column_scale": True}),
        ({"aux": matrix, "aux_mode": "store"}, {"aux": "store"}),
        (
            {"aux": matrix, "aux_mode": "gradient", "activation": "silu"},
            {"aux": "gradient", "activation": "silu"},
        ),
        ({"b2": b}, {"gate": "separate"}),
    ):
        assert cutplan.describe(a, b, d, **operands).epilogue == cutplan.Epilogue(**epilogue)  # type: ignore[arg-type]
    halves = cutplan.describe(a, b, torch.empty(4, 3), gate="interleaved")
    assert (halves.n, halves.epilogue.gate) == (3, "interleaved")
    # A B without elements fits both orders: as it says itself, and with such a gate as every kernel reads it.
    nothing = torch.ones(4, 0), torch.ones(0, 6), torch.empty(4, 3)
    assert str(cutplan.describe(*nothing, gate="interleaved").layout) == "rcr"
    types = cutplan.describe(a, b, d, c=double, residual=double, aux=double, aux_mode="store")
    assert types.c is types.residual is types.aux is cutplan.DType.float64 and types.bias is None
    assert str(cutplan.describe(a, b, d.T.contiguous().T).layout) == "rrc"
    with pytest.raises(ValueError, match="aux_mode: must be one of None, 'store', 'gradient'"):
        cutplan.describe(a, b, d, aux_mode="x")


def test_describe_grouped_reads_every_operand() -> None:
    a, b, d = torch.ones(4, 8), torch.ones(3, 8, 6), torch.empty(4, 6)
    offsets = torch.tensor([0, 1, 1, 4], dtype=torch.int32)
    g = cutplan.describe_grouped(a, b, d, offsets)
    assert (g.groups, g.m, g.n, g.k, g.over, str(g.layout)) == (3, 4, 6, 8, "m", "rrr")
    assert g.epilogue == cutplan.Epilogue()
    for operands, epilogue in (
        ({"bias": torch.ones(3, 6)}, {"bias": True}),
        ({"b2": b, "activation": "silu"}, {"gate": "separate", "activation": "silu"}),
        ({"row_scale": torch.ones(4)}, {"row_scale": True}),
        ({"column_scale": torch.ones(3, 6)}, {"column_scale": True}),
    ):
        got = cutplan.describe_grouped(a, b, d, offsets, **operands).epilogue  # type: ignore[arg-type]
        assert got == cutplan.Epilogue(**epilogue)  # type: ignore[arg-type]
    over_k = cutplan.describe_grouped(a.T, torch.ones(4, 6), torch.empty(3, 8, 6), offsets)
    assert (over_k.groups, over_k.m, over_k.n, over_k.k, over_k.over) == (3, 8, 6, 4, "k")
    assert str(over_k.layout) == "crr"


# ---- plans


def test_devices_by_any_name(device: str) -> None:
    g = cutplan.GemmDescriptor(m=2, n=2, k=2, a="float16")
    name = "cpu" if device == "cpu" else "cuda:0"
    tensor = torch.ones(2, 2, device=device)
    pair = (1, 0) if device == "cpu" else (2, 0)
    index = torch.device(device, 0)
    view = cutplan.as_dtype(tensor.byte(), "int8")
    for spelled in (device, name, pair, tensor, torch.device(name), index, str(index), view):
        assert cutplan.GemmPlan.select(g, spelled).device == name
    assert cutplan.device_properties(device).sm_count > 0


@pytest.mark.parametrize("bad", ["gpu", "cuda:", "cuda:x", "cuda:-1", "", 3, None, (1, 2, 3)])
def test_what_is_no_device(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"device|incompatible"):
        cutplan.device_properties(bad)


def test_devices_that_are_not_there() -> None:
    with pytest.raises(cutplan.DeviceError, match="cuda:999"):
        cutplan.device_properties("cuda:999")
    with pytest.raises(cutplan.DeviceMismatch, match="device: .*got device type 8"):
        cutplan.device_properties((8, 0))


def test_plan_says_what_it_is(device: str) -> None:
    g = cutplan.GemmDescriptor(m=64, n=32, k=16, a="float16", epilogue=cutplan.Epilogue(bias=True))
    plan = cutplan.GemmPlan.select(g, device)
    assert (plan.descriptor.m, plan.descriptor.n, plan.descriptor.k) == (64, 32, 16)
    sku = plan.sku
    assert str(sku) == sku.name
    assert sku.name in repr(plan)
    assert sku.name in {kernel.name for kernel in cutplan.gemm_kernels(g, cutplan.device_properties(device))}
    assert sku.a is sku.b is cutplan.DType.float16
    assert sku.accumulator is cutplan.DType.float32
    assert sku.layout == "rcr"
    assert len(sku.tile) == 3 and len(sku.cluster) == 2
    again = cutplan.GemmPlan.select(g, device, cutplan.PlanPreference(kernel=sku.name))
    assert again.sku.name == sku.name
    assert f"math='{plan.precision_guarantee.math}'" in repr(plan.precision_guarantee)
    assert plan.workspace_size >= 0
    del plan
    assert sku.name == again.sku.name, "a SKU outlives its plan"


def test_kernels_say_what_a_block_takes() -> None:
    for sku in (*cutplan.gemm_registry(), *cutplan.fmha_registry()):
        if sku.arch is cutplan.Arch.host:
            assert sku.threads == sku.shared_memory == 0, sku
        else:
            assert sku.threads in range(32, 1025, 32), sku
            assert 0 < sku.shared_memory <= 227 * 1024, sku


def test_error_bound_of_numbers_and_arrays() -> None:
    g = cutplan.GemmPlan.select(
        cutplan.GemmDescriptor(m=8, n=8, k=64, a="float16"), "cpu"
    ).precision_guarantee
    magnitude = np.array([[0.0], [1.0], [70.0]])
    exact = torch.tensor([0.0, -1.5, 60.0, 1e6])
    bounds = g.error_bound(magnitude, exact)
    assert bounds.shape == (3, 4) and bounds.dtype == np.float64
    for i, j in itertools.product(range(3), range(4)):
        assert bounds[i, j] == g.error_bound(float(magnitude[i, 0]), float(exact[j]))
    assert isinstance(g.error_bound(1.0, 2.0), float)
    assert g.error_bound(2, 1) == g.error_bound(2.0, 1.0) > 0
    assert g.error_bound(np.ones((0, 3)), 1.0).shape == (0, 3)


def test_can_implement_says_what_run_would() -> None:
    a, b, d = torch.ones(4, 8), torch.ones(8, 6), torch.full((4, 6), torch.nan)
    plan = cutplan.GemmPlan.select(cutplan.describe(a, b, d), "cpu")
    assert plan.can_implement(a, b, d) is None  # type: ignore[func-returns-value]
    assert d.isnan().all()
    bad_calls: list[dict[str, Any]] = [
        {"a": None},
        {"b": a},
        {"d": a},
        {"a": a.double()},
        {"c": d},
        {"bias": a[0, :6]},
        {"b2": b},
        {"bias2": a[0, :6]},
        {"residual": a[:, :6]},
        {"aux": torch.ones(4, 6)},
        {"row_scale": torch.ones(4)},
        {"column_scale": torch.ones(6)},
        {"alpha": float("nan")},
        {"beta": 1.0},
        {"d": d.expand(4, 6)[:1].expand(4, 6)},
        {"a": torch.ones(4, 8, requires_grad=True)},
    ]
    for bad in bad_calls:
        arguments = {"a": a, "b": b, "d": d, **bad}
        with pytest.raises(cutplan.Error) as asked:
            plan.can_implement(**arguments)
        with pytest.raises(type(asked.value)) as ran:
            plan.run(**arguments)
        assert str(ran.value) == str(asked.value)
        assert d.isnan().all()
    plan.run(a, b, d)
    assert (d == 8).all()


def test_beta_is_one_where_there_is_a_c() -> None:
    a, b, c = torch.ones(4, 8), torch.ones(8, 6), torch.full((4, 6), 3.0)
    d = torch.empty(4, 6)
    plan = cutplan.GemmPlan.select(cutplan.describe(a, b, d, c=c), "cpu")
    for options, expected in (
        ({}, 11.0),
        ({"beta": 2}, 14.0),
        ({"beta": 0, "alpha": 2}, 16.0),
        ({"beta": -0.5}, 6.5),
    ):
        plan.run(a, b, d.fill_(torch.nan), c=c, **options)  # type: ignore[arg-type]
        assert (d == expected).all()
    with pytest.raises(TypeError):
        plan.run(a, b, d, c=c, beta="one")  # type: ignore[arg-type]


def test_workspaces_that_cannot_be_used() -> None:
    a, d = torch.ones(4, 4), torch.full((4, 4), torch.nan)
    plan = cutplan.GemmPlan.select(cutplan.describe(a, a, d), "cpu")
    frozen = np.zeros(64, "uint8")
    frozen.flags.writeable = False
    with pytest.raises(cutplan.ReadOnly, match="workspace"):
        plan.run(a, a, d, workspace=frozen)
    with pytest.raises(cutplan.LayoutMismatch, match="workspace: must be contiguous, got stride 2"):
        plan.run(a, a, d, workspace=np.zeros(64, "uint8")[::2])
    with pytest.raises(cutplan.ExportRefused, match="workspace"):
        plan.run(a, a, d, workspace=bytearray(64))  # type: ignore[arg-type]
    assert d.isnan().all()
    plan.run(a, a, d, workspace=np.zeros((4, 4), "float32"))
    assert (d == 4).all()


@pytest.mark.cuda
def test_workspaces_on_another_device() -> None:
    a = torch.ones(4, 4, device="cuda", dtype=torch.float16)
    d = torch.full_like(a, torch.nan)
    plan = cutplan.GemmPlan.select(cutplan.describe(a, a, d), a)
    with pytest.raises(
        cutplan.DeviceMismatch, match="workspace: must be on cuda:0, the plan's device, got cpu"
    ):
        plan.run(a, a, d, workspace=np.zeros(64, "uint8"))
    assert d.isnan().all()


def test_host_runs_let_other_threads_work() -> None:
    n = 1024
    a, d = torch.ones(n, n), torch.empty(n, n)
    plan = cutplan.GemmPlan.select(cutplan.describe(a, a, d), "cpu", cutplan.PlanPreference(sm_count=1))
    running, ticks = threading.Event(), 0

    def work() -> None:
        for _ in range(3):
            plan.run(a, a, d)
        running.clear()

    running.set()
    start = time.perf_counter()
    worker = threading.Thread(target=work)
    worker.start()
    while running.is_set():
        ticks += 1
        time.sleep(0.0005)
    worker.join()
    seconds = time.perf_counter() - start
    # With the GIL held, this thread would wake a few times between runs at most.
    assert ticks > max(8, seconds / 0.05), f"{ticks} ticks in {seconds:.3f} s"


def test_one_plan_in_many_threads() -> None:
    a = torch.randn(96, 64, dtype=torch.float16)
    b = torch.randn(64, 80, dtype=torch.float16)
    expected = torch.empty(96, 80, dtype=torch.float16)
    plan = cutplan.GemmPlan.select(cutplan.describe(a, b, expected), "cpu")
    plan.run(a, b, expected)
    wrong: list[int] = []

    def work(index: int) -> None:
        out = torch.empty_like(expected)
        for _ in range(50):
            out.fill_(torch.nan)
            plan.run(a, b, out)
            if not torch.equal(out, expected):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- errors


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InvalidProblem", ValueError),
        ("Unsupported", NotImplementedError),
        ("MissingOperand", TypeError),
        ("DTypeMismatch", TypeError),
        ("ShapeMismatch", ValueError),
        ("LayoutMismatch", ValueError),
        ("DeviceMismatch", ValueError),
        ("Misaligned", ValueError),
        ("ReadOnly", BufferError),
        ("Overlap", ValueError),
        ("WorkspaceTooSmall", ValueError),
        ("DeviceError", RuntimeError),
        ("ExportRefused", BufferError),
    ],
)
def test_error_classes(name: str, builtin: type[Exception]) -> None:
    error = getattr(cutplan, name)
    assert issubclass(error, cutplan.Error) and issubclass(error, builtin)
    assert error.__module__ == "cutplan" and error.__doc__
    assert str(pickle.loads(pickle.dumps(error("text")))) == "text"


# ---- the package


def test_everything_public_is_exported_and_documented() -> None:
    for name in cutplan.__all__:
        member = getattr(cutplan, name)
        assert member.__doc__, name
        assert member.__module__.split(".")[0] == "cutplan", name
    assert sorted(cutplan.__all__) == cutplan.__all__ or len(set(cutplan.__all__)) == len(cutplan.__all__)


def test_import_is_light() -> None:
    code = """
import sys, time, json
before = set(sys.modules)
start = time.process_time()  # other processes lengthen wall time
import cutplan
print(json.dumps([time.process_time() - start, sorted(set(sys.modules) - before)]))
"""
    runs = [json.loads(fresh_python(code)) for _ in range(5)]
    seconds, modules = min(runs)
    roots = {module.split(".")[0] for module in modules}
    assert not roots & {"numpy", "torch", "jax", "jaxlib", "cupy", "ml_dtypes", "scipy"}
    assert seconds <= 0.050, f"import cutplan took {seconds * 1e3:.0f} ms"


def test_numpy_alone_is_enough() -> None:
    printed = fresh_python(
        "import sys, numpy as np, cutplan\n"
        "x = np.ones((2, 3), 'float32')\n"
        "print(cutplan.matmul(x, x.T).tolist(), 'torch' in sys.modules, 'jax' in sys.modules)"
    )
    assert printed.split("\n")[0] == "[[3.0, 3.0], [3.0, 3.0]] False False"


def test_a_torch_that_keeps_its_negative_bit_elsewhere_is_asked() -> None:
    code = """
import torch, cutplan
del torch._C._dispatch_keys
x = torch.ones(2, 2)
print(cutplan.inspect(x).shape)
try:
    cutplan.inspect(torch._neg_view(x))
except cutplan.ExportRefused as error:
    print(error)
"""
    shape, refusal, *_ = fresh_python(code).split("\n")
    assert shape == "(2, 2)"
    assert "negative bit" in refusal


def test_other_interpreters_are_refused() -> None:
    """And the first goes on: what nanobind keeps for it is not taken away."""
    code = """
import sys, numpy, cutplan
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
run = getattr(interpreters, "exec", None) or interpreters.run_string
run(interpreters.create(), f'''
import sys
sys.path[:] = {sys.path!r}
try:
    import cutplan
except ImportError as error:
    print(error, flush=True)
''')
x = numpy.ones((2, 2), "float32")
print(cutplan.matmul(x, x).tolist())
"""
    refusal, result, *_ = fresh_python(code).split("\n")
    assert "main interpreter only" in refusal
    assert result == "[[2.0, 2.0], [2.0, 2.0]]"


def test_plans_kept_to_the_end_do_not_disturb_it() -> None:
    code = """
import cutplan
cutplan.kept = cutplan.GemmPlan.select(cutplan.GemmDescriptor(m=1, n=1, k=1, a="float32"), "cpu")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def with_a_row_major_result(layout: str) -> str:
    """A product whose D is column-major is the row-major D^T = B^T A^T, which is what kernels compute."""
    a, b, d = layout
    turned = {"r": "c", "c": "r"}
    return layout if d == "r" else turned[b] + turned[a] + "r"


def test_registry_and_support_agree() -> None:
    archs = {str(row.arch) for row in cutplan.gemm_support()}
    assert archs == set(cutplan.built_architectures()) == {str(sku.arch) for sku in cutplan.gemm_registry()}
    for row in cutplan.gemm_support():
        layouts = {
            sku.layout
            for sku in cutplan.gemm_registry()
            if (sku.arch, sku.a, sku.b) == (row.arch, row.operand, row.operand_b)
        }
        assert layouts == {with_a_row_major_result(str(layout)) for layout in row.layouts}
        assert row.d
