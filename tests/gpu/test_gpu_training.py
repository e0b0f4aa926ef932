"""Compiled training, CUDA graphs and micro-batches: near the plain arithmetic, equal when repeated.

Tests that also run on the CPU do so with torch's `aot_eager` backend, which generates no C++ code.
One slow test generates it.
"""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from climb.errors import ResourceError, TrialError
from climb.proxy import gradients, loop, update
from climb.proxy.batches import Batches
from climb.proxy.data import Stream
from climb.proxy.llama import LlamaProxy
from climb.proxy.training import run_training
from climb.testing.contracts import build_tiny_run, check_proxy

torch = pytest.importorskip("torch")

NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
GPU = pytest.param("cuda:0", marks=NEEDS_GPU)
DEVICES = ["cpu", GPU]

SMALL = LlamaProxy(hidden=32, layers=2, heads=2, sequence=32, batch=8, learning_rate=5e-3)
EXACT = dataclasses.replace(SMALL, precision="float32", compile="eager")
N_TOKENS = 32 * 8 * 10 + 32 * 3
"""Ten steps, and one of three sequences, which compiled code does not fit."""


@pytest.fixture
def run(tmp_path, request):
    if request.node.callspec.params["device"] == "cpu":
        request.getfixturevalue("monkeypatch").setattr(gradients, "BACKEND", "aot_eager")
    gradients.forget_compiled()
    return dataclasses.replace(build_tiny_run(tmp_path, N_TOKENS), checkpoint_steps=3)


class KilledError(Exception):
    """Simulates the death of the process."""


def read_weights(folder):
    return (Path(folder) / "model.safetensors").read_bytes()


def train(recipe, run, device):
    """Return the metrics and the bytes of the model."""
    return recipe.train(run, device), read_weights(run.save)


def train_interrupted(recipe, run, device):
    def kill(loop):
        if loop.n_steps_done == 7:
            raise KilledError

    with pytest.raises(KilledError):
        run_training(recipe, run, device, before_step=kill)
    return train(recipe, run, device)


@pytest.mark.parametrize("device", [GPU])
@pytest.mark.parametrize("compile", ["eager", "layers", "step"])
def test_the_contract_holds_compiled_and_not_compiled(tmp_path, compile, device):
    check_proxy(dataclasses.replace(SMALL, compile=compile), tmp_path, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("compile", ["layers", "step"])
def test_compiled_training_equals_uncompiled_training_up_to_rounding(run, device, compile):
    expected = EXACT.train(run, device)
    metrics = dataclasses.replace(EXACT, compile=compile).train(run, device)
    for name in ("train.loss", "letters.bpb", "numbers.bpb"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["bfloat16", "bfloat16_weights"])
def test_training_in_bfloat16_is_close_to_float32(run, device, precision):
    expected = EXACT.train(run, device)
    metrics = dataclasses.replace(EXACT, precision=precision).train(run, device)
    # bfloat16 has 8 bits, so the error of a loss of 5 nats is a few hundredths.
    assert metrics["train.loss"] != expected["train.loss"]
    assert metrics["train.loss"] == pytest.approx(expected["train.loss"], abs=0.1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("compile", ["auto", "eager", "layers", "step"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16_weights"])
def test_an_interrupted_run_equals_an_uninterrupted_one(run, device, compile, precision):
    recipe = dataclasses.replace(SMALL, compile=compile, precision=precision)
    expected = train(recipe, run, device)
    assert train_interrupted(recipe, run, device) == expected


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler (g++ or clang++)"
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_cpu_generated_code_gives_equal_bytes_after_an_interruption(tmp_path, precision):
    gradients.forget_compiled()
    recipe = dataclasses.replace(SMALL, compile="layers", precision=precision)
    run = dataclasses.replace(build_tiny_run(tmp_path, N_TOKENS), checkpoint_steps=3)
    expected = train(recipe, run, "cpu")
    assert train(recipe, run, "cpu") == expected
    assert train_interrupted(recipe, run, "cpu") == expected


@pytest.mark.parametrize("device", [GPU])
@pytest.mark.parametrize("compile", ["eager", "layers", "step"])
def test_two_runs_with_attention_over_many_blocks_have_equal_bits(run, device, compile):
    """With 1,024 tokens, attention's backward pass adds up blocks, in any order by default."""
    recipe = LlamaProxy(
        hidden=128, layers=2, heads=2, sequence=1024, batch=8, learning_rate=1e-3, compile=compile
    )
    long = dataclasses.replace(run, n_tokens=1024 * 8 * 12)
    first = train(recipe, long, device)
    assert train(recipe, long, device) == first
    assert train_interrupted(recipe, long, device) == first


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("compile", ["eager", "layers"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16_weights"])
def test_micro_batches_add_up_to_the_gradient_of_the_batch(run, device, compile, precision):
    recipe = dataclasses.replace(EXACT, compile=compile, precision=precision)
    whole = compute_gradients(recipe, device)
    parts = compute_gradients(dataclasses.replace(recipe, micro_batch=3), device)
    tolerance = 1e-5 if precision == "float32" else 2e-2
    for one, other in zip(whole, parts, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert torch.linalg.norm(one - other) <= tolerance * torch.linalg.norm(one)


def compute_gradients(recipe, device, may_halve=True):
    """Return the clipped gradients of a first step at a rate of 0."""
    torch.manual_seed(0)
    model = recipe.create_model(64).to(device).train()
    ids = torch.randint(64, (8, 32), generator=torch.Generator().manual_seed(1)).to(device)
    updater = update.Updater(recipe, model, may_halve)
    updater.prepare(32)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=False):
        updater.take(ids, 0.0)
    return [parameter.grad.clone() for parameter in model.parameters()]


def limit_memory(monkeypatch, n_sequences):
    """Let memory run out for more sequences than these; return the sizes that were tried."""
    accumulate, tried = gradients.GradientModel.accumulate, []

    def accumulate_or_fail(self, ids_BT, n_predicted, weights_B=None):
        tried.append(len(ids_BT))
        if len(ids_BT) > n_sequences:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return accumulate(self, ids_BT, n_predicted, weights_B)

    monkeypatch.setattr(gradients.GradientModel, "accumulate", accumulate_or_fail)
    return tried


@pytest.mark.parametrize("device", DEVICES)
def test_memory_that_runs_out_halves_the_micro_batch_and_keeps_the_gradient(
    run, device, monkeypatch, caplog
):
    expected = compute_gradients(EXACT, device)
    tried = limit_memory(monkeypatch, 2)
    for one, other in zip(expected, compute_gradients(EXACT, device), strict=True):
        assert torch.linalg.norm(one - other) <= 1e-5 * torch.linalg.norm(one)
    assert tried == [8, 4, 2, 2, 2, 2]
    assert "memory ran out with 4 sequences of 32 tokens" in caplog.text


@pytest.mark.parametrize("device", DEVICES)
def test_memory_that_runs_out_in_the_middle_of_a_batch_keeps_the_gradient(run, device, monkeypatch):
    recipe = dataclasses.replace(EXACT, micro_batch=4)
    expected = compute_gradients(recipe, device)
    accumulate, calls = gradients.GradientModel.accumulate, []

    def fail_at_the_second_call(self, ids_BT, n_predicted, weights_B=None):
        calls.append(len(ids_BT))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return accumulate(self, ids_BT, n_predicted, weights_B)

    monkeypatch.setattr(gradients.GradientModel, "accumulate", fail_at_the_second_call)
    for one, other in zip(expected, compute_gradients(recipe, device), strict=True):
        assert torch.linalg.norm(one - other) <= 1e-5 * torch.linalg.norm(one)
    assert calls == [4, 4, 2, 2, 2, 2]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("compile", ["eager", "layers", "step"])
def test_a_run_whose_micro_batch_was_halved_resumes_with_it(run, device, compile, monkeypatch):
    recipe = dataclasses.replace(SMALL, compile=compile, precision="float32")
    limit_memory(monkeypatch, 2)
    expected = train(recipe, run, device)

    def kill(loop):
        if loop.n_steps_done == 7:
            raise KilledError

    with pytest.raises(KilledError):
        run_training(recipe, run, device, before_step=kill)
    monkeypatch.undo()  # memory is enough again
    if device == "cpu":
        monkeypatch.setattr(gradients, "BACKEND", "aot_eager")
    assert train(recipe, run, device) == expected


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("n_sequences", "may_halve"), [(0, True), (4, False)])
def test_memory_that_is_too_small_is_a_resource_error(
    run, device, monkeypatch, n_sequences, may_halve
):
    tried = limit_memory(monkeypatch, n_sequences)
    with pytest.raises(ResourceError, match="out of memory"):
        EXACT.train(dataclasses.replace(run, halve_micro_batch=may_halve), device)
    assert tried == ([8, 4, 2, 1] if may_halve else [8])


@pytest.mark.parametrize("device", DEVICES)
def test_activations_are_computed_again_in_the_backward_pass(run, device, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP

    forward, calls = LlamaMLP.forward, []

    def count(self, x):
        calls.append(x.shape)
        return forward(self, x)

    monkeypatch.setattr(LlamaMLP, "forward", count)
    counts = []
    for is_set in (False, True):
        calls.clear()
        compute_gradients(dataclasses.replace(EXACT, checkpoint_activations=is_set), device)
        counts.append(len(calls))
    assert counts == [EXACT.layers, 2 * EXACT.layers]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("compile", ["eager", "layers"])
def test_activations_that_are_computed_again_change_no_metric(run, device, compile):
    recipe = dataclasses.replace(EXACT, compile=compile)
    again = dataclasses.replace(recipe, checkpoint_activations=True)
    expected = recipe.train(run, device)["train.loss"]
    assert again.train(run, device)["train.loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("compile", ["layers", "step"])
def test_a_compiled_run_saves_a_model_that_transformers_opens(run, device, compile):
    from transformers import AutoModelForCausalLM

    recipe = dataclasses.replace(SMALL, compile=compile, precision="bfloat16_weights")
    recipe.train(run, device)
    model, info = AutoModelForCausalLM.from_pretrained(
        run.save, local_files_only=True, output_loading_info=True
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config._attn_implementation == "sdpa"
    # The weights are those of the optimizer, not their copies in bfloat16.
    weight = model.get_input_embeddings().weight
    assert not torch.equal(weight, weight.bfloat16().float())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("n_steps", "checkpoint_steps"), [(4, 100), (100, 100), (100, 4)])
def test_divergence_is_reported_with_its_step_however_seldom_losses_are_read(
    run, device, monkeypatch, n_steps, checkpoint_steps
):
    unstable = dataclasses.replace(EXACT, learning_rate=1e30, max_gradient_norm=1e30)
    run, messages = dataclasses.replace(run, checkpoint_steps=checkpoint_steps), []
    for steps in (1, n_steps):
        monkeypatch.setitem(loop.STEPS_PER_READING, device.partition(":")[0], steps)
        with pytest.raises(TrialError, match=r"the loss is (nan|inf) at step \d+ of 11") as error:
            unstable.train(run, device)
        messages.append(str(error.value))
        assert not Path(run.save).exists()
        assert not Path(run.checkpoints).exists()  # no state with a loss that is NaN
    assert messages[0] == messages[1]


@pytest.mark.parametrize("device", [GPU])
def test_batches_that_a_thread_reads_ahead_are_those_of_the_stream(device):
    shard = np.arange(1000, dtype=np.uint16)
    stream = Stream(("a",), (shard,), np.zeros(10, dtype=np.int64), np.arange(10) * 7, 16)
    batches = Batches(stream, 3, 1000, "tokenizer.json", torch.device(device))
    try:
        for step in range(4):
            expected = stream.read_batch(3 * step, min(3 * step + 3, 10))
            assert np.array_equal(batches.read(step).cpu().numpy(), expected)
    finally:
        batches.close()
