"""How GPU tasks are scheduled: the GPU share and the cores of a task, and how many run at once.

Two ways, chosen by `spark.resource_profiles`:

| way           | tasks that use a GPU                            | all other tasks               |
|---------------|-------------------------------------------------|-------------------------------|
| profiles      | a share of a GPU, and its share of cores        | spark.task.cpus cores, no GPU |
| configuration | spark.task.resource.gpu.amount, spark.task.cpus | the same                      |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from climb.config.sections import SparkConfig
from climb.errors import ConfigError
from climb.spark.device import GPU_AMOUNTS, is_local, shares_local_gpu
from climb.spark.executors import count_registered

EXECUTOR_GPUS, TASK_GPUS = GPU_AMOUNTS


@dataclass(frozen=True)
class GpuShare:
    """What a GPU task gets, and how many such tasks an executor runs at the same time."""

    gpus: float
    cores: int
    per_executor: int


@dataclass(frozen=True)
class Slots:
    """The tasks of one kind that run at the same time."""

    count: int
    profile: ResourceProfile | None = None
    """The resources that each task requests; None: those of the configuration."""

    has_own_gpu: bool = False
    """Whether a task has at least one whole GPU, which it shares with no other task."""

    count_again: Callable[[], int] | None = None
    """Counts the slots now, because executors come and go; None: the number of slots is fixed."""

    processes: int = 1
    """Number of tasks of each slot: the processes that train one model together."""

    max_per_gpu: int | None = None
    """Maximum trials per GPU: the number of CPU cores per GPU. None: a slot has no whole GPU."""


def plan_slots(session: SparkSession, cfg: SparkConfig, tasks_per_gpu: int = 1) -> Slots:
    """Plan tasks on GPUs; if there is no GPU, plan tasks on cores.

    Args:
        session: of the cluster.
        cfg: section spark; `parallel_trials`, unless it is null, is the number of slots.
        tasks_per_gpu: number of tasks that share a GPU; unused if the configuration sets the share.

    Raises:
        ConfigError: the shares of GPUs and cores do not fit the executors.
    """

    def count() -> int:
        return cfg.parallel_trials or _count_slots(session, share, tasks_per_gpu)

    share = _find_share(session, cfg, tasks_per_gpu)
    profile = None
    if share is not None and uses_profiles(session, cfg):
        profile = _build_profile(share)
    owns = share is not None and share.gpus >= 1.0
    again = None if cfg.parallel_trials is not None or _is_local(session) else count
    return Slots(count(), profile, owns, again, max_per_gpu=_count_gpu_cores(session, share))


def plan_process_slots(session: SparkSession, cfg: SparkConfig, processes: int) -> Slots:
    """Plan runs of several processes, which are the tasks of one barrier stage.

    Args:
        session: of the cluster.
        cfg: section spark; `parallel_trials` limits how many runs there are at the same time.
        processes: train.processes; 1 means the slots of `plan_slots`.

    Raises:
        ConfigError: Spark cannot start such a stage here, or has fewer slots than processes.
    """
    if processes == 1:
        return plan_slots(session, cfg)
    conf = dict(session.sparkContext.getConf().getAll())
    if shares_local_gpu(session):
        raise ConfigError(
            f"train.processes is {processes}, but local mode schedules no GPUs; start a standalone "
            "cluster on this machine (docs/cluster.md), or set train.processes to 1"
        )
    check_barrier(conf, processes)
    share = None
    if not _is_local(session) and float(conf.get(TASK_GPUS, "0") or 0):
        share = read_configured_share(conf)

    def count() -> int:
        n_runs = _count_slots(session, share, 1) // processes
        return min(n_runs, cfg.parallel_trials or n_runs)

    n_slots = _count_slots(session, share, 1)
    if n_slots < processes:
        raise ConfigError(
            f"train.processes is {processes}, but only {n_slots} processes can run at the same "
            "time here, and all processes of a model must run together; add executors, or set "
            f"train.processes to at most {n_slots}"
        )
    again = None if _is_local(session) else count
    return Slots(count(), None, share is not None, again, processes)


def check_barrier(conf: Mapping[str, str], processes: int) -> None:
    """Check that TorchDistributor can start processes with these settings of Spark.

    Raises:
        ConfigError: TorchDistributor would fail, wait indefinitely, or give two processes the same
            GPU.
    """
    start = f"train.processes is {processes}, "
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        raise ConfigError(
            f"{start}but Spark has no barrier stages with dynamic allocation; set "
            "spark.dynamicAllocation.enabled to false"
        )
    gpus = float(conf.get(EXECUTOR_GPUS, "0") or 0)
    amount = conf.get(TASK_GPUS, "0")
    if gpus and amount != "1":
        raise ConfigError(
            f"{start}but {TASK_GPUS} is {amount}, and TorchDistributor ignores resource profiles; "
            f"set {TASK_GPUS} to 1 (not 1.0) and spark.task.cpus to the cores for each GPU, for "
            "jobs target_base and train"
        )
    if gpus > 1 and conf.get("spark.python.worker.reuse", "true") != "false":
        raise ConfigError(
            f"{start}and an executor has {gpus:g} GPUs: a Python worker that Spark uses again "
            "keeps its earlier GPU, which another process may have now; set "
            "spark.python.worker.reuse to false"
        )


def plan_profile(session: SparkSession, cfg: SparkConfig, plugin: object) -> ResourceProfile | None:
    """Return the profile of tasks that run a plug-in; it requests a whole GPU for each task.

    The result is None if Spark schedules no GPUs, or if tasks do not use resource profiles. It is
    also None for a plug-in with `uses_gpu = False`, because its tasks run on every core.

    Raises:
        ConfigError: the shares of GPUs and cores do not fit the executors.
    """
    if not getattr(plugin, "uses_gpu", True):
        return None
    return plan_slots(session, cfg).profile


def name_device(session: SparkSession, cfg: SparkConfig, plugin: object) -> str:
    """Return `GPUs` or `CPU cores`: what the tasks of a plug-in compute on, for the run log."""
    has_gpu = _find_share(session, cfg, 1) is not None or shares_local_gpu(session)
    return "GPUs" if has_gpu and getattr(plugin, "uses_gpu", True) else "CPU cores"


def uses_profiles(session: SparkSession, cfg: SparkConfig) -> bool:
    """Whether GPU tasks ask for their GPU with a resource profile."""
    master = str(session.sparkContext.master)
    if cfg.resource_profiles is not None:
        return cfg.resource_profiles and not is_local(master)
    conf = dict(session.sparkContext.getConf().getAll())
    is_tested = "DATABRICKS_RUNTIME_VERSION" not in os.environ
    return is_tested and supports_task_profiles(master, conf)


def supports_task_profiles(master: str, conf: Mapping[str, str]) -> bool:
    """Whether Spark 4.0 gives the executors of the default profile to tasks of other profiles.

    With dynamic allocation it would start separate executors for each profile.

    Source:
        ResourceProfileManager.isSupported and canBeScheduled of Spark 4.0.
    """
    is_dynamic = conf.get("spark.dynamicAllocation.enabled", "false") == "true"
    managers = ("spark://", "local-cluster", "yarn", "k8s://")
    return master.startswith(managers) and not is_dynamic


def divide_executor(gpus: int, cores: int, tasks_per_gpu: int) -> GpuShare:
    """Divide the GPUs and cores of an executor among GPU tasks, for a profile.

    Raises:
        ConfigError: there are fewer cores than tasks: some of the tasks would wait indefinitely.
    """
    n_tasks = gpus * tasks_per_gpu
    if n_tasks > cores:
        fewer = f", or set spark.trials_per_gpu to at most {cores // gpus}" if cores >= gpus else ""
        raise ConfigError(
            f"spark.trials_per_gpu is {tasks_per_gpu}, which needs a core for each of {n_tasks} "
            f"tasks on the {gpus} GPUs of an executor, but an executor has {cores} cores; raise "
            f"spark.executor.cores to at least {n_tasks}{fewer}"
        )
    return GpuShare(1.0 / tasks_per_gpu, cores // n_tasks, n_tasks)


def read_configured_share(conf: Mapping[str, str]) -> GpuShare:
    """Read the GPU share and the cores of every task from the settings of the session.

    Raises:
        ConfigError: tasks get no GPU, or the cores allow fewer tasks than the GPUs.
    """
    amount, cpus = float(conf.get(TASK_GPUS, "0") or 0), int(conf.get("spark.task.cpus", "1"))
    gpus = float(conf.get(EXECUTOR_GPUS, "0") or 0) or max(1.0, amount)
    if amount <= 0:
        raise ConfigError(
            f"{EXECUTOR_GPUS} is {gpus:g}, but no task gets a GPU: tasks have no resource profile "
            f"here (spark.resource_profiles), and {TASK_GPUS} is 0 or not set; set it to 1 and "
            "spark.task.cpus to spark.executor.cores, or use conf/spark/cpu-cluster.conf for jobs "
            "without a GPU"
        )
    # Spark gives a task whole GPUs, or a share of one GPU. It never joins free shares of two GPUs.
    n_tasks = int(gpus) * int(1 / amount + 1e-9) if amount <= 1 else int(gpus / amount)
    n_tasks = max(1, n_tasks)
    cores = int(conf.get("spark.executor.cores", n_tasks * cpus))
    if n_tasks * cpus > cores:
        fits = f"set spark.task.cpus to {max(1, cores // n_tasks)}"
        rounded = int(1e6 * gpus / cores) / 1e6  # down: 6 * 0.166667 is more than one GPU
        fits += f" and {TASK_GPUS} to {rounded:g}" if n_tasks > cores else ""
        raise ConfigError(
            f"{TASK_GPUS} {amount:g} lets {n_tasks} tasks share the {gpus:g} GPUs of an executor, "
            f"but its {cores} cores allow {cores // cpus} tasks with spark.task.cpus {cpus}; {fits}"
        )
    return GpuShare(amount, cpus, n_tasks)


def _find_share(session: SparkSession, cfg: SparkConfig, tasks_per_gpu: int) -> GpuShare | None:
    """Return what a GPU task gets; None if no executor has a GPU that Spark schedules."""
    conf = dict(session.sparkContext.getConf().getAll())
    gpus = max(float(conf.get(key, "0") or 0) for key in GPU_AMOUNTS)
    if _is_local(session) or gpus <= 0:
        return None
    if not uses_profiles(session, cfg):
        return read_configured_share(conf)
    if "spark.executor.cores" not in conf:
        raise ConfigError(
            "spark.executor.cores is not set, and a task that uses a GPU asks for its share of the "
            "cores; set it to the cores of an executor"
        )
    n_gpus = int(float(conf.get(EXECUTOR_GPUS, "1") or 0))
    if n_gpus < 1:
        raise ConfigError(
            f"{TASK_GPUS} is {conf[TASK_GPUS]}, but {EXECUTOR_GPUS} is "
            f"{conf[EXECUTOR_GPUS] or 'empty'}; set both, or neither"
        )
    return divide_executor(n_gpus, int(conf["spark.executor.cores"]), tasks_per_gpu)


def _count_executors(session: SparkSession, conf: Mapping[str, str]) -> int:
    """Count the executors, with those that are configured but not registered yet."""
    key = "spark.executor.instances"
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        key = "spark.dynamicAllocation.maxExecutors"
    return max(count_registered(session.sparkContext), int(conf.get(key, "0") or 0))


def _is_local(session: SparkSession) -> bool:
    return is_local(str(session.sparkContext.master))


def _count_slots(session: SparkSession, share: GpuShare | None, tasks_per_gpu: int) -> int:
    """Count the tasks that run at the same time: on GPUs, or on cores if there is no GPU."""
    conf = dict(session.sparkContext.getConf().getAll())
    if share is not None:
        return _count_executors(session, conf) * share.per_executor
    if shares_local_gpu(session):
        return tasks_per_gpu
    cpus = int(conf.get("spark.task.cpus", "1"))
    return max(1, int(session.sparkContext.defaultParallelism) // cpus)


def _count_gpu_cores(session: SparkSession, share: GpuShare | None) -> int | None:
    """Count the cores for each GPU; None if a task has no whole GPU."""
    if share is None:
        n_local = int(session.sparkContext.defaultParallelism)
        return n_local if shares_local_gpu(session) else None
    conf = dict(session.sparkContext.getConf().getAll())
    if share.gpus < 1.0:
        return None
    n_gpus = max(1, int(float(conf.get(EXECUTOR_GPUS, "1"))))
    return max(1, int(conf.get("spark.executor.cores", share.cores)) // n_gpus)


def _build_profile(share: GpuShare) -> ResourceProfile:
    """Build a profile of task resources only: its tasks run on the existing executors."""
    requests = TaskResourceRequests().cpus(share.cores).resource("gpu", share.gpus)
    return ResourceProfileBuilder().require(requests).build
