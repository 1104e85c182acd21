"""Which kernel serves a problem, on devices of every kind: no GPU is needed to ask."""

from __future__ import annotations

import pytest

import cutplan
from cutplan import DeviceProperties, GemmDescriptor, PlanPreference, gemm_kernels, gemm_registry
from tests.gemm.operands import PACKED, QUANTISED, Packing, format_of, operands_of

# What cards report: compute capability, SMs, shared memory a block may opt in to.
A100 = DeviceProperties(
    name="A100", compute_capability=80, sm_count=108, shared_memory=166912, l2_bytes=40 << 20
)
A40 = DeviceProperties(name="A40", compute_capability=86, sm_count=84, shared_memory=101376, l2_bytes=6 << 20)
L40 = DeviceProperties(
    name="L40", compute_capability=89, sm_count=142, shared_memory=101376, l2_bytes=96 << 20
)
H200 = DeviceProperties(
    name="H200", compute_capability=90, sm_count=132, shared_memory=232448, l2_bytes=50 << 20
)
HOST = cutplan.device_properties("cpu")
CARDS = [A100, A40, L40, H200]

BUILT = set(cutplan.built_architectures())
# Of one type each; tests/gemm/test_kernels.py and test_quantized.py have the others.
OPERANDS = {"host": ("float16", "bfloat16", "float32", "float64")}
LAYOUTS = ("rcr", "rrr", "crr", "ccr")
TRANSPOSED = {"rcr": "rcc", "rrr": "ccc", "crr": "crc", "ccr": "rrc"}  # D^T = B^T A^T

needs_sm80 = pytest.mark.built("sm80")
needs_sm90 = pytest.mark.built("sm90")


def square(extent: int, operand: str = "float16", **more: object) -> GemmDescriptor:
    return GemmDescriptor(m=extent, n=extent, k=extent, a=operand, **more)


def packings(sku: cutplan.KernelSku) -> list[dict[str, object]]:
    """What a descriptor says of packed weights, of each format; nothing where the kernel reads no such."""
    forms = [format_of(operand) for operand in operands_of(sku)]
    return [{} if form is None else {"weights": Packing().of(form, 4096)} for form in forms]


def test_names_are_unique_and_select_again() -> None:
    registry = gemm_registry()
    names = [sku.name for sku in registry]
    assert len(set(names)) == len(names) > 0
    for sku in registry:
        named = PlanPreference(kernel=sku.name, math="fast")
        descriptors = [
            square(
                4096, str(sku.a), b=sku.b, layout=sku.layout, epilogue=cutplan.Epilogue(gate=gate), **packing
            )
            for gate in (None, "separate")
            for packing in packings(sku)
        ]
        served = [
            card.name
            for card in [HOST, *CARDS]
            if any([k.name for k in gemm_kernels(d, card, named)] == [sku.name] for d in descriptors)
        ]
        assert served, f"{sku.name}: no device can run it"
        assert ("host" in sku.name) == (HOST.name in served)


def test_every_kernel_says_what_it_is() -> None:
    for sku in gemm_registry():
        assert sku.category == "matmul" and sku.op == "gemm"
        assert str(sku.arch) in BUILT
        assert sku.a == sku.b or set(operands_of(sku)) <= {*QUANTISED, *PACKED}
        sums = {"float64": "float64", "int8": "int32"}.get(str(sku.a), "float32")
        assert str(sku.accumulator) == sums
        assert sku.layout in LAYOUTS
        assert all(extent > 0 for extent in sku.tile) and all(extent > 0 for extent in sku.cluster)
        assert sku.alignment % (sku.a.bits // 8) == 0 and sku.alignment <= 16
        assert sku.schedule and sku.split_k == 1
        for part in (str(sku.arch), sku.layout, "x".join(map(str, sku.tile))):
            assert part in sku.name


@pytest.mark.parametrize("layout", [*LAYOUTS, *TRANSPOSED.values()])
@pytest.mark.parametrize("operand", OPERANDS["host"])
def test_the_host_serves_everything(operand: str, layout: str) -> None:
    gates = (None, "separate", "interleaved") if layout in LAYOUTS else (None,)
    for extent in (0, 1, 7, 4096):
        for alignment in (None, 8):
            for gate in gates:
                epilogue = cutplan.Epilogue(gate=gate)
                more = {"layout": layout, "alignment": alignment, "epilogue": epilogue}
                skus = gemm_kernels(square(extent, operand, **more), HOST)
                assert [str(sku.arch) for sku in skus] == ["host"]
                assert skus[0].layout == layout


@pytest.mark.parametrize("operand", OPERANDS["host"])
def test_a_column_major_result_takes_the_transposed_kernel(operand: str) -> None:
    """Of a problem and its transpose, one kernel serves both: its name has the layout that it computes in."""
    for card in [HOST, *CARDS]:
        for layout, other in TRANSPOSED.items():
            wide = GemmDescriptor(m=4096, n=512, k=1024, a=operand, layout=layout)
            tall = GemmDescriptor(m=512, n=4096, k=1024, a=operand, layout=other)
            names = [sku.name for sku in gemm_kernels(wide, card)]
            assert names == [sku.name for sku in gemm_kernels(tall, card)]
            assert {sku.layout for sku in gemm_kernels(tall, card)} <= {other}
            assert all(f".{layout}." in name for name in names)


def test_math_is_the_least_accuracy() -> None:
    """A kernel that is more exact than asked for may serve, a less exact one never."""
    for card in [HOST, *CARDS]:
        for layout in LAYOUTS:
            by_math = [
                {sku.name for sku in gemm_kernels(square(4096, "float32", layout=layout), card, preference)}
                for preference in (PlanPreference(math=math) for math in ("strict", "tf32x3", "tf32"))
            ]
            assert by_math[0] <= by_math[1] <= by_math[2]
            if card is HOST:
                assert by_math[0] == by_math[2]
            elif "sm80" in BUILT:
                assert by_math[0] < by_math[1] < by_math[2]
    for operand in ("float16", "float64"):  # of which there is one way only
        assert [k.name for k in gemm_kernels(square(64, operand), HOST, PlanPreference(math="strict"))] == [
            k.name for k in gemm_kernels(square(64, operand), HOST, PlanPreference(math="tf32"))
        ]


def grouped(over: str, layout: str, operand: str = "float16", **more: object) -> object:
    extents = {"groups": 8, "m": 4096, "n": 2048, "k": 1024}
    return cutplan.GroupedGemmDescriptor(**{**extents, "a": operand, "over": over, "layout": layout, **more})


@pytest.mark.parametrize("operand", OPERANDS["host"])
def test_grouped_kernels(operand: str) -> None:
    """On every card and on the host, over m and over k, gated too; each selects again by its name."""
    for card in [HOST, *CARDS]:
        if card is not HOST and "sm80" not in BUILT:
            continue
        gated = card is HOST or operand in ("float16", "bfloat16")
        for over, layout, gate in (
            ("m", "rcr", None),
            ("m", "rrr", None),
            ("m", "rcr", "separate"),
            ("m", "rcr", "interleaved"),
            ("k", "crr", None),
        ):
            descriptor = grouped(over, layout, operand, epilogue=cutplan.Epilogue(gate=gate))
            skus = cutplan.grouped_gemm_kernels(descriptor, card)
            assert bool(skus) == (gate is None or gated), (card.name, over, layout, gate)
            for sku in skus:
                assert sku.split_k == 1 and sku.layout == layout
                named = PlanPreference(kernel=sku.name)
                assert [k.name for k in cutplan.grouped_gemm_kernels(descriptor, card, named)] == [sku.name]
        if (
            card.name == "H200" and "sm90" in BUILT and operand != "float32"
        ):  # three products are sm80's alone
            best = cutplan.grouped_gemm_kernels(grouped("m", "rcr", operand), card)[0]
            assert str(best.arch) == "sm90"


@needs_sm80
def test_int8_is_served_in_every_layout() -> None:
    """With zeros, gates and groups, of any alignment, by mma.sync; wgmma reads bytes along K alone."""
    for card in CARDS:
        for layout in [*LAYOUTS, *TRANSPOSED.values()]:
            for alignment in (1, 16):
                for zeros in ({}, {"a_zero": "row", "b_zero": "column"}):
                    descriptor = square(4096, "int8", layout=layout, alignment=alignment, **zeros)
                    archs = {str(sku.arch) for sku in gemm_kernels(descriptor, card)}
                    wgmma = card is H200 and "sm90" in BUILT and layout in ("rcr", "rcc") and alignment == 16
                    assert archs == ({"sm80", "sm90"} if wgmma else {"sm80"}), (card.name, layout, alignment)
        for layout in LAYOUTS:
            gated = square(4096, "int8", layout=layout, epilogue=cutplan.Epilogue(gate="separate"))
            assert gemm_kernels(gated, card), (card.name, layout)
        for layout in ("rcr", "rrr"):
            assert cutplan.grouped_gemm_kernels(grouped("m", layout, "int8"), card), (card.name, layout)


def test_the_support_table_matches_select() -> None:
    rows = cutplan.gemm_support()
    assert {str(row.arch) for row in rows} == {str(sku.arch) for sku in gemm_registry()}
    for row in rows:
        layouts = {str(layout) for layout in row.layouts}
        operands = (row.operand, row.operand_b)
        kernels = {s.layout for s in gemm_registry() if (s.arch, s.a, s.b) == (row.arch, *operands)}
        turned = {s.layout for s in gemm_registry() if (s.arch, s.b, s.a) == (row.arch, *operands)}
        assert layouts == kernels | {TRANSPOSED[layout] for layout in turned}
    for row in (row for row in rows if str(row.arch) == "host"):
        outputs = {str(d) for d in row.d}
        for d in (str(t) for t in cutplan.DType):
            descriptor = GemmDescriptor(m=8, n=8, k=8, a=row.operand, b=row.operand_b, d=d)
            if d in outputs:
                assert str(cutplan.GemmPlan.select(descriptor, "cpu").sku.d) == d
            else:
                with pytest.raises(cutplan.Unsupported, match=f"operand d.*{d}"):
                    cutplan.GemmPlan.select(descriptor, "cpu")


def test_a_plan_is_what_the_ranking_put_first(device: str) -> None:
    properties = cutplan.device_properties(device)
    for extent in (1, 64, 1000, 4096):
        for layout in LAYOUTS:
            descriptor = square(extent, layout=layout)
            plan = cutplan.GemmPlan.select(descriptor, device)
            assert plan.sku.name == gemm_kernels(descriptor, properties)[0].name
            again = cutplan.GemmPlan.select(descriptor, device, PlanPreference(kernel=plan.sku.name))
            assert again.sku.name == plan.sku.name


@needs_sm80
@pytest.mark.parametrize("operand", OPERANDS["host"])
@pytest.mark.parametrize("layout", [*LAYOUTS, *TRANSPOSED.values()])
@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_cards_serve_any_problem(card: DeviceProperties, operand: str, layout: str) -> None:
    for m, n, k in ((1, 1, 1), (0, 5, 5), (5, 5, 0), (4096, 4096, 4096), (16, 8192, 8192), (1001, 997, 1003)):
        element = {"float32": 4, "float64": 8}.get(operand, 2)
        for alignment in (a for a in (2, 4, 8, 16) if a >= element):
            descriptor = GemmDescriptor(m=m, n=n, k=k, a=operand, layout=layout, alignment=alignment)
            skus = gemm_kernels(descriptor, card)
            assert skus, (m, n, k, alignment)
            assert all(alignment % sku.alignment == 0 for sku in skus)
            assert all(str(sku.arch) != "host" for sku in skus)


@needs_sm80
def test_alignment_takes_the_fast_kernels() -> None:
    for card in CARDS:
        assert gemm_kernels(square(4096), card)[0].alignment == 16
        assert gemm_kernels(square(4096, alignment=2), card)[0].alignment == 2
        # K is the run of both operands of rcr: an odd one means that rows begin at odd addresses
        assert gemm_kernels(GemmDescriptor(m=512, n=512, k=511, a="float16"), card)[0].alignment == 2


@needs_sm80
def test_shared_memory_filters() -> None:
    for card in CARDS:
        names = {sku.name for sku in gemm_kernels(square(4096), card)}
        poor = DeviceProperties(
            name="poor",
            compute_capability=card.compute_capability,
            sm_count=card.sm_count,
            shared_memory=card.shared_memory // 3,
        )
        assert {sku.name for sku in gemm_kernels(square(4096), poor)} < names


@needs_sm80
@needs_sm90
def test_hopper_prefers_wgmma_and_others_never_see_it() -> None:
    for operand in ("float16", "bfloat16"):
        for layout in LAYOUTS:
            for extent in (2048, 4096, 8192):
                assert str(gemm_kernels(square(extent, operand, layout=layout), H200)[0].arch) == "sm90"
    for card in (A100, A40, L40):
        assert all(str(sku.arch) != "sm90" for sku in gemm_kernels(square(4096), card))


@needs_sm80
def test_tiles_follow_the_problem() -> None:
    """Small problems fill the card with small tiles, large ones reuse data in large tiles."""
    for card in CARDS:
        for arch in ("sm80",):
            tiles = [
                gemm_kernels(square(extent), card, PlanPreference(arch=arch))[0].tile
                for extent in (256, 1024, 8192)
            ]
            areas = [tm * tn for tm, tn, _ in tiles]
            assert areas == sorted(areas) and areas[0] < areas[-1], (card.name, tiles)


@needs_sm80
def test_split_k_serves_thin_problems_and_obeys_preferences() -> None:
    thin = GemmDescriptor(m=64, n=128, k=32768, a="float16")
    for card in CARDS:
        best = gemm_kernels(thin, card)[0]
        assert best.split_k > 1
        for sku in gemm_kernels(thin, card, PlanPreference(max_workspace_bytes=0)):
            assert sku.split_k == 1 or sku.schedule == "swap_ab"  # whose slices meet in a cluster
        assert all(sku.split_k == 1 for sku in gemm_kernels(thin, card, PlanPreference(batch_invariant=True)))

        assert gemm_kernels(thin, card, PlanPreference(deterministic=True))


@needs_sm90
def test_stream_k_fills_the_last_wave_and_obeys_preferences() -> None:
    """A wave and a fifth of tiles are shared out, whole waves are not. Workspace is a tile for each SM."""
    ragged = GemmDescriptor(m=128 * 12, n=256 * 13, k=8192, a="bfloat16")
    best = gemm_kernels(ragged, H200)[0]
    assert best.split_k == 0 and best.name.endswith(".stream_k")
    assert gemm_kernels(ragged, H200, PlanPreference(kernel=best.name))[0].name == best.name
    tm, tn, _ = best.tile
    needed = tm * tn * 4 * H200.sm_count
    for preference in (
        PlanPreference(max_workspace_bytes=needed),
        PlanPreference(batch_invariant=True),
        PlanPreference(arch="sm80"),
    ):
        assert all(
            sku.split_k != 0 for sku in gemm_kernels(ragged, H200, preference) if sku.tile == best.tile
        )
    even = GemmDescriptor(m=128 * 12, n=128 * 11, k=8192, a="bfloat16")
    tiles = [sku.tile[:2] for sku in gemm_kernels(even, H200) if sku.split_k == 0]
    assert tiles and (128, 128) not in tiles


@needs_sm90
def test_clusters_stay_within_sm_count() -> None:
    """Where slices of K meet in a cluster, each tile has one of its own, at once."""
    thin = GemmDescriptor(m=8, n=256, k=32768, a="float16")
    for sms in (4, 8, 9, H200.sm_count):
        skus = gemm_kernels(thin, H200, PlanPreference(sm_count=sms))
        sizes = {4 * sku.split_k for sku in skus if sku.schedule == "swap_ab" and sku.split_k > 1}
        assert sizes == {4 * split for split in (2, 3, 4, 6, 8) if 4 * split <= sms}
    name = next(sku.name for sku in skus if sku.schedule == "swap_ab" and sku.split_k == 4)
    assert gemm_kernels(thin, H200, PlanPreference(kernel=name, sm_count=16))
    assert not gemm_kernels(thin, H200, PlanPreference(kernel=name, sm_count=15))


@needs_sm80
def test_batch_invariant_choices_are_the_same_for_every_m_and_batch() -> None:
    """They sum in one order (test_orders.py), so that the fastest of them may serve each."""
    for card in CARDS:
        for layout in ("rcr", "rrr"):
            ranked = [
                [
                    sku.name
                    for sku in gemm_kernels(
                        GemmDescriptor(m=m, n=1024, k=4096, a="bfloat16", layout=layout, batch=batch),
                        card,
                        PlanPreference(batch_invariant=True),
                    )
                ]
                for m in (1, 3, 16, 64, 129, 4096, 100000)
                for batch in (1, 2, 64)
            ]
            assert len({frozenset(names) for names in ranked}) == 1, (card.name, layout)
            assert len({names[0] for names in ranked}) > 1, (card.name, layout)


def test_arch_is_honoured() -> None:
    for arch in ("sm80", "sm89", "sm90"):
        for card in [HOST, *CARDS]:
            assert {str(s.arch) for s in gemm_kernels(square(512), card, PlanPreference(arch=arch))} <= {arch}
    assert [str(s.arch) for s in gemm_kernels(square(512), HOST, PlanPreference(arch="host"))] == ["host"]
    assert gemm_kernels(square(512), H200, PlanPreference(arch="host")) == []


def test_unknown_kernel_lists_nothing() -> None:
    assert gemm_kernels(square(512), HOST, PlanPreference(kernel="gemm.host.nonsense")) == []


@needs_sm90
def test_tma_coordinates_stay_in_32_bits() -> None:
    """K is counted in whole steps, so the last of 2^31 elements are out of a TMA kernel's reach."""
    for k, served in ((2**31 - 64, True), (2**31 - 56, False)):
        descriptor = GemmDescriptor(m=16, n=64, k=k, a="float16")
        archs = {str(sku.arch) for sku in gemm_kernels(descriptor, H200)}
        assert ("sm90" in archs) == served, k
