from collections.abc import Callable, Sequence
import enum
from typing import Any, Literal, overload

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
    Order of A, B and D: r row-major (last dimension contiguous), c column-major. C, residual and aux are ordered as D is.
    """

    def __str__(self) -> str: ...

    rcr = 0

    rrr = 1

    crr = 2

    ccr = 3

    rcc = 4

    rrc = 5

    crc = 6

    ccc = 7

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

    cute = 1

class Math(enum.Enum):
    """
    How float32 operands are multiplied, by growing accuracy: tf32 rounds them to 11 bits, tf32x3 takes three such
    products and is about as exact as float32, strict is IEEE float32.
    """

    def __str__(self) -> str: ...

    fast = 0

    tf32 = 1

    tf32x3 = 2

    strict = 3

class Tune(enum.Enum):
    """
    Whether measured times choose the kernel: off, the cost model alone does; cached, what was measured before on
    such a device; measure, candidates that were not are timed at select().
    """

    def __str__(self) -> str: ...

    off = 0

    cached = 1

    measure = 2

class FmhaLayout(enum.Enum):
    """
    Order of the dimensions of Q, K, V and O: b batch, h heads, s sequence, d head dimension.
    """

    def __str__(self) -> str: ...

    bhsd = 0

    bshd = 1

class Causal(enum.Enum):
    """
    Causal masking: query i sees keys up to i + off, where off is 0 (top_left) or Sk - Sq (bottom_right).
    """

    def __str__(self) -> str: ...

    top_left = 1

    bottom_right = 2

class Align(enum.Enum):
    """
    Which corner of the scores the diagonal of window and ALiBi runs through.
    """

    def __str__(self) -> str: ...

    bottom_right = 0

    top_left = 1

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
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def read_only(self) -> bool: ...

    @property
    def data(self) -> int:
        """Address of element [0, ..., 0]."""

    @property
    def framework(self) -> Literal['torch', 'numpy', 'cupy', 'jax', 'other']:
        """"torch", "numpy", "cupy", "jax" or "other"."""

    def __repr__(self) -> str: ...

def inspect(tensor: cutplan._typing.Tensor, name: str = 'tensor') -> TensorInfo:
    """
    Imports a tensor as a plan would, without ordering it with any stream, and says what was found. `name` is used in errors.
    """

class DeviceProperties:
    """What decides which kernels a device can run, and how fast."""

    def __init__(self, *, name: str | None = '', compute_capability: int | None = 0, sm_count: int | None = 0, shared_memory: int | None = 0, l2_bytes: int | None = 0, clock_hz: float | None = 0.0, memory_bandwidth: float | None = 0.0) -> None:
        """Fields are those of the same names."""

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

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

    @property
    def clock_hz(self) -> float:
        """Highest of the SMs; 0: not known."""

    @property
    def memory_bandwidth(self) -> float:
        """Bytes a second at the memory's pins; 0: not known."""

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

    def __init__(self, *, max_workspace_bytes: int | None = None, deterministic: bool | None = False, batch_invariant: bool | None = False, arch: cutplan._typing.ArchLike | None = None, kernel: str | None = None, sm_count: int | None = 0, math: cutplan._typing.MathLike | None = 'tf32x3', tune: cutplan._typing.TuneLike | None = 'cached') -> None:
        """Fields are those of the same names."""

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

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

    @property
    def math(self) -> Math:
        """Least accuracy of products of float32 operands."""

    @property
    def tune(self) -> Tune:
        """Whether measured times choose the kernel."""

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
    def stages(self) -> int: ...

    @property
    def schedule(self) -> str: ...

    @property
    def split_k(self) -> int: ...

    @property
    def alignment(self) -> int:
        """Bytes to which A's and B's rows must be aligned."""

    @property
    def threads(self) -> int:
        """Threads of a block; 0 on the host."""

    @property
    def shared_memory(self) -> int:
        """Bytes of dynamic shared memory of a block; 0 on the host."""

    def __repr__(self) -> str: ...

    def __str__(self) -> str: ...

    @property
    def tile(self) -> tuple[int, int, int]:
        """Extents (M, N, K) that one thread block computes."""

    @property
    def cluster(self) -> tuple[int, int]:
        """Thread blocks (M, N) that share operands."""

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
        """
        Error of evaluating the activation or the softmax, relative to the magnitude.
        """

    @property
    def scores(self) -> float:
        """
        Attention: the error that a score carries into its weight, per unit of score_magnitude.
        """

    @property
    def rounding(self) -> float:
        """Unit roundoff of D."""

    @property
    def smallest(self) -> float:
        """Absolute error where D underflows."""

    @property
    def largest(self) -> float:
        """Beyond this magnitude D overflows and no bound holds."""

    def __repr__(self) -> str: ...

    @overload
    def error_bound(self, magnitude: float, exact: float, score_magnitude: float | None = None) -> float:
        """
        Bound on |computed - exact| of an element of an output.

        `exact` is the element in exact arithmetic on the operands as given. Matrix multiplication: `magnitude` is
        |alpha r_i s_j| sum_k |a_ik b_kj| + |beta c_ij| + |bias|; docs/numerics.md says what further operands add. Attention: docs/numerics.md gives `magnitude` for each output;
        `score_magnitude` is the largest |scale| sum_d |q_id k_jd| + |slope (i + off - j)| + |bias_ij| that the output depends
        on, and required. Arrays give a NumPy float64 array of their broadcast shape.
        """

    @overload
    def error_bound(self, magnitude: cutplan._typing.Array | float, exact: cutplan._typing.Array | float, score_magnitude: cutplan._typing.Array | float | None = None) -> Any: ...

class Epilogue:
    """
    What is done to A B before it is stored.

        x = alpha row_scale_i column_scale_j (A B)_ij + beta C_ij + bias
        D = activation(x) + residual                                  aux="store": also writes x to aux
        D = x activation'(aux) + residual                             aux="gradient", for a backward pass
        D = activation(x) x2 + residual                               gated: x2 is x of b2 and bias2
    """

    def __init__(self, *, bias: cutplan._typing.BiasLike | None = None, c: bool | None = False, residual: bool | None = False, row_scale: bool | None = False, column_scale: bool | None = False, activation: cutplan._typing.ActivationLike | None = 'none', aux: cutplan._typing.AuxLike | None = None, gate: cutplan._typing.GateLike | None = None, out_scale: bool | None = False, amax: bool | None = False) -> None:
        """
        `bias` is True or "n" for one value per column of D, "m" for one per row. `aux` is "store" or "gradient". `gate`
        is "separate", with B and b2 two matrices, or "interleaved", with the columns of both taking turns in one B [k, 2 n].
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def bias(self) -> Literal['n', 'm'] | None:
        """"n": one value per column of D; "m": one per row."""

    @property
    def c(self) -> bool:
        """A matrix of D's shape, scaled by beta."""

    @property
    def residual(self) -> bool:
        """A matrix of D's shape, added last."""

    @property
    def row_scale(self) -> bool:
        """A float32 factor per row of D."""

    @property
    def column_scale(self) -> bool:
        """A float32 factor per column of D."""

    @property
    def activation(self) -> Activation: ...

    @property
    def aux(self) -> Literal['store', 'gradient'] | None:
        """
        "store": the value before the activation is written; "gradient": the activation's derivative there is a factor.
        """

    @property
    def gate(self) -> Literal['separate', 'interleaved'] | None:
        """"separate" or "interleaved"."""

    @property
    def out_scale(self) -> bool:
        """D, int8 or float8, is divided by one float32 number."""

    @property
    def amax(self) -> bool:
        """
        Of quantised operands: the greatest abs(D), before out_scale, is written.
        """

class WeightPacking:
    """What packed weights, a product's b, hold: as their header says."""

    def __init__(self, *, format: cutplan._typing.WeightFormatLike | None = None, n: int | None = 0, group_size: int | None = 128, scale: cutplan._typing.DTypeLike | None = None, zero: bool | None = False, permutation: bool | None = False) -> None:
        """Fields are those of PackedWeights."""

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def format(self) -> Literal['int4', 'uint4', 'int8', 'e4m3', 'nf4', 'e2m1'] | None:
        """None: b is no packed weight."""

    @property
    def n(self) -> int:
        """Columns."""

    @property
    def group_size(self) -> int: ...

    @property
    def scale(self) -> DType | None:
        """Type of scales and zeros."""

    @property
    def zero(self) -> bool:
        """Whether there are zeros."""

    @property
    def permutation(self) -> bool:
        """Whether rows have an order of their own."""

class GemmDescriptor:
    """
    One problem: D [m, n] = epilogue(A [m, k] B [k, n]), `batch` times. Epilogue has the formula.
    """

    def __init__(self, *, m: int, n: int, k: int, a: cutplan._typing.DTypeLike, b: cutplan._typing.DTypeLike | None = None, d: cutplan._typing.DTypeLike | None = None, layout: cutplan._typing.GemmLayoutLike | None = 'rcr', epilogue: Epilogue | None = None, batch: int | None = 1, c: cutplan._typing.DTypeLike | None = None, bias: cutplan._typing.DTypeLike | None = None, residual: cutplan._typing.DTypeLike | None = None, aux: cutplan._typing.DTypeLike | None = None, out_columns: Sequence[int] | None = (), d2: cutplan._typing.DTypeLike | None = None, d3: cutplan._typing.DTypeLike | None = None, d4: cutplan._typing.DTypeLike | None = None, alignment: int | None = 0, a_scale: cutplan._typing.GranularityLike | None = None, b_scale: cutplan._typing.GranularityLike | None = None, a_zero: cutplan._typing.GranularityLike | None = None, b_zero: cutplan._typing.GranularityLike | None = None, weights: WeightPacking | None = None) -> None:
        """
        B's and D's types are A's unless given; those of C, bias, residual and aux are D's. `alignment` is in bytes and
        covers A's and B's addresses, leading dimensions and batch strides; None takes what contiguous operands have, 16 at
        most.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def m(self) -> int: ...

    @property
    def n(self) -> int: ...

    @property
    def k(self) -> int: ...

    @property
    def a(self) -> DType: ...

    @property
    def b(self) -> DType: ...

    @property
    def d(self) -> DType: ...

    @property
    def layout(self) -> GemmLayout: ...

    @property
    def epilogue(self) -> Epilogue: ...

    @property
    def batch(self) -> int: ...

    @property
    def c(self) -> DType | None:
        """None: D's type."""

    @property
    def bias(self) -> DType | None:
        """None: D's type."""

    @property
    def residual(self) -> DType | None:
        """None: D's type."""

    @property
    def aux(self) -> DType | None:
        """None: D's type."""

    @property
    def out_columns(self) -> tuple[int, ...]:
        """
        Columns of up to four outputs that D is cut into, n in all, all but the last multiples of 8; (): one D.
        """

    @property
    def d2(self) -> DType | None:
        """Of the second output; None: D's type."""

    @property
    def d3(self) -> DType | None:
        """Of the third output; None: D's type."""

    @property
    def d4(self) -> DType | None:
        """Of the fourth output; None: D's type."""

    @property
    def alignment(self) -> int:
        """Bytes; 0: what contiguous operands of these extents have, 16 at most."""

    @property
    def a_scale(self) -> Literal['tensor', 'row', 'column', 'group', 'block'] | None:
        """"tensor", "row" or "group": scales of a quantised A."""

    @property
    def b_scale(self) -> Literal['tensor', 'row', 'column', 'group', 'block'] | None:
        """"tensor", "column", "group" or "block": scales of a quantised B."""

    @property
    def a_zero(self) -> Literal['tensor', 'row', 'column', 'group', 'block'] | None:
        """"tensor" or "row": zeros of an int8 A."""

    @property
    def b_zero(self) -> Literal['tensor', 'row', 'column', 'group', 'block'] | None:
        """"tensor" or "column": zeros of an int8 B."""

    @property
    def weights(self) -> WeightPacking:
        """B and b2 are packed weights."""

class GroupedGemmDescriptor:
    """
    `groups` products of different sizes, which lie in device memory: offsets, int32 [groups + 1].

    Over m: rows offsets[g] to offsets[g + 1] of A times B[g] are those rows of D; `m` counts the rows of all. Over k:
    columns offsets[g] to offsets[g + 1] of A times those rows of B are D[g]; `k` counts the columns of all.
    """

    def __init__(self, *, groups: int, m: int, n: int, k: int, a: cutplan._typing.DTypeLike, b: cutplan._typing.DTypeLike | None = None, d: cutplan._typing.DTypeLike | None = None, over: cutplan._typing.GroupedOverLike | None = 'm', layout: cutplan._typing.GemmLayoutLike | None = 'rcr', epilogue: Epilogue | None = None, bias: cutplan._typing.DTypeLike | None = None, alignment: int | None = 0, a_scale: cutplan._typing.GranularityLike | None = None, b_scale: cutplan._typing.GranularityLike | None = None, weights: WeightPacking | None = None) -> None:
        """
        `over` is "m" or "k". Types and alignment are as in GemmDescriptor. Over m an epilogue may have a bias over n, scales,
        an activation and a gate; over k nothing. Over m A is row-major, over k the layout is crr.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def groups(self) -> int: ...

    @property
    def m(self) -> int: ...

    @property
    def n(self) -> int: ...

    @property
    def k(self) -> int: ...

    @property
    def a(self) -> DType: ...

    @property
    def b(self) -> DType: ...

    @property
    def d(self) -> DType: ...

    @property
    def over(self) -> Literal['m', 'k']:
        """"m" or "k": the extent that the groups share out."""

    @property
    def layout(self) -> GemmLayout: ...

    @property
    def epilogue(self) -> Epilogue: ...

    @property
    def bias(self) -> DType | None:
        """None: D's type."""

    @property
    def alignment(self) -> int:
        """Bytes; 0: what contiguous operands of these extents have, 16 at most."""

    @property
    def a_scale(self) -> Literal['tensor', 'row', 'column', 'group', 'block'] | None:
        """As in GemmDescriptor."""

    @property
    def b_scale(self) -> Literal['tensor', 'row', 'column', 'group', 'block'] | None:
        """As in GemmDescriptor."""

    @property
    def weights(self) -> WeightPacking:
        """As in GemmDescriptor."""

class GemmSupport:
    """One row of the support table: what a kernel family serves."""

    @property
    def arch(self) -> Arch: ...

    @property
    def operand(self) -> DType:
        """Type of A."""

    @property
    def operand_b(self) -> DType:
        """Type of B."""

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

    def __repr__(self) -> str: ...

def gemm_support() -> list[GemmSupport]:
    """The rows of the support table that this build holds."""

def gemm_registry() -> list[KernelSku]:
    """Every GEMM kernel of this build."""

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

    def run(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, c: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, b2: cutplan._typing.Tensor | None = None, bias2: cutplan._typing.Tensor | None = None, residual: cutplan._typing.Tensor | None = None, aux: cutplan._typing.Tensor | None = None, row_scale: cutplan._typing.Tensor | None = None, column_scale: cutplan._typing.Tensor | None = None, a_scale: cutplan._typing.Tensor | None = None, b_scale: cutplan._typing.Tensor | None = None, b2_scale: cutplan._typing.Tensor | None = None, a_zero: cutplan._typing.Tensor | None = None, b_zero: cutplan._typing.Tensor | None = None, out_scale: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None, d2: cutplan._typing.Tensor | None = None, d3: cutplan._typing.Tensor | None = None, d4: cutplan._typing.Tensor | None = None, alpha: float | None = 1.0, beta: float | None = None, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        D = epilogue(A B), written into `d`; Epilogue has the formula.

        Shapes: a [m, k], b and b2 [k, n] (an interleaved b [k, 2 n]), c, d, residual and aux [m, n]; bias and bias2 [n] (an
        interleaved bias [2 n]), a bias over m [m, 1]; row_scale [m] and column_scale [n], float32. With batch > 1 matrices
        have a leading dimension of `batch`, which all but d and a stored aux may leave out or give stride 0; vectors are
        shared by the batch. beta is 1 if c is given.

        Enqueues on `stream` (None: the current stream of d's library) and returns; on the host it computes before it
        returns. With an explicit stream the caller has ordered the operands before it. `workspace` is any contiguous tensor
        of at least workspace_size bytes, 256-byte aligned.

        Raises the error that names the operand at fault, and writes nothing then: MissingOperand, DTypeMismatch,
        ShapeMismatch, LayoutMismatch, DeviceMismatch, Misaligned, ReadOnly, Overlap, WorkspaceTooSmall, InvalidProblem (NaN
        alpha, or one that float32 cannot hold), ExportRefused (a tensor that requires grad), DeviceError.
        """

    def can_implement(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, c: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, b2: cutplan._typing.Tensor | None = None, bias2: cutplan._typing.Tensor | None = None, residual: cutplan._typing.Tensor | None = None, aux: cutplan._typing.Tensor | None = None, row_scale: cutplan._typing.Tensor | None = None, column_scale: cutplan._typing.Tensor | None = None, a_scale: cutplan._typing.Tensor | None = None, b_scale: cutplan._typing.Tensor | None = None, b2_scale: cutplan._typing.Tensor | None = None, a_zero: cutplan._typing.Tensor | None = None, b_zero: cutplan._typing.Tensor | None = None, out_scale: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None, d2: cutplan._typing.Tensor | None = None, d3: cutplan._typing.Tensor | None = None, d4: cutplan._typing.Tensor | None = None, alpha: float | None = 1.0, beta: float | None = None) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, *, c: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, b2: cutplan._typing.Tensor | None = None, bias2: cutplan._typing.Tensor | None = None, residual: cutplan._typing.Tensor | None = None, aux: cutplan._typing.Tensor | None = None, row_scale: cutplan._typing.Tensor | None = None, column_scale: cutplan._typing.Tensor | None = None, a_scale: cutplan._typing.Tensor | None = None, b_scale: cutplan._typing.Tensor | None = None, b2_scale: cutplan._typing.Tensor | None = None, a_zero: cutplan._typing.Tensor | None = None, b_zero: cutplan._typing.Tensor | None = None, out_scale: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None, d2: cutplan._typing.Tensor | None = None, d3: cutplan._typing.Tensor | None = None, d4: cutplan._typing.Tensor | None = None, alpha: float | None = 1.0, beta: float | None = None, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> GemmDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def describe(a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor | None = None, *, c: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, b2: cutplan._typing.Tensor | None = None, bias2: cutplan._typing.Tensor | None = None, residual: cutplan._typing.Tensor | None = None, aux: cutplan._typing.Tensor | None = None, row_scale: cutplan._typing.Tensor | None = None, column_scale: cutplan._typing.Tensor | None = None, a_scale: cutplan._typing.Tensor | None = None, b_scale: cutplan._typing.Tensor | None = None, b2_scale: cutplan._typing.Tensor | None = None, a_zero: cutplan._typing.Tensor | None = None, b_zero: cutplan._typing.Tensor | None = None, out_scale: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None, d2: cutplan._typing.Tensor | None = None, d3: cutplan._typing.Tensor | None = None, d4: cutplan._typing.Tensor | None = None, activation: cutplan._typing.ActivationLike | None = 'none', aux_mode: cutplan._typing.AuxLike | None = None, gate: cutplan._typing.GateLike | None = None, weights: WeightPacking | None = None, out_columns: Sequence[int] | None = ()) -> GemmDescriptor:
    """
    The descriptor that these operands fit: extents, layout, types and alignment read off the tensors.

    A bias [n] is one value per column of D, a bias [m, 1] one per row. `aux_mode` says what aux is for, "store" or
    "gradient"; b2 makes the gate "separate"; a b that holds the columns of both needs gate="interleaved".
    """

def gemm_kernels(descriptor: GemmDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

@overload
def measure_gemm(descriptor: GemmDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]: ...

@overload
def measure_gemm(descriptor: GroupedGemmDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

@overload
def tune_gemm(descriptor: GemmDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]: ...

@overload
def tune_gemm(descriptor: GroupedGemmDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

@overload
def tuned_gemm(descriptor: GemmDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None: ...

@overload
def tuned_gemm(descriptor: GroupedGemmDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_gemm(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class GroupedGemmPlan:
    """
    A kernel for products of different sizes, chosen for one descriptor and device. The host never reads the sizes.
    """

    @staticmethod
    def select(descriptor: GroupedGemmDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> GroupedGemmPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, offsets: cutplan._typing.Tensor, *, bias: cutplan._typing.Tensor | None = None, b2: cutplan._typing.Tensor | None = None, bias2: cutplan._typing.Tensor | None = None, row_scale: cutplan._typing.Tensor | None = None, column_scale: cutplan._typing.Tensor | None = None, a_scale: cutplan._typing.Tensor | None = None, b_scale: cutplan._typing.Tensor | None = None, b2_scale: cutplan._typing.Tensor | None = None, out_scale: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None, alpha: float | None = 1.0, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        One product per group, written into `d`.

        Shapes over m: a [m, k], b and b2 [groups, k, n] (an interleaved b [groups, k, 2 n]), d [m, n], bias and bias2
        [groups, n] (an interleaved bias [groups, 2 n]), row_scale [m] and column_scale [groups, n], float32. Over k: a [m, k],
        b [k, n], d [groups, m, n]. offsets: int32 [groups + 1], on the operands' device.

        Over m, rows of d outside the groups are not written; over k an empty group gives zeros. Offsets are not read by the
        host, so that a CUDA graph can replay with other sizes: they must not decrease, and lie within the extent. A kernel
        clamps what breaks that; the host backend raises InvalidProblem. Stream, workspace and other errors are GemmPlan.run's.
        """

    def can_implement(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, offsets: cutplan._typing.Tensor, *, bias: cutplan._typing.Tensor | None = None, b2: cutplan._typing.Tensor | None = None, bias2: cutplan._typing.Tensor | None = None, row_scale: cutplan._typing.Tensor | None = None, column_scale: cutplan._typing.Tensor | None = None, a_scale: cutplan._typing.Tensor | None = None, b_scale: cutplan._typing.Tensor | None = None, b2_scale: cutplan._typing.Tensor | None = None, out_scale: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None, alpha: float | None = 1.0) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor, offsets: cutplan._typing.Tensor, *, bias: cutplan._typing.Tensor | None = None, b2: cutplan._typing.Tensor | None = None, bias2: cutplan._typing.Tensor | None = None, row_scale: cutplan._typing.Tensor | None = None, column_scale: cutplan._typing.Tensor | None = None, a_scale: cutplan._typing.Tensor | None = None, b_scale: cutplan._typing.Tensor | None = None, b2_scale: cutplan._typing.Tensor | None = None, out_scale: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None, alpha: float | None = 1.0, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> GroupedGemmDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def describe_grouped(a: cutplan._typing.Tensor, b: cutplan._typing.Tensor, d: cutplan._typing.Tensor | None, offsets: cutplan._typing.Tensor, *, bias: cutplan._typing.Tensor | None = None, b2: cutplan._typing.Tensor | None = None, bias2: cutplan._typing.Tensor | None = None, row_scale: cutplan._typing.Tensor | None = None, column_scale: cutplan._typing.Tensor | None = None, a_scale: cutplan._typing.Tensor | None = None, b_scale: cutplan._typing.Tensor | None = None, b2_scale: cutplan._typing.Tensor | None = None, out_scale: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None, activation: cutplan._typing.ActivationLike | None = 'none', gate: cutplan._typing.GateLike | None = None, weights: WeightPacking | None = None) -> GroupedGemmDescriptor:
    """
    The descriptor that these operands fit: over m where b has three dimensions, over k where d has.

    `offsets` are not read, only counted. b2 makes the gate "separate"; a b that holds the columns of both needs gate="interleaved".
    """

def grouped_gemm_kernels(descriptor: GroupedGemmDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def call_grouped_gemm(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class FmhaDescriptor:
    """
    One attention problem: O = softmax(scores) V for `heads` heads of `batch` sequences, `heads_k` heads of K and V.

    Score of query i and key j, in this order: scale q_i . k_j; softcap tanh(score / softcap); minus slope |i + off - j|
    (ALiBi); plus bias. `off` is 0 for top_left alignment and Sk - Sq for bottom_right. Key j takes part where all of
    these hold: causal: j <= i + off; window (left, right): i + off - left <= j <= i + off + right, -1 being no limit; the
    mask is true; j is within the sequence. The sink is one more logit, without a value.
    """

    def __init__(self, *, batch: int | None = 1, heads: int, heads_k: int | None = 0, seq_q: int, seq_k: int, dim: int, dim_v: int | None = 0, dtype: cutplan._typing.DTypeLike, o: cutplan._typing.DTypeLike | None = None, layout: cutplan._typing.FmhaLayoutLike | None = 'bhsd', varlen: bool | None = False, causal: cutplan._typing.CausalLike | None = None, align: cutplan._typing.AlignLike | None = 'bottom_right', window: tuple[int, int] | None = (-1, -1), softcap: float | None = 0.0, alibi: bool | None = False, bias: cutplan._typing.DTypeLike | None = None, mask: bool | None = False, sink: bool | None = False, seqused_k: bool | None = False, dropout: bool | None = False, lse: bool | None = False) -> None:
        """
        `dtype` is the type of Q, K and V, and O's unless `o` is given; `bias` is the bias's type, None without one.
        `varlen`: the sequences lie one after the other, and seq_q and seq_k count the rows of all together. `align` is
        for window and ALiBi without causal, bottom_right unless given; with causal, that sets it.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def batch(self) -> int:
        """Sequences."""

    @property
    def heads(self) -> int:
        """Of Q and O."""

    @property
    def heads_k(self) -> int:
        """Of K and V; a divisor of heads."""

    @property
    def seq_q(self) -> int: ...

    @property
    def seq_k(self) -> int: ...

    @property
    def dim(self) -> int:
        """Head dimension of Q and K."""

    @property
    def dim_v(self) -> int:
        """Head dimension of V and O."""

    @property
    def dtype(self) -> DType:
        """Of Q, K and V."""

    @property
    def o(self) -> DType: ...

    @property
    def layout(self) -> FmhaLayout: ...

    @property
    def varlen(self) -> bool:
        """Sequences lie one after the other, bounded by cu_seqlens."""

    @property
    def causal(self) -> Causal | None: ...

    @property
    def align(self) -> Align:
        """Of causal, window and ALiBi."""

    @property
    def window(self) -> tuple[int, int]:
        """Keys to either side of the diagonal; -1: no limit."""

    @property
    def softcap(self) -> float:
        """0: none."""

    @property
    def alibi(self) -> bool: ...

    @property
    def bias(self) -> DType | None:
        """The bias's type; None: no bias."""

    @property
    def mask(self) -> bool: ...

    @property
    def sink(self) -> bool: ...

    @property
    def seqused_k(self) -> bool: ...

    @property
    def dropout(self) -> bool: ...

    @property
    def lse(self) -> bool:
        """Whether run() writes LSE."""

class FmhaBackwardDescriptor:
    """
    The gradients of one attention problem. They need LSE, so `forward` has it.
    """

    def __init__(self, forward: FmhaDescriptor, *, grad: cutplan._typing.DTypeLike | None = None, dbias: bool | None = False, dalibi_slopes: bool | None = False, dsink: bool | None = False) -> None:
        """
        `grad` is the type of dQ, dK and dV, the operands' unless given; the gradient of O has the operands' type.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def forward(self) -> FmhaDescriptor: ...

    @property
    def grad(self) -> DType:
        """Of dQ, dK and dV."""

    @property
    def dbias(self) -> bool: ...

    @property
    def dalibi_slopes(self) -> bool: ...

    @property
    def dsink(self) -> bool: ...

class FmhaSupport:
    """One row of the support table: what a kernel family serves, both ways."""

    @property
    def arch(self) -> Arch: ...

    @property
    def operand(self) -> DType:
        """Type of Q, K and V."""

    @property
    def o(self) -> list[DType]:
        """Output types, and those of dQ, dK and dV."""

    @property
    def largest_dim(self) -> int:
        """Largest head dimension."""

    @property
    def minimum_compute_capability(self) -> int:
        """0: none needed."""

    @property
    def note(self) -> str: ...

    def __repr__(self) -> str: ...

def fmha_support() -> list[FmhaSupport]:
    """The rows of the support table that this build holds."""

def fmha_registry() -> list[KernelSku]:
    """Every attention kernel of this build."""

class FmhaPlan:
    """
    An attention kernel chosen for one descriptor and device. Holds no device memory; safe to share between threads.
    """

    @staticmethod
    def select(descriptor: FmhaDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> FmhaPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, q: cutplan._typing.Tensor, k: cutplan._typing.Tensor, v: cutplan._typing.Tensor, o: cutplan._typing.Tensor, *, lse: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, mask: cutplan._typing.Tensor | None = None, alibi_slopes: cutplan._typing.Tensor | None = None, sink: cutplan._typing.Tensor | None = None, seqused_k: cutplan._typing.Tensor | None = None, cu_seqlens_q: cutplan._typing.Tensor | None = None, cu_seqlens_k: cutplan._typing.Tensor | None = None, rng_state: cutplan._typing.Tensor | None = None, scale: float | None = None, dropout_p: float | None = 0.0, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        O = softmax(scores) V, written into `o`, and the natural logarithm of the sum of exponentials into `lse`.

        Shapes, with layout bhsd: q [B, H, Sq, D], k [B, Hk, Sk, D], v [B, Hk, Sk, Dv], o [B, H, Sq, Dv], lse float32
        [B, H, Sq]; packed: q [H, Tq, D], k [Hk, Tk, D], v [Hk, Tk, Dv], o [H, Tq, Dv], lse [H, Tq]. With layout bshd heads
        and sequence change places in all but lse. Last dimensions are contiguous; outer strides are free, 0 only in inputs.
        bias and mask (bool, true takes part) broadcast to [B, H, Sq, Sk]; alibi_slopes [H] or [B, H] and sink [H], float32
        or of the operands' type; seqused_k int32 [B], the lengths of K and V; cu_seqlens_q and cu_seqlens_k int32 [B + 1];
        rng_state int64 [2], seed and offset. scale is 1 / sqrt(D) unless given; dropout_p is the probability of dropping a
        weight.

        Enqueues on `stream` (None: the current stream of o's library) and returns; on the host it computes before it
        returns. A row that sees no key gets 0, and LSE -inf. Lengths in device memory are clamped to what the operands
        hold; on the host they are checked. `workspace` is any contiguous tensor of at least workspace_size bytes, 256-byte
        aligned.

        Raises the error that names the operand at fault, and writes nothing then: MissingOperand, DTypeMismatch,
        ShapeMismatch, LayoutMismatch, DeviceMismatch, ReadOnly, Overlap, WorkspaceTooSmall, InvalidProblem (dropout_p,
        lengths), ExportRefused (a tensor that requires grad), DeviceError.
        """

    def can_implement(self, q: cutplan._typing.Tensor, k: cutplan._typing.Tensor, v: cutplan._typing.Tensor, o: cutplan._typing.Tensor, *, lse: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, mask: cutplan._typing.Tensor | None = None, alibi_slopes: cutplan._typing.Tensor | None = None, sink: cutplan._typing.Tensor | None = None, seqused_k: cutplan._typing.Tensor | None = None, cu_seqlens_q: cutplan._typing.Tensor | None = None, cu_seqlens_k: cutplan._typing.Tensor | None = None, rng_state: cutplan._typing.Tensor | None = None, scale: float | None = None, dropout_p: float | None = 0.0) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, q: cutplan._typing.Tensor, k: cutplan._typing.Tensor, v: cutplan._typing.Tensor, o: cutplan._typing.Tensor, *, lse: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, mask: cutplan._typing.Tensor | None = None, alibi_slopes: cutplan._typing.Tensor | None = None, sink: cutplan._typing.Tensor | None = None, seqused_k: cutplan._typing.Tensor | None = None, cu_seqlens_q: cutplan._typing.Tensor | None = None, cu_seqlens_k: cutplan._typing.Tensor | None = None, rng_state: cutplan._typing.Tensor | None = None, scale: float | None = None, dropout_p: float | None = 0.0, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> FmhaDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def describe_attention(q: cutplan._typing.Tensor, k: cutplan._typing.Tensor, v: cutplan._typing.Tensor, o: cutplan._typing.Tensor | None = None, *, lse: cutplan._typing.Tensor | None = None, bias: cutplan._typing.Tensor | None = None, mask: cutplan._typing.Tensor | None = None, alibi_slopes: cutplan._typing.Tensor | None = None, sink: cutplan._typing.Tensor | None = None, seqused_k: cutplan._typing.Tensor | None = None, cu_seqlens_q: cutplan._typing.Tensor | None = None, cu_seqlens_k: cutplan._typing.Tensor | None = None, rng_state: cutplan._typing.Tensor | None = None, layout: cutplan._typing.FmhaLayoutLike | None = 'bhsd', causal: cutplan._typing.CausalLike | None = None, align: cutplan._typing.AlignLike | None = 'bottom_right', window: tuple[int, int] | None = (-1, -1), softcap: float | None = 0.0) -> FmhaDescriptor:
    """
    The descriptor that these operands fit: extents, types and options read off the tensors.
    """

@overload
def fmha_kernels(descriptor: FmhaDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]: ...

@overload
def fmha_kernels(descriptor: FmhaBackwardDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

@overload
def measure_fmha(descriptor: FmhaDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]: ...

@overload
def measure_fmha(descriptor: FmhaBackwardDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

@overload
def tune_fmha(descriptor: FmhaDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]: ...

@overload
def tune_fmha(descriptor: FmhaBackwardDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

@overload
def tuned_fmha(descriptor: FmhaDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None: ...

@overload
def tuned_fmha(descriptor: FmhaBackwardDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_fmha(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class FmhaBackwardPlan:
    """
    A kernel for the gradients of attention, chosen for one descriptor and device.
    """

    @staticmethod
    def select(descriptor: FmhaBackwardDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> FmhaBackwardPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, grad: cutplan._typing.Tensor, q: cutplan._typing.Tensor, k: cutplan._typing.Tensor, v: cutplan._typing.Tensor, o: cutplan._typing.Tensor, lse: cutplan._typing.Tensor, dq: cutplan._typing.Tensor, dk: cutplan._typing.Tensor, dv: cutplan._typing.Tensor, *, bias: cutplan._typing.Tensor | None = None, mask: cutplan._typing.Tensor | None = None, alibi_slopes: cutplan._typing.Tensor | None = None, sink: cutplan._typing.Tensor | None = None, seqused_k: cutplan._typing.Tensor | None = None, cu_seqlens_q: cutplan._typing.Tensor | None = None, cu_seqlens_k: cutplan._typing.Tensor | None = None, rng_state: cutplan._typing.Tensor | None = None, dbias: cutplan._typing.Tensor | None = None, dalibi_slopes: cutplan._typing.Tensor | None = None, dsink: cutplan._typing.Tensor | None = None, scale: float | None = None, dropout_p: float | None = 0.0, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        Gradients of q, k and v into `dq`, `dk` and `dv`, given `grad`, the gradient of o.

        The operands are the forward's, with the o and lse that it wrote, and the same scale, dropout_p and rng_state.
        grad has o's shape and the operands' type; dq, dk and dv have the shapes of q, k and v. dbias has the bias's shape
        and type, and is summed where the bias is broadcast; dalibi_slopes and dsink have the shapes of alibi_slopes and sink,
        and one of their types. Stream, workspace and errors are FmhaPlan.run's. PlanPreference(deterministic=True) gives
        gradients whose bits repeat.
        """

    def can_implement(self, grad: cutplan._typing.Tensor, q: cutplan._typing.Tensor, k: cutplan._typing.Tensor, v: cutplan._typing.Tensor, o: cutplan._typing.Tensor, lse: cutplan._typing.Tensor, dq: cutplan._typing.Tensor, dk: cutplan._typing.Tensor, dv: cutplan._typing.Tensor, *, bias: cutplan._typing.Tensor | None = None, mask: cutplan._typing.Tensor | None = None, alibi_slopes: cutplan._typing.Tensor | None = None, sink: cutplan._typing.Tensor | None = None, seqused_k: cutplan._typing.Tensor | None = None, cu_seqlens_q: cutplan._typing.Tensor | None = None, cu_seqlens_k: cutplan._typing.Tensor | None = None, rng_state: cutplan._typing.Tensor | None = None, dbias: cutplan._typing.Tensor | None = None, dalibi_slopes: cutplan._typing.Tensor | None = None, dsink: cutplan._typing.Tensor | None = None, scale: float | None = None, dropout_p: float | None = 0.0) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, grad: cutplan._typing.Tensor, q: cutplan._typing.Tensor, k: cutplan._typing.Tensor, v: cutplan._typing.Tensor, o: cutplan._typing.Tensor, lse: cutplan._typing.Tensor, dq: cutplan._typing.Tensor, dk: cutplan._typing.Tensor, dv: cutplan._typing.Tensor, *, bias: cutplan._typing.Tensor | None = None, mask: cutplan._typing.Tensor | None = None, alibi_slopes: cutplan._typing.Tensor | None = None, sink: cutplan._typing.Tensor | None = None, seqused_k: cutplan._typing.Tensor | None = None, cu_seqlens_q: cutplan._typing.Tensor | None = None, cu_seqlens_k: cutplan._typing.Tensor | None = None, rng_state: cutplan._typing.Tensor | None = None, dbias: cutplan._typing.Tensor | None = None, dalibi_slopes: cutplan._typing.Tensor | None = None, dsink: cutplan._typing.Tensor | None = None, scale: float | None = None, dropout_p: float | None = 0.0, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> FmhaBackwardDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def call_fmha_backward(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class RopeScaling:
    """
    How frequencies of rotary embedding are stretched for longer sequences.
    """

    def __init__(self, kind: cutplan._typing.RopeScalingLike, *, factor: float | None = 1.0, original_max_position: int | None = 0, beta_fast: float | None = 32.0, beta_slow: float | None = 1.0, attention_factor: float | None = 0.0, low_freq_factor: float | None = 1.0, high_freq_factor: float | None = 4.0) -> None:
        """`kind`: 'none', 'linear', 'ntk', 'yarn' (Peng et al. 2024), 'llama3'."""

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def kind(self) -> Literal['none', 'linear', 'ntk', 'yarn', 'llama3']: ...

    @property
    def factor(self) -> float:
        """Of the length."""

    @property
    def original_max_position(self) -> int:
        """yarn, llama3: the length of training."""

    @property
    def beta_fast(self) -> float:
        """yarn."""

    @property
    def beta_slow(self) -> float:
        """yarn."""

    @property
    def attention_factor(self) -> float:
        """yarn: of cos and sin; 0: 0.1 ln(factor) + 1."""

    @property
    def low_freq_factor(self) -> float:
        """llama3."""

    @property
    def high_freq_factor(self) -> float:
        """llama3."""

class RopeDescriptor:
    """
    Rotary position embedding: pairs of elements of a row at position t are turned by t base^(-2i / rotary_dim).
    """

    def __init__(self, *, batch: int | None = 1, heads: int, heads_k: int | None = 0, seq: int, dim: int, rotary_dim: int | None = 0, dtype: cutplan._typing.DTypeLike, layout: cutplan._typing.FmhaLayoutLike | None = 'bhsd', varlen: bool | None = False, interleaved: bool | None = False, table_rows: int | None = 0, base: float | None = 10000.0, scaling: RopeScaling | None = None, positions: cutplan._typing.DTypeLike | None = None, batch_positions: bool | None = False, offsets: cutplan._typing.DTypeLike | None = None) -> None:
        """
        With varlen, seq counts the rows of all sequences together. `table_rows`: angles are read from tables of cosines and sines.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def batch(self) -> int:
        """Sequences."""

    @property
    def heads(self) -> int: ...

    @property
    def heads_k(self) -> int:
        """Of k; 0: there is none."""

    @property
    def seq(self) -> int: ...

    @property
    def dim(self) -> int:
        """Of a head."""

    @property
    def rotary_dim(self) -> int:
        """0: dim."""

    @property
    def dtype(self) -> DType: ...

    @property
    def layout(self) -> FmhaLayout: ...

    @property
    def varlen(self) -> bool:
        """Sequences lie one after the other."""

    @property
    def interleaved(self) -> bool:
        """Pairs (2i, 2i + 1), and not (i, i + rotary_dim / 2)."""

    @property
    def table_rows(self) -> int:
        """Of cos and sin; 0: angles by base."""

    @property
    def base(self) -> float: ...

    @property
    def scaling(self) -> RopeScaling: ...

    @property
    def positions(self) -> DType | None:
        """Their type; None: rows' own numbers."""

    @property
    def batch_positions(self) -> bool:
        """[B, S], and not [S]."""

    @property
    def offsets(self) -> DType | None:
        """Their type; None: 0."""

class RopeBackwardDescriptor:
    """The gradient of rotary embedding: it turns back."""

    def __init__(self, forward: RopeDescriptor) -> None: ...

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def forward(self) -> RopeDescriptor: ...

class MergeStatesDescriptor:
    """
    `parts` results of attention over disjoint keys become one: lse = log(sum_p exp(lse_p)), o = sum_p exp(lse_p - lse) o_p.
    """

    def __init__(self, *, parts: int | None = 2, batch: int | None = 1, heads: int, rows: int, dim: int, dtype: cutplan._typing.DTypeLike, o: cutplan._typing.DTypeLike | None = None, layout: cutplan._typing.FmhaLayoutLike | None = 'bhsd', varlen: bool | None = False, apart: bool | None = False, lse: bool | None = True) -> None:
        """
        `rows` are queries, with varlen those of all sequences together; `o` is the type of the result, dtype or float32.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def parts(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def rows(self) -> int:
        """Queries."""

    @property
    def dim(self) -> int:
        """Head dimension of O."""

    @property
    def dtype(self) -> DType:
        """Of the parts."""

    @property
    def o(self) -> DType:
        """Of the result."""

    @property
    def layout(self) -> FmhaLayout: ...

    @property
    def varlen(self) -> bool:
        """Sequences lie one after the other."""

    @property
    def apart(self) -> bool:
        """Two parts, each in tensors of its own."""

    @property
    def lse(self) -> bool:
        """Whether run() writes LSE."""

class AlibiDescriptor:
    """
    Scores in memory: y = scores + slope_h distance(i, j), ALiBi's linear biases.
    """

    def __init__(self, *, batch: int | None = 1, heads: int, seq_q: int, seq_k: int, dtype: cutplan._typing.DTypeLike, distance: cutplan._typing.DistanceLike | None = 'signed', align: cutplan._typing.AlignLike | None = 'top_left') -> None:
        """
        distance 'signed': j - (i + off); 'absolute', as attention's own: -|i + off - j|. off is 0 for align 'top_left',
        seq_k - seq_q for 'bottom_right'.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def batch(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def seq_q(self) -> int: ...

    @property
    def seq_k(self) -> int: ...

    @property
    def dtype(self) -> DType: ...

    @property
    def distance(self) -> Literal['signed', 'absolute']: ...

    @property
    def align(self) -> Align: ...

class AlibiBackwardDescriptor:
    """The gradients of ALiBi on scores in memory."""

    def __init__(self, forward: AlibiDescriptor, *, dscores: bool | None = True, dslopes: bool | None = True) -> None:
        """
        `dscores` and `dslopes` are the gradients that run() writes; one at least.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def forward(self) -> AlibiDescriptor: ...

    @property
    def dscores(self) -> bool: ...

    @property
    def dslopes(self) -> bool: ...

def attention_ops_registry() -> list[KernelSku]:
    """Every kernel of the ops around attention in this build."""

class MergeStatesPlan:
    """
    A kernel that merges partial results of attention, chosen for one descriptor and device.
    """

    @staticmethod
    def select(descriptor: MergeStatesDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> MergeStatesPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, o: cutplan._typing.Tensor, lse: cutplan._typing.Tensor, out: cutplan._typing.Tensor, *, o2: cutplan._typing.Tensor | None = None, lse2: cutplan._typing.Tensor | None = None, out_lse: cutplan._typing.Tensor | None = None, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        Shapes, with layout bhsd: o [P, B, H, S, D] and lse float32 [P, B, H, S]; or two parts apart, o and o2 [B, H, S, D], lse
        and lse2 [B, H, S]; out [B, H, S, D], out_lse [B, H, S]. With varlen there is no B; with layout bshd heads and rows
        change places in all but the lse's. Of parts apart, out may be o or o2 itself.

        A part whose lse is -inf has no weight, whatever its o holds; a row of such parts alone has o 0 and lse -inf.
        """

    def can_implement(self, o: cutplan._typing.Tensor, lse: cutplan._typing.Tensor, out: cutplan._typing.Tensor, *, o2: cutplan._typing.Tensor | None = None, lse2: cutplan._typing.Tensor | None = None, out_lse: cutplan._typing.Tensor | None = None) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, o: cutplan._typing.Tensor, lse: cutplan._typing.Tensor, out: cutplan._typing.Tensor, *, o2: cutplan._typing.Tensor | None = None, lse2: cutplan._typing.Tensor | None = None, out_lse: cutplan._typing.Tensor | None = None, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> MergeStatesDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def merge_states_kernels(descriptor: MergeStatesDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def measure_merge_states(descriptor: MergeStatesDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

def tune_merge_states(descriptor: MergeStatesDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

def tuned_merge_states(descriptor: MergeStatesDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_merge_states(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class AlibiPlan:
    """
    A kernel that adds ALiBi's biases to scores, chosen for one descriptor and device.
    """

    @staticmethod
    def select(descriptor: AlibiDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> AlibiPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, scores: cutplan._typing.Tensor, slopes: cutplan._typing.Tensor, out: cutplan._typing.Tensor, *, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        out = scores + slope_h distance(i, j): scores and out [B, H, Q, K], any strides, out may be scores
        itself; slopes [H], float32, or float64 with float64 scores.
        """

    def can_implement(self, scores: cutplan._typing.Tensor, slopes: cutplan._typing.Tensor, out: cutplan._typing.Tensor) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, scores: cutplan._typing.Tensor, slopes: cutplan._typing.Tensor, out: cutplan._typing.Tensor, launches: int, *, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> AlibiDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def alibi_kernels(descriptor: AlibiDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def measure_alibi(descriptor: AlibiDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

def tune_alibi(descriptor: AlibiDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

def tuned_alibi(descriptor: AlibiDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_alibi(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class AlibiBackwardPlan:
    """
    A kernel for the gradients of ALiBi on scores, chosen for one descriptor and device.
    """

    @staticmethod
    def select(descriptor: AlibiBackwardDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> AlibiBackwardPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, grad: cutplan._typing.Tensor, *, dscores: cutplan._typing.Tensor | None = None, dslopes: cutplan._typing.Tensor | None = None, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        dscores, of the shape of grad, is a copy of it, and costs nothing where it is grad itself; dslopes [H] = sum grad
        distance(i, j), float32, or float64 with float64 scores. The same inputs give the same bits.
        """

    def can_implement(self, grad: cutplan._typing.Tensor, *, dscores: cutplan._typing.Tensor | None = None, dslopes: cutplan._typing.Tensor | None = None) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, grad: cutplan._typing.Tensor, *, dscores: cutplan._typing.Tensor | None = None, dslopes: cutplan._typing.Tensor | None = None, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> AlibiBackwardDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def alibi_backward_kernels(descriptor: AlibiBackwardDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def measure_alibi_backward(descriptor: AlibiBackwardDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

def tune_alibi_backward(descriptor: AlibiBackwardDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

def tuned_alibi_backward(descriptor: AlibiBackwardDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_alibi_backward(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class KvCacheAppendDescriptor:
    """
    New rows of K and V go into caches, at offsets that lie in device memory.
    """

    def __init__(self, *, batch: int | None = 1, heads: int, seq: int, dim: int, dim_v: int | None = 0, dtype: cutplan._typing.DTypeLike, cache: cutplan._typing.DTypeLike | None = None, layout: cutplan._typing.FmhaLayoutLike | None = 'bhsd', varlen: bool | None = False, sequences: int | None = 0, capacity: int | None = 0, pages: int | None = 0, page_size: int | None = 0, max_pages: int | None = 0, page_layout: cutplan._typing.PageLayoutLike | None = 'nhd', offsets: cutplan._typing.DTypeLike | None = 'int32', cache_batch_idx: bool | None = False, lengths_out: bool | None = False, rejected: bool | None = False, table_rows: int | None = 0, rotary_dim: int | None = 0, interleaved: bool | None = False, heads_q: int | None = 0, scales_by_head: bool | None = False) -> None:
        """
        With varlen, seq counts the rows of all sequences together. A cache is one tensor of `sequences` of `capacity` rows, or
        `pages` of `page_size` rows. `cache`: dtype, float8_e4m3fn, float8_e5m2 or int8, with scales.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def batch(self) -> int:
        """Sequences."""

    @property
    def heads(self) -> int: ...

    @property
    def seq(self) -> int:
        """New rows."""

    @property
    def dim(self) -> int:
        """Of K."""

    @property
    def dim_v(self) -> int:
        """Of V; 0: dim."""

    @property
    def dtype(self) -> DType: ...

    @property
    def cache(self) -> DType:
        """Of the caches."""

    @property
    def layout(self) -> FmhaLayout: ...

    @property
    def varlen(self) -> bool:
        """Sequences lie one after the other."""

    @property
    def sequences(self) -> int:
        """Of a cache without pages; 0: batch."""

    @property
    def capacity(self) -> int:
        """Rows of a sequence in a cache without pages."""

    @property
    def pages(self) -> int: ...

    @property
    def page_size(self) -> int: ...

    @property
    def max_pages(self) -> int:
        """Of a sequence; 0: the cache has no pages."""

    @property
    def page_layout(self) -> Literal['nhd', 'hnd']: ...

    @property
    def offsets(self) -> DType | None: ...

    @property
    def cache_batch_idx(self) -> bool: ...

    @property
    def lengths_out(self) -> bool: ...

    @property
    def rejected(self) -> bool: ...

    @property
    def table_rows(self) -> int:
        """Of cos and sin; 0: nothing is turned."""

    @property
    def rotary_dim(self) -> int:
        """0: dim."""

    @property
    def interleaved(self) -> bool: ...

    @property
    def heads_q(self) -> int:
        """0: without Q."""

    @property
    def scales_by_head(self) -> bool: ...

class KvCacheAppendPlan:
    """
    A kernel that appends to caches of keys and values, chosen for one descriptor and device.
    """

    @staticmethod
    def select(descriptor: KvCacheAppendDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> KvCacheAppendPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, k: cutplan._typing.Tensor, v: cutplan._typing.Tensor, k_cache: cutplan._typing.Tensor, v_cache: cutplan._typing.Tensor, offsets: cutplan._typing.Tensor, *, block_table: cutplan._typing.Tensor | None = None, cu_seqlens: cutplan._typing.Tensor | None = None, cache_batch_idx: cutplan._typing.Tensor | None = None, cos: cutplan._typing.Tensor | None = None, sin: cutplan._typing.Tensor | None = None, q: cutplan._typing.Tensor | None = None, q_out: cutplan._typing.Tensor | None = None, k_scale: cutplan._typing.Tensor | None = None, v_scale: cutplan._typing.Tensor | None = None, lengths_out: cutplan._typing.Tensor | None = None, rejected: cutplan._typing.Tensor | None = None, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        Row i of sequence b of k [B, H, L, D] and v [B, H, L, Dv] goes to row offsets[b] + i of its cache. Caches [Bc, H, Smax, D],
        with layout bshd heads and rows change places, cache_batch_idx int32 [B] says which sequence of the cache is meant; or
        pages, nhd [pages, page_size, H, D] or hnd [pages, H, page_size, D], with block_table int32 [B, max_pages]. With varlen k
        and v have no B, and cu_seqlens is int32 [B + 1]. cos, sin float32 [positions, rotary_dim / 2] turn k, and q into q_out, at
        the rows' new places. k_scale, v_scale float32 [1] or [H], of quantised caches: x / scale, to nearest even, saturated.
        lengths_out [B] gets offsets + L.

        A row that does not fit is not written and adds one to rejected, int32 [1]; on the host, without it, it is refused.
        """

    def can_implement(self, k: cutplan._typing.Tensor, v: cutplan._typing.Tensor, k_cache: cutplan._typing.Tensor, v_cache: cutplan._typing.Tensor, offsets: cutplan._typing.Tensor, *, block_table: cutplan._typing.Tensor | None = None, cu_seqlens: cutplan._typing.Tensor | None = None, cache_batch_idx: cutplan._typing.Tensor | None = None, cos: cutplan._typing.Tensor | None = None, sin: cutplan._typing.Tensor | None = None, q: cutplan._typing.Tensor | None = None, q_out: cutplan._typing.Tensor | None = None, k_scale: cutplan._typing.Tensor | None = None, v_scale: cutplan._typing.Tensor | None = None, lengths_out: cutplan._typing.Tensor | None = None, rejected: cutplan._typing.Tensor | None = None) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, k: cutplan._typing.Tensor, v: cutplan._typing.Tensor, k_cache: cutplan._typing.Tensor, v_cache: cutplan._typing.Tensor, offsets: cutplan._typing.Tensor, *, block_table: cutplan._typing.Tensor | None = None, cu_seqlens: cutplan._typing.Tensor | None = None, cache_batch_idx: cutplan._typing.Tensor | None = None, cos: cutplan._typing.Tensor | None = None, sin: cutplan._typing.Tensor | None = None, q: cutplan._typing.Tensor | None = None, q_out: cutplan._typing.Tensor | None = None, k_scale: cutplan._typing.Tensor | None = None, v_scale: cutplan._typing.Tensor | None = None, lengths_out: cutplan._typing.Tensor | None = None, rejected: cutplan._typing.Tensor | None = None, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> KvCacheAppendDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def kv_cache_append_kernels(descriptor: KvCacheAppendDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def measure_kv_cache_append(descriptor: KvCacheAppendDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

def tune_kv_cache_append(descriptor: KvCacheAppendDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

def tuned_kv_cache_append(descriptor: KvCacheAppendDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_kv_cache_append(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class RopePlan:
    """A kernel for rotary embedding, chosen for one descriptor and device."""

    @staticmethod
    def select(descriptor: RopeDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> RopePlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, x: cutplan._typing.Tensor, k: cutplan._typing.Tensor, out: cutplan._typing.Tensor, k_out: cutplan._typing.Tensor, *, cos: cutplan._typing.Tensor | None = None, sin: cutplan._typing.Tensor | None = None, positions: cutplan._typing.Tensor | None = None, offsets: cutplan._typing.Tensor | None = None, cu_seqlens: cutplan._typing.Tensor | None = None, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        x, out [B, H, S, D] and, turned in the same launch, k, k_out [B, Hk, S, D]; with layout bshd heads and rows change places;
        with varlen there is no B, and cu_seqlens is int32 [B + 1] where there are no positions. cos, sin float32 [P, rotary_dim /
        2]; positions [S] or [B, S], packed [T]; offsets [B], added to rows' numbers. out may be x itself, k_out k.

        A position that the tables have no row for is refused on the host, and makes NaN on a device.
        """

    def can_implement(self, x: cutplan._typing.Tensor, k: cutplan._typing.Tensor, out: cutplan._typing.Tensor, k_out: cutplan._typing.Tensor, *, cos: cutplan._typing.Tensor | None = None, sin: cutplan._typing.Tensor | None = None, positions: cutplan._typing.Tensor | None = None, offsets: cutplan._typing.Tensor | None = None, cu_seqlens: cutplan._typing.Tensor | None = None) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, x: cutplan._typing.Tensor, k: cutplan._typing.Tensor, out: cutplan._typing.Tensor, k_out: cutplan._typing.Tensor, *, cos: cutplan._typing.Tensor | None = None, sin: cutplan._typing.Tensor | None = None, positions: cutplan._typing.Tensor | None = None, offsets: cutplan._typing.Tensor | None = None, cu_seqlens: cutplan._typing.Tensor | None = None, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> RopeDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def rope_kernels(descriptor: RopeDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def measure_rope(descriptor: RopeDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

def tune_rope(descriptor: RopeDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

def tuned_rope(descriptor: RopeDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_rope(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class RopeBackwardPlan:
    """
    A kernel for the gradient of rotary embedding, chosen for one descriptor and device.
    """

    @staticmethod
    def select(descriptor: RopeBackwardDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> RopeBackwardPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, grad: cutplan._typing.Tensor, grad_k: cutplan._typing.Tensor, dx: cutplan._typing.Tensor, dk: cutplan._typing.Tensor, *, cos: cutplan._typing.Tensor | None = None, sin: cutplan._typing.Tensor | None = None, positions: cutplan._typing.Tensor | None = None, offsets: cutplan._typing.Tensor | None = None, cu_seqlens: cutplan._typing.Tensor | None = None, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        Gradients of x and k into dx and dk, given those of out and k_out: RopePlan.run's operands else.
        """

    def can_implement(self, grad: cutplan._typing.Tensor, grad_k: cutplan._typing.Tensor, dx: cutplan._typing.Tensor, dk: cutplan._typing.Tensor, *, cos: cutplan._typing.Tensor | None = None, sin: cutplan._typing.Tensor | None = None, positions: cutplan._typing.Tensor | None = None, offsets: cutplan._typing.Tensor | None = None, cu_seqlens: cutplan._typing.Tensor | None = None) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, grad: cutplan._typing.Tensor, grad_k: cutplan._typing.Tensor, dx: cutplan._typing.Tensor, dk: cutplan._typing.Tensor, *, cos: cutplan._typing.Tensor | None = None, sin: cutplan._typing.Tensor | None = None, positions: cutplan._typing.Tensor | None = None, offsets: cutplan._typing.Tensor | None = None, cu_seqlens: cutplan._typing.Tensor | None = None, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> RopeBackwardDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def rope_backward_kernels(descriptor: RopeBackwardDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def measure_rope_backward(descriptor: RopeBackwardDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

def tune_rope_backward(descriptor: RopeBackwardDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

def tuned_rope_backward(descriptor: RopeBackwardDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_rope_backward(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class QuantizeDescriptor:
    """
    Elements narrowed to int8, int4, float8_e4m3fn or float8_e5m2, and their scales.
    """

    def __init__(self, *, batch: int | None = 1, rows: int, columns: int, x: cutplan._typing.DTypeLike, dtype: cutplan._typing.DTypeLike, granularity: cutplan._typing.GranularityLike | None = 'tensor', group_size: int | None = 0, axis: int | None = -1, symmetric: bool | None = True, static_scale: bool | None = False, amax: bool | None = False) -> None:
        """
        granularity 'tensor', 'row', 'column', 'group' (of group_size elements along axis) or 'block' (of group_size x
        group_size): which elements share a scale. symmetric: scale = amax / 127, 7, 448 or 57344; else, of int8 and int4,
        scale = range / 255 or 15 and zero, with x ~= (data - zero) scale.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def batch(self) -> int: ...

    @property
    def rows(self) -> int: ...

    @property
    def columns(self) -> int: ...

    @property
    def x(self) -> DType:
        """Of x."""

    @property
    def dtype(self) -> DType:
        """Of data."""

    @property
    def granularity(self) -> Literal['tensor', 'row', 'column', 'group', 'block']: ...

    @property
    def group_size(self) -> int:
        """Of blocks 0 is 128."""

    @property
    def axis(self) -> int:
        """Of groups: -1, along rows, or -2, along columns."""

    @property
    def symmetric(self) -> bool:
        """Without a zero point."""

    @property
    def static_scale(self) -> bool:
        """scale, and zero, are inputs."""

    @property
    def amax(self) -> bool:
        """Whether run() writes it."""

class DequantizeDescriptor:
    """Narrow elements times their scales."""

    def __init__(self, *, batch: int | None = 1, rows: int, columns: int, dtype: cutplan._typing.DTypeLike, out: cutplan._typing.DTypeLike, granularity: cutplan._typing.GranularityLike | None = 'tensor', group_size: int | None = 0, axis: int | None = -1, symmetric: bool | None = True) -> None:
        """
        As QuantizeDescriptor; `dtype` is the type of data, `out` that of the result.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def batch(self) -> int: ...

    @property
    def rows(self) -> int: ...

    @property
    def columns(self) -> int:
        """Of out."""

    @property
    def dtype(self) -> DType:
        """Of data."""

    @property
    def out(self) -> DType:
        """Of out."""

    @property
    def granularity(self) -> Literal['tensor', 'row', 'column', 'group', 'block']: ...

    @property
    def group_size(self) -> int:
        """Of blocks 0 is 128."""

    @property
    def axis(self) -> int:
        """Of groups: -1, along rows, or -2, along columns."""

    @property
    def symmetric(self) -> bool:
        """Without a zero point."""

def quantize_registry() -> list[KernelSku]:
    """Every kernel of quantisation in this build."""

class QuantizePlan:
    """A kernel that quantises, chosen for one descriptor and device."""

    @staticmethod
    def select(descriptor: QuantizeDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> QuantizePlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, x: cutplan._typing.Tensor, data: cutplan._typing.Tensor, scale: cutplan._typing.Tensor, *, zero: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        x [B, M, N]; data [B, M, N], of int4 uint8 [B, M, N / 2], the first of two in the low half. scale float32, zero int32 and
        amax float32: [1], [B, M], [B, N], for groups [B, M, ceil(N / g)] or [B, ceil(M / g), N], for blocks [B, ceil(M / g),
        ceil(N / g)]. A batch of one may be left out of all. scale and zero are written, with static_scale they are read.
        """

    def can_implement(self, x: cutplan._typing.Tensor, data: cutplan._typing.Tensor, scale: cutplan._typing.Tensor, *, zero: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, x: cutplan._typing.Tensor, data: cutplan._typing.Tensor, scale: cutplan._typing.Tensor, *, zero: cutplan._typing.Tensor | None = None, amax: cutplan._typing.Tensor | None = None, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> QuantizeDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def quantize_kernels(descriptor: QuantizeDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def measure_quantize(descriptor: QuantizeDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

def tune_quantize(descriptor: QuantizeDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

def tuned_quantize(descriptor: QuantizeDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_quantize(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class DequantizePlan:
    """
    A kernel that undoes quantisation, chosen for one descriptor and device.
    """

    @staticmethod
    def select(descriptor: DequantizeDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> DequantizePlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, data: cutplan._typing.Tensor, scale: cutplan._typing.Tensor, out: cutplan._typing.Tensor, *, zero: cutplan._typing.Tensor | None = None, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """out = (data - zero) scale, of the shapes that QuantizePlan.run has."""

    def can_implement(self, data: cutplan._typing.Tensor, scale: cutplan._typing.Tensor, out: cutplan._typing.Tensor, *, zero: cutplan._typing.Tensor | None = None) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, data: cutplan._typing.Tensor, scale: cutplan._typing.Tensor, out: cutplan._typing.Tensor, *, zero: cutplan._typing.Tensor | None = None, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> DequantizeDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def dequantize_kernels(descriptor: DequantizeDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def measure_dequantize(descriptor: DequantizeDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

def tune_dequantize(descriptor: DequantizeDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

def tuned_dequantize(descriptor: DequantizeDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_dequantize(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class PackWeightsDescriptor:
    """Codes of a weight B [k, n] put into the layout that kernels read."""

    def __init__(self, *, n: int, k: int, format: cutplan._typing.WeightFormatLike, group_size: int | None = 128, w: cutplan._typing.DTypeLike, scale: cutplan._typing.DTypeLike, zero: cutplan._typing.DTypeLike | None = None, packed_along: cutplan._typing.PackedAlongLike | None = 'none', order: cutplan._typing.CodeOrderLike | None = 'linear', signed_codes: bool | None = False, zero_packed: bool | None = False, zero_bias: int | None = 0, permutation: bool | None = False) -> None:
        """
        value(k, n) = (decode(u) - zero(g, n)) * scale(g, n), g = k / group_size. packed_along, order and signed_codes say how
        w holds the codes u, zero_packed and zero_bias how zero holds integers.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def n(self) -> int: ...

    @property
    def k(self) -> int: ...

    @property
    def format(self) -> Literal['int4', 'uint4', 'int8', 'e4m3', 'nf4', 'e2m1']: ...

    @property
    def group_size(self) -> int:
        """32, 64, 128; 0, or k and more: a whole column."""

    @property
    def w(self) -> DType:
        """Of w."""

    @property
    def scale(self) -> DType:
        """Of scale."""

    @property
    def zero(self) -> DType | None:
        """Of zero; None: there is none."""

    @property
    def packed_along(self) -> Literal['none', 'k', 'n']:
        """Along which extent an element of w holds adjacent codes."""

    @property
    def order(self) -> Literal['linear', 'awq', 'high_first']:
        """Of codes in an element."""

    @property
    def signed_codes(self) -> bool:
        """w has two's complement."""

    @property
    def zero_packed(self) -> bool:
        """Elements of zero hold as many codes as fit, along n."""

    @property
    def zero_bias(self) -> int:
        """Added to integers of zero."""

    @property
    def permutation(self) -> bool:
        """Whether rows have an order of their own."""

class UnpackWeightsDescriptor:
    """Packed weights as floats."""

    def __init__(self, *, n: int, k: int, format: cutplan._typing.WeightFormatLike, group_size: int | None = 128, scale: cutplan._typing.DTypeLike, zero: bool | None = False, permutation: bool | None = False, out: cutplan._typing.DTypeLike) -> None:
        """
        The fields are those of a packed tensor's header; `out` is the type of the result.
        """

    def __getstate__(self) -> dict[str, object]: ...

    def __setstate__(self, state: dict[str, object], /) -> None: ...

    def __repr__(self) -> str: ...

    @property
    def n(self) -> int: ...

    @property
    def k(self) -> int: ...

    @property
    def format(self) -> Literal['int4', 'uint4', 'int8', 'e4m3', 'nf4', 'e2m1']: ...

    @property
    def group_size(self) -> int:
        """32, 64, 128; 0, or k and more: a whole column."""

    @property
    def scale(self) -> DType:
        """Of packed scales and zeros."""

    @property
    def zero(self) -> bool:
        """Whether there are zeros."""

    @property
    def permutation(self) -> bool:
        """Whether rows have an order of their own."""

    @property
    def out(self) -> DType:
        """Of out."""

def weights_registry() -> list[KernelSku]:
    """Every kernel of packed weights in this build."""

def packed_weights_size(descriptor: PackWeightsDescriptor) -> int:
    """
    Bytes of the packed tensor. Raises what PackWeightsPlan.select does of such a descriptor.
    """

def read_packed_weights(header: bytes, size: int) -> UnpackWeightsDescriptor:
    """
    What a packed tensor of `size` bytes says of itself in its first 256 bytes; `out` is float32.

    Raises InvalidProblem where they are not of packed weights or contradict each other, Unsupported for another version
    of the layout, ShapeMismatch where `size` is not their length.
    """

class PackWeightsPlan:
    """A kernel that packs weights, chosen for one descriptor and device."""

    @staticmethod
    def select(descriptor: PackWeightsDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> PackWeightsPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, w: cutplan._typing.Tensor, scale: cutplan._typing.Tensor, packed: cutplan._typing.Tensor, *, zero: cutplan._typing.Tensor | None = None, permutation: cutplan._typing.Tensor | None = None, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        w [k, n], of elements that hold several codes [k / codes, n] or [k, n / codes]; scale [groups, n]; zero the same, or
        [groups, n / codes]; permutation int32 [k]: row j of what is packed is row permutation[j] of w. All of any strides.
        packed, uint8 [packed_weights_size(descriptor)], is written.
        """

    def can_implement(self, w: cutplan._typing.Tensor, scale: cutplan._typing.Tensor, packed: cutplan._typing.Tensor, *, zero: cutplan._typing.Tensor | None = None, permutation: cutplan._typing.Tensor | None = None) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, w: cutplan._typing.Tensor, scale: cutplan._typing.Tensor, packed: cutplan._typing.Tensor, *, zero: cutplan._typing.Tensor | None = None, permutation: cutplan._typing.Tensor | None = None, launches: int, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> PackWeightsDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def pack_weights_kernels(descriptor: PackWeightsDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def measure_pack_weights(descriptor: PackWeightsDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

def tune_pack_weights(descriptor: PackWeightsDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

def tuned_pack_weights(descriptor: PackWeightsDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_pack_weights(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class UnpackWeightsPlan:
    """
    A kernel that makes floats of packed weights, chosen for one descriptor and device.
    """

    @staticmethod
    def select(descriptor: UnpackWeightsDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None) -> UnpackWeightsPlan:
        """
        Chooses a kernel for `descriptor` on `device` ("cpu", "cuda:0", a DLPack pair, or a tensor on it).

        Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.
        """

    def run(self, packed: cutplan._typing.Tensor, out: cutplan._typing.Tensor, *, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> None:
        """
        packed as PackWeightsPlan.run writes it; out [k, n] of any strides is written.
        """

    def can_implement(self, packed: cutplan._typing.Tensor, out: cutplan._typing.Tensor) -> None:
        """
        Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths and
        offsets in host memory, which run() reads, are not read where one of the operands is one.
        """

    def measure_launch(self, packed: cutplan._typing.Tensor, out: cutplan._typing.Tensor, launches: int, *, stream: cutplan._typing.StreamLike | None = None, workspace: cutplan._typing.Tensor | None = None) -> float:
        """
        Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the
        kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.
        """

    @property
    def workspace_size(self) -> int:
        """Bytes of scratch that run() needs, 256-byte aligned."""

    @property
    def sku(self) -> KernelSku:
        """The kernel that runs."""

    @property
    def precision_guarantee(self) -> PrecisionGuarantee:
        """How exact the results are."""

    @property
    def descriptor(self) -> UnpackWeightsDescriptor: ...

    @property
    def device(self) -> str:
        """"cpu" or "cuda:N"."""

    @property
    def preference(self) -> PlanPreference:
        """What it was selected with."""

    def __repr__(self) -> str: ...

    def __getstate__(self) -> tuple[object, ...]: ...

    def __setstate__(self, state: tuple[object, ...], /) -> None: ...

def unpack_weights_kernels(descriptor: UnpackWeightsDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> list[KernelSku]:
    """
    The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.
    """

def measure_unpack_weights(descriptor: UnpackWeightsDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, candidates: int = 0, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that
    many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is
    called as it goes. Allocates device memory, waits for the device, keeps nothing.

    Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too
    little memory.
    """

def tune_unpack_weights(descriptor: UnpackWeightsDescriptor, device: cutplan._typing.DeviceLike, preference: PlanPreference | None = None, *, progress: Callable[[int, int], object] | None = None) -> list[KernelMeasurement]:
    """
    Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the
    plan's select() to find, in this process and in others. Returns and raises what measuring does.
    """

def tuned_unpack_weights(descriptor: UnpackWeightsDescriptor, properties: DeviceProperties, preference: PlanPreference | None = None) -> TuningEntry | None:
    """
    The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;
    None: the cost model decides.
    """

def call_unpack_weights(*args: Any, **kwargs: Any) -> Any:
    """
    What the functions of the package run: describes the operands, finds the plan, makes the results that are not
    given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;
    None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who
    gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all
    of them: what outputs share memory with is refused before any.
    """

class TuningEntry:
    """The kernel that was fastest for one problem on one kind of device."""

    @property
    def device(self) -> str:
        """Name of the device."""

    @property
    def compute_capability(self) -> int: ...

    @property
    def problem(self) -> str:
        """Everything that the choice depends on, as text."""

    @property
    def kernel(self) -> str:
        """SKU name; a build that has no such kernel ignores the entry."""

    @property
    def seconds(self) -> float:
        """That the kernel took."""

    @property
    def model_seconds(self) -> float:
        """That the cost model's choice took."""

    @property
    def source(self) -> Literal['shipped', 'imported', 'measured']:
        """
        By growing precedence: 'shipped' with cutplan, 'imported', 'measured' on this machine.
        """

    def __repr__(self) -> str: ...

class KernelMeasurement:
    """How long one kernel takes for a problem."""

    @property
    def sku(self) -> KernelSku: ...

    @property
    def seconds(self) -> float:
        """Median."""

    @property
    def predicted_seconds(self) -> float | None:
        """By the cost model; None on the host, for which it predicts nothing."""

    def __repr__(self) -> str: ...

class TuningCache:
    """What is known of measured kernels, and where it is kept."""

    @property
    def folder(self) -> str | None:
        """
        None where neither CUTPLAN_CACHE_DIR, XDG_CACHE_HOME nor HOME names one.
        """

    @property
    def entries(self) -> list[TuningEntry]:
        """Those that count for this driver and this version of cutplan."""

    @property
    def problems(self) -> list[str]:
        """What could not be read or written, one sentence each."""

    def __repr__(self) -> str: ...

def tuning_cache() -> TuningCache:
    """Reads the files of measured kernels again, and tells what there is."""

def tuning_generation() -> int:
    """
    Grows whenever what is known of measured kernels may have changed in this process: select() may now choose
    another kernel. For caches of plans.
    """

def chosen_plans() -> int:
    """
    How many plans functions have chosen in this process: kept ones are not chosen again.
    """

def export_tuning() -> str:
    """What was measured and imported, as text for import_tuning()."""

def import_tuning(table: str) -> int:
    """
    Keeps the entries of an exported table, for every device of the name that they were measured on; returns their
    number. Raises InvalidProblem for text that is no whole table, OSError where it cannot be written.
    """

def clear_tuning() -> None:
    """
    Forgets what was measured and imported, for every driver and version, and deletes the files. Raises OSError where
    they cannot be deleted.
    """

def add_tuning(table: str) -> int:
    """
    Adds an exported table to this process alone, below what was measured or imported; returns the number of its
    entries. Raises InvalidProblem for text that is no whole table.
    """
