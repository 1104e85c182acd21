"""A tensor library of oddities: DLPack structures built by hand, so that every rule meets what breaks it."""

from __future__ import annotations

import ctypes
from typing import Any

CPU, CUDA, CUDA_HOST, ROCM, CUDA_MANAGED = 1, 2, 3, 10, 13
INT, UINT, FLOAT, OPAQUE, BFLOAT, COMPLEX, BOOL = range(7)
E4M3FN, E4M3FNUZ, E5M2 = 10, 11, 12
READ_ONLY, SUBBYTE_PADDED = 1, 4


class Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32)]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]


class VersionedManaged(ctypes.Structure):
    _fields_ = [
        ("version", Version),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


_Allocate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_Export = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.c_void_p))
_Import = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_Stream = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p))


class ExchangeApi(ctypes.Structure):
    _fields_ = [
        ("version", Version),
        ("previous", ctypes.c_void_p),
        ("allocate", _Allocate),
        ("export_managed", _Export),
        ("import_managed", _Import),
        ("export_borrowed", _Export),
        ("current_stream", _Stream),
    ]


_python = ctypes.PyDLL(None)  # not ctypes.pythonapi, on whose functions others set other types of arguments
_new_capsule = _python.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_capsule_name = _python.PyCapsule_GetName
_capsule_name.restype = ctypes.c_char_p
_capsule_name.argtypes = [ctypes.py_object]


class Producer:
    """Float32 ``[2, 3]`` in host memory unless told otherwise. `deleted` counts the deleter's calls."""

    def __init__(
        self,
        shape: tuple[int, ...] = (2, 3),
        *,
        strides: tuple[int, ...] | None = None,
        code: int = FLOAT,
        bits: int = 32,
        lanes: int = 1,
        byte_offset: int = 0,
        device: tuple[int, int] = (CPU, 0),
        flags: int = 0,
        version: tuple[int, int] = (1, 0),
        versioned: bool = True,
        null_data: bool = False,
        with_deleter: bool = True,
    ) -> None:
        self.memory = ctypes.create_string_buffer(4096)
        self.address = ctypes.addressof(self.memory)
        self.device = device
        self.deleted = 0
        self.requests: list[dict[str, Any]] = []
        self.capsules: list[Any] = []
        self._shape = (ctypes.c_int64 * len(shape))(*shape)
        self._strides = (ctypes.c_int64 * len(shape))(*strides) if strides is not None else None
        tensor = Tensor(
            data=None if null_data else self.address,
            device_type=device[0],
            device_id=device[1],
            rank=len(shape),
            code=code,
            bits=bits,
            lanes=lanes,
            shape=self._shape,
            byte_offset=byte_offset,
        )
        if self._strides is not None:
            tensor.strides = self._strides
        self._deleter = _Deleter(self._delete) if with_deleter else _Deleter()
        if versioned:
            self.managed: Any = VersionedManaged(Version(*version), None, self._deleter, flags, tensor)
            self._name = b"dltensor_versioned"
        else:
            self.managed = Managed(tensor, None, self._deleter)
            self._name = b"dltensor"

    def _delete(self, address: int) -> None:
        assert address == ctypes.addressof(self.managed)
        self.deleted += 1

    def _capsule(self, **request: Any) -> Any:
        self.requests.append(request)
        capsule = _new_capsule(ctypes.addressof(self.managed), self._name, None)
        self.capsules.append(capsule)
        return capsule

    def __dlpack__(self, *, stream: Any = None, max_version: tuple[int, int] | None = None) -> Any:
        return self._capsule(stream=stream, max_version=max_version)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def capsule_names(self) -> list[bytes]:
        return [_capsule_name(capsule) for capsule in self.capsules]


class OldProducer(Producer):
    """From before DLPack 1.0: knows no `max_version`."""

    def __init__(self, shape: tuple[int, ...] = (2, 3), **options: Any) -> None:
        super().__init__(shape, versioned=False, **options)

    def __dlpack__(self, stream: Any = None) -> Any:  # type: ignore[override]
        return self._capsule(stream=stream)


class JaxLikeProducer(Producer):
    """Recognised as JAX by its module, as JAX's arrays are."""

    __module__ = "jaxlib.imitation"


class CupyLikeProducer(Producer):
    """Recognised as CuPy by its module."""

    __module__ = "cupy.imitation"


def exchange_type(
    *, version: tuple[int, int] = (1, 3), previous: ExchangeApi | None = None, status: int = 0
) -> tuple[type[Producer], ExchangeApi, list[str]]:
    """A producer type with a C exchange API, the table behind it, and the names of the functions called."""
    calls: list[str] = []

    def export_managed(producer: Producer, out: Any) -> int:
        calls.append("export_managed")
        if status != 0:
            return status
        out[0] = ctypes.addressof(producer.managed)
        return 0

    def export_borrowed(producer: Producer, out: Any) -> int:
        calls.append("export_borrowed")
        ctypes.memmove(out, ctypes.addressof(producer.managed.tensor), ctypes.sizeof(Tensor))
        return 0

    def current_stream(device_type: int, device_id: int, out: Any) -> int:
        calls.append("current_stream")
        out[0] = 0
        return 0

    api = ExchangeApi(
        version=Version(*version),
        previous=ctypes.addressof(previous) if previous is not None else None,
        export_managed=_Export(export_managed),
        export_borrowed=_Export(export_borrowed),
        current_stream=_Stream(current_stream),
    )
    capsule = _new_capsule(ctypes.addressof(api), b"dlpack_exchange_api", None)
    made = type(
        "ExchangeProducer", (Producer,), {"__dlpack_c_exchange_api__": capsule, "kept": (api, previous)}
    )
    return made, api, calls
