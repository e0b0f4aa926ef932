"""Sections of where a run stores, computes and logs. They have no defaults, as in `corpus.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import PositiveInt, model_validator

from climb.config.section import Section
from climb.files import is_uri


class StorageConfig(Section):
    """Where tables and files are stored."""

    root: str
    """Folder or URI of the tables (a path, s3://, abfss://, /Volumes/...)."""

    files: str | None
    """Folder for shards, checkpoints and reports that every node opens as a plain path (NFS,
    /Volumes, /dbfs); null: root, which must then be such a path."""

    catalog: str | None
    """`catalog.schema` that names the tables; null: tables are named by path."""

    commit_documents: PositiveInt
    """Documents per commit of count, embed and score: the most that a crash can lose."""

    @property
    def files_folder(self) -> Path:
        """The folder of `files`, or else of `root`."""
        return Path(self.files or self.root).absolute()

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if self.files is None and is_uri(self.root):
            raise ValueError(
                f"root is the URI {self.root!r}, but proxies read shards as plain files: "
                "set storage.files to a folder that every node mounts"
            )
        return self


class SparkConfig(Section):
    """The Spark session that climb starts when there is none; clusters have their own settings."""

    shuffle_partitions: PositiveInt
    """Partitions of a shuffle; no result depends on it."""

    driver_memory: str
    """Heap of the driver JVM on one machine, in Spark's size format."""

    parallel_trials: PositiveInt | None
    """Trials that run at the same time; null: one per slot of the cluster (GPUs, else cores)."""

    trials_per_gpu: PositiveInt
    """Trials that share a GPU. Small proxies do not keep a GPU busy alone. The base checkpoint, the
    target models and `embed` always have whole GPUs."""

    resource_profiles: bool | None
    """Whether tasks that use a GPU ask for it with a resource profile of their own, so that all
    other tasks use one core each. false: spark.task.resource.gpu.amount and spark.task.cpus decide
    for every task. null: true where Spark supports it (standalone, YARN and Kubernetes, without
    dynamic allocation), false on Databricks, where it is not tested."""


class TrackingConfig(Section):
    """MLflow tracking, a mirror of the tables."""

    enabled: bool
    uri: str | None
    """MLflow tracking URI; null: an sqlite file under storage.root (local roots only)."""

    experiment: str
