"""The learning curve of a run: its points, and evaluations that change no step of the training."""

import dataclasses
from pathlib import Path

import pytest

from climb.proxy.curve import build_curve, read_curve
from climb.proxy.llama import LlamaProxy
from climb.proxy.training import run_training
from climb.testing.contracts import build_tiny_run

TINY = LlamaProxy(hidden=16, layers=1, heads=2, sequence=16, batch=8, learning_rate=1e-2)


def test_a_point_has_the_mean_loss_since_the_previous_point():
    losses = [9.0, 7.0, 5.0, 3.0, 1.0]
    points = build_curve(losses, {3: {"a.bpb": 2.0}}, 2, lambda step: (10 * step, step / 10))
    assert [(p.step, p.n_tokens, p.loss, p.learning_rate) for p in points] == [
        (2, 20, 8.0, 0.2), (3, 30, 5.0, 0.3), (4, 40, 3.0, 0.4), (5, 50, 1.0, 0.5),
    ]  # fmt: skip
    assert [dict(p.metrics) for p in points] == [{}, {"a.bpb": 2.0}, {}, {}]


def test_a_curve_that_is_coarser_than_the_run_has_its_last_step():
    [point] = build_curve([4.0, 2.0], {}, 100, lambda step: (step, 0.0))
    assert (point.step, point.loss) == (2, 3.0)


def test_a_run_without_a_curve_has_none(tmp_path):
    assert read_curve(str(tmp_path / "missing")) is None


@pytest.fixture
def run(tmp_path):
    run = build_tiny_run(tmp_path / "data", 16 * 8 * 10)
    return dataclasses.replace(
        run, checkpoint_steps=4, curve=str(tmp_path / "curve"), curve_steps=4
    )


def test_evaluations_during_training_change_no_weight_and_no_metric(run, tmp_path):
    plain = dataclasses.replace(
        run,
        save=str(tmp_path / "plain"),
        checkpoints=str(tmp_path / "plain-checkpoints"),
        curve=str(tmp_path / "plain-curve"),
    )
    metrics = run_training(TINY, plain, "cpu")
    evaluated = dataclasses.replace(run, evaluate_steps=3)
    assert run_training(TINY, evaluated, "cpu") == metrics
    weights = [(Path(each.save) / "model.safetensors").read_bytes() for each in (run, plain)]
    assert weights[0] == weights[1]
    points = read_curve(run.curve)
    assert [p.step for p in points if p.metrics] == [3, 6, 9, 10]
    assert [p.step for p in points] == [3, 4, 6, 8, 9, 10]
    bpb = [p.metrics["letters.bpb"] for p in points if p.metrics]
    assert bpb == sorted(bpb, reverse=True)  # the model learns
    assert bpb[-1] == metrics["letters.bpb"]
    assert [p.step for p in read_curve(plain.curve) if p.metrics] == [10]


@pytest.mark.parametrize("step", [5, 7, 10])
def test_an_interrupted_run_has_the_curve_of_an_unbroken_one(run, tmp_path, step):
    whole = dataclasses.replace(
        run,
        evaluate_steps=3,
        checkpoints=str(tmp_path / "whole-checkpoints"),
        curve=str(tmp_path / "whole-curve"),
    )
    run_training(TINY, whole, "cpu")

    def stop(loop):
        if loop.n_steps_done == step - 1:
            raise KeyboardInterrupt

    broken = dataclasses.replace(run, evaluate_steps=3)
    with pytest.raises(KeyboardInterrupt):
        run_training(TINY, broken, "cpu", stop)
    assert read_curve(run.curve) is None
    run_training(TINY, broken, "cpu")
    assert read_curve(run.curve) == read_curve(whole.curve)
