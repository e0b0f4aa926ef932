"""`climb import`: read formats of other projects, write RUNS.csv, report every rejected row."""

import csv
import json

import numpy as np
import pytest

from climb.cli.commands import main
from climb.config import load
from climb.errors import InputError
from climb.runs import formats, rows
from climb.runs.commands import recommend
from climb.runs.importer import import_runs
from climb.runs.prior import read_prior
from climb.runs.rows import validate_runs
from climb.runs.sets import RunFiles
from climb.runs.sheet import Sheet
from climb.runs.table import read_runs, read_table


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def climb(monkeypatch, capsys, tmp_path):
    """Run the console script in a temporary folder; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["climb", "import", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


def error_line(result):
    """Check that a command failed with one line on stderr, and return the line."""
    code, out, err = result
    assert code == 1
    assert out == ""
    assert err.startswith("climb: error: ")
    assert err.count("\n") == 1
    return err


# --- RegMix -------------------------------------------------------------------------------------

MIXTURES = """\
index,train_the_pile_arxiv,train_the_pile_pubmed_central,train_the_pile_pubmed_abstracts
1,0.25,0.5,0.25
2,0.0,0.004,0.995
3,1.0,0.0,0.0
"""
LOSSES = """\
index,metric/the_pile_pubmed_central_val_loss,metric/the_pile_arxiv_val_loss
3,7.5,2.125
1,4.25,5.5
2,3.0,6.0625
"""


@pytest.fixture
def regmix(tmp_path):
    return write(tmp_path / "mix.csv", MIXTURES), write(tmp_path / "loss.csv", LOSSES)


def test_regmix_files_are_joined_by_index_and_a_domain_and_its_loss_have_one_name(climb, regmix):
    code, printed, _ = climb("regmix", *regmix, "--out", "runs.csv")
    assert code == 0
    written = read(regmix[0].with_name("runs.csv"))
    header = list(written[0])
    assert header == ["run", *sorted(header[1:4]), *sorted(header[4:])]
    assert written == [
        {
            "run": run,
            "weight.arxiv": arxiv,
            "weight.pubmed_abstracts": abstracts,
            "weight.pubmed_central": central,
            "metric.arxiv": loss,
            "metric.pubmed_central": central_loss,
        }
        for run, arxiv, abstracts, central, loss, central_loss in [
            ("1", "0.25", "0.25", "0.5", "5.5", "4.25"),
            ("2", "0", "0.995", "0.004", "6.0625", "3"),
            ("3", "1", "0", "0", "2.125", "7.5"),
        ]
    ]
    assert "Read 3 rows with 3 domains and 2 metrics: kept 3, rejected 0." in printed
    assert "3 distinct mixtures are few for 3 domains" in printed
    assert "wrote runs.csv\n" in printed
    assert "--objective 'mean(*):min'" in printed
    assert not regmix[0].with_name("runs.rejected.csv").exists()


def test_written_runs_read_back_as_the_same_runs(climb, regmix):
    climb("regmix", *regmix, "--out", "runs.csv")
    trials, remark = read_runs(regmix[0].with_name("runs.csv"))
    assert remark == ""
    assert trials.domains == ("arxiv", "pubmed_abstracts", "pubmed_central")
    assert trials.metric_names == ("arxiv", "pubmed_central")
    by_loss = np.argsort(trials.metrics_TQ[:, 0])
    drifted = np.array([0.0, 0.995, 0.004]) / 0.999
    np.testing.assert_array_equal(
        trials.weights_TK[by_loss], [[1.0, 0.0, 0.0], [0.25, 0.25, 0.5], drifted]
    )
    np.testing.assert_array_equal(
        trials.metrics_TQ[by_loss], [[2.125, 7.5], [5.5, 4.25], [6.0625, 3.0]]
    )
    before = regmix[0].with_name("runs.csv").read_bytes()
    climb("csv", "runs.csv", "--out", "again.csv")
    assert regmix[0].with_name("again.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("columns", "domains"),
    [
        (["train_the_pile_cc", "train_the_pile_en"], ["cc", "en"]),
        (["train_web", "train_web_en"], ["web", "web_en"]),  # `web` would become empty
        (["web_", "web_en"], ["web_", "web_en"]),
        (["train_web", "test_web"], ["train_web", "test_web"]),
        (["Stack Exchange", "ArXiv"], ["Stack Exchange", "ArXiv"]),
        (["train_the_pile_cc"], ["the_pile_cc"]),  # a single name has no common prefix
    ],
)
def test_the_common_prefix_of_domains_up_to_an_underscore_is_removed(tmp_path, columns, domains):
    weights = ",".join(["1", *["0"] * (len(columns) - 1)])
    mixtures = write(tmp_path / "m.csv", f"index,{','.join(columns)}\n1,{weights}\n")
    losses = write(tmp_path / "l.csv", "index,metric/x_val_loss\n1,2\n")
    assert list(formats.read_regmix(mixtures, losses).domains) == domains


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prior.csv", "domain,token_share\npubmed_central,0.5\narxiv,0.3\npubmed_abstracts,0.2\n"),
        (
            "token_prior.yaml",
            "train:\n  train_the_pile_unzip_arxiv: 0.3\n  train_the_pile_unzip_pubmed_central: 0.5"
            "\n  train_the_pile_unzip_pubmed_abstracts: 0.2\nvalid:\n  valid_a: 1.0\n",
        ),
    ],
)
def test_regmix_token_shares_become_a_prior_that_the_search_reads(climb, regmix, name, text):
    prior = write(regmix[0].with_name(name), text)
    code, printed, _ = climb(
        "regmix", *regmix, "--out", "r.csv", "--prior", prior, "--prior-out", "p.csv"
    )
    assert code == 0
    assert "wrote r.csv, p.csv" in printed
    assert "--prior p.csv" in printed
    domains = ("arxiv", "pubmed_abstracts", "pubmed_central")
    space = read_prior(regmix[0].with_name("p.csv"), domains, load().search)
    np.testing.assert_allclose(space.natural_K, [0.3, 0.2, 0.5], atol=1e-12)


@pytest.mark.parametrize("column", ["token_share", "tokens"])
def test_a_prior_may_have_domains_that_are_in_no_run(climb, regmix, column):
    values = {"pubmed_central": 4, "arxiv": 2, "pubmed_abstracts": 2, "other": 2}
    unit = 10.0 if column == "token_share" else 1.0
    lines = [f"{name},{value / unit}" for name, value in values.items()]
    prior = write(regmix[0].with_name("my prior.csv"), "\n".join([f"domain,{column}", *lines]))
    out = ("--out", "r.csv", "--prior", prior, "--prior-out", "my p.csv")
    code, printed, _ = climb("regmix", *regmix, *out)
    assert code == 0
    assert "--prior 'my p.csv'" in printed
    written = read(regmix[0].with_name("my p.csv"))
    whole = 1.0 if column == "token_share" else 8.0
    found = {row["domain"]: float(row["tokens"]) for row in written}
    assert found == pytest.approx({d: values[d] / 8 * whole for d in values if d != "other"})


def test_every_number_of_the_published_regmix_runs_is_imported_unchanged(
    climb, shared_data, tmp_path
):
    folder = shared_data / "regmix"
    mixtures, losses = folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv"
    prior = ("--prior", folder / "prior.csv", "--prior-out", "prior.csv")
    code, printed, _ = climb("regmix", mixtures, losses, "--out", "runs.csv", *prior)
    assert code == 0
    assert "Read 512 rows with 17 domains and 13 metrics: kept 512, rejected 0." in printed
    published, measured = ({row["index"]: row for row in read(path)} for path in (mixtures, losses))
    written = read(tmp_path / "runs.csv")
    assert [row["run"] for row in written] == list(published)
    for row in written:
        for name, cell in row.items():
            kind, _, thing = name.partition(".")
            if kind == "weight":
                assert float(cell) == float(published[row["run"]][f"train_the_pile_{thing}"])
            elif kind == "metric":
                assert float(cell) == float(
                    measured[row["run"]][f"metric/the_pile_{thing}_val_loss"]
                )
    trials, _ = read_runs(tmp_path / "runs.csv")
    assert (len(trials), len(trials.domains), len(trials.metric_names)) == (512, 17, 13)
    assert set(trials.metric_names) < set(trials.domains)
    read_prior(tmp_path / "prior.csv", trials.domains, load().search)


# --- Olmix --------------------------------------------------------------------------------------

RATIOS = """\
,run,name,index,dclm:games,wikipedia
0,19g3guks,swarm-0000,0,0.30000000000000004,0.7
1,d4nbvsr7,swarm-0001,1,0.85,0.15
"""
METRICS = """\
,run,name,index,arc_easy:rc::olmes,lambada
0,d4nbvsr7,swarm-0001,1,1.25,0.5
1,19g3guks,swarm-0000,0,1.5,0.75
"""


def test_olmix_files_are_joined_by_run_and_names_keep_their_colons(climb, tmp_path):
    ratios, metrics = write(tmp_path / "r.csv", RATIOS), write(tmp_path / "m.csv", METRICS)
    code, printed, _ = climb("olmix", ratios, metrics, "--out", "runs.csv")
    assert code == 0
    assert "ignored" not in printed
    assert [list(row.values()) for row in read(tmp_path / "runs.csv")] == [
        ["swarm-0000", "0.30000000000000004", "0.7", "1.5", "0.75"],
        ["swarm-0001", "0.85", "0.15", "1.25", "0.5"],
    ]
    assert list(read(tmp_path / "runs.csv")[0])[1:] == [
        "weight.dclm:games",
        "weight.wikipedia",
        "metric.arc_easy:rc::olmes",
        "metric.lambada",
    ]


def test_olmix_files_may_have_run_id_instead_of_run(climb, tmp_path):
    ratios = write(tmp_path / "r.csv", "Unnamed: 0,run_id,web,code\n0,a,0.5,0.5\n1,b,0.1,0.9\n")
    metrics = write(tmp_path / "m.csv", "run,bpb\nb,1.5\na,2.5\n")
    assert climb("olmix", ratios, metrics, "--out", "runs.csv")[0] == 0
    assert [(r["run"], r["metric.bpb"]) for r in read(tmp_path / "runs.csv")] == [
        ("a", "2.5"),
        ("b", "1.5"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fit.yaml", "priors:\n  token_counts:\n    wikipedia: 3_000\n    dclm:games: 9_000\n"),
        ("priors.yaml", "token_counts: {'dclm:games': 9000, wikipedia: 3000}\n"),
        (
            "meta.json",
            json.dumps(
                {
                    "priors": {
                        "relative_sizes": {"dclm:games": 0.5, "wikipedia": 0.5},
                        "token_counts": {"dclm:games": 9000, "wikipedia": 3000},
                    }
                }
            ),
        ),
    ],
)
def test_olmix_token_counts_become_a_prior(climb, tmp_path, name, text):
    ratios, metrics = write(tmp_path / "r.csv", RATIOS), write(tmp_path / "m.csv", METRICS)
    prior = write(tmp_path / name, text)
    code, _, err = climb(
        "olmix", ratios, metrics, "--out", "o.csv", "--prior", prior, "--prior-out", "p.csv"
    )
    assert (code, err) == (0, "")
    assert read(tmp_path / "p.csv") == [
        {"domain": "dclm:games", "tokens": "9000"},
        {"domain": "wikipedia", "tokens": "3000"},
    ]


# --- NeMo Curator's tutorial --------------------------------------------------------------------

HARNESS = """\
model_benchmark_path,arc_easy_acc,piqa_acc_norm,hellaswag_acc_norm,valid_avg,c0,c1,c2
/x/lm_eval_results/n1,40.5,60.25,30.0,43.58,0.5,0.4998,0
/x/lm_eval_results/n2,41.0,61.0,31.5,44.5,0.25,,0.75
"""
RESULTS = """\
model_benchmark_path,arc_easy_acc,valid_avg
/x/eval/n1,40,43
/x/eval/n2,41,44
"""


def script(*lines):
    return "\n".join(["#!/bin/bash", "cat <<EOF", *lines, "EOF", ""])


def test_curator_results_contain_their_mixtures_and_an_empty_weight_is_zero(climb, tmp_path):
    results = write(tmp_path / "lm_harness_results.csv", HARNESS)
    code, printed, _ = climb("nvidia", results, "--out", "runs.csv")
    assert code == 0
    assert "--objective 'mean(*):max'" in printed
    assert read(tmp_path / "runs.csv") == [
        dict(
            zip(
                [
                    *["run", "weight.c0", "weight.c1", "weight.c2", "metric.arc_easy_acc"],
                    *["metric.hellaswag_acc_norm", "metric.piqa_acc_norm", "metric.valid_avg"],
                ],
                row,
                strict=True,
            )
        )
        for row in (
            ["n1", "0.5", "0.4998", "0", "40.5", "30", "60.25", "43.58"],
            ["n2", "0.25", "0", "0.75", "41", "31.5", "61", "44.5"],
        )
    ]


def test_a_curator_column_is_a_domain_unless_it_is_a_known_metric_or_named_with_metric(
    climb, tmp_path
):
    text = "model_benchmark_path,arc_easy_acc,mmlu_acc,c0,c1\nm/n1,40,25,0.5,0.5\nm/n2,41,26,0.9,.1"
    results = write(tmp_path / "r.csv", text)
    line = error_line(climb("nvidia", results, "--out", "runs.csv"))
    assert (
        "none of the 2 rows is a valid run: weights do not sum to 1 (count: 2): row 1 of r.csv "
        "(run n1)" in line
    )
    assert "First error: weights sum to 26" in line
    assert "(domains: c0, c1, mmlu_acc)" in line
    assert climb("nvidia", results, "--metric", "mmlu_acc", "--out", "runs.csv")[0] == 0
    assert [r["metric.mmlu_acc"] for r in read(tmp_path / "runs.csv")] == ["25", "26"]
    typo = error_line(climb("nvidia", results, "--metric", "mmlu", "--out", "runs.csv"))
    assert "no column 'mmlu'" in typo


def test_curator_scripts_are_read_as_text_by_the_name_of_the_run(climb, tmp_path):
    results = write(tmp_path / "results.csv", RESULTS)
    write(tmp_path / "mixtures" / "n1.sh", script("0.25 /data/domains/c1", "0.75 /data/domains/c0"))
    write(tmp_path / "mixtures" / "n2.sh", script("1.0 /data/domains/c2"))
    code, _, err = climb("nvidia", results, "--mixtures", "mixtures", "--out", "runs.csv")
    assert (code, err) == (0, "")
    assert [list(row.values()) for row in read(tmp_path / "runs.csv")] == [
        ["n1", "0.75", "0.25", "0", "40", "43"],
        ["n2", "0", "0", "1", "41", "44"],
    ]


def test_a_script_with_commands_is_rejected_and_never_executed(climb, tmp_path):
    results = write(tmp_path / "results.csv", RESULTS)
    write(tmp_path / "mixtures" / "n1.sh", script(f"touch {tmp_path}/ran"))
    write(tmp_path / "mixtures" / "n2.sh", script("1.0 d/c2"))
    code, printed, _ = climb("nvidia", results, "--mixtures", "mixtures", "--out", "runs.csv")
    assert code == 0
    assert "kept 1, rejected 1" in printed
    assert not (tmp_path / "ran").exists()
    row, result = read(tmp_path / "runs.rejected.csv")
    assert (result["file"], result["row"]) == ("results.csv", "1")
    assert (row["name"], row["reason"]) == ("n1", rows.INVALID_WEIGHT)
    assert row["found"] == "the weight of 'ran' contains 'touch'; expected a finite number"
    assert row["file"].endswith("n1.sh")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (("0.5",), "line 3 is '0.5'; expected a weight and a path"),
        (("0.5 a/c0", "0.5 b/c0"), "domain 'c0' appears more than once"),
        ((), "the script contains no domain"),
    ],
)
def test_an_invalid_script_rejects_only_its_own_run(climb, tmp_path, lines, found):
    results = write(tmp_path / "results.csv", RESULTS)
    write(tmp_path / "mixtures" / "n1.sh", script(*lines))
    write(tmp_path / "mixtures" / "n2.sh", script("1.0 d/c2"))
    assert climb("nvidia", results, "--mixtures", "mixtures", "--out", "runs.csv")[0] == 0
    row, result = read(tmp_path / "runs.rejected.csv")
    assert (row["name"], row["reason"]) == ("n1", "mixture script is invalid")
    assert row["found"] == found
    assert (result["file"], result["row"]) == ("results.csv", "1")
    assert result["found"].endswith(f"n1.sh: {found}")


def test_a_binary_script_rejects_only_its_own_run(climb, tmp_path):
    results = write(tmp_path / "results.csv", RESULTS)
    write(tmp_path / "mixtures" / "n2.sh", script("1.0 d/c2"))
    (tmp_path / "mixtures" / "n1.sh").write_bytes(b"\x7fELF\xff\xfe")
    assert climb("nvidia", results, "--mixtures", "mixtures", "--out", "runs.csv")[0] == 0
    row, _ = read(tmp_path / "runs.rejected.csv")
    assert row["found"] == "the file cannot be read as UTF-8 text: UnicodeDecodeError"


def test_rounds_of_the_tutorial_are_joined_with_their_own_scripts(climb, tmp_path):
    text = RESULTS + "/x/eval_2/n1,50,53\n"
    results = write(tmp_path / "results.csv", text)
    write(tmp_path / "mix" / "n1.sh", script("1.0 d/c0"))
    write(tmp_path / "mix" / "n2.sh", script("1.0 d/c1"))
    write(tmp_path / "mix_2" / "n1.sh", script("0.5 d/c0", "0.5 d/c1"))
    either = error_line(climb("nvidia", results, "--mixtures", "mix", "--out", "runs.csv"))
    assert (
        "results from 2 folders (/x/eval, /x/eval_2), which may have runs of equal names" in either
    )
    assert "--mixtures eval=FOLDER" in either
    named = ("--mixtures", "eval_2=mix_2", "--mixtures", "eval=mix")
    code, _, err = climb("nvidia", results, *named, "--out", "runs.csv")
    assert (code, err) == (0, "")
    found = {
        (r["weight.c0"], r["weight.c1"]): r["metric.valid_avg"] for r in read(tmp_path / "runs.csv")
    }
    assert found == {("1", "0"): "43", ("0", "1"): "44", ("0.5", "0.5"): "53"}
    unfit = ("--mixtures", "eval_3=mix_2", "--mixtures", "eval=mix")
    assert "the results folder /x/eval_2 matches none" in error_line(
        climb("nvidia", results, *unfit, "--out", "r.csv")
    )


def test_results_without_a_script_and_scripts_without_results_are_counted(climb, tmp_path):
    results = write(tmp_path / "results.csv", RESULTS)
    write(tmp_path / "mixtures" / "n2.sh", script("1.0 d/c2"))
    write(tmp_path / "mixtures" / "n3.sh", script("1.0 d/c2"))
    code, printed, _ = climb("nvidia", results, "--mixtures", "mixtures", "--out", "runs.csv")
    assert code == 0
    assert "Read 3 rows" in printed
    assert [(r["name"], r["row"]) for r in read(tmp_path / "runs.rejected.csv")] == [
        ("n3", ""),
        ("n1", "1"),
    ]


def test_curator_mixtures_in_both_places_or_in_neither_are_an_error(climb, tmp_path):
    results = write(tmp_path / "results.csv", HARNESS)
    write(tmp_path / "mixtures" / "n1.sh", script("1.0 d/c2"))
    (tmp_path / "none").mkdir()
    twice = error_line(climb("nvidia", results, "--mixtures", "mixtures", "--out", "r.csv"))
    assert "has columns for domains that are also in the scripts: c2" in twice
    assert "no mixture scripts" in error_line(
        climb("nvidia", results, "--mixtures", "none", "--out", "r.csv")
    )
    assert "gone is not a folder, or does not exist" in error_line(
        climb("nvidia", results, "--mixtures", "gone", "--out", "r.csv")
    )


def test_curator_token_shares_are_the_sizes_of_the_token_files(climb, tmp_path):
    results = write(tmp_path / "results.csv", RESULTS)
    write(tmp_path / "mixtures" / "n1.sh", script("1.0 d/c0"))
    write(tmp_path / "mixtures" / "n2.sh", script("1.0 d/c2"))
    for name, size in (("c0", 60), ("c1", 10), ("c2", 30)):
        write(tmp_path / "domains" / f"{name}.bin", "x" * size)
    code, _, err = climb(
        *("nvidia", results, "--mixtures", "mixtures", "--out", "runs.csv"),
        *("--prior", "domains", "--prior-out", "prior.csv"),
    )
    assert (code, err) == (0, "")
    assert {r["domain"]: float(r["tokens"]) for r in read(tmp_path / "prior.csv")} == {
        "c0": 0.6,
        "c1": 0.1,
        "c2": 0.3,
    }
    assert [r["weight.c1"] for r in read(tmp_path / "runs.csv")] == ["0", "0"]


# --- Rejected rows ------------------------------------------------------------------------------

GOOD = ["good", "0.25", "0.75", "1.5", "2.5", "3"]


def table(*changed, n_good=1):
    """RUNS.csv with valid rows, and one more row per change: column index -> cell."""
    lines = ["run,weight.a,weight.b,metric.x,metric.y,seed"]
    lines += [",".join([*GOOD[:3], f"{i}.5", *GOOD[4:]]) for i in range(n_good)]
    for i, changes in enumerate(changed):
        row = [f"bad{i}", *GOOD[1:3], f"{i}.75", *GOOD[4:]]
        for index, cell in changes.items():
            row[index] = cell
        lines.append(",".join(row))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("changes", "reason", "found"),
    [
        ({1: ""}, "weight missing", "column 'weight.a' is empty; expected"),
        ({1: "many"}, "weight is not a finite number", "column 'weight.a' contains 'many'"),
        ({2: "nan"}, "weight is not a finite number", "column 'weight.b' contains 'nan'"),
        ({1: "0_1"}, "weight is not a finite number", "column 'weight.a' contains '0_1'"),
        ({1: "-0.25", 2: "1.25"}, "negative weight", "the smallest weight is -0.25"),
        ({1: "0.2"}, "weights do not sum to 1", "weights sum to 0.95"),
        ({1: "1e308", 2: "1e308"}, "weights do not sum to 1", "weights sum to inf"),
        ({3: " "}, "metric missing", "column 'metric.x' is empty; expected"),
        ({4: "NaN"}, "metric is not a finite number", "column 'metric.y' contains 'NaN'"),
        ({4: "-inf"}, "metric is not a finite number", "column 'metric.y' contains '-inf'"),
        (
            {5: "1.5"},
            "seed is not an integer",
            "column 'seed' contains '1.5'; expected an integer from -2**53 to 2**53",
        ),
        ({5: "1,2"}, "wrong number of cells", "7 cells, but the header has 6"),
        ({0: "good", 3: "0.5"}, "exact duplicate", "the same values as row 1 (run good)"),
    ],
)
def test_each_kind_of_invalid_row_is_rejected_with_its_reason(
    climb, tmp_path, changes, reason, found
):
    write(tmp_path / "runs.csv", table(changes))
    code, printed, _ = climb("csv", "runs.csv", "--out", "clean.csv")
    assert code == 0
    name = changes.get(0, "bad0")
    assert "Read 2 rows with 2 domains and 2 metrics: kept 1, rejected 1." in printed
    assert f"- {reason} (count: 1): row 2 of runs.csv (run {name})" in printed
    assert "wrote clean.csv, clean.rejected.csv" in printed
    assert [r["run"] for r in read(tmp_path / "clean.csv")] == ["good"]
    (row,) = read(tmp_path / "clean.rejected.csv")
    assert list(row) == ["row", "name", "reason", "found", "file"]
    assert found in row.pop("found")
    assert row == {"row": "2", "name": name, "reason": reason, "file": "runs.csv"}


def test_equal_rows_of_runs_with_other_names_are_replicates(tmp_path):
    """Accuracies on few items are often equal."""
    path = write(tmp_path / "runs.csv", table({3: "0.5"}, {3: "0.5"}, {0: "bad1", 3: "0.5"}))
    trials, note = read_runs(path)
    assert trials.metrics_TQ[:, 0].tolist() == [0.5] * 3
    assert note == "1 exact duplicate rows ignored: 4 (run bad1)"


def test_the_same_mixture_with_other_metrics_or_another_seed_is_a_replicate_not_a_duplicate(
    tmp_path,
):
    path = write(tmp_path / "runs.csv", table({3: "0.5", 5: "4"}, {3: "0.5625"}))
    assert read_table(path).rejected == ()
    assert len(read_runs(path)[0]) == 3


def test_a_run_without_a_seed_may_leave_its_cell_empty(tmp_path):
    path = write(tmp_path / "runs.csv", table({5: ""}, {3: "0.5", 5: " "}))
    assert read_table(path).rejected == ()
    trials, _ = read_runs(path)
    assert sorted(trials.seeds_T) == [0, 0, 3]


def test_every_row_is_either_kept_or_rejected(tmp_path):
    rng = np.random.default_rng(0)
    kinds = [{}, {1: ""}, {2: "x"}, {1: "-1"}, {1: "9"}, {3: ""}, {4: "inf"}, {5: "z"}, {5: "1,2"}]
    for _ in range(20):
        drawn = [kinds[i] for i in rng.integers(0, len(kinds), 40)]
        path = write(tmp_path / "runs.csv", table(*drawn))
        runs, rejected = validate_runs(read_table(path))
        assert len(runs) == 1 + sum(not kind for kind in drawn)
        assert len(runs) + len(rejected) == 41
        rejected_rows = [r.location.row for r in rejected]
        assert rejected_rows == [2 + i for i, kind in enumerate(drawn) if kind]


def test_rows_that_cannot_be_joined_are_counted_in_both_files(climb, tmp_path):
    ratios = write(
        tmp_path / "ratios.csv",
        "run,a,b\n"
        "one,0.5,0.5\n"
        "alone,0.1,0.9\n"
        "one,0.5,0.5\n"  # a copy of the first row: joined once
        "two,0.2,0.8\n"
        "two,0.3,0.7\n"  # unknown which of the two was measured
        ",0.4,0.6\n"
        "short,0.4\n",
    )
    metrics = write(tmp_path / "metrics.csv", "run,x\none,1\ntwo,2\nthree,3\n")
    code, printed, _ = climb("olmix", ratios, metrics, "--out", "runs.csv")
    assert code == 0
    assert [r["run"] for r in read(tmp_path / "runs.csv")] == ["one"]
    rejected = [(r["file"], r["row"], r["reason"]) for r in read(tmp_path / "runs.rejected.csv")]
    assert rejected == [
        ("metrics.csv", "2", "run name is not unique"),
        ("metrics.csv", "3", "no match in the other file"),
        ("ratios.csv", "2", "no match in the other file"),
        ("ratios.csv", "3", "exact duplicate"),
        ("ratios.csv", "4", "run name is not unique"),
        ("ratios.csv", "5", "run name is not unique"),
        ("ratios.csv", "6", "run name missing"),
        ("ratios.csv", "7", "wrong number of cells"),
    ]
    # 7 and 3 rows, of which two are the two parts of one run.
    assert "Read 9 rows with 2 domains and 1 metrics: kept 1, rejected 8." in printed
    assert (
        "- run name is not unique (count: 3): row 2 of metrics.csv (run two), row 4 of ratios.csv"
        in printed
    )


def test_a_number_missing_in_the_second_file_is_reported_with_its_location(climb, regmix):
    losses = write(regmix[1], LOSSES.replace("1,4.25,", "1,,"))
    code, printed, _ = climb("regmix", regmix[0], losses, "--out", "runs.csv")
    assert code == 0
    assert "Read 3 rows with 3 domains and 2 metrics: kept 2, rejected 1." in printed
    row, mixture = read(losses.with_name("runs.rejected.csv"))
    column = "column 'metric/the_pile_pubmed_central_val_loss'"
    assert row == {
        "row": "2",
        "name": "1",
        "reason": "metric missing",
        "found": f"{column} is empty; expected a finite number",
        "file": "loss.csv",
    }
    found = f"row 2 of loss.csv: {row['found']}"
    assert mixture == {**row, "row": "1", "file": "mix.csv", "found": found}


@pytest.mark.parametrize(
    ("ratio", "metric", "at"),
    [("0.5,0.9", "2", "ratios"), ("0.5,0.5", "nan", "metrics"), ("0.5,0.5", "1e30", "metrics")],
)
def test_every_row_of_two_files_is_in_an_output_row_or_in_the_list(
    climb, tmp_path, ratio, metric, at
):
    ratios = write(tmp_path / "ratios.csv", f"run,a,b\none,0.5,0.5\ntwo,{ratio}\nthree,0.1,0.9\n")
    metrics = write(tmp_path / "metrics.csv", f"run,x\nthree,3\none,1\ntwo,{metric}\n")
    code, printed, _ = climb("olmix", ratios, metrics, "--out", "runs.csv")
    assert code == 0
    assert "Read 3 rows with 2 domains and 1 metrics: kept 2, rejected 1." in printed
    assert [r["run"] for r in read(tmp_path / "runs.csv")] == ["one", "three"]
    rejected = read(tmp_path / "runs.rejected.csv")
    assert [(r["file"], r["row"]) for r in rejected] == [("metrics.csv", "3"), ("ratios.csv", "2")]
    place = {"ratios": "row 2 of ratios.csv: ", "metrics": "row 3 of metrics.csv: "}[at]
    assert sum(r["found"].startswith(place) for r in rejected) == 1


def test_an_index_that_pandas_wrote_as_a_float_joins_the_same_run(climb, regmix):
    losses = write(regmix[1], LOSSES.replace("\n1,", "\n1.0,"))
    assert "kept 3, rejected 0" in climb("regmix", regmix[0], losses, "--out", "runs.csv")[1]


def test_the_order_of_rows_and_columns_does_not_change_the_runs(regmix):
    def trials(mixtures, losses, out):
        import_runs(formats.read_regmix(mixtures, losses), out)
        return read_runs(out)[0]

    folder = regmix[0].parent
    turned = []
    for path, text in zip(regmix, (MIXTURES, LOSSES), strict=True):
        header, *body = (line.split(",") for line in text.splitlines())
        lines = [[line[0], *line[:0:-1]] for line in (header, *body[::-1])]
        turned.append(write(folder / f"turned_{path.name}", "\n".join(map(",".join, lines))))
    one, other = trials(*regmix, folder / "1.csv"), trials(*turned, folder / "2.csv")
    assert one.domains == other.domains
    np.testing.assert_array_equal(one.weights_TK, other.weights_TK)
    np.testing.assert_array_equal(one.metrics_TQ, other.metrics_TQ)


def test_an_import_without_rejected_rows_removes_the_list_of_an_earlier_import(climb, tmp_path):
    write(tmp_path / "runs.csv", table({1: "9"}))
    climb("csv", "runs.csv", "--out", "clean.csv")
    assert (tmp_path / "clean.rejected.csv").exists()
    write(tmp_path / "runs.csv", table())
    climb("csv", "runs.csv", "--out", "clean.csv")
    assert not (tmp_path / "clean.rejected.csv").exists()


def test_many_rows_with_one_reason_are_counted_and_the_first_ones_listed(climb, tmp_path):
    write(tmp_path / "runs.csv", table(*[{1: "9"}] * 7, {3: ""}))
    printed = climb("csv", "runs.csv", "--out", "clean.csv")[1]
    assert "- weights do not sum to 1 (count: 7): row 2 of runs.csv (run bad0), " in printed
    assert "row 6 of runs.csv (run bad4), ...\n- metric missing (count: 1): " in printed
    assert len(read(tmp_path / "clean.rejected.csv")) == 8


def test_ignored_columns_are_reported(climb, tmp_path):
    text = table().replace("seed", "seed,tokens,note").replace(",3\n", ",3,5e9,hello\n")
    write(tmp_path / "runs.csv", text)
    assert "Note: ignored columns: note." in climb("csv", "runs.csv", "--out", "clean.csv")[1]
    assert list(read(tmp_path / "clean.csv")[0])[:3] == ["run", "seed", "tokens"]
    assert read(tmp_path / "clean.csv")[0]["tokens"] == "5000000000"
    assert read_runs(tmp_path / "clean.csv")[1] == ""


# --- Errors -------------------------------------------------------------------------------------


def test_without_valid_rows_the_error_counts_the_reasons_and_nothing_is_written(climb, tmp_path):
    write(tmp_path / "runs.csv", table({1: "9"}, {1: "8"}, {3: ""}, n_good=0))
    line = error_line(climb("csv", "runs.csv", "--out", "clean.csv"))
    assert (
        "none of the 3 rows is a valid run: weights do not sum to 1 (count: 2): row 1 of runs.csv "
        "(run bad0)" in line
    )
    assert "; metric missing (count: 1): row 3" in line
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_files_in_the_wrong_order_are_an_error(climb, regmix):
    line = error_line(climb("regmix", *regmix[::-1], "--out", "runs.csv"))
    assert "does not contain mixtures, but" in line
    assert "pass the file of mixtures first, then the file of metrics" in line
    same = error_line(climb("regmix", regmix[0], regmix[0], "--out", "runs.csv"))
    assert "have the same columns" in same


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("regmix", "gone.csv", "loss.csv"), "cannot read gone.csv: No such file"),
        (("regmix", "ratios.csv", "loss.csv"), "no column 'index'; its columns are run, a, b"),
        (("olmix", "mix.csv", "loss.csv"), "no column 'run' or 'run_id'; its columns are index"),
        (("nvidia", "mix.csv"), "no column 'model_benchmark_path'; its columns are index"),
        (("nvidia", "unmeasured.csv"), "none of the metric columns arc_easy_acc"),
        (("csv", "mix.csv"), "no column weight.<domain>; its columns are index"),
        (("csv", "headed.csv"), "headed.csv: no rows after the header"),
        (("csv", "open.csv"), "is not a valid CSV file: unexpected end of data"),
        (
            ("csv", "broken.csv"),
            r"the column name 'metric.\nx' in the header contains a line break",
        ),
        (("regmix", "bare.csv", "loss.csv"), "bare.csv has only the columns index"),
        (
            ("regmix", "mix.csv", "clash.csv"),
            "'metric/the_pile_x_val_loss', 'x' would all be imported as 'x'",
        ),
        (("csv", "runs.csv", "--out", "runs.csv"), "runs.csv is an input file"),
        (
            ("regmix", "mix.csv", "loss.csv", "--prior", "prior.csv"),
            "--prior-out (the output) is missing; use --prior and --prior-out together, or neither",
        ),
        (
            ("regmix", "mix.csv", "loss.csv", "--prior", "prior.csv", "--prior-out", "p.csv"),
            "prior.csv lacks domains of the runs (missing: pubmed_abstracts, "
            "pubmed_central; unexpected: web)",
        ),
        (
            ("regmix", "mix.csv", "loss.csv", "--prior", "half.csv", "--prior-out", "p.csv"),
            "half.csv: the values sum to 0.6",
        ),
        (
            ("regmix", "mix.csv", "loss.csv", "--prior", "half.csv", "--prior-out", "o.csv"),
            "o.csv is the path of two outputs",
        ),
        (
            ("olmix", "ratios.csv", "scores.csv", "--prior", "runs.csv", "--prior-out", "p.csv"),
            "runs.csv has no section priors.token_counts or token_counts",
        ),
        (
            ("olmix", "ratios.csv", "scores.csv", "--prior", "text.yaml", "--prior-out", "p.csv"),
            "text.yaml: the value of domain 'a' is 'lots'; expected a number >= 0",
        ),
        (
            ("olmix", "ratios.csv", "scores.csv", "--prior", "gone.yaml", "--prior-out", "p.csv"),
            "cannot read gone.yaml: No such file",
        ),
        (
            ("olmix", "ratios.csv", "scores.csv", "--prior", "open.yaml", "--prior-out", "p.csv"),
            "open.yaml is not valid YAML or JSON: while parsing",
        ),
        (
            ("olmix", "ratios.csv", "named.csv"),
            "named.csv: column 'score' would be the metric 'score', a name that is reserved for",
        ),
        (
            ("nvidia", "harness.csv", "--prior", ".", "--prior-out", "p.csv"),
            ". has no token files <domain>.bin",
        ),
    ],
)
def test_an_error_is_one_line_that_says_what_is_wrong(climb, regmix, tmp_path, arguments, message):
    for name, text in {
        "runs.csv": table(),
        "ratios.csv": "run,a,b\none,0.5,0.5\n",
        "scores.csv": "run,x\none,2\n",
        "named.csv": "run,score\none,2\n",
        "unmeasured.csv": "model_benchmark_path,c0\nn1,1\n",
        "open.csv": 'weight.a,metric.x\n"1,2\n1,3\n',
        "broken.csv": 'weight.a,"metric.\nx"\n1,2\n',
        "headed.csv": "weight.a,metric.x\n",
        "bare.csv": "index\n1\n",
        "clash.csv": "index,metric/the_pile_x_val_loss,x\n1,2,3\n",
        "prior.csv": "domain,token_share\narxiv,0.5\nweb,0.5\n",
        "half.csv": "domain,tokens\narxiv,0.2\npubmed_central,0.2\npubmed_abstracts,0.2\n",
        "harness.csv": HARNESS,
        "open.yaml": "priors: [1,\n",
        "text.yaml": "priors: {token_counts: {a: lots}}\n",
    }.items():
        write(tmp_path / name, text)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    out = () if "--out" in arguments else ("--out", "o.csv")
    assert message in error_line(climb(*arguments, *out))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_six_runs_are_imported_with_a_note_that_they_are_few(climb, tmp_path):
    write(tmp_path / "runs.csv", table(n_good=5).replace("0.25,0.75,4.5", "0.5,0.5,4.5"))
    code, printed, _ = climb("csv", "runs.csv", "--out", "clean.csv")
    assert code == 0
    assert "Note: 2 distinct mixtures are few for 2 domains; at least 6 are recommended." in printed


def test_a_search_counts_invalid_rows_describes_three_and_says_how_to_fix_them(tmp_path):
    path = write(tmp_path / "runs.csv", table({1: "9"}, {3: ""}, {5: "1,2"}, {4: "nan"}))
    prior = write(tmp_path / "prior.csv", "domain,tokens\na,1\nb,1\n")
    with pytest.raises(InputError) as caught:
        recommend(RunFiles([path]), prior, tmp_path / "best.csv", load().search, "mean(*):min")
    line = str(caught.value)
    assert (
        "4 of 5 rows are invalid (the header is row 0): row 2 (run bad0): weights sum to 9.75"
        in line
    )
    assert (
        "; row 3 (run bad1): column 'metric.x' is empty; expected a finite number; row 4 (run bad2"
        in line
    )
    assert line.endswith(
        "; and 1 more. Fix these rows, or write a file without them: "
        f"climb import csv {path} --out NEW.csv"
    )
    assert "\n" not in line


def test_a_row_of_empty_cells_is_in_the_list_and_an_empty_line_only_counts(climb, tmp_path):
    text = "weight.a,weight.b,metric.m\n\n0.5,0.5,1\n,,\n0.4,0.6,2\n0.3,0.9,3\n"
    write(tmp_path / "runs.csv", text)
    assert climb("csv", "runs.csv", "--out", "o.csv")[0] == 0
    found = [(row["row"], row["reason"]) for row in read(tmp_path / "o.rejected.csv")]
    assert found == [("3", "no mixture"), ("5", "weights do not sum to 1")]
    assert [row["metric.m"] for row in read(tmp_path / "o.csv")] == ["1", "2"]


@pytest.mark.parametrize("blank", ["\n", ",\n", " , \n"])
def test_mixtures_keep_the_row_numbers_of_their_file(tmp_path, blank):
    text = f"\nweight.a,weight.b\n0.5,0.5\n{blank}0.4,0.6\n0.9,0.9\n"
    sheet = Sheet.read(write(tmp_path / "m.csv", text.replace("0.9,0.9\n", "")))
    assert sheet.numbers == (1, 3)
    np.testing.assert_allclose(sheet.read_mixtures(("a", "b")), [[0.5, 0.5], [0.4, 0.6]])
    with pytest.raises(InputError, match=r"1 of 3 rows are invalid .*: row 4: weights sum to 1\.8"):
        Sheet.read(write(tmp_path / "m.csv", text)).read_mixtures(("a", "b"))


def test_a_file_of_mixtures_with_invalid_rows_is_an_error_that_lists_them(tmp_path):
    text = "weight.a,weight.b\n0.5,0.5\n0.5,\n0.9,0.9\nx,1\n"
    sheet = Sheet.read(write(tmp_path / "m.csv", text))
    with pytest.raises(InputError) as caught:
        sheet.read_mixtures(("a", "b"))
    assert (
        "2 of 4 rows are invalid (the header is row 0): row 2: column 'weight.b' is empty"
        in str(caught.value)
    )
    assert "; row 4: column 'weight.a' contains 'x'; expected" in str(caught.value)
    sheet = Sheet.read(write(tmp_path / "m.csv", text.replace("0.5,\n", "").replace("x", "0")))
    with pytest.raises(InputError, match=r"1 of 3 rows are invalid .*: row 2: weights sum to 1\.8"):
        sheet.read_mixtures(("a", "b"))
