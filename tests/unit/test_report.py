"""The report states the verdict first, states plainly when there is no gain, and trusts no text."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from small_search import small_search

from climb.config import load
from climb.dataset.card import DomainCounts
from climb.report import (
    Cluster,
    Domain,
    Evaluation,
    Rejection,
    ReportData,
    Trial,
    render,
)
from climb.report.charts import mixture_chart
from climb.report.effects import tabulate_effects
from climb.report.formats import NOTHING, THIN, number, signed
from climb.report.measured import Run, mean_of, measure, objective_of
from climb.search.effects import TradeOff
from climb.search.gains import Gain
from climb.search.knowledge_gradient import FurtherRound
from climb.search.records import Effect, EffectsRecord, HalvingRecord, MixtureRecord, RoundQuality
from climb.search.reuse import ReuseSummary
from climb.search.trials import RECOMMENDED
from climb.spark.results.report import select_evaluations

SEARCH = small_search()
RESULT = SEARCH.result
DOMAINS = RESULT.domains
EXAMPLES = (
    "Heat the oven to 180 degrees and butter a dish. " * 4,
    "Whisk the eggs with the sugar until the mixture is pale and thick.",
)


def trial(row):
    return Trial(
        trial_id=row["trial_id"],
        round_=row["round"],
        method=row["method"],
        seed=row["seed"],
        metrics=row["metrics"],
        status=row["status"],
        error=row["error"],
        n_tokens=row["n_tokens"],
        seconds=row["seconds"],
    )


def evaluations(noise=0.0, n_seeds=3, swap=None):
    """Metrics of target models; `swap` exchanges the mixtures of two methods."""
    rng = np.random.default_rng(7)
    return tuple(
        Evaluation(
            model=f"{(swap or {}).get(method, method)}-{seed}",
            method=method,
            seed=seed,
            metric=name,
            value=value + noise * rng.standard_normal(),
            n_tokens=1_000_000,
            seconds=80.0,
        )
        for method in (RECOMMENDED, *RESULT.baselines)
        for seed in range(n_seeds)
        for name, value in SEARCH.metrics((swap or {}).get(method, method), seed).items()
    )


@pytest.fixture
def data():
    tokens = 4_300_000
    natural = SEARCH.mixture("natural")
    return ReportData(
        result=RESULT,
        domains=tuple(
            Domain(
                name=name,
                n_documents=int(9_000 * natural[name]),
                n_tokens=int(tokens * natural[name]),
                token_share=natural[name],
                terms=(f"{name}-oven", f"{name}-court", f"{name}-orbit"),
                examples=EXAMPLES,
                clusters=(1, 2),
            )
            for name in DOMAINS
        ),
        trials=tuple(trial(row) for row in SEARCH.rows),
        evaluations=evaluations(),
        clusters=tuple(
            Cluster(
                cluster=i,
                n_documents=400 - 10 * i,
                n_tokens=180_000 - 9_000 * i,
                scores={"rules": 4.4 - 0.3 * i, "educational": 2.8 - 0.1 * i},
                kept=i < 9,
                reason=None if i < 9 else f"rules {4.4 - 0.3 * i:.2f} < 3.0",
                domain=DOMAINS[i % 4] if i < 9 else None,
            )
            for i in range(12)
        ),
        rejections=(
            Rejection(reason="duplicate", n_rows=311, example="news.jsonl: same text as 4f2a"),
            Rejection(reason="too short", n_rows=57, example="tweets.jsonl: 12 characters"),
            Rejection(reason="invalid UTF-8", n_rows=3, example="old.txt: 4 % of the bytes"),
        ),
        corpus={
            name: DomainCounts(
                rows=int(5_000 * w), documents=int(2_000 * w), tokens=int(1_000_000 * w)
            )
            for name, w in RESULT.recommended.weights.items()
        },
        n_documents=9_412,
        max_epochs=4.0,
        versions={"documents": 1, "trials": 37, "mixtures": 0, "evaluations": 8},
        configuration="search:\n  name: default\n  seed: 0\n",
    )


def model_rows(method, recipe, day, seeds=1):
    """Rows of table `evaluations` of one mixture, each with its method."""
    return [
        (
            method,
            {"model": f"{recipe} {method} {seed}", "method": method, "seed": seed, "recipe": recipe}
            | {"corpus_digest": "d", "weights": SEARCH.mixture(method), "n_tokens": 1}
            | {"metric": name, "value": value, "seconds": 1.0, "finished": day},
        )
        for seed in range(seeds)
        for name, value in SEARCH.metrics(method, seed).items()
    ]


def rows_of_all(recipe, day, seeds=1):
    methods = (RECOMMENDED, *RESULT.baselines)
    return [row for method in methods for row in model_rows(method, recipe, day, seeds)]


def test_baselines_that_another_search_trained_later_do_not_hide_the_recommendation():
    own = rows_of_all("own", 1)
    others = [row for m in RESULT.baselines for row in model_rows(m, "other", 2)]

    def read(rows):
        return select_evaluations(rows, None, load())[0]

    assert {row.method for row in read(own)} == {RECOMMENDED, *RESULT.baselines}
    assert read([*own, *others]) == read(own)
    assert read(others) != ()  # without a model of the recommendation, its baselines are shown


def test_the_report_shows_the_target_models_of_the_configuration_and_not_those_trained_last():
    first, later = rows_of_all("first", 1, seeds=3), rows_of_all("later", 2)
    two_seeds = load(settings=["train.seeds=2"])
    shown, note = select_evaluations([*first, *later], ("first", "d"), two_seeds)
    assert {row.model for row in shown} == {r["model"] for _, r in first if r["seed"] < 2}
    assert note == ""


def test_without_target_models_of_the_configuration_the_last_ones_are_shown_and_named_so(data):
    rows = [*rows_of_all("first", 1), *rows_of_all("later", 2, seeds=3)]
    shown, note = select_evaluations(rows, ("other", "d"), load(settings=["train.seeds=2"]))
    assert {row.model for row in shown} == {r["model"] for _, r in rows if r["recipe"] == "later"}
    assert note in page_of(replace(data, evaluations=shown, models_note=note))
    assert "climb train" in note
    assert note not in page_of(data)


def change(data, **fields):
    """The same data with other fields of the search result."""
    return replace(data, result=data.result.model_copy(update=fields))


class Page(HTMLParser):
    """The text that a reader sees, and everything that could load or run something."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.links, self.open = [], [], [], []
        self.feed(text)
        self.close()
        self.visible = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "link", "br", "hr", "img"):
            self.open.append(tag)
        for key, value in attrs:
            if key.startswith("on") or key in ("src", "srcset", "action", "href"):
                self.links.append((tag, key, value))

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, text):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.text.append(text)


def page_of(data):
    return Page(render(data)).visible


def test_the_verdict_and_its_size_come_before_everything_else(data):
    page = page_of(data)
    headline = page.index("The recommended mixture beats natural and uniform")
    assert headline < page.index("The mixture: share of training tokens")
    gain = RESULT.measured_gains["natural"]
    assert page.index(signed(gain.mean)) < page.index("Domains are kept clusters, merged")
    order = ["Domains", "Rounds", "Predicted and measured", "Baselines", "Pruned and rejected"]
    positions = [page.rindex(f"{name} ") for name in order]
    assert positions == sorted(positions)


def test_gains_of_the_target_model_are_paired_by_seed(data):
    data = replace(data, evaluations=evaluations(noise=0.01))
    scores = {}
    for row in data.evaluations:
        scores.setdefault((row.method, row.seed), []).append(-row.value)
    gains = [np.mean(scores[RECOMMENDED, s]) - np.mean(scores["natural", s]) for s in range(3)]
    half = 2.919986 * np.std(gains, ddof=1) / np.sqrt(3)  # t(0.95) with 2 degrees of freedom
    page = page_of(data)
    for value in (np.mean(gains), np.mean(gains) - half, np.mean(gains) + half):
        assert signed(float(value)) in page
    assert "paired t test over 3 seeds" in page


def test_a_difference_within_the_noise_between_seeds_is_no_gain(data):
    noisy = evaluations(noise=0.2, swap={RECOMMENDED: "natural"})
    page = page_of(replace(data, evaluations=noisy))
    assert "No gain found" in page
    assert "The interval contains 0, so the difference may be due to chance" in page
    assert "mixture beats" not in page


def test_a_mixture_that_is_worse_is_called_worse(data):
    swap = {RECOMMENDED: "natural", "natural": RECOMMENDED}
    page = page_of(replace(data, evaluations=evaluations(swap=swap)))
    assert "No gain found" in page
    assert "The recommended mixture is worse than natural: the interval is below 0" in page


def test_a_gain_over_the_reference_alone_is_a_mixed_verdict(data):
    rows = tuple(
        row for row in data.evaluations if row.method != "uniform"
    ) + tuple(
        replace(row, method="uniform", value=row.value - 0.01 * (row.seed - 1))
        for row in data.evaluations
        if row.method == RECOMMENDED
    )  # fmt: skip
    assert "beats natural, but not uniform" in page_of(replace(data, evaluations=rows))


def test_a_gain_on_proxies_that_the_target_model_does_not_show_is_stated(data):
    same = evaluations(noise=0.2, swap={RECOMMENDED: "natural"})
    page = page_of(replace(data, evaluations=same))
    assert "On the proxies, the gain over natural was clear" in page
    assert "did not transfer to the target model" in page


def test_without_a_target_model_the_verdict_is_an_expectation(data):
    untested = replace(data, evaluations=())
    page = page_of(untested)
    assert "Proxy models show a gain" in page
    assert "run `climb train`" in page
    unclear = {"natural": Gain(mean=0.002, low=-0.01, high=0.014, p_better=0.6, n_pairs=3)}
    assert "No gain found" in page_of(change(untested, measured_gains=unclear))
    assert "The proxies were not compared" in page_of(change(untested, measured_gains={}))


def test_one_seed_gives_no_interval(data):
    page = page_of(replace(data, evaluations=evaluations(n_seeds=1)))
    assert "fewer than two seeds in common" in page
    assert mean_of([1.0]).low is None


def test_a_third_baseline_appears_in_every_table_and_chart(data):
    third = MixtureRecord(
        name="ours", weights=SEARCH.mixture("uniform"), epochs={}, score=-1.0, score_std=0.1
    )
    own = [replace(t, method="ours") for t in data.trials if t.method == "uniform"]
    models = [replace(row, method="ours") for row in data.evaluations if row.method == "uniform"]
    gains = RESULT.measured_gains
    extended = change(
        replace(
            data, trials=(*data.trials, *own), evaluations=(*data.evaluations, *models)
        ),
        mixtures=(*RESULT.mixtures, third),
        predicted_gains=RESULT.predicted_gains | {"ours": RESULT.predicted_gains["uniform"]},
        measured_gains=gains | {"ours": gains["uniform"]},
    )  # fmt: skip
    text = render(extended)
    page = Page(text).visible
    assert "The recommended mixture beats natural, uniform and ours" in page
    assert page.count("gain over ours") == 2  # the target model's table, and the proxies'
    assert "target model, against ours" in page
    assert "proxies, against ours" in page
    assert text.count(">ours</text>") == 3  # its band, and its mean on proxies and target model


def test_text_of_documents_never_becomes_markup(data):
    hostile = (
        "<script>alert(1)</script><img src=x onerror=alert(2)>",
        "</style></svg><svg onload=alert(3)> \x00\x1b[31m \ud800 \u202e {{ 7 * 7 }}",
        "'\"--><iframe src=javascript:alert(4)>",
    )
    name = "<b onclick=x>&</b>"
    evil = replace(data.domains[0], name=name, terms=(hostile[0],), examples=hostile)
    mixtures = tuple(
        m.model_copy(update={"weights": {**m.weights, name: 0.0}, "epochs": {**m.epochs, name: 0}})
        for m in RESULT.mixtures
    )
    effects = {name: own for name, own in RESULT.effects.domains.items()}
    effects[hostile[1]] = dict(RESULT.effects.domains[DOMAINS[0]])
    pair = TradeOff(metrics=(hostile[0], hostile[1]), correlation=-0.9, domain=hostile[2],
                    effects=(0.1, -0.1))  # fmt: skip
    bad = change(
        replace(
            data,
            domains=(evil, *data.domains[1:]),
            rejections=(Rejection(reason=hostile[0], n_rows=1, example=hostile[1]),),
            clusters=(replace(data.clusters[-1], reason=hostile[0]),),
            trials=(replace(data.trials[8], error=hostile[0]), *data.trials),
            configuration=hostile[0],
        ),
        search=hostile[2],
        objective=hostile[0],
        mixtures=mixtures,
        low_signal_metrics=(hostile[0],),
        effects=EffectsRecord(step=0.01, domains=effects, trade_offs=(pair,)),
    )
    text = render(bad)
    page = Page(text)
    assert not {"script", "iframe", "img"} & set(page.tags)
    assert all(value.startswith("#") or value == "data:," for _, _, value in page.links)
    assert page.open == []
    assert "<script>alert(1)</script>" in page.visible
    assert "49" not in re.findall(r"\{\{ 7 \* 7 \}\}|\b49\b", page.visible)
    assert not re.search("[\x00-\x08\x0b-\x1f\ud800-\udfff]", text)
    text.encode("utf-8")


def test_the_page_loads_nothing(data):
    text = render(data)
    page = Page(text)
    assert "default-src 'none'" in text
    assert not {"script", "iframe", "img", "object", "embed"} & set(page.tags)
    assert re.findall(r"url\(|@import", text) == []
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert len(text) < 300_000


def test_equal_rows_give_equal_bytes_whatever_order_mappings_have(data):
    def turn(mapping):
        return dict(reversed(mapping.items()))

    mixtures = tuple(
        m.model_copy(update={"weights": turn(m.weights), "epochs": turn(m.epochs)})
        for m in RESULT.mixtures
    )
    other = change(
        replace(data, trials=tuple(replace(t, metrics=turn(t.metrics)) for t in data.trials)),
        mixtures=mixtures,
        noise=turn(RESULT.noise),
        signal_to_noise=turn(RESULT.signal_to_noise),
    )
    assert render(other) == render(data)


def test_kept_and_rejected_documents_are_counted(data):
    page = page_of(data).replace("\u202f", " ")
    assert "Table documents has 9 412 documents. 371 rows of the inputs were rejected" in page
    assert "3 of 12 clusters were pruned" in page
    assert "rules 1.70 < 3.0" in page


def test_failed_trials_are_listed_with_their_error(data):
    page = page_of(data)
    assert "loss became NaN at step 7" in page
    assert f"1 of {len(SEARCH.rows)} trials failed" in page


def test_runs_that_two_methods_share_are_counted_once(data):
    """A recommendation that equals the natural mixture has its trials and its models."""
    shared = {RECOMMENDED: "natural"}
    trials = [t for t in data.trials if t.method not in (RECOMMENDED, "natural")]
    natural = [t for t in data.trials if t.method == "natural"]
    trials += [*natural, *(replace(t, method=RECOMMENDED) for t in natural)]
    page = page_of(replace(data, trials=tuple(trials), evaluations=evaluations(swap=shared)))
    n_trials, n_models = len(trials) - len(natural), 3 * len(RESULT.baselines)
    assert f" {n_trials} trials" in page
    assert f"{n_models} target models" in page


def test_a_domain_at_its_limit_of_epochs_is_named(data):
    recommended = RESULT.recommended
    name = max(recommended.epochs, key=recommended.epochs.get)
    epochs = recommended.epochs[name]
    assert f"{name}: at the limit of {epochs:.1f} epochs" in page_of(
        replace(data, max_epochs=epochs)
    )
    high = replace(data, max_epochs=epochs, domain_max_epochs={name: 2 * epochs})
    page = page_of(high)
    assert f"{name}: at the limit" not in page
    assert f"the limit is {epochs:.1f}; the limit of {name} is {2 * epochs:.1f}" in page
    own = page_of(replace(data, max_epochs=100.0, domain_max_epochs={name: epochs}))
    assert "or a higher max_epochs in search.constraints, may help" in own
    assert "at the limit" not in page_of(replace(data, max_epochs=None))


def test_a_weak_predictor_is_a_reason_and_a_next_step(data):
    weak = (RoundQuality(round=0, n_trials=9, spearman={"score": 0.11}),)
    page = page_of(change(data, quality=weak))
    assert "ranks unseen mixtures poorly (Spearman 0.11" in page
    assert "search.trials_per_round: the predictor ranks unseen mixtures poorly" in page
    assert "ranks unseen mixtures poorly" not in page_of(data)


def test_the_predicted_gain_is_shown_with_the_measured_one(data):
    page = page_of(data)
    predicted, measured = RESULT.predicted_gains["natural"], RESULT.measured_gains["natural"]
    assert f"The predictor expected a gain of {signed(predicted.mean)} over the natural" in page
    assert f"measured {signed(measured.mean)} ({signed(measured.low)} to" in page


def test_reused_runs_of_earlier_domains_are_described(data):
    some = ReuseSummary(
        n_reused=40, n_dropped=3, kept_mean=0.912, kept_min=0.6, tv_distance_mean=0.134
    )
    page = page_of(change(data, reuse=some))
    assert "40 of these trials are runs of earlier domains" in page
    assert "91.2 % of the text that they read is still in the corpus (at least 60.0 %)" in page
    assert "3 other runs were left out" in page
    none = replace(some, n_reused=0, kept_mean=None, kept_min=None, tv_distance_mean=None)
    assert "3 runs of earlier domains were left out" in page_of(change(data, reuse=none))
    for without in (None, replace(none, n_dropped=0)):
        assert "earlier domains" not in page_of(change(data, reuse=without))


def test_trials_that_were_stopped_early_are_counted_and_do_not_count_as_failed(data):
    halving = HalvingRecord(n_stopped=2, n_tokens=3_000_000, n_tokens_in_full=4_000_000)
    stopped = [replace(t, status="stopped", n_tokens=50_000) for t in data.trials[-2:]]
    page = page_of(change(replace(data, trials=(*data.trials[:-2], *stopped)), halving=halving))
    sentence = "2 trials stopped early, so 3,000,000 of 4,000,000 tokens were trained (75%)"
    assert f"Successive halving: {sentence}." in page
    assert f"1 of {len(SEARCH.rows)} trials failed" in page
    assert "stopped early" not in page_of(data)


def test_the_predictor_is_judged_by_round_and_metric_with_noise(data):
    page = page_of(data)
    first, last = RESULT.quality
    header = f"Spearman round 1 {first.n_trials} trials round 2 {last.n_trials} trials"
    assert header in page
    ranks = [number(entry.spearman["score"], 2) for entry in RESULT.quality]
    assert f"score {' '.join(ranks)} {NOTHING} {NOTHING}" in page
    name = "task0.bpb"
    ranks = [number(entry.spearman[name], 2) for entry in RESULT.quality]
    noise, ratio = number(RESULT.noise[name]), number(RESULT.signal_to_noise[name], 1)
    assert f"{name} {' '.join(ranks)} {noise} {ratio}" in page


def test_the_predictor_states_how_many_trials_mixtures_and_metrics_it_rests_on(data):
    sizes = (RESULT.n_trials, RESULT.n_mixtures, len(RESULT.domains), len(RESULT.metric_weights))
    text = "has learned from {} trials of {} mixtures of {} domains, and predicts {} metrics."
    assert text.format(*sizes) in page_of(data)


def test_a_weak_rank_correlation_is_grey(data):
    weak = (RoundQuality(round=0, n_trials=9, spearman={"score": 0.59, "a.bpb": 0.6}),)
    text = render(change(data, quality=weak))
    assert re.findall(r'<td class="n weak">([^<]+)', text) == ["0.59"]


def test_metrics_that_are_mostly_noise_are_named_with_what_to_do(data):
    page = page_of(change(data, low_signal_metrics=("task1.bpb",)))
    assert "Mostly noise: task1.bpb . Mixtures change it hardly more than seeds do." in page
    assert "task1.bpb: mostly noise. Longer proxy runs (proxy.trial_tokens)" in page
    assert "ostly noise" not in page_of(data)


def effects_record():
    """Effects whose table is easy to read: gains, losses, and some within their noise."""
    rows = (
        ("recipes", 0.0011, 0.006),
        ("law", -0.0022, -0.0132),
        ("space", 0.0003, 0.0009),
        ("chat", 0.0004, -0.003),
    )
    return EffectsRecord(
        step=0.01,
        domains={
            name: {
                "score": Effect(mean=score, std=0.0004),
                "arc_easy.bpb": Effect(mean=arc, std=0.001),
                "siqa.bpb": Effect(mean=-arc, std=0.001),
            }
            for name, score, arc in rows
        },
        trade_offs=(
            TradeOff(
                metrics=("arc_easy.bpb", "siqa.bpb"),
                correlation=-0.87,
                domain="recipes",
                effects=(0.006, -0.006),
            ),
        ),
    )


def test_effects_of_one_percent_more_are_listed_best_first_with_their_std(data):
    page = page_of(change(data, effects=effects_record()))
    start = page.index("Effects of one percent more of a domain")
    table = page[start : page.index("Baselines", start)]
    assert "if 1 % of the mixture is moved to a domain" in table
    rows = [
        "domain score arc_easy.bpb siqa.bpb",
        "recipes +0.0011 ± 0.0004 +0.006 ± 0.001 −0.006 ± 0.001",  # noqa: RUF001
        "chat +0.0004 ± 0.0004 −0.003 ± 0.001 +0.003 ± 0.001",  # noqa: RUF001
        "space +0.0003 ± 0.0004",
        "law −0.0022 ± 0.0004 −0.013 ± 0.001 +0.013 ± 0.001",  # noqa: RUF001
    ]
    positions = [table.index(row) for row in rows]
    assert positions == sorted(positions)


def test_an_effect_is_shaded_by_sign_and_size_and_only_beyond_its_std():
    table = tabulate_effects(effects_record(), {})
    shades = {domain: [cell.shade for cell in cells] for domain, cells in table.rows}
    assert shades == {
        "recipes": ["up2", "up2", "down2"],
        "law": ["down3", "down3", "up3"],
        "space": ["", "", ""],  # 0.0003 of 0.0004, and 0.0009 of 0.001
        "chat": ["", "down1", "up1"],  # 0.0004 of 0.0004 does not exceed it
    }


def test_metrics_that_favour_different_domains_are_described(data):
    page = page_of(change(data, effects=effects_record()))
    assert (
        "arc_easy.bpb and siqa.bpb trade off (correlation over domains −0.87): more "  # noqa: RUF001
        "recipes changes arc_easy.bpb by +0.0060 and siqa.bpb by −0.0060." in page  # noqa: RUF001
    )
    agreed = effects_record().model_copy(update={"trade_offs": ()})
    assert "No two metrics trade off against each other" in page_of(change(data, effects=agreed))


def test_of_many_domains_and_metrics_the_largest_effects_are_shown(data):
    domains = {}
    for k in range(100):
        effect = Effect(mean=0.001 * (k - 50), std=0.0)
        domains[f"d{k:02d}"] = {"score": effect} | {f"t{q:02d}.bpb": effect for q in range(20)}
    effects = EffectsRecord(step=0.01, domains=domains, trade_offs=())
    weights = {f"t{q:02d}.bpb": -1.0 - 0.01 * q for q in range(20)}
    table = tabulate_effects(effects, weights)
    names = [domain for domain, _ in table.rows]
    # The thirty that are farthest from 0: 0 to 14 are at -50 to -36, 85 to 99 at +35 to +49.
    assert names[0] == "d99"
    assert names[-1] == "d00"
    assert min(abs(int(name[1:]) - 50) for name in names) == 35
    assert (table.n_domains, table.n_metrics) == (70, 8)
    assert table.columns == ("score", *(f"t{q:02d}.bpb" for q in range(8, 20)))
    page = page_of(change(data, effects=effects))
    assert "70 domains that change the score less and 8 metrics are left out" in page


@pytest.mark.parametrize(("largest", "shown"), [(0.0123, "+0.012"), (12.3, "+12"), (0.0, "0.0000")])
def test_effects_have_as_many_decimals_as_their_column_needs(largest, shown):
    one = {"a": {"score": Effect(mean=largest, std=0.0)}}
    ((_, (cell,)),) = tabulate_effects(
        EffectsRecord(step=0.01, domains=one, trade_offs=()), {}
    ).rows
    assert cell.mean.lstrip("+") == shown.lstrip("+")


def test_scores_use_the_metric_weights_of_the_search():
    runs = [Run(RECOMMENDED, 0, {"a.bpb": 2.0, "b.bpb": 1.0, "c.bpb": 9.0})]
    plain = RESULT.model_copy(update={"metric_weights": {"a.bpb": -0.5, "b.bpb": -0.5}})
    scaled = RESULT.model_copy(update={"metric_weights": {"a.bpb": -10.0, "b.bpb": -1.0}})
    assert measure(runs, plain).score.means[RECOMMENDED].mean == -1.5
    assert measure(runs, scaled).score.means[RECOMMENDED].mean == -21.0
    assert [metric.used for metric in measure(runs, scaled).metrics] == [True, True, False]
    gone = RESULT.model_copy(update={"metric_weights": {"gone.bpb": -1.0}})
    assert objective_of(gone, runs) is None


def test_a_metric_that_is_better_when_low_gives_positive_gains():
    values = {RECOMMENDED: (2.0, 2.1), "natural": (2.19, 2.31)}
    runs = [
        Run(method, seed, {"a.bpb": value})
        for method, pair in values.items()
        for seed, value in enumerate(pair)
    ]
    (metric,) = measure(runs, RESULT).metrics
    assert metric.gains["natural"].mean == pytest.approx(0.2)
    assert metric.gains["natural"].low > 0


def test_a_real_search_fills_the_page(data):
    text = render(data)
    heat = text[text.index('class="heat"') : text.index('id="baselines"')]
    assert heat.count("<tr>") == 1 + 4
    assert all(f"<b>{domain}</b>" in heat for domain in DOMAINS)
    assert heat.count("±") == 4 * 3  # the score and two metrics
    assert NOTHING not in heat
    assert f"A further round of {RESULT.further_round.n_trials} trials" in Page(text).visible


def test_the_expected_gain_of_a_further_round_is_a_next_step(data):
    gain = {"natural": Gain(mean=0.081, low=0.069, high=0.093, p_better=0.999, n_pairs=3)}
    worthwhile = change(
        data, further_round=FurtherRound(n_trials=16, expected_gain=0.00243), measured_gains=gain
    )
    page = page_of(worthwhile)
    steps = page[page.index("What to look at next") :]
    assert (
        "A further round of 16 trials has an expected gain of +0.0024 in score, 3 % of the gain "
        "over the natural mixture: append 16 to search.trials_per_round" in steps
    )
    unclear = {"natural": Gain(mean=0.01, low=-0.01, high=0.03, p_better=0.8, n_pairs=3)}
    page = page_of(change(worthwhile, measured_gains=unclear))
    assert "has an expected gain of +0.0024 in score: append 16" in page
    nothing = FurtherRound(n_trials=16, expected_gain=0.00002)
    page = page_of(change(data, further_round=nothing))
    assert "A further round of 16 trials has an expected gain of 0: it would not help" in page
    unknown = FurtherRound(n_trials=16, expected_gain=None)
    assert "further round" not in page_of(change(data, further_round=unknown))


def test_values_that_the_search_could_not_compute_are_dashes(data):
    unknown = (RoundQuality(round=0, n_trials=9, spearman={"score": None, "task0.bpb": None}),)
    calibration = RESULT.calibration.model_copy(update={"scores": ()})
    none = change(
        data,
        quality=unknown,
        calibration=calibration,
        noise={"task0.bpb": None},
        signal_to_noise={"task0.bpb": None},
    )
    page = page_of(none)
    assert f"task0.bpb {NOTHING} {NOTHING} {NOTHING}" in page
    assert "Cross-validation: mixtures that the predictor had not seen" not in page


def test_a_report_of_a_result_alone_states_what_is_missing():
    page = Page(render(ReportData(result=RESULT)))
    assert page.open == []
    assert "Proxy models show a gain" in page.visible
    assert "No finished trial has a score" in page.visible


def test_equal_values_over_seeds_have_no_interval():
    runs = [
        Run(method, seed, {"a.accuracy": value})
        for method, value in ((RECOMMENDED, 0.53), ("natural", 0.52))
        for seed in (0, 1)
    ]
    (metric,) = measure(runs, RESULT).metrics
    assert metric.means[RECOMMENDED] == mean_of([0.53, 0.53])
    assert (metric.means[RECOMMENDED].low, metric.means[RECOMMENDED].high) == (None, None)
    assert metric.gains["natural"].low < 0.0


@pytest.mark.parametrize(
    ("largest", "labels"),
    [(0.2, ["0", "5", "10", "15", "20"]), (0.009, ["0.0", "0.2", "0.4", "0.6", "0.8"])],
)
def test_the_labels_of_the_mixture_chart_show_their_ticks_exactly(largest, labels):
    shares = {f"d{i}": largest * (1.0 - i / 1000) for i in range(30)}
    pair = [SimpleNamespace(name=name, weights=shares) for name in (RECOMMENDED, "natural")]
    drawn = re.findall(r'text-anchor="middle">([^<]*)</text>', mixture_chart(pair, ()))
    assert [label.removesuffix(f"{THIN}%") for label in drawn] == labels


def test_a_hundred_domains_are_charted_in_thirty_rows_and_a_sum(data):
    weights = {f"domain-{i:03d}": (i + 1) / 5050 for i in range(100)}
    mixtures = tuple(
        m.model_copy(update={"weights": weights, "epochs": weights}) for m in RESULT.mixtures
    )
    text = render(change(replace(data, domains=()), mixtures=mixtures))
    assert "70 smaller domains" in text
    assert text.count("domain-099") >= 2


def test_of_many_metrics_those_that_change_the_score_most_are_shown_and_the_others_folded(data):
    names = [f"t{q:02d}.bpb" for q in range(40)]
    metrics = {name: Effect(mean=0.001 * (q + 1), std=0.0) for q, name in enumerate(names)}
    record = EffectsRecord(
        step=0.01,
        domains={"d0": {"score": Effect(mean=0.01, std=0.0)} | metrics},
        trade_offs=(),
    )
    ranks = {"score": 0.9} | dict.fromkeys(names, 0.8)
    many = change(
        data,
        effects=record,
        metric_weights=dict.fromkeys(names, -1.0 / 40),
        quality=(RoundQuality(round=0, n_trials=12, spearman=ranks),),
        noise=dict.fromkeys(names, 0.01),
        signal_to_noise=dict.fromkeys(names, 9.0),
    )
    shown, folded = re.split("28 more metrics, which change the score less", page_of(many))
    table = shown[shown.index("Does the predictor rank") :]
    assert [name for name in names if name in table] == names[28:]
    assert all(name in folded for name in names[:28])
