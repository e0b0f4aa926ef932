"""Score with several scorers, and train a scorer from a labelled file."""

import json

import pytest
from climb.jobs import score, train_scorer

from climb import tables
from climb.config import load
from climb.errors import ConfigError, InputError
from climb.quality.rules import RuleScorer
from climb.spark.corpus.count import ensure_tokenizer
from climb.spark.corpus.score import build_scorers, ensure_repeated_ngrams

GOOD = "The cell divides when the energy of its membrane is near the enzyme, and that is all. " * 8
BAD = "BUY cheap pills NOW >>> {click} {click} {click} "


def add_documents(store, texts, first=0):
    rows = [
        dict.fromkeys(tables.DOCUMENTS.column_names) | {"doc_id": f"d{i}", "text": text}
        for i, text in enumerate(texts, first)
    ]
    store.append(store.create_frame(rows, tables.DOCUMENTS), tables.DOCUMENTS)


def write_labels(folder, rows, name="labels.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configure_training(path, folder, *settings):
    return load(
        settings=[
            f"score.training.labels={path}",
            f"score.training.output={folder / 'model'}",
            "score.training.trainer.features=4096",
            *settings,
        ]
    )


def test_each_scorer_has_its_own_rows_and_scored_documents_are_skipped(store):
    add_documents(store, [GOOD, BAD])
    line = score.run(store, load())
    assert line.startswith("rules, gopher, c4, fineweb: 2 scored, 0 already scored (RuleScorer-")
    version = store.history.read_version(tables.SCORES)
    assert "0 scored, 2 already scored" in score.run(store, load())
    assert store.history.read_version(tables.SCORES) == version
    good, bad = store.read_rows(tables.SCORES)
    expected = RuleScorer().load("cpu")([GOOD, BAD])
    assert good["scores"] == {name: float(values[0]) for name, values in expected.items()}
    assert bad["scores"] == {name: float(values[1]) for name, values in expected.items()}
    assert bad["scores"]["rules"] < good["scores"]["rules"]


def test_a_scorer_trained_from_a_file_is_used_together_with_the_rules(store, tmp_path):
    add_documents(store, [GOOD, BAD])
    rows = [
        {"text": f"{(BAD if i % 2 else GOOD)} {i}", "label": 5 - 5 * (i % 2)} for i in range(60)
    ]
    cfg = configure_training(write_labels(tmp_path, rows), tmp_path)
    line = train_scorer.run(store, cfg)
    quality = "too few labels to measure the quality"
    assert line == f"trained, 60 labels ({quality}): {tmp_path / 'model'}"
    assert train_scorer.run(store, cfg).startswith("up to date, 60 labels")
    both = load(
        settings=[
            "score.scorers=[{use: climb.quality.rules:RuleScorer}, "
            "{use: climb.quality.classifier:ClassifierScorer, "
            f"model: {tmp_path / 'model'}, name: clean}}]"
        ]
    )
    line = score.run(store, both)
    assert "; clean: 2 scored, 0 already scored (ClassifierScorer-" in line
    found = {}
    for row in store.read_rows(tables.SCORES):
        found.setdefault(row["doc_id"], {}).update(row["scores"])
    assert set(found["d0"]) == {"rules", "gopher", "c4", "fineweb", "clean"}
    assert found["d0"]["clean"] > 4.0 > 1.0 > found["d1"]["clean"]


def test_labels_by_doc_id_are_joined_with_the_texts_of_the_documents(store, tmp_path):
    add_documents(store, [f"{(BAD if i % 2 else GOOD)} {i}" for i in range(20)])
    rows = [{"doc_id": f"d{i}", "label": i % 2} for i in range(25)]
    line = train_scorer.run(store, configure_training(write_labels(tmp_path, rows), tmp_path))
    assert line.startswith("trained, 20 labels")


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
def test_unusable_labels_are_an_error(store, tmp_path, rows, settings, message):
    cfg = configure_training(write_labels(tmp_path, rows), tmp_path, *settings)
    with pytest.raises(InputError, match=message):
        train_scorer.run(store, cfg)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ['{"text": "x", "label": 1}', '{"text": "y", "label": 2', "7", ""],
            r"2 of 3 lines are not JSON objects, for example '7'; fix or remove these lines$",
        ),
        (["[", "]"], r"no line is a JSON object; write one object per line$"),
    ],
)
def test_broken_lines_of_labels_are_counted_in_an_error(store, tmp_path, lines, message):
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=rf"labels\.jsonl: {message}"):
        train_scorer.run(store, configure_training(path, tmp_path))


def test_the_error_of_training_without_labels_names_the_key_to_set(store):
    with pytest.raises(ConfigError, match=r"score\.training\.labels is null"):
        train_scorer.run(store, load())


def test_passages_of_many_documents_lower_their_score_and_are_counted_once(store):
    licence = " ".join(f"clause{i} of the licence" for i in range(30))
    texts = [f"document {i} has words of its own, {i * 7} of them. {licence}" for i in range(6)]
    texts += [" ".join(f"own{i}x{j}" for j in range(60)) for i in range(6)]
    add_documents(store, texts)
    cfg = load(
        settings=["score.scorers=[{use: 'climb.quality.repetition:RepetitionScorer', sample: 1}]"]
    )
    assert score.run(store, cfg).startswith("unrepeated: 12 scored, 0 already scored")
    scores = {row["doc_id"]: row["scores"]["unrepeated"] for row in store.read_rows(tables.SCORES)}
    assert max(scores[f"d{i}"] for i in range(6)) < 0.3
    assert {scores[f"d{i}"] for i in range(6, 12)} == {1.0}
    version = store.history.read_version(tables.REPEATED_NGRAMS)
    add_documents(store, [licence], first=12)
    assert score.run(store, cfg).startswith("unrepeated: 1 scored, 12 already scored")
    assert store.history.read_version(tables.REPEATED_NGRAMS) == version
    rows = {row["doc_id"]: row["scores"]["unrepeated"] for row in store.read_rows(tables.SCORES)}
    assert rows["d12"] == 0.0


def test_deleted_passages_and_tokenizers_are_written_again_and_each_time_once(store, monkeypatch):
    add_documents(store, [" ".join(f"clause{i} of the licence" for i in range(30))] * 3)
    spec = "{use: 'climb.quality.repetition:RepetitionScorer', sample: 1, min_documents: 2}"
    cfg = load(settings=[f"score.scorers=[{spec}]", "count.vocab_size=300"])
    [scorer] = build_scorers(cfg.score.scorers)
    made = (tables.REPEATED_NGRAMS, tables.TOKENIZERS)
    append = type(store).append

    def append_twice(self, *args, **options):
        for _ in range(2):
            append(self, *args, **options)

    def write():
        ensure_repeated_ngrams(store, store.read(tables.DOCUMENTS), scorer)
        ensure_tokenizer(store, cfg)
        return [sorted(tuple(row) for row in store.read(table).collect()) for table in made]

    monkeypatch.setattr(type(store), "append", append_twice)  # as two drivers do
    passages, tokenizers = write()
    assert len(passages) > 50
    assert len(tokenizers) == 1
    for table in made:
        store.session.sql(f"DELETE FROM {store.locate(table)}")
    assert write() == [passages, tokenizers]
