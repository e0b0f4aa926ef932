"""The cost of repeated text, in a planted world with one small domain."""

import csv
import json

import numpy as np
import pytest

from climb.config import load
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.runs.commands import propose, recommend
from climb.runs.sets import RunFiles
from climb.search import Problem
from climb.search.repetition import Repetition, count_epochs, count_new_epochs
from climb.search.repetition_cost import measure_repetition
from climb.search.surrogate import SCORE, Surrogate
from climb.search.trials import Trials

DOMAINS = ("books", "code", "news", "web")
AVAILABLE_K = np.array([4e8, 4e10, 4e10, 4e11])
DECAY, TARGET = 4.0, 2e10
USE_QK = np.array([[2.0, 0.4, 0.5, 0.6], [1.6, 0.9, 0.3, 0.5]])
CFG = load(
    settings=[
        f"search.target_tokens={TARGET:.0f}",
        "search.max_epochs=null",
        "search.max_share_ratio=null",
        "search.candidates=500",
    ]
).search


def measure(weights_MK, tokens_M, decay):
    """Two losses; books are the best domain, and there are few."""
    if decay:
        weights_MK = Repetition(decay, AVAILABLE_K, TARGET).discount(weights_MK, tokens_M)
    effect_MQ = (USE_QK * ((weights_MK + 0.05) ** -0.25)[:, None, :]).sum(axis=2)
    return (1.5 + 3.0 * (tokens_M / 1e9) ** -0.3)[:, None] * np.exp(0.12 * (effect_MQ - 5.0))


def write_world(folder, decay, tokens=(1e9, 4e9), n=96, seed=0):
    """Write runs, each with one of the numbers of tokens, and the prior."""
    random = np.random.default_rng(seed)
    weights_MK = random.dirichlet(np.ones(4), n)
    tokens_M = np.resize(np.array(tokens), n)
    noise_MQ = 0.01 * random.normal(size=(n, 2))
    metrics_MQ = measure(weights_MK, tokens_M, decay) + noise_MQ
    header = ["tokens", *(f"weight.{name}" for name in DOMAINS), "metric.a", "metric.b"]
    with (folder / "runs.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([header, *np.column_stack([tokens_M, weights_MK, metrics_MQ]).tolist()])
    with (folder / "prior.csv").open("w", newline="") as stream:
        rows = zip(DOMAINS, AVAILABLE_K.tolist(), strict=True)
        csv.writer(stream).writerows([("domain", "tokens"), *rows])
    return RunFiles((folder / "runs.csv",)), folder / "prior.csv"


def recommend_in(folder, decay, **world):
    """Return the loss of the recommended mixture in the world, its record and the text."""
    runs, prior = write_world(folder, decay, **world)
    text = recommend(runs, prior, folder / "best.csv", CFG, "mean(*):min")
    record = json.loads((folder / "best.json").read_text())
    weights_1K = np.array([[record["weights"][name] for name in DOMAINS]])
    return float(measure(weights_1K, np.array([TARGET]), decay).mean()), record, text


def find_lowest_loss(decay):
    weights_MK = np.random.default_rng(1).dirichlet(np.ones(4), 20_000)
    return float(measure(weights_MK, np.full(20_000, TARGET), decay).mean(axis=1).min())


def test_text_helps_less_with_every_epoch_and_at_most_one_decay_more_than_once():
    new = count_new_epochs(np.array([1.0, 2.0, 4.0, 1e6]), DECAY)
    assert new[0] == 1.0
    assert (np.diff(new) > 0.0).all()
    assert new[1] < 2.0
    assert new[-1] == pytest.approx(1.0 + DECAY)
    assert count_new_epochs(4.0, 1e6) == pytest.approx(4.0, rel=1e-5)


def test_only_the_weight_of_repeated_domains_is_discounted():
    weights_MK, tokens_M = np.array([[0.5, 0.5, 0.0, 0.0]] * 3), np.array([8e8, 4e9, np.nan])
    np.testing.assert_allclose(
        count_epochs(weights_MK, tokens_M, AVAILABLE_K)[:, :2],
        [[1.0, 0.01], [5.0, 0.05], [0.0, 0.0]],
    )
    repetition = Repetition(DECAY, AVAILABLE_K, TARGET)
    effective_MK = repetition.discount(weights_MK, tokens_M)
    np.testing.assert_array_equal(effective_MK[[0, 2]], weights_MK[[0, 2]])
    five = 0.5 * count_new_epochs(5.0, DECAY) / 5.0
    np.testing.assert_allclose(effective_MK[1], [five, 0.5, 0.0, 0.0])
    # Mixtures that are predicted have the epochs of the target run.
    target = 0.5 * count_new_epochs(25.0, DECAY) / 25.0
    np.testing.assert_allclose(repetition.discount(weights_MK)[0], [target, 0.5, 0.0, 0.0])


def test_runs_that_repeat_a_domain_teach_what_that_costs_at_more_epochs(tmp_path):
    loss, record, text = recommend_in(tmp_path, DECAY)
    cost = record["repetition"]
    assert DECAY / 2 <= cost["decay"] <= DECAY * 4
    assert loss < find_lowest_loss(DECAY) + 0.01
    assert record["result"]["repetition"]["decay"] == cost["decay"]
    assert record["result"]["repetition"]["epochs_per_weight"]["books"] == pytest.approx(50.0)
    assert "Repeated text helps less" in text
    assert "more than any run" in text
    # Without the tokens of the runs nothing can be learnt, and far too many books are recommended.
    lines = [line.split(",", 1)[1] for line in (tmp_path / "runs.csv").read_text().splitlines()]
    (tmp_path / "runs.csv").write_text("\n".join(lines))
    runs = RunFiles((tmp_path / "runs.csv",))
    text = recommend(runs, tmp_path / "prior.csv", tmp_path / "best.csv", CFG, "mean(*):min")
    blind = json.loads((tmp_path / "best.json").read_text())
    assert blind["weights"]["books"] > 1.5 * record["weights"]["books"]
    assert "What repetition costs is unknown" in text


def test_no_cost_is_found_where_repeated_text_is_as_good_as_new_text(tmp_path):
    loss, record, text = recommend_in(tmp_path, None)
    assert record["repetition"]["decay"] is None
    assert record["repetition"]["n_repeating"] >= 8
    assert record["result"]["repetition"] is None
    assert loss < find_lowest_loss(None) + 0.01
    assert "no cost of repetition was found" in text


def test_runs_that_hardly_repeat_text_say_nothing_about_its_cost(tmp_path):
    _, record, text = recommend_in(tmp_path, DECAY, tokens=(1e8,), n=24)
    assert record["repetition"]["n_repeating"] == 0
    assert record["repetition"]["decay"] is None
    assert (
        "The cost of this repetition is not measured: 0 mixtures of the runs repeat a domain"
        in text
    )


def test_runs_of_one_mixture_with_different_tokens_are_in_one_fold_and_are_no_replicates():
    weights_TK = np.repeat(np.random.default_rng(0).dirichlet(np.ones(4), 12), 2, axis=0)
    trials = Trials(
        DOMAINS,
        weights_TK,
        ("score",),
        np.arange(24.0)[:, None],
        np.zeros(24, dtype=np.int64),
        ("proposal",) * 24,
        np.zeros(24, dtype=np.int64),
        np.zeros(24),
        np.resize([1e9, 4e9], 24),
    )
    replicates = trials.group_replicates()
    assert (len(replicates.counts_D), replicates.n_mixtures) == (24, 12)
    seen = []

    class Recorder:
        def fit(self, weights_TK, values_T, noise_T):
            seen.append({tuple(row) for row in weights_TK.tolist()})
            return lambda weights_MK: (np.zeros(len(weights_MK)), np.ones(len(weights_MK)))

    surrogate = Surrogate.fit(trials, SCORE, Recorder())
    seen.clear()
    surrogate.predict_held_out(Recorder(), 0)
    every = {tuple(row) for row in weights_TK.tolist()}
    # A mixture is in the trials of four of the five folds, with all its tokens, or in none.
    assert len(seen) == 5
    assert sum(len(every - part) for part in seen) == len(every)


@pytest.mark.slow
def test_the_order_of_domains_does_not_change_the_measured_cost():
    random = np.random.default_rng(1)
    use_K, weights_TK = np.exp(random.normal(size=6)), random.dirichlet(np.ones(6), 40)
    tokens_K = np.array([1e9, 2e9, 3e8, 4e9, 1e9, 6e8])
    epochs_TK = weights_TK * 2e9 / tokens_K
    worth_TK = np.where(epochs_TK > 1, 7.0 - 6.0 * np.exp((1.0 - epochs_TK) / 6.0), epochs_TK)
    loss_T = 2.0 + ((worth_TK * tokens_K / 2e9 + 1e-3) ** 0.4 @ use_K + 0.3) ** -0.5
    loss_T += 0.1 * loss_T.std() * random.normal(size=40)
    found = []
    for order_K in (np.arange(6), np.arange(6)[::-1]):
        names = tuple(f"d{k}" for k in order_K)
        one = np.ones(40, dtype=np.int64)
        trials = Trials(
            *(names, weights_TK[:, order_K], ("a",), loss_T[:, None], 0 * one),
            *(("proposal",) * 40, 0 * one, np.zeros(40), np.full(40, 2e9)),
        )
        cfg = CFG.model_copy(update={"target_tokens": 2_000_000_000})
        space = FeasibleSet.from_constraints(names, tokens_K[order_K], cfg.mixture_constraints)
        problem = Problem.from_config(space, Objective.parse("a:min", ("a",)), cfg)
        found.append(measure_repetition(trials, problem))
    assert found[0].decay is not None
    assert found[0] == found[1]


@pytest.mark.slow
def test_proposals_use_the_measured_cost_too(tmp_path):
    runs, prior = write_world(tmp_path, DECAY)
    propose(runs, prior, tmp_path / "with.csv", 4, CFG, "mean(*):min")
    with (tmp_path / "with.csv").open() as stream:
        books = [float(row["weight.books"]) for row in csv.DictReader(stream)]
    assert np.mean(books) < 0.45
