"""Train a quality scorer from labelled texts. Not part of the pipeline: its labels come from you.

documents -> a model folder

Rerun it at any time: the same labels and settings train nothing again.
"""

from pathlib import Path

from climb.config import Config, build
from climb.quality.training import ScorerTrainer, train_scorer
from climb.run import main
from climb.spark.labels import read_labels
from climb.spark.store import Store


def run(store: Store, cfg: Config) -> str:
    """Train on the labels of score.training, and name the folder that scorers read."""
    wanted = cfg.score.training
    trainer = build(wanted.trainer, ScorerTrainer)
    texts, labels = read_labels(store, wanted)
    folder = Path(wanted.output) if wanted.output is not None else store.files("scorer")
    trained = train_scorer(trainer, texts, labels, folder)
    figures = "too few to measure it"
    if trained.error is not None:
        figures = (
            f"on {trained.n_held_out:,} held out: mean error {trained.error:.2f}, "
            f"rank correlation {trained.rank_correlation:.2f}"
        )
    verb = "known" if trained.repeated else "trained"
    return f"{verb} on {trained.n_labels:,} labels ({figures}): {folder}"


if __name__ == "__main__":
    main(run)
