"""MLflow gets a run for every target model of a search, with its learning curve."""

from datetime import UTC, datetime

from climb.tracking.models import log_missing_models, make_model_runs

LAW = {"law": 0.25, "recipes & co": 0.75}
EVEN = {"law": 0.5, "recipes & co": 0.5}


def evaluation(model, seed, weights, metric="piqa.bpb", value=1.5):
    """A row of table `evaluations`."""
    return {
        "model": model,
        "method": "natural",
        "seed": seed,
        "recipe": "target-1",
        "corpus_digest": "d1",
        "weights": weights,
        "metric": metric,
        "value": value,
        "n_tokens": 1_000,
        "seconds": 2.0,
        "finished": datetime(2026, 1, 2, tzinfo=UTC),
    }


def point(model, step, metrics=None):
    row = {"model": model, "method": "natural", "seed": 0, "step": step, "n_tokens": 100 * step}
    return row | {"loss": 5.0 - step / 10, "learning_rate": 0.1, "metrics": metrics or {}}


EVALUATIONS = [
    evaluation("m1", 0, LAW),
    evaluation("m1", 0, LAW, "piqa.accuracy", 0.5),
    evaluation("m2", 1, EVEN),
    evaluation("other", 0, {"law": 1.0}),
]
CURVES = [point("m1", 20), point("m1", 10, {"piqa.bpb": 1.75})]
MIXTURES = {"recommended": LAW, "uniform": EVEN}


class Client:
    """The part of MLflow's client that logs runs."""

    def __init__(self):
        self.runs, self.ended = {}, []

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(metrics) <= 1_000
        assert len(params) <= 100
        run = self.runs.setdefault(run_id, {"metrics": [], "params": {}})
        run["metrics"] += [(m.key, m.value, m.step) for m in metrics]
        run["params"] |= {p.key: p.value for p in params}

    def set_terminated(self, run_id, status, end_time):
        self.ended.append((run_id, status))


class Mirrored:
    """The runs of a search, without a server."""

    search = "default"

    def __init__(self, existing=()):
        self.client, self.existing, self.tags = Client(), list(existing), {}

    def find_runs(self, kind):
        assert kind == "model"
        return self.existing

    def create_run(self, tags, **options):
        self.tags[f"run-{len(self.tags)}"] = tags
        return f"run-{len(self.tags) - 1}"


def test_models_of_the_mixtures_of_a_search_are_logged_with_their_curves():
    runs = make_model_runs(EVALUATIONS, CURVES, MIXTURES)
    assert [run.model for run in runs] == ["m1", "m2"]
    mirrored = Mirrored()
    assert log_missing_models(mirrored, "parent", runs) == 2
    tags = mirrored.tags["run-0"]
    assert tags["climb.method"] == "recommended"  # its name in this search
    assert tags["mlflow.parentRunId"] == "parent"
    assert (tags["climb.kind"], tags["climb.model"]) == ("model", "m1")
    logged = mirrored.client.runs["run-0"]
    assert logged["params"].pop("seed") == "0"
    assert logged["params"].pop("weight.law") == "0.250000"
    assert logged["params"].pop("tokens") == "1000"
    assert [name.startswith("weight.recipes_co-") for name in logged["params"]] == [True]
    assert logged["metrics"] == [
        ("seconds", 2.0, 0),
        ("metric.piqa.bpb", 1.5, 0),
        ("metric.piqa.accuracy", 0.5, 0),
        ("curve.loss", 4.0, 10),
        ("curve.learning_rate", 0.1, 10),
        ("curve.piqa.bpb", 1.75, 10),
        ("curve.loss", 3.0, 20),
        ("curve.learning_rate", 0.1, 20),
    ]
    assert mirrored.client.ended == [("run-0", "FINISHED"), ("run-1", "FINISHED")]


def test_a_long_curve_is_logged_in_parts():
    runs = make_model_runs(EVALUATIONS[:2], [point("m1", i) for i in range(2_000)], MIXTURES)
    mirrored = Mirrored()
    log_missing_models(mirrored, "parent", runs)
    assert len(mirrored.client.runs["run-0"]["metrics"]) == 3 + 4_000
