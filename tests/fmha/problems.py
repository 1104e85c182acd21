"""Random attention problems: operands amid poisoned memory, and outputs that show every stray write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pytest
import torch

import cutplan
from tests.environment import has_cuda, note_not_run
from tests.fmha import is_backward
from tests.fmha.oracle import Guarantee, Operands, Results, attention
from tests.gemm.problems import TORCH, generator, output_types, random_values, report, round_up
from tests.oracle import complaint

__all__ = ["TORCH", "generator", "output_types", "report"]

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
# (device, operand type) of every pair that some backend serves.
SERVED = [
    *(("cpu", operand) for operand in TORCH),
    *(pytest.param("cuda", operand, marks=pytest.mark.cuda) for operand in TORCH),
]

# NaNs of every format: what a kernel reads beyond an operand or leaves unwritten in an output shows up.
_POISON = {1: 0x5A, 2: 0x7FDA, 4: 0x7FDA5A5A, 8: 0x7FFA5A5A5A5A5A5A}
_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Case:
    """One problem: extents, options, and how the operands lie in memory."""

    seq_q: int = 0  # of every batch entry; not used where the sequences are packed
    seq_k: int = 0
    dim: int = 64
    dim_v: int | None = None  # None: dim
    batch: int = 2
    heads: int = 2
    heads_k: int | None = None  # None: heads
    dtype: str = "float16"
    o: str | None = None  # None: dtype
    grad: str | None = None  # of dq, dk and dv; None: dtype
    layout: str = "bhsd"
    packed: tuple[tuple[int, int], ...] | None = None  # (queries, keys) of each sequence
    seqused_k: tuple[int, ...] | None = None
    causal: str | None = None
    align: str | None = None
    window: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    alibi: str = ""  # the dimensions of the slopes: "h" or "bh"
    bias: str | None = None  # its dtype
    bias_dims: str = "bhqk"  # dimensions in which it is not broadcast
    mask: str | None = None  # dimensions in which the mask is not broadcast; None: no mask
    sink: bool = False
    narrow: bool = False  # slopes and sink, and their gradients, are of the operands' type, not float32
    dropout_p: float | None = None
    scale: float | None = None
    pad: int = 0  # elements between the end of a row and the next one, at least
    offset: int = 0  # steps of `alignment` by which operands start late
    alignment: int = 16  # bytes: of addresses and strides of q, k, v
    shared: frozenset[str] = frozenset()  # of "qh", "kb" and the like: operand and dimension of stride 0
    integers: bool = False

    def __str__(self) -> str:
        extra = [
            f"{f}={v!r}"[:300] for f, v in vars(self).items() if v != getattr(_PLAIN, f) and f[:4] != "seq_"
        ]
        extents = "x".join(map(str, (self.batch, self.heads, self.seq_q, self.seq_k)))
        return " ".join([extents, *extra])

    @property
    def value_dim(self) -> int:
        return self.dim if self.dim_v is None else self.dim_v

    @property
    def key_heads(self) -> int:
        return self.heads if self.heads_k is None else self.heads_k

    @property
    def side_type(self) -> str:
        """Of slopes and sink."""
        return self.dtype if self.narrow else "float32"

    @property
    def entries(self) -> int:
        """Batch entries, or sequences."""
        return self.batch if self.packed is None else len(self.packed)

    @property
    def total_q(self) -> int:
        return self.seq_q if self.packed is None else sum(q for q, _ in self.packed)

    @property
    def total_k(self) -> int:
        return self.seq_k if self.packed is None else sum(k for _, k in self.packed)


_PLAIN = Case()


class Memory:
    """A poisoned allocation with one strided view in the middle of it."""

    def __init__(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: str,
        *,
        pad: int = 0,
        offset: int = 0,
        align: int = 1,
        guard: int = 256,
    ) -> None:
        """The last dimension is contiguous; other strides take `pad` more and are multiples of `align`."""
        strides = [1] * len(shape)
        extent = 1
        for dim in range(len(shape) - 1, -1, -1):
            strides[dim] = 1 if dim == len(shape) - 1 else round_up(extent + pad, align)
            extent = strides[dim] * max(shape[dim], 1)
        self.poison = _POISON[dtype.itemsize]
        count = 2 * guard + offset + extent
        self.integers = torch.full((count,), self.poison, dtype=_INTEGER[dtype.itemsize], device=device)
        self._place = (tuple(shape), tuple(strides), guard + offset)
        self.view = self.integers.view(dtype).as_strided(*self._place)

    def reset(self) -> None:
        self.integers.fill_(self.poison)

    def stray_write(self) -> str | None:
        """Whether anything outside the view has changed."""
        rest = self.integers.clone()
        rest.as_strided(*self._place).fill_(self.poison)
        changed = rest != self.poison
        if not bool(changed.any()):
            return None
        away = int(changed.nonzero()[0]) - self._place[2]
        return f"{int(changed.sum())} elements outside overwritten, the first {away} from its start"

    def touched(self) -> bool:
        """Whether anything at all has changed."""
        return bool((self.integers != self.poison).any())


def starts(lengths: Iterable[int]) -> list[int]:
    """cu_seqlens of these lengths."""
    out = [0]
    for length in lengths:
        out.append(out[-1] + length)
    return out


class Problem:
    """The operands of one case. What lies beyond a sequence's used keys is NaN."""

    def __init__(self, case: Case, device: str, source: torch.Generator) -> None:
        self.case, self.device, self.source = case, device, source
        c = case
        dtype = TORCH[c.dtype]
        self.q = self._operand("q", c.heads, c.total_q, c.dim, dtype)
        self.k = self._operand("k", c.key_heads, c.total_k, c.dim, dtype)
        self.v = self._operand("v", c.key_heads, c.total_k, c.value_dim, dtype)
        self.grad = self._operand("g", c.heads, c.total_q, c.value_dim, dtype)
        self._extras()
        self.fill()

    # ---- operands

    def _shape(self, heads: int, rows: int, columns: int) -> tuple[int, ...]:
        shape = (heads, rows, columns) if self.case.layout == "bhsd" else (rows, heads, columns)
        return shape if self.case.packed is not None else (self.case.batch, *shape)

    def _operand(self, name: str, heads: int, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
        c = self.case
        shape = self._shape(heads, rows, columns)
        held = list(shape)
        if c.packed is None and f"{name}b" in c.shared:
            held[0] = min(held[0], 1)
        if f"{name}h" in c.shared:
            at = len(held) - (3 if c.layout == "bhsd" else 2)
            held[at] = min(held[at], 1)
        align = max(1, c.alignment // dtype.itemsize)
        made = Memory(held, dtype, self.device, pad=c.pad, offset=c.offset * align, align=align)
        return made.view.expand(shape)

    def output_memory(self, name: str, dtype: torch.dtype) -> Memory:
        c = self.case
        if name == "lse":
            shape: tuple[int, ...] = (
                (c.heads, c.total_q)
                if c.packed is not None
                else (
                    c.batch,
                    c.heads,
                    c.total_q,
                )
            )
        elif name in ("dbias", "dalibi_slopes", "dsink"):
            given = {"dbias": self.bias, "dalibi_slopes": self.alibi_slopes, "dsink": self.sink}[name]
            assert given is not None
            shape = tuple(given.shape)
        else:
            heads, rows, columns = {
                "o": (c.heads, c.total_q, c.value_dim),
                "dq": (c.heads, c.total_q, c.dim),
                "dk": (c.key_heads, c.total_k, c.dim),
                "dv": (c.key_heads, c.total_k, c.value_dim),
            }[name]
            shape = self._shape(heads, rows, columns)
            align = max(1, c.alignment // dtype.itemsize)
            return Memory(shape, dtype, self.device, pad=c.pad, offset=c.offset * align, align=align)
        return Memory(shape, dtype, self.device)

    def _extras(self) -> None:
        c = self.case
        self.bias = self.mask = self.alibi_slopes = self.sink = self.rng_state = None
        self.seqused_k = self.cu_seqlens_q = self.cu_seqlens_k = None
        extents = {"b": c.entries, "h": c.heads, "q": c.total_q, "k": c.total_k}
        if c.bias is not None:
            shape = [extents[d] if d in c.bias_dims else 1 for d in "bhqk"]
            self.bias = Memory(shape, TORCH[c.bias], self.device, pad=c.pad).view
        if c.mask is not None:
            shape = [extents[d] if d in c.mask else 1 for d in "bhqk"]
            self.mask = Memory(shape, torch.bool, self.device, pad=c.pad).view
        if c.alibi:
            self.alibi_slopes = torch.empty(
                [extents[d] for d in c.alibi], device=self.device, dtype=TORCH[c.side_type]
            )
        if c.sink:
            self.sink = torch.empty(c.heads, device=self.device, dtype=TORCH[c.side_type])
        if c.dropout_p is not None:
            self.rng_state = torch.empty(2, dtype=torch.int64, device=self.device)
        if c.seqused_k is not None:
            self.seqused_k = self._int32(c.seqused_k)
        if c.packed is not None:
            self.cu_seqlens_q = self._int32(starts(q for q, _ in c.packed))
            self.cu_seqlens_k = self._int32(starts(k for _, k in c.packed))

    def _int32(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self.device)

    def _values(self, view: torch.Tensor) -> None:
        """Normal values, scaled by powers of two along every dimension; one draw for what has stride 0."""
        held = tuple(
            1 if stride == 0 else extent for extent, stride in zip(view.shape, view.stride(), strict=True)
        )
        target = view.as_strided(held, view.stride())
        if self.case.integers:
            target.copy_(random_values(held, True, self.source))
            return
        values = torch.randn(held, generator=self.source, device=self.device, dtype=torch.float64)
        for dim in range(len(held)):
            lengths = [1] * len(held)
            lengths[dim] = held[dim]
            values *= 2.0 ** torch.randint(-1, 2, lengths, generator=self.source, device=self.device)
        target.copy_(values)

    def fill(self) -> None:
        """New values for every operand, in place."""
        c = self.case
        # Scores of a few units, so that many keys have weight; and score gradients that float16 can hold.
        for view in (self.q, self.k, self.v, self.grad):
            self._values(view)
        for entry, used in enumerate(c.seqused_k or ()):
            for x in (self.k, self.v):
                rows = self.canonical(x)
                if c.packed is not None:
                    first, length = starts(k for _, k in c.packed)[entry], c.packed[entry][1]
                    rows[:, first + used : first + length].fill_(torch.nan)
                elif "kb" not in c.shared and "vb" not in c.shared:
                    rows[entry, :, used:].fill_(torch.nan)
        if self.bias is not None:
            self._values(self.bias)
        if self.mask is not None:
            drawn = torch.rand(self.mask.shape, generator=self.source, device=self.device) < 0.75
            if self.mask.shape[2] > 1:  # some rows see nothing
                drawn &= (
                    torch.rand((*self.mask.shape[:3], 1), generator=self.source, device=self.device) < 0.95
                )
            self.mask.copy_(drawn)
        if self.alibi_slopes is not None:
            # so that the farthest key is at most 8 away
            steep = 8 / max(c.total_q + c.total_k, 1)
            drawn = torch.rand(self.alibi_slopes.shape, generator=self.source, device=self.device)
            self.alibi_slopes.copy_((drawn * 1.25 - 0.25) * steep)
        if self.sink is not None:
            self.sink.copy_(2 * torch.randn(c.heads, generator=self.source, device=self.device))
        if self.rng_state is not None:
            high = torch.iinfo(torch.int64).max
            self.rng_state.copy_(
                torch.randint(-high, high, (2,), generator=self.source, device=self.device, dtype=torch.int64)
            )
        self.__dict__.pop("expected", None)
        self.__dict__.pop("given", None)

    def canonical(self, x: torch.Tensor) -> torch.Tensor:
        """[.., H, S, D] whatever the layout."""
        return x if self.case.layout == "bhsd" else x.transpose(-3, -2)

    def in_layout(self, x: torch.Tensor) -> torch.Tensor:
        return self.canonical(x)  # a transposition is its own inverse

    # ---- the exact answer

    def operands(self) -> Operands:
        c = self.case
        state = None if self.rng_state is None else tuple(int(word) for word in self.rng_state.tolist())
        q, k, v, grad = (self.canonical(x) for x in (self.q, self.k, self.v, self.grad))
        return Operands(
            q,
            k,
            v,
            grad,
            bias=self.bias,
            mask=self.mask,
            alibi_slopes=self.alibi_slopes,
            sink=self.sink,
            seqused_k=None if self.seqused_k is None else self.seqused_k.tolist(),
            cu_seqlens_q=None if self.cu_seqlens_q is None else self.cu_seqlens_q.tolist(),
            cu_seqlens_k=None if self.cu_seqlens_k is None else self.cu_seqlens_k.tolist(),
            rng_state=state,
            scale=c.scale,
            causal=c.causal,
            align=c.align,
            window=c.window,
            softcap=c.softcap,
            dropout_p=c.dropout_p or 0.0,
        )

    @property
    def stored_o(self) -> torch.dtype:
        return TORCH[self.case.o or self.case.dtype]

    @cached_property
    def expected(self) -> Results:
        return attention(self.operands(), self.stored_o)

    def expected_after_forward(self) -> Results:
        """What the backward computes from an O that a kernel wrote."""
        return attention(self.operands(), self.stored_o, computed_o=True)

    @cached_property
    def given(self) -> tuple[torch.Tensor, torch.Tensor]:
        """O and LSE for the backward: the exact ones, rounded to their types."""
        o = self._operand(
            "o",
            self.case.heads,
            self.case.total_q,
            self.case.value_dim,
            TORCH[self.case.o or self.case.dtype],
        )
        o.copy_(self.in_layout(self.expected["o"].exact))
        return o, self.expected["lse"].exact.float()

    # ---- plans

    def descriptor(self, lse: bool = True) -> cutplan.FmhaDescriptor:
        c = self.case
        return cutplan.FmhaDescriptor(
            batch=c.entries,
            heads=c.heads,
            heads_k=c.key_heads,
            seq_q=c.total_q,
            seq_k=c.total_k,
            dim=c.dim,
            dim_v=c.value_dim,
            dtype=c.dtype,
            o=c.o,
            layout=c.layout,
            varlen=c.packed is not None,
            causal=c.causal,
            align=c.align,
            window=c.window,
            softcap=c.softcap,
            alibi=bool(c.alibi),
            bias=c.bias,
            mask=c.mask is not None,
            sink=c.sink,
            seqused_k=c.seqused_k is not None,
            dropout=c.dropout_p is not None,
            lse=lse,
        )

    def backward_descriptor(self, extra: bool = True) -> cutplan.FmhaBackwardDescriptor:
        """`extra`: with the gradients of bias, slopes and sink, where these are there."""
        c = self.case
        return cutplan.FmhaBackwardDescriptor(
            self.descriptor(),
            grad=c.grad,
            dbias=extra and c.bias is not None,
            dalibi_slopes=extra and bool(c.alibi),
            dsink=extra and c.sink,
        )

    def select(self, lse: bool = True, **preference: Any) -> cutplan.FmhaPlan:
        return cutplan.FmhaPlan.select(
            self.descriptor(lse), self.device, cutplan.PlanPreference(**preference)
        )

    def select_backward(self, extra: bool = True, **preference: Any) -> cutplan.FmhaBackwardPlan:
        descriptor = self.backward_descriptor(extra)
        return cutplan.FmhaBackwardPlan.select(descriptor, self.device, cutplan.PlanPreference(**preference))

    @property
    def options(self) -> dict[str, Any]:
        """The keywords that both passes take."""
        given = {
            "bias": self.bias,
            "mask": self.mask,
            "alibi_slopes": self.alibi_slopes,
            "sink": self.sink,
            "seqused_k": self.seqused_k,
            "cu_seqlens_q": self.cu_seqlens_q,
            "cu_seqlens_k": self.cu_seqlens_k,
            "rng_state": self.rng_state,
            "scale": self.case.scale,
        }
        options = {name: value for name, value in given.items() if value is not None}
        return options | ({"dropout_p": self.case.dropout_p} if self.case.dropout_p is not None else {})

    def outputs(self, plan: Any) -> dict[str, Memory]:
        """Poisoned memory for everything that the plan writes."""
        c = self.case
        d = plan.descriptor
        if isinstance(plan, cutplan.FmhaPlan):
            types = {"o": c.o or c.dtype, **({"lse": "float32"} if d.lse else {})}
        else:
            types = dict.fromkeys(("dq", "dk", "dv"), c.grad or c.dtype)
            types |= {"dbias": c.bias} if d.dbias else {}
            types |= {"dalibi_slopes": c.side_type} if d.dalibi_slopes else {}
            types |= {"dsink": c.side_type} if d.dsink else {}
        return {name: self.output_memory(name, TORCH[str(dtype)]) for name, dtype in types.items()}

    def enqueue(self, plan: Any, outputs: dict[str, Memory], **how: Any) -> None:
        if plan.workspace_size and "workspace" not in how:
            how["workspace"] = poisoned_workspace(plan, self.device)
        views = {name: memory.view for name, memory in outputs.items()}
        if isinstance(plan, cutplan.FmhaPlan):
            plan.run(self.q, self.k, self.v, views.pop("o"), **views, **self.options, **how)
        else:
            o, lse = how.pop("given", None) or self.given
            main = [views.pop(name) for name in ("dq", "dk", "dv")]
            plan.run(self.grad, self.q, self.k, self.v, o, lse, *main, **views, **self.options, **how)

    def run(self, plan: Any, **how: Any) -> dict[str, torch.Tensor]:
        """The outputs alone, unchecked."""
        outputs = self.outputs(plan)
        self.enqueue(plan, outputs, **how)
        return {name: memory.view for name, memory in outputs.items()}

    def complaint(self, plan: Any, **how: Any) -> str | None:
        """Runs the plan and says what is wrong; None: nothing is."""
        outputs = self.outputs(plan)
        self.enqueue(plan, outputs, **how)
        return self.judge(plan, outputs)

    def judge(self, plan: Any, outputs: dict[str, Memory], expected: Results | None = None) -> str | None:
        for name, memory in outputs.items():
            what = memory.stray_write()
            what = f"{name}: {what}" if what else self.wrong(plan, name, memory.view, expected)
            if what is not None:
                return f"{plan.sku.name} {self.case}: {what}"
        return None

    def wrong(
        self, plan: Any, name: str, computed: torch.Tensor, expected: Results | None = None
    ) -> str | None:
        """What is wrong with one output, held to the plan's own bound."""
        reference = (expected or self.expected)[name]
        guarantee: Any = plan.precision_guarantee
        if name in ("o", "dq", "dk", "dv"):
            computed = self.canonical(computed)
        else:
            guarantee = Guarantee.of(guarantee, computed.dtype)
        if name == "lse":
            empty = reference.exact == -torch.inf
            if not torch.equal(computed == -torch.inf, empty):
                return (
                    f"lse is -inf in {int((computed == -torch.inf).sum())} rows, required {int(empty.sum())}"
                )
            computed = computed.masked_fill(empty, 0.0)
            reference = replace(reference, exact=reference.exact.masked_fill(empty, 0.0))
        return complaint(computed, reference, guarantee, name)


def poisoned_workspace(plan: Any, device: str) -> torch.Tensor:
    """Exactly what the plan asks for, full of NaN."""
    workspace = torch.full((plan.workspace_size,), 0xFF, dtype=torch.uint8, device=device)
    assert workspace.data_ptr() % 256 == 0
    return workspace


def serves(sku: cutplan.KernelSku, problem: Problem | Case, device: str, **preference: Any) -> bool:
    """Whether the kernel can do it on the device here."""
    if isinstance(problem, Case):
        problem = described(problem)
    descriptor = problem.backward_descriptor() if is_backward(sku) else problem.descriptor()
    wanted = cutplan.PlanPreference(kernel=sku.name, math="tf32", **preference)
    return bool(cutplan.fmha_kernels(descriptor, cutplan.device_properties(device), wanted))


def described(case: Case) -> Problem:
    """A problem without operands: what descriptors are made from."""
    problem = Problem.__new__(Problem)
    problem.case = case
    return problem


def kernels() -> list[tuple[cutplan.KernelSku, str]]:
    """(SKU, device) of every kernel in the registry that a device here can run."""
    chosen = []
    for sku in cutplan.fmha_registry():
        device = "cpu" if str(sku.arch) == "host" else "cuda"
        if device == "cuda" and not has_cuda():
            note_not_run(f"{sku.arch} attention kernels (no GPU)")
        elif not any(
            serves(sku, Case(512, 512, dim, dtype=str(sku.a)), device) for dim in (32, 64, 128, 192, 256)
        ):
            note_not_run(
                f"{sku.arch} attention kernels that {cutplan.device_properties(device).name} cannot run"
            )
        else:
            chosen.append((sku, device))
    return chosen


def as_parameters(chosen: Iterable[tuple[cutplan.KernelSku, str]]) -> Callable[..., Any]:
    return pytest.mark.parametrize(
        "sku, device", [pytest.param(sku, device, id=sku.name) for sku, device in chosen]
    )


def select(problem: Problem, sku: cutplan.KernelSku, **preference: Any) -> Any:
    """The plan of a kernel by its name; `math` is as low as it goes, so that no kernel is refused for it."""
    how = {"math": "tf32", **preference, "kernel": sku.name}
    return problem.select_backward(**how) if is_backward(sku) else problem.select(**how)


def sweep(
    sku: cutplan.KernelSku,
    device: str,
    seed: int,
    cases: Iterable[Case],
    check: Callable[[Problem, Any], str | None] = Problem.complaint,
) -> None:
    source = generator(device, seed)
    failures = []
    for case in cases:
        problem = Problem(case, device, source)
        try:
            what = check(problem, select(problem, sku))
        except cutplan.Error as error:
            what = f"{sku.name} {case}: {type(error).__name__}: {error}"
        if what is not None:
            failures.append(what)
    report(failures)
