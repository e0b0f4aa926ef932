"""The plug-ins of docs/plugins.md are whole, keep their contracts, and search."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from climb.config import build, load
from climb.predictor import Predictor
from climb.search import Problem, Searcher, anchors, propose, recommend
from climb.testing.contracts import check_predictor, check_searcher
from climb.testing.world import PlantedWorld

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


FILES = {text.split("\n", 1)[0].removeprefix("# "): text for text in blocks("python")}
SECTIONS = blocks("yaml")


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The page's files in a folder of their own that Python can import from."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def settings_of(section, folder):
    """The configuration with one of the page's sections over the defaults."""
    path = folder / "mine.yaml"
    path.write_text(section, encoding="utf-8")
    rounds = ["search.trials_per_round=[16, 8, 8]", "search.candidates=300"]
    return load(path, rounds).search


def searched(world, cfg):
    problem = Problem.of(world.space, world.objective, cfg)
    rows = [world.trial(w_K, 0, m, s) for m, w_K, s in anchors(world.space, 2)]
    for round_ in range(len(cfg.trials_per_round)):
        asked_MK = propose(world.trials(rows), round_, problem)
        rows += [world.trial(w_K, round_, "proposal", 0) for w_K in asked_MK]
    return problem, recommend(world.trials(rows), problem)


def test_a_predictor_and_a_searcher_are_shown_each_as_one_short_file_and_one_line():
    assert list(FILES) == ["near.py", "ablate.py"]
    assert len(SECTIONS) == 2
    for text in FILES.values():
        assert len(text.splitlines()) <= 80
    uses = [re.findall(r'use: "(\w+):(\w+)"', section) for section in SECTIONS]
    assert [f"{module}.py" for ((module, _),) in uses] == list(FILES)
    for ((module, name),) in uses:
        assert f"class {name}:" in FILES[f"{module}.py"]
        assert f"from {module} import {name}" in PAGE


def test_the_page_s_predictor_keeps_the_contract_with_the_fields_of_its_line(written):
    spec = settings_of(SECTIONS[0], written).predictor
    predictor = build(spec, Predictor)
    assert predictor.reaches == (0.1, 0.2, 0.4)
    check_predictor(predictor)


def test_the_page_s_searcher_keeps_the_contract_with_the_fields_of_its_line(written):
    spec = settings_of(SECTIONS[1], written).searcher
    searcher = build(spec, Searcher)
    assert searcher.factors == (0.0, 0.5, 2.0)
    check_searcher(searcher)


@pytest.mark.parametrize("section", SECTIONS, ids=["predictor", "searcher"])
def test_a_search_with_it_finds_better_than_natural_and_uniform(section, written):
    regret = []
    for seed in range(3):
        world = PlantedWorld.of(8, 2, noise=0.1, seed=seed)
        problem, answer = searched(world, settings_of(section, written))
        assert {type(problem.predictor).__module__, type(problem.searcher).__module__} & {
            name.removesuffix(".py") for name in FILES
        }
        assert world.space.contains(answer.weights_K)
        mixtures = (answer.weights_K, world.space.natural_K, world.space.uniform_K)
        regret.append([world.regret(w_K) for w_K in mixtures])
    found, natural, uniform = np.mean(regret, axis=0)
    assert found < natural / 2
    assert found < uniform / 2


def test_near_trials_make_the_page_s_predictor_sure(written):
    predictor = build(settings_of(SECTIONS[0], written).predictor, Predictor)
    weights_TK = np.random.default_rng(0).dirichlet(np.ones(4), size=60)
    values_T = weights_TK[:, 0]
    predict = predictor.fit(weights_TK, values_T, np.zeros(60))
    _, std_2 = predict(np.array([weights_TK.mean(axis=0), [0.0, 0.0, 0.0, 1.0]]))
    assert std_2[0] < 0.5 * std_2[1]
    assert np.corrcoef(predict(weights_TK)[0], values_T)[0, 1] > 0.9


def test_each_later_trial_of_the_page_s_searcher_is_the_best_one_with_one_domain_changed(written):
    world = PlantedWorld.of(8, 2, noise=0.0, seed=1)
    problem = Problem.of(world.space, world.objective, settings_of(SECTIONS[1], written))
    rows = [world.trial(w_K, 0, "proposal", 0) for w_K in propose(world.trials([]), 0, problem)]
    trials = world.trials(rows)
    best_K = trials.weights_TK[world.objective.score(trials.metrics_TQ).argmax()]
    part = best_K > 1e-6
    for w_K in propose(trials, 1, problem):
        # What one domain gains the others give in proportion: their ratios stay, unless at a cap.
        inside = part & (w_K < world.space.caps_K - 1e-6)
        ratio_K = np.sort(w_K[inside] / best_K[inside])
        assert (np.diff(ratio_K) > 1e-3).sum() <= 1
        assert np.abs(w_K - best_K).sum() > 1e-6


def test_readme_and_contributing_lead_to_the_page():
    for name in ("README.md", "CONTRIBUTING.md"):
        assert "(docs/plugins.md)" in (ROOT / name).read_text(encoding="utf-8")
