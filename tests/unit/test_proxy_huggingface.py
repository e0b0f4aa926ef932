"""Any local causal language model of transformers is a base; what is trained opens there again."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from climb.errors import ConfigError
from climb.proxy import Target
from climb.proxy.evaluate import measure
from climb.proxy.llama import HuggingFaceProxy, LlamaProxy
from climb.proxy.model_files import open_model
from climb.testing.contracts import build_tiny_run, check_proxy
from climb.tokenizer import TokenizerFile, name_recipe, read_tokenizer

LENGTH = 16
SIZES = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def build_gpt2(n_ids):
    # Its vocabulary is larger than the tokenizer's, as in many published checkpoints.
    config = GPT2Config(vocab_size=n_ids + 23, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2)
    return GPT2LMHeadModel(config)


def build_llama(n_ids):
    # With an output layer of its own, and fewer heads for keys and values.
    config = LlamaConfig(vocab_size=n_ids, hidden_size=16, num_key_value_heads=1, **SIZES)
    return LlamaForCausalLM(config)


@pytest.fixture(params=[build_gpt2, build_llama], ids=["gpt2", "llama"])
def run(request, tmp_path):
    """A run of a checkpoint that was made elsewhere, in `start`, with its own tokenizer."""
    own = build_tiny_run(tmp_path / "data", 512)
    torch.manual_seed(0)
    request.param(280).save_pretrained(tmp_path / "made")
    return dataclasses.replace(own, start=str(tmp_path / "made"))


def build_proxy(run, **fields):
    sizes = {"sequence": LENGTH, "batch": 8, "learning_rate": 1e-2, **fields}
    return HuggingFaceProxy(model=run.start, **sizes)


def test_a_checkpoint_that_was_made_elsewhere_satisfies_the_contract(run, tmp_path):
    check_proxy(build_proxy(run), tmp_path / "contract", n_tokens=512)


def test_a_trained_model_opens_with_its_tokenizer_and_has_the_same_loss(run):
    text = "one two three four five"
    short = Path(run.save).with_name("short.jsonl")
    short.write_text(json.dumps({"text": text}))
    target = Target(name="short", kind="text", path=str(short))
    run = dataclasses.replace(run, targets=(*run.targets, target))
    metrics = build_proxy(run).train(run, "cpu")
    model = AutoModelForCausalLM.from_pretrained(run.save, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(run.save, local_files_only=True)
    assert tokenizer(text)["input_ids"] == run.tokenizer.open().encode(text).ids
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token == run.tokenizer.end_of_text
    assert measure(model, run.targets, run.tokenizer, LENGTH).items() <= metrics.items()
    # The loss as transformers itself computes it, from the text alone.
    item = tokenizer(tokenizer.eos_token + text, return_tensors="pt")
    with torch.inference_mode():
        loss = float(model(**item, labels=item["input_ids"]).loss)
    bits = loss * (item["input_ids"].shape[1] - 1) / math.log(2.0)
    assert metrics["short.bpb"] == pytest.approx(bits / len(text), rel=1e-5)


def test_settings_of_text_generation_do_not_prevent_saving_the_trained_model(run):
    """transformers opens this file, and refuses to save it."""
    settings = Path(run.start) / "generation_config.json"
    settings.write_text(json.dumps({"do_sample": False, "temperature": 0.6, "top_p": 0.9}))
    build_proxy(run).train(run, "cpu")
    model = AutoModelForCausalLM.from_pretrained(run.save, local_files_only=True)
    assert model.generation_config.temperature != 0.6


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "eager"},
        {"_attn_implementation": "eager"},
        {"_attn_implementation": "flash_attention_2"},
        {"output_attentions": True},
    ],
    ids=str,
)
def test_the_attention_that_a_checkpoint_names_does_not_change_the_metrics(run, settings):
    expected = build_proxy(run).train(run, "cpu")
    path = Path(run.start) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    assert build_proxy(run).train(run, "cpu") == expected


def test_a_checkpoint_that_needs_a_missing_package_is_a_clear_error(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ImportError("this model requires the package absent")

    build_llama(280).save_pretrained(tmp_path / "made")
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(ConfigError, match=r"made cannot be opened .*requires the package absent"):
        open_model(tmp_path / "made", 280)


def test_the_tokenizer_of_a_saved_model_does_not_depend_on_its_architecture(run, tmp_path):
    """transformers has a pre-tokenizer of its own for each of the two architectures."""
    path = tmp_path / "words.json"
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<eos>": 0, "a": 1, "-": 2, "b": 3}, unk_token="<eos>"))
    words.pre_tokenizer = pre_tokenizers.Punctuation()
    words.save(str(path))
    np.save(run.shards["letters"], np.arange(300, dtype=np.uint16) % 4)
    own = dataclasses.replace(
        run, tokenizer=TokenizerFile(str(path), "<eos>"), weights={"letters": 1.0}, targets=()
    )
    build_proxy(run).train(own, "cpu")
    tokenizer = AutoTokenizer.from_pretrained(run.save, local_files_only=True)
    assert tokenizer("a-b")["input_ids"] == [1, 2, 3]


def test_a_base_checkpoint_that_was_trained_here_opens_too(tmp_path):
    run = build_tiny_run(tmp_path, 512)
    proxy = LlamaProxy(hidden=16, layers=1, heads=2, sequence=16, batch=8, learning_rate=1e-2)
    metrics = proxy.train(run, "cpu")
    model = AutoModelForCausalLM.from_pretrained(run.save, local_files_only=True)
    assert measure(model, run.targets, run.tokenizer, LENGTH).items() <= metrics.items()
    continued = dataclasses.replace(run, start=run.save, save=None, seed=1)
    other = HuggingFaceProxy(model=run.save, sequence=16, batch=8, learning_rate=1e-2)
    assert other.train(continued, "cpu") == proxy.train(continued, "cpu")


def test_a_sequence_that_is_longer_than_the_model_allows_is_a_clear_error(tmp_path):
    build_gpt2(280).save_pretrained(tmp_path / "made")
    run = dataclasses.replace(build_tiny_run(tmp_path, 512), start=str(tmp_path / "made"))
    first = dataclasses.replace(run, start=None)
    with pytest.raises(ConfigError, match=r"sequence is 32, but model .* at most 16 tokens"):
        build_proxy(run, sequence=32).train(first, "cpu")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (BertModel, r"made \(bert\) is not a causal language model: its files lack 6 weights"),
        (BertLMHeadModel, r"made \(bert\) is not a causal .*: its predictions depend on later"),
    ],
)
def test_a_model_that_is_not_causal_is_a_clear_error(tmp_path, model, message):
    config = BertConfig(vocab_size=280, hidden_size=16, is_decoder=False, **SIZES)
    model(config).save_pretrained(tmp_path / "made")
    with pytest.raises(ConfigError, match=message) as error:
        open_model(tmp_path / "made", 280)
    assert "\n" not in str(error.value)


def test_a_model_of_images_and_text_is_a_clear_error(tmp_path):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    heads = {"num_key_value_heads": 1, "head_dim": 8}
    text = SIZES | heads | {"vocab_size": 280, "hidden_size": 16}
    vision = SIZES | {"hidden_size": 16, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "made")
    with pytest.raises(ConfigError, match=r"made \(gemma3\) is not a model of text only") as error:
        open_model(tmp_path / "made", 280)
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_its_tokenizer_is_a_clear_error(tmp_path):
    build_llama(280).save_pretrained(tmp_path)
    for read in (read_tokenizer, lambda path: name_recipe(path, 280, 10)):
        with pytest.raises(ConfigError, match=r"count\.path .* has no tokenizer\.json; write it"):
            read(str(tmp_path))
