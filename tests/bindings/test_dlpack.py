"""Every rule of the import: what is lent is read in place, what cannot be read is refused by name."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from tests.bindings import producers
from tests.bindings.conftest import LIBRARIES, Library, numpy_dtype
from tests.bindings.producers import CupyLikeProducer, JaxLikeProducer, OldProducer, Producer, exchange_type
from tests.environment import note_not_run

# ---- what each library lends


@pytest.mark.parametrize(
    ("library", "dtype"),
    [pytest.param(x, dtype, id=f"{x.id}-{dtype}") for x in LIBRARIES for dtype in x.dtypes],
)
def test_reads_in_place(library: Library, dtype: str) -> None:
    x = library.make(np.ones((4, 6), numpy_dtype(dtype)))
    info = cutplan.inspect(x)
    assert info.shape == (4, 6)
    assert info.strides == (6, 1)
    assert str(info.dtype) == dtype
    assert info.device == library.device
    assert info.data == library.address(x), "the memory was copied"
    assert info.read_only == library.immutable
    assert info.framework == ("numpy" if library.name == "ml_dtypes" else library.name)


@pytest.mark.parametrize("library", [x for x in LIBRARIES if x.name != "jax"], ids=lambda x: x.id)
def test_reads_strides_and_offsets(library: Library) -> None:
    x = library.make(np.ones((4, 6, 5), numpy_dtype(library.dtypes[0])))
    view = x[1:, ::2, 2:4]
    info = cutplan.inspect(view)
    assert info.shape == (3, 3, 2)
    assert info.strides == (30, 10, 1)
    assert (
        info.data == library.address(view) == library.address(x) + 32 * (cutplan.inspect(x).dtype.bits // 8)
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_numpy_negative_and_zero_strides(dtype: str) -> None:
    x = np.ones((4, 6), numpy_dtype(dtype))
    reversed_ = cutplan.inspect(x[::-1, ::-2])
    assert reversed_.strides == (-6, -2)
    assert reversed_.data == x[::-1, ::-2].ctypes.data == x.ctypes.data + 23 * x.itemsize
    shared = cutplan.inspect(np.broadcast_to(x[0], (9, 6)))
    assert shared.strides == (0, 1)
    assert shared.shape == (9, 6)


def test_numpy_read_only_is_an_input_and_no_output() -> None:
    x = np.ones((2, 2), "float32")
    frozen = x.copy()
    frozen.flags.writeable = False
    assert cutplan.inspect(frozen).read_only
    assert not cutplan.inspect(x).read_only
    plan = cutplan.GemmPlan.select(cutplan.describe(x, x, x), "cpu")
    out = np.full((2, 2), np.nan, "float32")
    plan.run(frozen, frozen, out)
    assert (out == 2).all()
    with pytest.raises(cutplan.ReadOnly, match="operand d"):
        plan.run(x, x, frozen)
    assert (frozen == 1).all()


def test_numpy_int4_is_not_packed() -> None:
    try:
        import ml_dtypes
    except ImportError:
        note_not_run("bindings: ml_dtypes is not installed")
        return
    with pytest.raises(cutplan.DTypeMismatch, match=r"operand x: int4 .* packed two to a byte.*as_dtype"):
        cutplan.inspect(np.zeros((2, 2), ml_dtypes.int4), "x")


@pytest.mark.parametrize("dtype", [">f4", "complex64", "datetime64[s]", "uint16", "U3"])
def test_numpy_refused_dtypes(dtype: str) -> None:
    with pytest.raises((cutplan.DTypeMismatch, cutplan.ExportRefused), match="operand x: "):
        cutplan.inspect(np.zeros((2, 2), dtype), "x")


def test_jax_arrays_are_never_outputs() -> None:
    jax_libraries = [x for x in LIBRARIES if x.name == "jax"]
    if not jax_libraries:
        note_not_run("bindings: JAX is not installed")
    for library in jax_libraries:
        x = library.make(np.ones((2, 2), "float16"))
        plan = cutplan.GemmPlan.select(cutplan.describe(x, x, x), x)
        with pytest.raises(cutplan.ReadOnly, match=r"operand d.*JAX"):
            plan.run(x, x, x)
        assert (library.numpy(x) == 1).all()


def test_jax_tracers_and_deleted_arrays() -> None:
    libraries = [x for x in LIBRARIES if x.name == "jax"]
    if not libraries:
        note_not_run("bindings: JAX is not installed")
        return
    import jax

    x = libraries[0].make(np.ones((2, 2), "float32"))
    with pytest.raises(cutplan.ExportRefused, match="operand a: got a tracer.* outside of jax.jit"):
        jax.jit(lambda x: cutplan.matmul(x, x))(x)
    x.delete()
    with pytest.raises(cutplan.ExportRefused, match="operand a: .*ArrayImpl refused") as caught:
        cutplan.inspect(x, "a")
    assert caught.value.__cause__ is not None


# ---- torch: what its exchange functions do not look at


def test_torch_requires_grad(device: str) -> None:
    x = torch.ones(2, 2, device=device, dtype=torch.float16)
    plan = cutplan.GemmPlan.select(cutplan.describe(x, x, x), x)
    weight = torch.nn.Parameter(torch.ones_like(x))
    out = torch.full_like(x, torch.nan)
    for bad in ({"a": weight, "b": x}, {"a": x, "b": weight}):
        with pytest.raises(cutplan.ExportRefused, match=r"requires grad.*\.detach\(\)"):
            plan.run(**bad, d=out)
    with pytest.raises(cutplan.ExportRefused, match="operand d.*requires grad"):
        plan.run(x, x, weight)
    assert out.isnan().all()
    plan.run(x, weight.detach(), out)
    assert (out == 2).all()
    with torch.no_grad():
        out.fill_(torch.nan)
        plan.run(x, weight, out)
    assert (out == 2).all()


def test_torch_negative_bit(device: str) -> None:
    x = torch.complex(torch.ones(4, 4), torch.full((4, 4), 3.0)).to(device).conj().imag
    assert x.is_neg()
    with pytest.raises(cutplan.ExportRefused, match=r"operand x: .*negative bit.*x\.resolve_neg\(\)"):
        cutplan.inspect(x, "x")
    assert cutplan.inspect(x.resolve_neg()).shape == (4, 4)


def test_torch_refusals_name_the_operand_and_keep_the_cause() -> None:
    good = torch.ones(2, 2)
    for bad in (good.to_sparse(), torch.ones(2, 2, device="meta")):
        with pytest.raises(cutplan.ExportRefused, match="operand b: torch.Tensor refused") as caught:
            cutplan.matmul(good, bad)
        assert caught.value.__cause__ is not None
        assert "\n" not in str(caught.value), "torch's C++ stack belongs to the cause"
    with pytest.raises(cutplan.DTypeMismatch, match="operand b: .*complex64"):
        cutplan.matmul(good, torch.ones(2, 2, dtype=torch.complex64).conj())


def test_torch_subclasses_take_the_same_way() -> None:
    class Mine(torch.Tensor):
        pass

    x = torch.ones(3, 2).as_subclass(Mine)
    info = cutplan.inspect(x)
    assert info.framework == "torch"
    assert info.data == x.data_ptr()


@pytest.mark.parametrize("method", ["__dlpack__", "is_neg"])
def test_torch_is_not_asked_in_python(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError(f"{method} was called")

    monkeypatch.setattr(torch.Tensor, method, refuse)
    x = torch.ones(3, 2)[:, ::2]  # as an imaginary part may lie
    assert cutplan.inspect(x).shape == (3, 1)


# ---- structures that no library here makes


@pytest.mark.parametrize("versioned", [True, False])
def test_null_strides_mean_compact(versioned: bool) -> None:
    producer = Producer((2, 3, 4), versioned=versioned)
    assert cutplan.inspect(producer).strides == (12, 4, 1)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_a_negative_stride_divided_without_a_sign(bits: int) -> None:
    """As CuPy exports one: the quotient of 2^64 less its bytes."""
    element = bits // 8
    wrapped = (2**64 - 3 * element) // element
    given = (wrapped - 2**64 if bits == 8 else wrapped, 1)
    code = producers.INT if bits == 8 else producers.FLOAT
    assert cutplan.inspect(CupyLikeProducer((2, 3), strides=given, bits=bits, code=code)).strides == (-3, 1)


@pytest.mark.parametrize("strides", [(2**62, 1), (2**56, 1), (-(2**62), 1), (-(2**63), 1)])
def test_strides_beyond_any_memory(strides: tuple[int, ...]) -> None:
    with pytest.raises(
        cutplan.LayoutMismatch, match=rf"operand x: strides below 2\^56 elements .* got {strides[0]}"
    ):
        cutplan.inspect(Producer((2, 3), strides=strides), "x")


def test_negative_extents() -> None:
    with pytest.raises(cutplan.ShapeMismatch, match="operand x: extents of at least 0 required, got -3"):
        cutplan.inspect(Producer((2, -3)), "x")
    x = np.ones((2, 2), "float32")
    plan = cutplan.GemmPlan.select(cutplan.describe(x, x, x), "cpu")
    with pytest.raises(cutplan.ShapeMismatch, match="operand workspace: extents of at least 0 required"):
        plan.run(x, x, x.copy(), workspace=Producer((-4, -4)))


def test_byte_offset_is_part_of_the_address() -> None:
    producer = Producer(byte_offset=100)
    assert cutplan.inspect(producer).data == producer.address + 100


def test_strange_strides_of_extent_one_are_kept() -> None:
    assert cutplan.inspect(Producer((1, 3), strides=(-77, 1))).strides == (-77, 1)


def test_empty_tensors_may_have_no_memory() -> None:
    info = cutplan.inspect(Producer((0, 3), null_data=True, byte_offset=64))
    assert info.shape == (0, 3)
    assert info.data == 0


def test_scalars() -> None:
    info = cutplan.inspect(Producer(()))
    assert info.shape == info.strides == ()


@pytest.mark.parametrize(
    ("code", "bits", "name"),
    [
        (producers.FLOAT, 64, "float64"),
        (producers.FLOAT, 32, "float32"),
        (producers.FLOAT, 16, "float16"),
        (producers.BFLOAT, 16, "bfloat16"),
        (producers.E4M3FN, 8, "float8_e4m3fn"),
        (producers.E5M2, 8, "float8_e5m2"),
        (producers.INT, 64, "int64"),
        (producers.INT, 32, "int32"),
        (producers.INT, 8, "int8"),
        (producers.INT, 4, "int4"),
        (producers.UINT, 8, "uint8"),
        (producers.UINT, 4, "uint4"),
        (producers.BOOL, 8, "bool"),
    ],
)
def test_type_codes(code: int, bits: int, name: str) -> None:
    assert str(cutplan.inspect(Producer(code=code, bits=bits)).dtype) == name


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"lanes": 4}, cutplan.DTypeMismatch, "scalars, got float32 in vectors of 4"),
        ({"lanes": 0}, cutplan.DTypeMismatch, "scalars, got float32 in vectors of 0"),
        ({"code": producers.COMPLEX, "bits": 64}, cutplan.DTypeMismatch, "got elements of type complex64"),
        ({"code": producers.UINT, "bits": 16}, cutplan.DTypeMismatch, "uint16.*as_dtype"),
        ({"code": producers.E4M3FNUZ, "bits": 8}, cutplan.DTypeMismatch, "type code 11 of 8 bits"),
        ({"code": 99, "bits": 7}, cutplan.DTypeMismatch, "type code 99 of 7 bits"),
        (
            {"code": producers.INT, "bits": 4, "flags": producers.SUBBYTE_PADDED},
            cutplan.DTypeMismatch,
            "int4 elements must be packed two to a byte, got one per byte",
        ),
        ({"shape": (1,) * 9}, cutplan.ShapeMismatch, "at most 8 dimensions, got 9"),
        ({"device": (producers.ROCM, 0)}, cutplan.DeviceMismatch, "got device type 10"),
    ],
)
@pytest.mark.parametrize("versioned", [True, False])
def test_refused_structures(
    options: dict[str, Any], error: type[Exception], text: str, versioned: bool
) -> None:
    if "flags" in options and not versioned:
        options = {**options, "lanes": 2}  # no flags before 1.0: another reason must do
        text = "in vectors of 2"
    producer = Producer(**options, versioned=versioned)
    with pytest.raises(error, match=f"operand x: .*{text}"):
        cutplan.inspect(producer, "x")
    assert producer.deleted == 1, "what was lent must be given back"


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ((producers.CPU, 0), "cpu"),
        ((producers.CUDA_HOST, 3), "cpu"),
        ((producers.CUDA, 5), "cuda:5"),
        ((producers.CUDA_MANAGED, 2), "cuda:2"),
    ],
)
def test_devices(given: tuple[int, int], seen: str) -> None:
    assert cutplan.inspect(Producer(device=given)).device == seen


@pytest.mark.parametrize("flags", [0, producers.READ_ONLY])
def test_read_only_flag(flags: int) -> None:
    assert cutplan.inspect(Producer(flags=flags)).read_only == bool(flags)


# ---- the protocol


@pytest.mark.parametrize("kind", [Producer, OldProducer])
def test_deleter_is_called_exactly_once_and_the_capsule_is_marked_used(kind: type[Producer]) -> None:
    producer = kind()
    cutplan.inspect(producer)
    assert producer.deleted == 1
    used = b"used_dltensor" if kind is OldProducer else b"used_dltensor_versioned"
    assert producer.capsule_names() == [used]
    gc.collect()
    assert producer.deleted == 1


def test_deleter_is_called_once_per_operand_of_a_run_that_fails_late() -> None:
    x = np.ones((2, 2), "float32")
    plan = cutplan.GemmPlan.select(cutplan.describe(x, x, x), "cpu")
    a, b = Producer((2, 2)), Producer((3, 2))
    with pytest.raises(cutplan.ShapeMismatch, match="operand b"):
        plan.run(a, b, x)
    assert (a.deleted, b.deleted) == (1, 1)
    with pytest.raises(cutplan.ExportRefused, match="operand d"):
        plan.run(a, b, [1])
    assert (a.deleted, b.deleted) == (2, 2)


def test_memory_is_lent_until_the_run_is_over() -> None:
    x = np.ones((2, 2), "float32")
    plan = cutplan.GemmPlan.select(cutplan.describe(x, x, x), "cpu")
    a = Producer((2, 2))
    np.frombuffer(a.memory, "float32", 4)[:] = [1, 2, 3, 4]
    out = np.full((2, 2), np.nan, "float32")
    plan.run(a, np.eye(2, dtype="float32"), out)
    assert out.tolist() == [[1, 2], [3, 4]]
    assert a.deleted == 1


def test_deleter_may_be_null() -> None:
    assert cutplan.inspect(Producer(with_deleter=False)).shape == (2, 3)


def test_unknown_major_version_is_given_back_unread() -> None:
    producer = Producer(version=(2, 0))
    producer.managed.tensor.rank = 1_000_000_000
    producer.managed.tensor.shape = None
    with pytest.raises(cutplan.ExportRefused, match=r"operand x: .*DLPack 2\.0; cutplan reads 1\.x"):
        cutplan.inspect(producer, "x")
    assert producer.deleted == 1


def test_newer_minor_version_is_read() -> None:
    assert cutplan.inspect(Producer(version=(1, 99))).shape == (2, 3)


def test_asks_for_a_versioned_capsule_without_ordering() -> None:
    host, device = Producer(), Producer(device=(producers.CUDA, 0))
    cutplan.inspect(host)
    cutplan.inspect(device)
    assert host.requests == [{"stream": None, "max_version": (1, 1)}]
    assert device.requests == [{"stream": -1, "max_version": (1, 1)}]


def test_jax_never_sees_minus_one() -> None:
    producer = JaxLikeProducer(device=(producers.CUDA, 0), versioned=False)
    info = cutplan.inspect(producer)
    assert producer.requests == [{"stream": 1, "max_version": (1, 1)}]
    assert info.framework == "jax"
    assert info.read_only, "an unversioned capsule cannot say so"


def test_producers_without_max_version() -> None:
    producer = OldProducer()
    assert cutplan.inspect(producer).shape == (2, 3)
    assert producer.requests == [{"stream": None}]


def test_refusals_of_the_producer_are_the_cause() -> None:
    class Refusing(Producer):
        def __dlpack__(self, **_: Any) -> Any:
            raise BufferError("not before noon")

    with pytest.raises(
        cutplan.ExportRefused, match="operand x: .*Refusing refused .*not before noon"
    ) as caught:
        cutplan.inspect(Refusing(), "x")
    assert isinstance(caught.value, BufferError)
    assert isinstance(caught.value.__cause__, BufferError)
    assert str(caught.value.__cause__) == "not before noon"


def test_type_errors_of_the_producer_are_not_lost() -> None:
    class Broken(Producer):
        def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
            raise TypeError("broken inside")

    with pytest.raises(cutplan.ExportRefused, match="broken inside") as caught:
        cutplan.inspect(Broken(), "x")
    assert isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize("returned", [None, 3, "used"])
def test_returned_objects_that_are_no_fresh_capsule(returned: Any) -> None:
    first = Producer()
    cutplan.inspect(first)

    class Returning(Producer):
        def __dlpack__(self, **_: Any) -> Any:
            return first.capsules[0] if returned == "used" else returned

    with pytest.raises(cutplan.ExportRefused, match="operand x: .*fresh DLPack capsule"):
        cutplan.inspect(Returning(), "x")
    assert first.deleted == 1


@pytest.mark.parametrize("bad", [[1.0], 3.0, "text", np.float32(1)])
def test_objects_that_are_no_tensors(bad: Any) -> None:
    with pytest.raises(cutplan.ExportRefused, match="operand x: .*does not speak DLPack"):
        cutplan.inspect(bad, "x")


def test_none_is_a_missing_operand() -> None:
    with pytest.raises(cutplan.MissingOperand, match="operand x"):
        cutplan.inspect(None, "x")  # type: ignore[arg-type]


# ---- the C exchange API


def test_exchange_api_of_another_library_keeps_its_flags() -> None:
    made, _, calls = exchange_type()
    producer = made((3, 4), flags=producers.READ_ONLY, byte_offset=8)
    info = cutplan.inspect(producer)
    assert info.shape == (3, 4)
    assert info.data == producer.address + 8
    assert info.read_only, "the borrowing function would not have said so"
    assert calls == ["export_managed"]
    assert producer.deleted == 1
    assert not producer.requests, "no capsule is needed"


def test_exchange_api_of_an_older_major_version_is_found_in_the_chain() -> None:
    _, older, calls = exchange_type(version=(1, 0))
    made, _, newer_calls = exchange_type(version=(2, 0), previous=older)
    assert cutplan.inspect(made()).shape == (2, 3)
    assert calls == ["export_managed"]
    assert not newer_calls


def test_exchange_api_of_an_unknown_major_version_is_not_used() -> None:
    made, _, calls = exchange_type(version=(2, 0))
    producer = made()
    assert cutplan.inspect(producer).shape == (2, 3)
    assert not calls
    assert len(producer.requests) == 1


def test_exchange_api_failures_without_an_error_are_refused_too() -> None:
    made, _, calls = exchange_type(status=-1)
    with pytest.raises(cutplan.ExportRefused, match="operand x: .*gave no reason"):
        cutplan.inspect(made(), "x")
    assert calls == ["export_managed"]


def test_more_types_than_are_remembered() -> None:
    for round_ in range(2):
        for i in range(50):
            made = type(f"Producer{i}", (OldProducer if i % 2 else Producer,), {})
            producer = made((round_ + 1, i))
            assert cutplan.inspect(producer).shape == (round_ + 1, i)
            assert producer.deleted == 1


def test_imports_leave_no_references() -> None:
    def count(x: Any) -> int:
        for _ in range(100):
            cutplan.inspect(x)
        gc.collect()
        return sys.getrefcount(x)

    for x in (torch.ones(2), np.ones(2), Producer(), OldProducer(), exchange_type()[0]()):
        before = sys.getrefcount(x)
        assert count(x) == before + 1  # the argument of count itself
    with pytest.raises(cutplan.DTypeMismatch):
        cutplan.inspect(bad := np.ones(2, "complex64"))
    del bad


# ---- as_dtype


@pytest.mark.parametrize(
    ("raw", "dtype"),
    [
        ("uint8", "float8_e4m3fn"),
        ("int8", "float8_e5m2"),
        ("uint8", "bool"),
        ("uint16", "bfloat16"),
        ("int16", "float16"),
        ("uint32", "float32"),
        ("float32", "float32"),
    ],
)
def test_as_dtype_names_the_type_of_raw_bytes(raw: str, dtype: str) -> None:
    x = np.ones((4, 6), raw)[::2]
    info = cutplan.inspect(cutplan.as_dtype(x, dtype))
    assert str(info.dtype) == dtype
    assert info.shape == (2, 6)
    assert info.strides == (12, 1)
    assert info.data == x.ctypes.data
    assert info.framework == "numpy"


@pytest.mark.parametrize(
    ("raw", "dtype", "text"),
    [
        ("uint8", "bfloat16", "integers of 16 bits, got uint8"),
        ("uint16", "float8_e4m3fn", "integers of 8 bits, got uint16"),
        ("float16", "bfloat16", "integers of 16 bits, got float16"),
        ("uint16", "int4", "integers of 8 bits, two elements in each, got uint16"),
    ],
)
def test_as_dtype_refuses_other_widths(raw: str, dtype: str, text: str) -> None:
    with pytest.raises(
        cutplan.DTypeMismatch, match=f"operand x: raw elements that stand for {dtype} must be {text}"
    ):
        cutplan.as_dtype(np.ones((2, 2), raw), dtype)


@pytest.mark.parametrize("dtype", ["int4", "uint4"])
def test_as_dtype_unpacks_nibbles(dtype: str) -> None:
    x = np.ones((5, 4, 6), "uint8")[:, ::2]
    info = cutplan.inspect(cutplan.as_dtype(x, dtype))
    assert str(info.dtype) == dtype
    assert info.shape == (5, 2, 12)
    assert info.strides == (48, 24, 1)
    with pytest.raises(cutplan.LayoutMismatch, match="stride 1, got stride 2"):
        cutplan.as_dtype(np.ones((2, 4), "uint8")[:, ::2], dtype)
    with pytest.raises(cutplan.ShapeMismatch, match="at least one dimension"):
        cutplan.as_dtype(np.ones((), "uint8"), dtype)


def test_as_dtype_of_what_is_no_dtype_or_no_tensor() -> None:
    with pytest.raises(TypeError, match="dtype: must be an element type"):
        cutplan.as_dtype(np.ones(2, "uint8"), "float9")
    with pytest.raises(cutplan.ExportRefused, match="operand x"):
        cutplan.as_dtype([1], "int8")  # type: ignore[arg-type]


def test_a_view_of_a_view_is_one_of_the_tensor() -> None:
    raw = torch.arange(64, dtype=torch.uint8).reshape(8, 8)
    view: Any = cutplan.TensorView(raw, shape=(4, 8), strides=(16, 1), offset=8)
    view = cutplan.TensorView(
        cutplan.as_dtype(view, "float8_e4m3fn"), shape=(2, 2), strides=(32, 1), offset=2
    )
    assert view.tensor is raw
    info = cutplan.inspect(view)
    assert (str(info.dtype), info.shape, info.strides) == ("float8_e4m3fn", (2, 2), (32, 1))
    assert info.data == raw.data_ptr() + 10
    with pytest.raises(ValueError, match="dtype: packed elements are named before a shape"):
        cutplan.TensorView(view, dtype="int4")
    for _ in range(100_000):  # neither import nor the end of it goes as deep
        view = cutplan.TensorView(view)
    assert cutplan.inspect(view).shape == (2, 2)


def test_a_tensor_that_holds_its_view_is_collected() -> None:
    class Mine(torch.Tensor):
        pass

    x = torch.ones(2, 2).as_subclass(Mine)
    x.view_ = cutplan.as_dtype(x, "float32")
    end = weakref.ref(x)
    del x
    gc.collect()
    assert end() is None


@pytest.mark.parametrize("bad", ["itself", ("cpu", 0), (2**40, 0), None, 3])
def test_devices_that_are_none(bad: Any) -> None:
    class Strange(Producer):
        def __dlpack_device__(self) -> Any:
            return self if bad == "itself" else bad

    with pytest.raises(TypeError, match=r"device: a DLPack pair \(type, id\) of integers"):
        cutplan.device_properties(Strange())
    with pytest.raises(cutplan.ExportRefused, match="operand x: __dlpack_device__ of .* a pair of integers"):
        cutplan.inspect(Strange(), "x")


def test_as_dtype_multiplies() -> None:
    a = torch.randn(3, 8).bfloat16()
    b = torch.randn(8, 5).bfloat16()
    raw = a.view(torch.int16).numpy()
    out = torch.empty(3, 5, dtype=torch.bfloat16)
    cutplan.matmul(cutplan.as_dtype(raw, "bfloat16"), b, out=out)
    assert torch.equal(out, cutplan.matmul(a, b))


# ---- streams


class StreamObject:
    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, self.handle)


@pytest.mark.parametrize("stream", [0, 1, 12345, StreamObject(7)])
def test_host_plans_take_no_stream(stream: Any) -> None:
    x, out = np.ones((2, 2), "float32"), np.full((2, 2), np.nan, "float32")
    plan = cutplan.GemmPlan.select(cutplan.describe(x, x, x), "cpu")
    with pytest.raises(cutplan.InvalidProblem, match="stream: .*cpu.*stream=None"):
        plan.run(x, x, out, stream=stream)
    assert np.isnan(out).all()


def test_host_plans_ask_for_no_stream() -> None:
    plan = cutplan.GemmPlan.select(cutplan.GemmDescriptor(m=2, n=2, k=2, a="float32"), "cpu")
    b = Producer((2, 2), device=(producers.CUDA, 0))
    with pytest.raises(cutplan.DeviceMismatch, match="operand b.*cuda:0"):
        plan.run(Producer((2, 2)), b, np.ones((2, 2), "float32"))
    assert b.requests == [{"stream": None, "max_version": (1, 1)}]


@pytest.mark.cuda
def test_producers_are_asked_with_the_launch_stream() -> None:
    x = torch.ones(2, 2, device="cuda")
    plan = cutplan.GemmPlan.select(cutplan.GemmDescriptor(m=2, n=2, k=2, a="float16", layout="rrr"), x)
    side = torch.cuda.Stream()
    out = torch.empty(2, 2, dtype=torch.float16, device="cuda")

    def streams_seen(stream: Any) -> list[Any]:
        a = Producer((2, 2), device=(producers.CUDA, 0), code=producers.FLOAT, bits=16)
        with pytest.raises(cutplan.DeviceMismatch, match="operand b"):
            plan.run(a, np.ones((2, 2), "float16"), out, stream=stream)
        return [request["stream"] for request in a.requests]

    assert streams_seen(None) == [1], "the legacy default stream is 1, never 0"
    assert streams_seen(0) == [1]
    assert streams_seen(side.cuda_stream) == [side.cuda_stream]
    assert streams_seen(StreamObject(side.cuda_stream)) == [side.cuda_stream]
    with torch.cuda.stream(side):
        assert streams_seen(None) == [side.cuda_stream]
    with pytest.raises(TypeError, match="stream: must be None, an integer"):
        plan.run(x.half(), x.half(), out, stream="fast")  # type: ignore[arg-type]


@pytest.mark.cuda
@pytest.mark.parametrize("how", ["current", "integer", "object"])
def test_runs_on_the_stream_of_the_caller(how: str) -> None:
    a = torch.zeros(256, 256, dtype=torch.float16, device="cuda")
    out = torch.full_like(a, torch.nan)
    plan = cutplan.GemmPlan.select(cutplan.describe(a, a, out), a)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(100_000_000)  # a launch on another stream would read `a` before it is filled
        a.fill_(1.0)
        if how == "current":
            plan.run(a, a, out)
    if how == "integer":
        plan.run(a, a, out, stream=side.cuda_stream)
    elif how == "object":
        plan.run(a, a, out, stream=side)
    torch.cuda.synchronize()
    assert (out == 256).all()


@pytest.mark.cuda
@pytest.mark.parametrize(
    "library", [x for x in LIBRARIES if x.device != "cpu" and x.name != "torch"], ids=lambda x: x.id
)
def test_operands_of_other_libraries_are_waited_for(library: Library) -> None:
    """D lies in torch and runs on torch's current stream; the other library's work before it must be over."""
    side = torch.cuda.Stream()
    for value in (1.0, 2.0, 3.0):
        a = library.make(np.full((2048, 2048), value, "float16"))
        for _ in range(20):
            a = a + a - a
        with torch.cuda.stream(side):
            out = torch.full((2048, 2048), torch.nan, dtype=torch.float32, device="cuda")
            plan = cutplan.GemmPlan.select(cutplan.describe(a, a, out), out)
            plan.run(a, a, out)
        torch.cuda.synchronize()
        assert (out == 2048 * value * value).all()
