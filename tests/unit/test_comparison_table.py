"""The table of a comparison: means over seeds, intervals, paired gains, CSV file and page."""

import csv
import io

import pytest
from scipy import stats

from climb.config import load
from climb.errors import ConfigError
from climb.report.comparison import MethodRuns, format_csv, make_rows, parse_rows, tabulate
from climb.report.comparison_page import (
    describe_leader,
    format_text,
    list_tables,
    render_comparison,
)
from climb.tables import ABLATIONS, COMPARISONS
from climb.tracking.comparison import make_metrics

OBJECTIVE = "mean(*.bpb):min"
SEEDS = {0: 0.0, 1: 0.3, 2: -0.3}
"""Shift of both metrics by seed: it is the same for all methods, and cancels in a pair."""

JITTER = 1e-3
"""What does not cancel, per unit of shift and as a share of a method's bits per byte."""

HALF = stats.t.ppf(0.95, 2) * 0.2 * JITTER * 0.3 / 3**0.5
"""Half the width of the interval of the gain of 0.2."""


def method(name, bpb, seeds=(0, 1, 2), **fields):
    """A method whose models have this mean bits per byte, and half the accuracy above 0."""
    shifts = {seed: SEEDS[seed] * (1.0 + JITTER * bpb) for seed in seeds}
    metrics = {
        seed: {
            "arc.bpb": bpb + shifts[seed] + 0.1,
            "piqa.bpb": bpb + shifts[seed] - 0.1,
            "arc.accuracy": 1.0 - bpb / 4 + 0.001 * seed,
            "piqa.accuracy": 0.5,
            "train.loss": 7.0,
        }
        for seed in seeds
    }
    return MethodRuns(name, fields.get("label", name), fields.get("trials", 64.0), 6.4e6, metrics)


METHODS = (method("natural", 2.0), method("ours", 1.8, label="our <b>method</b>"))


def by_key(methods=METHODS, objective=OBJECTIVE):
    return {(cell.method, cell.metric): cell for cell in tabulate(methods, objective)}


def test_a_mean_has_the_interval_of_students_t_over_seeds():
    cell = by_key()["ours", "score"]
    half = stats.t.ppf(0.95, 2) * 0.3 * (1.0 + 1.8 * JITTER) / 3**0.5
    assert cell.mean.mean == pytest.approx(-1.8)
    assert (cell.mean.low, cell.mean.high) == pytest.approx((-1.8 - half, -1.8 + half))
    assert cell.mean.n == 3


def test_a_gain_is_paired_by_seed_so_what_seeds_have_in_common_cancels():
    cells = by_key()
    gain = cells["ours", "score"].gains["natural"]
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.2, 0.2 - HALF, 0.2 + HALF))
    assert gain.n_pairs == 3
    assert cells["natural", "score"].gains["ours"].mean == pytest.approx(-0.2)
    assert cells["ours", "arc.bpb"].gains["natural"].mean == pytest.approx(0.2)  # lower is better
    assert cells["ours", "arc.accuracy"].gains["natural"].mean == pytest.approx(0.05)


def test_a_measure_of_several_tasks_has_its_mean_and_the_training_loss_is_left_out():
    metrics = list(dict.fromkeys(cell.metric for cell in tabulate(METHODS, OBJECTIVE)))
    assert metrics == [
        "score", "mean.accuracy", "mean.bpb", "arc.accuracy", "arc.bpb", "piqa.accuracy",
        "piqa.bpb",
    ]  # fmt: skip
    assert by_key()["natural", "mean.bpb"].mean.mean == pytest.approx(2.0)


def test_the_objective_says_whether_a_higher_mean_of_its_tasks_is_better():
    """Nothing in the name of a metric says that higher is better for f1."""
    methods = [
        MethodRuns(name, name, 0, 0, {s: {"x.f1": f1 + s / 100, "y.f1": f1} for s in (0, 1)})
        for name, f1 in (("a", 0.6), ("b", 0.5))
    ]
    cells = by_key(methods, "mean(*.f1):max")
    assert cells["a", "mean.f1"].higher_is_better
    assert cells["a", "mean.f1"].gains["b"].mean == pytest.approx(0.1)
    assert by_key(methods, "y.f1:max")["a", "mean.f1"].gains["b"].mean == pytest.approx(0.1)


def test_tasks_of_opposite_directions_have_no_mean_and_state_their_own_direction():
    objective = "piqa.bpb:min + 0.2*arc.bpb:max"
    cells = tabulate(METHODS, objective)
    assert "mean.bpb" not in {cell.metric for cell in cells}
    assert "mean.accuracy" in {cell.metric for cell in cells}
    tables = {table.name: table for table in list_tables(cells, objective)}
    assert tables["bpb"].columns == (("arc", "arc.bpb"), ("piqa", "piqa.bpb"))
    assert tables["bpb"].directions == (True, False)
    assert (tables["bpb"].higher_is_better, tables["accuracy"].higher_is_better) == (None, True)
    cfg = load(settings=[f"search.objective={objective}"])
    page = render_comparison("t", cfg, METHODS, cells)
    assert '<th>bpb</th><th class="n">arc<br><small>higher is better</small></th>' in page
    assert '<th class="n">piqa<br><small>lower is better</small></th>' in page
    assert "<th>accuracy<br><small>higher is better</small></th>" in page


def test_one_seed_has_no_interval_and_no_gain():
    cells = by_key((method("a", 2.0, [0]), method("b", 1.0, [0, 1])))
    assert cells["a", "score"].mean.low is None
    assert cells["a", "score"].gains == {}
    assert cells["b", "score"].mean.low is not None


def test_equal_values_have_no_interval_and_an_equal_gain_is_not_clear():
    """Accuracies on few items are often equal over seeds."""
    methods = [
        MethodRuns(name, name, 0, 0, {seed: {"arc.accuracy": value} for seed in (0, 1)})
        for name, value in (("a", 0.52), ("b", 0.53))
    ]
    cells = by_key(methods, "arc.accuracy:max")
    scores = {name: cells[name, "score"] for name in ("a", "b")}
    assert (scores["b"].mean.mean, scores["b"].mean.n) == (0.53, 2)
    assert scores["b"].mean.low is None
    assert scores["b"].gains["a"].low < 0.0 < scores["b"].gains["a"].high
    assert "No 90 % interval shows a gain over a." in describe_leader(methods, scores)
    assert "gain/b/a.low" in make_metrics(list(cells.values()))
    text = format_text(methods, list(cells.values()))
    assert "| b | 0 | 2 | 0.5300 | +0.0100 [" in text


def test_a_method_without_a_model_has_no_cells_and_an_empty_row():
    methods = (*METHODS, method("failed", 1.0, []))
    cells = tabulate(methods, OBJECTIVE)
    assert {cell.method for cell in cells} == {"natural", "ours"}
    rows = list(csv.DictReader(io.StringIO(format_csv(methods, cells))))
    assert rows[2]["score"] == ""
    assert rows[2]["seeds"] == "0"


def test_models_without_a_common_metric_are_an_error():
    other = MethodRuns("b", "b", 0, 0, {0: {"piqa.prob": 1.0}})
    with pytest.raises(ConfigError, match="no metric was measured on all target models"):
        tabulate((METHODS[0], other), OBJECTIVE)


def test_the_csv_file_has_a_row_per_method_with_prices_intervals_and_gains():
    rows = list(csv.DictReader(io.StringIO(format_csv(METHODS, tabulate(METHODS, OBJECTIVE)))))
    assert [row["method"] for row in rows] == ["natural", "ours"]
    assert [row["label"] for row in rows] == ["natural", "our <b>method</b>"]
    assert float(rows[1]["trials"]) == 64
    assert float(rows[1]["gain.natural.low"]) == pytest.approx(0.2 - HALF)
    assert rows[1]["gain.ours"] == ""
    assert float(rows[0]["arc.bpb.high"]) > float(rows[0]["arc.bpb"]) == pytest.approx(2.1)


def test_the_rows_have_the_columns_of_both_tables():
    rows = make_rows("t", METHODS, tabulate(METHODS, OBJECTIVE))
    assert COMPARISONS.column_names == ABLATIONS.column_names == tuple(rows[0])
    keys = [tuple(row[name] for name in COMPARISONS.key) for row in rows]
    assert len(set(keys)) == len(rows) == 2 * 7
    assert rows[1]["place"] == 1
    assert rows[0]["gains"]["ours"]["n_pairs"] == 3


def test_the_rows_have_all_that_the_text_needs():
    cells = tabulate(METHODS, OBJECTIVE)
    runs, read = parse_rows(make_rows("t", METHODS, cells)[::-1])
    assert {(c.method, c.metric): c for c in read} == {(c.method, c.metric): c for c in cells}
    parsed = format_text(runs, sorted(read, key=lambda c: c.metric)).splitlines()
    assert parsed == format_text(METHODS, sorted(cells, key=lambda c: c.metric)).splitlines()


def test_the_page_escapes_names_and_states_what_is_clear():
    cells = tabulate(METHODS, OBJECTIVE)
    page = render_comparison("t", load(), METHODS, cells)
    assert "our &lt;b&gt;method&lt;/b&gt; has the highest score" in page
    assert "<b>method" not in page
    assert page == render_comparison("t", load(), METHODS, cells)
    assert "http" not in page.split("</style>")[1].split("<pre>")[0].replace("http://www.w3", "")


def test_an_unclear_gain_is_not_called_clear():
    close = (method("a", 2.0), MethodRuns("b", "b", 0, 0, {
        0: {"arc.bpb": 2.0}, 1: {"arc.bpb": 2.6}, 2: {"arc.bpb": 1.5},
    }))  # fmt: skip
    cells = by_key(close, "arc.bpb:min")
    scores = {name: cells[name, "score"] for name in ("a", "b")}
    text = describe_leader(close, scores)
    assert text.startswith("b has the highest mean score.")
    assert "No 90 % interval shows a gain over a." in text
    page = render_comparison("t", load(), close, tabulate(close, "arc.bpb:min"))
    assert "<h1>b has the highest mean, but not clearly</h1>" in page


def test_methods_with_the_same_label_are_told_apart():
    close = {
        seed: {name: value + (-0.01 if seed == 0 else 0.001) for name, value in metrics.items()}
        for seed, metrics in method("b", 1.8).metrics.items()
    }
    methods = (
        method("a", 2.0, label="same"), MethodRuns("b", "same", 0, 0, close), method("c", 1.8),
    )  # fmt: skip
    cells = by_key(methods)
    scores = {name: cells[name, "score"] for name in "abc"}
    assert describe_leader(methods, scores) == (
        "same has the highest mean score. Its gain over same is clear: the 90 % interval is above "
        "0. No 90 % interval shows a gain over c."
    )
    page = render_comparison("t", load(), methods, list(cells.values()))
    assert page.count('<tr class="total">') == 1


def test_the_text_is_a_markdown_table_with_the_gain_over_the_first_method():
    lines = format_text(METHODS, tabulate(METHODS, OBJECTIVE)).splitlines()
    assert lines[0].startswith("| method | trials | seeds | score | gain over natural |")
    assert lines[3].startswith("| our <b>method</b> | 64 | 3 |")
    assert "+0.2000 [+0.1999, +0.2001]" in lines[3]


def test_the_metrics_of_mlflow_name_the_measure_the_method_and_the_other_method():
    metrics = make_metrics(tabulate(METHODS, OBJECTIVE))
    assert metrics["score/ours"] == pytest.approx(-1.8)
    assert metrics["gain/ours/natural.low"] == pytest.approx(0.2 - HALF)
