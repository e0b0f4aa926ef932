"""Training a proxy: equal runs are equal, and a resumed run equals an uninterrupted one."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from climb.config import build
from climb.errors import ComponentError, ConfigError, ResourceError, TrialError
from climb.files import is_complete
from climb.proxy import Proxy, heartbeat
from climb.proxy.checkpoint import Checkpoints, compute_run_digest
from climb.proxy.heartbeat import read_progress
from climb.proxy.llama import HuggingFaceProxy, LlamaProxy
from climb.proxy.model_files import save_model
from climb.proxy.training import run_training
from climb.testing.contracts import build_tiny_run, check_proxy

TINY = LlamaProxy(hidden=16, layers=1, heads=2, sequence=16, batch=8, learning_rate=1e-2)
N_TOKENS = 16 * 8 * 10  # ten steps


@pytest.fixture
def run(tmp_path):
    return dataclasses.replace(build_tiny_run(tmp_path / "data", N_TOKENS), checkpoint_steps=3)


@pytest.fixture
def uninterrupted(run, tmp_path):
    """Metrics and model of the same run without interruption."""
    other = dataclasses.replace(
        run, save=str(tmp_path / "other"), checkpoints=str(tmp_path / "other-checkpoints")
    )
    return TINY.train(other, "cpu"), read_weights(other.save)


def read_weights(folder):
    return (Path(folder) / "model.safetensors").read_bytes()


class KilledError(Exception):
    """Simulates the death of the process."""


def train_until(run, step):
    """Train, and stop with an exception before a step, counted from 1."""

    def kill(loop):
        if loop.n_steps_done + 1 == step:
            raise KilledError

    with pytest.raises(KilledError):
        run_training(TINY, run, "cpu", before_step=kill)


def test_the_llama_proxy_satisfies_the_contract(tmp_path):
    check_proxy(TINY, tmp_path / "contract", n_tokens=512)


def test_a_hugging_face_checkpoint_satisfies_the_contract(tmp_path):
    run = build_tiny_run(tmp_path / "data", 512)
    TINY.train(run, "cpu")
    proxy = HuggingFaceProxy(model=run.save, sequence=16, batch=8, learning_rate=1e-2)
    check_proxy(proxy, tmp_path / "contract", n_tokens=512)


def test_training_on_a_domain_lowers_its_bits_per_byte(run):
    long = dataclasses.replace(run, n_tokens=8 * N_TOKENS, save=None)
    letters = TINY.train(dataclasses.replace(long, weights={"letters": 1.0}), "cpu")
    numbers = TINY.train(dataclasses.replace(long, weights={"numbers": 1.0}), "cpu")
    assert letters["letters.bpb"] < 0.7 * numbers["letters.bpb"]
    assert numbers["numbers.bpb"] < 0.7 * letters["numbers.bpb"]
    assert numbers["numbers.accuracy"] == 1.0


def test_a_continued_run_has_a_lower_loss_than_a_base_run(run):
    TINY.train(run, "cpu")
    later = dataclasses.replace(run, save=None, seed=1)
    begun = TINY.train(later, "cpu")
    continued = TINY.train(dataclasses.replace(later, start=run.save), "cpu")
    assert continued["train.loss"] < begun["train.loss"]


@pytest.mark.parametrize("step", [1, 2, 4, 9, 10])
def test_a_resumed_run_equals_an_uninterrupted_one(run, uninterrupted, step):
    train_until(run, step)
    steps = []
    metrics = run_training(
        TINY, run, "cpu", before_step=lambda loop: steps.append(loop.n_steps_done)
    )
    assert (metrics, read_weights(run.save)) == uninterrupted
    assert steps[0] == (step - 1) // 3 * 3  # it resumed from the last checkpoint
    assert steps == list(range(steps[0], 10))


@pytest.mark.parametrize("checkpoint_steps", [3, 100])
def test_a_run_that_stops_and_continues_equals_an_uninterrupted_one(
    run, tmp_path, checkpoint_steps
):
    TINY.train(run, "cpu")
    # Of a continued run, the learning rate of each step depends on the number of all steps.
    run = dataclasses.replace(
        run, start=run.save, save=str(tmp_path / "later"), checkpoint_steps=checkpoint_steps
    )
    whole, expected = TINY.train(run, "cpu"), read_weights(run.save)
    shutil.rmtree(run.save)
    first = dataclasses.replace(run, save=None, stop_tokens=4 * 16 * 8)
    steps = []

    def record(loop):
        steps.append(loop.n_steps_done)

    partial = run_training(TINY, first, "cpu", before_step=record)
    assert run_training(TINY, run, "cpu", before_step=record) == whole
    assert read_weights(run.save) == expected
    assert steps == list(range(10))
    assert partial["letters.bpb"] > whole["letters.bpb"]
    assert not Path(run.checkpoints).exists()
    # Without checkpoints, the run begins again.
    assert TINY.train(first, "cpu") == partial


def test_a_run_that_stops_ignores_checkpoints_of_later_steps(run, uninterrupted):
    first = dataclasses.replace(run, save=None, stop_tokens=2 * 16 * 8)
    partial = TINY.train(first, "cpu")
    train_until(run, 10)
    assert TINY.train(first, "cpu") == partial
    assert (TINY.train(run, "cpu"), read_weights(run.save)) == uninterrupted


def test_a_run_stops_after_whole_steps_within_its_tokens_and_after_one_at_least(run):
    def count_steps(stop_tokens):
        steps = []
        stopped = dataclasses.replace(run, save=None, stop_tokens=stop_tokens)
        run_training(TINY, stopped, "cpu", before_step=lambda loop: steps.append(1))
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        return len(steps)

    assert [count_steps(n) for n in (1, 2 * 128 - 1, 2 * 128, 10**9)] == [1, 1, 2, 10]


def test_the_progress_of_a_run_that_stops_is_that_of_its_own_steps(run, tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS_PER_BEAT", 0.0)
    path, shares = tmp_path / "progress", []
    stopped = dataclasses.replace(run, save=None, stop_tokens=4 * 128, heartbeat=str(path))
    run_training(TINY, stopped, "cpu", lambda loop: shares.append(read_progress(path)))
    assert [p and p.share for p in shares] == [None, 0.25, 0.5, 0.75]
    assert read_progress(path).share == 1.0


def test_a_run_whose_process_was_killed_equals_an_uninterrupted_one(run, uninterrupted, tmp_path):
    (tmp_path / "run.pickle").write_bytes(pickle.dumps((TINY, run)))
    script = textwrap.dedent(
        """
        import pathlib, pickle, sys, time
        from climb.proxy.training import run_training
        proxy, run = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
        def report(loop):
            print(loop.n_steps_done, flush=True)
            time.sleep(0.1)  # so that the signal arrives before the run ends
        run_training(proxy, run, "cpu", before_step=report)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run.pickle")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "5":
                process.kill()
    assert process.returncode == -9
    assert not Path(run.save).exists()
    assert open_checkpoints(run).load()["step"] >= 3
    assert (TINY.train(run, "cpu"), read_weights(run.save)) == uninterrupted


def test_a_damaged_checkpoint_is_replaced_by_the_previous_one(run, uninterrupted):
    train_until(run, 8)
    slots = sorted(Path(run.checkpoints).glob("slot-*"), key=lambda p: p.stat().st_mtime_ns)
    assert len(slots) == 2
    newest = slots[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert open_checkpoints(run).load()["step"] == 3
    assert (TINY.train(run, "cpu"), read_weights(run.save)) == uninterrupted


def test_a_run_whose_checkpoints_are_both_damaged_starts_again(run, uninterrupted):
    train_until(run, 8)
    for slot in Path(run.checkpoints).glob("slot-*"):
        slot.write_bytes(slot.read_bytes()[:-1])
    assert open_checkpoints(run).load() is None
    assert (TINY.train(run, "cpu"), read_weights(run.save)) == uninterrupted


def open_checkpoints(run, proxy=TINY):
    return Checkpoints(run.checkpoints, compute_run_digest(proxy, run, "cpu"))


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "foreign", "missing"])
def test_the_newest_valid_checkpoint_is_loaded(run, damage):
    checkpoints = open_checkpoints(run)
    for step in (1, 2, 3):
        checkpoints.save({"step": step, "numbers": torch.arange(step)})
    slot = max(Path(run.checkpoints).glob("slot-*"), key=lambda p: p.stat().st_mtime_ns)
    data = bytearray(slot.read_bytes())
    data[-40] ^= 1
    {
        "truncated": lambda: slot.write_bytes(data[: len(data) // 2]),
        "one bit": lambda: slot.write_bytes(data),
        "empty": lambda: slot.write_bytes(b""),
        "foreign": lambda: slot.write_bytes(b"something else\n"),
        "missing": slot.unlink,
    }[damage]()
    reopened = open_checkpoints(run)
    assert reopened.load()["step"] == 2
    reopened.save({"step": 4})  # overwrites the damaged slot and not the valid one
    reopened.save({"step": 5})
    assert open_checkpoints(run).load()["step"] == 5


def test_after_a_restart_a_checkpoint_overwrites_the_older_slot(run):
    first = open_checkpoints(run)
    for step in (1, 2, 3):
        first.save({"step": step})
    second = open_checkpoints(run)
    assert second.load()["step"] == 3
    second.save({"step": 4})
    assert open_checkpoints(run).load()["step"] == 4
    max(Path(run.checkpoints).glob("slot-*"), key=lambda p: p.stat().st_mtime_ns).unlink()
    assert open_checkpoints(run).load()["step"] == 3


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"weights": {"letters": 0.4, "numbers": 0.6}}, {"n_tokens": N_TOKENS + 16}],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_not_loaded(run, change):
    open_checkpoints(run).save({"step": 1})
    assert open_checkpoints(dataclasses.replace(run, **change)).load() is None
    assert open_checkpoints(run).load() is not None


def test_a_checkpoint_of_another_recipe_or_other_data_is_not_loaded(run):
    open_checkpoints(run).save({"step": 1})
    assert open_checkpoints(run, dataclasses.replace(TINY, learning_rate=2e-2)).load() is None
    np.save(run.shards["letters"], np.arange(200, dtype=np.uint16))
    assert open_checkpoints(run).load() is None


def test_the_number_of_checkpoints_does_not_change_the_result(run, uninterrupted, tmp_path):
    other = dataclasses.replace(run, checkpoint_steps=1, targets=run.targets[::-1])
    assert (TINY.train(other, "cpu"), read_weights(run.save)) == uninterrupted
    assert compute_run_digest(TINY, run, "cpu") == compute_run_digest(TINY, other, "cpu")


def test_bfloat16_changes_the_loss_slightly(run):
    rounded_proxy = dataclasses.replace(TINY, precision="bfloat16")
    short = dataclasses.replace(run, save=None)
    exact, rounded = TINY.train(short, "cpu"), rounded_proxy.train(short, "cpu")
    assert exact != rounded
    # bfloat16 has 8 bits, so the error of a loss of 5 nats is a few hundredths.
    assert rounded["train.loss"] == pytest.approx(exact["train.loss"], abs=0.1)


def test_training_restores_the_settings_of_torch(run):
    torch.manual_seed(7)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        TINY.train(dataclasses.replace(run, save=None), "cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_seed_of_the_process_does_not_change_the_result(run):
    short = dataclasses.replace(run, save=None, n_tokens=512)
    torch.manual_seed(1)
    first = TINY.train(short, "cpu")
    torch.manual_seed(2)
    assert TINY.train(short, "cpu") == first
    assert TINY.train(dataclasses.replace(short, seed=1), "cpu") != first


def test_the_error_for_a_nan_loss_names_step_and_loss(run):
    unstable = dataclasses.replace(TINY, learning_rate=1e30, max_gradient_norm=1e30)
    with pytest.raises(TrialError, match=r"the loss is (nan|inf) at step \d+ of 10"):
        unstable.train(run, "cpu")
    assert not Path(run.save).exists()


def test_running_out_of_memory_raises_a_resource_error(run):
    def exhaust_memory(loop):
        torch.empty(2**60, dtype=torch.uint8)

    with pytest.raises(ResourceError, match="LlamaProxy on cpu: out of memory"):
        run_training(TINY, run, "cpu", before_step=exhaust_memory)


def test_a_token_id_that_the_tokenizer_does_not_have_is_an_error(run):
    np.save(run.shards["letters"], np.full(100, 999, dtype=np.uint16))
    with pytest.raises(ComponentError, match="step 1: a shard contains token id 999"):
        TINY.train(run, "cpu")


def test_a_run_shorter_than_a_sequence_is_an_error(run):
    with pytest.raises(ConfigError, match="the run has 15 tokens; it must have at least one"):
        TINY.train(dataclasses.replace(run, n_tokens=15), "cpu")


def test_a_base_checkpoint_that_is_not_a_model_is_an_error(run, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match="nothing cannot be opened as a causal language model"):
        TINY.train(dataclasses.replace(run, start=str(tmp_path / "nothing")), "cpu")


def test_a_model_with_too_few_token_ids_is_an_error(run, tmp_path):
    save_model(TINY.create_model(100), run.tokenizer, tmp_path / "small")
    with pytest.raises(ConfigError, match="100 token ids, but the tokenizer has 280"):
        TINY.train(dataclasses.replace(run, start=str(tmp_path / "small")), "cpu")


def test_a_base_checkpoint_of_another_size_is_an_error(run, tmp_path):
    other = dataclasses.replace(TINY, hidden=32)
    save_model(other.create_model(280), run.tokenizer, tmp_path / "wide")
    with pytest.raises(ConfigError, match=r"wide has hidden 32, but the proxy .* hidden 16"):
        TINY.train(dataclasses.replace(run, start=str(tmp_path / "wide")), "cpu")


@pytest.mark.parametrize("cap", [0.01, 30.0], ids=["now", "when its logits are large"])
def test_an_architecture_that_changes_its_logits_is_an_error(run, tmp_path, cap):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=280,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=cap,
    )
    save_model(Gemma2ForCausalLM(config), run.tokenizer, tmp_path / "gemma")
    proxy = HuggingFaceProxy(
        model=str(tmp_path / "gemma"), sequence=16, batch=8, learning_rate=1e-2
    )
    with pytest.raises(ConfigError, match=r"gemma2.* changes its logits after the output layer"):
        proxy.train(run, "cpu")


def test_a_model_that_is_not_saved_as_a_whole_is_not_complete(run, tmp_path, monkeypatch):
    model, folder = TINY.create_model(280), tmp_path / "saved"
    save_model(model, run.tokenizer, folder)
    assert is_complete(folder)
    before = read_weights(folder)

    def full_disk(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "save_pretrained", full_disk)
        with pytest.raises(OSError, match="No space left"):
            save_model(model, run.tokenizer, folder)
        assert is_complete(folder)  # nothing was copied yet
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_model(model, run.tokenizer, folder)
    assert not is_complete(folder)
    monkeypatch.undo()
    save_model(model, run.tokenizer, folder)
    assert is_complete(folder)
    assert read_weights(folder) == before


def test_a_saved_model_opens_with_transformers_and_includes_its_tokenizer(run):
    from transformers import AutoModelForCausalLM

    TINY.train(run, "cpu")
    model = AutoModelForCausalLM.from_pretrained(run.save, local_files_only=True)
    assert model.config.model_type == "llama"
    assert (Path(run.save) / "tokenizer.json").read_text() == Path(run.tokenizer.path).read_text()


def test_the_learning_rate_of_a_base_run_warms_up_and_stays_constant():
    recipe = dataclasses.replace(TINY, warmup_share=0.1, learning_rate=1.0)
    rates = [recipe.compute_rate(step, 100, continued=False) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:] == [1.0] * 91


def test_the_learning_rate_of_a_continued_run_decays_to_the_final_share():
    recipe = dataclasses.replace(TINY, warmup_share=0.0, final_share=0.2, learning_rate=1.0)
    rates = [recipe.compute_rate(step, 100, continued=True) for step in range(100)]
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(0.2, abs=0.01)
    np.testing.assert_allclose(np.diff(rates), -0.008)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden": 18, "heads": 4}, "hidden is 18; with 4 heads it must be a multiple of 8"),
        ({"layers": 0}, "layers is 0"),
        ({"batch": 0}, "batch is 0; it must be finite and above 0"),
        ({"sequence": 1}, "sequence is 1; it must be finite and at least 2"),
        ({"sequence": -1}, "sequence is -1; it must be finite and at least 2"),
        ({"learning_rate": -1.0}, r"learning_rate is -1\.0; it must be finite and above 0"),
        ({"warmup_share": -1.0}, r"warmup_share is -1\.0; it must be finite and at least 0"),
        ({"warmup_share": 1.5}, r"warmup_share is 1\.5; it must be at most 1"),
        ({"final_share": 2.0}, r"final_share is 2\.0; it must be at most 1"),
        ({"beta2": 1.0}, r"beta2 is 1\.0; it must be below 1"),
        ({"precision": "float16"}, "precision"),
        ({"hiden": 3}, "did you mean 'hidden'"),
    ],
)
def test_the_error_for_an_invalid_recipe_names_the_field(fields, message):
    spec = {"use": "climb.proxy.llama:LlamaProxy"} | json.loads(json.dumps(vars(TINY))) | fields
    with pytest.raises(ConfigError, match=message):
        build(spec, Proxy)


def test_shares_of_1_are_valid():
    assert dataclasses.replace(TINY, warmup_share=1.0, final_share=1.0).final_share == 1.0


def test_a_recipe_is_built_from_its_configuration():
    spec = {"use": "climb.proxy.llama:LlamaProxy"} | json.loads(json.dumps(vars(TINY)))
    assert build(spec, Proxy) == TINY
