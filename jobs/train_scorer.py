"""Train a quality scorer from labelled texts. Not part of the pipeline: users supply the labels.

documents -> a model folder

Rerun it at any time: a model with the same labels and settings is not trained again.
"""

from pathlib import Path

from climb.cli.start import main
from climb.config import Config, build
from climb.quality.training import ScorerTrainer, train_scorer
from climb.spark.corpus.labels import read_labels
from climb.spark.delta.store import Store


def run(store: Store, cfg: Config) -> str:
    """Train on the labels of score.training, and print the folder that scorers read."""
    training = cfg.score.training
    trainer = build(training.trainer, ScorerTrainer)
    texts, labels = read_labels(store, training)
    folder = Path(training.output) if training.output is not None else store.locate_file("scorer")
    trained = train_scorer(trainer, texts, labels, folder)
    quality = "too few labels to measure the quality"
    if trained.error is not None:
        quality = (
            f"on {trained.n_held_out:,} held-out labels: mean error {trained.error:.2f}, "
            f"rank correlation {trained.rank_correlation:.2f}"
        )
    state = "up to date" if trained.repeated else "trained"
    return f"{state}, {trained.n_labels:,} labels ({quality}): {folder}"


if __name__ == "__main__":
    main(run)
