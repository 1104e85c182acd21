"""Numbers at the ends of their range, and NaN where nothing is to be read: huge scores, biases of the lowest
and of the highest number, and keys that take no part."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import cutplan
from tests.fmha.oracle import attention
from tests.fmha.problems import SERVED, TORCH, Case, Problem, generator, is_backward, report
from tests.oracle import Reference, complaint

Results = dict[str, torch.Tensor]


def both(problem: Problem) -> Results:
    """What the forward writes, and what the backward makes of that; the same bits each time."""
    written = problem.run(problem.select())
    backward = problem.select_backward(deterministic=True)
    return written | problem.run(backward, given=(written["o"], written["lse"]))


def difference(
    got: Results, expected: Results, where: Callable[[str, torch.Tensor], torch.Tensor]
) -> str | None:
    """The first output with other bits, `where` taking from each what is to be compared."""
    for name, value in got.items():
        mine, other = where(name, value), where(name, expected[name])
        if not torch.equal(mine, other):
            wrong, nan = int((mine != other).sum()), int(mine.isnan().sum())
            return f"{name}: {wrong} of {mine.numel()} elements differ, {nan} are NaN"
    return None


def everything(_: str, value: torch.Tensor) -> torch.Tensor:
    return value


def exact_scores(problem: Problem, size: torch.Tensor) -> torch.Tensor:
    """Makes q and k such that every q_i k_j / 8 of batch entry b is exactly `size[b]`, a number of few bits,
    whatever the order and type in which products are summed. Returns the scores."""
    signs = torch.randint(0, 2, (problem.case.dim,), generator=problem.source, device=problem.device)
    signs = 2.0 * signs - 1
    # on the host, where powers of two are exact
    sizes = size.cpu()
    exponent = sizes.abs().log2().floor()
    half = ((exponent - 3) / 2).floor()  # 64 products, divided by 8
    shape = (-1, 1, 1, 1)
    problem.q.copy_(signs * (sizes * 2.0 ** (half - exponent)).view(shape).to(problem.device))
    problem.k.copy_(signs * (2.0 ** (exponent - 3 - half)).view(shape).to(problem.device))
    scores = (problem.q.double() @ problem.k.double().mT).div(8)
    assert torch.equal(scores, size.view(shape).expand_as(scores))
    return scores


def sizes(operand: str, source: torch.Generator) -> torch.Tensor:
    """Numbers of four bits and both signs, of every size that scores of these operands and float32 have."""
    highest = 32 if operand == "float16" else 120
    powers = (2.0 ** torch.arange(0, highest, dtype=torch.float64)).to(source.device)
    size = powers * torch.randint(8, 16, powers.shape, generator=source, device=source.device) / 8
    return torch.cat([size, -size])


def share(exact: torch.Tensor, magnitude: torch.Tensor, scores: torch.Tensor | None = None) -> Reference:
    """Held to the bound of scores of no size, weights that are right at any score; or of given `scores`."""
    magnitude = magnitude.expand_as(exact)
    sizes = torch.zeros_like(exact) if scores is None else scores.expand_as(exact)
    return Reference(exact, magnitude, magnitude * 2.0**-50, sizes)


def resolved(device: str, size: torch.Tensor) -> torch.Tensor:
    """The size of scores in whose weights the rounding of LSE shows: on a GPU of those below 2^15, from where
    on the backward does without it; on the host of none."""
    counts = (size.abs() < 2.0**15) & (device == "cuda")
    return torch.where(counts, size.abs(), 0.0).view(-1, 1, 1, 1)


def wrong(problem: Problem, written: Results, name: str, expected: Reference) -> str | None:
    plan = problem.select() if name == "o" else problem.select_backward(deterministic=True)
    return complaint(written[name], expected, plan.precision_guarantee, name)


@pytest.mark.parametrize("device, operand", SERVED)
def test_one_key_has_all_the_weight(device: str, operand: str, seed: int) -> None:
    """The softmax of one key is 1, whatever its score: O is v, dV the gradient, LSE the score."""
    source = generator(device, seed)
    size = sizes(operand, source)
    problem = Problem(Case(1, 1, batch=len(size), dtype=operand), device, source)
    scores = exact_scores(problem, size)
    written = both(problem)
    v, grad, coarse = problem.v.double(), problem.grad.double(), resolved(device, size)
    assert wrong(problem, written, "o", share(v, v.abs())) is None
    assert wrong(problem, written, "dv", share(grad, grad.abs(), coarse)) is None
    ulp = 2.0**-23 * scores[..., 0].abs().clamp(min=1.0)
    assert ((written["lse"].double() - scores[..., 0]).abs() <= 2 * ulp).all()
    # the gradient of a softmax of one key is 0
    terms = (problem.grad.double() * problem.v.double()).abs().sum(-1, keepdim=True)
    for name, other in (("dq", problem.k), ("dk", problem.q)):
        magnitude = 2 * terms * other.double().abs() / 8
        assert wrong(problem, written, name, share(torch.zeros_like(magnitude), magnitude, coarse)) is None


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("keys", [2, 77, 300])
def test_equal_scores_share_evenly(device: str, operand: str, keys: int, seed: int) -> None:
    """O is the mean of v at any score, and in the backward no weight exceeds 1."""
    source = generator(device, seed)
    size = sizes(operand, source)
    problem = Problem(Case(5, keys, batch=len(size), heads=1, dtype=operand), device, source)
    exact_scores(problem, size)
    written = both(problem)
    v, grad = problem.v.double(), problem.grad.double()
    mean = share(v.mean(2, keepdim=True).expand_as(problem.q), v.abs().mean(2, keepdim=True))
    assert wrong(problem, written, "o", mean) is None
    summed, terms = (x.sum(2, keepdim=True).expand_as(v) for x in (grad, grad.abs()))
    assert (written["dv"].double().abs() <= terms * (1 + 4 * torch.finfo(TORCH[operand]).eps)).all()
    # where a float32 LSE holds the number of keys, and on the host, which sums again from 2^13 on
    held = size.abs() <= (math.inf if device == "cpu" else 2.0**13)
    even = share(summed[held] / keys, terms[held] / keys)
    even = replace(even, scores=size[held].abs().clamp(max=2.0**13).view(-1, 1, 1, 1).expand_as(even.exact))
    guarantee = problem.select_backward(deterministic=True).precision_guarantee
    assert complaint(written["dv"][held], even, guarantee, "dv") is None


@pytest.mark.cuda
@pytest.mark.parametrize("operand", ["float16", "bfloat16"])
def test_splits_of_equal_scores_weigh_what_they_hold(operand: str, seed: int) -> None:
    """Splits of unequal numbers of keys, put together at any score: O is the mean of v."""
    source = generator("cuda", seed)
    size = sizes(operand, source)
    problem = Problem(Case(5, 300, batch=len(size), heads=1, dtype=operand), "cuda", source)
    exact_scores(problem, size)
    v = problem.v.double()
    mean = share(v.mean(2, keepdim=True).expand_as(problem.q), v.abs().mean(2, keepdim=True))
    properties, descriptor = cutplan.device_properties("cuda"), problem.descriptor()
    names = [
        name
        for name in (f"{sku.name}.k3" for sku in cutplan.fmha_registry() if not is_backward(sku))
        if cutplan.fmha_kernels(descriptor, properties, cutplan.PlanPreference(kernel=name))
    ]
    assert names
    failures = []
    for name in names:
        plan = problem.select(kernel=name)
        failures.append(complaint(problem.run(plan)["o"], mean, plan.precision_guarantee, name))
    report([failure for failure in failures if failure])


@pytest.mark.parametrize("device, operand", SERVED)
def test_far_apart_scores(device: str, operand: str, seed: int) -> None:
    """Where huge scores differ, the largest has all the weight, whatever keys come before it and after it."""
    keys, source = 200, generator(device, seed)
    size = sizes(operand, source)
    size = size[size.abs() >= 2**15]
    problem = Problem(Case(3, keys, batch=len(size), heads=1, dtype=operand), device, source)
    exact_scores(problem, size)
    place = torch.randint(0, keys, (len(size), 1, 1, 1), generator=source, device=device)
    winner = place == torch.arange(keys, device=device)[:, None]
    # all others are half of a positive score, or twice a negative one
    others = torch.where(size > 0, 0.5, 2.0).view(-1, 1, 1, 1)
    problem.k.mul_(torch.where(winner, torch.ones_like(others), others))
    assert problem.k.isfinite().all()
    written = both(problem)
    chosen = problem.v.gather(2, place.expand(-1, -1, 1, problem.case.dim)).double()
    assert wrong(problem, written, "o", share(chosen.expand_as(problem.q), chosen.abs())) is None
    grad = problem.grad.double()
    exact, terms = (winner * x.sum(2, keepdim=True) for x in (grad, grad.abs()))
    assert wrong(problem, written, "dv", share(exact, terms)) is None


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("end", ["lowest", "highest"])
def test_a_bias_at_the_end_of_its_range(device: str, operand: str, end: str, seed: int) -> None:
    """The lowest finite number is no mask, and the highest is a number: a row of either is a softmax like any
    other. Beside other keys those of the lowest have no weight, those of the highest all of it."""
    source = generator(device, seed)
    for bias in dict.fromkeys((operand, "float32")):
        low = torch.finfo(TORCH[bias]).min
        number = low if end == "lowest" else -low
        case = Case(150, 130, batch=1, dtype=operand, bias=bias)
        problem = Problem(case, device, source)
        problem.bias[:, :, 0::3] = number
        some = torch.rand(130, generator=source, device=device) < 0.4
        some[77] = True  # and not all
        problem.bias[:, :, 1::3] = torch.where(some, number, problem.bias[:, :, 1::3].double()).to(
            TORCH[bias]
        )
        forward, backward = problem.select(), problem.select_backward(deterministic=True)
        written = both(problem)
        assert written["lse"].isfinite().all()
        if bias == "float16":  # of a size that float32 can add to: the plan's own bound is to the point
            for name in written:
                plan = forward if name in ("o", "lse") else backward
                assert problem.wrong(plan, name, written[name], problem.expected_after_forward()) is None
            continue
        # float32 or float64 scores plus such a number are that number: of equal scores, whatever q and k are
        hidden = torch.zeros(150, 130, dtype=torch.bool, device=device)
        hidden[1::3] = some if end == "lowest" else ~some
        flat = problem.bias.double().clone()
        flat[:, :, 1::3] = flat[:, :, 1::3].where(~some, 0.0) if end == "lowest" else 0.0
        flat[:, :, 0::3] = 0.0
        operands = problem.operands()
        even = operands.q.clone()
        even[:, :, 0::3] = 0.0
        if end == "highest":
            even[:, :, 1::3] = 0.0
        exact = attention(replace(operands, q=even, bias=flat, mask=~hidden))
        assert complaint(written["o"], exact["o"], forward.precision_guarantee, "o") is None
        limit = (problem.grad.double().abs().sum(2, keepdim=True)) * (1 + 8 * torch.finfo(TORCH[operand]).eps)
        assert (written["dv"].double().abs() <= limit).all()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("operand", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_the_range(device: str, operand: str, sign: int, seed: int) -> None:
    """The lowest number as a bias and a score below zero, or the highest and one above: no infinity, but the
    largest number, so that scores are equal."""
    problem = Problem(Case(20, 50, batch=2, dtype=operand, bias=operand), device, generator(device, seed))
    size = 2.0**121 if operand != "float64" else 2.0**1000
    exact_scores(problem, torch.full((2,), sign * size, dtype=torch.float64, device=device))
    problem.bias.fill_(sign * torch.finfo(TORCH[operand]).max)
    forward = problem.select()
    written = both(problem)
    zero = torch.zeros((), dtype=TORCH[operand], device=device)
    operands = problem.operands()
    exact = attention(replace(operands, q=zero.expand_as(operands.q), bias=zero.expand_as(problem.bias)))
    assert complaint(written["o"], exact["o"], forward.precision_guarantee, "o") is None
    assert torch.equal(written["lse"], torch.full_like(written["lse"], sign * torch.finfo(torch.float32).max))
    assert all(value.isfinite().all() for value in written.values())


@pytest.mark.parametrize("operand", TORCH)
def test_gradients_of_rows_of_the_lowest(operand: str, seed: int) -> None:
    """On the host those of equal scores, though a float32 LSE of that size cannot hold how many they are."""
    problem = Problem(Case(70, 130, dtype=operand, bias="float32"), "cpu", generator("cpu", seed))
    problem.bias.fill_(torch.finfo(torch.float32).min)
    written = both(problem)
    if operand == "float64":  # which can tell such scores apart, but not by an LSE of float32
        assert all(value.isfinite().all() for value in written.values())
        return
    operands = problem.operands()
    exact = attention(replace(operands, q=torch.zeros_like(operands.q), bias=torch.zeros_like(problem.bias)))
    plan = problem.select_backward(deterministic=True)
    assert complaint(written["dv"], exact["dv"], plan.precision_guarantee, "dv") is None


@pytest.mark.parametrize("operand", TORCH)
def test_an_lse_of_more_keys(operand: str, seed: int) -> None:
    """An LSE from elsewhere is taken at its word, where it is coarse too: keys that are a part of what it was
    summed over keep the share that they have in it."""
    size = torch.tensor([2.0**k for k in range(4, 30, 5)], dtype=torch.float64)
    problem = Problem(Case(4, 40, batch=len(size), dtype=operand), "cpu", generator("cpu", seed))
    exact_scores(problem, size)
    written = problem.run(problem.select())
    lse = (
        (2 * size.view(-1, 1, 1)).float().expand_as(written["lse"]).contiguous()
    )  # the other keys' scores are twice these
    gradients = problem.run(problem.select_backward(), given=(written["o"], lse))
    assert (gradients["dv"].double().abs() <= torch.exp(-size.view(-1, 1, 1, 1)) * 5 * 40 * 10).all()


# ---- what takes no part


def beyond_lengths(case: Case, problem: Problem, value: float) -> None:
    """Fills what lies beyond the used keys of every operand."""
    for entry, used in enumerate(case.seqused_k or ()):
        first, end = 0, case.seq_k
        rows = slice(entry, entry + 1)
        if case.packed is not None:
            first = sum(keys for _, keys in case.packed[:entry])
            end, rows = first + case.packed[entry][1], slice(None)
        for x in (problem.k, problem.v):
            held = problem.canonical(x)
            part = held if case.packed is not None else held[rows]
            part[..., first + used : end, :] = value
        if problem.bias is not None:
            problem.bias[rows, ..., used:] = value


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_beyond_the_used_keys(device: str, operand: str, value: float, seed: int) -> None:
    """What is not a number in k, v and bias beyond seqused_k changes no bit, forward or backward."""
    source = generator(device, seed)
    options: tuple[dict[str, Any], ...] = (
        {"bias": operand},
        {"bias": "float32", "causal": "top_left"},
        {"layout": "bshd", "causal": "bottom_right", "heads_k": 1},
        {"packed": ((70, 100), (3, 1), (50, 200)), "seqused_k": (70, 0, 131)},
    )
    for option in options:
        case = Case(**{"seq_q": 90, "seq_k": 130, "dtype": operand, "seqused_k": (61, 130), **option})
        problem = Problem(case, device, source)
        beyond_lengths(case, problem, 0.0)
        expected = both(problem)
        beyond_lengths(case, problem, value)
        what = difference(both(problem), expected, everything)
        assert what is None, f"{case}: {what}"


@pytest.mark.parametrize("device, operand", SERVED)
def test_the_keys_of_other_sequences(device: str, operand: str, seed: int) -> None:
    """NaN in k and v of one packed sequence changes no bit of those around it."""
    problem = Problem(
        Case(dtype=operand, packed=((40, 50), (70, 80), (90, 33), (20, 44))), device, generator(device, seed)
    )
    expected = both(problem)
    for x in (problem.k, problem.v):
        x[:, 50:130] = torch.nan

    def others(name: str, x: torch.Tensor) -> torch.Tensor:
        first, end = (50, 130) if name in ("dk", "dv") else (40, 110)
        return torch.cat([x[:, :first], x[:, end:]], 1)

    assert difference(both(problem), expected, others) is None


HIDDEN: tuple[dict[str, Any], ...] = (
    {"causal": "top_left"},
    {"causal": "bottom_right"},
    {"window": (9, 4)},
    {"mask": "bhqk"},
    {"mask": "bhqk", "causal": "top_left", "softcap": 5.0},
)


def seen_by(problem: Problem) -> torch.Tensor:
    """Which keys each query of [batch, heads, seq_q, seq_k] sees."""
    c = problem.case
    i = torch.arange(c.seq_q, device=problem.device)[:, None]
    j = torch.arange(c.seq_k, device=problem.device)
    i = i if c.causal == "top_left" else i + c.seq_k - c.seq_q
    seen = torch.ones(c.batch, c.heads, c.seq_q, c.seq_k, dtype=torch.bool, device=problem.device)
    if c.causal:
        seen &= j <= i
    left, right = c.window
    seen &= (left < 0) | (j >= i - left)
    seen &= (right < 0) | (j <= i + right)
    return seen if problem.mask is None else seen & problem.mask


def judge(problem: Problem) -> Callable[[Results], str | None]:
    """Says what is wrong with results once NaN hides in what takes no part: they have the bits that they have
    now; or, where a bias of 16 bits makes a GPU compute their rows one by one, hold the plans' bounds."""
    if problem.device == "cpu" or problem.case.bias not in ("float16", "bfloat16"):
        expected = both(problem)
        return lambda written: difference(written, expected, everything)
    exact = problem.expected_after_forward()

    def judge_by_bounds(written: Results) -> str | None:
        forward, backward = problem.select(), problem.select_backward(deterministic=True)
        found = (
            problem.wrong(forward if name in ("o", "lse") else backward, name, value, exact)
            for name, value in written.items()
        )
        return next((what for what in found if what is not None), None)

    return judge_by_bounds


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("options", HIDDEN, ids=str)
def test_a_hidden_bias(device: str, operand: str, options: dict[str, Any], seed: int) -> None:
    """A bias of NaN wherever a query does not see the key reaches nothing, forward or backward."""
    for bias in dict.fromkeys((operand, "float32")):
        case = Case(**{"seq_q": 150, "seq_k": 170, "dtype": operand, "bias": bias, **options})
        problem = Problem(case, device, generator(device, seed))
        seen = seen_by(problem)
        assert not seen.all()
        problem.bias.masked_fill_(~seen, 0.0)
        what_is_wrong_with = judge(problem)
        for value in (torch.nan, torch.inf):
            problem.bias.masked_fill_(~seen, value)
            assert what_is_wrong_with(both(problem)) is None


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("options", HIDDEN, ids=str)
def test_a_hidden_key(device: str, operand: str, options: dict[str, Any], seed: int) -> None:
    """A NaN in k reaches O and LSE of the queries that see the key, and changes no bit of others."""
    case = Case(**{"seq_q": 150, "seq_k": 170, "batch": 1, "dtype": operand, **options})
    problem = Problem(case, device, generator(device, seed))
    seen = seen_by(problem)
    plan = problem.select()
    expected = problem.run(plan)
    some = seen.flatten(0, 2).any(0) & ~seen.flatten(0, 2).all(0)  # keys that some queries see
    key = some.nonzero()[torch.randint(0, int(some.sum()), (1,), generator=problem.source, device=device)]
    problem.k[:, :, key[0], 5] = torch.nan
    reached = seen[..., int(key)]
    written = problem.run(plan)
    for name in ("o", "lse"):
        assert written[name][reached].isnan().all(), name
        assert torch.equal(written[name][~reached], expected[name][~reached]), name


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("options", HIDDEN, ids=str)
def test_a_key_that_nobody_sees(device: str, operand: str, options: dict[str, Any], seed: int) -> None:
    """What is not a number in k and bias of a key that no query sees reaches nothing in either pass; but dQ
    on a GPU, which multiplies tiles of k whole."""
    case = Case(**{"seq_q": 60, "seq_k": 170, "dtype": operand, "bias": operand, **options})
    problem = Problem(case, device, generator(device, seed))
    if problem.mask is not None:
        lost = torch.rand(170, generator=problem.source, device=device) < 0.2
        lost[5] = True
        problem.mask &= ~lost
    lost = ~seen_by(problem).flatten(0, 2).any(0)
    if not lost.any():  # causal from the bottom right: every key is seen
        assert case.causal == "bottom_right"
        return
    what_is_wrong_with = judge(problem)
    problem.k[:, :, lost] = torch.nan
    problem.bias[..., lost] = torch.nan
    written = both(problem)
    if device == "cuda":
        written.pop("dq")
    assert what_is_wrong_with(written) is None


@pytest.mark.parametrize("operand", TORCH)
@pytest.mark.parametrize("options", HIDDEN, ids=str)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_the_host_multiplies_no_weight_of_zero(
    operand: str, options: dict[str, Any], value: float, seed: int
) -> None:
    """On the host what is not a number in v reaches those outputs alone that see it, and in the backward what
    is not one in any operand those gradients alone that it takes part in."""
    case = Case(**{"seq_q": 150, "seq_k": 170, "batch": 1, "heads": 3, "dtype": operand, **options})
    problem = Problem(case, "cpu", generator("cpu", seed))
    problem.q.div_(8)  # so that no weight underflows
    problem.__dict__.pop("expected", None)
    seen = seen_by(problem)
    given = problem.given
    forward, backward = problem.select(), problem.select_backward()
    expected = problem.run(forward) | problem.run(backward, given=given)
    held = {name: getattr(problem, name).clone() for name in ("q", "k", "v", "grad")}
    for name in ("q", "k", "v", "grad"):
        for other, x in held.items():
            getattr(problem, other).copy_(x)
        rows = case.seq_k if name in "kv" else case.seq_q
        chosen = torch.randint(0, rows, (2,), generator=problem.source)
        getattr(problem, name)[:, :, chosen, 7] = value
        part = seen[..., chosen] if name in "kv" else seen[..., chosen, :].mT
        other_side = part.any(-1)  # what meets a chosen row
        itself = torch.zeros(1, 3, rows, dtype=torch.bool)
        itself[:, :, chosen] = True
        queries, keys = (other_side, itself) if name in "kv" else (itself, other_side)
        # a query that meets one has a D or a weight that may not be a number: so may be all keys that it sees
        keys = keys | (seen & queries[..., None]).any(2)
        written = problem.run(forward) | problem.run(backward, given=given)
        for output, wrote in written.items():
            clean = ~keys if output in ("dk", "dv") else ~queries
            assert torch.equal(wrote[clean], expected[output][clean]), (name, output)
        if name == "v":
            assert not written["o"][..., 7][queries].isfinite().any()


def test_no_key_beyond_the_longest_row_is_read_as_a_score(seed: int) -> None:
    """The functional API on the operands that a padded batch of a framework has: uninitialised padding."""
    source = generator("cpu", seed)
    q, k, v = torch.randn(3, 2, 2, 70, 32, generator=source)
    used = torch.tensor([60, 33], dtype=torch.int32)
    for x in (k, v):
        x[0, :, 60:], x[1, :, 33:] = torch.nan, torch.nan
    o, lse = cutplan.attention(q, k, v, seqused_k=used, return_lse=True)
    gradients = cutplan.attention_backward(torch.ones_like(o), q, k, v, o, lse, seqused_k=used)
    assert all(x.isfinite().all() for x in (o, lse, gradients.dq, gradients.dk, gradients.dv))
