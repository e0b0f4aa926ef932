"""Scoring with several scorers at once, and training a scorer from a labelled file."""

import json

import pytest
from climb.jobs import score, train_scorer

from climb import tables
from climb.config import load
from climb.errors import ConfigError, InputError
from climb.quality.rules import RuleScorer

GOOD = "The cell divides when the energy of its membrane is near the enzyme, and that is all. " * 8
BAD = "BUY cheap pills NOW >>> {click} {click} {click} "


def add_documents(store, texts):
    rows = [
        dict.fromkeys(tables.DOCUMENTS.column_names) | {"doc_id": f"d{i}", "text": text}
        for i, text in enumerate(texts)
    ]
    store.append(store.frame(rows, tables.DOCUMENTS), tables.DOCUMENTS)


def labels_file(folder, rows, name="labels.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def training(path, folder, *settings):
    return load(
        settings=[
            f"score.training.labels={path}",
            f"score.training.output={folder / 'model'}",
            "score.training.trainer.features=4096",
            *settings,
        ]
    )


def test_each_scorer_has_its_rows_and_only_what_is_missing_is_scored(store):
    add_documents(store, [GOOD, BAD])
    line = score.run(store, load())
    assert line.startswith("rules, gopher, c4, fineweb: 2 scored, 0 known (RuleScorer-")
    version = store.version(tables.SCORES)
    assert "0 scored, 2 known" in score.run(store, load())
    assert store.version(tables.SCORES) == version
    good, bad = store.rows(tables.SCORES)
    expected = RuleScorer().load("cpu")([GOOD, BAD])
    assert good["scores"] == {name: float(values[0]) for name, values in expected.items()}
    assert bad["scores"] == {name: float(values[1]) for name, values in expected.items()}
    assert bad["scores"]["rules"] < good["scores"]["rules"]


def test_a_scorer_trained_from_a_file_scores_beside_the_rules(store, tmp_path):
    add_documents(store, [GOOD, BAD])
    rows = [
        {"text": f"{(BAD if i % 2 else GOOD)} {i}", "label": 5 - 5 * (i % 2)} for i in range(60)
    ]
    cfg = training(labels_file(tmp_path, rows), tmp_path)
    line = train_scorer.run(store, cfg)
    assert line == f"trained on 60 labels (too few to measure it): {tmp_path / 'model'}"
    assert train_scorer.run(store, cfg).startswith("known on 60 labels")
    both = load(
        settings=[
            "score.scorers=[{use: climb.quality.rules:RuleScorer}, "
            "{use: climb.quality.classifier:ClassifierScorer, "
            f"model: {tmp_path / 'model'}, name: clean}}]"
        ]
    )
    line = score.run(store, both)
    assert "; clean: 2 scored, 0 known (ClassifierScorer-" in line
    found = {}
    for row in store.rows(tables.SCORES):
        found.setdefault(row["doc_id"], {}).update(row["scores"])
    assert set(found["d0"]) == {"rules", "gopher", "c4", "fineweb", "clean"}
    assert found["d0"]["clean"] > 4.0 > 1.0 > found["d1"]["clean"]


def test_labels_by_doc_id_take_their_texts_from_the_documents(store, tmp_path):
    add_documents(store, [f"{(BAD if i % 2 else GOOD)} {i}" for i in range(20)])
    rows = [{"doc_id": f"d{i}", "label": i % 2} for i in range(25)]
    line = train_scorer.run(store, training(labels_file(tmp_path, rows), tmp_path))
    assert line.startswith("trained on 20 labels")


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([{"body": "x", "label": 1}], [], "has no column 'text' or 'doc_id'; it has .*body"),
        ([{"text": "x", "grade": 1}], [], "has no column 'label'; it has"),
        ([{"text": "x", "label": "good"}], [], "1 of 1 labelled texts have no number"),
        ([{"text": "x", "label": 1}, {"text": "y", "label": 1}], [], "at least 2"),
        (
            [{"text": "x", "label": 1}],
            ["score.training.labels=/no/such/labels.parquet"],
            "'/no/such/labels.parquet' cannot be read",
        ),
    ],
)
def test_labels_that_cannot_be_used_are_refused(store, tmp_path, rows, settings, message):
    cfg = training(labels_file(tmp_path, rows), tmp_path, *settings)
    with pytest.raises(InputError, match=message):
        train_scorer.run(store, cfg)


def test_training_without_labels_says_which_key_to_set(store):
    with pytest.raises(ConfigError, match=r"score\.training\.labels is null"):
        train_scorer.run(store, load())
