"""What a comparison plans: methods as data, equal budgets, and which tables a row needs."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
from training_setup import make_setup

from climb.cli.finished.state import STARTS
from climb.cli.preflight import run_preflight
from climb.cli.start import add_started
from climb.config import change, load
from climb.errors import ConfigError, PreflightError
from climb.estimate.comparison import count_paid, describe_comparison
from climb.proxy.llama import LlamaProxy
from climb.search.comparison import (
    count_trials,
    find_first_job,
    plan_ablation,
    plan_comparison,
    split_budget,
)
from climb.spark.training import compare as compare_module
from climb.spark.training.compare import Trainer
from climb.spark.training.methods import FoundMixture, build_plugin, make_mixture
from climb.spark.training.results import write_model_card

ROOT = Path(__file__).resolve().parents[2]
ABLATIONS = sorted((ROOT / "conf" / "ablations").glob("*.yaml"))
REPORTED = "proxy.targets=[{name: a, kind: choices, search: a.jsonl, report: b.jsonl, limit: null}]"


def plan(*settings):
    return {method.name: method for method in plan_comparison(load(settings=settings))}


@pytest.mark.parametrize("budget", [16, 28, 64, 112])
def test_every_searched_method_has_the_whole_budget_and_no_more(budget):
    methods = plan(f"compare.budget={budget}")
    searched = {name: m.n_trials for name, m in methods.items() if m.mixture is None}
    assert searched.keys() >= {"best-of-random", "regmix", "climb-published", "nvidia", "climb"}
    assert set(searched.values()) == {budget}


def test_replicates_of_the_default_are_paid_from_its_budget():
    search = plan("compare.budget=64")["climb"].cfg.search
    assert sum(search.trials_per_round) == 64 - 2 * 3 - 3
    assert search.trials_per_round == (47, 8)
    assert count_trials(search) == 64


@pytest.mark.parametrize(
    ("budget", "ratio", "rounds"),
    [
        (112, (4, 2, 1), (64, 32, 16)),
        (64, (64, 32, 16), (37, 18, 9)),
        (28, (2, 2, 1, 1), (9, 9, 5, 5)),
        (3, (100, 1, 1), (1, 1, 1)),
        (5, (1,), (5,)),
    ],
)
def test_a_budget_is_divided_in_the_ratio_and_no_round_is_empty(budget, ratio, rounds):
    assert split_budget(budget, ratio) == rounds
    assert sum(rounds) == budget


def test_a_budget_that_replicates_use_up_is_an_error_that_names_the_method():
    with pytest.raises(
        ConfigError, match=r"compare\.methods\.climb: .* need 9 of them, and each of 2"
    ):
        plan("compare.budget=10")


def test_a_null_leaves_a_method_out_and_a_file_adds_one():
    methods = plan(
        "compare.methods.nvidia=null",
        "compare.methods.ours={mixture: {use: 'climb.search.baselines:FixedMixture', "
        "weights: {web: 1}}}",
    )
    assert "nvidia" not in methods
    assert list(methods)[-1] == "ours"
    assert methods["ours"].n_trials == 0


def test_the_plug_in_of_a_method_replaces_the_configured_one_with_all_its_fields():
    """The paper's configuration has the same class with another patience."""
    cfg = load(ROOT / "conf" / "climb-paper.yaml")
    nvidia = {m.name: m for m in plan_comparison(cfg)}["nvidia"]
    assert nvidia.cfg.search.predictor == {
        "use": "climb.predictor.lightgbm:LightGBMPredictor", "members": 2,
    }  # fmt: skip


def test_a_repetition_has_its_own_seed_and_search_and_reuses_no_earlier_runs():
    method = plan("search.seed=5", "compare.name=t")["regmix"]
    first, second = (method.configure(seed).search for seed in (0, 1))
    assert (first.name, second.name) == ("t.regmix.0", "t.regmix.1")
    assert (first.seed, second.seed) == (5, 6)
    assert first.reuse_min_kept is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("compare.methods.x={search: {seed: 3}}", "a method cannot set search.seed"),
        (
            "compare.methods.x={search: {reuse_min_kept: 0.5}}",
            "trials beyond the budget; remove it",
        ),
        ("compare.methods.x={search: {objektive: a}}", "objektive"),
        ("compare.methods.x={mixture: {use: a}, search: {candidates: 3}}", "either `mixture` or"),
        ("compare.methods.x={label: RegMix}", "'regmix' and 'x' both have the label 'RegMix'"),
        ("compare.methods.a b={}", "'a b' must consist of letters"),
        ("compare.vary=search.searcher", "`values` has only the keys"),
        ("ablate.keys=[train.tokens]", "an ablation varies keys of cluster, prune, proxy or"),
        ("ablate.keys=[search.reuse_min_kept]", "trials beyond the budget; remove it from keys"),
        ("ablate.values={a: [1, 2]}", "values.a has 2 values for 1 keys"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(setting, message):
    with pytest.raises(ConfigError, match=message):
        plan(setting)


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_the_rows_of_an_ablation_differ_in_its_keys_alone(path):
    cfg = load(path)
    rows = plan_ablation(cfg)
    assert len(rows) == len(cfg.ablate.values)
    values = [
        {key: row.cfg.model_dump(mode="json")[key.split(".")[0]] for key in cfg.ablate.keys}
        for row in rows
    ]
    assert all(values[0] != other for other in values[1:])
    if cfg.ablate.budget is not None:
        assert {row.n_trials for row in rows} == {cfg.ablate.budget}
    assert f"{len(rows) * 3} target models" in describe_comparison("ablate", cfg, None)


def test_the_paper_s_five_ablations_are_there():
    assert {path.stem for path in ABLATIONS} - {"demo-schedule"} == {
        "schedule", "budget", "proxy-size", "clusters", "first-draw",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "job"),
    [
        (["search.trials_per_round"], None),
        (["proxy.model"], None),
        (["proxy.trial_tokens"], "pack"),
        (["prune.domains", "search.predictor"], "prune"),
        (["cluster.k", "prune.domains"], "cluster"),
    ],
)
def test_a_row_has_its_own_tables_from_the_first_job_that_its_keys_change(keys, job):
    assert find_first_job(keys) == job


def test_an_estimate_counts_the_trials_of_all_seeds_and_the_target_models():
    text = describe_comparison("compare", load(settings=[REPORTED]), 2)
    assert "3 seeds: 1152 trials and 24 target models at most" in text
    assert "core-hours" in text.splitlines()[-1]
    with pytest.raises(ConfigError, match="no target has a `report` file"):
        describe_comparison("compare", load(), 2)


def test_an_estimate_counts_the_models_of_a_plug_in_in_full_and_stopped_trials_in_part():
    cfg = load(settings=[REPORTED])
    tokens = {}
    for name in ("doremi", "regmix", "climb"):
        others = dict.fromkeys(cfg.compare.methods.keys() - {name})
        own = change(cfg, {"compare": {"methods": others}}, "the test")
        text = describe_comparison("compare", own, 2)
        tokens[name] = float(text.partition(" tokens of trials")[0].split()[-1])
    in_full = 3 * 64 * cfg.proxy.trial_tokens
    assert tokens["doremi"] == tokens["regmix"] == in_full
    # 47 and 8 proposals, of which 19 and 4 go on after a quarter; 9 replicates.
    assert tokens["climb"] == pytest.approx(in_full * (55 / 4 + 23 * 3 / 4 + 9) / 64, rel=1e-2)


def read_stage(text, name):
    """Return the core-hours and the work of a stage."""
    [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    _, hours, _, *work = line.split()
    return float(hours), " ".join(work)


@pytest.mark.parametrize(
    ("name", "counts"),
    [("schedule", (1, 1)), ("clusters", (7, 7)), ("first-draw", (1, 1)), ("proxy-size", (3, 1))],
)
def test_an_estimate_counts_the_base_checkpoints_of_rows_with_other_proxies_or_domains(
    name, counts
):
    cfg = load(ROOT / "conf" / "ablations" / f"{name}.yaml")
    text = describe_comparison("ablate", cfg, 2)
    rows = [
        cfg.model_copy(update={"ablate": cfg.ablate.model_copy(update={"values": {key: value}})})
        for key, value in cfg.ablate.values.items()
    ]
    alone = [describe_comparison("ablate", row, 2) for row in rows]
    for stage, n in zip(("base", "target_base"), counts, strict=True):
        hours = [read_stage(row, stage)[0] for row in alone[:n]]
        assert read_stage(text, stage)[0] == pytest.approx(sum(hours), rel=0.01)


def test_a_target_model_like_the_proxies_needs_no_base_checkpoint_of_its_own():
    cfg = load(settings=[REPORTED])
    alike = {"model": cfg.proxy.model, "base_tokens": cfg.proxy.base_tokens}
    text = describe_comparison("compare", change(cfg, {"train": alike}, "x"), 2)
    assert read_stage(text, "target_base") == (0.0, "nothing: it is the checkpoint of `base`")
    assert read_stage(describe_comparison("compare", cfg, 2), "target_base")[0] > 0.0
    distributed = change(cfg, {"train": {**alike, "processes": 2}}, "x")  # it rounds differently
    text = describe_comparison("compare", distributed, 2)
    assert read_stage(text, "target_base")[0] == pytest.approx(read_stage(text, "base")[0])


def test_methods_that_train_no_proxies_need_a_base_checkpoint_of_the_target_model_alone():
    cfg = load(settings=[REPORTED])
    others = dict.fromkeys(cfg.compare.methods.keys() - {"natural", "uniform"})
    alike = {"model": cfg.proxy.model, "base_tokens": cfg.proxy.base_tokens}
    untrained = change(cfg, {"compare": {"methods": others}, "train": alike}, "x")
    text = describe_comparison("compare", untrained, 2)
    assert read_stage(text, "base") == (0.0, "nothing: no method trains proxies")
    whole = describe_comparison("compare", cfg, 2)
    assert read_stage(text, "target_base") == read_stage(whole, "base")


def test_an_estimate_counts_doremi_and_components_once_for_all_seeds_and_equal_searches():
    baselines = [{"use": "climb.search.baselines:DoremiMixture", "name": "doremi"}]
    merged = [{"use": "climb.fidelity.merged:MergedFidelity", "component_tokens": 1_000_000}]
    cfg = load(settings=[REPORTED, "prune.domains=10", "prune.merge_height=null"])
    cfg = change(cfg, {"search": {"halving": []}, "doremi": {"trials": 30}}, "x")
    only = dict.fromkeys(cfg.compare.methods, None) | {"a": {}, "b": {"search": {"candidates": 9}}}
    plain = change(cfg, {"compare": {"methods": only}}, "x")
    found = {}
    for name, search in (
        ("plain", {}),
        ("doremi", {"baselines": [*cfg.search.baselines, *baselines]}),
        ("components", {"fidelities": merged}),
    ):
        text = describe_comparison("compare", change(plain, {"search": search}, "x"), 2)
        found[name] = read_stage(text, "search")
    n_tokens = 2 * 3 * 64 * cfg.proxy.trial_tokens
    doremi = 4 / 3 * 30 * cfg.proxy.trial_tokens
    for name, extra in (("doremi", doremi), ("components", 10 * 1_000_000)):
        assert found[name][0] / found["plain"][0] == pytest.approx(1 + extra / n_tokens, rel=1e-2)
        assert f"{n_tokens:.3g} tokens of trials, {extra:.3g} of DoReMi" in found[name][1]
    without = change(
        plain,
        {"search": {"fidelities": merged}, "prune": {"domains": None, "merge_height": 1.5}},
        "x",
    )
    work = read_stage(describe_comparison("compare", without, 2), "search")[1]
    assert work.endswith("components are not counted: set prune.domains")


def test_the_experiment_s_two_tables_share_all_that_is_trained_before_the_objective_counts():
    general, stem = (
        load(ROOT / "conf" / "experiments" / f"{name}.yaml") for name in ("general", "mmlu-stem")
    )
    for section in ("storage", "ingest", "cluster", "prune", "proxy", "train"):
        assert getattr(general, section) == getattr(stem, section)
    assert general.train.tokens >= 10 * general.proxy.trial_tokens
    assert (general.compare.budget, general.compare.seeds) == (64, 3)
    assert general.compare.name != stem.compare.name


@dataclass(frozen=True, kw_only=True)
class Costly:
    """A method that trains other models than trials."""

    trials: float

    def count_trials(self, cfg):
        return self.trials

    def find_mixture(self, store, cfg):
        return FoundMixture({"web": 1.0}, self.trials, 7e6)


def plan_plugin(spec):
    return plan(f"compare.methods.new={{mixture: {spec}}}")["new"]


def test_a_plug_in_counts_its_own_trials_up_to_the_budget():
    method = plan_plugin(f"{{use: '{__name__}:Costly', trials: 64}}")
    assert count_paid(method) == 64
    assert make_mixture(None, method, 0).n_tokens == 7e6
    with pytest.raises(ConfigError, match=r"methods\.new needs 64.5 trials; compare.budget is 64"):
        build_plugin(plan_plugin(f"{{use: '{__name__}:Costly', trials: 64.5}}"))


def test_a_plug_in_that_makes_no_mixture_is_an_error():
    with pytest.raises(ConfigError, match="must have make_mixture"):
        build_plugin(plan_plugin("{use: 'climb.predictor.gp:GPPredictor'}"))


def test_replicates_are_none_or_at_least_two():
    assert load(settings=["search.replicates=0"]).search.replicates == 0
    with pytest.raises(ConfigError, match="one seed shows no observation noise"):
        load(settings=["search.replicates=1"])


def test_a_comparison_holds_the_locks_and_needs_the_inputs_of_the_jobs_that_it_starts():
    assert add_started(["compare"]) == ["compare", *STARTS["compare"]]
    with pytest.raises(PreflightError, match=r"proxy\.targets is empty"):
        run_preflight(load(), add_started(["compare"]))


def test_a_comparison_checks_the_plug_ins_of_its_methods_before_spark_starts():
    wrong = "compare.methods.regmix.search.searcher={use: 'climb.search:Nothing'}"
    with pytest.raises(PreflightError, match=r"compare\.methods\.regmix\.search\.searcher"):
        run_preflight(load(settings=[wrong, REPORTED]), ["compare"])


def test_a_change_merges_as_a_file_does_but_replaces_plug_ins():
    cfg = change(load(), {"proxy": {"model": {"hidden": 64}}}, "x")
    assert (cfg.proxy.model["hidden"], cfg.proxy.model["layers"]) == (64, 2)
    spec = {"use": "climb.proxy.llama:LlamaProxy", "hidden": 64}
    assert change(load(), {"proxy": {"model": spec}}, "x").proxy.model == spec
    with pytest.raises(ConfigError, match=r"^here: unknown key proxy\.modell"):
        change(load(), {"proxy": {"modell": 1}}, "here")


TWO_TARGETS = (
    "proxy.targets=[{name: a, kind: choices, search: a.jsonl, report: b.jsonl, limit: null}, "
    "{name: b, kind: choices, search: c.jsonl, report: null, limit: null}]"
)


def start_training(*settings):
    """Start a comparison without a method; it yields after its checks."""
    cfg = load(settings=[TWO_TARGETS, *settings])
    trainer = Trainer("compare", None, cfg, [], 1, {})
    trainer._collect = lambda last, n_failed: "checked"
    return next(trainer.train())


@pytest.mark.parametrize(
    "objective", ["0.3*a.bpb:min + 0.7*b.bpb:min", "mean(*.bpb):min", "mean(a.bpb, b.bpb):min"]
)
def test_a_target_of_the_objective_without_items_to_report_on_is_found_before_training(objective):
    with pytest.raises(ConfigError, match=r"uses b, but proxy\.targets has no `report` file"):
        start_training(f"search.objective='{objective}'")


@pytest.mark.parametrize("objective", ["a.bpb:min", "mean(a.*):max", "of-a-plug-in:min"])
def test_a_target_that_the_objective_does_not_use_needs_no_items_to_report_on(objective):
    assert start_training(f"search.objective='{objective}'") == "checked"


def test_the_card_of_a_model_names_the_search_that_found_its_mixture(tmp_path, monkeypatch):
    proxy = LlamaProxy(hidden=8, layers=1, heads=2, sequence=32, batch=4, learning_rate=1e-2)
    setup = make_setup(tmp_path, proxy, {"law": 0.5, "web": 0.5})
    setup = dataclasses.replace(setup, kept_models=tmp_path)
    cfg = load(settings=["compare.name=mine"])
    methods = [method for method in plan_comparison(cfg) if method.name in ("regmix", "climb")]
    trainer = Trainer("compare", None, cfg, methods, 1, {})
    trainer._open_setup = lambda *_: setup
    trainer._setups[None, "target"] = setup
    for i, method in enumerate(methods):
        weights = {"law": 0.1 + 0.1 * i, "web": 0.9 - 0.1 * i}
        trainer.found[method.name, 0] = FoundMixture(weights)

    def write_cards(store, cfg, setup, planned):
        for model in planned.values():
            write_model_card(setup, model, {"a.bpb": 1.0}, {})
        return len(planned), 0, 0

    monkeypatch.setattr(compare_module, "train_planned", write_cards)
    assert trainer._train_targets(0) == 0
    titles = {
        next(line for line in path.read_text().splitlines() if line.startswith("# "))
        for path in tmp_path.glob("*/README.md")
    }
    assert titles == {
        f"# Mixture `{name}` of search `mine.{name}.0`, seed 0" for name in ("regmix", "climb")
    }
