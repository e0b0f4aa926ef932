"""Benchmarks: scripts render RESULTS.md from all recorded sections, and state every missed bar."""

import ast
import dataclasses
import importlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    """The two modules that render; benchmarks are scripts and not part of the package."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("section"), importlib.import_module("bench")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def section(modules):
    return modules[0]


@pytest.fixture
def bench(modules):
    return modules[1]


@pytest.fixture
def speed(section):
    """A section with every part: text, table, a met bar, a missed bar, a note, an origin."""
    return section.Section(
        "speed",
        "Search: seconds",
        "Two fits.",
        (section.Table(("fit", "seconds"), (("first", "1.5"), ("second", "9.0"))),),
        (
            section.Bar("first fit", 1.5, at_most=5.0, form=".1f"),
            section.Bar("second fit", 9.0, at_most=5.0, form=".1f"),
        ),
        ("The second fit is slower.",),
        date="2026-11-26",
        commit="abc1234",
        machine="2 cores",
        command="python benchmarks/bench.py speed",
        minutes=1.5,
    )


@pytest.mark.parametrize(
    ("limits", "missed_by"),
    [
        ({"at_least": 0.9}, "0.070"),
        ({"at_most": 0.8}, "0.030"),
        ({"at_least": 0.85, "at_most": 0.95}, "0.020"),
        ({"at_least": 0.5, "at_most": 0.8}, "0.030"),
    ],
)
def test_a_figure_outside_its_limits_misses_the_bar_by_a_stated_amount(section, limits, missed_by):
    bar = section.Bar("speed", 0.83, **limits)
    assert bar.is_missed
    assert bar.describe_miss().endswith(f"; missed by {missed_by}.")


@pytest.mark.parametrize(
    "limits",
    [{"at_least": 0.83}, {"at_most": 0.83}, {"at_least": 0.8, "at_most": 0.9}, {"at_most": 1.0}],
)
def test_a_figure_on_or_inside_its_limits_meets_the_bar(section, limits):
    assert not section.Bar("speed", 0.83, **limits).is_missed


def test_rounding_of_the_last_digit_misses_no_bar(section):
    assert not section.Bar("sum", 0.1 + 0.2, at_most=0.3).is_missed


def test_a_figure_that_is_nan_misses_its_bar(section):
    bar = section.Bar("rank", float("nan"), at_least=0.9)
    assert bar.is_missed
    assert bar.describe_miss() == "Bar missed: rank: wanted at least 0.900, found nan."


def test_a_missed_percentage_is_stated_in_percentage_points(section):
    bar = section.Bar("coverage", 0.951, 0.86, 0.94, form=".1%")
    assert bar.describe_miss() == (
        "Bar missed: coverage: wanted 86.0% to 94.0%, found 95.1%; missed by 1.1 percentage points."
    )


def test_a_miss_smaller_than_the_standard_error_is_stated_as_such(section):
    bar = section.Bar("regret", 0.202, at_most=0.2, std_error=0.010)
    assert "found 0.202 (standard error 0.010); missed by 0.002" in bar.describe_miss()
    assert bar.describe_miss().endswith("which is less than one standard error.")
    clear = dataclasses.replace(bar, found=0.25)
    assert "less than" not in clear.describe_miss()


def test_a_section_survives_json(section, speed):
    assert section.from_json(section.to_json(speed)) == speed


def test_a_table_with_a_row_of_another_width_is_refused(section):
    with pytest.raises(AssertionError):
        section.Table(("a", "b"), (("1",),))


def test_a_rendered_section_has_table_bars_misses_notes_and_origin(section, speed):
    text = section.render(speed)
    assert text.startswith("## Search: seconds\n\nTwo fits.\n")
    assert "| first | 1.5 |\n| second | 9.0 |" in text
    assert "| first fit | at most 5.0 | 1.5 | met |" in text
    assert "| second fit | at most 5.0 | 9.0 | **missed** |" in text
    assert "**Bar missed: second fit: wanted at most 5.0, found 9.0; missed by 4.0.**" in text
    assert text.count("Bar missed") == 1
    assert "* The second fit is slower." in text
    assert "2026-11-26" in text
    assert "abc1234" in text


def test_prose_of_a_rendered_section_wraps_at_100_characters(section, speed):
    long = dataclasses.replace(speed, text="word " * 60, notes=("word " * 60,))
    lines = section.render(long).splitlines()
    assert max(len(line) for line in lines if not line.startswith("|")) <= 100


def test_recording_one_section_keeps_the_others(section, bench, speed, tmp_path):
    results, folder = tmp_path / "RESULTS.md", tmp_path / "results"
    bench.record(speed, results, folder)
    bench.record(dataclasses.replace(speed, name="null", title="Null data"), results, folder)
    bench.record(dataclasses.replace(speed, text="Three fits."), results, folder)
    text = results.read_text()
    assert "Three fits." in text
    assert "Two fits." in text  # of the section `null`
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Null data", "Search: seconds"]
    assert "| `speed` | Search: seconds | 2026-11-26 | abc1234 | **1 of 2 met** |" in text


def test_the_page_lists_benchmarks_that_were_not_measured(bench, speed, tmp_path):
    bench.record(speed, tmp_path / "RESULTS.md", tmp_path / "results")
    text = " ".join((tmp_path / "RESULTS.md").read_text().split())
    absent = text.split("Not measured: ")[1].split(". ")[0]
    assert absent == ", ".join(f"`{name}`" for name in bench.NAMES if name != "speed")


def test_the_page_in_the_repository_is_the_one_that_the_recorded_sections_give(bench, tmp_path):
    bench.write_results(tmp_path / "RESULTS.md", bench.SECTIONS)
    assert bench.RESULTS.read_text() == (tmp_path / "RESULTS.md").read_text()


def test_a_recorded_section_has_the_name_of_its_file_and_an_origin(section, bench):
    for path in bench.SECTIONS.glob("*.json"):
        recorded = section.from_json(path.read_text())
        assert recorded.name == path.stem
        assert recorded.name in bench.NAMES
        assert all((recorded.date, recorded.commit, recorded.machine, recorded.command))


def test_every_name_has_a_script_and_a_command(bench, tmp_path):
    for name in bench.NAMES:
        _, script, *arguments = bench.build_command(name, False, tmp_path / "section.json")
        assert Path(script).is_file()
        assert arguments[-2:] == ["--output", str(tmp_path / "section.json")]


def test_a_quick_run_gets_no_file_to_record(bench, tmp_path):
    command = bench.build_command("regret_blend_mean", True, tmp_path / "section.json")
    assert command[1:] == [str(BENCHMARKS / "regret.py"), "blend", "mean", "--quick"]


def test_names_on_the_command_line_expand_groups_and_refuse_unknown_ones(bench):
    assert bench.select_names([]) == list(bench.NAMES)
    assert bench.select_names(["search"]) == list(bench.SEARCH)
    assert bench.select_names(["speed", "null"]) == ["speed", "null"]
    assert bench.select_names(["regret"]) == [n for n in bench.NAMES if n.startswith("regret_")]
    with pytest.raises(SystemExit, match="no benchmark 'carry'; there are embedders, embedding"):
        bench.select_names(["carry"])


def test_a_benchmark_that_fails_leaves_the_page_unchanged(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(bench, "SECTIONS", tmp_path / "results")
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    monkeypatch.setattr(bench, "build_command", lambda *_: command)
    assert not bench.run_benchmark("speed", False)
    assert "speed failed with exit status 3; nothing was recorded" in capsys.readouterr().out
    assert not (tmp_path / "RESULTS.md").exists()


def test_a_missed_bar_is_recorded_and_reported_as_a_failure(
    section, bench, speed, tmp_path, monkeypatch
):
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(bench, "SECTIONS", tmp_path / "results")
    source = tmp_path / "source.json"
    source.write_text(section.to_json(speed))
    copy = "import shutil, sys; shutil.copy(*sys.argv[1:]); sys.exit(1)"
    monkeypatch.setattr(
        bench,
        "build_command",
        lambda name, quick, output: [sys.executable, "-c", copy, str(source), str(output)],
    )
    assert not bench.run_benchmark("speed", False)
    assert "Bar missed: second fit" in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_keeps_the_limits_of_size_of_the_package(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 40, node.name


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_every_name_that_a_benchmark_imports_from_the_package_exists(path):
    """Benchmarks run for minutes, so no other test runs their imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("climb"):
            for alias in node.names:
                if not hasattr(importlib.import_module(node.module), alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_the_model_written_by_hand_has_the_loss_of_the_proxy(modules):
    import torch

    handwritten, loops = (importlib.import_module(x) for x in ("handwritten", "training_loops"))
    shape = loops.Shape(32, 2, 2, 4, 16, 1, 100)
    torch.manual_seed(0)
    proxy, by_hand = shape.build_recipe().create_model(100), handwritten.Llama(shape)
    by_hand.load_state_dict(proxy.model.state_dict())
    assert sum(p.numel() for p in by_hand.parameters()) == shape.count_parameters()
    ids = torch.from_numpy(handwritten.HandwrittenLoop(shape).ids[0])
    losses = [proxy(input_ids=ids, labels=ids).loss, by_hand(ids)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-5)
    gradients = dict(proxy.model.named_parameters())
    for name, parameter in by_hand.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, atol=1e-5, rtol=1e-4)


def test_repeats_of_a_benchmark_that_was_stopped_are_not_measured_again(
    modules, monkeypatch, tmp_path
):
    pieces = importlib.import_module("pieces")
    monkeypatch.setattr(pieces, "CACHE", tmp_path)
    figures = iter([[1.0], [2.0], [3.0], [4.0]])
    measured = []

    def measure():
        measured.append(next(figures))
        if len(measured) == 2:
            monkeypatch.setattr(pieces.time, "monotonic", lambda: 11.0)
        return measured[-1]

    monkeypatch.setattr(pieces.time, "monotonic", lambda: 0.0)
    with pytest.raises(SystemExit) as stopped:
        pieces.take_repeats("name", 3, measure, deadline=10.0)
    assert stopped.value.code == 0
    assert pieces.take_repeats("name", 3, measure, deadline=20.0) == [[1.0], [2.0], [3.0]]
    assert pieces.take_repeats("name", 1, measure, deadline=20.0) == [[4.0]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["proxy_speed", "proxy_overhead", "proxy_seeds", "proxy_sizes", "ddp"]
)
def test_the_benchmarks_of_proxies_run_in_miniature(bench, name, tmp_path):
    command = [*bench.build_command(name, True, tmp_path), "--output", str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "skipped" not in done.stdout:
        assert json.loads((tmp_path / "out.json").read_text())["name"] == name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "package", "figure"),
    [
        ("contamination", None, "planted overlaps found | at least 1.000 | 1.000 | met"),
        ("harness", "lm_eval", "items with equal acc and acc_norm | at least 1.000 | 1.000 | met"),
        ("mix", "deltalake", "| climb | "),
    ],
)
def test_the_benchmark_of_shared_data_runs_in_miniature(shared_data, name, package, figure):
    if package is not None:
        pytest.importorskip(package, reason=f"needs {package}: see requirements/bench.txt")
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert figure in done.stdout


def test_a_figure_of_the_gpu_that_was_not_measured_misses_its_bar(modules):
    bars = importlib.import_module("training_bars")
    row = {"part": "medium", "loop": "ours", "tokens_per_second": 4e5, "first_step_seconds": 20.0}
    results = {"rows": [row, row | {"loop": "plain, compiled"}], "bits": []}
    found = bars.list_bars(results, ["medium", "large", "bits"])
    missed = {bar.name: bar.is_missed for bar in found}
    assert missed.pop("medium: seconds to compile") is False
    assert all(missed.values())
    unknown = {bar.name for bar in found if math.isnan(bar.found)}
    assert unknown == missed.keys() - {"medium: ours / plain, compiled"}  # which is 1.0
    assert {"medium: cost of equal bits", "large: MFU", "equal bits"} < unknown
    assert bars.list_bars({"rows": [], "bits": []}, ["ceiling", "profile"]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts", [("ceiling", "small", "profile"), ("bits", "medium")], ids="-".join
)
def test_the_benchmark_of_training_runs_in_miniature_on_a_cpu(tmp_path, parts):
    output = tmp_path / "training.json"
    command = [sys.executable, str(BENCHMARKS / "gpu_training.py"), "--device", "cpu", "--quick"]
    command += ["--output", str(output), *(f"--only={part}" for part in parts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    assert found["errors"] == {}
    assert set(found["seconds"]) == set(parts)
    loops = {row["loop"] for row in found["rows"]}
    assert {"ours", "ours, not deterministic", "ours, eager", "plain, eager"} <= loops
    assert all(row["tokens_per_second"] > 0.0 for row in found["rows"])
    assert ("plain, compiled" in loops) == ("medium" in parts)
    for row in found["bits"]:
        assert row["equal runs"]
        assert row["equal after interruption"]
    assert bool(found["bits"]) == ("bits" in parts)


@pytest.mark.slow
def test_the_benchmark_of_a_shared_gpu_runs_in_miniature_on_a_cpu(tmp_path):
    output = tmp_path / "sharing.json"
    command = [sys.executable, str(BENCHMARKS / "gpu_sharing.py"), "--device", "cpu", "--quick"]
    done = subprocess.run([*command, "--output", str(output)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    assert found["errors"] == {}
    ways = [(row["way"], row["proxies"]) for row in found["rows"]]
    assert ways == [("processes", 1), ("streams", 1), ("processes", 2), ("streams", 2)]
    assert all(min(row["tokens_per_second"]) > 0.0 for row in found["rows"])


@pytest.mark.slow
def test_the_benchmark_of_fidelities_runs_in_miniature_and_continues(tmp_path, shared_data):
    output = tmp_path / "fidelities.json"
    command = [sys.executable, str(BENCHMARKS / "fidelities.py"), "--quick"]
    command += ["--folder", str(tmp_path / "runs"), "--output", str(output)]
    stopped = subprocess.run([*command, "--minutes", "0"], capture_output=True, text=True)
    assert stopped.returncode == 1
    assert stopped.stderr == "fidelities: the time is over; run it again to continue\n"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    assert [len(table["rows"]) for table in found["tables"]] == [2, 11, 2]
    assert all(bar["found"] >= 0.0 for bar in found["bars"])
    lines = (tmp_path / "runs" / "quick" / "runs.jsonl").read_text().splitlines()
    assert len({json.loads(line)["name"] for line in lines}) == len(lines)


@pytest.mark.slow
def test_the_benchmark_of_halving_runs_in_miniature(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "halving.py"), "--quick"]
    command += ["--output", str(tmp_path / "halving.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "skipped" in done.stdout:
        pytest.skip(f"needs the folder of shared data: {done.stdout.strip()}")
    found = json.loads((tmp_path / "halving.json").read_text())
    titles = [table["title"] for table in found["tables"]]
    assert sum("Replayed" in title for title in titles) == 2
    assert sum("Real proxies" in title for title in titles) == 2
