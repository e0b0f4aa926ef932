"""Runs of several model sizes and token counts: one level, shared effects, and what they tell."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import spearmanr

from climb.cli.commands import climb
from climb.config import load
from climb.errors import InputError
from climb.objective import Objective
from climb.predictor.gp import GPPredictor
from climb.runs.commands import predict, recommend
from climb.runs.sets import RunFiles, Target, read_run_sets
from climb.search import Surrogate
from climb.search.scale import ScaledRuns, express_at
from climb.search.scale_curve import Scale, ScaleCurves
from climb.search.scale_dependence import measure_dependence
from climb.search.signal_to_noise import build_objective

DOMAINS = ("a", "b", "c", "d")
WEIGHTS_MK = np.random.default_rng(0).dirichlet(np.full(4, 1.5), size=24)
SIZES, TOKENS = (1e8, 3e8), (2e9, 4e9, 8e9, 16e9)
TARGET = Scale(3e8, 16e9)
SHIFT = 0.005


def curve(params, tokens):
    return 1.5 + 40.0 * params**-0.3 + 300.0 * tokens**-0.3


def effect(weights_MK, params=1.0, tokens=1.0, turn=0.0):
    """Data laws; `turn` makes the first domain more useful with more tokens."""
    slope = 0.25 + turn * np.log(tokens / 2e9)
    return slope * (weights_MK[:, 0] + 0.05) ** -0.2 + 0.2 * (weights_MK[:, 1] + 0.05) ** -0.3


def measure(weights_MK, params, tokens, turn=0.0):
    """Two metrics of mixtures at one scale."""
    loss_M = curve(params, tokens) * np.exp(effect(weights_MK, params, tokens, turn) - 0.6)
    return np.stack([loss_M, 0.8 * loss_M + 0.1 * weights_MK[:, 2]], axis=1)


def make_runs(sizes=SIZES, weights_MK=WEIGHTS_MK, noise=0.001, turn=0.0, few=()):
    """All mixtures at all sizes and tokens; `few`: a further size with its number of mixtures."""
    random = np.random.default_rng(1)
    parts = []
    for params, n in [*((size, len(weights_MK)) for size in sizes), *few]:
        for tokens in TOKENS:
            exact_MQ = measure(weights_MK[:n], params, tokens, turn)
            noisy_MQ = exact_MQ * np.exp(noise * random.normal(size=exact_MQ.shape))
            parts.append((weights_MK[:n], noisy_MQ, np.full(n, params), np.full(n, tokens)))
    columns = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return ScaledRuns(*columns, np.zeros(len(columns[0]), dtype=np.int64))


def test_the_curve_of_exact_means_is_found_between_and_near_the_settings():
    params_S, tokens_S = (x.reshape(-1) for x in np.meshgrid([1e8, 3e8, 6e8], TOKENS))
    means_SQ = curve(params_S, tokens_S)[:, None]
    curves = ScaleCurves.fit(params_S, tokens_S, means_SQ, np.ones(len(params_S)))
    at = np.array([2e8, 1.2e9]), np.array([6e9, 32e9])
    mean_SQ, std_SQ = curves.predict(*at)
    np.testing.assert_allclose(mean_SQ[:, 0], curve(*at), rtol=0.01)
    assert (np.abs(mean_SQ[:, 0] - curve(*at)) < 3.0 * std_SQ[:, 0]).all()
    assert std_SQ[1, 0] > std_SQ[0, 0]


def test_trials_of_all_sizes_are_expressed_at_the_target():
    expressed = express_at(make_runs(), TARGET, GPPredictor())
    assert len(expressed.weights_TK) == 2 * len(WEIGHTS_MK)
    assert (expressed.params_T == TARGET.params).sum() == len(WEIGHTS_MK)
    true_TQ = measure(expressed.weights_TK, 3e8, 16e9)
    np.testing.assert_allclose(expressed.metrics_TQ, true_TQ, rtol=0.01)


def test_mixtures_that_were_run_at_different_tokens_are_compared_without_their_level():
    """Each mixture at one number of tokens: the means of the settings differ by their mixtures."""
    weights_MK = np.random.default_rng(2).dirichlet(np.full(4, 1.5), size=60)
    tokens_M = np.resize(np.array(TOKENS[:2]), 60)
    metrics_MQ = np.stack(
        [measure(w[None], 3e8, t)[0] for w, t in zip(weights_MK, tokens_M, strict=True)]
    )
    runs = ScaledRuns(weights_MK, metrics_MQ, np.full(60, 3e8), tokens_M, np.arange(60))
    expressed = express_at(runs, Scale(3e8, TOKENS[1]), GPPredictor())
    true_TQ = measure(expressed.weights_TK, 3e8, TOKENS[1])
    error_TQ = np.log(expressed.metrics_TQ / true_TQ)
    is_far_T = runs.tokens_R[expressed.first_T] == TOKENS[0]
    shift_Q = error_TQ[is_far_T].mean(axis=0) - error_TQ[~is_far_T].mean(axis=0)
    assert np.abs(shift_Q).max() < SHIFT


def test_three_runs_of_the_target_size_determine_the_level():
    far = Scale(1.2e9, 16e9)
    with_few = express_at(make_runs(few=[(1.2e9, 3)]), far, GPPredictor())
    without = express_at(make_runs(), far, GPPredictor())
    true_Q = measure(WEIGHTS_MK, 1.2e9, 16e9).mean(axis=0)

    def level(expressed):
        return expressed.metrics_TQ[: len(WEIGHTS_MK)].mean(axis=0)

    np.testing.assert_allclose(level(with_few), true_Q, rtol=0.005)
    assert (with_few.level_std_Q < 0.5 * without.level_std_Q).all()
    assert (np.abs(level(without) - true_Q) < 3.0 * without.level_std_Q).all()


def test_a_size_that_is_off_the_curve_has_its_own_level():
    """For example because it was trained with other settings."""
    runs = make_runs(sizes=(1e8, 2e8, 3e8, 5e8), few=[(3.5e8, 3)])
    is_off_R1 = (runs.params_R == 3.5e8)[:, None]
    metrics_RQ = np.where(is_off_R1, 1.1, 1.0) * runs.metrics_RQ
    shifted = ScaledRuns(runs.weights_RK, metrics_RQ, runs.params_R, runs.tokens_R, runs.run_R)
    expressed = express_at(shifted, Scale(3.5e8, 16e9), GPPredictor())
    true_TQ = 1.1 * measure(expressed.weights_TK, 3.5e8, 16e9)
    np.testing.assert_allclose(expressed.metrics_TQ, true_TQ, rtol=0.01)


def test_runs_of_one_size_say_nothing_about_the_level_of_another():
    expressed = express_at(make_runs(sizes=(1e8,)), Scale(1e9, 16e9), GPPredictor())
    assert np.isnan(expressed.level_std_Q).all()
    order = spearmanr(expressed.metrics_TQ[:, 0], measure(expressed.weights_TK, 1e9, 16e9)[:, 0])
    assert order.statistic > 0.99


def test_the_level_of_few_runs_lies_in_its_interval():
    far = Scale(1.2e9, 16e9)
    expressed = express_at(make_runs(few=[(1.2e9, 3)], noise=0.01), far, GPPredictor())
    true_Q = measure(WEIGHTS_MK, 1.2e9, 16e9).mean(axis=0)
    level_Q = expressed.metrics_TQ[: len(WEIGHTS_MK)].mean(axis=0)
    assert (np.abs(level_Q - true_Q) < 3.0 * expressed.level_std_Q).all()


def test_runs_of_equal_tokens_say_nothing_about_the_level_at_others():
    runs = make_runs()
    last = runs.tokens_R == TOKENS[-1]
    parts = (runs.weights_RK, runs.metrics_RQ, runs.params_R, runs.tokens_R, runs.run_R)
    expressed = express_at(
        ScaledRuns(*(part[last] for part in parts)), Scale(3e8, 1e12), GPPredictor()
    )
    assert np.isnan(expressed.level_std_Q).all()


def test_a_metric_of_zeros_stays_zero_and_changes_nothing_else():
    runs = make_runs()
    with_zeros = ScaledRuns(
        runs.weights_RK,
        np.column_stack([runs.metrics_RQ, np.zeros(len(runs.run_R))]),
        runs.params_R,
        runs.tokens_R,
        runs.run_R,
    )
    expressed = express_at(with_zeros, TARGET, GPPredictor())
    np.testing.assert_allclose(expressed.metrics_TQ[:, 2], 0.0, atol=1e-6)
    plain = express_at(runs, TARGET, GPPredictor())
    np.testing.assert_allclose(expressed.metrics_TQ[:, :2], plain.metrics_TQ, rtol=1e-9)


def test_a_positive_metric_stays_positive_far_from_the_runs():
    """A steep curve, extrapolated with the exponent of the prior, would fall below 0."""
    weights_RK = np.repeat(WEIGHTS_MK, 2, axis=0)
    tokens_R = np.tile([2e9, 16e9], len(WEIGHTS_MK))
    metrics_R1 = np.where(tokens_R == 2e9, 50.0, 10.0)[:, None] * np.exp(0.1 * weights_RK[:, :1])
    n = len(tokens_R)
    runs = ScaledRuns(weights_RK, metrics_R1, np.full(n, 1e8), tokens_R, np.zeros(n, dtype=int))
    expressed = express_at(runs, Scale(1e8, 1e12), GPPredictor())
    assert (expressed.metrics_TQ > 0.0).all()
    order = spearmanr(expressed.metrics_TQ[:, 0], expressed.weights_TK[:, 0]).statistic
    assert order > 0.99
    assert np.isnan(expressed.level_std_Q).all()


def test_replicates_without_a_name_are_trials_of_their_own():
    runs = make_runs()
    twice = ScaledRuns(
        *(np.concatenate([part, part]) for part in (runs.weights_RK, runs.metrics_RQ)),
        *(np.concatenate([part, part]) for part in (runs.params_R, runs.tokens_R, runs.run_R)),
    )
    assert len(express_at(twice, TARGET, GPPredictor()).weights_TK) == 4 * len(WEIGHTS_MK)


def test_metrics_that_are_not_positive_have_additive_effects():
    runs = make_runs()
    shifted = ScaledRuns(
        runs.weights_RK, runs.metrics_RQ - 3.0, runs.params_R, runs.tokens_R, runs.run_R
    )
    assert (shifted.metrics_RQ < 0.0).any()
    expressed = express_at(shifted, TARGET, GPPredictor())
    true_TQ = measure(expressed.weights_TK, 3e8, 16e9) - 3.0
    assert np.abs(expressed.metrics_TQ - true_TQ).max() < 0.1


def test_late_checkpoints_count_most():
    """The best domain changes with tokens: an average over all checkpoints would be wrong."""
    runs = make_runs(turn=0.12)
    expressed = express_at(runs, TARGET, GPPredictor())
    true_T = measure(expressed.weights_TK, 3e8, 16e9, 0.12)[:, 0]
    assert spearmanr(expressed.metrics_TQ[:, 0], true_T).statistic > 0.98


@pytest.mark.parametrize("turn", [0.0, 0.12])
def test_a_dependence_on_tokens_is_found_where_there_is_one(turn):
    expressed = express_at(make_runs(turn=turn, noise=0.003), TARGET, GPPredictor())
    size, tokens = measure_dependence(expressed, np.array([-0.5, -0.5]), GPPredictor())
    assert tokens.is_beyond_noise is (turn > 0.0)
    assert size.n_mixtures == tokens.n_mixtures == len(WEIGHTS_MK)
    assert size.is_beyond_noise is False


def test_with_few_mixtures_at_two_sizes_the_dependence_is_unknown():
    expressed = express_at(make_runs(sizes=(1e8,), few=[(3e8, 4)]), TARGET, GPPredictor())
    size, _ = measure_dependence(expressed, np.array([-0.5, -0.5]), GPPredictor())
    assert size.n_mixtures == 4
    assert size.is_beyond_noise is None


CFG = load(settings=["search.candidates=300", "search.trials_per_round=[8, 4]"]).search


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_runs(path, runs, columns=("params", "tokens")):
    header = [*columns, *(f"weight.{d}" for d in DOMAINS), "metric.x", "metric.y"]
    scales = {"params": runs.params_R, "tokens": runs.tokens_R}
    rows = [
        [*(scales[c][r] for c in columns), *runs.weights_RK[r], *runs.metrics_RQ[r]]
        for r in range(len(runs.run_R))
    ]
    return write(path, header, rows)


@pytest.fixture
def files(tmp_path):
    unseen_MK = np.random.default_rng(3).dirichlet(np.full(4, 1.5), size=30)
    write_runs(tmp_path / "runs.csv", make_runs())
    write(tmp_path / "m.csv", [f"weight.{d}" for d in DOMAINS], unseen_MK)
    write(tmp_path / "prior.csv", ["domain", "tokens"], [[d, 1e12] for d in DOMAINS])
    return tmp_path, unseen_MK


def test_predict_answers_for_the_scale_that_is_asked_for(files):
    folder, unseen_MK = files
    for target, scale in ((Target(), (3e8, 16e9)), (Target(1e8, 4e9), (1e8, 4e9))):
        out = folder / "p.csv"
        text = predict(
            RunFiles([folder / "runs.csv"], target), folder / "m.csv", out, CFG, "mean(*):min"
        )
        with out.open() as file:
            means_M = np.array([float(row["metric.x.mean"]) for row in csv.DictReader(file)])
        np.testing.assert_allclose(means_M, measure(unseen_MK, *scale)[:, 0], rtol=0.03)
        assert f"converted to {scale[0]:.3g} parameters and {scale[1]:.3g} tokens" in text
        assert "from 192 rows of 48 trials (24 of 1e+08 parameters, 24 of 3e+08" in text


def test_recommend_asks_for_the_runs_that_determine_the_level(files):
    folder, _ = files
    out = folder / "best.csv"
    text = recommend(
        RunFiles([folder / "runs.csv"], Target(1e9, 16e9)),
        folder / "prior.csv",
        out,
        CFG,
        "mean(*):min",
    )
    assert "extrapolation from other sizes" in text
    assert "No dependence of the best mixture on model size was found" in text
    assert "Train 3 mixtures of your runs again, with 1e+09 parameters and 1.6e+10 tokens" in text
    assert "from 48 runs of 24 mixtures" in text
    assert "No mixture was trained twice" in text
    scale = json.loads((folder / "best.json").read_text())["scale"]
    assert scale["n_trials"] == 48
    assert scale["level_stds"]["score"] > 0.0


def recommend_with_cli(folder, *arguments):
    """Run the command; return what it printed and the epochs of all domains."""
    files = {name: folder / f"{name}.csv" for name in ("runs", "prior", "out")}
    options = [text for name, path in files.items() for text in (f"--{name}", str(path))]
    options += ["--set", "search.candidates=300", "--set", "search.max_epochs=50"]
    found = CliRunner().invoke(climb, ["recommend", *options, *arguments])
    assert found.exit_code == 0, found.output
    with files["out"].open() as file:
        rows = list(csv.DictReader(file))
    return found.output, sum(float(row["epochs"]) for row in rows) * 1e12


def test_the_target_run_has_the_tokens_that_are_asked_for_unless_it_has_its_own(files):
    folder, _ = files
    printed, tokens = recommend_with_cli(folder, "--tokens", "16e9")
    assert tokens == pytest.approx(16e9)
    assert "search.target_tokens" not in printed
    default = load().search.target_tokens  # configured, it counts like any other value
    own = ("--set", f"search.target_tokens={default}")
    printed, tokens = recommend_with_cli(folder, "--tokens", "16e9", *own)
    assert tokens == pytest.approx(default)
    assert "metrics are predicted for 1.6e+10 training tokens (--tokens), and epochs are" in printed
    _, tokens = recommend_with_cli(folder)
    assert tokens == pytest.approx(default)


@pytest.mark.parametrize("option", ["--params", "--tokens"])
@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1"])
def test_a_size_that_is_not_finite_or_not_above_zero_is_refused(files, option, value):
    folder, _ = files
    paths = [f"--{name}={folder}/{name}.csv" for name in ("runs", "prior", "out")]
    found = CliRunner().invoke(climb, ["recommend", *paths, option, value])
    assert found.exit_code == 2
    assert f"Invalid value for '{option}'" in found.output
    assert not (folder / "out.csv").exists()


def test_the_level_of_a_score_that_is_divided_by_noise_has_the_unit_of_the_score(tmp_path):
    runs = make_runs()
    runs = select_rows(runs, runs.tokens_R == TOKENS[-1])
    twice = ScaledRuns(
        *(np.concatenate([getattr(runs, f)] * 2) for f in ScaledRuns.__annotations__)
    )
    twice.metrics_RQ[len(runs.run_R) :] *= 1.001
    path = write_runs(tmp_path / "r.csv", twice)
    files, cfg = RunFiles([path], Target(8e8)), CFG.model_copy(update={"scale": "noise"})
    sets = read_run_sets(files, "mean(*):min", cfg)
    weights_Q = build_objective("mean(*):min", sets.own, cfg).weights_Q
    stds = sets.scale.level_stds
    assert stds["score"] == pytest.approx(np.abs(weights_Q) @ [stds["x"], stds["y"]])
    assert np.abs(weights_Q).min() > 5.0
    header, out = [f"weight.{d}" for d in DOMAINS], tmp_path / "p.csv"
    predict(files, write(tmp_path / "m.csv", header, WEIGHTS_MK[:3]), out, cfg, "mean(*):min")
    with out.open() as file:
        for row in csv.DictReader(file):
            means_Q = [float(row[f"metric.{name}.mean"]) for name in ("x", "y")]
            assert float(row["score.mean"]) == pytest.approx(weights_Q @ means_Q)


def test_sizes_that_are_one_group_have_the_largest_as_the_target(tmp_path):
    runs = make_runs(sizes=(1e8, 1.008e8, 1.016e8))
    path = write_runs(tmp_path / "r.csv", select_rows(runs, runs.tokens_R == TOKENS[-1]))
    sets = read_run_sets(RunFiles([path]), "mean(*):min", CFG)
    assert sets.scale.sizes == ((1.016e8, 72),)
    assert sets.scale.has_level


def test_runs_of_one_scale_are_used_as_they_are(files):
    folder, _ = files
    runs = make_runs(sizes=(1e8,))
    last = runs.tokens_R == TOKENS[-1]
    one = ScaledRuns(
        *(getattr(runs, f)[last] for f in ("weights_RK", "metrics_RQ", "params_R")),
        runs.tokens_R[last],
        runs.run_R[last],
    )
    texts = []
    for name, columns in (("with.csv", ("params", "tokens")), ("without.csv", ())):
        write_runs(folder / name, one, columns)
        out = folder / f"p_{name}"
        predict(RunFiles([folder / name]), folder / "m.csv", out, CFG, "mean(*):min")
        texts.append(out.read_bytes())
    assert texts[0] == texts[1]


def test_a_target_without_the_column_is_one_clear_line(files):
    folder, _ = files
    write_runs(folder / "plain.csv", make_runs(sizes=(1e8,)), ("tokens",))
    with pytest.raises(InputError, match=r"--params 1e\+09 needs a column 'params' in .*plain"):
        predict(
            RunFiles([folder / "plain.csv"], Target(1e9)),
            folder / "m.csv",
            folder / "p.csv",
            CFG,
            "x:min",
        )


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "column 'tokens' is empty in 1 of 192 runs"),
        ("-5", "column 'tokens' contains '-5'; expected a number above 0"),
        ("many", "column 'tokens' contains 'many'; expected a number above 0"),
    ],
)
def test_tokens_that_are_missing_or_no_number_are_refused(files, cell, message):
    folder, _ = files
    text = (folder / "runs.csv").read_text().splitlines()
    first = text[1].split(",")
    first[1] = cell
    (folder / "runs.csv").write_text("\n".join([text[0], ",".join(first), *text[2:]]) + "\n")
    with pytest.raises(InputError, match=message):
        predict(
            RunFiles([folder / "runs.csv"]), folder / "m.csv", folder / "p.csv", CFG, "mean(*):min"
        )


def test_the_tokens_of_the_size_that_is_asked_for_are_the_default(files):
    folder, _ = files
    runs = make_runs()
    kept = (runs.params_R == 1e8) | (runs.tokens_R <= 4e9)
    parts = (runs.weights_RK, runs.metrics_RQ, runs.params_R, runs.tokens_R, runs.run_R)
    write_runs(folder / "r.csv", ScaledRuns(*(part[kept] for part in parts)))
    asked = RunFiles([folder / "r.csv"], Target(params=1e8))
    text = predict(asked, folder / "m.csv", folder / "p.csv", CFG, "mean(*):min")
    assert "converted to 1e+08 parameters and 1.6e+10 tokens" in text


def test_runs_that_state_their_tokens_alone_do_not_speak_of_parameters(files):
    folder, _ = files
    write_runs(folder / "t.csv", make_runs(sizes=(1e8,)), ("tokens",))
    out = folder / "b.csv"
    text = recommend(RunFiles([folder / "t.csv"]), folder / "prior.csv", out, CFG, "mean(*):min")
    assert "converted to 1.6e+10 tokens, from 96 rows of 24 trials." in text
    assert "parameters" not in text
    target = json.loads(out.with_suffix(".json").read_text())["scale"]["target"]
    assert target == {"params": None, "tokens": 16e9}


def test_the_order_of_columns_does_not_change_predictions(files):
    folder, _ = files
    lines = [line.split(",") for line in (folder / "runs.csv").read_text().split()]
    order = [1, 0, 5, 4, 3, 2, 7, 6]
    (folder / "other.csv").write_text(
        "\n".join(",".join(line[i] for i in order) for line in lines) + "\n"
    )
    texts = []
    for name in ("runs.csv", "other.csv"):
        out = folder / "p.csv"
        text = predict(RunFiles([folder / name]), folder / "m.csv", out, CFG, "mean(*):min")
        texts.append((text, out.read_text()))
    assert texts[0] == texts[1]


def test_the_order_of_rows_does_not_change_trials(tmp_path):
    """Seeds ended at other tokens, and runs have names, so nothing but the rows has an order."""
    random = np.random.default_rng(4)
    runs = make_runs(sizes=SIZES[:2], noise=0.01)
    tokens_R = runs.tokens_R * (1.0 + random.uniform(0.0, 0.02, len(runs.tokens_R)))
    path = write_runs(tmp_path / "r.csv", dataclasses.replace(runs, tokens_R=tokens_R))
    header, *rows = path.read_text().splitlines()
    rows = [f"r{number},{row}" for number, row in enumerate(rows)]
    found = []
    for order in (np.arange(len(rows)), random.permutation(len(rows))):
        path.write_text("\n".join([f"run,{header}", *(rows[i] for i in order)]) + "\n")
        found.append(read_trials(path))
    for name in ("weights_TK", "metrics_TQ", "tokens_T", "scale_distance_T"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


@pytest.mark.slow
def test_other_sets_may_lack_the_scales_of_the_own_runs(files):
    folder, _ = files
    runs = make_runs(sizes=(1e8,))
    last = runs.tokens_R == TOKENS[-1]
    parts = (runs.weights_RK, runs.metrics_RQ, runs.params_R, runs.tokens_R, runs.run_R)
    write_runs(folder / "plain.csv", ScaledRuns(*(part[last] for part in parts)), ())
    both = RunFiles([folder / "runs.csv", folder / "plain.csv"], Target(3e8, 16e9))
    text = predict(both, folder / "m.csv", folder / "p.csv", CFG, "mean(*):min")
    assert "plain.csv: 24 runs" in text
    swapped = RunFiles([folder / "plain.csv", folder / "runs.csv"])
    text = predict(swapped, folder / "m.csv", folder / "p.csv", CFG, "mean(*):min")
    assert "runs.csv: " in text
    assert "converted to" not in text


def test_predicted_deviations_contain_the_error_of_the_level(files):
    folder, _ = files
    stds = []
    for params in (3e8, 3e10):
        out = folder / "p.csv"
        predict(
            RunFiles([folder / "runs.csv"], Target(params, 16e9)),
            folder / "m.csv",
            out,
            CFG,
            "mean(*):min",
        )
        with out.open() as file:
            stds.append(np.mean([float(row["metric.x.std"]) for row in csv.DictReader(file)]))
    assert stds[1] > 3.0 * stds[0]


def test_trials_that_ended_early_count_less(files):
    folder, _ = files
    runs = make_runs(sizes=(3e8,))
    is_early_mixture = runs.weights_RK[:, 2] > np.median(runs.weights_RK[:, 2])
    last = runs.tokens_R == np.where(is_early_mixture, TOKENS[0], TOKENS[-1])
    parts = (runs.weights_RK, runs.metrics_RQ, runs.params_R, runs.tokens_R, runs.run_R)
    write_runs(folder / "r.csv", ScaledRuns(*(part[last] for part in parts)))
    sets = read_run_sets(RunFiles([folder / "r.csv"]), "mean(*):min", CFG)
    distance_T = sets.trials.scale_distance_T
    assert set(np.round(distance_T, 3)) == {0.0, round(0.15 * np.log(8.0), 3)}
    assert (distance_T > 0.0).sum() == 12


def select_rows(runs, is_kept_R):
    parts = (runs.weights_RK, runs.metrics_RQ, runs.params_R, runs.tokens_R, runs.run_R)
    return ScaledRuns(*(part[is_kept_R] for part in parts))


def read_trials(path, target=None):
    return read_run_sets(RunFiles([path], target or Target()), "mean(*):min", GP_CFG).trials


def count_validating(trials):
    objective = Objective.parse("mean(*):min", trials.metric_names)
    return int(Surrogate.fit(trials, objective, GPPredictor()).validation_D.sum())


GP_CFG = load(settings=["search.predictor.use=climb.predictor.gp:GPPredictor"]).search


@pytest.mark.parametrize("n_large", [3, 4])
def test_runs_of_every_size_validate_predictions_for_the_largest(tmp_path, n_large):
    runs = make_runs(sizes=(1e8,), few=[(3e8, n_large)])
    last = select_rows(runs, runs.tokens_R == TOKENS[-1])
    trials = read_trials(write_runs(tmp_path / "r.csv", last))
    assert count_validating(trials) == len(WEIGHTS_MK) + n_large


def test_runs_that_ended_early_validate_predictions_too(tmp_path):
    runs = make_runs(sizes=(3e8,))
    is_whole_R = (runs.weights_RK[:, None] == WEIGHTS_MK[:4]).all(axis=2).any(axis=1)
    kept = select_rows(runs, runs.tokens_R == np.where(is_whole_R, TOKENS[-1], TOKENS[-2]))
    trials = read_trials(write_runs(tmp_path / "r.csv", kept))
    assert (trials.list_scale_distances() == 0.0).sum() == 4
    assert count_validating(trials) == len(WEIGHTS_MK)


def test_a_smaller_and_a_larger_size_are_not_replicates_of_each_other(tmp_path):
    runs = make_runs(sizes=(1e8, 3e8, 9e8))
    last = select_rows(runs, runs.tokens_R == TOKENS[-1])
    trials = read_trials(write_runs(tmp_path / "r.csv", last), Target(3e8))
    assert trials.group_replicates().counts_D.tolist() == [1] * 3 * len(WEIGHTS_MK)


@pytest.mark.parametrize("columns", [("params", "tokens"), ("tokens",)])
def test_seeds_that_ended_a_few_percent_of_the_tokens_apart_are_replicates(tmp_path, columns):
    random = np.random.default_rng(4)
    weights_RK = np.repeat(WEIGHTS_MK, 3, axis=0)
    n = len(weights_RK)
    tokens_R = 16e9 * (1.0 + random.uniform(-0.04, 0.04, n))
    noise_R1 = np.exp(0.01 * random.normal(size=(n, 1)))
    metrics_RQ = np.vstack(
        [measure(w[None], 3e8, t) for w, t in zip(weights_RK, tokens_R, strict=True)]
    )
    runs = ScaledRuns(weights_RK, metrics_RQ * noise_R1, np.full(n, 3e8), tokens_R, np.arange(n))
    path = write_runs(tmp_path / "r.csv", runs, columns)
    lines = path.read_text().splitlines()
    seeds = ["seed", *(str(r % 3) for r in range(n))]
    path.write_text("\n".join(f"{s},{line}" for s, line in zip(seeds, lines, strict=True)) + "\n")
    replicates = read_trials(path).group_replicates()
    assert replicates.counts_D.tolist() == [3] * len(WEIGHTS_MK)
    level_Q = metrics_RQ.mean(axis=0)
    np.testing.assert_allclose(replicates.noise_Q, 0.01 * level_Q, rtol=0.5)


def test_checkpoints_of_replicates_that_have_no_name_are_refused(tmp_path):
    """Their numbers would depend on the order of the rows."""
    runs = make_runs(sizes=(3e8,))
    twice = ScaledRuns(
        *(np.concatenate([getattr(runs, f)] * 2) for f in ScaledRuns.__annotations__)
    )
    twice.metrics_RQ[len(runs.run_R) :] *= 1.01
    path = write_runs(tmp_path / "r.csv", twice)
    message = (
        r"r\.csv: it is unknown which rows are checkpoints of one run: for 24 mixtures, several "
        r"rows have the same run, seed, params and tokens \(first: 2 rows of .*e\+09 tokens\), "
        "like several runs, and other rows differ from these only in tokens, like checkpoints; "
        "give every run its own name in column 'run'"
    )
    with pytest.raises(InputError, match=message):
        read_trials(path)
    lines = path.read_text().splitlines()
    names = ["run", *("first" if r < len(runs.run_R) else "second" for r in range(len(lines) - 1))]
    path.write_text("\n".join(f"{n},{line}" for n, line in zip(names, lines, strict=True)) + "\n")
    assert read_trials(path).group_replicates().counts_D.tolist() == [2] * len(WEIGHTS_MK)


def test_replicates_of_one_number_of_tokens_need_no_name(tmp_path):
    runs = make_runs(sizes=(1e8, 3e8))
    last = select_rows(runs, runs.tokens_R == TOKENS[-1])
    twice = ScaledRuns(
        *(np.concatenate([getattr(last, f)] * 2) for f in ScaledRuns.__annotations__)
    )
    twice.metrics_RQ[len(last.run_R) :] *= 1.01
    trials = read_trials(write_runs(tmp_path / "r.csv", twice))
    assert trials.group_replicates().counts_D.tolist() == [2] * 2 * len(WEIGHTS_MK)
