from collections.abc import Sequence
import enum
from typing import Any, overload

import cutplan._typing


def version() -> str:
    """Version of the loaded library, "major.minor.patch"."""

class Error(Exception):
    """What every error of cutplan derives from."""

class InvalidProblem(Error, ValueError):
    """
    A descriptor or scalar that no kernel could ever serve: a negative extent, a NaN alpha.
    """

class Unsupported(Error, NotImplementedError):
    """
    A legal problem that no kernel of this build serves, or a preference that cannot be honoured.
    """

class MissingOperand(Error, TypeError):
    """
    An operand that the descriptor asks for is absent, or one that it does not know is present.
    """

class DTypeMismatch(Error, TypeError):
    """An operand's element type is not the descriptor's."""

class ShapeMismatch(Error, ValueError):
    """An operand's rank or extents are not the descriptor's."""

class LayoutMismatch(Error, ValueError):
    """An operand's strides are not of the descriptor's layout."""

class DeviceMismatch(Error, ValueError):
    """An operand lives on another device than the plan."""

class Misaligned(Error, ValueError):
    """
    An operand's address or strides are less aligned than the kernel reads.
    """

class ReadOnly(Error, BufferError):
    """An output may not be written."""

class Overlap(Error, ValueError):
    """An output shares memory with an input, or with itself."""

class WorkspaceTooSmall(Error, ValueError):
    """The workspace is missing, short or misaligned."""

class DeviceError(Error, RuntimeError):
    """The CUDA runtime reported a failure."""

class ExportRefused(Error, BufferError):
    """
    An operand's library would not, or could not safely, lend its memory. Its own error is the __cause__.
    """

class DType(enum.Enum):
    """
    Type of a tensor's elements. DType(x) accepts names ("bfloat16") and the dtypes of NumPy, torch, JAX, CuPy and ml_dtypes.
    """

    def __str__(self) -> str: ...

    float64 = 1

    float32 = 2

    float16 = 3

    bfloat16 = 4

    float8_e4m3fn = 5

    float8_e5m2 = 6

    int64 = 7

    int32 = 8

    int8 = 9

    uint8 = 10

    int4 = 11

    uint4 = 12

    boolean = 13

    @property
    def bits(self) -> int:
        """Width of one element."""

class GemmLayout(enum.Enum):
    """
    Order of A, B and D: r row-major (last dimension contiguous), c column-major. D is row-major.
    """

    def __str__(self) -> str: ...

    rcr = 0

    rrr = 1

    crr = 2

    ccr = 3

class Activation(enum.Enum):
    """
    gelu_erf: x/2 (1 + erf(x/sqrt 2)); gelu_tanh: its tanh approximation; silu: x sigmoid(x).
    """

    def __str__(self) -> str: ...

    none = 0

    relu = 1

    gelu_erf = 2

    gelu_tanh = 3

    silu = 4

class Arch(enum.Enum):
    """
    Architecture that a kernel is built for. sm80 kernels also run on later GPUs.
    """

    def __str__(self) -> str: ...

    host = 0

    sm80 = 1

    sm89 = 2

    sm90 = 3

class Backend(enum.Enum):
    """What a kernel is made with."""

    def __str__(self) -> str: ...

    host = 0

    cutlass = 1

    cute = 2

class TensorView:
    """
    A tensor whose memory is read with another element type, or with other extents and strides. It can be passed wherever a tensor can; as_dtype() makes one.
    """

    def __init__(self, tensor: cutplan._typing.Tensor, *, dtype: cutplan._typing.DTypeLike | None = None, shape: Sequence[int] | None = None, strides: Sequence[int] | None = None, offset: int = 0) -> None:
        """
        Strides and offset count elements. Extents are not checked against the memory: a view is as trusted as a pointer.
        """

    @property
    def tensor(self) -> cutplan._typing.Tensor: ...

    @property
    def dtype(self) -> DType | None: ...

    def __repr__(self) -> str: ...

class TensorInfo:
    """What DLPack says of a tensor. Strides count elements."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def strides(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> DType: ...

    @property
    def device(self) -> str: ...

    @property
    def read_only(self) -> bool: ...

    @property
    def data(self) -> int:
        """Address of element [0, ..., 0]."""

    @property
    def framework(self) -> str:
        """"torch", "numpy", "cupy", "jax" or "other"."""

def inspect(tensor: cutplan._typing.Tensor, name: str = 'tensor') -> TensorInfo:
    """
    Imports a tensor as a plan would, without ordering it with any stream, and says what was found. `name` is used in errors.
    """

class DeviceProperties:
    """What decides which kernels a device can run, and how fast."""

    def __init__(self, *, name: str = '', compute_capability: int = 0, sm_count: int = 0, shared_memory: int = 0, l2_bytes: int = 0) -> None: ...

    @property
    def name(self) -> str: ...

    @property
    def compute_capability(self) -> int:
        """10 * major + minor; 0 for the host."""

    @property
    def sm_count(self) -> int:
        """Streaming multiprocessors; hardware threads on the host."""

    @property
    def shared_memory(self) -> int:
        """Bytes that one thread block may opt in to."""

    @property
    def l2_bytes(self) -> int: ...

    def __repr__(self) -> str: ...

def device_properties(device: cutplan._typing.DeviceLike) -> DeviceProperties:
    """
    Properties of "cpu", "cuda:0", a DLPack pair or a tensor's device. Raises DeviceError for a device that does not exist.
    """

def cuda_device_count() -> int:
    """
    Number of CUDA devices; 0 where there is no GPU, no driver, or the build has no CUDA.
    """

def cuda_unavailable_reason() -> str:
    """
    Why cuda_device_count() is 0, in one sentence; empty where there are devices.
    """

def built_architectures() -> tuple[str, ...]:
    """Architectures whose kernels are built in, "host" among them."""

class PlanPreference:
    """
    What the caller insists on. select() refuses a field that it cannot honour, by name.
    """

    def __init__(self, *, max_workspace_bytes: int | None = None, deterministic: bool = False, batch_invariant: bool = False, arch: str | Arch | None = None, kernel: str | None = None, sm_count: int = 0) -> None: ...

    @property
    def max_workspace_bytes(self) -> int | None:
        """Most scratch that the plan may ask for; None: any amount."""

    @property
    def deterministic(self) -> bool:
        """Same inputs, same device: the same bits."""

    @property
    def batch_invariant(self) -> bool:
        """
        A row's bits do not depend on how many rows or batches are computed with it.
        """

    @property
    def arch(self) -> Arch | None:
        """Only kernels of this architecture; None: any."""

    @property
    def kernel(self) -> str | None:
        """Only the kernel of this SKU name; None: any."""

    @property
    def sm_count(self) -> int:
        """Use at most this many SMs (threads on the host); 0: all."""

    def __repr__(self) -> str: ...

class KernelSku:
    """The kernel that a plan runs. str() is the name that selects it again."""

    @property
    def name(self) -> str:
        """Selects the same kernel again through PlanPreference(kernel=...)."""

    @property
    def category(self) -> str: ...

    @property
    def op(self) -> str: ...

    @property
    def a(self) -> DType: ...

    @property
    def b(self) -> DType: ...

    @property
    def accumulator(self) -> DType: ...

    @property
    def d(self) -> DType | None:
        """None in a list of kernels that serve several output types."""

    @property
    def layout(self) -> str: ...

    @property
    def epilogue(self) -> str: ...

    @property
    def arch(self) -> Arch: ...

    @property
    def backend(self) -> Backend: ...

    @property
    def tile(self) -> tuple[int, int, int]:
        """Extents (M, N, K) that one thread block computes."""

    @property
    def stages(self) -> int: ...

    @property
    def cluster(self) -> tuple[int, int]:
        """Thread blocks (M, N) that share operands."""

    @property
    def schedule(self) -> str: ...

    @property
    def split_k(self) -> int: ...

    @property
    def alignment(self) -> int:
        """Bytes to which A's and B's rows must be aligned."""

    def __str__(self) -> str: ...

    def __repr__(self) -> str: ...

class PrecisionGuarantee:
    """How exact a plan's result is."""

    @property
    def math(self) -> DType:
        """Type that the multiplier reads."""

    @property
    def accumulator(self) -> DType:
        """Type that products are summed in."""

    @property
    def deterministic(self) -> bool: ...

    @property
    def bit_stable_on_same_hardware(self) -> bool: ...

    @property
    def batch_invariant(self) -> bool: ...

    @property
    def accumulation(self) -> float:
        """Error of the sum before the activation, relative to the magnitude."""

    @property
    def lipschitz(self) -> float:
        """How much the activation can stretch an error."""

    @property
    def evaluation(self) -> float:
        """Error of evaluating the activation, relative to the magnitude."""

    @property
    def rounding(self) -> float:
        """Unit roundoff of D."""

    @property
    def smallest(self) -> float:
        """Absolute error where D underflows."""

    @property
    def largest(self) -> float:
        """Beyond this magnitude D overflows and no bound holds."""

    @overload
    def error_bound(self, magnitude: float, exact: float) -> float:
        """
        Bound on |computed - exact| of an element of D.

        `exact` is the element in exact arithmetic on the operands as given, and `magnitude` is
        |alpha| sum_k |a_ik b_kj| + |beta c_ij| + |bias_j|. Arrays give a NumPy float64 array of their broadcast shape.
        """

    @overload
    def error_bound(self, magnitude: Any, exact: Any) -> Any: ...

    def __repr__(self) -> str: ...

class Epilogue:
    """
    What is done to A B before it is stored: activation(alpha A B + beta C + bias).
    """

    def __init__(self, *, bias: bool = False, c: bool = False, activation: str | Activation = 'none') -> None: ...

    @property
    def bias(self) -> bool:
        """Adds one value per column of D."""

    @property
    def c(self) -> bool:
        """Adds a matrix of D's shape, scaled by beta."""

    @property
    def activation(self) -> Activation: ...

    def __eq__(self, other: object, /) -> bool: ...

    def __hash__(self) -> int: ...

    def __repr__(self) -> str: ...

class GemmDescriptor:
    """
    One problem: D [m, n] = activation(alpha A [m, k] B [k, n] + beta C [m, n] + bias [n]), `batch` times.
    """

    def __init__(self, *, m: int, n: int, k: int, a: cutplan._typing.DTypeLike, b: cutplan._typing.DTypeLike | None = None, d: cutplan._typing.DTypeLike | None = None, layout: str | GemmLayout = 'rcr', epilogue: Epilogue | None = None, batch: int = 1, c: cutplan._typing.DTypeLike | None = None, bias: cutplan._typing.DTypeLike | None = None, alignment: int | None = None) -> None:
        """
        B's and D's types are A's unless given; C's and the bias's are D's. `alignment` is in bytes and covers A's and B's
        addresses, leading dimensions and batch strides; None takes what contiguous operands have, 16 at most.
        """

    @property
    def m(self) -> int: ...

    @property
    def n(self) -> int: ...

    @property
    def k(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def a(self) -> DType: ...

    @property
    def b(self) -> DType: ...

    @property
    def d(self) -> DType: ...

    @property
    def c(self) -> DType | None:
        """None: D's type."""

    @property
    def bias(self) -> DType | None:
        """None: D's type."""

    @property
    def layout(self) -> GemmLayout: ...

    @property
    def epilogue(self) -> Epilogue: ...

    @property
    def alignment(self) -> int:
        """Bytes; 0: what contiguous operands of these extents have, 16 at most."""

    def __eq__(self, other: object, /) -> bool: ...

    def __hash__(self) -> int: ...

    def __repr__(self) -> str: ...

def describe(a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, c: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, activation: str | Activation = 'none') -> GemmDescriptor:
    """
    The descriptor that these operands fit: extents, layout, types and alignment read off the tensors.
    """

class GemmPlan:
    """
    A kernel chosen for one descriptor and device. Holds no device memory; safe to share between threads.
    """

    @staticmethod
    def select(descriptor: GemmDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> GemmPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, c: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, alpha: float = 1.0, beta: float | None = None, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        D = activation(alpha A B + beta C + bias), written into `d`.

        Shapes: a [m, k], b [k, n], c and d [m, n], bias [n]; with batch > 1 a leading dimension of `batch`, which a, b and
        c may leave out or give stride 0. beta is 1 if c is given. Enqueues on `stream` (None: the current stream of d's
        library) and returns; on the host it computes before it returns. With an explicit stream the caller has ordered the
        operands before it. `workspace` is any contiguous tensor of at least workspace_size bytes, 256-byte aligned.

        Raises the error that names the operand at fault, and writes nothing then: MissingOperand, DTypeMismatch,
        ShapeMismatch, LayoutMismatch, DeviceMismatch, Misaligned, ReadOnly, Overlap, WorkspaceTooSmall, InvalidProblem (NaN
        alpha), ExportRefused (a tensor that requires grad), DeviceError.
        """

    def can_implement(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, c: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, alpha: float = 1.0, beta: float | None = None) -> None:
        """Raises what run() would raise for these operands; touches no device."""

    def measure_launch(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernel takes: the operands are imported, checked and packed once, the
        kernel is enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the result is."""

    @property
    def descriptor(self) -> GemmDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    def __repr__(self) -> str: ...

class GemmSupport:
    """One row of the support table: what a kernel family serves."""

    @property
    def arch(self) -> Arch: ...

    @property
    def operand(self) -> DType:
        """Type of A and B."""

    @property
    def d(self) -> list[DType]:
        """Output types."""

    @property
    def layouts(self) -> list[GemmLayout]: ...

    @property
    def minimum_compute_capability(self) -> int:
        """0: none needed."""

    @property
    def note(self) -> str: ...

def gemm_support() -> list[GemmSupport]:
    """The rows of the support table that this build holds."""

def gemm_registry() -> list[KernelSku]:
    """Every GEMM kernel of this build."""

def gemm_kernels(descriptor: GemmDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """
