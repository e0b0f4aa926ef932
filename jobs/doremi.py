"""Compute the mixture of DoReMi with a reference model and a proxy.

domains, shards, tokenizers, base checkpoint -> doremi

Rerun it at any time: a recorded mixture stays, and an interrupted training continues.
"""

from climb.cli.start import main
from climb.config import Config
from climb.spark.delta.store import Store
from climb.spark.training.doremi import train_doremi
from climb.spark.training.setup import build_trial_setup


def run(store: Store, cfg: Config) -> str:
    """Train both models, unless their result is recorded, and print the weights."""
    setup = build_trial_setup(store, cfg)
    result = train_doremi(store, cfg, setup)
    state = "trained" if result.was_trained else "already recorded"
    lines = [
        f"reference and proxy {state}: {result.n_tokens:,} tokens, as many as {result.n_trials:g} "
        "trials",
        f"{'domain':<32} {'natural':>8} {'DoReMi':>8}",
    ]
    for domain, weight in sorted(result.weights.items()):
        lines.append(f"{domain:<32} {setup.natural[domain]:8.4f} {weight:8.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(run)
