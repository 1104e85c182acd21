"""What a device adds: the host's bits, graphs, streams, and more elements than 32 bits count."""

from __future__ import annotations

import threading

import pytest
import torch

import cutplan
from tests.quantize.problems import FLOATS, cases, generator, values
from tests.quantize.test_quantize import kinds

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("kind", kinds())
def test_the_bits_of_the_host(operand: str, kind: tuple[str, bool], seed: int) -> None:
    source = generator("cuda", seed)
    for case in cases("cuda", operand, kind, None, source, shapes=[(2, 259, 1032), (1, 1025, 515)]):
        if str(case.descriptor.dtype) == "int4" and case.descriptor.columns % 2:
            continue
        case.run()
        g = case.descriptor
        size = g.group_size if g.granularity in ("group", "block") else None
        host = cutplan.quantize(
            case.x.view.cpu(),
            g.dtype,
            granularity=g.granularity,
            group_size=size,
            axis=g.axis,
            symmetric=g.symmetric,
        )
        assert torch.equal(host.data.view(torch.uint8), case.data.view.cpu().view(torch.uint8)), case.name
        assert torch.equal(host.scale, case.scale.view.cpu()), case.name


@pytest.mark.parametrize("granularity", ["tensor", "row", "column", "group", "block"])
def test_graphs_are_replayed(granularity: str, seed: int) -> None:
    """With other values in x, also where a launch before has left its range."""
    source = generator("cuda", seed)
    x = values((3, 130, 256), torch.bfloat16, source)
    size = 64 if granularity in ("group", "block") else None
    amax = torch.empty_like(cutplan.quantize(x, "int8", granularity=granularity, group_size=size).scale)  # type: ignore[arg-type]

    def step() -> tuple[cutplan.Quantized, torch.Tensor]:
        q = cutplan.quantize(
            x,
            "int8",
            granularity=granularity,
            group_size=size,
            amax=amax,
            symmetric=False,  # type: ignore[arg-type]
        )
        return q, cutplan.dequantize(q, "bfloat16")

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        q, back = step()
    for factor in (100.0, 1.0, 0.01):
        x.copy_(values((3, 130, 256), torch.bfloat16, source) * factor)
        graph.replay()
        expected, expected_back = step()
        assert torch.equal(q.data, expected.data) and torch.equal(q.scale, expected.scale)
        assert torch.equal(q.zero, expected.zero) and torch.equal(back, expected_back)
        assert float(amax.max()) == float(x.abs().max())


def test_streams_and_threads(seed: int) -> None:
    x = values((2, 512, 1024), torch.float16, generator("cuda", seed))
    expected = [cutplan.quantize(x, "float8_e4m3fn", granularity=g) for g in ("tensor", "row", "column")]  # type: ignore[arg-type]
    torch.cuda.synchronize()
    failures: list[str] = []

    def work() -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(20):
                for q in expected:
                    again = cutplan.quantize(x, "float8_e4m3fn", granularity=q.granularity)
                    stream.synchronize()
                    same = torch.equal(again.data.view(torch.uint8), q.data.view(torch.uint8))
                    if not (same and torch.equal(again.scale, q.scale)):
                        failures.append(q.granularity)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.large
@pytest.mark.parametrize("granularity", ["tensor", "row", "column", "group", "block"])
def test_more_than_2_to_31_elements(granularity: str, seed: int) -> None:
    """What lies beyond is as what lies before it."""
    head = values((1 << 16, 1 << 10), torch.bfloat16, generator("cuda", seed))
    x = head.repeat(33, 1)
    assert x.numel() > 2**31
    size = 128 if granularity in ("group", "block") else None
    options = {"granularity": granularity, "group_size": size}
    q = cutplan.quantize(x, "int8", **options)  # type: ignore[arg-type]
    expected = cutplan.quantize(head, "int8", **options)  # type: ignore[arg-type]
    assert torch.equal(q.data[-(1 << 16) :], expected.data)
    assert torch.equal(q.scale[-1], expected.scale[-1])
    back = cutplan.dequantize(q, "bfloat16")
    assert torch.equal(back[-(1 << 16) :], cutplan.dequantize(expected, "bfloat16"))
