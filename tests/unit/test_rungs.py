"""Which trials of a search stop, from rows of table `rungs` alone."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from climb.config import load
from climb.search.reuse import ReusableRuns
from climb.search.trials import PROPOSAL, RECOMMENDED
from climb.spark.training.halving import Rungs, find_end
from climb.spark.training.search import _describe_search
from climb.spark.training.study import PlannedTrial, Study

DOMAINS = ("code", "news")
SPACE = SimpleNamespace(domains=DOMAINS)
TOKENS = (25, 50)


def plan(round_, n, method=PROPOSAL, first=0):
    """Plan n trials; the higher the number in the id, the higher the loss."""
    return [
        PlannedTrial(
            f"{method[0]}{round_}{first + i}", round_, method, {"code": 0.1, "news": 0.9}, i
        )
        for i in range(n)
    ]


def measure(planned, tokens, loss):
    row = {"trial_id": planned.trial_id, "n_tokens": tokens, "weights": planned.weights}
    return row | {"seed": planned.seed, "metrics": {"a.bpb": loss}, "seconds": 2.0 * tokens}


def open_rungs(rows, *settings):
    rungs = "[{share: 0.25, keep: 0.5}, {share: 0.5, keep: 0.5}]"
    cfg = load(settings=[f"search.halving={rungs}", *settings])
    study = SimpleNamespace(cfg=cfg, space=SPACE)
    return Rungs(study, TOKENS, {(row["trial_id"], row["n_tokens"]): row for row in rows})


BASELINES, FIRST, SECOND = plan(0, 3, "natural"), plan(0, 4), plan(1, 2)
AT_25 = [measure(p, 25, 9.0 + 0.1 * i) for i, p in enumerate(BASELINES)]
AT_25 += [measure(p, 25, float(i)) for i, p in enumerate(FIRST)]
AT_50 = [measure(p, 50, 9.0 + 0.2 * i) for i, p in enumerate(BASELINES)]
AT_50 += [measure(p, 50, -float(i)) for i, p in enumerate(FIRST[:2])]


def test_the_worst_half_stops_at_each_rung_and_replicates_of_baselines_never_do():
    found = open_rungs(AT_25 + AT_50).find_stopped(BASELINES + FIRST)
    assert found == {"p02": 25, "p03": 25, "p00": 50}


def test_only_the_first_rungs_decide_while_a_later_one_is_being_measured():
    rungs = open_rungs(AT_25 + AT_50[:4])
    assert rungs.find_stopped(BASELINES + FIRST, 0) == {}
    assert rungs.find_stopped(BASELINES + FIRST, 1) == {"p02": 25, "p03": 25}


def test_a_trial_that_failed_before_the_rung_is_not_counted_in_the_share():
    without_best = [row for row in AT_25 if row["trial_id"] != "p00"]
    found = open_rungs(without_best).find_stopped(BASELINES + FIRST, 1)
    assert found == {"p03": 25}  # of three, two go on


@pytest.mark.parametrize("settings", [(), ("search.scale=noise",)])
def test_later_rounds_and_rows_of_other_searches_change_no_earlier_choice(settings):
    rows = AT_25 + AT_50
    before = open_rungs(rows, *settings).find_stopped(BASELINES + FIRST)
    # A trial of another search, and one that this search stopped at 25 tokens.
    foreign = [measure(p, n, -99.0) for p in plan(0, 2, first=8) for n in TOKENS]
    foreign.append(measure(FIRST[3], 50, -99.0))
    later = [measure(p, n, -50.0 - i) for i, p in enumerate(SECOND) for n in TOKENS]
    rungs = open_rungs(later + foreign + rows, *settings)
    assert rungs.find_stopped(BASELINES + FIRST) == before
    after = rungs.find_stopped(BASELINES + FIRST + SECOND + plan(2, 2, RECOMMENDED))
    assert after == before | {"p10": 25}


def test_a_proposal_that_is_also_a_baseline_or_an_earlier_trial_is_never_stopped():
    same = PlannedTrial("n00", 0, PROPOSAL, BASELINES[0].weights, 0)
    again = PlannedTrial("p01", 1, PROPOSAL, FIRST[1].weights, 1)
    found = open_rungs(AT_25 + AT_50).find_stopped([*BASELINES, *FIRST, same, again])
    assert found == {"p02": 25, "p03": 25, "p00": 50}


def test_the_seconds_of_a_trial_include_those_before_the_last_rung():
    rungs = open_rungs(AT_25 + AT_50)
    assert [rungs.sum_seconds("p00", n) for n in (25, 50, 100)] == [0.0, 50.0, 100.0]


def test_a_search_without_rungs_reads_no_rows_and_stops_nothing():
    cfg = load(settings=["search.halving=[]"])
    study = SimpleNamespace(cfg=cfg, setup=SimpleNamespace(n_tokens=100), store=None)
    assert Rungs.read(study).find_stopped(BASELINES + FIRST) == {}


def test_a_replicate_of_the_recommendation_that_equals_a_stopped_proposal_is_trained_in_full():
    replicate = PlannedTrial("p02", 1, RECOMMENDED, FIRST[2].weights, 0)
    stopped = open_rungs(AT_25 + AT_50).find_stopped([*BASELINES, *FIRST, replicate])
    assert stopped["p02"] == 25
    assert find_end(FIRST[2], stopped) == 25
    assert find_end(replicate, stopped) is None


def open_study(rows):
    """A search without rungs over these rows of `trials`."""
    cfg = load(settings=["search.halving=[]", "search.replicates=0"])
    store = SimpleNamespace(exists=lambda _: True, read_rows=lambda _: rows)
    setup, problem = SimpleNamespace(n_tokens=100), SimpleNamespace(space=SPACE, baselines=())
    return Study(store, cfg, setup, problem, ReusableRuns(), {})


def rename(planned, method):
    return [dataclasses.replace(p, method=method) for p in planned]


@pytest.mark.parametrize("order", [("natural", "ours"), ("ours", "natural")])
def test_baselines_of_one_mixture_share_their_trials_which_count_once_for_the_predictor(order):
    losses = [1.00, 1.02, 0.97]
    rows = [measure(p, 100, v) for p, v in zip(BASELINES, losses, strict=True)]
    rows = [row | {"status": "finished"} for row in rows]
    study = open_study(rows)
    planned = [trial for method in order for trial in rename(BASELINES, method)]
    trials = Rungs.read(study).read_trials(planned)
    replicates = trials.group_replicates()
    assert replicates.counts_D.tolist() == [3]
    assert replicates.noise_Q == pytest.approx([np.std(losses, ddof=1)])
    assert trials.methods_T == ("natural",) * 3  # mixture reuse looks for it
    measured = study.to_trials(study.read_recorded(planned))
    assert [len(measured.with_method(method)) for method in order] == [3, 3]


def test_trials_that_two_baselines_share_count_once_in_the_noise_that_scales_the_score():
    """Metric a varies over seeds of one mixture, metric b over those of another, equally much."""
    natural, other = plan(0, 2, "natural"), plan(0, 2, "uniform")
    other = [dataclasses.replace(p, weights={"code": 0.5, "news": 0.5}) for p in other]
    losses = [(0.0, 0.0), (0.1, 1.0), (0.0, 0.0), (1.0, 0.1), (1.0, 0.0), (0.0, 1.1)]
    rows = [
        measure(p, 25, a) | {"metrics": {"a.bpb": a, "b.bpb": b}}
        for p, (a, b) in zip([*natural, *other, *FIRST[:2]], losses, strict=True)
    ]
    rungs = open_rungs(rows, "search.scale=noise", "search.down_weight=false")
    alone = [*natural, *other, *FIRST[:2]]
    assert rungs.find_stopped(alone, 1) == {"p01": 25}
    assert rungs.find_stopped([*rename(natural, "ours"), *alone], 1) == {"p01": 25}


def test_a_failed_trial_that_two_baselines_share_is_one_failure():
    planned = [*FIRST, *BASELINES, *rename(BASELINES, "ours")]
    rows = [measure(p, 100, float(i)) for i, p in enumerate([*FIRST, *BASELINES])]
    rows = [row | {"status": "failed" if row["trial_id"] == "n01" else "finished"} for row in rows]
    assert _describe_search(open_study(rows), planned, None)["n_failed"] == 1
