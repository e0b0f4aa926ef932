"""An estimate is work divided by measured rates; what is unknown is asked for, never assumed."""

import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import world
import yaml
from click.testing import CliRunner

from climb.cli.commands import climb
from climb.config import load
from climb.errors import ConfigError, InputError
from climb.estimate import Machines, Workload, compute_estimate, load_rates
from climb.estimate.models import count_parameters, count_vocabulary
from climb.estimate.rates import KEPT, Efficiency, parse_assignments
from climb.estimate.text import format_bytes, format_hours
from climb.estimate.training import (
    count_mean_tokens,
    count_models,
    count_packed_tokens,
)
from climb.proxy.llama import LlamaProxy
from climb.search.comparison import count_trials
from climb.spark.training.pack import plan_shards
from climb.tracking.speeds import read_trial_speed

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "conf" / "climb-paper.yaml"
WORKLOAD = Workload(2e9, 8e11, 4.0)


def find(estimate, name):
    return next(cost for cost in estimate.stages if cost.stage.name == name)


def estimate_paper(machines=None, workload=WORKLOAD, **rates):
    used = load_rates().override(rates, "test")
    return compute_estimate(load(PAPER), workload, machines or Machines(), used)


def test_the_search_of_the_paper_is_118_trials_at_six_operations_per_parameter_and_token():
    cfg = load(PAPER)
    assert count_trials(cfg.search) == 64 + 32 + 16 + 2 * 2 + 2
    rates = load_rates()
    n_parameters = 32_768 * 912 + 32 * (4 * 912**2 + 3 * 912 * 2_432)
    share = rates.efficiency["train"].at(n_parameters)
    seconds = 6 * n_parameters * 30e9 * 118 / (share * rates.by_name["gpu.h100"].value)
    assert find(estimate_paper(), "search").gpu_hours == pytest.approx(seconds / 3600)
    assert find(estimate_paper(), "base").gpu_hours == pytest.approx(seconds / 3600 / 118 / 3)
    train = find(estimate_paper(), "train").stage
    assert train.work == "3 x 4e+10 tokens, 9.56e+08 parameters"


def test_rungs_lower_the_tokens_of_the_search_to_those_that_are_trained():
    plain = load(PAPER)
    halved = load(PAPER, settings=["search.halving=[{share: 0.25, keep: 0.5}]"])
    saved = (64 + 32 + 16) / 2 * 0.75
    whole, part = (count_mean_tokens(cfg) / plain.proxy.trial_tokens for cfg in (plain, halved))
    assert whole == 1.0
    assert part == pytest.approx((118 - saved) / 118)
    machines = (Machines(), load_rates())
    hours = [
        find(compute_estimate(cfg, WORKLOAD, *machines), "search").gpu_hours
        for cfg in (plain, halved)
    ]
    assert hours[1] / hours[0] == pytest.approx(part)


def test_the_counted_runs_are_those_of_a_real_search(tmp_path):
    """A run of this configuration trains 13 trials and 6 models (tests/e2e/test_runs.py)."""
    cfg = load(world.write_world(tmp_path))
    assert (count_trials(cfg.search), count_models(cfg)) == (13, 6)
    targets = [target.model_copy(update={"report": None}) for target in cfg.proxy.targets]
    proxy = cfg.proxy.model_copy(update={"targets": tuple(targets)})
    assert count_models(cfg.model_copy(update={"proxy": proxy})) == 0


def test_the_models_of_doremi_count_as_trials_with_a_third_more_work():
    baselines = "[{use: 'climb.search.baselines:NaturalMixture', name: natural}, "
    baselines += "{use: 'climb.search.baselines:DoremiMixture', name: doremi}]"
    settings = [f"search.baselines={baselines}", "doremi.trials=30", "search.halving=[]"]
    cfg = load(settings=settings)
    stage = find(compute_estimate(cfg, WORKLOAD, Machines(), load_rates()), "search").stage
    assert count_trials(cfg.search) == 121  # two baselines, as by default
    assert stage.work.startswith("161 x 2e+05 tokens")
    assert "DoReMi" in stage.notes[-1]


def test_components_of_fidelities_count_as_the_trials_that_have_as_many_tokens():
    merged = "search.fidelities=[{use: 'climb.fidelity.merged:MergedFidelity'}]"
    plain, some, unknown = (
        find(
            compute_estimate(
                load(settings=["search.halving=[]", *settings]), WORKLOAD, Machines(), load_rates()
            ),
            "search",
        )
        for settings in ([], [merged, "prune.domains=10", "prune.merge_height=null"], [merged])
    )
    assert plain.stage.work.startswith("121 x 2e+05 tokens")
    assert some.stage.work.startswith("123.56 x 2e+05 tokens")  # 10 x 51,200 tokens
    assert unknown.stage.work == plain.stage.work
    assert unknown.stage.notes[-1].startswith("components of search.fidelities are not counted")


def test_a_target_model_like_the_proxies_has_their_base_checkpoint():
    cfg = load(PAPER)
    alike = {"model": cfg.proxy.model, "base_tokens": cfg.proxy.base_tokens}
    shared, distributed = (
        cfg.model_copy(update={"train": cfg.train.model_copy(update=update)})
        for update in (alike, {**alike, "processes": 2})
    )
    estimates = [
        compute_estimate(c, WORKLOAD, Machines(), load_rates()) for c in (cfg, shared, distributed)
    ]
    hours = [find(estimate, "target_base").gpu_hours for estimate in estimates]
    assert hours[0] > 0.0 == hours[1]
    assert hours[2] == find(estimates[2], "base").gpu_hours  # its name has the processes
    assert estimates[2].sizes["models"] > estimates[1].sizes["models"]


@pytest.mark.parametrize("matched", ["true", "false"])
@pytest.mark.parametrize("tokens", [5_000, 1_000_000])
def test_packed_tokens_are_those_that_pack_plans(tmp_path, tokens, matched):
    domains = ["prune.domains=1", "prune.merge_height=null"]
    settings = [f"proxy.match_repetition={matched}", *domains]
    cfg = load(world.write_world(tmp_path), settings)
    domains = [{"domain": "a", "n_tokens": tokens, "n_documents": 10}]
    planned = sum(shard.n_tokens for shard in plan_shards(domains, cfg))
    assert count_packed_tokens(cfg, Workload(10, tokens, 4.0)) == pytest.approx(planned, abs=4)


def test_work_on_the_corpus_grows_with_it_and_fixed_seconds_do_not():
    small = estimate_paper(workload=Workload(1e9, 4e11, 4.0), **{"fixed.ingest": 7.0})
    large = estimate_paper(workload=Workload(1e10, 4e12, 4.0), **{"fixed.ingest": 7.0})
    for name in ("ingest", "count", "score", "cluster", "prune"):
        ratio = find(large, name).core_hours / find(small, name).core_hours
        assert ratio == pytest.approx(10.0), name
    assert find(large, "embed").gpu_hours == pytest.approx(10 * find(small, "embed").gpu_hours)
    assert find(large, "search") == find(small, "search")
    assert find(large, "ingest").stage.fixed_seconds == 7.0
    assert large.sizes["embeddings"] == pytest.approx(10 * small.sizes["embeddings"])


def test_seconds_on_one_machine_are_core_seconds_and_fixed_seconds():
    result = estimate_paper(Machines(on_gpu=False), **{"fixed.ingest": 7.0})
    cores = sum(cost.core_hours for cost in result.stages) * 3600 / 4
    fixed = sum(cost.stage.fixed_seconds for cost in result.stages)
    assert result.predict_seconds(4) == pytest.approx(cores + fixed)
    assert fixed >= 7.0


def test_a_sample_bounds_the_fit_of_the_clusters():
    every = find(estimate_paper(), "cluster").core_hours
    cfg = load(PAPER, ["cluster.sample_per_cluster=256"])
    sampled = compute_estimate(cfg, WORKLOAD, Machines(), load_rates())
    assert find(sampled, "cluster").core_hours < every / 20


def test_vectors_of_a_sample_alone_are_stored_and_the_others_are_embedded_by_job_cluster():
    """The default embedder runs on cores, that of the paper on GPUs."""
    settings = ["cluster.k=1000", "cluster.sample_per_cluster=256"]
    for conf in (None, PAPER):
        every, sample = (
            compute_estimate(load(conf, [*settings, *more]), WORKLOAD, Machines(), load_rates())
            for more in ([], ["cluster.embeddings=sample"])
        )
        share = 256_000 / WORKLOAD.documents
        assert sample.sizes["embeddings"] == pytest.approx(share * every.sizes["embeddings"])
        work = [find(e, "embed").core_hours + find(e, "embed").gpu_hours for e in (every, sample)]
        assert work[1] == pytest.approx(share * work[0])
        assert sample.core_hours == pytest.approx(every.core_hours)
        assert sample.gpu_hours == pytest.approx(every.gpu_hours)


def test_a_sample_of_more_documents_than_there_are_is_all_of_them():
    settings = ["cluster.sample_per_cluster=3_000_000", "cluster.embeddings=sample"]
    found = compute_estimate(load(PAPER, settings), WORKLOAD, Machines(), load_rates())
    assert found.sizes["embeddings"] == estimate_paper().sizes["embeddings"]


def test_a_dataset_table_without_texts_is_a_hundredth():
    found = compute_estimate(load(PAPER, ["mix.text=false"]), WORKLOAD, Machines(), load_rates())
    whole = estimate_paper().sizes
    assert found.sizes["corpus"] == pytest.approx(whole["corpus"] / 100)
    assert found.sizes["mixed (export)"] == whole["mixed (export)"]
    assert any("upper bound" in note for note in find(found, "mix").stage.notes)


def test_shards_of_trials_that_may_repeat_any_domain_are_those_of_a_trial_for_each_domain():
    settings = ["proxy.match_repetition=false", "prune.domains=7", "prune.merge_height=null"]
    cfg = load(PAPER, settings)
    others = (cfg.proxy.base_tokens + cfg.train.base_tokens) / 1e13 + 1.0
    share = others + 7 * cfg.proxy.trial_tokens / 1e13
    assert count_packed_tokens(cfg, Workload(1e9, 1e13, 4.0)) == pytest.approx(share * 1e13)


@pytest.mark.parametrize("name", ["pack", "mix"])
def test_shards_and_dataset_need_a_pass_over_all_documents(name):
    """Equal tokens in a hundredfold number of documents."""
    few, many = (estimate_paper(workload=Workload(n, 8e11, 4.0)) for n in (1e8, 1e10))
    more = find(many, name).core_hours - find(few, name).core_hours
    assert more == pytest.approx(find(many, "prune").core_hours * 0.99)
    assert any("as stage prune" in note for note in find(many, name).stage.notes)


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """An embedder whose width is a default."""

    dim: int = 12

    def load(self, device):
        raise NotImplementedError


def test_the_width_of_vectors_may_be_a_default_of_the_embedder():
    spec = f"embed.embedder={{use: '{__name__}:Embedder'}}"
    rates = load_rates().override({"embed.Embedder": 1e6}, "test")
    sizes = [
        compute_estimate(load(settings=[one]), WORKLOAD, Machines(), rates).sizes["embeddings"]
        for one in (spec, spec.replace("}", ", dim: 24}"))
    ]
    assert sizes[1] - sizes[0] == 12 * 4 * WORKLOAD.documents


def test_sizes_of_vectors_and_shards_follow_from_their_types():
    sizes = estimate_paper(**{"size.tokens": 10.0}).sizes
    assert sizes["embeddings"] == 2e9 * (1024 * 4 + 10)
    # base 10 B, trials 30/40 of the corpus, target base 10 B, target runs all of it; 2 bytes each
    assert sizes["shards"] == pytest.approx(2 * (10e9 + 0.75 * 8e11 + 10e9 + 8e11))


def test_a_price_is_node_hours_times_price_and_unknown_without_one():
    assert estimate_paper().price is None
    assert estimate_paper(Machines(cpu_price=1.0)).price is None  # the search needs GPUs
    machines = Machines(node_cores=10, node_gpus=4, cpu_price=2.0, gpu_price=40.0)
    priced = estimate_paper(machines)
    ingest, search = find(priced, "ingest"), find(priced, "search")
    assert ingest.price == pytest.approx(ingest.core_hours / 10 * 2.0)
    assert search.price == pytest.approx(search.gpu_hours / 4 * 40.0)
    assert priced.price == pytest.approx(sum(cost.price for cost in priced.stages))
    name, of, share = priced.find_dominating()
    assert (name, of) == ("search", "price")
    assert share == pytest.approx(search.price / priced.price)


def test_without_prices_the_dominating_stage_has_the_most_node_hours():
    paper = estimate_paper(fit=1e12)
    node_hours = [cost.cpu_node_hours + cost.gpu_node_hours for cost in paper.stages]
    assert paper.find_dominating()[:2] == ("search", "node-hours")
    assert paper.find_dominating()[2] == pytest.approx(max(node_hours) / sum(node_hours))
    small = compute_estimate(load(), WORKLOAD, Machines(), load_rates())
    assert find(small, small.find_dominating()[0]).core_hours > 0.0
    assert estimate_paper(fit=1e9).find_dominating()[0] == "cluster"


@pytest.mark.parametrize("on_gpu", [True, False])
def test_the_speed_of_ones_own_trials_is_used_on_the_device_that_trains(on_gpu):
    result = estimate_paper(Machines(on_gpu=on_gpu), search=1e5)
    search = find(result, "search")
    hours = 118 * 30e9 / 1e5 / 3600
    assert (search.gpu_hours, search.core_hours)[not on_gpu] == pytest.approx(hours)
    assert (search.gpu_hours, search.core_hours)[on_gpu] == 0.0


def test_a_static_table_runs_on_cores_and_a_transformer_on_gpus():
    static = compute_estimate(load(), WORKLOAD, Machines(), load_rates())
    embed = find(static, "embed")
    assert embed.gpu_hours == 0.0 < embed.core_hours
    embed = find(estimate_paper(), "embed")
    assert embed.core_hours == 0.0 < embed.gpu_hours


def test_a_transformer_reads_at_most_its_maximum_of_tokens():
    short = find(estimate_paper(), "embed").stage  # 400 tokens a document, of at most 512
    long = find(estimate_paper(workload=Workload(2e9, 8e12, 4.0)), "embed").stage
    assert long.gpu_seconds == pytest.approx(short.gpu_seconds * 512 / 400)


def test_scorers_add_up():
    one = load(settings=["score.scorers=[{use: 'climb.quality.rules:RuleScorer'}]"])
    hours = find(compute_estimate(one, WORKLOAD, Machines(), load_rates()), "score").core_hours
    rates = load_rates().by_name
    per_byte = 1 / rates["score"].value + 1 / rates["scorer.RuleScorer"].value
    assert hours == pytest.approx(WORKLOAD.text_bytes * per_byte / 3600)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("embed.embedder={use: 'mine:E', dim: 8}", r"--rate embed\.E=VALUE"),
        ("score.scorers=[{use: 'mine:S'}]", r"--rate scorer\.S=VALUE"),
        (
            "proxy.model={use: 'climb.proxy.llama:HuggingFaceProxy', model: models/mine}",
            r"--parameters proxy\.model=",
        ),
    ],
)
def test_what_is_unknown_is_asked_for(setting, message):
    with pytest.raises(ConfigError, match=message):
        compute_estimate(load(settings=[setting]), WORKLOAD, Machines(), load_rates())


def test_parameters_follow_from_the_shape_as_in_the_model():
    spec = {"hidden": 96, "layers": 2, "heads": 2, "sequence": 32, "batch": 2}
    model = LlamaProxy(**spec, learning_rate=1e-3).create_model(2048)
    actual = sum(parameter.numel() for parameter in model.parameters())
    found = count_parameters("proxy.model", spec, 2048, {}).parameters
    assert found == pytest.approx(actual, rel=0.01)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("models/climb-proxy-350m", 350e6),
        ("models/climb-target-1b", 1e9),
        ("models/stella_en_400M_v5", 400e6),
        ("/m/Qwen2.5-1.5B", 1.5e9),
    ],
)
def test_the_name_of_a_folder_that_does_not_exist_has_the_size(name, parameters):
    size = count_parameters("k", {"use": "m:C", "model": name}, 1, {})
    assert size.parameters == parameters
    assert size.source.startswith("the path ")


def test_a_given_size_and_a_folder_take_precedence_over_the_name(tmp_path):
    folder = tmp_path / "model-350m"
    folder.mkdir()
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 100}
    (folder / "config.json").write_text(json.dumps(shape))
    spec = {"use": "m:C", "model": str(folder)}
    found = count_parameters("k", spec, 1, {}).parameters
    assert found == 100 * 64 + 2 * (4 * 64**2 + 3 * 64 * 128)
    assert count_parameters("k", spec, 1, {"k": 5.0}).parameters == 5.0
    (folder / "config.json").write_text(json.dumps(shape | {"model_type": "bert"}))
    found = count_parameters("k", spec, 1, {}).parameters
    assert found == 100 * 64 + 2 * (4 * 64**2 + 2 * 64 * 128)


def test_the_users_rate_of_a_stage_leaves_the_efficiency_of_the_same_name():
    """The efficiency `train` belongs to all models on GPUs, the rate to stage `train` alone."""
    assert find(estimate_paper(train=1e6), "search") == find(estimate_paper(), "search")
    assert find(estimate_paper(train=1e6), "train") != find(estimate_paper(), "train")


def test_efficiency_is_linear_in_the_logarithm_and_constant_outside():
    efficiency = Efficiency((1e6, 1e8), (0.1, 0.3), "source")
    assert efficiency.at(1e7) == pytest.approx(0.2)
    assert (efficiency.at(1e3), efficiency.at(1e12)) == (0.1, 0.3)


def test_on_cores_a_larger_model_trains_at_a_higher_rate_unless_the_rate_is_given():
    machines, cfg = Machines(on_gpu=False), load(ROOT / "conf" / "demo.yaml")
    rates = load_rates()
    parameters = count_parameters("proxy.model", cfg.proxy.model, count_vocabulary(cfg), {})
    operations = 6.0 * parameters.parameters * cfg.proxy.base_tokens
    found = {}
    for name, used in (("shipped", rates), ("given", rates.override({"train.cpu": 1e10}, "own"))):
        estimate = compute_estimate(cfg, WORKLOAD, machines, used)
        found[name] = operations / find(estimate, "base").core_hours / 3600.0
    assert found["given"] == pytest.approx(1e10)
    assert found["shipped"] == pytest.approx(3.7 * rates.by_name["train.cpu"].value, rel=1e-3)


def test_every_figure_has_a_unit_a_hardware_and_a_source_that_exists():
    rates = load_rates()
    kept = yaml.safe_load(KEPT.read_text())
    texts = [rate.source for rate in rates.by_name.values()]
    texts += [row["source"] for row in kept["efficiency"].values()]
    for rate in rates.by_name.values():
        assert rate.unit
        assert rate.hardware
        assert 0.0 <= rate.value < math.inf
    for text in texts:
        for page in re.findall(r"[\w/]+\.md", text):
            assert page == "gpu.md" or (ROOT / page).is_file(), text
    for efficiency in rates.efficiency.values():
        assert list(efficiency.factors) == sorted(efficiency.factors)


def test_a_note_says_where_every_figure_comes_from():
    result = estimate_paper()
    for cost in result.stages:
        assert cost.stage.sources or cost.stage.name == "report"
    assert any("the shape in proxy.model" in note for note in find(result, "search").stage.notes)


def run(*arguments):
    done = CliRunner().invoke(climb, ["estimate", *map(str, arguments)])
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.mark.parametrize(("documents", "tokens"), [("nan", "8e11"), ("2e9", "inf")])
def test_a_corpus_without_a_finite_size_is_refused(documents, tokens):
    done = CliRunner().invoke(climb, ["estimate", "--documents", documents, "--tokens", tokens])
    assert done.exit_code == 2
    assert "is not a finite number" in done.output


def test_an_estimate_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(InputError, match=f"cannot write {tmp_path}: Is a directory"):
        run("--documents", "2e9", "--tokens", "8e11", "--json", tmp_path)


def test_one_scorer_is_not_several():
    one = load(settings=["score.scorers=[{use: 'climb.quality.rules:RuleScorer'}]"])
    result = compute_estimate(one, WORKLOAD, Machines(), load_rates())
    assert find(result, "score").stage.work.endswith(" TB of text, 1 scorer")


def test_the_command_prints_stages_sizes_sums_and_the_dominating_stage(tmp_path):
    conf = ("--conf", PAPER, "--documents", "2e9", "--tokens", "8e11")
    out = run(*conf, "--rate", "fit=1e12")
    lines = out.splitlines()
    stages = [line.split()[0] for line in lines[3:16]]
    assert stages == [cost.stage.name for cost in estimate_paper().stages]
    assert "dominating stage: search" in out
    assert "give the price of a node-hour with --cpu-price and --gpu-price" in out
    path = tmp_path / "estimate.json"
    priced = run(*conf, "--cpu-price", 1, "--gpu-price", 10, "--json", path)
    assert "% of the price" in priced
    values = json.loads(path.read_text())
    assert values["price"] == pytest.approx(sum(cost["price"] for cost in values["stages"]))
    assert values["dominating"]["stage"] == "search"
    assert values["bytes"] == pytest.approx(sum(values["sizes"].values()))


@pytest.mark.parametrize("keeps", [True, False])
def test_the_models_of_a_run_have_four_bytes_a_parameter(keeps):
    """Base checkpoint of the proxies, base checkpoint and kept models of the targets."""
    cfg = load(PAPER, settings=[f"train.keep_models={str(keeps).lower()}"])
    n_models = count_models(cfg)
    assert n_models > 0
    parameters = {"proxy.model": 3.5e8, "train.model": 1e9}
    found = compute_estimate(cfg, WORKLOAD, Machines(), load_rates(), parameters)
    assert found.sizes["models"] == 4.0 * (3.5e8 + (1 + keeps * n_models) * 1e9)
    proxy = cfg.proxy
    same = cfg.train.model_copy(update={"model": proxy.model, "base_tokens": proxy.base_tokens})
    cfg = cfg.model_copy(update={"train": same})
    found = compute_estimate(cfg, WORKLOAD, Machines(), load_rates(), parameters)
    assert found.sizes["models"] == 4.0 * (3.5e8 + keeps * n_models * 1e9)


def test_a_given_rate_replaces_the_measured_one_and_is_named_as_such(tmp_path):
    conf = ("--documents", "1e6", "--tokens", "1e9", "--bytes-per-token", 3.6)
    path = tmp_path / "e.json"
    out = run(*conf, "--rate", "ingest=1e6", "--json", path)
    assert "ingest: 1e+06 bytes of text per core-second (not stated; given with --rate)" in out
    assert json.loads(path.read_text())["stages"][0]["core_hours"] == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["ingest", "=3", "ingest=x", "ingest=0", "ingest=-1", "a=inf"])
def test_an_option_of_another_form_is_refused(text):
    with pytest.raises(ConfigError, match="write NAME=VALUE"):
        parse_assignments([text], "--rate")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--rate=gpu.h10=1e14", r"--rate gpu\.h10 is unknown .*did you mean 'gpu\.h100'"),
        ("--rate=embed=1e6", r"--rate embed is unknown .*known: .*embed\.StaticEmbedder"),
        ("--parameters=proxy=3e8", r"did you mean 'proxy\.model'\? \(known: embed\.embedder, "),
        ("--parameters=score.scorers.9=3e8", r"scorers\.9 is unknown .*score\.scorers\.0"),
    ],
)
def test_a_mistyped_name_is_an_error_that_lists_the_known_ones(option, message):
    with pytest.raises(ConfigError, match=message):
        run("--documents", 1e6, "--tokens", 1e9, option)


def test_rates_of_stages_and_of_plug_ins_may_be_given():
    names = ("search", "base", "train", "fixed.report", "embed.Mine", "scorer.Mine", "gpu.h100")
    given = [word for name in names for word in ("--rate", f"{name}=1e6")]
    settings = ["embed.embedder={use: 'm:Mine', dim: 8}", "score.scorers=[{use: 'm:Mine'}]"]
    given += [word for setting in settings for word in ("--set", setting)]
    out = run("--documents", 1e6, "--tokens", 1e9, *given, "--parameters", "proxy.model=3e8")
    assert "scorer.Mine: 1e+06" in out


def test_the_command_imports_neither_spark_nor_torch():
    code = (
        "import sys\nfrom climb.cli.commands import climb\n"
        "arguments = ['estimate', '--documents', '1e9', '--tokens', '4e11']\n"
        "climb.main(arguments, standalone_mode=False)\n"
        "assert not {'pyspark', 'torch', 'mlflow', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _fake_mlflow(monkeypatch, runs):
    mlflow = pytest.importorskip("mlflow")

    class Client:
        def __init__(self, tracking_uri):
            self.uri = tracking_uri

        def get_experiment_by_name(self, name):
            return None if runs is None else SimpleNamespace(experiment_id="1")

        def search_runs(self, ids, where, max_results):
            assert "climb.kind" in where
            data = [SimpleNamespace(params={"tokens": str(t)}, metrics=m) for t, m in runs]
            return [SimpleNamespace(data=one) for one in data]

    monkeypatch.setattr(mlflow, "MlflowClient", Client)


def test_own_trials_give_the_median_speed_of_the_proxies(monkeypatch, tmp_path):
    cfg = load(settings=[f"storage.root={tmp_path}"])
    runs = [(1000, {"seconds": s}) for s in (1.0, 2.0, 10.0)] + [(1000, {"seconds": 0.0})]
    _fake_mlflow(monkeypatch, runs)
    speed = read_trial_speed(cfg)
    assert speed.tokens_per_second == 500.0
    assert speed.source.startswith("median of 3 trials of experiment climb, sqlite:///")
    out = run(
        "--documents", 1e6, "--tokens", 1e9, "--own-trials", "--set", f"storage.root={tmp_path}"
    )
    assert "median of 3 trials" in out


@pytest.mark.parametrize("runs", [None, []])
def test_without_trials_of_ones_own_the_experiment_is_named(monkeypatch, tmp_path, runs):
    _fake_mlflow(monkeypatch, runs)
    with pytest.raises(InputError, match=r"experiment 'climb' of .* has no finished trial"):
        read_trial_speed(load(settings=[f"storage.root={tmp_path}"]))
    with pytest.raises(InputError, match="tracking is off"):
        read_trial_speed(load(settings=["tracking.enabled=false"]))


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (8.28e12, "8.28 TB"), (1e22, "1e+04 EB")],
)
def test_bytes_have_three_digits(n, text):
    assert format_bytes(n) == text


@pytest.mark.parametrize(
    ("hours", "text"), [(0, "-"), (0.5, "0.5"), (1e3, "1,000"), (12.34, "12.3")]
)
def test_hours_have_three_digits(hours, text):
    assert format_hours(hours) == text
