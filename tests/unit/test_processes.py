"""Several processes train one model: the steps of one process up to rounding, also after a kill."""

import copy
import dataclasses
import os
import signal
from pathlib import Path

import pytest
import torch
from processes import call_together, in_folder, read_results, train_together
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel

from climb.errors import InfrastructureError, TrialError
from climb.proxy import processes as module
from climb.proxy.checkpoint import Checkpoints, compute_run_digest
from climb.proxy.curve import read_curve
from climb.proxy.language_model import accumulate_gradients
from climb.proxy.llama import LlamaProxy
from climb.proxy.processes import Processes
from climb.proxy.training import run_training
from climb.proxy.update import Updater
from climb.testing.contracts import build_tiny_run

TINY = LlamaProxy(hidden=16, layers=1, heads=2, sequence=16, batch=8, learning_rate=1e-2)
N_TOKENS = 16 * (8 * 10 + 1)  # ten steps, and a last one with one sequence


@pytest.fixture
def run(tmp_path):
    return place(build_tiny_run(tmp_path / "data", N_TOKENS), tmp_path / "run")


def place(run, folder):
    return in_folder(run, folder, checkpoint_steps=3, curve_steps=4)


def open_checkpoints(run, count=2):
    together = dataclasses.replace(run, processes=count)
    return Checkpoints(run.checkpoints, compute_run_digest(TINY, together, "cpu"))


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_the_processes_divide_every_batch_without_a_gap(count):
    for first, stop in ((0, 16), (16, 23), (32, 33), (5, 5)):
        parts = [Processes(rank, count).split(first, stop) for rank in range(count)]
        assert [row for part in parts for row in range(*part)] == list(range(first, stop))
        sizes = [end - begin for begin, end in parts]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("count", "micro_batch"), [(2, None), (3, 2)])
def test_several_processes_take_the_steps_of_one_process_up_to_rounding(
    run, tmp_path, count, micro_batch
):
    """Three processes divide batches of eight unevenly; two of them get none of the last step."""
    alone = run_training(TINY, run, "cpu")
    other = place(run, tmp_path / "together")
    recipe = dataclasses.replace(TINY, micro_batch=micro_batch)
    assert train_together(recipe, other, count) == pytest.approx(alone, rel=1e-4)
    expected, found = (load_file(f"{each.save}/model.safetensors") for each in (run, other))
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, atol=1e-4, rtol=1e-3)
    curves = [read_curve(each.curve) for each in (run, other)]
    assert [p.step for p in curves[1]] == [4, 8, 11]
    assert [p.n_tokens for p in curves[1]] == [512, 1024, N_TOKENS]
    assert [p.loss for p in curves[1]] == pytest.approx([p.loss for p in curves[0]], rel=1e-4)
    assert [p.learning_rate for p in curves[1]] == [p.learning_rate for p in curves[0]]
    assert curves[1][-1].metrics.keys() >= {"letters.bpb"}
    assert not Path(other.checkpoints).exists()


@pytest.mark.parametrize("killed", [0, 1])
def test_a_run_that_lost_a_process_ends_with_the_bytes_of_an_unbroken_run(run, tmp_path, killed):
    whole = place(run, tmp_path / "whole")
    metrics = train_together(TINY, whole, 2)

    def kill(loop, rank):
        if (rank, loop.n_steps_done) == (killed, 8):
            os.kill(os.getpid(), signal.SIGKILL)

    def train(rank):
        own = dataclasses.replace(run, processes=2, save=None)
        run_training(TINY, own, "cpu", lambda loop: kill(loop, rank))

    results = call_together(train, 2)
    assert results[killed] is None  # it raised nothing, and returned nothing
    assert isinstance(results[1 - killed], InfrastructureError)
    assert "another process of the run was lost" in str(results[1 - killed])
    assert open_checkpoints(run).load()["step"] == 6
    steps = []
    resumed = train_together(TINY, run, 2, lambda loop, rank: steps.append(loop.n_steps_done))
    assert resumed == metrics
    assert read_results(run) == read_results(whole)


def test_a_loss_of_nan_in_one_part_of_a_batch_ends_all_processes_with_the_same_error(run):
    wild = dataclasses.replace(TINY, learning_rate=1e30, max_gradient_norm=1e30)

    def train(rank):
        run_training(wild, dataclasses.replace(run, processes=2), "cpu")

    first, second = call_together(train, 2)
    assert isinstance(first, TrialError)
    assert str(first).startswith("the loss is ")
    assert str(first) == str(second)


def test_a_process_that_sees_another_checkpoint_than_the_first_is_lost(run, tmp_path):
    def stop(loop, rank):
        if loop.n_steps_done == 5:
            raise KeyboardInterrupt

    def train(rank):
        if rank == 1:  # a mount that does not show the file yet
            own = dataclasses.replace(run, processes=2, checkpoints=str(tmp_path / "empty"))
        else:
            own = dataclasses.replace(run, processes=2)
        return run_training(TINY, own, "cpu")

    checkpoints = open_checkpoints(run)
    alone = Checkpoints(run.checkpoints, "another run")
    alone.save({"step": 3})
    assert checkpoints.load() is None
    checkpoints.save({"step": 3})
    _, second = call_together(train, 2)
    assert isinstance(second, InfrastructureError)
    assert "process 1 finds none, but the first process finds the checkpoint of step 3" in str(
        second
    )


def test_a_checkpoint_of_another_number_of_processes_is_not_continued(run):
    def stop(loop):
        if loop.n_steps_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(TINY, run, "cpu", stop)
    assert open_checkpoints(run, 1).load()["step"] == 3
    assert open_checkpoints(run, 2).load() is None


def test_random_numbers_of_a_step_depend_on_step_and_process_alone():
    def draw(rank, step, count=2):
        Processes(rank, count).seed_step(0, step)
        return torch.rand(()).item()

    with torch.random.fork_rng():
        assert draw(0, 1) == draw(0, 1)
        assert len({draw(rank, step) for rank in range(2) for step in range(3)}) == 6
        assert draw(0, 1, count=1) != draw(0, 1, count=1)  # one process keeps its own state


def test_gradients_are_summed_in_buckets_of_a_limited_size(monkeypatch):
    monkeypatch.setattr(module, "BUCKET_ELEMENTS", 5)
    tensors = [torch.zeros(n) for n in (1, 3, 7, 2, 2, 1)]
    assert [[len(t) for t in bucket] for bucket in module._fill_buckets(tensors)] == [
        [1, 3], [7], [2, 2, 1],
    ]  # fmt: skip


@pytest.mark.parametrize("bucket", [100, 2**24])
def test_summed_gradients_are_those_of_torchs_distributed_data_parallel(monkeypatch, bucket):
    """Which averages the means of equal parts."""
    monkeypatch.setattr(module, "BUCKET_ELEMENTS", bucket)

    def compare(rank):
        torch.manual_seed(0)
        model = TINY.create_model(100)
        twin = DistributedDataParallel(copy.deepcopy(model))
        ids_BL = torch.randint(100, (8, 16))
        processes = Processes(rank, 2)
        first, stop = processes.split(0, 8)
        part_BL = ids_BL[first:stop]
        loss = accumulate_gradients(model, part_BL, n_predicted=8 * 15)
        total = processes.sum_gradients(model.parameters(), loss)
        twin(input_ids=part_BL, labels=part_BL).loss.backward()
        whole = model(input_ids=ids_BL, labels=ids_BL).loss
        pairs = zip(model.parameters(), twin.parameters(), strict=True)
        worst = max((one.grad - two.grad).abs().max().item() for one, two in pairs)
        return worst, abs(total.item() - whole.item())

    results = call_together(compare, 2)
    assert max(max(pair) for pair in results) < 1e-5


def test_a_process_without_sequences_adds_no_gradients_of_an_earlier_step(monkeypatch):
    """With bfloat16 weights, the model keeps its gradients until the next pass replaces them."""
    sent = []

    def sum_gradients(processes, parameters, loss):
        sent.append([None if p.grad is None else p.grad.abs().sum().item() for p in parameters])
        return loss

    monkeypatch.setattr(Processes, "sum_gradients", sum_gradients)
    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", lambda *_: None)
    recipe = dataclasses.replace(TINY, precision="bfloat16_weights", compile="eager")
    updater = Updater(recipe, TINY.create_model(64), False, Processes(1, 2))
    updater.take(torch.ones(4, 16, dtype=torch.int64), 0.01, n_sequences=8)
    updater.take(torch.ones(0, 16, dtype=torch.int64), 0.01, n_sequences=1)
    assert any(sent[0])
    assert sent[1] == [None] * len(sent[0])
