"""A proxy on a GPU: reproducible, resumable, and close to the same run on a CPU.

The tests that do not compare devices also run on the CPU, so that their code is checked without a
GPU.
"""

import dataclasses

import pytest

from climb.errors import ResourceError
from climb.proxy.llama import LlamaProxy
from climb.proxy.training import run_training
from climb.testing.contracts import build_tiny_run, check_proxy

torch = pytest.importorskip("torch")

NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
DEVICES = ["cpu", pytest.param("cuda:0", marks=NEEDS_GPU)]

SMALL = LlamaProxy(hidden=32, layers=2, heads=2, sequence=32, batch=8, learning_rate=5e-3)
N_TOKENS = 32 * 8 * 10  # ten steps


@pytest.fixture
def run(tmp_path):
    return dataclasses.replace(build_tiny_run(tmp_path, N_TOKENS), save=None, checkpoint_steps=3)


class KilledError(Exception):
    """Simulates the death of the process."""


@pytest.mark.parametrize("device", [pytest.param("cuda:0", marks=NEEDS_GPU)])
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_the_llama_proxy_satisfies_the_contract(tmp_path, precision, device):
    check_proxy(dataclasses.replace(SMALL, precision=precision), tmp_path, device)


@pytest.mark.parametrize("device", [pytest.param("cuda:0", marks=NEEDS_GPU)])
def test_in_float32_the_metrics_on_a_gpu_are_close_to_those_on_a_cpu(run, device):
    exact = dataclasses.replace(SMALL, precision="float32")
    expected, metrics = exact.train(run, "cpu"), exact.train(run, device)
    # The initial weights are drawn on the CPU for both; rounding errors grow over ten steps.
    for name in ("train.loss", "letters.bpb", "numbers.bpb"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-2)


@pytest.mark.parametrize("device", DEVICES)
def test_a_resumed_run_equals_an_uninterrupted_one(run, device):
    def kill(loop):
        if loop.n_steps_done == 7:
            raise KilledError

    expected = SMALL.train(run, device)
    with pytest.raises(KilledError):
        run_training(SMALL, run, device, before_step=kill)
    assert SMALL.train(run, device) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_running_out_of_memory_raises_a_resource_error(run, device):
    # More memory than the device has. `set_per_process_memory_fraction(1e-6)` raises no error for
    # a run of this size (torch 2.11).
    n_bytes = 2**60 if device == "cpu" else 2 * torch.cuda.get_device_properties(0).total_memory

    def exhaust_memory(loop):
        torch.empty(n_bytes, dtype=torch.uint8, device=device)

    with pytest.raises(ResourceError, match=f"LlamaProxy on {device}: out of memory"):
        run_training(SMALL, run, device, before_step=exhaust_memory)
    assert SMALL.train(run, device)["train.loss"] > 0.0  # memory is free again
