"""DoReMi: the rule of its weights, a proxy that learns a planted world, and its two runs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_setup import make_setup

from climb.config import load
from climb.errors import ConfigError, TrialError
from climb.proxy.data import plan_stream
from climb.proxy.doremi import CURVE_POINTS, DoremiProxy
from climb.proxy.gradients import GradientModel
from climb.proxy.group_dro import (
    DomainWeights,
    average_by_domain,
    read_weights,
    update_weights,
    weigh_sequences,
)
from climb.proxy.language_model import compute_next_token_losses
from climb.proxy.llama import LlamaProxy
from climb.proxy.training import run_training
from climb.spark.training.doremi import plan_doremi
from climb.testing.contracts import build_tiny_run
from climb.testing.proxies import PlantedProxy

PROXY = LlamaProxy(hidden=32, layers=1, heads=2, sequence=32, batch=12, learning_rate=1e-2)
NATURAL = {"easy": 0.5, "hard": 0.25, "noise": 0.25}
N_IDS = 256
STEPS = 150
STEP_TOKENS = PROXY.batch * PROXY.sequence


# The rule


def test_the_excess_of_a_domain_is_the_mean_over_its_sequences_and_stays_if_it_is_absent():
    excess_K = average_by_domain(
        np.array([0.4, 0.1, 0.2]), np.array([2, 0, 2]), np.array([9.0, 0.7, 9.0])
    )
    np.testing.assert_allclose(excess_K, [0.1, 0.7, 0.3], rtol=1e-12)


def test_a_step_multiplies_by_the_exponential_normalizes_and_smooths():
    weights_K = update_weights(np.array([0.25, 0.75]), np.array([np.log(3.0), 0.0]), 1.0, 0.1)
    # 0.25 x 3 and 0.75 x 1 are equal shares, and smoothing keeps them.
    np.testing.assert_allclose(weights_K, [0.5, 0.5], rtol=1e-12)
    weights_K = update_weights(np.array([0.5, 0.5]), np.array([np.log(3.0), 0.0]), 2.0, 0.1)
    np.testing.assert_allclose(weights_K, [0.9 * 0.9 + 0.05, 0.9 * 0.1 + 0.05], rtol=1e-12)


def test_a_huge_excess_neither_overflows_nor_takes_the_last_weight_of_a_domain():
    weights = DomainWeights(4, step_size=1.0, smoothing=1e-3)
    for _ in range(100):
        weights.update(np.array([1e4, 0.0, 0.0, 0.0]), np.arange(4))
    assert weights.weights_K.sum() == pytest.approx(1.0, abs=1e-12)
    assert weights.weights_K.min() == pytest.approx(1e-3 / 4, rel=1e-9)
    for _ in range(20):
        weights.update(np.array([0.0, 1.0, 0.0, 0.0]), np.arange(4))
    assert weights.weights_K.argmax() == 1  # it grew again


def test_the_mixture_is_the_mean_of_the_weights_of_all_steps_without_the_initial_ones():
    weights, random = DomainWeights(3, step_size=1.0, smoothing=1e-3), np.random.default_rng(0)
    np.testing.assert_allclose(weights.averaged_K, 1.0 / 3.0)
    steps = [weights.update(random.random(3), np.arange(3)) for _ in range(5)]
    np.testing.assert_allclose(weights.averaged_K, np.mean(steps, axis=0), rtol=1e-12)


def test_weights_that_are_saved_and_loaded_go_on_equally():
    random = np.random.default_rng(0)
    one = DomainWeights(3, step_size=1.0, smoothing=1e-3)
    one.update(random.random(2), np.array([0, 2]))
    other = DomainWeights(3, step_size=1.0, smoothing=1e-3)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    excess_B = random.random(2)
    np.testing.assert_array_equal(
        one.update(excess_B, np.array([0, 0])), other.update(excess_B, np.array([0, 0]))
    )
    np.testing.assert_array_equal(one.averaged_K, other.averaged_K)


def test_factors_of_sequences_have_mean_1_and_the_ratios_of_their_domains():
    factor_B = weigh_sequences(np.array([0.1, 0.6, 0.3]), np.array([0, 1, 1, 2]))
    assert factor_B.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(factor_B / factor_B[0], [1.0, 6.0, 6.0, 3.0], rtol=1e-12)


# The gradients


def make_model_and_batch():
    torch.manual_seed(0)
    model = PROXY.create_model(N_IDS)
    return model, torch.randint(N_IDS, (6, PROXY.sequence))


@pytest.mark.parametrize("micro_batch", [6, 4])
def test_the_gradient_is_that_of_the_sum_of_weight_times_mean_loss_over_domains(micro_batch):
    model, ids_BL = make_model_and_batch()
    weights_K, domain_B = np.array([0.1, 0.6, 0.3]), np.array([0, 1, 2, 2, 1, 0])
    nats_B = compute_next_token_losses(model, ids_BL).mean(dim=1)
    expected = sum(weights_K[k] * nats_B[domain_B == k].mean() for k in range(3))
    expected.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]

    factor_B = torch.from_numpy(weigh_sequences(weights_K, domain_B)).float()
    computed = GradientModel(model, PROXY.resolve_numerics(model))
    computed.clear()
    n_predicted = ids_BL.shape[0] * (ids_BL.shape[1] - 1)
    loss = sum(
        computed.accumulate(ids, n_predicted, factors)
        for ids, factors in zip(ids_BL.split(micro_batch), factor_B.split(micro_batch), strict=True)
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


# A planted world


def write_world(folder, n_tokens=20_000):
    """Shards of a domain that is learned at once, one that is learned slowly, and noise.

    They have different token ids, as sources of text have different words.
    """
    random = np.random.default_rng(0)
    hard = np.arange(8, 136)
    successor = dict(zip(hard.tolist(), random.permutation(hard).tolist(), strict=True))
    chain = [8]
    for _ in range(n_tokens - 1):
        follows = random.random() < 0.9
        chain.append(successor[chain[-1]] if follows else int(random.choice(hard)))
    ids = {
        "easy": np.tile(np.arange(8), n_tokens // 8),
        "hard": np.array(chain),
        "noise": random.integers(136, N_IDS, size=n_tokens),
    }
    for domain, ids_N in ids.items():
        np.save(folder / f"{domain}.npy", ids_N.astype(np.uint16))
    return {domain: str(folder / f"{domain}.npy") for domain in ids}


@dataclasses.dataclass(frozen=True)
class World:
    folder: Path
    proxy: DoremiProxy
    run: object

    def train(self, name, before_step=None, proxy=None, **changes):
        """Train the proxy with a curve and checkpoints of its own; return the curve's bytes."""
        proxy = dataclasses.replace(proxy or self.proxy, curve=str(self.folder / f"{name}.json"))
        run = dataclasses.replace(self.run, checkpoints=str(self.folder / name), **changes)
        run_training(proxy.recipe, run, "cpu", before_step, proxy.make_loop)
        return Path(proxy.curve).read_bytes()

    def read(self, name):
        return read_weights(self.folder / f"{name}.json")

    def start_from_checkpoint(self, n_steps):
        """The same world with a base checkpoint, and a reference model that continues it."""
        folder = self.folder / "continued"
        base = dataclasses.replace(
            self.run, weights=NATURAL, n_tokens=n_steps * STEP_TOKENS, save=str(folder / "base")
        )
        run = dataclasses.replace(
            base, start=base.save, n_tokens=self.run.n_tokens, save=str(folder / "reference")
        )
        for part in (base, run):
            PROXY.train(part, "cpu")
        proxy = dataclasses.replace(self.proxy, reference=run.save)
        return World(folder, proxy, dataclasses.replace(self.run, start=base.save))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The world with its reference model, which had as many tokens as the proxy gets."""
    folder = tmp_path_factory.mktemp("world")
    run = dataclasses.replace(
        build_tiny_run(folder / "tiny", 64),
        weights=NATURAL,
        shards=write_world(folder),
        n_tokens=STEPS * STEP_TOKENS,
        save=str(folder / "reference"),
        checkpoints=str(folder / "reference-checkpoints"),
        checkpoint_steps=1_000,
        targets=(),
    )
    PROXY.train(run, "cpu")
    proxy = DoremiProxy(training=PROXY, reference=run.save, curve="", step_size=1.0, smoothing=1e-3)
    uniform = dict.fromkeys(NATURAL, 1.0 / 3.0)
    run = dataclasses.replace(run, weights=uniform, save=None, checkpoint_steps=3)
    return World(folder, proxy, run)


@pytest.mark.parametrize("base_steps", [0, 30], ids=["from random weights", "from a checkpoint"])
def test_the_hard_domain_gains_weight_and_the_noise_does_not(world, base_steps):
    """Nothing can be learned of the noise: its loss is the highest, but not its excess loss."""
    started = world if base_steps == 0 else world.start_from_checkpoint(base_steps)
    started.train("whole", checkpoint_steps=1_000)
    curve = started.read("whole")
    mixture = curve[-1].averaged
    # With three seeds, the hard domain has 0.88 to 0.96 and the noise 0.003 to 0.06.
    assert mixture["hard"] > 0.75
    assert mixture["noise"] < 0.15
    assert sum(mixture.values()) == pytest.approx(1.0, abs=1e-12)
    assert curve[-1].step == STEPS
    assert len(curve) == CURVE_POINTS


def test_the_first_step_follows_from_the_losses_of_base_checkpoint_and_reference(world):
    """Excess losses are clipped per token, and the new weights weigh the loss of the same step."""
    base = dataclasses.replace(world.run, n_tokens=STEP_TOKENS, save=str(world.folder / "base"))
    PROXY.train(base, "cpu")
    n_tokens, losses = 8 * STEP_TOKENS, []
    world.train(
        "first",
        lambda loop: losses.append(list(loop.losses)),
        None,
        start=base.save,
        n_tokens=n_tokens,
    )
    stream = plan_stream(
        world.run.weights, world.run.shards, 8 * PROXY.batch, PROXY.sequence, 0, "continued"
    )
    domain_B = stream.domain_S[: PROXY.batch]
    ids_BL = torch.from_numpy(stream.read_batch(0, PROXY.batch))
    with torch.no_grad():
        nats_BT, reference_BT = (
            compute_next_token_losses(PROXY.open_start(folder, N_IDS), ids_BL).double().numpy()
            for folder in (base.save, world.proxy.reference)
        )
    clipped_B = np.maximum(nats_BT - reference_BT, 0.0).mean(axis=1)
    excess_K = np.array([clipped_B[domain_B == k].mean() for k in range(3)])
    weights_K = update_weights(np.full(3, 1.0 / 3.0), excess_K, 1.0, 1e-3)
    first = world.read("first")[0]
    np.testing.assert_allclose(list(first.excess.values()), excess_K, rtol=1e-4)
    np.testing.assert_allclose(list(first.weights.values()), weights_K, rtol=1e-4)
    weighted = weigh_sequences(weights_K, domain_B) @ nats_BT.mean(axis=1) / PROXY.batch
    assert losses[1][0] == pytest.approx(weighted, rel=1e-4)


class KilledError(Exception):
    """Simulates the death of the process."""


def kill_before(step):
    def kill(loop):
        if loop.n_steps_done + 1 == step:
            raise KilledError

    return kill


@pytest.mark.parametrize("step", [1, 2, 5, 8])
def test_a_resumed_proxy_writes_the_same_bytes_as_an_uninterrupted_one(world, step):
    short = {"n_tokens": 8 * STEP_TOKENS}
    expected = world.train("uninterrupted", **short)
    with pytest.raises(KilledError):
        world.train("killed", kill_before(step), **short)
    assert not (world.folder / "killed.json").exists()
    steps = []
    resumed = world.train("killed", lambda loop: steps.append(loop.n_steps_done), **short)
    assert steps == list(range((step - 1) // 3 * 3, 8))  # from the last checkpoint on
    assert resumed == expected
    (world.folder / "killed.json").unlink()


@pytest.mark.parametrize("changes", [{"step_size": 2.0}, {"smoothing": 0.1}, {"reference": None}])
def test_checkpoints_of_other_settings_or_of_another_reference_are_not_continued(world, changes):
    if "reference" in changes:
        other = dataclasses.replace(
            world.run, n_tokens=STEP_TOKENS, save=str(world.folder / "other")
        )
        PROXY.train(other, "cpu")
        changes = {"reference": other.save}
    name, short = f"of-{next(iter(changes))}", {"n_tokens": 8 * STEP_TOKENS}
    with pytest.raises(KilledError):
        world.train(name, kill_before(8), **short)
    steps = []
    changed = dataclasses.replace(world.proxy, **changes)
    curve = world.train(name, lambda loop: steps.append(loop.n_steps_done), changed, **short)
    assert steps[0] == 0
    assert curve != world.train("uninterrupted", **short)


def test_a_loss_that_is_not_finite_fails_like_that_of_a_trial(world):
    def spoil(loop):
        with torch.no_grad():
            next(loop._model.parameters()).fill_(float("nan"))

    with pytest.raises(TrialError, match=r"excess loss .* is NaN or infinite at step 1 of 8"):
        world.train("spoiled", spoil, n_tokens=8 * STEP_TOKENS)


# The two runs


def plan(folder, n_trials=3, setup=None, **settings):
    cfg = load()
    cfg = cfg.model_copy(update={"doremi": cfg.doremi.model_copy(update=settings)})
    return plan_doremi(cfg, setup or make_setup(folder, PROXY, NATURAL), n_trials)


def test_both_runs_together_have_exactly_the_tokens_of_the_budget(tmp_path):
    planned = plan(tmp_path, n_trials=3)
    assert planned.reference.n_tokens + planned.run.n_tokens == planned.n_tokens == 3 * 1_001
    assert planned.run.n_tokens - planned.reference.n_tokens in (0, 1)


def test_the_reference_reads_the_natural_mixture_and_the_proxy_all_domains_equally(tmp_path):
    planned = plan(tmp_path)
    assert planned.reference.weights == NATURAL
    assert set(planned.run.weights.values()) == {1.0 / 3.0}
    assert planned.run.start == planned.reference.start  # the base checkpoint of the trials
    assert planned.reference.save == planned.proxy.reference


def test_everything_that_changes_the_weights_changes_the_name(tmp_path):
    setup = make_setup(tmp_path, PROXY, NATURAL)
    plans = [
        plan(tmp_path),
        plan(tmp_path, step_size=0.5),
        plan(tmp_path, smoothing=1e-2),
        plan(tmp_path, seed=1),
        plan(tmp_path, n_trials=4),
        plan(tmp_path, setup=dataclasses.replace(setup, corpus_digest="other")),
        plan(tmp_path, setup=dataclasses.replace(setup, base_tokens=2_000)),
    ]
    assert len({p.name for p in plans}) == len({p.proxy.curve for p in plans}) == len(plans)
    assert len({p.run.checkpoints for p in plans}) == len(plans)
    # The reference does not depend on the settings of the weights, so it is trained once.
    assert plans[0].reference == plans[1].reference == plans[2].reference
    assert len({p.reference.save for p in plans[2:]}) == len(plans[2:])


def test_a_plug_in_with_a_training_loop_of_its_own_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"proxy\.model is a PlantedProxy, whose training DoReMi"):
        plan(tmp_path, setup=make_setup(tmp_path, PlantedProxy(), NATURAL))
