"""The CSV commands predict, propose and recommend: files, printed text and error messages."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

from climb.cli.commands import climb
from climb.config import load
from climb.errors import ClimbError, ConfigError, InputError, MixtureError, SearchError
from climb.runs.commands import Extras, predict, propose, recommend
from climb.runs.prior import read_prior
from climb.runs.sets import RunFiles
from climb.runs.table import read_runs
from climb.testing.world import PlantedWorld

SETTINGS = (
    "search.candidates=300",
    "search.target_tokens=200000000",
    "search.predictor={use: climb.predictor.stack:StackPredictor}",
)
CFG = load(settings=SETTINGS).search
MEAN = "mean(*):min"
WORLD = PlantedWorld.build(4, 2, noise=0.1, seed=3)


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


HEADER = [
    *(f"weight.{d}" for d in WORLD.space.domains),
    *(f"metric.{m}" for m in WORLD.metric_names),
]


def run_rows(n, seed=0):
    mixtures_MK = WORLD.space.sample(
        np.random.default_rng(seed), n, concentration=(0.5, 5.0), temperature=0.5
    )
    trials = [WORLD.make_row(w, 0, "proposal", 0) for w in mixtures_MK]
    return [[*t["weights"].values(), *t["metrics"].values()] for t in trials]


@pytest.fixture
def files(tmp_path):
    """RUNS.csv with 24 runs, PRIOR.csv, and the path of the output."""
    prior = zip(WORLD.space.domains, WORLD.space.tokens_K.astype(int), strict=True)
    return (
        write(tmp_path / "runs.csv", HEADER, run_rows(24)),
        write(tmp_path / "prior.csv", ["domain", "tokens"], prior),
        tmp_path / "out.csv",
    )


def test_each_predicted_mixture_has_a_row_with_means_and_standard_deviations(files, tmp_path):
    runs, _, out = files
    unseen = run_rows(200, seed=9)
    mixtures = write(tmp_path / "m.csv", HEADER[:4], [r[:4] for r in unseen])
    printed = predict(RunFiles([runs]), mixtures, out, CFG, MEAN)
    rows = read(out)
    assert list(rows[0]) == [
        "row",
        *(f"metric.{m}.{part}" for m in WORLD.metric_names for part in ("mean", "std")),
        "score.mean",
        "score.std",
    ]
    assert [r["row"] for r in rows] == [str(i) for i in range(1, 201)]
    truth = -np.array([r[4:] for r in unseen]).mean(axis=1)
    means, stds = (np.array([float(r[f"score.{p}"]) for r in rows]) for p in ("mean", "std"))
    assert np.corrcoef(means, truth)[0, 1] > 0.9
    assert (np.abs(means - truth) < 1.645 * stds).mean() >= 0.7
    assert "Fitted 2 metrics on 24 runs and predicted 200 mixtures" in printed
    assert f"wrote {out}" in printed


def test_predictions_have_the_row_numbers_of_the_file_of_mixtures(files, tmp_path):
    runs, _, out = files
    rows = [r[:4] for r in run_rows(3, seed=9)]
    mixtures = write(tmp_path / "m.csv", HEADER[:4], [rows[0], [], rows[1], [""] * 4, rows[2]])
    predict(RunFiles([runs]), mixtures, out, CFG, MEAN)
    assert [r["row"] for r in read(out)] == ["1", "3", "5"]


def test_proposed_mixtures_are_feasible_and_distinct_and_their_number_is_n(files):
    runs, prior, out = files
    printed = propose(RunFiles([runs]), prior, out, 6, CFG, MEAN)
    weights_MK = np.array([[float(v) for v in r.values()] for r in read(out)])
    assert weights_MK.shape == (6, 4)
    assert list(read(out)[0]) == HEADER[:4]
    assert read_prior(prior, WORLD.space.domains, CFG).contains(weights_MK).all()
    assert len(np.unique(weights_MK.round(4), axis=0)) == 6
    assert "from 24 runs" in printed
    before = out.read_bytes()
    propose(RunFiles([runs]), prior, out, 6, CFG, MEAN)
    assert out.read_bytes() == before


def test_with_too_few_runs_the_proposals_fill_the_feasible_set(files):
    runs, prior, out = files
    write(runs, HEADER, run_rows(2))
    assert "2 runs have too few mixtures" in propose(RunFiles([runs]), prior, out, 5, CFG, MEAN)
    assert len(read(out)) == 5
    write(runs, HEADER, [])
    assert "0 runs have too few mixtures" in propose(RunFiles([runs]), prior, out, 5, CFG, MEAN)
    # search.scale=noise needs replicates; it is not applied before there are enough runs to fit.
    scaled = CFG.model_copy(update={"scale": "noise"})
    assert "0 runs have too few mixtures" in propose(RunFiles([runs]), prior, out, 5, scaled, MEAN)


def test_the_configured_searcher_proposes_from_the_first_run_on(files):
    runs, prior, out = files
    alone = {"use": "climb.search.searchers.published:SingleDomainSearcher"}
    cfg = CFG.model_copy(update={"searcher": alone, "max_epochs": None, "max_share_ratio": None})
    write(runs, HEADER, run_rows(2))
    assert "with SingleDomainSearcher" in propose(RunFiles([runs]), prior, out, 4, cfg, MEAN)
    largest = [max(float(v) for v in r.values()) for r in read(out)]
    assert min(largest) > 0.99


def test_a_recommendation_is_a_csv_file_a_json_file_and_printed_advice(files):
    runs, prior, out = files
    printed = recommend(RunFiles([runs]), prior, out, CFG, MEAN)
    rows, details = read(out), json.loads(out.with_suffix(".json").read_text())
    assert list(rows[0]) == ["domain", "weight", "natural", "epochs"]
    weights = {r["domain"]: float(r["weight"]) for r in rows}
    assert sum(weights.values()) == pytest.approx(1.0)
    assert details["weights"] == pytest.approx(weights)
    assert set(details["gain"]) == {"mean", "low", "high"}
    assert details["gain"]["low"] <= details["gain"]["mean"] <= details["gain"]["high"]
    assert details["verdict"] in ("gain", "no gain found")
    assert (details["verdict"] == "gain") == (details["gain"]["low"] > 0)
    assert 0.0 <= details["p_better"] <= 1.0
    assert details["result"]["noise"] == dict.fromkeys(WORLD.metric_names)
    epochs = {r["domain"]: float(r["epochs"]) for r in rows}
    tokens = dict(zip(WORLD.space.domains, WORLD.space.tokens_K.astype(int), strict=True))
    assert epochs == pytest.approx({d: weights[d] * 2e8 / tokens[d] for d in weights})
    for part in (
        "Gain over the natural mixture",
        "Verdict",
        "How reliable this is:",
        "Next steps:",
    ):
        assert part in printed
    assert "No mixture was trained twice" in printed


@pytest.mark.parametrize("limit", [0.05, 1.0])
def test_the_file_and_the_text_have_the_same_natural_mixture_also_if_it_is_not_feasible(
    files, limit
):
    runs, prior, out = files
    largest = WORLD.space.domains[int(WORLD.space.natural_K.argmax())]
    bound = f"search.constraints=[{{name: a, domains: [{largest}], max_weight: {limit}}}]"
    printed = recommend(
        RunFiles([runs]), prior, out, load(settings=(*SETTINGS, bound)).search, MEAN
    )
    natural = {r["domain"]: float(r["natural"]) for r in read(out)}
    mixtures = json.loads(out.with_suffix(".json").read_text())["result"]["mixtures"]
    assert natural == pytest.approx(next(m["weights"] for m in mixtures if m["name"] == "natural"))
    assert (natural[largest] == pytest.approx(limit)) == (limit < 1.0)
    note = f"Note: the constraints exclude the token shares of {prior}"
    assert (note in printed) == (limit < 1.0)


def test_recommended_mixtures_are_much_better_than_uniform(files):
    """24 noisy runs may mislead, so this checks the mean over six files of runs."""
    runs, prior, out = files
    regrets = []
    for seed in range(6):
        write(runs, HEADER, run_rows(24, seed))
        recommend(RunFiles([runs]), prior, out, CFG, MEAN)
        weights = {r["domain"]: float(r["weight"]) for r in read(out)}
        regrets.append(WORLD.compute_regret(np.array([weights[d] for d in WORLD.space.domains])))
    assert np.mean(regrets) < 0.2 * WORLD.compute_regret(WORLD.space.uniform_K)


def test_replicates_are_reported_as_observation_noise(files):
    runs, prior, out = files
    replicated = [*run_rows(24), [*run_rows(24)[0][:4], 1.3, 1.2]]
    write(runs, [*HEADER, "seed"], [[*r, i] for i, r in enumerate(replicated)])
    printed = recommend(RunFiles([runs]), prior, out, CFG, MEAN)
    assert "Observation noise of one run (standard deviation): task0.bpb" in printed
    result = json.loads(out.with_suffix(".json").read_text())["result"]
    assert result["noise"]["task0.bpb"] > 0


def test_a_recommendation_from_six_runs_warns_that_they_are_few(files):
    runs, prior, out = files
    write(runs, HEADER, run_rows(6))
    printed = recommend(RunFiles([runs]), prior, out, CFG, MEAN)
    assert "6 mixtures are few for 4 domains" in printed
    assert "climb propose" in printed


def test_the_rank_correlation_of_a_constant_metric_is_unknown(files):
    runs, prior, out = files
    write(runs, HEADER, [[*r[:5], 1.0] for r in run_rows(24)])
    printed = recommend(RunFiles([runs]), prior, out, CFG, MEAN)
    assert "the weakest metric is task1.bpb with unknown" in printed
    result = json.loads(out.with_suffix(".json").read_text())["result"]
    assert result["quality"][-1]["spearman"]["task1.bpb"] is None


def test_a_prior_of_shares_disables_the_constraint_on_epochs(files):
    _, prior, _ = files
    write(prior, ["domain", "tokens"], zip(WORLD.space.domains, [0.4, 0.3, 0.2, 0.1], strict=True))
    space = read_prior(prior, WORLD.space.domains, CFG)
    np.testing.assert_allclose(space.upper_K, 1.0)
    assert np.isnan(space.epochs(space.natural_K, CFG.target_tokens)).all()


def test_the_text_notes_that_shares_disable_the_constraint_on_epochs(files):
    runs, prior, out = files
    assert "epochs are unknown" not in recommend(RunFiles([runs]), prior, out, CFG, MEAN)
    write(prior, ["domain", "tokens"], zip(WORLD.space.domains, [0.4, 0.3, 0.2, 0.1], strict=True))
    for printed in (
        recommend(RunFiles([runs]), prior, out, CFG, MEAN),
        propose(RunFiles([runs]), prior, out, 2, CFG, MEAN),
    ):
        assert f"Note: {prior} has token shares, not tokens: epochs are unknown" in printed


@pytest.mark.parametrize("output", ["--out", "--pareto"])
def test_an_output_cannot_be_standard_output(files, tmp_path, monkeypatch, output):
    runs, prior, out = files
    monkeypatch.chdir(tmp_path)
    arguments = ["recommend", "--runs", runs, "--prior", prior, "--out", out, output, "-"]
    result = CliRunner().invoke(climb, [str(argument) for argument in arguments])
    assert isinstance(result.exception, InputError)
    assert "cannot be written to standard output; name a file" in str(result.exception)
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("command", ["propose --n 2", "predict", "recommend"])
def test_an_output_never_overwrites_a_file_of_the_configuration(files, tmp_path, command):
    runs, prior, _ = files
    conf = tmp_path / "conf.yaml"
    conf.write_text("search: {candidates: 300}\n")
    name, *more = command.split()
    second = ["--mixtures", runs] if name == "predict" else ["--prior", prior]
    arguments = [name, *more, "--runs", runs, *second, "--conf", conf, "--out", conf]
    result = CliRunner().invoke(climb, [str(argument) for argument in arguments])
    assert isinstance(result.exception, InputError)
    assert f"{conf} is an input file" in str(result.exception)
    assert conf.read_text() == "search: {candidates: 300}\n"


@pytest.mark.filterwarnings("error")
def test_token_counts_whose_sum_is_too_large_are_one_clear_error(files):
    _, prior, _ = files
    for count in ("1e308", "1e200"):
        write(prior, ["domain", "tokens"], [[domain, count] for domain in WORLD.space.domains])
        with pytest.raises(MixtureError, match="at most 1e\\+100"):
            read_prior(prior, WORLD.space.domains, CFG)


def test_too_many_proposals_for_the_constraints_name_the_option_and_the_constraints(files):
    runs, prior, out = files
    bound = [f"{{name: {d}, domains: [{d}], max_weight: 0.25}}" for d in WORLD.space.domains]
    cfg = load(settings=(*SETTINGS, f"search.constraints=[{', '.join(bound)}]")).search
    cfg = cfg.model_copy(update={"max_epochs": None, "max_share_ratio": None})
    with pytest.raises(SearchError, match=r"search\.constraints.*climb propose: --n"):
        propose(RunFiles([runs]), prior, out, 2, cfg, MEAN)


def test_an_output_never_overwrites_an_input_or_another_output(files, tmp_path):
    runs, prior, out = files
    mixtures = write(tmp_path / "m.csv", HEADER[:4], [r[:4] for r in run_rows(3)])
    before = [path.read_bytes() for path in (runs, prior, mixtures)]
    for attempt in (
        lambda: propose(RunFiles([runs]), prior, runs, 2, CFG, MEAN),
        lambda: propose(RunFiles([runs]), prior, prior, 2, CFG, MEAN),
        lambda: predict(RunFiles([runs]), mixtures, mixtures, CFG, MEAN),
        lambda: recommend(RunFiles([runs]), prior, runs, CFG, MEAN),
        lambda: recommend(RunFiles([runs]), prior, out, CFG, MEAN, Extras(front=prior)),
    ):
        with pytest.raises(InputError, match="is an input file, so it cannot be an output; choose"):
            attempt()
    for front in (out, out.with_suffix(".json")):
        with pytest.raises(InputError, match=f"{front.name} is the path of two outputs"):
            recommend(RunFiles([runs]), prior, out, CFG, MEAN, Extras(front=front))
    assert [path.read_bytes() for path in (runs, prior, mixtures)] == before
    assert not out.exists()


def test_too_few_tokens_for_the_target_model_are_an_error(files):
    runs, prior, out = files
    write(prior, ["domain", "tokens"], zip(WORLD.space.domains, [1000, 1000, 500, 9], strict=True))
    with pytest.raises(MixtureError, match="are needed"):
        recommend(RunFiles([runs]), prior, out, CFG, MEAN)
    assert not out.exists()


def test_proposals_and_recommendations_satisfy_constraints_on_domains_and_groups(files):
    runs, prior, out = files
    constraints = (
        "[{name: two, domains: ['d00', 'd01'], min_weight: 0.2, max_weight: 0.3},"
        " {name: one, domains: [d02], min_weight: 0.35}]"
    )
    cfg = load(settings=[*SETTINGS, f"search.constraints={constraints}"]).search
    outputs = [propose(RunFiles([runs]), prior, out, 8, cfg, MEAN) and read(out)]
    write(runs, HEADER, [])
    outputs.append(propose(RunFiles([runs]), prior, out, 8, cfg, MEAN) and read(out))
    write(runs, HEADER, run_rows(24))
    recommend(RunFiles([runs]), prior, out, cfg, MEAN)
    outputs.append([{f"weight.{row['domain']}": row["weight"] for row in read(out)}])
    for rows in outputs:
        for row in rows:
            both = float(row["weight.d00"]) + float(row["weight.d01"])
            assert 0.2 - 1e-9 <= both <= 0.3 + 1e-9
            assert float(row["weight.d02"]) >= 0.35 - 1e-9


def test_a_constraint_on_a_domain_that_the_prior_lacks_is_an_error(files):
    runs, prior, out = files
    cfg = load(
        settings=[*SETTINGS, "search.constraints=[{name: x, domains: [d09], max_weight: 0.5}]"]
    )
    with pytest.raises(MixtureError, match=r"search\.constraints 'x': 'd09' matches none"):
        recommend(RunFiles([runs]), prior, out, cfg.search, MEAN)


def test_small_deviations_of_sums_are_normalized_and_ignored_rows_and_columns_are_reported(files):
    runs, prior, out = files
    rows = [[*(1.004 * w for w in r[:4]), *r[4:]] for r in run_rows(12)]
    write(runs, [*HEADER, "note"], [[*r, "x"] for r in [*rows, rows[3], rows[0]]])
    trials, remark = read_runs(runs)
    assert len(trials) == 12
    np.testing.assert_allclose(trials.weights_TK.sum(axis=1), 1.0, atol=1e-12)
    assert remark == "2 exact duplicate rows ignored: 13, 14; ignored columns: note"
    assert f"Note: {remark}." in propose(RunFiles([runs]), prior, out, 2, CFG, MEAN)
    write(runs, HEADER, rows[:1] * 14)
    assert read_runs(runs)[1].endswith("2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...")


def test_the_order_of_rows_and_columns_does_not_change_the_recommendation(files):
    runs, prior, out = files
    recommend(RunFiles([runs]), prior, out, CFG, MEAN)
    first = {r["domain"]: r for r in read(out)}
    reversed_rows = [r[::-1] for r in run_rows(24)[::-1]]
    write(runs, HEADER[::-1], reversed_rows)
    recommend(RunFiles([runs]), prior, out, CFG, MEAN)
    second = {r["domain"]: r for r in read(out)}
    for domain, one in first.items():
        assert float(second[domain]["weight"]) == pytest.approx(float(one["weight"]), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda h, r: (h, [*r[:2], [*r[2][:5], "nan"]]),
            "row 3: column 'metric.task1.bpb' contains 'nan'; expected a finite number",
        ),
        (lambda h, r: (h, [[*r[0][:5], ""]]), "row 1: column 'metric.task1.bpb' is empty"),
        (lambda h, r: (h, [r[0], [0.9, 0.9, 0, 0, 1, 1]]), "row 2: weights sum to 1.8"),
        (lambda h, r: (h, [[1.1, -0.1, 0, 0, 1, 1]]), "smallest weight is -0.1"),
        (
            lambda h, r: (["weigth.d00", *h[1:]], r),
            "; ignored columns: weigth.d00 (names must start with",
        ),
        (lambda h, r: (h, [r[0], r[1][:5]]), "row 2: 5 cells, but the header has 6 columns"),
        (
            lambda h, r: ([*h[:5], h[4]], r),
            "the header contains duplicate column names: 'metric.task0.bpb'",
        ),
        (
            lambda h, r: (h[4:], [x[4:] for x in r]),
            "no column weight.<domain>; its columns are metric.task0",
        ),
        (
            lambda h, r: (h[:4], [x[:4] for x in r]),
            "no column metric.<name>; its columns are weight.d00",
        ),
        (lambda h, r: ([*h[:5], "metric.score"], r), "the column name 'metric.score' is reserved"),
    ],
)
def test_invalid_rows_and_columns_are_reported(files, change, message):
    runs, prior, out = files
    write(runs, *change(HEADER, run_rows(5)))
    with pytest.raises(InputError) as caught:
        recommend(RunFiles([runs]), prior, out, CFG, MEAN)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_csv_are_reported(files, tmp_path):
    runs, prior, out = files
    for content, message in (
        (b"", "is empty"),
        (b"\xff\xfe\x00", "is not a CSV file in UTF-8 encoding"),
    ):
        runs.write_bytes(content)
        with pytest.raises(InputError, match=message):
            propose(RunFiles([runs]), prior, out, 2, CFG, MEAN)
    with pytest.raises(InputError, match=r"cannot read .*gone\.csv: No such file"):
        propose(RunFiles([tmp_path / "gone.csv"]), prior, out, 2, CFG, MEAN)


def test_a_prior_with_other_domains_or_columns_is_an_error(files):
    runs, prior, out = files
    names = [*WORLD.space.domains]
    write(prior, ["domain", "tokens"], [[n, 5] for n in [*names[:3], "else"]])
    with pytest.raises(InputError, match=r"missing: d03; unknown or repeated: else"):
        propose(RunFiles([runs]), prior, out, 2, CFG, MEAN)
    write(prior, ["domain", "tokens"], [[n, 5] for n in [*names, names[0]]])
    with pytest.raises(InputError, match=r"missing: none; unknown or repeated: d00"):
        propose(RunFiles([runs]), prior, out, 2, CFG, MEAN)
    write(prior, ["domain", "count"], [[n, 5] for n in names])
    with pytest.raises(InputError, match=r"no column 'tokens'; its columns are domain, count"):
        propose(RunFiles([runs]), prior, out, 2, CFG, MEAN)
    write(prior, ["name", "tokens"], [[n, 5] for n in names])
    with pytest.raises(InputError, match=r"no column 'domain'; its columns are name, tokens"):
        propose(RunFiles([runs]), prior, out, 2, CFG, MEAN)


def test_mixtures_with_other_domains_are_an_error(files, tmp_path):
    runs, _, out = files
    mixtures = write(tmp_path / "m.csv", ["weight.d00", "weight.zz"], [[0.5, 0.5]])
    with pytest.raises(InputError, match=r"missing: d01, d02, d03; unexpected: zz"):
        predict(RunFiles([runs]), mixtures, out, CFG, MEAN)


def test_an_objective_with_an_unknown_metric_suggests_an_existing_one(files):
    runs, prior, out = files
    with pytest.raises(ConfigError, match=r"did you mean 'task1.bpb'"):
        recommend(RunFiles([runs]), prior, out, CFG, "task1.bpd:min")


def test_an_output_that_cannot_be_written_is_an_error(files, tmp_path):
    runs, prior, _ = files
    with pytest.raises(ClimbError, match=r"name a \.csv file"):
        recommend(RunFiles([runs]), prior, tmp_path / "best.json", CFG, MEAN)
    with pytest.raises(InputError, match=r"cannot write .*a_file\.csv"):
        propose(RunFiles([runs]), prior, runs / "below" / "a_file.csv", 2, CFG, MEAN)


def test_advice_on_many_metrics_and_domains_fits_two_screens(tmp_path):
    """40 domains and 30 metrics, of which one is noise."""
    world = PlantedWorld.build(40, 30, noise=0.1, seed=1)
    random = np.random.default_rng(0)
    weights_TK = world.space.sample(random, 60, concentration=(1.0, 20.0), temperature=0.5)
    losses_TQ = world.compute_losses(weights_TK)
    losses_TQ[:, 7] = losses_TQ[:, 7].std() * random.normal(size=60)
    header = [f"weight.{d}" for d in world.space.domains]
    header += [f"metric.{m}" for m in world.metric_names]
    runs = write(tmp_path / "r.csv", header, np.hstack([weights_TK, losses_TQ]).tolist())
    prior = write(
        tmp_path / "p.csv",
        ["domain", "tokens"],
        list(zip(world.space.domains, world.space.tokens_K.tolist(), strict=True)),
    )
    cfg = load(settings=["search.candidates=200", "search.target_tokens=200000000"]).search
    text = recommend(RunFiles([runs]), prior, tmp_path / "b.csv", cfg, MEAN)
    lines = text.splitlines()
    assert sum(1 + len(line) // 120 for line in lines) <= 2 * 50
    assert "30 metrics" in lines[0]
    assert "from 60 runs of 60 mixtures of 40 domains" in lines[0]
    assert sum(line.startswith("  d") for line in lines) == 1 + 24
    assert any(line.startswith("  16 smaller domains") for line in lines)
    assert any("Not predictable" in line and world.metric_names[7] in line for line in lines)
    assert "20 more are in the JSON file" in text
