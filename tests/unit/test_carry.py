"""Runs of other domains: what they say of the present ones, and how far that can be believed."""

import dataclasses

import numpy as np
import pytest

from climb.objective import Objective
from climb.predictor.xgb import XGBoostPredictor
from climb.search import Surrogate, Trials
from climb.search.answer import judge
from climb.search.calibration import Calibration
from climb.search.carry import Earlier, Overlap, Past, carried, regrouped
from climb.testing.world import PlantedWorld

METRICS = ("x.bpb", "y.bpb")


def rows(mixtures, domains, level=0.0, method="proposal"):
    """Runs whose metrics depend on the mixture's first two weights."""
    return [
        {"round": 0, "method": method, "seed": seed}
        | {"weights": dict(zip(domains, map(float, mixture), strict=True))}
        | {"metrics": {"x.bpb": level + mixture[0], "y.bpb": level + mixture[1]}}
        for seed, mixture in enumerate(mixtures)
    ]


def overlap(**tokens):
    """`old_new=tokens`; `none` stands for no domain."""
    names = {tuple(key.split("_")): n for key, n in tokens.items()}
    return Overlap.of(
        {tuple(None if name == "none" else name for name in key): n for key, n in names.items()}
    )


def test_merged_domains_add_up_and_nothing_is_lost():
    merged = overlap(code_tech=30, docs_tech=10, law_law=60)
    said = carried(np.array([[0.2, 0.3, 0.5], [0.1, 0.3, 0.6]]), merged)
    assert merged.old == ("code", "docs", "law")
    assert merged.new == ("law", "tech")
    np.testing.assert_allclose(said.weights_TK, [[0.5, 0.5], [0.6, 0.4]])
    np.testing.assert_array_equal(said.kept_T, 1.0)
    # tech holds 3 parts of code to 1 of docs; the second run read 1 to 3: half of its 0.4 is other.
    assert said.doubt_T == pytest.approx([0.175, 0.2])
    assert carried(np.array([[0.3, 0.1, 0.6]]), merged).doubt_T == pytest.approx([0.0], abs=1e-12)


def test_a_split_domain_is_shared_as_its_tokens_are_and_is_exact():
    said = carried(np.array([[0.4, 0.6]]), overlap(a_x=10, a_y=30, b_z=5))
    np.testing.assert_allclose(said.weights_TK, [[0.1, 0.3, 0.6]])
    assert (said.kept_T[0], said.doubt_T[0]) == (1.0, 0.0)


def test_text_of_a_pruned_domain_is_lost_and_in_doubt():
    said = carried(
        np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]), overlap(a_x=8, a_none=2, b_none=9)
    )
    np.testing.assert_allclose(said.kept_T, [0.4, 0.8, 0.0])
    np.testing.assert_allclose(said.doubt_T, [0.6, 0.2, 1.0])
    np.testing.assert_allclose(said.weights_TK, [[1.0], [1.0], [0.0]])


def test_text_that_came_later_was_not_read_and_is_in_doubt():
    said = carried(np.array([[1.0, 0.0], [0.0, 1.0]]), overlap(a_x=6, none_x=4, b_y=5))
    np.testing.assert_array_equal(said.weights_TK, np.eye(2))
    np.testing.assert_array_equal(said.kept_T, 1.0)
    np.testing.assert_allclose(said.doubt_T, [0.4, 0.0])


def test_doubt_is_the_share_of_text_that_would_have_to_be_exchanged():
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 50, size=(5, 4)).astype(float)
    names = [*"abcd", None]
    table = {
        (j, k): shared[i, m]
        for i, j in enumerate(names)
        for m, k in enumerate(["p", "q", "r", None])
    }
    weights_TJ = rng.dirichlet(np.ones(4), size=20)
    said = carried(weights_TJ, Overlap.of(table))
    # Both as distributions over the cells of the table, written out.
    run_TJK = weights_TJ[:, :, None] * (shared[:4] / shared[:4].sum(axis=1, keepdims=True))
    parts_JK = shared[:, :3] / shared[:, :3].sum(axis=0)
    mixture_TJK = np.zeros((20, 5, 4))
    mixture_TJK[:, :, :3] = said.weights_TK[:, None, :] * parts_JK
    run_TJK = np.concatenate([run_TJK, np.zeros((20, 1, 4))], axis=1)
    distance_T = 0.5 * np.abs(run_TJK - mixture_TJK).sum(axis=(1, 2))
    np.testing.assert_allclose(said.doubt_T, distance_T)
    assert (said.doubt_T >= 1.0 - said.kept_T).all()


def test_the_same_domains_change_nothing_to_the_bit():
    rng = np.random.default_rng(0)
    weights_TJ = rng.dirichlet(np.ones(7), size=50)
    cells = {
        (name, c): float(n) for c, (name, n) in enumerate(zip("abcdefg", range(3, 10), strict=True))
    }
    for same in (
        Overlap.through(cells, cells),
        Overlap.of({(j, j): n for (j, _), n in cells.items()}),
    ):
        said = carried(weights_TJ, same)
        np.testing.assert_array_equal(said.weights_TK, weights_TJ)
        np.testing.assert_array_equal(said.kept_T, 1.0)
        np.testing.assert_array_equal(said.doubt_T, 0.0)


def test_other_names_and_another_order_of_domains_change_no_mixture():
    cells_then = {("a", 0): 4.0, ("b", 1): 6.0, ("b", 2): 2.0, (None, 3): 5.0}
    cells_now = {("x", 0): 4.0, ("x", 1): 6.0, ("y", 2): 3.0, ("y", 3): 5.0}
    here = carried(np.array([[0.3, 0.7]]), Overlap.through(cells_then, cells_now))
    then = {({"a": "z", "b": "c"}.get(j), c): n for (j, c), n in reversed(cells_then.items())}
    now = {({"x": "q", "y": "p"}[k], c): n for (k, c), n in reversed(cells_now.items())}
    there = carried(np.array([[0.7, 0.3]]), Overlap.through(then, now))
    np.testing.assert_allclose(there.weights_TK, here.weights_TK[:, ::-1])
    assert there.doubt_T == pytest.approx(here.doubt_T)


def test_the_overlap_through_clusters_counts_what_was_pruned_what_grew_and_what_has_no_cluster():
    then = {("a", 0): 10.0, ("a", 1): 20.0, ("b", 2): 30.0, (None, 3): 7.0, ("b", None): 5.0}
    now = {("x", 0): 12.0, (None, 1): 20.0, ("y", 2): 30.0, ("y", 3): 9.0, ("y", 4): 4.0}
    found = Overlap.through(then, now)
    np.testing.assert_array_equal(found.shared_JK, [[10.0, 0.0], [0.0, 30.0]])
    np.testing.assert_array_equal(found.old_J, [30.0, 35.0])
    np.testing.assert_array_equal(found.new_K, [12.0, 43.0])
    np.testing.assert_allclose(found.share_JK, [[1 / 3, 0], [0, 6 / 7]])


def test_a_cluster_that_two_new_domains_share_goes_to_both_in_proportion():
    found = Overlap.through({("a", 0): 10.0}, {("x", 0): 30.0, ("y", 0): 10.0, (None, 0): 10.0})
    np.testing.assert_allclose(found.shared_JK, [[6.0, 2.0]])
    assert found.share_JK.sum() == pytest.approx(0.8)


def test_cells_are_said_in_new_clusters_as_the_clusters_tokens_went():
    moved_BC = np.array([[6.0, 4.0, 0.0], [0.0, 5.0, 5.0], [0.0, 0.0, 0.0]])
    cells = {
        ("a", 0): 20.0,
        ("b", 1): 10.0,
        (None, 0): 5.0,
        ("a", None): 1.0,
        ("b", 2): 7.0,
        ("b", 9): 2.0,
    }
    said = regrouped(cells, moved_BC)
    assert said == pytest.approx(
        {
            ("a", 0): 12.0, ("a", 1): 8.0, ("a", None): 1.0,
            ("b", 1): 5.0, ("b", None): 5.0 + 7.0 + 2.0,
            (None, 0): 3.0, (None, 1): 2.0,
        }
    )  # fmt: skip
    assert sum(said.values()) == pytest.approx(sum(cells.values()))


def test_clusters_made_anew_and_back_lose_nothing_but_what_was_mixed_up():
    """Domains a and b become one cluster and part again: who was who is known no more."""
    there = regrouped({("a", 0): 30.0, ("b", 1): 10.0}, np.array([[30.0, 0.0], [10.0, 0.0]]))
    back = regrouped(there, np.array([[30.0, 10.0, 0.0]]))
    found = Overlap.through(back, {("a", 0): 30.0, ("b", 1): 10.0})
    np.testing.assert_allclose(found.share_JK, [[0.75, 0.25], [0.75, 0.25]])
    said = carried(np.array([[1.0, 0.0], [0.75, 0.25]]), found)
    np.testing.assert_allclose(said.kept_T, 1.0)
    np.testing.assert_allclose(said.doubt_T, [0.25, 0.0], atol=1e-12)


CHANGE = overlap(a_x=50, b_x=25, b_y=25, c_none=40)
THEN = [[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]


def past(least=0.5, level=0.0):
    then = rows(THEN, "abc", level) + rows([[0.4, 0.4, 0.2]] * 2, "abc", level, "natural")
    trials = Trials.from_rows(then, tuple("abc"), METRICS)
    return Past((Earlier.of(trials, CHANGE, least),), len(trials))


def own(n=1):
    natural = rows([[0.7, 0.3]] * n, "xy", method="natural")
    return Trials.from_rows(natural + rows([[0.1, 0.9]], "xy"), ("x", "y"), METRICS)


def test_a_line_says_how_many_runs_are_carried():
    assert str(past()) == "5 runs of earlier domains known, 4 carried: 77.5% of their text kept"
    assert str(Past((), 7)) == "7 runs of earlier domains known, 0 carried"


def test_runs_that_keep_too_little_are_left_out_and_counted():
    summary = past().summary(own())
    assert (summary["n"], summary["dropped"]) == (4, 1)
    assert summary["kept_min"] == pytest.approx(0.7)
    assert summary["kept_mean"] == pytest.approx((0.8 + 0.7 + 0.8 + 0.8) / 4)
    assert past(least=0.1).summary(own())["n"] == 5
    assert Past().summary(own()) == {
        "n": 0, "dropped": 0, "kept_mean": None, "kept_min": None, "doubt_mean": None,
    }  # fmt: skip


def test_carried_runs_come_before_round_0_and_are_no_baseline():
    joined = past().joined(own())
    assert joined.methods_T == ("carried",) * 4 + ("natural", "proposal")
    assert joined.rounds_T.tolist() == [-1] * 4 + [0, 0]
    assert len(joined.before(0)) == 4
    np.testing.assert_allclose(joined.weights_TK.sum(axis=1), 1.0)
    assert (joined.doubt_T[:4] > 0.1).all()
    assert joined.doubt_T[4:].tolist() == [0.0, 0.0]


def test_old_metrics_are_moved_by_what_natural_proportions_moved():
    plain, moved = (past(level=level).joined(own()).metrics_TQ for level in (0.0, 3.0))
    np.testing.assert_allclose(moved, plain)
    # natural: (0.4, 0.4) then, (0.7, 0.3) now; the run (0.5, 0.3) is moved by (+0.3, -0.1)
    assert any(np.allclose(metrics_Q, [0.8, 0.2]) for metrics_Q in plain)


@pytest.mark.parametrize("lacking", ["here", "there", "metric"])
def test_without_natural_proportions_or_a_metric_on_either_side_nothing_is_carried(lacking):
    here, before = own(), past()
    if lacking == "here":
        here = here.where([method != "natural" for method in here.methods_T])
    elif lacking == "there":
        old = before.earlier[0]
        proposals = old.trials.of("proposal")
        before = Past((Earlier(proposals, np.ones(len(proposals))),), 5)
    else:
        here = here.with_metrics(("x.bpb", "z.bpb"), here.metrics_TQ)
    assert before.joined(here) is here
    assert (before.summary(here)["n"], before.summary(here)["dropped"]) == (0, 5)


def test_a_carried_run_has_noise_in_proportion_to_what_is_in_doubt():
    joined = past().joined(own(n=3))
    repeats = joined.repeats()
    seeds_D = repeats.noise_Q / np.sqrt(repeats.counts_D)[:, None]
    extra_D = np.sqrt(np.square(repeats.noise_DQ) - np.square(seeds_D))[:, 0]
    certain = repeats.doubt_D == 0.0
    assert certain.sum() == 2
    np.testing.assert_array_equal(repeats.noise_DQ[certain], seeds_D[certain])
    ratio = extra_D[~certain] / repeats.doubt_D[~certain]
    np.testing.assert_allclose(ratio, ratio[0])
    assert ratio[0] > 0.0


def test_runs_without_doubt_have_the_noise_of_their_seeds_to_the_bit():
    world = PlantedWorld.of(6, 2, 0.3, seed=1)
    mixtures_MK = world.space.sample(
        np.random.default_rng(0), 9, concentration=(0.1, 5.0), temperature=0.5
    )
    trials = world.trials(
        [world.trial(w, 0, "proposal", seed) for w in mixtures_MK for seed in range(2)]
    )
    repeats = trials.repeats()
    expected_DQ = repeats.noise_Q / np.sqrt(repeats.counts_D)[:, None]
    np.testing.assert_array_equal(repeats.noise_DQ, expected_DQ)


def test_one_mixture_measured_here_and_carried_with_doubt_is_not_one_measurement():
    here = own()
    doubted = dataclasses.replace(here, doubt_T=np.full(len(here), 0.3))
    assert len(here.joined([here]).repeats().counts_D) == 2
    assert len(here.joined([doubted]).repeats().counts_D) == 4


def test_joined_trials_stand_in_one_order_whatever_came_first():
    here, before = own(n=2), past().earlier[0].beside(own(n=2))
    one, other = here.joined([before]), before.joined([here])
    np.testing.assert_array_equal(one.metrics_TQ, other.metrics_TQ)
    np.testing.assert_array_equal(one.doubt_T, other.doubt_T)
    assert one.methods_T == other.methods_T


def test_predictions_are_judged_by_runs_in_these_domains_once_there_are_enough():
    world = PlantedWorld.of(6, 2, 0.3, seed=1)
    mixtures_MK = world.space.sample(
        np.random.default_rng(0), 16, concentration=(0.1, 5.0), temperature=0.5
    )
    trials = world.trials([world.trial(w, 0, "proposal", 0) for w in mixtures_MK])
    doubted = dataclasses.replace(
        trials.where(np.arange(16) >= 8),
        metrics_TQ=np.random.default_rng(1).normal(size=(8, 2)),
        doubt_T=np.full(8, 0.6),
    )
    here = trials.where(np.arange(16) < 8)
    surrogate = Surrogate.fit(here.joined([doubted]), world.objective, XGBoostPredictor())
    assert surrogate.judged_D.sum() == 8
    means_DQ, stds_DQ = surrogate.held_out(XGBoostPredictor(), 0)
    quality = judge(surrogate, here.joined([doubted]), XGBoostPredictor(), 0).quality
    own = surrogate.repeats.doubt_D == 0.0
    expected = Calibration.of(
        surrogate.repeats.means_DQ[own, 0], means_DQ[own, 0], stds_DQ[own, 0], np.zeros(8)
    )
    assert quality["task0.bpb"] == expected.rank
    few = here.where(np.arange(8) < 3).joined([doubted])
    assert Surrogate.fit(few, world.objective, XGBoostPredictor()).judged_D.sum() == 11


@dataclasses.dataclass(frozen=True)
class Remembers:
    """A predictor that keeps what it was given."""

    seen: list

    def fit(self, weights_TK, values_T, noise_T):
        self.seen.append(noise_T)
        return lambda weights_MK: (np.zeros(len(weights_MK)), np.ones(len(weights_MK)))


def test_the_predictor_is_told_of_the_doubt():
    here = Trials.from_rows(
        rows([[0.7, 0.3]], "xy", method="natural") + rows([[0.1, 0.9], [0.5, 0.5]], "xy"),
        ("x", "y"),
        METRICS,
    )
    joined = past().joined(here)
    remembers = Remembers([])
    surrogate = Surrogate.fit(joined, Objective.parse("mean(*):min", METRICS), remembers)
    for column, noise_T in enumerate(remembers.seen):
        np.testing.assert_array_equal(noise_T, surrogate.repeats.noise_DQ[:, column])
        assert ((noise_T > 0.0) == (surrogate.repeats.doubt_D > 0.0)).all()
    noise_D, noise = surrogate.noise_of(joined, surrogate.objective)
    assert noise == pytest.approx(0.0, abs=1e-12)
    assert ((noise_D > 1e-9) == (surrogate.repeats.doubt_D > 0.0)).all()
