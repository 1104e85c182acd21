"""What .ci reads off machine code: instructions, ways round a loop, and which entry is which kernel."""

from __future__ import annotations

import importlib
import pathlib
import re
import types
from typing import Any

import pytest

CI = pathlib.Path(__file__).parent.parent / ".ci"

# A kernel as nvdisasm prints it. Its K loop, L_x_1, waits in a loop of its own, copies the next tile unless
# there is none, masks at the end of K, and has a block out of line for threads that have diverged. The loop
# over tiles around it, L_x_0, has a matrix instruction of its own; the sum in the end, L_x_9, has none.
LISTING = """
	.section	.text._Z6kernelv,"ax",@progbits
        .type           _Z6kernelv,@function
_Z6kernelv:
.text._Z6kernelv:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/                   STL [R1], R2 ;
.L_x_0:
        /*0020*/                   HMMA.16816.F32 R4, R8, R10, RZ ;
.L_x_1:
        /*0028*/                   UIADD3 UR8, UR8, 0x8, URZ ;
.L_x_11:
        /*0030*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR8], R0 ;
        /*0040*/              @!P0 BRA `(.L_x_11) ;
        /*0050*/                   BRA.DIV UR4, `(.L_x_7) ;
.L_x_2:
        /*0060*/                   LDSM.16.M88.4 R8, [R20] ;
        /*0070*/              @!P1 BRA `(.L_x_3) ;
        /*0080*/                   LDGSTS.E.BYPASS.128 [R30], desc[UR6][R32.64] ;
        /*0090*/                   IADD3 R32, P2, R32, 0x80, RZ ;
.L_x_3:
        /*00a0*/               @P3 BRA P4, `(.L_x_4) ;
        /*00b0*/                   FSEL R8, R8, RZ, P5 ;
        /*00c0*/                   LDL R9, [R1] ;
        /*00d0*/                   ISETP.GE.AND P5, PT, R40, R41, PT ;
.L_x_4:
        /*00e0*/                   HMMA.16816.F32 R4, R8.reuse, R10, R4 ;
        /*00f0*/                   HMMA.16816.F32 R12, R8, R11, R12 ;
        /*0100*/                   MUFU.EX2 R13, R13 ;
.L_x_5:
        /*0110*/               @P6 ELECT P0, URZ, PT ;
        /*0120*/               @P6 BRA.U.ANY `(.L_x_5) ;
        /*0130*/                   ISETP.NE.AND P6, PT, R50, RZ, PT ;
        /*0140*/               @P6 BRA `(.L_x_1) ;
        /*0150*/                   ISETP.NE.AND P6, PT, R51, RZ, PT ;
        /*0160*/               @P6 BRA `(.L_x_0) ;
.L_x_9:
        /*0170*/                   FADD R4, R4, R12 ;
        /*0180*/               @P6 BRA `(.L_x_9) ;
        /*0190*/                   EXIT ;
.L_x_7:
        /*01a0*/                   WARPSYNC.COLLECTIVE R15, `(.L_x_8) ;
.L_x_8:
        /*01b0*/                   BRA `(.L_x_2) ;
.L_x_10:
        /*01c0*/                   BRA `(.L_x_10);
        /*01d0*/                   NOP;
//--------------------- .text._Z6passesv --------------------------
.text._Z6passesv:
        /*0000*/                   EXIT ;
"""


@pytest.fixture
def sass(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(CI)
    return importlib.import_module("sass")


@pytest.fixture
def machine_code(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(CI)
    return importlib.import_module("machine_code")


def test_code_is_compared_without_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CI)
    functions = importlib.import_module("same_code").functions_of_listing
    code = functions(LISTING)
    assert len(code) == 2 and len(set(code.values())) == 2
    assert functions(re.sub(r"_x_(\d+)", lambda m: f"_x_{int(m[1]) + 40}", LISTING)) == code
    renamed = functions(LISTING.replace("_Z6kernelv", "_Z5otherv"))
    assert renamed["_Z5otherv"] == code["_Z6kernelv"]
    # A function of the unit's own: its name has digests of where the unit's file lies.
    call = "CALL.REL.NOINC `($_Z6kernelv$_ZN{}4gemm6finishEv)"
    units = ("36_INTERNAL_fa89f0aa_6_f64_cu_7bb4833d", "38_INTERNAL_562227c0_8_large_cu_7bb4833d")
    here, there = (functions(LISTING.replace("LDL R9", call.format(unit), 1)) for unit in units)
    assert here == there != code
    for before, after in (
        ("R4, R8, R10", "R4, R8, R12"),
        ("@!P1 BRA `(.L_x_3)", "@!P1 BRA `(.L_x_4)"),
        ("LDL R9", "NOP"),
    ):
        changed = functions(LISTING.replace(before, after, 1))
        assert changed["_Z6kernelv"] != code["_Z6kernelv"], before
        assert changed["_Z6passesv"] == code["_Z6passesv"]


def _describe(sass: Any, listing: str) -> Any:
    name, code, labels = next(sass.parse(listing))
    entry = sass.Entry(name)
    sass.describe(entry, code, labels)
    return entry


def test_instructions(sass: Any) -> None:
    functions = {name: code for name, code, _ in sass.parse(LISTING)}
    assert {name: len(code) for name, code in functions.items()} == {"_Z6kernelv": 31, "_Z6passesv": 1}
    entry = _describe(sass, LISTING)
    assert entry.instructions["HMMA"] == 3
    assert entry.instructions["BRA"] == 10
    assert entry.local == 2


def test_one_round_of_the_main_loop(sass: Any) -> None:
    entry = _describe(sass, LISTING)
    assert entry.multiplier == "HMMA"
    assert entry.main_loop.round == {
        "matrix": 2,
        "shared loads": 1,
        "copies": 1,  # the way with the copy, since it does more
        "integer": 3,
        "special": 1,
        "waits": 1,
        # wait, divergence, no copy, no mask, ELECT and its branch, back
        "control": 7,
    }
    assert entry.main_loop.local == 1, "the mask's, though the way goes past it"
    assert entry.producer_loop is None


def test_main_loop_on_cuda_cores_is_the_densest(sass: Any) -> None:
    """Not the one with the most multiply-adds, which an exponential also consists of."""
    exponential = ["DFMA R2, R2, R4, R6 ;", "DADD R2, R2, R6 ;", "LOP3.LUT R8, R8, R9, RZ, 0xc0, !PT ;"] * 4
    product = ["DFMA R2, R2, R4, R6 ;"] * 3
    lines = [".text.f:", ".L_x_0:", *exponential, "@P0 BRA `(.L_x_0) ;", ".L_x_1:", *product]
    lines += ["@P0 BRA `(.L_x_1) ;", "EXIT ;"]
    listing = "\n".join(line if line[0] == "." else f"        /*0000*/   {line}" for line in lines)
    entry = _describe(sass, listing)
    assert entry.multiplier == "DFMA"
    assert entry.main_loop.round == {"matrix": 3, "control": 1}


def test_no_loop(sass: Any) -> None:
    entry = _describe(sass, LISTING[LISTING.index("//---") :])
    assert entry.main_loop is None and entry.multiplier == ""


# ---- which entry is which kernel


def _sku(name: str, **fields: Any) -> types.SimpleNamespace:
    defaults = {"op": "gemm", "category": "matmul", "a": "float16", "arch": "sm90", "layout": "rcr"}
    defaults |= {
        "tile": (128, 128, 64),
        "stages": 4,
        "cluster": (1, 1),
        "schedule": "cooperative",
        "alignment": 16,
    }
    both = defaults | fields
    return types.SimpleNamespace(name=name, **({"b": both["a"]} | both))


def _entry(
    machine_code: Any, sass: Any, function: str, configuration: str, rest: str = "", **values: str
) -> Any:
    """An entry whose configuration has these template arguments, the others being 1."""
    scope = f"cutplan::{function.rsplit('::', 1)[0]}"
    parameters = machine_code._parameters()[f"{scope}::{configuration}"]
    assert set(values) <= set(parameters)
    arguments = ", ".join(values.get(name, "1") for name in parameters)
    name = f"void cutplan::{function}<{scope}::{configuration}<{arguments}>{rest} >(cutplan::Problem)"
    return sass.Entry("", name)


def test_entries_are_matched_with_kernels(machine_code: Any, sass: Any) -> None:
    skus = [
        _sku("gemm.sm90.f16.rcr.128x128x64.s4.cooperative.a16"),
        _sku("gemm.sm90.f16.rcr.128x128x64.s4.pingpong.a16", schedule="pingpong"),
        _sku("gemm.sm90.f16.rcr.128x128x64.s4.cooperative.a16.gate_separate"),
        _sku("gemm.sm90.f16.crr.128x128x64.s4.cooperative.a16", layout="crr"),
        _sku("gemm.sm90.bf16.rcr.128x128x64.s4.cooperative.a16", a="bfloat16"),
        _sku("gemm.sm80.f16.rcr.128x128x64.s4.cooperative.a16", arch="sm80"),
    ]
    matcher = machine_code.Matcher(skus)
    unit = sass.Unit("gemm/sm90/f16_large", "sm90", {}, set())
    same = {"Element": "cutlass::half_t", "kTileM": "128", "kStages": "4", "kPromotes": "false"}

    def find(**values: str) -> str:
        entry = _entry(machine_code, sass, "gemm::sm90::sm90_gemm", "Config", **same | values)
        name, part = matcher.find(unit, entry)
        assert part == "gemm"
        return str(name)

    plain = {"kTileN": "128", "kLayout": "(cutplan::GemmLayout)0", "kGated": "false"}
    cooperative, pingpong = ({"kSchedule": f"(cutplan::gemm::sm90::Schedule){i}"} for i in (0, 1))
    assert find(**plain, **cooperative) == skus[0].name
    assert find(**plain, **pingpong) == skus[1].name
    assert find(**plain | {"kTileN": "256", "kGated": "true"}, **cooperative) == skus[2].name
    assert find(**plain | {"kLayout": "(cutplan::GemmLayout)2"}, **cooperative) == skus[3].name
    assert find(**plain, **cooperative | {"Element": "cutlass::bfloat16_t"}) == skus[4].name
    with pytest.raises(ValueError, match="0 kernels"):
        find(**plain | {"kTileN": "64"}, **cooperative)
    matcher = machine_code.Matcher([*skus, skus[0]])
    with pytest.raises(ValueError, match="2 kernels"):
        find(**plain, **cooperative)


def test_entries_of_attention(machine_code: Any, sass: Any) -> None:
    same = {"category": "attention", "arch": "sm80", "tile": (64, 128, 96), "stages": 2}
    forward = _sku("fmha.sm80.f16.d96.64x128.s2", op="fmha", **same)
    backward = _sku("fmha_backward.sm80.f16.d96.64x128.s2", op="fmha_backward", **same)
    strict = _sku("fmha.sm80.f32.64x64.s1.strict", op="fmha", **same | {"a": "float32"})
    matcher = machine_code.Matcher([forward, backward, strict])
    unit = sass.Unit("fmha/sm80/f16_96", "sm80", {}, set())
    values = {"Element": "cutlass::half_t", "kDim": "96", "kTileM": "64", "kTileN": "128"}

    def find(function: str, configuration: str, rest: str, **more: str) -> Any:
        entry = _entry(machine_code, sass, f"fmha::sm80::{function}", configuration, rest, **values | more)
        return matcher.find(unit, entry)

    score = ", (cutplan::fmha::sm80::Scores)1"
    assert find("sm80_fmha_forward", "ForwardConfig", score, kSlots="2") == (forward.name, "bias")
    for rest, part in ((", false", "plain"), (", true", "options")):
        assert find("sm80_fmha_backward", "BackwardConfig", rest, kStages="2") == (backward.name, part)
    assert find("sm80_fmha_dbias", "BackwardConfig", "", kStages="2") == (backward.name, "dbias")
    scope = "cutplan::fmha::sm80"
    name = f"void {scope}::sm80_fmha_wide_forward<{scope}::CudaCores<float> >(cutplan::fmha::Problem)"
    assert matcher.find(unit, sass.Entry("", name)) == (strict.name, "forward")


def test_every_kernel_needs_an_entry(machine_code: Any, sass: Any) -> None:
    there, lacking = _sku("there"), _sku("lacking", layout="crr")
    values = {
        "Element": "cutlass::half_t",
        "kTileM": "128",
        "kTileN": "128",
        "kStages": "4",
        "kGated": "false",
        "kPromotes": "false",
    }
    enumerations = {"kLayout": "(cutplan::GemmLayout)0", "kSchedule": "(cutplan::gemm::sm90::Schedule)0"}
    entry = _entry(machine_code, sass, "gemm::sm90::sm90_gemm", "Config", **values, **enumerations)
    entry.name, entry.main_loop = entry.demangled, sass.Loop({"matrix": 1}, 0)
    helper = sass.Entry("_ZN7cutplan4gemm14split_k_reduceE")
    stranger = sass.Entry("_Z8strangerv", "stranger()")
    entries = {"sm_90a": {e.name: e for e in (entry, helper, stranger)}}
    units = [sass.Unit("gemm/sm90/f16_large", "sm90", entries, set())]
    tables, problems = machine_code.match(units, [there, lacking])
    assert [row.sku.name for row in tables["gemm", "sm90", "sm_90a"]] == ["there"]
    assert len(problems) == 2
    assert "stranger" in problems[0] and "no entry of lacking" in problems[1]


def test_a_further_family(machine_code: Any, sass: Any) -> None:
    """One of which the page is told nothing: every kernel is one entry, and the folder is the heading."""
    skus = [_sku("gemm.sm90.f16.a16"), _sku("scale.sm90.f16.a16", op="scale", category="elementwise")]
    values = {"Element": "cutlass::half_t", "kTileM": "128", "kTileN": "128", "kStages": "4"}
    enumerations = {"kLayout": "(cutplan::GemmLayout)0", "kSchedule": "(cutplan::gemm::sm90::Schedule)0"}
    entry = _entry(
        machine_code,
        sass,
        "gemm::sm90::sm90_gemm",
        "Config",
        kGated="false",
        kPromotes="false",
        **values,
        **enumerations,
    )
    entry.demangled = entry.demangled.replace("gemm::sm90::sm90_gemm<", "scale::sm90::sm90_scale<")
    entry.name, entry.main_loop = entry.demangled, sass.Loop({"matrix": 1}, 0)
    tables, problems = machine_code.match(
        [sass.Unit("scale/sm90/f16", "sm90", {"sm_90a": {entry.name: entry}}, set())], skus
    )
    assert not problems and list(tables) == [("scale", "sm90", "sm_90a")]
    assert [row.sku.name for row in tables["scale", "sm90", "sm_90a"]] == ["scale.sm90.f16.a16"]
    assert machine_code._title("scale", "sm90", "sm_90a") == "## scale: sm90 kernels, built for sm_90a"


# ---- speeds


def test_launches_of_a_kernel_count_as_the_kernel(machine_code: Any) -> None:
    for name in ("gemm.sm90.f16.a16", "gemm.sm90.f16.a16.k6", "grouped_gemm.sm90.f16.a16"):
        assert machine_code._kernel_of(name) == "gemm.sm90.f16.a16"
    assert machine_code._kernel_of("fmha_backward.sm80.f16.s2.ordered") == "fmha_backward.sm80.f16.s2"
    assert machine_code._kernel_of("fmha.sm80.f16.s4.k32") == "fmha.sm80.f16.s4"


def test_best_speeds_are_read_off_the_results(machine_code: Any) -> None:
    name = next(name for name, _, _, _, of_memory in machine_code._measurements() if not of_memory)
    rates = [rate for n, _, _, rate, of_memory in machine_code._measurements() if n == name and not of_memory]
    best = machine_code.speeds({name: 1000.0})
    assert best[name, False].fraction == pytest.approx(max(rates) / 1000)
    assert {n for n, _ in best} == {name}


# ---- the audit


def test_the_instruction_that_a_unit_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CI)
    instruction_of = importlib.import_module("audit").instruction_of
    for unit, instruction in {
        "gemm/sm80/i8_gated": "IMMA",
        "gemm/sm90/i8_few": "IGMMA",
        "gemm/sm90/e5m2_e4m3_large": "QGMMA",
        "gemm/sm90/bf16_packed": "HGMMA",
        "gemm/sm80/f16_large": "HMMA",
        "gemm/sm80/f32_tf32x3": "HMMA",
        "gemm/sm80/f32_strict": "FFMA",
        "gemm/sm80/f64": "DMMA",
        "gemm/sm80/f64_small": "DMMA",
        "gemm/sm90/f64": "DMMA",
        "gemm/sm90/f32": "HGMMA",
        "fmha/sm80/wide_kernels": "HMMA",
    }.items():
        assert instruction_of(unit, unit.split("/")[1], "sm_90") == instruction, unit
    for arch, instruction in {"sm_89": "QMMA", "sm_90": "HMMA"}.items():
        assert instruction_of("gemm/sm89/e4m3_e5m2", "sm89", arch) == instruction
