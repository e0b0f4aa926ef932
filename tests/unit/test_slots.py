"""The share of GPUs and cores that a task gets, and combinations that would wait indefinitely."""

import pytest
from fake_session import FakeSession

from climb.config import load
from climb.errors import ConfigError
from climb.spark.slots import (
    GpuShare,
    check_barrier,
    divide_executor,
    plan_slots,
    read_configured_share,
    supports_task_profiles,
)

GPU = {"spark.executor.resource.gpu.amount": "1", "spark.executor.cores": "8"}
AMOUNT = "spark.task.resource.gpu.amount"


@pytest.mark.parametrize(
    ("gpus", "cores", "tasks_per_gpu", "expected"),
    [
        (1, 8, 1, GpuShare(1.0, 8, 1)),
        (1, 8, 4, GpuShare(0.25, 2, 4)),
        (4, 32, 1, GpuShare(1.0, 8, 4)),
        (2, 8, 3, GpuShare(1 / 3, 1, 6)),
        (1, 4, 4, GpuShare(0.25, 1, 4)),
    ],
)
def test_the_gpu_tasks_of_an_executor_share_its_gpus_and_its_cores(
    gpus, cores, tasks_per_gpu, expected
):
    assert divide_executor(gpus, cores, tasks_per_gpu) == expected


def test_more_trials_per_gpu_than_cores_are_refused_with_the_largest_number_that_fits():
    message = r"needs a core for each of 8 tasks on the 2 GPUs .* has 6 cores; .* to at most 3$"
    with pytest.raises(ConfigError, match=message):
        divide_executor(2, 6, 4)
    with pytest.raises(ConfigError, match=r"raise spark.executor.cores to at least 4$"):
        divide_executor(4, 2, 1)


def test_tasks_with_a_gpu_on_executors_without_one_are_refused():
    settings = GPU | {AMOUNT: "1", "spark.executor.resource.gpu.amount": "0"}
    with pytest.raises(ConfigError, match=r"task.resource.gpu.amount is 1, but .* is 0; set both"):
        plan("spark://head:7077", settings, "spark.resource_profiles=true")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({AMOUNT: "1", "spark.task.cpus": "8"}, GpuShare(1.0, 8, 1)),
        ({AMOUNT: "0.25", "spark.task.cpus": "2"}, GpuShare(0.25, 2, 4)),
        ({AMOUNT: "0.125"}, GpuShare(0.125, 1, 8)),
        ({AMOUNT: "1"}, GpuShare(1.0, 1, 1)),
    ],
)
def test_without_profiles_the_configuration_says_what_every_task_gets(settings, expected):
    assert read_configured_share(GPU | settings) == expected


@pytest.mark.parametrize(
    ("gpus", "amount", "cores", "cpus", "n_tasks"),
    [
        (4, 0.3, 12, 1, 12),
        (2, 0.4, 4, 1, 4),
        (2, 0.6, 8, 4, 2),
        (8, 0.15, 48, 1, 48),
        (3, 1 / 3, 9, 1, 9),
        (8, 1, 16, 2, 8),
        (8, 2, 16, 4, 4),
    ],
)
def test_the_share_of_a_task_is_a_part_of_one_gpu(gpus, amount, cores, cpus, n_tasks):
    settings = {
        "spark.executor.resource.gpu.amount": str(gpus),
        "spark.executor.cores": str(cores),
        "spark.task.cpus": str(cpus),
        AMOUNT: str(amount),
    }
    assert read_configured_share(settings) == GpuShare(amount, cpus, n_tasks)


def test_without_known_cores_the_gpus_alone_count():
    assert read_configured_share({AMOUNT: "0.5", "spark.task.cpus": "4"}) == GpuShare(0.5, 4, 2)


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({AMOUNT: "0.25", "spark.task.cpus": "8"}, r"allow 1 tasks .*; set spark.task.cpus to 2$"),
        ({AMOUNT: "0.0625"}, rf"set spark.task.cpus to 1 and {AMOUNT} to 0.125$"),
        (
            {AMOUNT: "0.1", "spark.executor.cores": "6"},
            rf"set spark.task.cpus to 1 and {AMOUNT} to 0.166666$",
        ),
    ],
)
def test_a_quarter_of_a_gpu_with_all_cores_is_refused_with_the_values_that_fit(settings, fix):
    with pytest.raises(ConfigError, match=fix) as error:
        read_configured_share(GPU | settings)
    fitting = dict(GPU | settings)
    for word in str(error.value).rpartition("; set ")[2].split(" and "):
        key, _, value = word.partition(" to ")
        fitting[key] = value
    share = read_configured_share(fitting)
    assert share.per_executor * share.cores == int(fitting["spark.executor.cores"])


def test_gpus_that_no_task_would_get_are_refused():
    with pytest.raises(ConfigError, match=r"no task gets a GPU.*cpu-cluster\.conf"):
        read_configured_share(GPU)


@pytest.mark.parametrize(
    ("master", "settings", "expected"),
    [
        ("spark://head:7077", {}, True),
        ("local-cluster[2,1,1024]", {}, True),
        ("yarn", {}, True),
        ("k8s://https://head", {}, True),
        ("k8s://https://head", {"spark.dynamicAllocation.enabled": "true"}, False),
        ("local[*]", {}, False),
    ],
)
def test_spark_gives_default_executors_to_task_profiles_without_dynamic_allocation(
    master, settings, expected
):
    assert supports_task_profiles(master, settings) is expected


def plan(master, settings, *keys, tasks_per_gpu=1, executors=0, cores=2):
    session = FakeSession(master, settings, cores, executors)
    off = ["spark.resource_profiles=false", *keys]
    return plan_slots(session, load(settings=off).spark, tasks_per_gpu)


@pytest.mark.parametrize(
    ("settings", "executors", "expected"),
    [
        (GPU | {AMOUNT: "1", "spark.task.cpus": "8"}, 3, (3, True)),
        (GPU | {AMOUNT: "0.25", "spark.task.cpus": "2"}, 3, (12, False)),
        (GPU | {AMOUNT: "1", "spark.executor.instances": "5"}, 3, (5, True)),
        ({AMOUNT: "1"}, 3, (3, True)),  # where the platform sets the executors' GPUs
        ({}, 3, (24, False)),
        ({"spark.task.cpus": "4"}, 3, (6, False)),
    ],
)
def test_there_is_a_slot_for_each_share_of_a_gpu_or_for_each_task_on_the_cores(
    settings, executors, expected
):
    slots = plan("spark://head:7077", settings, executors=executors, cores=24)
    assert (slots.count, slots.has_own_gpu) == expected


def test_the_slots_are_counted_again_when_executors_join():
    session = FakeSession("spark://head:7077", GPU | {AMOUNT: "1"}, executors=2)
    slots = plan_slots(session, load(settings=["spark.resource_profiles=false"]).spark)
    session.executors = 5
    assert (slots.count, slots.count_again()) == (2, 5)


def test_the_configured_number_of_parallel_trials_takes_precedence():
    for master in ("local[*]", "spark://head:7077"):
        slots = plan(master, {}, "spark.parallel_trials=7")
        assert (slots.count, slots.count_again) == (7, None)


def test_trials_in_local_mode_share_the_gpu_as_configured(monkeypatch):
    monkeypatch.setattr("climb.spark.slots.shares_local_gpu", lambda session: True)
    assert plan("local[*]", {}, tasks_per_gpu=3, cores=8).count == 3
    monkeypatch.setattr("climb.spark.slots.shares_local_gpu", lambda session: False)
    assert plan("local[*]", {}, tasks_per_gpu=3, cores=8).count == 8


def test_profiles_need_the_cores_of_an_executor():
    session = FakeSession("spark://head:7077", {"spark.executor.resource.gpu.amount": "1"})
    with pytest.raises(ConfigError, match=r"^spark\.executor\.cores is not set"):
        plan_slots(session, load().spark)


def test_profiles_are_off_on_databricks_unless_the_configuration_turns_them_on(monkeypatch):
    from climb.spark.slots import uses_profiles

    session = FakeSession("spark://head:7077", {})
    assert uses_profiles(session, load().spark)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    assert not uses_profiles(session, load().spark)
    assert uses_profiles(session, load(settings=["spark.resource_profiles=true"]).spark)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"spark.executor.cores": "4"},
        GPU | {AMOUNT: "1", "spark.task.cpus": "8"},
        GPU
        | {
            "spark.executor.resource.gpu.amount": "4",
            AMOUNT: "1",
            "spark.python.worker.reuse": "false",
        },
    ],
)
def test_processes_start_on_cores_or_on_whole_gpus(settings):
    check_barrier(settings, 2)


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"spark.dynamicAllocation.enabled": "true"}, r"dynamicAllocation.enabled to false$"),
        (GPU, r"amount is 0, and TorchDistributor ignores resource profiles; set .* to 1 \(not"),
        (GPU | {AMOUNT: "0.25"}, r"amount is 0\.25, .* target_base and train$"),
        (
            GPU | {"spark.executor.resource.gpu.amount": "4", AMOUNT: "1"},
            r"an executor has 4 GPUs: .* set spark\.python\.worker\.reuse to false$",
        ),
    ],
)
def test_settings_with_which_processes_would_fail_or_share_a_gpu_are_refused(settings, fix):
    with pytest.raises(ConfigError, match=rf"^train\.processes is 2, .*{fix}"):
        check_barrier(settings, 2)
