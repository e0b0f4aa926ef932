"""Without matched repetition, proxies over-rate a tiny domain: real trainings on a planted text.

A text is a chain of words; each word has three successors. The tiny domain has clean text, so
little that a run repeats it often and learns it by heart. In the large domain, a tenth of the words
is random. All runs continue a base checkpoint that has read other text of the large domain. Models
are measured on other clean text.
"""

import dataclasses
import json

import numpy as np
import pytest

from climb.config import load
from climb.proxy import ProxyRun, Target
from climb.proxy.llama import LlamaProxy
from climb.spark.training.pack import compute_trial_share, plan_shards
from climb.tokenizer import TokenizerFile, train_json

BASE_TOKENS, TRIAL_TOKENS, TARGET_TOKENS = 65_536, 8_192, 65_536
N_WORDS, SUCCESSORS, NOISE, TINY = 400, 3, 0.1, 300
PROXY = LlamaProxy(hidden=128, layers=1, heads=2, sequence=32, batch=4, learning_rate=5e-3)
LOW, HIGH = 0.2, 0.9
"""Weights of the tiny domain."""


def configure(match=True):
    return load(
        settings=[
            f"proxy.trial_tokens={TRIAL_TOKENS}",
            f"proxy.match_repetition={json.dumps(match)}",
            f"train.tokens={TARGET_TOKENS}",
            f"search.target_tokens={TARGET_TOKENS}",
        ]
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Token ids of both domains, the tokenizer, and the target."""
    folder = tmp_path_factory.mktemp("world")
    random = np.random.default_rng(1)
    words = [f"w{i}" for i in range(N_WORDS)]
    successors = random.integers(0, N_WORDS, (N_WORDS, SUCCESSORS))

    def write(n, noise):
        chain = [0]
        for _ in range(n):
            is_random = random.random() < noise
            choice = random.integers(N_WORDS if is_random else SUCCESSORS)
            chain.append(int(choice if is_random else successors[chain[-1], choice]))
        return " ".join(words[i] for i in chain[1:])

    (folder / "tokenizer.json").write_text(train_json([" ".join(words)] * 10, 257 + N_WORDS + 200))
    tokenizer = TokenizerFile(str(folder / "tokenizer.json"))
    texts = {"tiny": write(TINY, 0.0), "large": write(60_000, NOISE)}
    (folder / "target.jsonl").write_text(json.dumps({"text": write(600, 0.0)}))
    target = Target(name="clean", kind="text", path=str(folder / "target.jsonl"))
    ids = {name: np.array(tokenizer.open().encode(text).ids) for name, text in texts.items()}
    np.save(folder / "base.npy", ids["large"][-BASE_TOKENS:].astype(np.uint16))
    base = ProxyRun(
        weights={"large": 1.0},
        shards={"large": str(folder / "base.npy")},
        tokenizer=tokenizer,
        n_tokens=BASE_TOKENS,
        seed=0,
        start=None,
        save=str(folder / "base"),
        checkpoints=str(folder / "checkpoints"),
        checkpoint_steps=1_000_000,
        targets=(target,),
    )
    PROXY.train(base, "cpu")
    return folder, base, ids


def measure_loss_of_more(world, kind, n_tokens, match=True):
    """Bits per byte at the high weight of the tiny domain, minus those at the low weight."""
    folder, base, ids = world
    domains = [{"domain": name, "n_tokens": len(own)} for name, own in ids.items()]
    shards = {}
    for shard in plan_shards(domains, configure(match)):
        if shard.kind == kind:
            shards[shard.domain] = str(folder / f"{shard.domain}.npy")
            np.save(shards[shard.domain], ids[shard.domain][: shard.n_tokens].astype(np.uint16))
    run = dataclasses.replace(base, shards=shards, n_tokens=n_tokens, start=base.save, save=None)
    bpb = {
        weight: PROXY.train(
            dataclasses.replace(run, weights={"tiny": weight, "large": 1.0 - weight}), "cpu"
        )["clean.bpb"]
        for weight in (LOW, HIGH)
    }
    return bpb[HIGH] - bpb[LOW]


@pytest.mark.slow
def test_only_proxies_with_matched_repetition_see_that_a_tiny_domain_is_soon_used_up(world):
    target = measure_loss_of_more(world, "target", TARGET_TOKENS)
    matched = measure_loss_of_more(world, "trial", TRIAL_TOKENS)
    unmatched = measure_loss_of_more(world, "trial", TRIAL_TOKENS, match=False)
    # Found: 0.55, 0.57 and 0.16 bits per byte; with two other seeds of the text, unmatched proxies
    # saw 0.27 of 0.65 and 0.28 of 0.76.
    assert min(target, matched) > 0.3
    assert unmatched < 0.5 * min(target, matched)


def test_a_trial_without_matched_repetition_may_read_all_that_it_can_use():
    domains = [{"domain": "tiny", "n_tokens": 1_000}, {"domain": "large", "n_tokens": 10_000_000}]

    def plan(match):
        shards = plan_shards(domains, configure(match))
        return {(shard.kind, shard.domain): shard.n_tokens for shard in shards}

    matched, unmatched = plan(True), plan(False)
    assert (matched["trial", "tiny"], matched["trial", "large"]) == (125, 1_250_000)
    assert (unmatched["trial", "tiny"], unmatched["trial", "large"]) == (1_000, TRIAL_TOKENS)
    for key in matched.keys() - {("trial", "tiny"), ("trial", "large")}:
        assert matched[key] == unmatched[key]
    assert compute_trial_share(configure(True)) == 0.125
    assert compute_trial_share(configure(False)) == 1.0
