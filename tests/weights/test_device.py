"""What a device adds: the host's bits, graphs, streams, and more elements than 32 bits count."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import cutplan
from tests.weights.problems import BITS, FORMATS, ZEROS, codes, scales

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("format", FORMATS)
def test_the_bits_of_the_host(format: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    for k, n in [(1, 1), (1030, 517), (4096, 256)]:
        u, scale = codes(chance, format, k, n), scales(chance, -(-k // 64), n, "float16")
        zero = scale if format in ZEROS else None
        host = cutplan.pack_weights(u, format, group_size=64, scale=scale, zero=zero)  # type: ignore[arg-type]
        on_device = [None if x is None else torch.from_numpy(x).cuda() for x in (u, scale, zero)]
        p = cutplan.pack_weights(on_device[0], format, group_size=64, scale=on_device[1], zero=on_device[2])  # type: ignore[arg-type]
        assert cutplan.last_kernels() == ("pack_weights.sm80.uint8",)
        assert np.array_equal(p.data.cpu().numpy(), host.data)
        for out in ("float32", "float16"):
            got = cutplan.unpack_weights(p, out).cpu().numpy()
            assert np.array_equal(got, cutplan.unpack_weights(host, out), equal_nan=True)
    w = torch.randn(300, 130)
    for x in (w, w.half(), w.bfloat16()):
        host, p = (cutplan.pack_weights(y, format, group_size=32) for y in (x, x.cuda()))  # type: ignore[arg-type]
        assert torch.equal(p.data.cpu(), host.data)


def plan_and_operands(format: str, k: int, n: int) -> tuple[cutplan.PackWeightsPlan, list[torch.Tensor]]:
    descriptor = cutplan.PackWeightsDescriptor(
        n=n,
        k=k,
        format=format,
        group_size=64,
        w="uint8",
        scale="float32",  # type: ignore[arg-type]
    )
    u = torch.randint(0, 1 << BITS[format], (k, n), dtype=torch.uint8, device="cuda")
    size = cutplan.packed_weights_size(descriptor)
    operands = [
        u,
        torch.rand(-(-k // 64), n, device="cuda"),
        torch.zeros(size, dtype=torch.uint8, device="cuda"),
    ]
    return cutplan.PackWeightsPlan.select(descriptor, "cuda"), operands


def test_a_graph() -> None:
    plan, (u, scale, packed) = plan_and_operands("uint4", 256, 192)
    fields = {"n": 192, "k": 256, "format": "uint4", "group_size": 64, "scale": "float32", "out": "float32"}
    unpack = cutplan.UnpackWeightsPlan.select(cutplan.UnpackWeightsDescriptor(**fields), "cuda")  # type: ignore[arg-type]
    out = torch.empty(256, 192, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        plan.run(u, scale, packed)
        unpack.run(packed, out)
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        plan.run(u, scale, packed)
        unpack.run(packed, out)
    for _ in range(3):
        u.random_(0, 16)
        scale.normal_()
        graph.replay()
        assert torch.equal(out, u.float() * scale.repeat_interleave(64, 0))


def test_streams_and_threads() -> None:
    plan, (u, scale, packed) = plan_and_operands("int8", 512, 320)
    plan.run(u, scale, packed)
    torch.cuda.synchronize()
    failures: list[int] = []

    def work() -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for i in range(20):
                own = torch.zeros_like(packed)
                plan.run(u, scale, own)
                stream.synchronize()
                if not torch.equal(own, packed):
                    failures.append(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.large
def test_more_than_2_to_31_elements() -> None:
    """What lies beyond is as what lies before it."""
    k, n = 4096, (1 << 19) + 64
    assert k * n > 2**31
    head = torch.randint(0, 16, (k, 64), dtype=torch.uint8, device="cuda")
    u = head.repeat(1, n // 64)
    scale = torch.rand(32, 64, device="cuda")
    p = cutplan.pack_weights(u, "uint4", scale=scale.repeat(1, n // 64))
    expected = cutplan.unpack_weights(cutplan.pack_weights(head, "uint4", scale=scale), "float16")
    assert torch.equal(cutplan.unpack_weights(p, "float16")[:, -64:], expected)
