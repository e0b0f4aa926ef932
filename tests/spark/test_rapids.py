"""K-means of RAPIDS without a GPU: its parameters, its input, and what is reported without cuML."""

import numpy as np
import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType

from climb.config import build, load, recipe_of
from climb.domains.assignment import quantize
from climb.errors import ConfigError, PreflightError
from climb.spark.corpus.cluster import Clusterer
from climb.spark.corpus.rapids import MAX_SEED, RapidsKMeans

clustering = pytest.importorskip(
    "spark_rapids_ml.clustering", reason="needs spark-rapids-ml and psutil; run make setup"
)
FIELDS = {"max_iterations": 30, "tolerance": 1e-4, "workers": 2, "samples_per_batch": 4096}
PLUGIN = RapidsKMeans(**FIELDS)


@pytest.fixture
def vectors(spark):
    rows_ND = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    rows = [(f"{i:02d}", row.tolist()) for i, row in enumerate(rows_ND)]
    frame = spark.createDataFrame(rows, "doc_id STRING, embedding ARRAY<FLOAT>")
    return frame.repartition(5)


@pytest.fixture
def fitted(monkeypatch):
    """What reaches the fit: (estimator, rows). The centroids come from no GPU."""
    calls = []

    class Model:
        def clusterCenters(self):
            return [[0.5, 0.0, 0.0, 0.0], [0.0, 0.25, 0.0, 0.0]]

    def fit(self, rows):
        calls.append((self, rows))
        return Model()

    monkeypatch.setattr(clustering.KMeans, "fit", fit)
    return calls


def test_the_parameters_of_cuml_are_those_of_the_plug_in(spark):
    estimator = PLUGIN.build_estimator(k=7, seed=3)
    assert estimator.cuml_params == {
        "n_clusters": 7,
        "max_iter": 30,
        "tol": 1e-4,
        "verbose": False,
        "random_state": 3,
        "init": "k-means||",
        "n_init": 1,
        "oversampling_factor": 2.0,
        "max_samples_per_batch": 4096,
    }
    assert (estimator._num_workers, estimator.getFeaturesCol()) == (2, "embedding")


def test_the_plug_in_is_configured_like_any_clusterer(vectors, fitted):
    spec = {"use": "climb.spark.corpus.rapids:RapidsKMeans", **FIELDS}
    plugin = build(spec, Clusterer)
    assert plugin == PLUGIN
    assert recipe_of(plugin) != recipe_of(build(spec | {"workers": 4}, Clusterer))
    np.testing.assert_array_equal(
        plugin.fit(vectors, 2, 0), [[0.5, 0.0, 0.0, 0.0], [0.0, 0.25, 0.0, 0.0]]
    )


def test_every_worker_gets_a_fixed_part_of_quantized_vectors_in_the_order_of_ids(vectors, fitted):
    PLUGIN.fit(vectors, 2, 0)
    PLUGIN.fit(vectors.orderBy(F.desc("doc_id")).repartition(3), 2, 0)
    parts = [rows.rdd.glom().collect() for _, rows in fitted]
    assert parts[0] == parts[1]
    assert len(parts[0]) == 2
    for part in parts[0]:
        ids = [row.doc_id for row in part]
        assert ids
        assert ids == sorted(ids)
    rows = fitted[0][1]
    assert rows.schema["embedding"].dataType == ArrayType(FloatType(), containsNull=False)
    by_id = {row.doc_id: row.embedding for row in rows.collect()}
    for row in vectors.collect():
        expected = quantize(np.float32(row.embedding))
        np.testing.assert_array_equal(np.float32(by_id[row.doc_id]), expected)


def test_a_null_element_is_zero_and_one_cluster_needs_no_gpu(spark, fitted):
    rows = [("a", [1.0, None]), ("b", [0.0, 1.0])]
    frame = spark.createDataFrame(rows, "doc_id STRING, embedding ARRAY<FLOAT>")
    np.testing.assert_array_equal(PLUGIN.fit(frame, 1, 0), [[0.5, 0.5]])
    assert not fitted


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"workers": 0}, "workers and samples_per_batch must be at least 1"),
        ({"max_iterations": 0}, "must be at least 1"),
        ({"samples_per_batch": 0}, "must be at least 1"),
        ({"tolerance": 0.0}, "needs a tolerance above 0"),
    ],
)
def test_numbers_that_cuml_would_replace_or_reject_are_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        RapidsKMeans(**FIELDS | changed)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_a_seed_out_of_range_is_refused_before_a_fit(vectors, fitted, seed):
    with pytest.raises(ConfigError, match=rf"cluster.seed is {seed}; RapidsKMeans needs 0 to 2,"):
        PLUGIN.fit(vectors, 2, seed)
    assert not fitted


def test_a_fit_without_cuml_is_one_line_that_names_the_package_and_the_remedy(vectors):
    one = RapidsKMeans(**FIELDS | {"workers": 1})
    with pytest.raises(PreflightError) as error:
        one.fit(vectors, 2, 0)
    assert "executors cannot import cupy; use an image" in str(error.value)
    assert "ExactKMeans, which needs no GPU" in str(error.value)
    assert "\n" not in str(error.value)


def test_more_workers_than_gpus_of_a_machine_are_refused(vectors):
    with pytest.raises(ConfigError, match=r"workers is 2, and this machine has fewer GPUs"):
        PLUGIN.fit(vectors, 2, 0)


def test_a_worker_without_vectors_is_an_error_that_names_the_key(vectors, monkeypatch):
    def fit(self, rows):
        raise RuntimeError("A python worker received no data.  Please increase amount of data")

    monkeypatch.setattr(clustering.KMeans, "fit", fit)
    with pytest.raises(ConfigError, match=r"workers is 2, and a worker got none of the vectors"):
        PLUGIN.fit(vectors, 2, 0)


def test_the_default_clusterer_needs_no_gpu():
    assert not hasattr(build(load().cluster.clusterer, Clusterer), "uses_gpu")
