"""Scorers: the papers' rules, models read from files, and the training of scorers."""

import json
import math

import fasttext
import numpy as np
import pandas as pd
import pytest

from climb.config import build, load, recipe_of
from climb.errors import ComponentError, ConfigError, InputError, PreflightError
from climb.quality import Scorer
from climb.quality.classifier import ClassifierScorer, ClassifierTrainer
from climb.quality.fasttext import FastTextScorer, FastTextTrainer, parse_labels
from climb.quality.rules import FAMILIES, RuleScorer, find_violated_rules
from climb.quality.statistics import compute_ngram_statistics, compute_text_statistics
from climb.quality.training import ScorerTrainer, train_scorer
from climb.quality.transformer import TransformerScorer, parse_label_numbers
from climb.spark.corpus.score import build_scorers, score_batches
from climb.testing.contracts_text import check_scorer

SENTENCES = (
    "The river rose quickly that night, and the people of the village watched it with fear.",
    "Nobody had seen such a flood before, not even the oldest farmers in the valley.",
    "By morning the bridge was gone, and with it the only road to the market town.",
    "They would have to rebuild everything before the winter, which was never far away here.",
)
PROSE = "\n\n".join(SENTENCES)

GOOD = ["the cell divides and grows when energy is near", "an enzyme binds the membrane protein"]
BAD = ["buy cheap pills now online best price", "click here to win free money today friend"]


def make_labelled_texts(n):
    """Make N distinct texts, half of them spam, and their labels."""
    texts = [f"{(BAD if i % 2 else GOOD)[i // 2 % 2]} {i}" for i in range(n)]
    return texts, [0.0 if i % 2 else 5.0 for i in range(n)]


def classifier_trainer():
    return ClassifierTrainer(features=4096, inverse_penalty=10.0, balanced=True)


def fasttext_trainer(rate=0.5):
    return FastTextTrainer(
        dim=16, epochs=20, learning_rate=rate, buckets=1 << 20, min_count=1, seed=0
    )


def test_plain_prose_violates_no_rule():
    assert find_violated_rules(PROSE) == []
    scores = RuleScorer().load("cpu")([PROSE])
    assert {name: values.tolist() for name, values in scores.items()} == {
        "rules": [5.0],
        "gopher": [5.0],
        "c4": [5.0],
        "fineweb": [5.0],
    }


@pytest.mark.parametrize(
    ("text", "family", "rule"),
    [
        ("Too short, that is all there is to read.", "gopher", "words"),
        (PROSE + " ab c d e" * 200, "gopher", "word length"),
        (PROSE + " #tag" * 10, "gopher", "symbols"),
        (PROSE + " and ... so" * 10, "gopher", "symbols"),
        ("\n".join(f"• {line}" for line in SENTENCES), "gopher", "bullets"),
        ("\n".join(f"{line}.." for line in SENTENCES), "gopher", "ellipses"),
        (PROSE + " 12 34 56 78" * 10, "gopher", "alphabetic words"),
        ("Katzen jagen Mäuse durch große alte Gärten. " * 10, "gopher", "stop words"),
        ("\n".join(SENTENCES * 2), "gopher", "repeated lines"),
        (PROSE + " cheap pills" * 30, "gopher", "top n-grams"),
        ((PROSE + "\n") * 3, "gopher", "repeated n-grams"),
        ("\n".join(line.rstrip(".") for line in SENTENCES), "c4", "sentences"),
        (PROSE + " {", "c4", "curly brackets"),
        (PROSE + " Lorem Ipsum dolor.", "c4", "lorem ipsum"),
        ("\n".join(line.rstrip(".") for line in SENTENCES), "fineweb", "punctuated lines"),
        (PROSE + ("\n" + SENTENCES[0]) * 1, "fineweb", "repeated line characters"),
        (PROSE + "\nmenu" * 9, "fineweb", "short lines"),
    ],
)
def test_each_rule_detects_its_violation(text, family, rule):
    assert (family, rule) in find_violated_rules(text)


def test_every_limit_names_a_statistic_and_every_statistic_is_finite():
    for text in ("", " ", "x", "\n\n", PROSE, "{" * 50, "word " * 5000):
        values = compute_text_statistics(text)
        assert all(math.isfinite(value) for value in values.values())
        for rules in FAMILIES.values():
            for limits in rules.values():
                assert set(limits) <= set(values)


def test_the_rules_score_drops_by_half_a_point_per_violation():
    text = PROSE + " { Lorem Ipsum dolor."
    scores = RuleScorer().load("cpu")([text])
    assert len(find_violated_rules(text)) == 2
    assert scores["rules"].tolist() == [4.0]
    assert scores["c4"].tolist() == [0.0]
    assert scores["gopher"].tolist() == [5.0]


def test_ngram_shares_equal_shares_counted_by_hand():
    # "a b" occurs three times in "a b a b a b": 6 of 6 characters.
    words = ["a", "b", "a", "b", "a", "b"]
    assert compute_ngram_statistics(words)["top_2_gram_chars"] == pytest.approx(1.0)
    # Ten words, then the same ten again: the second half is a repetition.
    words = [f"w{i}" for i in range(10)] * 2
    values = compute_ngram_statistics(words)
    assert values["duplicate_10_gram_chars"] == pytest.approx(0.5)
    assert values["duplicate_5_gram_chars"] == pytest.approx(0.5)
    assert all(
        value == 0.0 for value in compute_ngram_statistics([f"w{i}" for i in range(30)]).values()
    )


def test_c4_counts_sentences_only_in_kept_lines():
    lines = [
        "This is one sentence of a good line. And this is another one!",
        "Please enable JavaScript to read the rest of this page.",
        "Read our terms of use before you go on.",
        "Too few words.",
        "No end mark on this otherwise fine line",
        "An ellipsis does not end a sentence either...",
    ]
    assert compute_text_statistics("\n".join(lines))["kept_sentences"] == 2


def test_the_rule_scorer_satisfies_the_contract():
    check_scorer(RuleScorer(), tolerance=0.0)


def test_two_scores_of_one_name_are_an_error():
    spec = {"use": "climb.quality.rules:RuleScorer"}
    assert len(build_scorers([spec])) == 1
    with pytest.raises(ConfigError, match="both return a score 'rules'"):
        build_scorers([spec, spec])


def test_a_classifier_learns_its_labels_and_returns_the_expected_label(tmp_path):
    texts, labels = make_labelled_texts(200)
    trained = train_scorer(classifier_trainer(), texts, labels, tmp_path / "m")
    assert trained.n_labels == 200
    assert trained.error < 0.5
    assert trained.rank_correlation > 0.8
    scorer = ClassifierScorer(model=str(tmp_path / "m"), name="clean")
    check_scorer(scorer)
    good, bad = scorer.load("cpu")(["the cell grows", "cheap pills online"])["clean"]
    assert 0.0 <= bad < 1.5 < 3.5 < good <= 5.0


def test_a_classifier_with_six_labels_returns_values_between_them(tmp_path):
    texts = [
        f"{'good ' * label}{'bad ' * (5 - label)} {i}" for i in range(20) for label in range(6)
    ]
    labels = [float(label) for _ in range(20) for label in range(6)]
    scorer = classifier_trainer().train(texts, np.array(labels), tmp_path / "m")
    (values,) = scorer.load("cpu")(["bad bad bad", "good bad good bad", "good good"]).values()
    assert values[0] < values[1] < values[2]


def test_a_balanced_classifier_detects_rare_junk_that_a_plain_one_misses(tmp_path):
    texts = [f"{GOOD[i % 2]} {i}" for i in range(190)] + [f"{BAD[i % 2]} {i}" for i in range(10)]
    labels = np.array([5.0] * 190 + [0.0] * 10)
    junk = ["buy something online", "win a trip today friend"]
    values = {}
    for balanced in (True, False):
        trainer = ClassifierTrainer(features=4096, inverse_penalty=1.0, balanced=balanced)
        scorer = trainer.train(texts, labels, tmp_path / str(balanced))
        values[balanced] = scorer.load("cpu")(junk)["quality"].max()
    assert values[True] < 3.0 < values[False]


def test_labels_with_too_many_different_values_are_refused_before_memory_runs_out(tmp_path):
    texts, _ = make_labelled_texts(120)
    labels = [float(i) for i in range(120)]
    message = r"\d+ different values. .* a class of each .* at most 20 classes; round the labels"
    with pytest.raises(InputError, match=message):
        train_scorer(classifier_trainer(), texts, labels, tmp_path / "m")


def test_training_is_skipped_for_equal_labels_and_runs_for_other_labels(tmp_path):
    texts, labels = make_labelled_texts(120)
    first = train_scorer(classifier_trainer(), texts, labels, tmp_path / "m")
    before = (tmp_path / "m" / "weights.npz").stat().st_mtime_ns
    again = train_scorer(classifier_trainer(), texts[::-1], labels[::-1], tmp_path / "m")
    assert again.repeated
    assert (again.error, again.n_labels) == (first.error, first.n_labels)
    assert (tmp_path / "m" / "weights.npz").stat().st_mtime_ns == before
    assert not train_scorer(
        classifier_trainer(), texts[:110], labels[:110], tmp_path / "m"
    ).repeated


def test_the_order_of_the_labels_changes_no_bit_of_the_model(tmp_path):
    texts, labels = make_labelled_texts(120)
    train_scorer(classifier_trainer(), texts, labels, tmp_path / "a")
    train_scorer(classifier_trainer(), texts[::-1], labels[::-1], tmp_path / "b")
    arrays = [np.load(tmp_path / name / "weights.npz") for name in "ab"]
    for name in ("weights_FL", "bias_L"):
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name])


@pytest.mark.parametrize(
    ("labels", "message"),
    [([1.0, float("nan")], "not a finite number"), ([2.0, 2.0], "at least 2")],
)
def test_labels_that_are_not_numbers_or_all_equal_are_an_error(tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        train_scorer(classifier_trainer(), ["a text", "b text"], labels, tmp_path / "m")


def test_few_labels_give_a_model_without_a_measured_error(tmp_path):
    trained = train_scorer(classifier_trainer(), *make_labelled_texts(20), tmp_path / "m")
    assert (trained.error, trained.n_held_out) == (None, 0)


def test_the_default_configuration_builds_a_trainer_and_scorers():
    cfg = load().score
    assert build(cfg.training.trainer, ScorerTrainer) == ClassifierTrainer(
        features=1 << 20, inverse_penalty=30.0, balanced=True
    )
    assert all(isinstance(scorer, Scorer) for scorer in build_scorers(cfg.scorers))


def test_fasttext_returns_the_most_likely_label_as_a_number(tmp_path):
    texts, labels = make_labelled_texts(200)
    labels = [label if label else -1.0 for label in labels]
    train_scorer(fasttext_trainer(), texts, labels, tmp_path / "m")
    scorer = FastTextScorer(model=str(tmp_path / "m" / "model.bin"), name="clean")
    check_scorer(scorer, tolerance=0.0)
    scores = scorer.load("cpu")(["the cell\ngrows\x00near", "cheap pills"])
    assert scores["clean"].tolist() == [5.0, -1.0]


def test_fasttext_training_is_reproducible_bit_for_bit(tmp_path):
    texts, labels = make_labelled_texts(120)
    for name in "ab":
        fasttext_trainer().train(texts, np.array(labels), tmp_path / name)
    assert (tmp_path / "a/model.bin").read_bytes() == (tmp_path / "b/model.bin").read_bytes()


def test_a_fasttext_model_with_uninitialized_weights_is_an_error():
    with pytest.raises(ConfigError, match="uninitialized weights"):
        FastTextTrainer(dim=4, epochs=1, learning_rate=0.1, buckets=1000, min_count=1, seed=0)


def test_fasttext_tries_other_rates_when_its_weights_become_nan(tmp_path, monkeypatch):
    rates, train = [], fasttext.train_supervised

    def fail_twice(path, **options):
        rates.append(options["lr"])
        if len(rates) < 3:
            raise RuntimeError("Encountered NaN.")
        return train(path, **options)

    monkeypatch.setattr(fasttext, "train_supervised", fail_twice)
    texts, labels = make_labelled_texts(40)
    fasttext_trainer(rate=1.0).train(texts, np.array(labels), tmp_path / "m")
    assert rates == [1.0, 0.5, 0.2]
    assert (tmp_path / "m" / "model.bin").is_file()


def test_fasttext_raises_an_error_when_every_learning_rate_fails(tmp_path, monkeypatch):
    def fail(path, **options):
        raise RuntimeError("Encountered NaN.")

    monkeypatch.setattr(fasttext, "train_supervised", fail)
    with pytest.raises(ComponentError, match="NaN at learning rates"):
        fasttext_trainer().train(["a", "b"], np.array([0.0, 1.0]), tmp_path / "m")


def test_missing_or_invalid_models_are_an_error(tmp_path):
    (tmp_path / "text.bin").write_text("not a model")
    with pytest.raises(PreflightError, match="does not exist"):
        FastTextScorer(model="no/model.bin", name="q").load("cpu")
    with pytest.raises(PreflightError, match="not a fastText model"):
        FastTextScorer(model=str(tmp_path / "text.bin"), name="q").load("cpu")
    with pytest.raises(PreflightError, match="contains no classifier"):
        ClassifierScorer(model=str(tmp_path), name="q").load("cpu")
    with pytest.raises(PreflightError, match="contains no sequence classifier"):
        TransformerScorer(model=str(tmp_path), name="q", max_tokens=8, batch_tokens=64).load("cpu")


def test_labels_that_are_words_are_an_error():
    assert parse_labels(["__label__-1", "__label__4.5"], "m") == {
        "__label__-1": -1.0,
        "__label__4.5": 4.5,
    }
    with pytest.raises(ComponentError, match="'__label__spam'"):
        parse_labels(["__label__0", "__label__spam"], "m")
    assert parse_label_numbers({0: "LABEL_0", 1: "3"}, "m").tolist() == [0.0, 3.0]
    assert parse_label_numbers({0: "anything"}, "m").tolist() == [1.0]
    with pytest.raises(ComponentError, match="labels must be numbers"):
        parse_label_numbers({0: "NEGATIVE", 1: "POSITIVE"}, "m")


@pytest.fixture(scope="module")
def tiny_transformer(tmp_path_factory):
    """A random BERT of two layers with one output, saved with save_pretrained."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz", *[f"##{c}" for c in "abcdehlnor"]]
    tokenizer = Tokenizer(WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def test_a_transformer_with_one_output_satisfies_the_contract(tiny_transformer):
    check_scorer(
        TransformerScorer(model=tiny_transformer, name="edu", max_tokens=32, batch_tokens=64)
    )


def test_a_limit_that_the_classifier_does_not_accept_is_an_error(tiny_transformer):
    fields = {"model": tiny_transformer, "name": "edu", "batch_tokens": 1024}
    long = " ".join("ab" * 1000)
    assert TransformerScorer(**fields, max_tokens=512).load("cpu")([long])["edu"].shape == (1,)
    with pytest.raises(ComponentError, match=r"max_tokens is 513; '.*' accepts at most 512 tokens"):
        TransformerScorer(**fields, max_tokens=513).load("cpu")
    with pytest.raises(
        ConfigError, match="TransformerScorer: max_tokens is 0; it must be at least"
    ):
        TransformerScorer(**fields, max_tokens=0)


class FixedScores:
    """A scorer that returns fixed scores."""

    names = ("one", "two")

    def __init__(self, **scores):
        self.scores = {name: np.array(values) for name, values in scores.items()}

    def load(self, device):
        return lambda texts: self.scores


def run(scorer, *texts):
    return list(score_batches(iter([pd.Series(texts)]), scorer, lambda: scorer.load("cpu")))


def test_scores_are_in_the_order_of_their_names():
    (column,) = run(FixedScores(two=[3.0, 4.0], one=[1.0, 2.0]), "a", "b")
    assert [row.tolist() for row in column] == [[1.0, 3.0], [2.0, 4.0]]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"one": [1.0]}, r"`names` lists \['one', 'two'\]"),
        ({"one": [1.0], "two": [1.0, 2.0]}, r"'two' of shape \(2,\) for 1 texts"),
        ({"one": [1.0], "two": [float("nan")]}, "NaN or inf as score 'two' of the text 'the text'"),
    ],
)
def test_a_scorer_that_violates_its_contract_is_an_error(scores, message):
    with pytest.raises(ComponentError, match=message):
        run(FixedScores(**scores), "the text")


def test_the_recipe_of_a_trained_scorer_is_a_hash_of_its_content(tmp_path):
    texts, labels = make_labelled_texts(40)
    for folder in ("a", "b"):
        classifier_trainer().train(texts, np.array(labels), tmp_path / folder)
    recipes = {
        recipe_of(ClassifierScorer(model=str(tmp_path / folder), name="q")) for folder in "ab"
    }
    assert len(recipes) == 1
    settings = json.loads((tmp_path / "b" / "model.json").read_text())
    (tmp_path / "b" / "model.json").write_text(json.dumps(settings | {"labels": [0.0, 4.0]}))
    assert recipe_of(ClassifierScorer(model=str(tmp_path / "b"), name="q")) not in recipes
