"""JAX arrays are inputs like any other, and never outputs: they cannot change."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cutplan


def test_jax_output_is_refused() -> None:
    with jax.default_device(jax.devices("cpu")[0]):
        a, b, d = jnp.eye(8), jnp.ones((8, 16)), jnp.full((8, 16), 7.0)
    plan = cutplan.GemmPlan.select(cutplan.describe(a, b, np.empty((8, 16), np.float32)), "cpu")
    for entrance in (plan.run, plan.can_implement):
        with pytest.raises(cutplan.ReadOnly, match="operand d: must be writable.*JAX"):
            entrance(a, b, d)
    assert bool((d == 7).all())
    out = np.empty((8, 16), np.float32)
    plan.run(a, b, out)
    assert (out == 1).all()
