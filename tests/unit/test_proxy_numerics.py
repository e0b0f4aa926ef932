"""The arithmetic of a recipe: what `auto` means, and which settings identify a recipe."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from climb.config import recipe_of
from climb.errors import ConfigError, ResourceError
from climb.proxy import language_model
from climb.proxy.language_model import convert_errors, make_reproducible
from climb.proxy.llama import LlamaProxy
from climb.proxy.numerics import Numerics
from climb.proxy.recipe import Recipe
from climb.proxy.update import Updater

TINY = LlamaProxy(hidden=16, layers=1, heads=2, sequence=16, batch=8, learning_rate=1e-2)


def build_model(device, n_parameters, architecture="llama", dropout=0.0):
    """Return what the choice of the arithmetic reads of a model, without a GPU."""
    return SimpleNamespace(
        device=torch.device(device),
        config=SimpleNamespace(model_type=architecture, attention_dropout=dropout),
        parameters=lambda: iter([torch.empty(n_parameters, device="meta")]),
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (build_model("cpu", 10**6), ("float32", "eager")),
        (build_model("cuda", 10**6), ("bfloat16_weights", "step")),
        (build_model("cuda", 10**11), ("bfloat16_weights", "layers")),
        (build_model("cuda", 10**6, "gpt2"), ("bfloat16_weights", "layers")),
        (build_model("cuda", 10**6, dropout=0.1), ("bfloat16_weights", "layers")),
    ],
    ids=["cpu", "small", "large", "another architecture", "random numbers"],
)
def test_auto_depends_on_the_device_and_the_model(model, expected):
    numerics = TINY.resolve_numerics(model)
    assert (numerics.precision, numerics.compile) == expected


@pytest.mark.parametrize("compile", ["eager", "layers", "step"])
def test_a_configured_arithmetic_is_used_on_a_gpu(compile):
    recipe = dataclasses.replace(
        TINY, compile=compile, precision="float32", deterministic=False, checkpoint_activations=True
    )
    found = recipe.resolve_numerics(build_model("cuda", 10**12))
    assert found == Numerics("float32", compile, deterministic=False, checkpoint_activations=True)


@pytest.mark.parametrize(
    "model", [build_model("cpu", 10**6), build_model("cuda", 10**6, "gpt2")], ids=["cpu", "gpt2"]
)
def test_a_step_that_cannot_be_captured_is_only_compiled(model):
    assert dataclasses.replace(TINY, compile="step").resolve_numerics(model).compile == "layers"


def test_a_recipe_without_settings_of_the_arithmetic_keeps_its_identifier():
    # The identifier before these settings existed: recorded trials and checkpoints stay valid.
    assert recipe_of(TINY) == "LlamaProxy-3e43457af6dc"


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "bfloat16"},
        {"compile": "layers"},
        {"deterministic": False},
        {"micro_batch": 4},
        {"checkpoint_activations": True},
    ],
    ids=str,
)
def test_a_recipe_with_another_arithmetic_has_another_identifier(change):
    assert recipe_of(dataclasses.replace(TINY, **change)) != recipe_of(TINY)


def test_a_micro_batch_of_0_is_an_error():
    with pytest.raises(ConfigError, match="micro_batch is 0; it must be finite and above 0"):
        dataclasses.replace(TINY, micro_batch=0)


@pytest.mark.parametrize(
    ("cuda", "deterministic", "expected"),
    [(True, True, (True, False)), (True, False, (False, False)), (False, False, (True, True))],
)
def test_a_deterministic_recipe_forbids_other_kernels_on_a_gpu(cuda, deterministic, expected):
    """A warning is not enough: attention's backward pass then only warns."""
    with language_model._set_determinism(cuda, deterministic):
        enabled = torch.are_deterministic_algorithms_enabled()
        assert (enabled, torch.is_deterministic_algorithms_warn_only_enabled()) == expected
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("precision", "is_half"),
    [("auto", False), ("float32", False), ("bfloat16", True), ("bfloat16_weights", True)],
)
def test_matrix_products_are_rounded_as_the_precision_says(precision, is_half):
    with make_reproducible("cpu", 0, precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert (product.dtype == torch.bfloat16) == is_half


def fail_to_compile():
    from torch._inductor.exc import InductorError

    raise InductorError(RuntimeError("Failed to find C compiler"), None)


def miss_a_kernel():
    raise RuntimeError("put_ does not have a deterministic implementation")


def exhaust_memory():
    raise RuntimeError("CUDA error: out of memory")


@pytest.mark.parametrize(
    ("fail", "error", "message"),
    [
        (fail_to_compile, ConfigError, "torch.compile failed: .*C compiler.*`compile: eager`"),
        (miss_a_kernel, ConfigError, "put_ does not .*set `deterministic: false`"),
        (exhaust_memory, ResourceError, "out of memory"),
    ],
)
def test_errors_of_torch_say_which_setting_helps(fail, error, message):
    with (
        pytest.raises(error, match=f"^LlamaProxy on cuda:0: {message}"),
        convert_errors("LlamaProxy on cuda:0"),
    ):
        fail()


def test_other_errors_of_torch_are_not_converted():
    with pytest.raises(RuntimeError, match="shape"), convert_errors("LlamaProxy on cuda:0"):
        raise RuntimeError("shape '[3]' is invalid")


def find_parameters_with_gradients(precision, micro_batch):
    """Return, for each of eight steps, the layers of a model with random depth that it changes."""
    from transformers import OPTConfig, OPTForCausalLM

    sizes = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 32, "vocab_size": 64}
    depth = {"num_hidden_layers": 2, "num_attention_heads": 2, "layerdrop": 0.5, "dropout": 0.0}
    model = OPTForCausalLM(OPTConfig(max_position_embeddings=16, **sizes, **depth)).train()
    recipe = Recipe(
        sequence=16, batch=4, learning_rate=1e-3, precision=precision, micro_batch=micro_batch
    )
    updater, found = Updater(recipe, model, may_halve=False), []
    for step in range(8):
        torch.manual_seed(step)
        updater.take(torch.arange(64).view(4, 16), rate=0.0)
        found.append([layer.fc1.weight.grad is not None for layer in model.model.decoder.layers])
    return found


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_a_parameter_without_a_gradient_in_a_batch_keeps_none_of_an_earlier_batch(micro_batch):
    found = find_parameters_with_gradients("bfloat16_weights", micro_batch)
    assert found == find_parameters_with_gradients("float32", micro_batch)
    assert [True, False] in found
    assert [False, True] in found
