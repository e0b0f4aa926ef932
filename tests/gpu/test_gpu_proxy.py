"""A proxy on a GPU: repeatable, resumable, and close to what the CPU makes of the same run."""

import dataclasses

import pytest

from climb.proxy import training
from climb.proxy.llama import LlamaProxy
from climb.testing.contracts import check_proxy, tiny_run

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

SMALL = LlamaProxy(hidden=32, layers=2, heads=2, sequence=32, batch=8, learning_rate=5e-3)
N_TOKENS = 32 * 8 * 10


class KilledError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_the_llama_keeps_the_contract_of_a_proxy_on_a_gpu(tmp_path, precision):
    check_proxy(dataclasses.replace(SMALL, precision=precision), tmp_path, "cuda:0")


def test_in_float32_a_gpu_finds_what_a_cpu_finds(tmp_path):
    exact = dataclasses.replace(SMALL, precision="float32")
    run = dataclasses.replace(tiny_run(tmp_path, N_TOKENS), save=None)
    here, there = exact.train(run, "cpu"), exact.train(run, "cuda:0")
    # The random weights are drawn on the CPU in both; ten steps let rounding grow.
    for name in ("train.loss", "letters.bpb", "numbers.bpb"):
        assert there[name] == pytest.approx(here[name], rel=1e-2)


def test_a_run_that_was_cut_short_ends_like_one_that_was_not_on_a_gpu(tmp_path, monkeypatch):
    run = dataclasses.replace(tiny_run(tmp_path, N_TOKENS), save=None, checkpoint_steps=3)
    whole = SMALL.train(run, "cuda:0")
    advance = training._Course.advance

    def until(course):
        if course.step == 7:
            raise KilledError
        advance(course)

    with monkeypatch.context() as patch:
        patch.setattr(training._Course, "advance", until)
        with pytest.raises(KilledError):
            SMALL.train(run, "cuda:0")
    assert SMALL.train(run, "cuda:0") == whole


def test_memory_that_runs_out_is_a_failed_trial(tmp_path):
    from climb.errors import ComponentError

    run = dataclasses.replace(tiny_run(tmp_path, N_TOKENS), save=None)
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(ComponentError, match="LlamaProxy on cuda:0: out of memory"):
            SMALL.train(run, "cuda:0")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
