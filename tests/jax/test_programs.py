"""What is JAX's own: import, programs over devices, export, the texts that handlers are told."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import cutplan
import cutplan.jax
from tests.jax.problems import DEVICES, Source, numpy, same, types


def fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_jax_is_imported_where_it_is_asked_for() -> None:
    code = "import sys, cutplan; print('jax' in sys.modules); import cutplan.jax; print('jax' in sys.modules)"
    assert fresh_python(code) == "False\nTrue\n"


SHARDED = """
import os
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, jax.numpy as jnp, numpy as np
import cutplan.jax
from jax.sharding import AxisType, PartitionSpec as P

assert jax.device_count("cpu") == 2
random = np.random.default_rng({seed})
shapes = ((8, 16), (16, 12), (4, 2, 9, 16), (2, 9, 9))
x, w, q, bias = (jnp.asarray(random.standard_normal(s), "float32") for s in shapes)
mesh = jax.sharding.Mesh(np.array(jax.devices("cpu")), ("i",), axis_types=(AxisType.Auto,))

def matmul(x, w):
    return cutplan.jax.matmul(x, w, activation="silu")

def attention(q, bias):
    return cutplan.jax.attention(q, q, q, bias=bias, causal="top_left")

for function, first, shared in ((matmul, x, w), (attention, q, bias)):
    specs = {{"in_specs": (P("i"), P()), "out_specs": P("i")}}
    for check in (False, True):
        apart = jax.jit(jax.shard_map(function, mesh=mesh, check_vma=check, **specs))
        y, right = apart(first, shared), function(first, shared)
        assert len(y.sharding.device_set) == 2 and (np.asarray(y) == np.asarray(right)).all()
    # What both devices have gets the sum of both gradients.
    grads = [jax.grad(lambda *x, f=f: (f(*x) ** 2).sum(), (0, 1))(first, shared) for f in (apart, function)]
    for a, b in zip(*grads):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), np.abs(a - b).max()

# Sharded operands without shard_map: the result is right, wherever XLA computes it.
placed = jax.device_put(x, jax.sharding.NamedSharding(mesh, P("i")))
assert (np.asarray(jax.jit(matmul)(placed, w)) == np.asarray(matmul(x, w))).all()
explicit = jax.make_mesh((2,), ("i",), devices=jax.devices("cpu"))
with jax.set_mesh(explicit):
    y = jax.jit(matmul)(jax.device_put(x, P("i")), jax.device_put(w, P()))
assert (np.asarray(y) == np.asarray(matmul(x, w))).all()
print("right")
"""


def test_shard_map_over_two_devices(seed: int) -> None:
    assert fresh_python(SHARDED.format(seed=seed)) == "right\n"


def test_export(seed: int) -> None:
    source = Source(seed)
    x, w, q = source(8, 16), source(16, 12), source(2, 4, 9, 16)

    def model(x: Any, w: Any, q: Any) -> Any:
        return cutplan.jax.matmul(x, w, activation="silu"), cutplan.jax.attention(q, q, q, causal="top_left")

    with pytest.raises(ValueError, match="custom calls"):
        jax.export.export(jax.jit(model))(x, w, q)
    exported = jax.export.export(
        jax.jit(model), platforms=("cpu", "cuda"), disabled_checks=cutplan.jax.export_checks()
    )(x, w, q)
    kept = exported.serialize(vjp_order=1)
    again = jax.export.deserialize(kept)
    assert all(same(a, b) for a, b in zip(again.call(x, w, q), model(x, w, q), strict=True))
    grads = [
        jax.grad(lambda *a, f=f: sum((y**2).sum() for y in f(*a)), (0, 1, 2))(x, w, q)
        for f in (again.call, model)
    ]
    assert all(same(a, b) for a, b in zip(*grads, strict=True))


def test_a_program_is_of_one_shape(seed: int) -> None:
    (m,) = jax.export.symbolic_shape("m")
    with pytest.raises(cutplan.InvalidProblem, match="extents: integers required"):
        jax.export.export(jax.jit(cutplan.jax.matmul))(
            jax.ShapeDtypeStruct((m, 16), jnp.float32), jax.ShapeDtypeStruct((16, 12), jnp.float32)
        )


def test_jit_and_control_flow(seed: int) -> None:
    source = Source(seed)
    x, w = source(8, 16), source(3, 16, 16)

    def layers(x: Any, w: Any) -> Any:
        return jax.lax.scan(lambda x, w: (cutplan.jax.matmul(x, w, activation="relu"), None), x, w)[0]

    right = x
    for layer in w:
        right = jnp.asarray(cutplan.matmul(numpy(right), numpy(layer), activation="relu"))
    assert same(jax.jit(layers)(x, w), right)
    plain, saved = (jax.grad(lambda x, f=f: f(x, w).sum())(x) for f in (layers, jax.checkpoint(layers)))
    assert same(plain, saved)


def test_threads(seed: int) -> None:
    """Programs that run at once, each with problems that nobody has seen."""
    source = Source(seed)
    shapes = [(m, 8) for m in range(1, 33)]
    arrays = [source(*shape) for shape in shapes]
    w = source(8, 8)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(jax.jit(cutplan.jax.matmul), arrays, [w] * len(arrays)))
    assert all(same(y, cutplan.matmul(numpy(x), numpy(w))) for x, y in zip(arrays, results, strict=True))


@pytest.mark.parametrize(
    "problem, words",
    [
        (
            "a=float32:2,3:3,1;b=float32:3,4:4,1;d=float32:2,4:4,1;colour=red",
            "no operand or option: 'colour'",
        ),
        ("a=float32:2,3:3,1;b=float32:3,4:4,1;d=float32:2,4:4,1;alpha=one", "no number: 'one'"),
        ("a=float33:2,3:3,1;b=float32:3,4:4,1;d=float32:2,4:4,1", "no name of a value: 'float33'"),
        ("a=float32:2,3:1;b=float32:3,4:4,1;d=float32:2,4:4,1", "no strides"),
        ("a=float32:2,3:3,1;b=float32:3,4:4,1;d=float32:2,4:4,1;-=", "number of buffers"),
        ("a=float32:99,3:3,1;b=float32:3,4:4,1;d=float32:99,4:4,1", "no buffer that holds the operand: 'a'"),
        (
            "a=float32:2,3:3,1;b=float32:3,4:4,1;d=float32:2,4:4,1;activation=gelu",
            "no name of a value: 'gelu'",
        ),
        (
            "a=float32:2,3:3,1;b=float16:3,4:4,1;d=float32:2,4:4,1",
            "operands a and b: one element type required",
        ),
        ("a=float32:2,3:-3,1;b=float32:3,4:4,1;d=float32:2,4:4,1", "no extent or stride of at least 0"),
    ],
)
def test_a_program_of_another_version_is_refused(problem: str, words: str) -> None:
    call = jax.ffi.ffi_call("cutplan_gemm", jax.ShapeDtypeStruct((2, 4), jnp.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match=words):
        call(jnp.ones((2, 3)), jnp.ones((3, 4)), problem=problem)
    right = "a=float32:2,3:3,1;b=float32:3,4:4,1;d=float32:2,4:4,1"
    assert (call(jnp.ones((2, 3)), jnp.ones((3, 4)), problem=right) == 3).all()


def test_scratch_is_a_result_that_nobody_sees(seed: int) -> None:
    """At whatever address it lies; a plan is chosen that needs no more."""
    source = Source(seed)
    a, b = source(2, 3), source(3, 4)
    shapes = [jax.ShapeDtypeStruct((2, 4), jnp.float32), jax.ShapeDtypeStruct((1000,), jnp.uint8)]
    problem = "a=float32:2,3:3,1;b=float32:3,4:4,1;d=float32:2,4:4,1;workspace=;max_workspace_bytes=744"
    d, _ = jax.ffi.ffi_call("cutplan_gemm", shapes)(a, b, problem=problem)
    assert same(d, cutplan.matmul(numpy(a), numpy(b)))


def test_programs_have_the_scratch_that_plans_ask_for(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No plan of the host does: this one is told that it needs some."""
    monkeypatch.setattr("cutplan.jax._call._workspace", lambda *problem: 1000)
    source = Source(seed)
    a, b = source(5, 11), source(11, 13)
    program = jax.jit(lambda a, b: cutplan.jax.matmul(a, b, activation="relu")).lower(a, b).compile()
    assert "u8[1256]" in program.as_text() and "max_workspace_bytes=1000" in program.as_text()
    assert same(program(a, b), cutplan.matmul(numpy(a), numpy(b), activation="relu"))


@pytest.mark.parametrize("device", DEVICES)
def test_few_tiles_and_a_long_k(device: str, seed: int) -> None:
    """On a GPU slices of k are summed in scratch, in a command buffer too."""
    with types():
        source, place = Source(seed), jax.devices(device)[0]
        a, b = (
            source.integers(128, 65536, dtype="bfloat16", most=1),
            source.integers(65536, 128, dtype="bfloat16", most=1),
        )
        right = jnp.matmul(a.astype("float32"), b.astype("float32"), precision="highest")
        at = [jax.device_put(x, place) for x in (a, b)]
        # Kernels of sm90 sum such slices in a cluster, without scratch.
        preference = cutplan.PlanPreference(arch=None if device == "cpu" else "sm80")
        product = jax.jit(lambda a, b: cutplan.jax.matmul(a, b, out_dtype="float32", preference=preference))
        assert device == "cpu" or "u8[" in product.lower(*at).compile().as_text()
        for _ in range(4):
            assert same(product(*at), right)
