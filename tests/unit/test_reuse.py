"""Mixture reuse: mapped mixtures, their total variation distance, and noise of reused runs."""

import dataclasses

import numpy as np
import pytest

from climb.objective import Objective
from climb.predictor.xgboost import XGBoostPredictor
from climb.search import Surrogate, Trials
from climb.search.calibration import Calibration, cross_validate
from climb.search.reuse import (
    Overlap,
    ReusableRuns,
    ReusableTrials,
    ReuseSummary,
    map_mixtures,
    regroup,
)
from climb.search.surrogate import group_scores
from climb.testing.world import PlantedWorld

METRICS = ("x.bpb", "y.bpb")


def make_rows(mixtures, domains, level=0.0, method="proposal"):
    """Rows whose metrics are the mixture's first two weights plus a level."""
    return [
        {"round": 0, "method": method, "seed": seed}
        | {"weights": dict(zip(domains, map(float, mixture), strict=True))}
        | {"metrics": {"x.bpb": level + mixture[0], "y.bpb": level + mixture[1]}}
        for seed, mixture in enumerate(mixtures)
    ]


def make_overlap(**tokens):
    """From `old_new=tokens`; `none`: no domain."""
    pairs = {tuple(key.split("_")): n for key, n in tokens.items()}
    return Overlap.from_tokens(
        {tuple(None if name == "none" else name for name in pair): n for pair, n in pairs.items()}
    )


def test_weights_of_merged_domains_add_up_and_all_text_is_kept():
    merged = make_overlap(code_tech=30, docs_tech=10, law_law=60)
    mapped = map_mixtures(np.array([[0.2, 0.3, 0.5], [0.1, 0.3, 0.6]]), merged)
    assert merged.old == ("code", "docs", "law")
    assert merged.new == ("law", "tech")
    np.testing.assert_allclose(mapped.weights_TK, [[0.5, 0.5], [0.6, 0.4]])
    np.testing.assert_array_equal(mapped.kept_T, 1.0)
    # tech has 3 parts of code and 1 of docs; the second run read 1 and 3: half of its 0.4 differs.
    assert mapped.tv_distance_T == pytest.approx([0.175, 0.2])
    assert map_mixtures(np.array([[0.3, 0.1, 0.6]]), merged).tv_distance_T == pytest.approx(
        [0.0], abs=1e-12
    )


def test_the_weight_of_a_split_domain_is_divided_by_tokens_exactly():
    mapped = map_mixtures(np.array([[0.4, 0.6]]), make_overlap(a_x=10, a_y=30, b_z=5))
    np.testing.assert_allclose(mapped.weights_TK, [[0.1, 0.3, 0.6]])
    assert (mapped.kept_T[0], mapped.tv_distance_T[0]) == (1.0, 0.0)


def test_text_of_a_pruned_domain_is_not_kept_and_counts_as_distance():
    mapped = map_mixtures(
        np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]), make_overlap(a_x=8, a_none=2, b_none=9)
    )
    np.testing.assert_allclose(mapped.kept_T, [0.4, 0.8, 0.0])
    np.testing.assert_allclose(mapped.tv_distance_T, [0.6, 0.2, 1.0])
    np.testing.assert_allclose(mapped.weights_TK, [[1.0], [1.0], [0.0]])


def test_new_text_was_not_read_and_counts_as_distance():
    mapped = map_mixtures(np.array([[1.0, 0.0], [0.0, 1.0]]), make_overlap(a_x=6, none_x=4, b_y=5))
    np.testing.assert_array_equal(mapped.weights_TK, np.eye(2))
    np.testing.assert_array_equal(mapped.kept_T, 1.0)
    np.testing.assert_allclose(mapped.tv_distance_T, [0.4, 0.0])


def test_tv_distance_is_the_total_variation_distance_over_documents():
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 50, size=(5, 4)).astype(float)
    names = [*"abcd", None]
    table = {
        (j, k): shared[i, m]
        for i, j in enumerate(names)
        for m, k in enumerate(["p", "q", "r", None])
    }
    weights_TJ = rng.dirichlet(np.ones(4), size=20)
    mapped = map_mixtures(weights_TJ, Overlap.from_tokens(table))
    # Both as distributions over pairs of old and new domain.
    run_TJK = weights_TJ[:, :, None] * (shared[:4] / shared[:4].sum(axis=1, keepdims=True))
    share_JK = shared[:, :3] / shared[:, :3].sum(axis=0)
    mixture_TJK = np.zeros((20, 5, 4))
    mixture_TJK[:, :, :3] = mapped.weights_TK[:, None, :] * share_JK
    run_TJK = np.concatenate([run_TJK, np.zeros((20, 1, 4))], axis=1)
    distance_T = 0.5 * np.abs(run_TJK - mixture_TJK).sum(axis=(1, 2))
    np.testing.assert_allclose(mapped.tv_distance_T, distance_T)
    assert (mapped.tv_distance_T >= 1.0 - mapped.kept_T).all()


def test_unchanged_domains_keep_mixtures_bit_identical():
    rng = np.random.default_rng(0)
    weights_TJ = rng.dirichlet(np.ones(7), size=50)
    tokens = {
        (name, c): float(n) for c, (name, n) in enumerate(zip("abcdefg", range(3, 10), strict=True))
    }
    for overlap in (
        Overlap.from_clusters(tokens, tokens),
        Overlap.from_tokens({(j, j): n for (j, _), n in tokens.items()}),
    ):
        mapped = map_mixtures(weights_TJ, overlap)
        np.testing.assert_array_equal(mapped.weights_TK, weights_TJ)
        np.testing.assert_array_equal(mapped.kept_T, 1.0)
        np.testing.assert_array_equal(mapped.tv_distance_T, 0.0)


def test_mapped_mixtures_do_not_depend_on_names_or_order_of_domains():
    old_tokens = {("a", 0): 4.0, ("b", 1): 6.0, ("b", 2): 2.0, (None, 3): 5.0}
    new_tokens = {("x", 0): 4.0, ("x", 1): 6.0, ("y", 2): 3.0, ("y", 3): 5.0}
    mapped = map_mixtures(np.array([[0.3, 0.7]]), Overlap.from_clusters(old_tokens, new_tokens))
    old = {({"a": "z", "b": "c"}.get(j), c): n for (j, c), n in reversed(old_tokens.items())}
    new = {({"x": "q", "y": "p"}[k], c): n for (k, c), n in reversed(new_tokens.items())}
    renamed = map_mixtures(np.array([[0.7, 0.3]]), Overlap.from_clusters(old, new))
    np.testing.assert_allclose(renamed.weights_TK, mapped.weights_TK[:, ::-1])
    assert renamed.tv_distance_T == pytest.approx(mapped.tv_distance_T)


def test_the_overlap_from_clusters_counts_pruned_and_new_text_and_documents_without_a_cluster():
    old = {("a", 0): 10.0, ("a", 1): 20.0, ("b", 2): 30.0, (None, 3): 7.0, ("b", None): 5.0}
    new = {("x", 0): 12.0, (None, 1): 20.0, ("y", 2): 30.0, ("y", 3): 9.0, ("y", 4): 4.0}
    overlap = Overlap.from_clusters(old, new)
    np.testing.assert_array_equal(overlap.shared_JK, [[10.0, 0.0], [0.0, 30.0]])
    np.testing.assert_array_equal(overlap.old_J, [30.0, 35.0])
    np.testing.assert_array_equal(overlap.new_K, [12.0, 43.0])
    np.testing.assert_allclose(overlap.share_JK, [[1 / 3, 0], [0, 6 / 7]])


def test_a_cluster_in_two_new_domains_is_divided_in_proportion_to_tokens():
    overlap = Overlap.from_clusters(
        {("a", 0): 10.0}, {("x", 0): 30.0, ("y", 0): 10.0, (None, 0): 10.0}
    )
    np.testing.assert_allclose(overlap.shared_JK, [[6.0, 2.0]])
    assert overlap.share_JK.sum() == pytest.approx(0.8)


def test_tokens_are_regrouped_in_the_proportions_of_the_cluster():
    moved_BC = np.array([[6.0, 4.0, 0.0], [0.0, 5.0, 5.0], [0.0, 0.0, 0.0]])
    tokens = {
        ("a", 0): 20.0,
        ("b", 1): 10.0,
        (None, 0): 5.0,
        ("a", None): 1.0,
        ("b", 2): 7.0,
        ("b", 9): 2.0,
    }
    regrouped = regroup(tokens, moved_BC)
    assert regrouped == pytest.approx(
        {
            ("a", 0): 12.0, ("a", 1): 8.0, ("a", None): 1.0,
            ("b", 1): 5.0, ("b", None): 5.0 + 7.0 + 2.0,
            (None, 0): 3.0, (None, 1): 2.0,
        }
    )  # fmt: skip
    assert sum(regrouped.values()) == pytest.approx(sum(tokens.values()))


def test_regrouping_twice_keeps_all_text_but_mixes_the_domains_of_a_shared_cluster():
    """Domains a and b become one cluster, which is split again."""
    merged = regroup({("a", 0): 30.0, ("b", 1): 10.0}, np.array([[30.0, 0.0], [10.0, 0.0]]))
    split = regroup(merged, np.array([[30.0, 10.0, 0.0]]))
    overlap = Overlap.from_clusters(split, {("a", 0): 30.0, ("b", 1): 10.0})
    np.testing.assert_allclose(overlap.share_JK, [[0.75, 0.25], [0.75, 0.25]])
    mapped = map_mixtures(np.array([[1.0, 0.0], [0.75, 0.25]]), overlap)
    np.testing.assert_allclose(mapped.kept_T, 1.0)
    np.testing.assert_allclose(mapped.tv_distance_T, [0.25, 0.0], atol=1e-12)


CHANGE = make_overlap(a_x=50, b_x=25, b_y=25, c_none=40)
OLD = [[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]


def make_reusable(min_kept=0.5, level=0.0):
    rows = make_rows(OLD, "abc", level)
    rows += make_rows([[0.4, 0.4, 0.2]] * 2, "abc", level, "natural")
    trials = Trials.from_rows(rows, tuple("abc"), METRICS)
    return ReusableRuns((ReusableTrials.from_trials(trials, CHANGE, min_kept),), len(trials))


def make_own(n=1):
    natural = make_rows([[0.7, 0.3]] * n, "xy", method="natural")
    return Trials.from_rows(natural + make_rows([[0.1, 0.9]], "xy"), ("x", "y"), METRICS)


def test_the_line_of_the_run_log_counts_reusable_runs():
    line = "5 finished runs of earlier domains, 4 reusable (77.5% of their text kept)"
    assert str(make_reusable()) == line
    assert str(ReusableRuns((), 7)) == "7 finished runs of earlier domains, 0 reusable"


def test_runs_that_keep_too_little_text_are_dropped_and_counted():
    summary = make_reusable().summarize(make_own())
    assert (summary.n_reused, summary.n_dropped) == (4, 1)
    assert summary.kept_min == pytest.approx(0.7)
    assert summary.kept_mean == pytest.approx((0.8 + 0.7 + 0.8 + 0.8) / 4)
    assert make_reusable(min_kept=0.1).summarize(make_own()).n_reused == 5
    assert ReusableRuns().summarize(make_own()) == ReuseSummary(0, 0, None, None, None)


def test_reused_runs_are_before_round_0_and_are_not_baselines():
    trials = make_reusable().add_to(make_own())
    assert trials.methods_T == ("reused",) * 4 + ("natural", "proposal")
    assert trials.rounds_T.tolist() == [-1] * 4 + [0, 0]
    assert len(trials.select_before(0)) == 4
    np.testing.assert_allclose(trials.weights_TK.sum(axis=1), 1.0)
    assert (trials.tv_distance_T[:4] > 0.1).all()
    assert trials.tv_distance_T[4:].tolist() == [0.0, 0.0]


def test_old_metrics_are_shifted_by_the_difference_of_the_natural_mixtures():
    plain, shifted = (
        make_reusable(level=level).add_to(make_own()).metrics_TQ for level in (0.0, 3.0)
    )
    np.testing.assert_allclose(shifted, plain)
    # natural: old (0.4, 0.4), new (0.7, 0.3); the run (0.5, 0.3) is shifted by (+0.3, -0.1)
    assert any(np.allclose(metrics_Q, [0.8, 0.2]) for metrics_Q in plain)


def test_runs_are_not_reused_if_a_new_constraint_moved_the_natural_mixture_far_away():
    """The difference of the metrics would be that of two mixtures, not that of two corpora."""
    natural = make_rows([[0.3, 0.7]], "xy", method="natural")
    own = Trials.from_rows(natural + make_rows([[0.1, 0.9]], "xy"), ("x", "y"), METRICS)
    assert make_reusable().add_to(own) is own
    summary = make_reusable().summarize(own)
    assert (summary.n_reused, summary.n_dropped) == (0, 5)


@pytest.mark.parametrize("missing", ["own natural", "old natural", "metric"])
def test_without_natural_mixtures_or_a_metric_no_run_is_reused(missing):
    own, reusable = make_own(), make_reusable()
    if missing == "own natural":
        own = own.select([method != "natural" for method in own.methods_T])
    elif missing == "old natural":
        proposals = reusable.by_domain_set[0].trials.with_method("proposal")
        reusable = ReusableRuns((ReusableTrials(proposals, np.ones(len(proposals))),), 5)
    else:
        own = own.replace_metrics(("x.bpb", "z.bpb"), own.metrics_TQ)
    assert reusable.add_to(own) is own
    summary = reusable.summarize(own)
    assert (summary.n_reused, summary.n_dropped) == (0, 5)


def test_the_noise_of_a_reused_run_is_proportional_to_its_tv_distance():
    replicates = make_reusable().add_to(make_own(n=3)).group_replicates()
    seeds_D = replicates.noise_Q / np.sqrt(replicates.counts_D)[:, None]
    extra_D = np.sqrt(np.square(replicates.noise_DQ) - np.square(seeds_D))[:, 0]
    own_D = replicates.tv_distance_D == 0.0
    assert own_D.sum() == 2
    np.testing.assert_array_equal(replicates.noise_DQ[own_D], seeds_D[own_D])
    ratio_D = extra_D[~own_D] / replicates.tv_distance_D[~own_D]
    np.testing.assert_allclose(ratio_D, ratio_D[0])
    assert ratio_D[0] > 0.0


def test_own_runs_have_the_noise_over_seeds_bit_identical():
    world = PlantedWorld.build(6, 2, 0.3, seed=1)
    mixtures_MK = world.space.sample(
        np.random.default_rng(0), 9, concentration=(0.1, 5.0), temperature=0.5
    )
    trials = world.make_trials(
        [world.make_row(w, 0, "proposal", seed) for w in mixtures_MK for seed in range(2)]
    )
    replicates = trials.group_replicates()
    expected_DQ = replicates.noise_Q / np.sqrt(replicates.counts_D)[:, None]
    np.testing.assert_array_equal(replicates.noise_DQ, expected_DQ)


def test_an_own_and_a_reused_run_of_the_same_mixture_are_not_replicates():
    own = make_own()
    reused = dataclasses.replace(own, tv_distance_T=np.full(len(own), 0.3))
    assert len(own.concatenate([own]).group_replicates().counts_D) == 2
    assert len(own.concatenate([reused]).group_replicates().counts_D) == 4


def test_the_order_of_concatenated_trials_does_not_depend_on_which_come_first():
    own = make_own(n=2)
    reused = make_reusable().by_domain_set[0].align_with(own)
    one, other = own.concatenate([reused]), reused.concatenate([own])
    np.testing.assert_array_equal(one.metrics_TQ, other.metrics_TQ)
    np.testing.assert_array_equal(one.tv_distance_T, other.tv_distance_T)
    assert one.methods_T == other.methods_T


def test_predictions_are_validated_by_own_runs_once_there_are_enough():
    world = PlantedWorld.build(6, 2, 0.3, seed=1)
    mixtures_MK = world.space.sample(
        np.random.default_rng(0), 16, concentration=(0.1, 5.0), temperature=0.5
    )
    trials = world.make_trials([world.make_row(w, 0, "proposal", 0) for w in mixtures_MK])
    reused = dataclasses.replace(
        trials.select(np.arange(16) >= 8),
        metrics_TQ=np.random.default_rng(1).normal(size=(8, 2)),
        tv_distance_T=np.full(8, 0.6),
    )
    own = trials.select(np.arange(16) < 8)
    together = own.concatenate([reused])
    surrogate = Surrogate.fit(together, world.objective, XGBoostPredictor())
    assert surrogate.validation_D.sum() == 8
    means_DQ, stds_DQ = surrogate.predict_held_out(XGBoostPredictor(), 0)
    quality = cross_validate(surrogate, together, XGBoostPredictor(), 0).quality
    own_D = surrogate.replicates.tv_distance_D == 0.0
    expected = Calibration.fit(
        surrogate.replicates.means_DQ[own_D, 0], means_DQ[own_D, 0], stds_DQ[own_D, 0], np.zeros(8)
    )
    assert quality["task0.bpb"] == expected.spearman
    few = own.select(np.arange(8) < 3).concatenate([reused])
    assert Surrogate.fit(few, world.objective, XGBoostPredictor()).validation_D.sum() == 11


@dataclasses.dataclass(frozen=True)
class Recorder:
    """A predictor that records the noise of its inputs."""

    recorded: list

    def fit(self, weights_TK, values_T, noise_T):
        self.recorded.append(noise_T)
        return lambda weights_MK: (np.zeros(len(weights_MK)), np.ones(len(weights_MK)))


def test_the_predictor_receives_the_noise_of_reused_runs():
    rows = make_rows([[0.7, 0.3]], "xy", method="natural")
    rows += make_rows([[0.1, 0.9], [0.5, 0.5]], "xy")
    trials = make_reusable().add_to(Trials.from_rows(rows, ("x", "y"), METRICS))
    recorder = Recorder([])
    surrogate = Surrogate.fit(trials, Objective.parse("mean(*):min", METRICS), recorder)
    for column, noise_T in enumerate(recorder.recorded):
        np.testing.assert_array_equal(noise_T, surrogate.replicates.noise_DQ[:, column])
        assert ((noise_T > 0.0) == (surrogate.replicates.tv_distance_D > 0.0)).all()
    scored = group_scores(trials, surrogate.objective)
    assert scored.known_noise_Q == pytest.approx([0.0], abs=1e-12)
    assert ((scored.noise_DQ[:, 0] > 1e-9) == (surrogate.replicates.tv_distance_D > 0.0)).all()
