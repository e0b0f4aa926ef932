"""The rates of `climb estimate` follow from measured growth, and are those that were recorded."""

import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from climb.config import load
from climb.estimate import Machines, compute_estimate, load_rates
from climb.estimate.rates import MEASURED

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CORES = 2
SIZES = (1_000, 4_000, 16_000)
PER_1000 = {
    **{"ingest": 0.8, "count": 0.7, "embed": 0.9, "score": 1.6, "cluster": 0.3, "prune": 0.2},
    **{"pack": 0.5, "base": 0.4, "mix": 0.6},
    # 12 trials and 6 models of a tenth of the tokens of the base checkpoint, which both share
    **{"search": 0.4 * 12 / 10, "train": 0.4 * 6 / 10},
}
"""Seconds per 1,000 documents."""


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("scale"), importlib.import_module("rates")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def scale(modules):
    return modules[0]


@pytest.fixture
def rates(modules):
    return modules[1]


def make_measured(scale, n, late=1.0):
    """A run whose stages take fixed seconds and seconds per document; `late` changes the latter."""
    seconds = {stage: 3.0 + PER_1000.get(stage, 0.0) * n / 1000 * late for stage in scale.STAGES}
    names = ("documents", "tokens", "scores", "assignments", "corpus", "mixed", "shards")
    return scale.Measured(n, 2250 * n, 830 * n, seconds, 4.0, 2.5, {name: 40 * n for name in names})


def test_an_estimate_of_linear_growth_is_exact(scale, rates, monkeypatch):
    monkeypatch.setattr(rates.os, "cpu_count", lambda: CORES)
    measured = [make_measured(scale, n) for n in SIZES]
    predicted = rates.predict_seconds(scale.build_tables(measured), scale.write_conf)
    assert predicted == pytest.approx(sum(measured[-1].seconds.values()), rel=0.02)


def test_growth_that_is_not_linear_misses_its_bars(scale):
    measured = [make_measured(scale, n) for n in SIZES]
    total = sum(measured[-1].seconds.values())
    assert not [bar.name for bar in scale.build_bars(measured, total) if bar.is_missed]
    measured[-1] = make_measured(scale, SIZES[-1], late=1.5)
    missed = [bar.name for bar in scale.build_bars(measured, total) if bar.is_missed]
    assert "ingest: slope of seconds, late / early" in missed
    grown = dataclasses.replace(measured[-1], peak_gb=4.5, rerun_seconds=11.0)
    bars = scale.build_bars([*measured[:2], grown], 2 * total)
    missed = [bar.name for bar in bars if bar.is_missed]
    assert "seconds of a run with nothing to do, 16,000 documents" in missed
    assert "peak memory, 16,000 / 4,000 documents" in missed
    assert "estimate / measured seconds of all stages, 16,000 documents" in missed


def test_a_rate_is_more_work_for_more_core_seconds(scale, rates):
    tables = scale.build_tables([make_measured(scale, n) for n in SIZES])
    sizes = rates.read_sizes(tables)
    assert [size.documents for size in sizes] == list(SIZES)
    rows = rates.fit_rates(sizes[:2], scale.write_conf, CORES)
    ingest = 2250 * 1000 / (CORES * PER_1000["ingest"])
    assert rows["ingest"]["value"] == pytest.approx(ingest, rel=0.02)
    assert rows["fixed.ingest"]["value"] == pytest.approx(3.0, abs=0.2)
    assert rows["size.documents"]["value"] == pytest.approx(40 / 2250, rel=1e-3)
    assert all(row["unit"] and row["source"] for row in rows.values())
    assert {*json.loads(MEASURED.read_text())} <= {*rows}


def test_the_tables_of_the_page_are_replaced_and_nothing_else(scale, rates):
    page = rates.PAGE.read_text()
    section = scale.Section("scale", "t", tables=scale.build_tables([make_measured(scale, 10)]))
    once = rates.replace_growth(page, section)
    assert rates.replace_growth(once, section) == once
    assert once.partition(rates.BEGIN)[0] == page.partition(rates.BEGIN)[0]
    assert once.partition(rates.END)[2] == page.partition(rates.END)[2]
    assert rates.replace_estimates(once).partition(rates.END)[0] == once.partition(rates.END)[0]
    assert "| ingest | 3.0 |" in once


def test_the_estimates_on_the_page_are_those_of_the_shipped_rates(rates):
    page = rates.PAGE.read_text()
    assert rates.replace_estimates(page) == page
    assert "| search |" in page


def test_the_shipped_rates_and_the_page_are_those_of_the_recorded_section(scale, rates, tmp_path):
    if not rates.RECORDED.exists():
        assert "The growth is not measured yet." in rates.PAGE.read_text()
        return
    section = rates.from_json(rates.RECORDED.read_text())
    sizes, cores = rates.read_sizes(section.tables), int(section.machine.split()[0])
    rows = rates.fit_rates(rates.select_fitted(sizes), scale.write_conf, cores)
    assert json.loads(MEASURED.read_text()) == rows
    page = rates.PAGE.read_text()
    assert rates.replace_growth(page, section) == page
    for size in rates.select_fitted(sizes):  # the bar of the section is about the largest one
        folder = tmp_path / str(size.documents)
        folder.mkdir()
        cfg = load(scale.write_conf(folder, size.documents))
        estimate = compute_estimate(cfg, size.workload, Machines(on_gpu=False), load_rates())
        measured = sum(size.seconds.values())
        assert estimate.predict_seconds(cores) == pytest.approx(measured, rel=0.25)


@pytest.mark.slow
def test_the_benchmark_runs_in_miniature(tmp_path, shared_data):
    output = tmp_path / "scale.json"
    command = [sys.executable, str(BENCHMARKS / "scale.py"), "--quick", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    section = json.loads(output.read_text())
    assert section["tables"][0]["rows"][0][0] == "ingest"
