"""Contexts: none is made on a device that no plan runs on, and the caller's own device stays current."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.two_gpus

_PROGRAM = """
import ctypes
import sys

driver = ctypes.CDLL("libcuda.so.1")


def active(device):
    flags, state = ctypes.c_uint(), ctypes.c_int()
    assert driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(state)) == 0
    return bool(state.value)


def current():
    context = ctypes.c_void_p()
    assert driver.cuCtxGetCurrent(ctypes.byref(context)) == 0
    return context.value


assert driver.cuInit(0) == 0
import cutplan

assert cutplan.cuda_device_count() >= 2 and cutplan.device_properties("cuda:1").sm_count > 0
assert not active(0) and not active(1), "asking for the devices has made a context"

import torch

x = torch.randn(64, 64, device="cuda:1").half()
before = active(0)
plan = cutplan.GemmPlan.select(cutplan.describe(x, x, torch.empty_like(x)), x)
q = torch.randn(1, 2, 64, 64, device="cuda:1").half()
torch.cuda.set_device(1)
here = current()
cutplan.matmul(x, x)
o, lse = cutplan.attention(q, q, q, return_lse=True)
cutplan.attention_backward(o, q, q, q, o, lse)
torch.cuda.synchronize(1)
assert current() == here, "another context is current than before"
assert active(0) == before, "work on cuda:1 has made a context on cuda:0"
print("right")
"""


def test_contexts() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.stdout == "right\n", done.stderr[-2000:]
