"""Successive halving within a round: regret against tokens spent, with and without.

    python benchmarks/halving.py                  # everything; finished proxies are kept
    python benchmarks/halving.py --seconds 240    # only train proxies, for so long

Published curves: a round of random mixtures is replayed, and the best predicted mixture of all is
chosen. Real proxies on the shared corpora: a round of the default search is trained, and the
recommendations are trained with further seeds. Both use climb's own code for the choice of the
trials that go on, and its default predictor. Bars: at most the regret of all trials in full, and at
most 60 % of their tokens.

Axes: D draws, P policies, M mixtures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from halving_proxies import SHARES, Lab, Size, Trial
from halving_replay import Array, Curves, Policy, load_multisize, replay_round
from scipy.stats import spearmanr
from section import HERE, Bar, Section, Table, run_section

from climb.config import build
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search import Problem, SearchState, Surrogate, Trials, propose
from climb.search.rounds import project_proposals
from climb.search.trials import PROPOSAL

TRIALS, DRAWS, SEEDS, REPLICATES, JUDGES = 32, 12, 3, 3, (1, 2)
"""JUDGES: seeds with which recommendations are trained; trials have seed 0."""

FULL, HALVED = Policy(TRIALS), Policy(TRIALS, ((0.25, 0.4),))
EQUAL = Policy(18)
REAL = (FULL, HALVED, EQUAL)
QUICK_REAL = (Policy(6), Policy(6, ((0.25, 0.4),)), Policy(4))
"""All trials in full, the same with a rung, and fewer in full with about the same tokens."""

REPLAYED = (
    *(Policy(n) for n in (13, 19, 32)),
    *(Policy(TRIALS, rungs) for rungs in (((0.1, 0.4),), ((0.2, 0.5),), ((0.3, 0.3),))),
)
WHOLE = REPLAYED[2]
MAX_SHARE = 0.6
QUICK = Size(chars=60_000, base_tokens=4_096, trial_tokens=16_384, items=10)
CACHE = HERE.parent / ".cache" / "halving"


def measure_draw(curves: Curves, policies: Sequence[Policy], draw: int) -> Array:
    """Return figures of one draw, shape (P, 2).

    The first column is the regret in standard deviations of the objective over mixtures; the second
    is the rank correlation of predicted and real scores of the mixtures that no policy trained.
    """
    order = np.random.default_rng(draw).permutation(len(curves.weights_TK)).tolist()
    predictor: Predictor = build({"use": "climb.predictor.default:DefaultPredictor"}, Predictor)
    objective = Objective.parse("mean(*):min", curves.metric_names)
    true_M = objective.score(curves.metrics_by_share[1.0])
    figures = []
    for policy in policies:
        trials = replay_round(curves, order, policy, objective)
        surrogate = Surrogate.fit(trials, objective, predictor)
        predicted_M = surrogate.predict_mean(curves.weights_TK)
        regret = (true_M.max() - true_M[predicted_M.argmax()]) / true_M.std()
        unseen = order[max(policy.n_trials for policy in policies) :]
        figures.append((regret, spearmanr(predicted_M[unseen], true_M[unseen])[0]))
    return np.array(figures)


def replay(size: str, curves: Curves, draws: int) -> tuple[Table, list[Bar]]:
    """Measure all policies on the published curves of one size."""
    with get_context("fork").Pool(2) as pool:
        task = partial(measure_draw, curves, REPLAYED)
        figures_DP2 = np.array(pool.map(task, range(draws), chunksize=1))
    regret_DP, rank_DP = figures_DP2[..., 0], figures_DP2[..., 1]
    rows = [
        (
            str(policy),
            f"{policy.cost / WHOLE.cost:.0%}",
            f"{regret_D.mean():.3f} +- {regret_D.std() / np.sqrt(draws):.3f}",
            f"{rank_D.mean():.3f}",
        )
        for policy, regret_D, rank_D in zip(REPLAYED, regret_DP.T, rank_DP.T, strict=True)
    ]
    bars = []
    for policy, regret_D in zip(REPLAYED, regret_DP.T, strict=True):
        if policy.rungs:
            change_D = regret_D - regret_DP[:, REPLAYED.index(WHOLE)]
            bars.append(compare_regret(size, policy, WHOLE, change_D))
    columns = ("round", "tokens", "regret", "Spearman, unseen mixtures")
    return Table(columns, tuple(rows), f"Replayed curves of {size} parameters"), bars


def compare_regret(where: str, policy: Policy, whole: Policy, change_D: Array) -> Bar:
    """Return the bar of a mean difference of regrets."""
    n = len(change_D)
    error = float(change_D.std(ddof=1) / np.sqrt(n)) if n > 1 else None
    name = f"{where}, regret of {policy}, minus that of {whole}"
    return Bar(name, float(change_D.mean()), at_most=0.0, form=".4f", std_error=error)


def plan_trials(
    lab: Lab, n_trials: int, seeds: int
) -> dict[int, tuple[Problem, list[Trial], list[str]]]:
    """Plan the trials of each search: its problem, its trials, and their methods.

    The searches share a pool of 1.5 times as many proposals: those of a first round, and half of
    another. Each search has its own draw of `n_trials` of them, in its own order.
    """
    nothing, pool = Trials.from_rows([], lab.domains, ()), list[Trial]()
    for part, n in enumerate((n_trials, n_trials // 2)):
        problem = lab.build_problem([f"search.trials_per_round=[{n_trials}]"], part)
        pool += [make_trial(weights_K, 0) for weights_K in propose(nothing, 0, problem)[:n]]
    plans = {}
    for seed in range(seeds):
        problem = lab.build_problem([f"search.trials_per_round=[{n_trials}]"], seed)
        trials, methods = [], []
        for baseline, weights_K in zip(problem.baselines, problem.make_baselines(), strict=True):
            trials += [make_trial(weights_K, replicate) for replicate in range(REPLICATES)]
            methods += [baseline.name] * REPLICATES
        order = np.random.default_rng(seed).permutation(len(pool))[:n_trials]
        trials += [pool[i] for i in order]
        methods += [PROPOSAL] * n_trials
        plans[seed] = (problem, trials, methods)
    return plans


def make_trial(weights_K: Array, seed: int) -> Trial:
    """Make the trial of a mixture."""
    return Trial(tuple(np.round(weights_K, 12).tolist()), seed)


def recommend_mixtures(
    lab: Lab, plan: tuple[Problem, list[Trial], list[str]], policies: Sequence[Policy]
) -> list[Array]:
    """Return the recommendation of a search with each policy, from the trained curves."""
    problem, trials, methods = plan
    known = lab.read_curves()
    names = tuple(sorted(known[trials[0]][1.0]))
    curves = Curves(
        lab.domains,
        names,
        np.array([trial.weights for trial in trials]),
        tuple(methods),
        np.array([trial.seed for trial in trials]),
        {s: np.array([[known[t][s][name] for name in names] for t in trials]) for s in SHARES},
    )
    objective = Objective.parse(problem.cfg.objective, names)
    found = []
    for policy in policies:
        round_ = replay_round(curves, range(len(trials)), policy, objective)
        state = SearchState.from_trials(round_, problem.with_objective(objective))
        best_K = state.problem.searcher.recommend(state)
        best_K = project_proposals(best_K, (len(lab.domains),), state.problem)
        found.append(best_K[state.restore_K])
    return found


def train_everything(lab: Lab, policies: Sequence[Policy], seeds: int, seconds: float) -> bool:
    """Train all trials, then all recommendations; return whether everything is trained."""
    plans = plan_trials(lab, policies[0].n_trials, seeds)
    trials = [trial for _, trials, _ in plans.values() for trial in trials]
    if not lab.train(trials, seconds):
        return False
    judged = [
        make_trial(weights_K, seed)
        for plan in plans.values()
        for weights_K in recommend_mixtures(lab, plan, policies)
        for seed in JUDGES
    ]
    return lab.train(judged, seconds)


def judge(lab: Lab, policies: Sequence[Policy], seeds: int) -> tuple[Table, Table, list[Bar]]:
    """Compare the recommendations by the loss of models trained on them."""
    known, plans = lab.read_curves(), plan_trials(lab, policies[0].n_trials, seeds)
    names = sorted(next(iter(known.values()))[1.0])
    objective = Objective.parse(plans[0][0].cfg.objective, names)

    def score(weights_K: Array) -> float:
        found = [known[make_trial(weights_K, seed)][1.0] for seed in JUDGES]
        return float(np.mean([objective.score_run(metrics) or np.nan for metrics in found]))

    loss_SP = -np.array(
        [[score(w_K) for w_K in recommend_mixtures(lab, plans[s], policies)] for s in range(seeds)]
    )
    regret_SP = loss_SP - loss_SP.min()
    rows = [
        (
            str(policy),
            f"{policy.cost / policies[0].cost:.0%}",
            *(f"{x:.4f}" for x in (*r, r.mean())),
        )
        for policy, r in zip(policies, regret_SP.T, strict=True)
    ]
    columns = ("round", "tokens", *(f"regret, seed {s}" for s in range(seeds)), "mean")
    bar = compare_regret(
        "real proxies", policies[1], policies[0], regret_SP[:, 1] - regret_SP[:, 0]
    )
    table = Table(columns, tuple(rows), "Real proxies: bits per byte of the recommendation")
    return table, rank_rungs(lab, plans, objective), [bar]


def rank_rungs(
    lab: Lab, plans: dict[int, tuple[Problem, list[Trial], list[str]]], objective: Objective
) -> Table:
    """Rank correlation of the score at each share of the tokens with the final score."""
    known, rows = lab.read_curves(), []
    for share in SHARES[:-1]:
        ranks = []
        for _, trials, methods in plans.values():
            own = [t for t, method in zip(trials, methods, strict=True) if method == PROPOSAL]
            partial_M, final_M = (
                [objective.score_run(known[t][s]) for t in own] for s in (share, 1.0)
            )
            ranks.append(float(spearmanr(partial_M, final_M)[0]))
        rows.append((f"{share:.1%}", *(f"{r:.3f}" for r in ranks)))
    columns = ("share of the tokens", *(f"seed {s}" for s in plans))
    return Table(columns, tuple(rows), "Real proxies: Spearman of partial and final scores")


def measure(args: argparse.Namespace) -> Section:
    draws, seeds, size, n_domains, real = DRAWS, SEEDS, Size(), None, REAL
    with tempfile.TemporaryDirectory() as scratch:
        folder = CACHE
        if args.quick:
            draws, seeds, size, n_domains, real = 1, 1, QUICK, 3, QUICK_REAL
            folder = Path(scratch)
        lab = Lab(folder, size, n_domains)
        seconds = float("inf") if args.seconds is None else args.seconds
        is_done = train_everything(lab, real, seeds, seconds)
        if args.seconds is not None:
            print(f"{len(lab.read_curves())} trials are trained; {'all' if is_done else 'not all'}")
            sys.exit(0)
        tables, bars = [], []
        for name, curves in load_multisize().items():
            table, found = replay(name, curves, draws)
            tables.append(table)
            bars += found
        regrets, ranks, found = judge(lab, real, seeds)
    share = max(p.cost for p in (*REPLAYED, HALVED) if p.rungs) / TRIALS
    bars.append(Bar("largest share of the tokens with rungs", share, at_most=MAX_SHARE, form=".1%"))
    return Section(
        "halving",
        "Search: regret with and without successive halving",
        f"Replayed: {draws} draws, regrets in standard deviations over mixtures. Real: {seeds} "
        f"searches with {real[0].n_trials} proposals and {2 * REPLICATES} baselines; the proposals "
        f"are draws of a pool with half as many more. Proxies of 0.4 M parameters, "
        f"{size.trial_tokens:,} tokens a trial, {len(lab.domains)} domains. Recommendations are "
        f"trained with {len(JUDGES)} other seeds; their regret, in bits per byte, is measured from "
        "the best of them. Tokens are those of the proposals.",
        (*tables, regrets, ranks),
        (*bars, *found),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, help="only train proxies, for so many seconds")
    run_section(measure, parser)
