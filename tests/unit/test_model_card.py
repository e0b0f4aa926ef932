"""The card of a target model names its mixture, its data and its training."""

import dataclasses

import yaml

from climb.proxy.card import ModelFacts, render_model_card

FACTS = ModelFacts(
    name="0123456789abcdef",
    search="default",
    method="recommended",
    seed=2,
    weights={"law": 0.25, "code | python": 0.75},
    natural={"law": 0.5, "code | python": 0.5},
    n_tokens=1_000_000,
    base="base-42",
    base_tokens=6_000_000,
    recipe="LlamaProxy-1",
    settings={"hidden": 160, "micro_batch": None},
    processes=2,
    corpus_digest="d1g357",
    versions={"documents": 3, "shards": 1, "mixtures": None},
    metrics={"piqa.bpb": 1.25, "train.loss": 3.5},
)


def test_the_card_has_the_header_of_the_hub_and_every_fact():
    text = render_model_card(FACTS)
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["climb", "data-mixture"],
    }
    assert "# Mixture `recommended` of search `default`, seed 2" in body
    assert "| processes | 2 |" in body
    assert "| tokens | 1,000,000 |" in body
    assert "| base checkpoint | base-42, 6,000,000 tokens |" in body
    assert "Corpus digest of the training shards: `d1g357`." in body
    assert "Versions of the tables: documents 3, mixtures None, shards 1." in body
    assert "| piqa.bpb | 1.25000 |" in body
    assert '"hidden": 160' in body


def test_domains_are_ordered_by_weight_and_a_name_cannot_break_the_table():
    rows = [line for line in render_model_card(FACTS).splitlines() if "0.50000" in line]
    assert rows == [
        "| code \\| python | 0.75000 | 0.50000 |",
        "| law | 0.25000 | 0.50000 |",
    ]


def test_a_domain_that_the_corpus_lost_has_no_natural_weight():
    card = render_model_card(dataclasses.replace(FACTS, natural={}))
    assert "| law | 0.25000 | 0.00000 |" in card
