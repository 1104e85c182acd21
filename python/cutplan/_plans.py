"""What the functional face does with plans: logs and remembers them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from . import _core

if TYPE_CHECKING:
    from collections.abc import Sequence

    Plan = (
        _core.GemmPlan
        | _core.GroupedGemmPlan
        | _core.FmhaPlan
        | _core.FmhaBackwardPlan
        | _core.MergeStatesPlan
        | _core.AlibiPlan
        | _core.AlibiBackwardPlan
        | _core.RopePlan
        | _core.RopeBackwardPlan
        | _core.KvCacheAppendPlan
        | _core.QuantizePlan
        | _core.DequantizePlan
        | _core.PackWeightsPlan
        | _core.UnpackWeightsPlan
    )


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


def chosen(plan: Plan) -> None:
    """Logs a choice. Calls for which the plan is kept already do not come here."""
    import logging

    log = logging.getLogger("cutplan")
    if log.isEnabledFor(logging.DEBUG):
        log.debug("%s runs %r on %s", plan.sku.name, plan.descriptor, plan.device)
