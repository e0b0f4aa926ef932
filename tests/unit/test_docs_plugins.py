"""The plug-ins of docs/plugins.md are complete, keep their contracts, and work in a search."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from climb.config import build, load
from climb.export import Format
from climb.fidelity import Fidelity
from climb.predictor import Predictor
from climb.search import Problem, Searcher, SearchState, propose, recommend
from climb.testing.contracts import check_searcher
from climb.testing.contracts_export import check_format
from climb.testing.contracts_fidelity import check_fidelity
from climb.testing.contracts_predictor import check_predictor
from climb.testing.world import PlantedWorld

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def find_blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


FILES = {text.split("\n", 1)[0].removeprefix("# "): text for text in find_blocks("python")}
SECTIONS = find_blocks("yaml")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder on the Python path with the files of the page."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def load_config(section, folder):
    """The configuration with one section of the page over the defaults."""
    path = folder / "section.yaml"
    path.write_text(section, encoding="utf-8")
    return load(path, ["search.trials_per_round=[16, 8, 8]", "search.candidates=300"])


def load_section(section, folder):
    return load_config(section, folder).search


def run_search(world, cfg):
    problem = Problem.from_config(world.space, world.objective, cfg)
    rows = world.make_baseline_rows(2)
    for round_ in range(len(cfg.trials_per_round)):
        proposed_MK = propose(world.make_trials(rows), round_, problem)
        rows += [world.make_row(w_K, round_, "proposal", 0) for w_K in proposed_MK]
    return problem, recommend(SearchState.from_trials(world.make_trials(rows), problem))


def test_the_page_has_four_plug_ins_each_as_a_short_file_and_one_line():
    assert list(FILES) == ["near.py", "ablate.py", "unigram.py", "table.py"]
    assert len(SECTIONS) == 4
    for text in FILES.values():
        assert len(text.splitlines()) <= 80
    uses = [re.findall(r'use: "(\w+):(\w+)"', section) for section in SECTIONS]
    assert [f"{module}.py" for ((module, _),) in uses] == list(FILES)
    for ((module, name),) in uses:
        assert f"class {name}:" in FILES[f"{module}.py"]
        assert f"from {module} import {name}" in PAGE


def test_the_predictor_of_the_page_keeps_the_contract_with_configured_fields(folder):
    spec = load_section(SECTIONS[0], folder).predictor
    predictor = build(spec, Predictor)
    assert predictor.bandwidths == (0.1, 0.2, 0.4)
    check_predictor(predictor)


def test_the_searcher_of_the_page_keeps_the_contract_with_configured_fields(folder):
    spec = load_section(SECTIONS[1], folder).searcher
    searcher = build(spec, Searcher)
    assert searcher.factors == (0.0, 0.5, 2.0)
    check_searcher(searcher)


def test_the_fidelity_of_the_page_keeps_the_contract(folder, tmp_path):
    [spec] = load_section(SECTIONS[2], folder).fidelities
    fidelity = build(spec, Fidelity)
    assert fidelity.max_tokens == 500_000
    check_fidelity(fidelity, tmp_path / "check")


def test_the_format_of_the_page_keeps_the_contract(folder, tmp_path):
    spec = load_config(SECTIONS[3], folder).export.format
    check_format(build(spec, Format), tmp_path / "check")


@pytest.mark.parametrize("section", SECTIONS[:2], ids=["predictor", "searcher"])
def test_the_regret_of_a_search_is_below_half_of_that_of_the_baselines(section, folder):
    regrets = []
    for seed in range(3):
        world = PlantedWorld.build(8, 2, noise=0.1, seed=seed)
        problem, recommendation = run_search(world, load_section(section, folder))
        assert {type(problem.predictor).__module__, type(problem.searcher).__module__} & {
            name.removesuffix(".py") for name in FILES
        }
        assert world.space.contains(recommendation.weights_K)
        mixtures = (recommendation.weights_K, world.space.natural_K, world.space.uniform_K)
        regrets.append([world.compute_regret(w_K) for w_K in mixtures])
    recommended, natural, uniform = np.mean(regrets, axis=0)
    assert recommended < natural / 2
    assert recommended < uniform / 2


def test_the_std_of_the_predictor_of_the_page_is_smaller_near_trials(folder):
    predictor = build(load_section(SECTIONS[0], folder).predictor, Predictor)
    weights_TK = np.random.default_rng(0).dirichlet(np.ones(4), size=60)
    values_T = weights_TK[:, 0]
    predict = predictor.fit(weights_TK, values_T, np.zeros(60))
    _, std_2 = predict(np.array([weights_TK.mean(axis=0), [0.0, 0.0, 0.0, 1.0]]))
    assert std_2[0] < 0.5 * std_2[1]
    assert np.corrcoef(predict(weights_TK)[0], values_T)[0, 1] > 0.9


def test_later_proposals_of_the_searcher_of_the_page_change_one_domain_of_the_best_trial(folder):
    world = PlantedWorld.build(8, 2, noise=0.0, seed=1)
    problem = Problem.from_config(world.space, world.objective, load_section(SECTIONS[1], folder))
    rows = [
        world.make_row(w_K, 0, "proposal", 0) for w_K in propose(world.make_trials([]), 0, problem)
    ]
    trials = world.make_trials(rows)
    best_K = trials.weights_TK[world.objective.score(trials.metrics_TQ).argmax()]
    part = best_K > 1e-6
    for w_K in propose(trials, 1, problem):
        # The other domains keep their ratios, except those at a cap.
        inside = part & (w_K < world.space.upper_K - 1e-6)
        ratio_K = np.sort(w_K[inside] / best_K[inside])
        assert (np.diff(ratio_K) > 1e-3).sum() <= 1
        assert np.abs(w_K - best_K).sum() > 1e-6


def test_readme_and_contributing_link_to_the_page():
    for name in ("README.md", "CONTRIBUTING.md"):
        assert "(docs/plugins.md)" in (ROOT / name).read_text(encoding="utf-8")
