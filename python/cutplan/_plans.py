"""What the functional face does with plans: prefers, logs and remembers them. Each function keeps its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from . import _core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._typing import MathLike

    Plan = _core.GemmPlan | _core.GroupedGemmPlan | _core.FmhaPlan | _core.FmhaBackwardPlan

_PlanT = TypeVar("_PlanT", bound="Plan")


class _OfThread(threading.local):
    plans: Sequence[Plan] = ()


of_thread = _OfThread()  # `plans`: what this thread's last call ran, set by the call itself at its end


def last_kernels() -> tuple[str, ...]:
    """Names of the kernels that this thread's last call of a function ran, in their order.

    A function is matmul(), grouped_matmul(), attention() or a backward of theirs; a call that raised does not
    count, nor does a plan's run(). A name selects the kernel again: ``PlanPreference(kernel=name)``. The
    logger "cutplan" tells, at DEBUG, of every kernel that a function chooses, once, when it does, with
    the problem and the device.
    """
    return tuple(plan.sku.name for plan in of_thread.plans)


def chosen(plan: _PlanT) -> _PlanT:
    """Logs a choice. Calls for which the plan is kept already do not come here."""
    import logging

    log = logging.getLogger("cutplan")
    if log.isEnabledFor(logging.DEBUG):
        log.debug("%s runs %r on %s", plan.sku.name, plan.descriptor, plan.device)
    return plan


def check_preference(given: object) -> None:
    """Before it is looked up: what cannot be hashed is refused in other words there."""
    if not isinstance(given, _core.PlanPreference):
        raise TypeError(
            f"preference: a PlanPreference or None required, got {type(given).__name__}; "
            "write it as cutplan.PlanPreference(math='strict')"
        )


def preference(
    given: _core.PlanPreference | None,
    scratch_allowed: bool,
    math: MathLike | None = "tf32x3",
    deterministic: bool = False,
) -> _core.PlanPreference:
    """The caller's preference, or the one that `math` and `deterministic` make."""
    if given is None:
        return _core.PlanPreference(
            max_workspace_bytes=None if scratch_allowed else 0,
            math="tf32x3" if math is None else math,
            deterministic=deterministic,
        )
    for name, is_given in (
        ("math", math is not None and _core.Math(math) is not _core.Math.tf32x3),
        ("deterministic", deterministic),
    ):
        if is_given:
            raise _core.InvalidProblem(
                f"{name}: not beside preference, which has its own; pass PlanPreference({name}=...)"
            )
    if scratch_allowed:
        return given
    return _core.PlanPreference(**{**given.__getstate__(), "max_workspace_bytes": 0})  # type: ignore[arg-type]
