"""RUNS.csv as people have it: from solvers, from MLflow, from pandas, with a diverged run."""

import pytest
from click.testing import CliRunner

from climb.cli.commands import climb
from climb.errors import InputError
from climb.runs.formats import read_olmix, read_olmix_prior
from climb.runs.importer import Prior, import_runs
from climb.runs.mlflow import read_mlflow_names
from climb.runs.table import read_runs, read_table


def write(path, header, *rows):
    path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")
    return path


HEADER = ["weight.a", "weight.b", "metric.x"]


def test_a_weight_just_below_zero_is_zero(tmp_path):
    runs = write(tmp_path / "r.csv", HEADER, [-1e-12, 1.0, 2.0], [0.5, 0.5, 3.0])
    trials, note = read_runs(runs)
    assert trials.weights_TK.tolist() == [[0.0, 1.0], [0.5, 0.5]]
    assert not note
    write(runs, HEADER, [-1e-3, 1.001, 2.0])
    with pytest.raises(InputError, match=r"the smallest weight is -0\.001"):
        read_runs(runs)


def test_a_diverged_run_is_named_and_left_out(tmp_path):
    rows = [[0.1 * i, 1 - 0.1 * i, 2.0 + i, f"run{i}"] for i in range(5)]
    rows[3][2] = 1e30
    trials, note = read_runs(write(tmp_path / "r.csv", [*HEADER, "run"], *rows))
    assert len(trials) == 4
    assert note == "1 rows of diverged runs ignored: 4 (run run3)"


def test_metrics_of_very_different_sizes_are_no_divergence(tmp_path):
    header = [*HEADER, "metric.tokens_seen"]
    rows = [[0.1 * i, 1 - 0.1 * i, 1e-3 * i, 1e12] for i in range(1, 6)]
    assert len(read_runs(write(tmp_path / "r.csv", header, *rows))[0]) == 5


def test_the_two_layouts_of_mlflow_give_the_runs_of_the_table(tmp_path):
    plain = write(tmp_path / "p.csv", ["run", *HEADER], ["one", 0.5, 0.5, 2.0], ["two", 1, 0, 3.0])
    page = write(
        tmp_path / "page.csv",
        ["Start Time", "Name", "weight.a", "weight.b", "tokens", "metric.x", "score", "seed"],
        ["2026-01-01", "search default", "", "", "", "", "", ""],
        ["2026-01-01", "one", 0.5, 0.5, 100, 2.0, -2.0, 0],
        ["2026-01-01", "two", 1, 0, 100, 3.0, -3.0, 0],
    )
    pandas = write(
        tmp_path / "pandas.csv",
        [
            *("", "run_id", "params.weight.a", "params.weight.b", "params.tokens"),
            *("metrics.metric.x", "metrics.score", "metrics.seed", "tags.mlflow.runName"),
        ],
        [0, "f0", "", "", "", "", 0.1, "", "search default"],
        [1, "f1", 0.5, 0.5, 100, 2.0, -2.0, 0.0, "one"],
        [2, "f2", 1, 0, 100, 3.0, -3.0, 0.0, "two"],
    )
    expected = read_runs(plain)[0]
    for path in (page, pandas):
        trials, note = read_runs(path)
        assert trials.domains == expected.domains
        assert trials.metric_names == expected.metric_names
        assert trials.weights_TK.tolist() == expected.weights_TK.tolist()
        assert trials.metrics_TQ.tolist() == expected.metrics_TQ.tolist()
        assert note.startswith("1 rows without a mixture ignored: 1 (run search default); ")
        assert [row.name for row in read_table(path).rows] == ["one", "two"]
    out = CliRunner().invoke(climb, ["import", "mlflow", str(pandas), "--out", f"{tmp_path}/o.csv"])
    assert "kept 2, rejected 1" in out.output
    assert (tmp_path / "o.csv").read_text().splitlines()[0] == (
        "run,seed,tokens,weight.a,weight.b,metric.x"
    )


PAGE = ["Start Time", "Duration", "Run ID", "Name", "Status"]


def test_columns_of_mlflows_page_that_are_params_and_metrics_are_merged(tmp_path):
    """The search logs its weights as metrics, a trial as params; the seed is a metric of both."""
    params, metrics = ["seed", "tokens", "weight.a", "weight.b"], ["metric.x", "seed", "weight.a"]
    page = write(
        tmp_path / "page.csv",
        [*PAGE, *params, *metrics, "weight.b"],
        ["t", "1s", "f0", "search default", "FINISHED", *[""] * 6, 0.4, 0.6],
        ["t", "1s", "f1", "one", "FINISHED", "", 100, 0.5, 0.5, "'-2.5", 3, "", ""],
        ["t", "1s", "f2", "two", "FINISHED", "", 100, 1, 0, "'-3.5", 4, "", ""],
    )
    with pytest.raises(InputError, match=r"1 of 3 rows are invalid.*row 1 .run search default"):
        read_runs(page)  # without tags, the search looks like a trial without metrics
    out = tmp_path / "o.csv"
    found = CliRunner().invoke(climb, ["import", "mlflow", str(page), "--out", str(out)])
    assert "kept 2, rejected 1" in found.output
    assert out.read_text().splitlines() == [
        "run,seed,tokens,weight.a,weight.b,metric.x",
        "one,3,100,0.5,0.5,-2.5",
        "two,4,100,1,0,-3.5",
    ]
    short = write(tmp_path / "s.csv", [*PAGE, "weight.a", "weight.a", "metric.x"], ["t", "", "f1"])
    (row,) = read_table(short).rejected
    assert row.found == "3 cells, but the header has 8 columns"


@pytest.mark.parametrize(
    ("weight", "metric", "tag", "name"),
    [("", "", "", "Name"), ("params.", "metrics.", "tags.", "tags.mlflow.runName")],
)
def test_runs_of_mlflow_that_are_no_trials_are_left_out(tmp_path, weight, metric, tag, name):
    keys = [f"{weight}weight.a", f"{weight}weight.b", f"{metric}metric.x"]
    path = write(
        tmp_path / "runs.csv",
        ["Start Time", "Run ID", name, f"{tag}climb.kind", *keys],
        ["t", "f0", "one", "trial", 0.5, 0.5, 2.0],
        ["t", "f1", "other tool", "", 1, 0, 3.0],
        ["t", "f2", "target", "model", 0.2, 0.8, 0.1],
        ["t", "f3", "search default", "search", 0.4, 0.6, ""],
    )
    trials, note = read_runs(path)
    assert sorted(trials.metrics_TQ[:, 0]) == [2.0, 3.0]
    left_out = "2 rows that are not trials ignored: 3 (run target), 4 (run search default)"
    assert note.startswith(left_out)
    assert "climb.kind" not in note
    out = tmp_path / "o.csv"
    found = CliRunner().invoke(climb, ["import", "mlflow", str(path), "--out", str(out)])
    assert "kept 2, rejected 2.\n- not a trial (count: 2): row 3 of runs.csv" in found.output
    rejected = out.with_suffix(".rejected.csv").read_text()
    assert "column 'climb.kind' contains 'model'; runs of proxies have 'trial'" in rejected


def test_repeated_columns_of_other_files_are_refused(tmp_path):
    path = write(tmp_path / "r.csv", [*HEADER, "weight.a", "Run ID"], [0.5, 0.5, 2.0, "", "f0"])
    with pytest.raises(InputError, match=r"duplicate column names: 'weight\.a'"):
        read_runs(path)


def test_own_columns_are_not_renamed():
    columns = ("run", "Name", "weight.a", "metric.x", "metrics.seed")
    assert read_mlflow_names(columns) == ("run", "Name", "weight.a", "metric.x", "seed")


def test_columns_without_a_name_are_ignored_even_if_there_are_two(tmp_path):
    runs = write(tmp_path / "r.csv", ["", "", *HEADER], [0, 9, 0.5, 0.5, 2.0])
    assert len(read_runs(runs)[0]) == 1


def test_a_cell_of_any_length_is_read(tmp_path):
    runs = write(tmp_path / "r.csv", ["notes", *HEADER], ["n" * 200_000, 0.5, 0.5, 2.0])
    assert len(read_runs(runs)[0]) == 1


def test_a_prior_with_more_domains_than_the_runs_is_accepted_and_counted(tmp_path):
    ratios = write(tmp_path / "ratios.csv", ["run", "a", "b"], ["r1", 0.5, 0.5], ["r2", 1, 0])
    metrics = write(tmp_path / "metrics.csv", ["run", "x"], ["r1", 2.0], ["r2", 3.0])
    (tmp_path / "fit.yaml").write_text("priors: {token_counts: {a: 10, b: 20, c: 30, d: 40}}\n")
    amounts = read_olmix_prior(tmp_path / "fit.yaml")
    prior = Prior(amounts, tmp_path / "fit.yaml", tmp_path / "prior.csv")
    text = import_runs(read_olmix(ratios, metrics), tmp_path / "runs.csv", prior)
    assert "2 domains of the prior are in no run: c, d" in text
    assert (tmp_path / "prior.csv").read_text() == "domain,tokens\na,10\nb,20\n"
    (tmp_path / "fit.yaml").write_text("token_counts: {a: 10, c: 30}\n")
    less = Prior(read_olmix_prior(tmp_path / "fit.yaml"), tmp_path / "fit.yaml", tmp_path / "p.csv")
    with pytest.raises(InputError, match="missing: b; unexpected: c"):
        import_runs(read_olmix(ratios, metrics), tmp_path / "runs.csv", less)
