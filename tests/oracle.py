"""The exact answer, and how far from it a plan says that it may be.

The oracle is float64 arithmetic on exactly the operands that the kernel reads. Its own error is bounded like
any other sum's and is added to the plan's bound, which matters for float64 operands alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

# Units of 2^-53 for scalars, scales, beta * C, bias, residual and evaluating the activation in float64.
_ORACLE_EPILOGUE_ROUNDINGS = 24
_STEEPEST = 1.13  # slope of any activation


@dataclass(frozen=True)
class Product:
    """A B in float64, before the epilogue, with the sum of the products' magnitudes."""

    exact: torch.Tensor
    magnitude: torch.Tensor
    k: int

    @staticmethod
    def of(a: torch.Tensor, b: torch.Tensor) -> Product:
        wide_a, wide_b = a.double(), b.double()
        return Product(wide_a @ wide_b, wide_a.abs() @ wide_b.abs(), a.shape[-1])


@dataclass(frozen=True)
class Reference:
    """What an output is in exact arithmetic, up to `error`; the plan's error bound is relative to `magnitude`
    and, for attention, depends on the size of the scores."""

    exact: torch.Tensor
    magnitude: torch.Tensor
    error: torch.Tensor
    scores: torch.Tensor | None = None

    def columns(self, first: int, last: int) -> Reference:
        """Of a product: these columns."""
        return replace(
            self,
            exact=self.exact[..., first:last],
            magnitude=self.magnitude[..., first:last],
            error=self.error.expand_as(self.exact)[..., first:last],
        )

    def divided_by(self, scale: torch.Tensor) -> Reference:
        by = float(scale)
        return replace(
            self, exact=self.exact / by, magnitude=self.magnitude / abs(by), error=self.error / abs(by)
        )


def activate(name: str, x: torch.Tensor) -> torch.Tensor:
    if name == "relu":
        return torch.relu(x)
    if name == "gelu_erf":
        return 0.5 * x * torch.erfc(x * -(0.5**0.5))
    if name == "gelu_tanh":
        return torch.nn.functional.gelu(x, approximate="tanh")
    if name == "silu":
        return torch.nn.functional.silu(x)
    assert name == "none"
    return x


def derivative(name: str, x: torch.Tensor) -> torch.Tensor:
    """Of activate(name, x) by x."""
    if name == "relu":
        return (x > 0).to(x.dtype)
    if name == "gelu_erf":
        density = torch.exp(-0.5 * x * x) / (2 * torch.pi) ** 0.5
        return 0.5 * torch.erfc(x * -(0.5**0.5)) + x * density
    if name == "gelu_tanh":
        slope = (2 / torch.pi) ** 0.5
        t = torch.tanh(slope * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope * (1 + 3 * 0.044715 * x * x)
    assert name == "silu"
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def before_activation(
    product: Product,
    *,
    c: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    row_scale: torch.Tensor | None = None,
    column_scale: torch.Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> Reference:
    """x = alpha row_scale column_scale A B + beta C + bias: what a stored aux holds."""
    exact, magnitude = alpha * product.exact, abs(alpha) * product.magnitude
    if row_scale is not None:
        rows = row_scale.double().unsqueeze(-1)
        exact, magnitude = exact * rows, magnitude * rows.abs()
    if column_scale is not None:
        exact, magnitude = exact * column_scale.double(), magnitude * column_scale.double().abs()
    if c is not None and beta != 0:
        exact, magnitude = exact + beta * c.double(), magnitude + abs(beta) * c.double().abs()
    if bias is not None:
        exact, magnitude = exact + bias.double(), magnitude + bias.double().abs()
    error = (product.k + _ORACLE_EPILOGUE_ROUNDINGS) * 2.0**-53 * magnitude
    return Reference(exact, magnitude, error)


def reference(
    product: Product,
    *,
    c: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    row_scale: torch.Tensor | None = None,
    column_scale: torch.Tensor | None = None,
    aux: torch.Tensor | None = None,
    product2: Product | None = None,
    bias2: torch.Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 0.0,
    activation: str = "none",
) -> Reference:
    """D. With `aux` the derivative at it takes the activation's place; `product2` gates."""
    x = before_activation(
        product,
        c=c,
        bias=bias,
        row_scale=row_scale,
        column_scale=column_scale,
        alpha=alpha,
        beta=beta,
    )
    magnitude, error = x.magnitude, x.error if activation == "none" else _STEEPEST * x.error
    if aux is not None:
        exact = x.exact * derivative(activation, aux.double())
    else:
        exact = activate(activation, x.exact)
    if product2 is not None:
        gate = before_activation(product2, bias=bias2, row_scale=row_scale, alpha=alpha)
        exact, magnitude = exact * gate.exact, magnitude * gate.magnitude
        error = error * gate.magnitude + x.magnitude * gate.error
    if residual is not None:
        exact, magnitude = exact + residual.double(), magnitude + residual.double().abs()
        error = error + 4 * 2.0**-53 * magnitude
    return Reference(exact, magnitude, error)


# Types that saturate, and their ranges.
_RANGES = {
    torch.int8: (-128.0, 127.0),
    torch.float8_e4m3fn: (-448.0, 448.0),
    torch.float8_e5m2: (-57344.0, 57344.0),
}


def _rounded(to: torch.dtype) -> tuple[float, float, float]:
    """Unit roundoff, what underflow may lose, and up to which number that holds."""
    if to == torch.int8:
        return 0.0, 0.5, 127.0
    info = torch.finfo(to)
    has_few_exponents = to in (torch.float16, *_RANGES)
    tiny = info.smallest_normal * info.eps / 2 if has_few_exponents else info.smallest_normal
    return info.eps / 2, tiny, info.max if to in _RANGES else 0.99 * info.max


@dataclass(frozen=True)
class OutputBound:
    """The bound of one of two outputs, rounded to a type of its own; the plan's figures hold for both."""

    accumulation: float
    lipschitz: float
    evaluation: float
    rounding: float
    smallest: float
    largest: float

    @staticmethod
    def of(guarantee: Any, stored: torch.dtype, k: int | None = None) -> OutputBound:
        """With the `k` of a product of operands of up to 32 bits what underflows is no more than this type's,
        whatever the other is."""
        rounding, tiny, largest = _rounded(stored)
        smallest = max(guarantee.smallest, tiny)
        if k is not None and stored != torch.float64:
            smallest = tiny + k * 2.0**-126
        return OutputBound(
            guarantee.accumulation,
            guarantee.lipschitz,
            guarantee.evaluation,
            rounding,
            smallest,
            largest,
        )

    @property
    def before_activation(self) -> OutputBound:
        return replace(self, lipschitz=1.0, evaluation=0.0)


def error_bound(
    guarantee: Any,
    magnitude: torch.Tensor,
    exact: torch.Tensor,
    scores: torch.Tensor | None = None,
    saturates: bool = False,
) -> torch.Tensor:
    """`guarantee.error_bound` for every element at once; tests/core/test_precision.py compares the two.
    Of what `saturates` it holds everywhere: to bring two numbers into a range takes them no further apart."""
    relative: torch.Tensor | float = guarantee.lipschitz * guarantee.accumulation + guarantee.evaluation
    if scores is not None:
        relative = relative + torch.expm1(guarantee.scores * scores)
    before_rounding = relative * magnitude
    value = exact.abs() + before_rounding
    if saturates:
        value = value.clamp(max=guarantee.largest)
    bound = before_rounding + guarantee.rounding * value + guarantee.smallest
    return torch.where(value <= guarantee.largest, bound, torch.inf)


def saturated(exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What the type holds of it, before it is rounded."""
    return exact.clamp(*_RANGES[dtype]) if dtype in _RANGES else exact


def complaint(d: torch.Tensor, expected: Reference, guarantee: Any, name: str = "d") -> str | None:
    """What is wrong with D, naming the worst element; None: every element keeps the plan's bound."""
    if d.shape != expected.exact.shape:
        return f"{name} has shape {tuple(d.shape)}, required {tuple(expected.exact.shape)}"
    if d.numel() == 0:
        return None
    exact = saturated(expected.exact, d.dtype)
    error = (d.double() - exact).abs()
    bound = error_bound(guarantee, expected.magnitude, exact, expected.scores, d.dtype in _RANGES)
    bound = bound + expected.error
    wrong = ~(error <= bound)  # a NaN is wrong even where no bound holds
    count = int(wrong.sum())
    if count == 0:
        return None
    excess = torch.where(wrong, (error / bound).nan_to_num(torch.inf, torch.inf), -1.0)
    worst = int(excess.argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(worst), d.shape)]
    at = tuple(index)
    return (
        f"{count} of {d.numel()} elements beyond the bound; {name}{index} = {float(d[at]):.9g}, "
        f"exact {float(exact[at]):.9g}, error {float(error[at]):.3g}, bound {float(bound[at]):.3g}"
    )


def inexact(d: torch.Tensor, expected: Reference) -> str | None:
    """What is wrong with D where the exact result, rounded once, is the only right answer."""
    exact = saturated(expected.exact, d.dtype)
    right = (exact if d.is_floating_point() else exact.round()).to(d.dtype)
    wrong = d != right
    count = int(wrong.sum())
    if count == 0:
        return None
    index = [int(i) for i in wrong.nonzero()[0]]
    at = tuple(index)
    return (
        f"{count} of {d.numel()} integers wrong; d{index} = {float(d[at]):g}, required {float(right[at]):g}"
    )


def amax_complaint(amax: torch.Tensor, expected: Reference, bound: OutputBound) -> str | None:
    """What is wrong with the greatest magnitude of results that keep the bound; None: nothing is."""
    least = most = 0.0
    if expected.exact.numel() > 0:
        size = expected.exact.abs()
        slack = error_bound(bound, expected.magnitude, size) + expected.error
        least, most = float((size - slack).max()), float((size + slack).max())
    found = float(amax)
    return None if least <= found <= most else f"amax = {found:.9g}, required {least:.9g} to {most:.9g}"
