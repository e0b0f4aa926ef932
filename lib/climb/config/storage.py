"""Sections for storage, Spark and tracking. They have no defaults, as in `corpus.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from climb.config.section import Section
from climb.files import LocalCopies, is_uri

VOLUMES = ("/Volumes/", "dbfs:/Volumes/")


class StorageConfig(Section):
    """Where tables and files are stored."""

    root: str
    """Folder or URI of the tables (a path, s3://, abfss://, /Volumes/...)."""

    files: str | None
    """Folder for shards, checkpoints and reports that every node opens as a plain path (NFS,
    /Volumes, /dbfs); null: root, which must then be such a path."""

    catalog: str | None
    """`catalog.schema` that names the tables; null: tables are named by path."""

    local_folder: str | None
    """Folder on the local disk of a node, for copies of the shards that its trials read; null:
    `climb-local-UID` in the system's temporary folder. Unused where shards are on a local disk."""

    local_gb: NonNegativeFloat
    """Largest size in GB of these copies on a node. Trials read from `files` what does not fit; 0
    copies nothing."""

    commit_documents: PositiveInt
    """Documents per commit of count, embed and score. A crash loses at most one commit."""

    @property
    def files_folder(self) -> Path:
        """The folder of `files`, or else of `root`."""
        return Path(self.files or self.root).absolute()

    @property
    def local_copies(self) -> LocalCopies:
        """The copies of shards on a node."""
        return LocalCopies(self.local_folder, self.local_gb)

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if self.files is None and is_uri(self.root):
            raise ValueError(
                f"root is the URI {self.root!r}, but proxies read shards as plain files: "
                "set storage.files to a folder that every node mounts"
            )
        return self

    @model_validator(mode="after")
    def _check_volume(self) -> Self:
        if self.catalog is None and self.root.startswith(VOLUMES):
            raise ValueError(
                f"root is {self.root!r}, and a volume of Databricks cannot store tables: set "
                "storage.catalog to catalog.schema; files stay in the volume"
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
    """Name of the experiment; on Databricks a path of the workspace, for example /Shared/climb."""

    artifacts: bool
    """Whether the report, its figures and the result are uploaded. The report quotes documents to
    all who can read the experiment."""
