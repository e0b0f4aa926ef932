"""A setup of trials whose shards do not exist, for tests that train nothing with it."""

from climb.spark.training.setup import TrainingSetup
from climb.tokenizer import TokenizerFile


def make_setup(folder, proxy, domains):
    """A setup of 1,001 tokens a trial, with these natural shares."""
    return TrainingSetup(
        proxy=proxy,
        natural=domains,
        shards={},
        base_shards={},
        corpus_digest="corpus",
        base_digest="base",
        tokenizer=TokenizerFile(""),
        base_tokens=1_000,
        n_tokens=1_001,
        checkpoint_steps=10,
        targets=(),
        files=folder,
    )
