"""Configuration sections `storage`, `spark` and `tracking`.

Their values are in conf/default.yaml.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import NonNegativeFloat, PositiveInt, field_validator, model_validator

from climb.config.section import Section, check_path, check_plain_path
from climb.files import LocalCopies, is_uri

VOLUMES = ("/Volumes/", "dbfs:/Volumes/")


class StorageConfig(Section):
    """Where tables and files are stored."""

    root: str
    """Folder or URI of the tables (a path, s3://, abfss://, /Volumes/...)."""

    files: str | None
    """Folder for shards, checkpoints and reports: a path that every node can open (NFS, /Volumes,
    /dbfs); null: root, which must then be such a path."""

    catalog: str | None
    """`catalog.schema` of the tables; null: tables are identified by path."""

    local_folder: str | None
    """Folder on the local disk of a node; its subfolder `climb-local-UID` has copies of the shards
    that the node's trials read. null: the system's temporary folder. Not used if shards are on a
    local disk."""

    local_gb: NonNegativeFloat
    """Maximum size in GB of all copies on a node. Shards that do not fit are read from `files`. 0:
    no copies."""

    commit_documents: PositiveInt
    """Approximate number of documents in one commit. It applies to jobs that compute one row per
    document, such as `count`, `embed` and `score`. A crash loses the work of at most one commit."""

    _check_root = field_validator("root")(check_path)
    _check_plain = field_validator("files", "local_folder")(check_plain_path)

    @property
    def files_folder(self) -> Path:
        """The folder `files`; `root` if `files` is null."""
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
    """How climb uses Spark.

    Settings of spark-submit take precedence over `shuffle_partitions` and `driver_memory`. On
    Databricks, these two keys are ignored: the settings of the cluster apply.
    """

    shuffle_partitions: PositiveInt
    """Partitions of a shuffle; no result depends on it."""

    driver_memory: str
    """Heap of the driver JVM, in Spark's size format; used with a local master only."""

    parallel_trials: PositiveInt | None
    """Trials that run at the same time; null: one per slot of the cluster (GPUs, else cores)."""

    trials_per_gpu: PositiveInt | None
    """Number of trials that share a GPU: one small proxy does not keep a GPU busy. null: the first
    trials have a GPU each; later ones share GPUs as far as GPU memory allows. The base
    checkpoint, the target models and `embed` always get a whole GPU."""

    resource_profiles: bool | None
    """true: a task that uses a GPU requests this GPU with a resource profile, and every other task
    uses one core. false: spark.task.resource.gpu.amount and spark.task.cpus apply to every task.
    null: true where Spark supports it (standalone, YARN and Kubernetes, without dynamic
    allocation); false on Databricks, where it is not tested."""


class TrackingConfig(Section):
    """MLflow tracking; its runs are copies of rows of the tables."""

    enabled: bool
    uri: str | None
    """MLflow tracking URI. null: an SQLite file in storage.root, or no tracking if storage.root is
    a URI."""

    experiment: str
    """Name of the experiment; on Databricks a path of the workspace, for example /Shared/climb."""

    artifacts: bool
    """Whether the report, its figures and the result are uploaded. All users who can read the
    experiment can then read the documents that the report quotes."""
