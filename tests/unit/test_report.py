"""The report says the answer first, says plainly when there is none, and trusts no text."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from climb.config import load
from climb.report import (
    Cluster,
    CorpusShare,
    Domain,
    Evaluation,
    Mixture,
    Rejection,
    ReportData,
    Trial,
    render,
)
from climb.report.effects import effects_table
from climb.report.formats import NOTHING
from climb.report.measured import Run, measure, objective_of, paired_gain, spread
from climb.search import Problem, anchors, propose, recommend
from climb.search.compare import Gain
from climb.search.evidence import evidence as search_evidence
from climb.testing.world import PlantedWorld

NATURAL = {"recipes": 0.12, "law": 0.55, "space": 0.25, "chat": 0.08}
FOUND = {"recipes": 0.46, "law": 0.04, "space": 0.31, "chat": 0.19}
UNIFORM = dict.fromkeys(NATURAL, 0.25)
BEST = np.array([0.5, 0.0, 0.35, 0.15])
TASKS = ("arc_easy", "piqa", "siqa")


def metrics(weights, rng, noise=0.004):
    """Three tasks whose bits per byte rise with the distance from one best mixture."""
    distance = np.abs(np.array(list(weights.values())) - BEST).sum()
    values = {}
    for i, task in enumerate(TASKS):
        values[f"{task}.bpb"] = 2.1 + 0.1 * i + 0.08 * distance + noise * rng.standard_normal()
        values[f"{task}.accuracy"] = 0.4 + 0.01 * rng.standard_normal()
    return values


def trial(i, round_, method, weights, rng, seed=0):
    return Trial(
        trial_id=f"{i:016x}",
        round_=round_,
        method=method,
        seed=seed,
        metrics=metrics(weights, rng),
        finished=True,
        error=None,
        n_tokens=200_000,
        seconds=11.0,
    )


def all_trials():
    rng = np.random.default_rng(3)
    rows = []
    for seed in range(3):
        rows.append(trial(len(rows), 0, "natural", NATURAL, rng, seed))
        rows.append(trial(len(rows), 0, "uniform", UNIFORM, rng, seed))
    for round_, (n, strength) in enumerate([(16, 1.0), (8, 6.0), (4, 30.0)]):
        for _ in range(n):
            drawn = rng.dirichlet(np.maximum(BEST * strength, 0.3))
            weights = dict(zip(NATURAL, drawn, strict=True))
            rows.append(trial(len(rows), round_, "proposal", weights, rng))
    rows += [trial(len(rows) + s, 3, "found", FOUND, rng, s) for s in range(3)]
    broken = replace(rows[9], metrics={}, finished=False, error="loss became NaN at step 12")
    return (*rows[:9], broken, *rows[10:])


def all_evaluations(found=FOUND, noise=0.006, n_seeds=3):
    rng = np.random.default_rng(7)
    return tuple(
        Evaluation(method=method, seed=seed, metric=name, value=value, n_tokens=1_000_000,
                   seconds=80.0)
        for method, weights in (("found", found), ("natural", NATURAL), ("uniform", UNIFORM))
        for seed in range(n_seeds)
        for name, value in metrics(weights, rng, noise).items()
    )  # fmt: skip


def evidence():
    rng = np.random.default_rng(5)
    truth = -2.2 - 0.1 * rng.random(24)
    return {
        "quality": {
            "rounds": [
                {"round": r, "n_trials": n, "spearman": {"score": s, "arc_easy.bpb": s - 0.1}}
                for r, n, s in ((0, 22, 0.71), (1, 30, 0.83), (2, 34, 0.88))
            ]
        },
        "cross_validated": [
            {"predicted": t + 0.01 * rng.standard_normal(), "measured": t} for t in truth
        ],
        "noise": {"arc_easy.bpb": 0.004, "score": 0.0024},
        "predicted": {"natural": {"mean": 0.0912, "low": 0.07, "high": 0.11, "p_better": 0.99}},
        "n_trials": 36,
        "n_failed": 1,
    }


def explained():
    """Evidence of a search that also says what each domain does, and what a round is worth."""
    return evidence() | {
        "signal": {"arc_easy.bpb": 37.5, "siqa.bpb": 1.2},
        "noisy": ["siqa.bpb"],
        "further": {"n_trials": 16, "worth": 0.00243},
        "effects": {
            "step": 0.01,
            "domains": {
                name: {
                    "score": {"mean": score, "std": 0.0004},
                    "arc_easy.bpb": {"mean": arc, "std": 0.001},
                    "siqa.bpb": {"mean": -arc, "std": 0.001},
                }
                for name, score, arc in (
                    ("recipes", 0.0011, 0.006),
                    ("law", -0.0022, -0.0132),
                    ("space", 0.0003, 0.0009),
                    ("chat", 0.0004, -0.003),
                )
            },
            "trade_offs": [
                {
                    "metrics": ["arc_easy.bpb", "siqa.bpb"],
                    "correlation": -0.87,
                    "domain": "recipes",
                    "effects": [0.006, -0.006],
                }
            ],
        },
    }


@pytest.fixture
def data():
    terms = {
        "recipes": ("oven", "butter", "teaspoon", "dough", "simmer"),
        "law": ("plaintiff", "court", "statute", "appeal", "clause"),
        "space": ("orbit", "telescope", "galaxy", "comet", "lunar"),
        "chat": ("lol", "thanks", "hey", "tomorrow", "ok"),
    }
    examples = (
        "Heat the oven to 180 degrees and butter a dish. " * 4,
        "Whisk the eggs with the sugar until the mixture is pale and thick.",
    )
    return ReportData(
        search="default",
        objective="mean(*.bpb):min",
        mixtures={
            "found": Mixture(
                weights=FOUND,
                epochs={"recipes": 3.97, "law": 0.1, "space": 1.2, "chat": 2.4},
                score=-2.21,
                score_std=0.006,
            ),
            "natural": Mixture(weights=NATURAL, epochs=dict.fromkeys(NATURAL, 1.0)),
            "uniform": Mixture(weights=UNIFORM, epochs=dict.fromkeys(NATURAL, 1.0)),
        },
        verdict="gain",
        direct={
            "natural": Gain(mean=0.081, low=0.069, high=0.093, p_better=0.999),
            "uniform": Gain(mean=0.044, low=0.031, high=0.057, p_better=0.998),
        },
        evidence=evidence(),
        domains=tuple(
            Domain(
                name=name,
                n_documents=int(9_000 * share),
                n_tokens=int(4_300_000 * share),
                token_share=share,
                terms=terms[name],
                examples=examples,
                clusters=(1, 2),
            )
            for name, share in NATURAL.items()
        ),
        trials=all_trials(),
        evaluations=all_evaluations(),
        clusters=tuple(
            Cluster(
                cluster=i,
                n_documents=400 - 10 * i,
                n_tokens=180_000 - 9_000 * i,
                scores={"rules": 4.4 - 0.3 * i, "educational": 2.8 - 0.1 * i},
                kept=i < 9,
                reason=None if i < 9 else f"rules {4.4 - 0.3 * i:.2f} < 3.0",
                domain=list(NATURAL)[i % 4] if i < 9 else None,
            )
            for i in range(12)
        ),
        rejections=(
            Rejection(reason="duplicate", n_rows=311, example="news.jsonl: same text as 4f2a"),
            Rejection(reason="too short", n_rows=57, example="tweets.jsonl: 12 characters"),
            Rejection(reason="invalid UTF-8", n_rows=3, example="old.txt: 4 % of the bytes"),
        ),
        corpus=tuple(
            CorpusShare(domain=name, n_documents=int(2_000 * w), n_tokens=int(1_000_000 * w))
            for name, w in FOUND.items()
        ),
        n_documents=9_412,
        max_epochs=4.0,
        versions={"documents": 1, "trials": 37, "mixtures": 0, "evaluations": 8},
        configuration="search:\n  name: default\n  seed: 0\n",
    )


class Page(HTMLParser):
    """The text a reader sees, and everything that could load or run something."""

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


def test_the_verdict_and_its_size_stand_before_everything_else(data):
    page = Page(render(data)).visible
    headline = page.index("The found mixture beats natural and uniform proportions")
    assert headline < page.index("The mixture: share of training tokens")
    assert page.index("+0.0810") < page.index("What is left after pruning")
    order = ["Domains", "Rounds", "Predictor against truth", "Baselines", "Pruned and rejected"]
    places = [page.rindex(f"{name} ") for name in order]
    assert places == sorted(places)


def test_held_out_gains_are_differences_paired_by_seed(data):
    scores = {}
    for row in data.evaluations:
        if row.metric.endswith(".bpb"):
            scores.setdefault((row.method, row.seed), []).append(-row.value)
    gains = [np.mean(scores["found", s]) - np.mean(scores["natural", s]) for s in range(3)]
    half = 2.919986 * np.std(gains, ddof=1) / np.sqrt(3)  # t(0.95) with 2 degrees of freedom
    page = Page(render(data)).visible
    for value in (np.mean(gains), np.mean(gains) - half, np.mean(gains) + half):
        assert f"{value:+.4f}" in page


def test_a_difference_that_seeds_explain_is_called_no_gain_with_the_reason(data):
    page = Page(render(replace(data, evaluations=all_evaluations(NATURAL, noise=0.05)))).visible
    assert "No gain found" in page
    assert "smaller than what seeds alone explain" in page
    assert "beats" not in page


def test_a_mixture_that_is_worse_is_called_worse(data):
    swapped = {"found": "natural", "natural": "found", "uniform": "uniform"}
    worse = tuple(replace(row, method=swapped[row.method]) for row in data.evaluations)
    page = Page(render(replace(data, evaluations=worse))).visible
    assert "No gain found" in page
    assert "The found mixture is worse than natural: the interval lies below 0" in page


def test_beating_natural_but_not_uniform_is_said(data):
    rows = tuple(
        row for row in data.evaluations if row.method != "uniform"
    ) + tuple(
        replace(row, method="uniform", value=row.value - 0.01 * (row.seed - 1))
        for row in data.evaluations
        if row.method == "found"
    )  # fmt: skip
    page = Page(render(replace(data, evaluations=rows))).visible
    assert "beats natural, but not uniform proportions" in page


def test_without_a_larger_model_the_answer_is_an_expectation(data):
    page = Page(render(replace(data, evaluations=()))).visible
    assert "The search expects a gain" in page
    assert "run `climb train`" in page
    none = replace(
        data,
        evaluations=(),
        verdict="no gain found",
        direct={"natural": Gain(mean=0.002, low=-0.01, high=0.014, p_better=0.6)},
    )
    assert "No gain found" in Page(render(none)).visible


def test_a_single_seed_gives_no_interval(data):
    page = Page(render(replace(data, evaluations=all_evaluations(n_seeds=1)))).visible
    assert "fewer than two seeds in common" in page
    assert paired_gain({0: 1.0}, {0: 0.5}, True) is None
    assert spread([1.0]).low is None


def test_metrics_that_are_better_when_low_give_positive_gains():
    gain = paired_gain({0: 2.0, 1: 2.1, 5: 9.0}, {0: 2.2, 1: 2.3}, higher_is_better=False)
    assert gain.mean == pytest.approx(0.2)
    assert gain.low > 0


def test_text_of_documents_never_becomes_markup(data):
    hostile = (
        "<script>alert(1)</script><img src=x onerror=alert(2)>",
        "</style></svg><svg onload=alert(3)> \x00\x1b[31m \ud800 \u202e {{ 7 * 7 }}",
        "'\"--><iframe src=javascript:alert(4)>",
    )
    evil = replace(
        data.domains[0], name="<b onclick=x>&</b>", terms=(hostile[0],), examples=hostile
    )
    found = replace(data.mixtures["found"], weights=FOUND | {evil.name: 0.0})
    told = explained() | {"noisy": [hostile[0]]}
    told["effects"]["domains"][hostile[1]] = {hostile[0]: {"mean": 1.0, "std": 0.0}}
    told["effects"]["trade_offs"][0] |= {"metrics": list(hostile[:2]), "domain": hostile[2]}
    text = render(
        replace(
            data,
            search=hostile[2],
            domains=(evil, *data.domains[1:]),
            mixtures=data.mixtures | {"found": found},
            rejections=(Rejection(reason=hostile[0], n_rows=1, example=hostile[1]),),
            clusters=(replace(data.clusters[-1], reason=hostile[0]),),
            trials=(replace(data.trials[9], error=hostile[0]), *data.trials),
            configuration=hostile[0],
            evidence=told,
        )
    )
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
    def turned(mapping):
        return dict(reversed(mapping.items()))

    data = replace(data, evidence=explained())
    other = replace(
        data,
        direct=turned(data.direct),
        mixtures={
            method: replace(m, weights=turned(m.weights), epochs=turned(m.epochs))
            for method, m in turned(data.mixtures).items()
        },
        trials=tuple(replace(t, metrics=turned(t.metrics)) for t in data.trials),
        evidence=json.loads(json.dumps(data.evidence, sort_keys=True)),
    )
    assert render(other) == render(data)


def test_documents_read_are_those_kept_and_those_rejected(data):
    page = Page(render(data)).visible.replace("\u202f", " ")
    assert "9 412 documents are kept; of the rows of the files that were read last, 371" in page
    assert "3 of 12 clusters went" in page
    assert "rules 1.70 < 3.0" in page


def test_failed_trials_are_listed_with_their_error(data):
    page = Page(render(data)).visible
    assert "loss became NaN at step 12" in page
    assert "1 of 37 trials failed" in page


def test_a_domain_at_its_limit_of_epochs_is_pointed_out(data):
    assert "recipes: at the limit of 4.0 epochs" in Page(render(data)).visible
    epochs = data.mixtures["found"].epochs["recipes"]
    higher = Page(render(replace(data, own_epochs={"recipes": 2 * epochs}))).visible
    assert "recipes: at the limit" not in higher
    assert f"the limit was 4.0, of recipes {2 * epochs:.1f}" in higher
    own = Page(render(replace(data, own_epochs={"recipes": epochs}))).visible
    assert "or a higher max_epochs in search.limits, may help" in own


def test_a_weak_predictor_is_given_as_a_reason(data):
    weak = {"quality": {"rounds": [{"round": 0, "spearman": {"score": 0.11}}]}}
    page = Page(render(replace(data, evidence=weak))).visible
    assert "ranks unseen mixtures badly (Spearman 0.11" in page


def test_what_the_predictor_expected_stands_beside_what_was_measured(data):
    page = Page(render(data)).visible
    assert "expected +0.0912 over natural proportions" in page
    assert "measured were +0.0810 (+0.0690 to +0.0930)" in page


def test_runs_of_earlier_domains_are_mentioned_with_what_is_left_of_them(data):
    carried = {"n": 40, "dropped": 3, "kept_mean": 0.912, "kept_min": 0.6, "doubt_mean": 0.134}
    page = Page(render(replace(data, evidence=evidence() | {"carried": carried}))).visible
    assert "40 runs of earlier domains" in page
    assert "91.2 % of the text that they read is still here (60.0 % at least)" in page
    assert "3 others were left out" in page
    none = {"n": 0, "dropped": 3, "kept_mean": None, "kept_min": None, "doubt_mean": None}
    page = Page(render(replace(data, evidence=evidence() | {"carried": none}))).visible
    assert "3 runs of earlier domains say too little about these" in page
    for without in (evidence(), evidence() | {"carried": none | {"dropped": 0}}):
        assert "earlier domains" not in Page(render(replace(data, evidence=without))).visible


def test_the_predictor_is_judged_by_round_and_metric_with_seed_noise_and_signal(data):
    page = Page(render(replace(data, evidence=explained()))).visible
    assert "held-out Spearman round 1 22 trials round 2 30 trials round 3 34 trials" in page
    assert f"score 0.71 0.83 0.88 0.0024 {NOTHING}" in page
    assert "arc_easy.bpb 0.61 0.73 0.78 0.0040 37.5" in page


def test_a_rank_that_is_hardly_better_than_none_is_grey(data):
    weak = {"quality": {"rounds": [{"round": 0, "spearman": {"score": 0.49, "a.bpb": 0.5}}]}}
    text = render(replace(data, evidence=weak))
    assert re.findall(r'<td class="n weak">([^<]+)', text) == ["0.49"]


def test_metrics_that_are_mostly_noise_are_named_with_what_to_do(data):
    page = Page(render(replace(data, evidence=explained()))).visible
    assert "Mostly noise: siqa.bpb . Mixtures move it hardly more than seeds do." in page
    assert "siqa.bpb: mostly noise. Longer proxies (proxy.trial_tokens)" in page
    assert "ostly noise" not in Page(render(data)).visible


def test_what_one_percent_more_of_a_domain_does_stands_best_first_with_its_spread(data):
    page = Page(render(replace(data, evidence=explained()))).visible
    start = page.index("What one percent more of a domain does")
    table = page[start : page.index("Baselines", start)]
    assert "when 1 % of the mixture goes to a domain" in table
    rows = [
        "domain score arc_easy.bpb siqa.bpb",
        "recipes +0.0011 ± 0.0004 +0.006 ± 0.001 −0.006 ± 0.001",  # noqa: RUF001
        "chat +0.0004 ± 0.0004 −0.003 ± 0.001 +0.003 ± 0.001",  # noqa: RUF001
        "space +0.0003 ± 0.0004",
        "law −0.0022 ± 0.0004 −0.013 ± 0.001 +0.013 ± 0.001",  # noqa: RUF001
    ]
    places = [table.index(row) for row in rows]
    assert places == sorted(places)


def test_an_effect_is_shaded_by_its_sign_and_size_and_only_beyond_its_spread():
    table = effects_table(explained())
    shades = {domain: [cell.shade for cell in cells] for domain, cells in table.rows}
    assert shades == {
        "recipes": ["up2", "up2", "down2"],
        "law": ["down3", "down3", "up3"],
        "space": ["", "", ""],  # 0.0003 of 0.0004, and 0.0009 of 0.001
        "chat": ["", "down1", "up1"],  # 0.0004 of 0.0004 does not exceed it
    }


def test_metrics_that_want_different_domains_are_told_in_a_sentence(data):
    page = Page(render(replace(data, evidence=explained()))).visible
    assert (
        "arc_easy.bpb and siqa.bpb trade off (correlation over domains −0.87): more "  # noqa: RUF001
        "recipes does +0.0060 to arc_easy.bpb and −0.0060 to siqa.bpb." in page  # noqa: RUF001
    )
    agreed = explained()
    agreed["effects"]["trade_offs"] = []
    page = Page(render(replace(data, evidence=agreed))).visible
    assert "No two metrics want opposite domains" in page


def test_an_answer_of_an_earlier_version_says_that_it_has_no_effects(data):
    for old in (evidence(), {}, evidence() | {"effects": None, "further": None, "noisy": None}):
        page = Page(render(replace(data, evidence=old))).visible
        assert "The search left no figures on single domains" in page
        assert "further round" not in page


def test_of_many_domains_and_metrics_those_that_matter_are_shown_and_the_rest_counted(data):
    effects = {"step": 0.01, "trade_offs": [], "domains": {}}
    for k in range(100):
        cell = {"mean": 0.001 * (k - 50), "std": 0.0}
        effects["domains"][f"d{k:02d}"] = {
            "score": cell, **{f"t{q:02d}.bpb": cell for q in range(20)}
        }  # fmt: skip
    table = effects_table({"effects": effects})
    names = [domain for domain, _ in table.rows]
    # The thirty that lie farthest from 0: 0 to 35 lie at -50 to -15, 65 to 99 at +15 to +49.
    assert names[0] == "d99"
    assert names[-1] == "d00"
    assert min(abs(int(name[1:]) - 50) for name in names) == 35
    assert (table.n_domains, table.n_metrics) == (70, 8)
    page = Page(render(replace(data, evidence={"effects": effects}))).visible
    assert "70 domains that move the score less and 8 metrics are left out" in page


@pytest.mark.parametrize(("largest", "shown"), [(0.0123, "+0.012"), (12.3, "+12"), (0.0, "0.0000")])
def test_effects_have_as_many_decimals_as_their_column_needs(largest, shown):
    one = {"score": {"mean": largest, "std": 0.0}}
    ((_, (cell,)),) = effects_table({"effects": {"domains": {"a": one}}}).rows
    assert cell.mean.lstrip("+") == shown.lstrip("+")


def test_scores_are_weighed_as_the_search_weighed_them():
    runs = [Run("found", 0, {"a.bpb": 2.0, "b.bpb": 1.0, "c.bpb": 9.0})]
    plain = measure(runs, "mean(a.bpb, b.bpb):min").score
    scaled = measure(runs, "mean(a.bpb, b.bpb):min", {"a.bpb": -10.0, "b.bpb": -1.0})
    assert plain.spreads["found"].mean == -1.5
    assert scaled.score.spreads["found"].mean == -21.0
    assert [metric.used for metric in scaled.metrics] == [True, True, False]
    assert objective_of("a.bpb:min", [{"a.bpb": 1.0}], {"a.bpb": -1.0, "gone.bpb": -1.0}) is None


def test_the_evidence_of_a_real_search_fills_the_page(data):
    world = PlantedWorld.of(4, 2, noise=0.1, seed=0)
    rounds = ["search.trials_per_round=[10, 5]", "search.candidates=200"]
    problem = Problem.of(world.space, world.objective, load(settings=rounds).search)
    rows = [world.trial(w_K, 0, method, s) for method, w_K, s in anchors(world.space, 2)]
    for round_ in range(2):
        asked_MK = propose(world.trials(rows), round_, problem)
        rows += [world.trial(w_K, round_, "proposal", 0) for w_K in asked_MK]
    trials = world.trials(rows)
    written = json.dumps(search_evidence(trials, recommend(trials, problem), problem))
    real = replace(data, objective="mean(*.bpb):min", evidence=json.loads(written))
    text = render(real)
    heat = text[text.index('class="heat"') : text.index('id="baselines"')]
    assert heat.count("<tr>") == 1 + 4
    assert all(f"<b>{domain}</b>" in heat for domain in world.space.domains)
    assert heat.count("±") == 4 * 3  # the score and two metrics
    assert NOTHING not in heat
    page = Page(text).visible
    rank, figure = r"[01]\.\d\d", r"\d+\.\d+"
    row = rf"task0\.bpb {rank} {rank} {figure} {figure} task1"  # two rounds, noise, signal
    assert re.search(rf"score {rank} {rank} {NOTHING} {NOTHING} {row}", page)
    assert "A further round of 5 trials" in page


def test_what_a_further_round_is_worth_stands_among_the_next_steps(data):
    page = Page(render(replace(data, evidence=explained()))).visible
    said = page[page.index("What to look at next") :]
    assert (
        "A further round of 16 trials is worth +0.0024 of score, 3 % of the gain over natural "
        "proportions: append 16 to search.trials_per_round" in said
    )
    unclear = {"natural": Gain(mean=0.01, low=-0.01, high=0.03, p_better=0.8)}
    page = Page(render(replace(data, evidence=explained(), direct=unclear))).visible
    assert "is worth +0.0024 of score: append 16" in page
    nothing = explained() | {"further": {"n_trials": 16, "worth": 0.00002}}
    page = Page(render(replace(data, evidence=nothing))).visible
    assert "A further round of 16 trials would change nothing that the predictor foresees" in page


def test_figures_that_the_search_could_not_compute_are_dashes(data):
    evidence = {
        "quality": {"rounds": [{"round": 0, "spearman": {"score": None, "piqa.bpb": None}}]},
        "cross_validated": [{"predicted": None, "measured": -2.1}],
        "noise": {"piqa.bpb": None},
        "predicted": None,
    }
    page = Page(render(replace(data, evidence=evidence)))
    assert f"piqa.bpb {NOTHING} {NOTHING} {NOTHING}" in page.visible
    assert "Trials that the predictor had not seen" not in page.visible


def test_a_report_of_an_answer_alone_says_what_is_missing():
    bare = ReportData(
        search="s", objective="mean(*.bpb):min",
        mixtures={"found": Mixture(weights={"a": 1.0}, epochs={"a": 1.0})},
    )  # fmt: skip
    page = Page(render(bare))
    assert page.open == []
    assert "No gain found" in page.visible
    assert "The search left no figures on its predictor" in page.visible


def test_a_hundred_domains_are_charted_in_thirty_rows_and_a_sum(data):
    weights = {f"domain-{i:03d}": (i + 1) / 5050 for i in range(100)}
    many = {name: Mixture(weights=weights, epochs=weights) for name in ("found", "natural")}
    text = render(replace(data, mixtures=many, domains=()))
    assert "70 smaller domains" in text
    assert text.count("domain-099") >= 2
