"""Which device a task gets, from the address of Spark and the devices that CUDA shows."""

from types import SimpleNamespace

import pytest

from climb.spark import device
from climb.spark.device import choose_device, get_task_device, is_local, shares_local_gpu


@pytest.mark.parametrize(
    ("address", "visible", "is_gpu_shared", "expected"),
    [
        # Spark assigned a GPU.
        ("3", None, False, "cuda:3"),
        ("3", "", False, "cuda:3"),
        ("3", "3", False, "cuda:0"),  # the platform hides the other GPUs
        ("5", "3,5", False, "cuda:1"),
        ("5", "3, 5", False, "cuda:1"),
        ("0", "3", False, "cuda:0"),  # the platform has numbered the addresses again
        ("1", "GPU-8f1c", False, "cuda:0"),
        ("GPU-8f1c", "GPU-77aa,GPU-8f1c", False, "cuda:1"),
        ("GPU-8f1c", None, False, "cuda:0"),
        ("2", "0,1,2,3", False, "cuda:2"),
        ("2", "0,1,2,3", True, "cuda:2"),
        # Spark assigned none.
        (None, None, False, "cpu"),
        (None, "0", False, "cpu"),
        (None, "3", True, "cuda:0"),
        (None, None, True, "cuda:0"),
    ],
)
def test_the_device_is_the_index_of_the_address_among_the_visible_gpus(
    address, visible, is_gpu_shared, expected
):
    assert choose_device(address, visible, is_gpu_shared) == expected


@pytest.mark.parametrize(
    ("addresses", "visible", "expected"),
    [(["5"], "3,5", "cuda:1"), (["5"], None, "cuda:5"), ([], "3,5", "cpu"), (None, "3", "cpu")],
)
def test_a_task_reads_its_address_and_the_visible_devices(
    monkeypatch, addresses, visible, expected
):
    resources = {} if addresses is None else {"gpu": SimpleNamespace(addresses=addresses)}
    context = SimpleNamespace(resources=lambda: resources)
    monkeypatch.setattr(device, "TaskContext", SimpleNamespace(get=lambda: context))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert get_task_device() == expected


@pytest.mark.parametrize(
    ("master", "expected"),
    [
        ("local", True),
        ("local[*]", True),
        ("local[*, 4]", True),  # single-node compute of Databricks
        ("local-cluster[2,1,1024]", False),
        ("spark://head:7077", False),
        ("yarn", False),
    ],
)
def test_local_cluster_is_not_local_mode(master, expected):
    assert is_local(master) is expected


@pytest.mark.parametrize(
    ("master", "settings", "has_gpu", "expected"),
    [
        ("local[*]", {}, True, True),
        ("local[*]", {}, False, False),
        ("local[*]", {"spark.executor.resource.gpu.amount": "1"}, True, False),
        ("spark://head:7077", {}, True, False),
    ],
)
def test_local_tasks_share_a_visible_gpu_that_spark_does_not_schedule(
    monkeypatch, master, settings, has_gpu, expected
):
    monkeypatch.setattr(device, "has_visible_gpu", lambda: has_gpu)
    context = SimpleNamespace(master=master, getConf=lambda: settings)
    assert shares_local_gpu(SimpleNamespace(sparkContext=context)) is expected


def test_torch_is_not_imported_to_look_for_a_gpu_where_there_is_no_driver(monkeypatch):
    monkeypatch.setattr(device, "GPU_DRIVERS", ("/nowhere/nvidiactl",))
    monkeypatch.setitem(device.sys.modules, "torch", None)  # an import would raise
    device.has_visible_gpu.cache_clear()
    assert device.has_visible_gpu() is False
    monkeypatch.setattr(device, "GPU_DRIVERS", ("/",))
    device.has_visible_gpu.cache_clear()
    assert device.has_visible_gpu() is False  # a driver, but no torch
    device.has_visible_gpu.cache_clear()


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({}, False),
        ({"spark.plugins": "com.example.Other"}, False),
        ({"spark.plugins": "com.example.Other,com.nvidia.spark.SQLPlugin"}, True),
        (
            {"spark.plugins": "com.nvidia.spark.SQLPlugin", "spark.rapids.sql.enabled": "false"},
            False,
        ),
    ],
)
def test_the_sql_plug_in_of_rapids_is_recognized_by_its_settings(conf, expected):
    settings = SimpleNamespace(get=conf.get)
    context = SimpleNamespace(getConf=lambda: settings)
    assert device.uses_sql_plugin(SimpleNamespace(sparkContext=context, conf=settings)) is expected
