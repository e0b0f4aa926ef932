"""Training a proxy: equal runs are equal, a killed run ends like an unbroken one."""

import dataclasses
import json
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from climb.config import build
from climb.errors import ComponentError, ConfigError
from climb.proxy import Proxy, training
from climb.proxy.checkpoint import Checkpoints, run_digest
from climb.proxy.llama import HuggingFaceProxy, LlamaProxy
from climb.testing.contracts import check_proxy, tiny_run

TINY = LlamaProxy(hidden=16, layers=1, heads=2, sequence=16, batch=8, learning_rate=1e-2)
N_TOKENS = 16 * 8 * 10  # ten steps


@pytest.fixture
def run(tmp_path):
    return dataclasses.replace(tiny_run(tmp_path / "data", N_TOKENS), checkpoint_steps=3)


@pytest.fixture
def unbroken(run, tmp_path):
    """Metrics and model of the run when nothing goes wrong."""
    whole = dataclasses.replace(
        run, save=str(tmp_path / "whole"), checkpoints=str(tmp_path / "whole-checkpoints")
    )
    return TINY.train(whole, "cpu"), weights_in(whole.save)


def weights_in(folder):
    return (Path(folder) / "model.safetensors").read_bytes()


class KilledError(Exception):
    """Stands for whatever ends a process."""


def stop_at(monkeypatch, step):
    """Make the run die right before it takes a step, counted from 1."""
    advance = training._Course.advance

    def until(course):
        if course.step + 1 == step:
            raise KilledError
        advance(course)

    monkeypatch.setattr(training._Course, "advance", until)


def test_the_llama_keeps_the_contract_of_a_proxy(tmp_path):
    check_proxy(TINY, tmp_path / "contract", n_tokens=512)


def test_a_checkpoint_of_somebody_else_keeps_the_contract_of_a_proxy(tmp_path):
    run = tiny_run(tmp_path / "data", 512)
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


def test_a_run_that_continues_is_better_than_one_that_begins(run):
    TINY.train(run, "cpu")
    later = dataclasses.replace(run, save=None, seed=1)
    begun = TINY.train(later, "cpu")
    continued = TINY.train(dataclasses.replace(later, start=run.save), "cpu")
    assert continued["train.loss"] < begun["train.loss"]


@pytest.mark.parametrize("step", [1, 2, 4, 9, 10])
def test_a_run_that_was_cut_short_ends_like_one_that_was_not(run, unbroken, monkeypatch, step):
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(KilledError):
            TINY.train(run, "cpu")
    taken = []
    advance = training._Course.advance
    monkeypatch.setattr(
        training._Course, "advance", lambda course: (taken.append(course.step), advance(course))
    )
    assert (TINY.train(run, "cpu"), weights_in(run.save)) == unbroken
    assert taken[0] == (step - 1) // 3 * 3  # it went on, and did not begin again


def test_a_run_whose_process_was_killed_ends_like_one_that_was_not(run, unbroken, tmp_path):
    (tmp_path / "run.pickle").write_bytes(pickle.dumps((TINY, run)))
    script = textwrap.dedent(
        """
        import pathlib, pickle, sys, time
        from climb.proxy import training
        proxy, run = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
        advance = training._Course.advance
        def slowly(course):
            advance(course)
            print(course.step, flush=True)
            time.sleep(0.1)  # so that the signal arrives before the run is over
        training._Course.advance = slowly
        proxy.train(run, "cpu")
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run.pickle")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "5":
                process.kill()
    assert process.returncode == -9
    assert not Path(run.save).exists()
    assert checkpoints_of(run).load()["step"] >= 3
    assert (TINY.train(run, "cpu"), weights_in(run.save)) == unbroken


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(run, unbroken, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 8)
        with pytest.raises(KilledError):
            TINY.train(run, "cpu")
    slots = sorted(Path(run.checkpoints).glob("slot-*"), key=lambda p: p.stat().st_mtime_ns)
    assert len(slots) == 2
    newest = slots[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert checkpoints_of(run).load()["step"] == 3
    assert (TINY.train(run, "cpu"), weights_in(run.save)) == unbroken


def checkpoints_of(run, proxy=TINY):
    return Checkpoints(run.checkpoints, run_digest(proxy, run, "cpu"))


@pytest.mark.parametrize("harm", ["truncated", "one bit", "empty", "foreign", "missing"])
def test_of_two_checkpoints_the_newest_whole_one_is_loaded(run, harm):
    saved = checkpoints_of(run)
    for step in (1, 2, 3):
        saved.save({"step": step, "numbers": torch.arange(step)})
    slot = max(Path(run.checkpoints).glob("slot-*"), key=lambda p: p.stat().st_mtime_ns)
    data = bytearray(slot.read_bytes())
    data[-40] ^= 1
    {
        "truncated": lambda: slot.write_bytes(data[: len(data) // 2]),
        "one bit": lambda: slot.write_bytes(data),
        "empty": lambda: slot.write_bytes(b""),
        "foreign": lambda: slot.write_bytes(b"something else\n"),
        "missing": slot.unlink,
    }[harm]()
    reopened = checkpoints_of(run)
    assert reopened.load()["step"] == 2
    reopened.save({"step": 4})  # over the damaged slot, not over the good one
    reopened.save({"step": 5})
    assert checkpoints_of(run).load()["step"] == 5


def test_a_checkpoint_is_written_over_the_older_slot_after_a_restart(run):
    first = checkpoints_of(run)
    for step in (1, 2, 3):
        first.save({"step": step})
    second = checkpoints_of(run)
    assert second.load()["step"] == 3
    second.save({"step": 4})
    assert sorted(checkpoints_of(run)._read(i)["step"] for i in range(2)) == [3, 4]


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"weights": {"letters": 0.4, "numbers": 0.6}}, {"n_tokens": N_TOKENS + 16}],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_not_loaded(run, change):
    checkpoints_of(run).save({"step": 1})
    assert checkpoints_of(dataclasses.replace(run, **change)).load() is None
    assert checkpoints_of(run).load() is not None


def test_a_checkpoint_of_another_recipe_or_other_data_is_not_loaded(run):
    checkpoints_of(run).save({"step": 1})
    assert checkpoints_of(run, dataclasses.replace(TINY, learning_rate=2e-2)).load() is None
    np.save(run.shards["letters"], np.arange(200, dtype=np.uint16))
    assert checkpoints_of(run).load() is None


def test_how_often_checkpoints_are_written_changes_nothing(run, unbroken, tmp_path):
    other = dataclasses.replace(run, checkpoint_steps=1, targets=run.targets[::-1])
    assert (TINY.train(other, "cpu"), weights_in(run.save)) == unbroken
    assert run_digest(TINY, run, "cpu") == run_digest(TINY, other, "cpu")


def test_bfloat16_products_change_little(run):
    half = dataclasses.replace(TINY, precision="bfloat16")
    quick = dataclasses.replace(run, save=None)
    exact, rounded = TINY.train(quick, "cpu"), half.train(quick, "cpu")
    assert exact != rounded
    # bfloat16 has 8 bits, so a loss of 5 nats is off by a few hundredths
    assert rounded["train.loss"] == pytest.approx(exact["train.loss"], abs=0.1)


def test_training_leaves_torch_as_it_was(run):
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


def test_the_seed_of_the_process_changes_nothing(run):
    quick = dataclasses.replace(run, save=None, n_tokens=512)
    torch.manual_seed(1)
    first = TINY.train(quick, "cpu")
    torch.manual_seed(2)
    assert TINY.train(quick, "cpu") == first
    assert TINY.train(dataclasses.replace(quick, seed=1), "cpu") != first


def test_a_loss_that_becomes_nan_names_step_and_loss(run):
    wild = dataclasses.replace(TINY, learning_rate=1e30, max_gradient_norm=1e30)
    with pytest.raises(ComponentError, match=r"the loss is (nan|inf) at step \d+ of 10"):
        wild.train(run, "cpu")
    assert not Path(run.save).exists()


def test_running_out_of_memory_is_a_failed_trial(run, monkeypatch):
    def too_large(course):
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(training._Course, "advance", too_large)
    with pytest.raises(ComponentError, match="LlamaProxy on cpu: out of memory"):
        TINY.train(run, "cpu")


def test_a_token_id_that_the_tokenizer_does_not_have_is_an_error(run):
    np.save(run.shards["letters"], np.full(100, 999, dtype=np.uint16))
    with pytest.raises(ComponentError, match="step 1: a shard holds token id 999"):
        TINY.train(run, "cpu")


def test_a_run_shorter_than_a_sequence_is_an_error(run):
    with pytest.raises(ConfigError, match="a run of 15 tokens; one sequence has 16"):
        TINY.train(dataclasses.replace(run, n_tokens=15), "cpu")


def test_a_start_that_is_no_model_is_an_error(run, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match="nothing is no causal language model"):
        TINY.train(dataclasses.replace(run, start=str(tmp_path / "nothing")), "cpu")


def test_a_model_with_too_few_token_ids_is_an_error(run, tmp_path):
    training.save_model(TINY.fresh(100), run.tokenizer, tmp_path / "small")
    with pytest.raises(ConfigError, match="knows 100 token ids, but the tokenizer has 280"):
        TINY.train(dataclasses.replace(run, start=str(tmp_path / "small")), "cpu")


def test_a_start_of_another_size_is_an_error(run, tmp_path):
    other = dataclasses.replace(TINY, hidden=32)
    training.save_model(other.fresh(280), run.tokenizer, tmp_path / "wide")
    with pytest.raises(ConfigError, match="wide has hidden 32, but the recipe has 16"):
        TINY.train(dataclasses.replace(run, start=str(tmp_path / "wide")), "cpu")


def test_an_architecture_that_changes_its_logits_is_refused(run, tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=280,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=0.01,
    )
    training.save_model(Gemma2ForCausalLM(config), run.tokenizer, tmp_path / "gemma")
    proxy = HuggingFaceProxy(
        model=str(tmp_path / "gemma"), sequence=16, batch=8, learning_rate=1e-2
    )
    with pytest.raises(ConfigError, match=r"gemma2.* changes its logits after the output layer"):
        proxy.train(run, "cpu")


def test_a_model_is_kept_whole_or_not_at_all(run, tmp_path, monkeypatch):
    model, folder = TINY.fresh(280), tmp_path / "kept"
    training.save_model(model, run.tokenizer, folder)
    before = weights_in(folder)

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(training.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        training.save_model(TINY.fresh(280), run.tokenizer, folder)
    assert weights_in(folder) == before
    assert [path.name for path in tmp_path.iterdir() if "kept" in path.name] == ["kept"]


def test_a_kept_model_opens_with_transformers_and_brings_its_tokenizer(run):
    from transformers import AutoModelForCausalLM

    TINY.train(run, "cpu")
    model = AutoModelForCausalLM.from_pretrained(run.save, local_files_only=True)
    assert model.config.model_type == "llama"
    assert (Path(run.save) / "tokenizer.json").read_text() == Path(run.tokenizer).read_text()


def test_the_rate_warms_up_and_stays_in_a_base_run():
    recipe = dataclasses.replace(TINY, warmup_share=0.1, learning_rate=1.0)
    rates = [recipe.rate(step, 100, continued=False) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:] == [1.0] * 91


def test_the_rate_of_a_continued_run_falls_to_the_final_share():
    recipe = dataclasses.replace(TINY, warmup_share=0.0, final_share=0.2, learning_rate=1.0)
    rates = [recipe.rate(step, 100, continued=True) for step in range(100)]
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(0.2, abs=0.01)
    np.testing.assert_allclose(np.diff(rates), -0.008)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden": 18, "heads": 4}, "hidden is 18; with 4 heads it must be a multiple of 8"),
        ({"layers": 0}, "layers is 0"),
        ({"batch": 0}, "batch must be positive"),
        ({"sequence": 1}, "sequence is 1; the least is 2"),
        ({"learning_rate": -1.0}, r"learning_rate is -1\.0"),
        ({"precision": "float16"}, "precision"),
        ({"hiden": 3}, "did you mean 'hidden'"),
    ],
)
def test_a_wrong_recipe_is_an_error_that_names_the_field(fields, message):
    spec = {"use": "climb.proxy.llama:LlamaProxy"} | json.loads(json.dumps(vars(TINY))) | fields
    with pytest.raises(ConfigError, match=message):
        build(spec, Proxy)


def test_a_recipe_is_built_from_its_configuration():
    spec = {"use": "climb.proxy.llama:LlamaProxy"} | json.loads(json.dumps(vars(TINY)))
    assert build(spec, Proxy) == TINY
