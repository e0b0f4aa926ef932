"""The data card says both units, and the card for machines names every file."""

import dataclasses
import json

import pytest
from text_export import WEIGHTS, make_export, name_format

from climb.export.card import CardFacts, Dropped, Origin, render_card
from climb.export.croissant import render_croissant
from climb.export.formats.hf import HuggingFace
from climb.export.formats.jsonl import JsonLines
from climb.export.formats.lingua import Lingua
from climb.export.render import FinishedExport, render_files
from climb.files import FileDigest

FACTS = CardFacts(
    sources=[Origin("a.jsonl", 7, 300), Origin("", 1, 5)],
    licences=[Origin("mit", 7, 300)],
    quality={"law": {"rules": 4.25}},
    dropped=[Dropped("ingest: too short", 3, None)],
)


@pytest.fixture
def contents(tmp_path):
    return make_export(Lingua(), tmp_path, "recipe")


def test_the_card_has_weights_in_tokens_and_in_documents(contents):
    card = render_card(contents, Lingua(), FACTS, {"corpus": 3}, "search-1")
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in card.splitlines() if "|" in line]
    shares = {
        row[0]: (float(row[1]), float(row[2]))
        for row in rows
        if len(row) == 6 and row[0] in WEIGHTS
    }
    means = {domain.name: domain.mean_tokens for domain in contents.domains}
    total = sum(weight / means[name] for name, weight in WEIGHTS.items())
    for name, weight in WEIGHTS.items():
        assert shares[name] == pytest.approx((weight, weight / means[name] / total), abs=1e-4)
    assert "Loaders of this format weight documents" in card
    for line in (
        "| a.jsonl | 7 | 300 |",
        "| unknown | 1 | 5 |",
        "| mit | 7 | 300 |",
        "| law | 4.250 |",
        "| ingest: too short | 3 | not counted |",
        "corpus 3",
    ):
        assert line in card


def test_a_card_of_a_mixed_export_says_that_there_is_nothing_to_weight(tmp_path):
    contents = make_export(JsonLines(), tmp_path, "mixed")
    card = render_card(contents, JsonLines(), FACTS, {}, "x")
    assert "no weights are needed" in card
    assert "Loaders of this format weight" not in card


def test_unknown_documents_of_files_of_the_user_are_unknown_in_the_card(contents):
    domains = tuple(dataclasses.replace(d, documents=0) for d in contents.domains)
    card = render_card(
        dataclasses.replace(contents, domains=domains), Lingua(), CardFacts(), {}, "x"
    )
    assert "| unknown | unknown |" in card


def test_a_domain_without_tokens_has_no_known_share_of_documents(contents):
    domains = tuple(dataclasses.replace(d, tokens=0) for d in contents.domains)
    empty = dataclasses.replace(contents, domains=domains)
    assert "| unknown | unknown |" in render_card(empty, Lingua(), CardFacts(), {}, "x")


def test_the_header_of_a_format_comes_before_the_card(tmp_path):
    contents = make_export(HuggingFace(), tmp_path, "recipe")
    export = FinishedExport(name_format(HuggingFace()), HuggingFace(), contents, {}, "mine")
    text = render_files(export, FACTS, {})["README.md"]
    assert text.startswith("---\nconfigs:")
    assert text.count("\n# Mixture") == 1
    assert "# Mixture `mine`" in text


def test_the_card_for_machines_names_every_file_with_its_digest(contents):
    files = [file for shard in contents.shards for file in shard.files]
    digests = {file: FileDigest(f"{i:064x}", i) for i, file in enumerate(files)}
    values = json.loads(render_croissant(contents, FACTS, digests, "search-1"))
    found = {f["contentUrl"]: (f["sha256"], f["contentSize"]) for f in values["distribution"]}
    assert found == {file: (d.sha256, f"{d.bytes} B") for file, d in digests.items()}
    records = {r["domains/domain"]: r for r in values["recordSet"][0]["data"]}
    assert {name: r["domains/token_share"] for name, r in records.items()} == WEIGHTS
    assert values["license"] == ["mit"]


def test_the_card_for_machines_says_that_a_recipe_is_not_mixed(contents, tmp_path):
    mixed = make_export(HuggingFace(), tmp_path / "other", "mixed")
    recipe, text = (
        json.loads(render_croissant(export, FACTS, {}, "search-1"))["description"]
        for export in (contents, mixed)
    )
    assert "each document once, and the weights that a CLIMB search" in recipe
    assert "mixed in the proportions that a CLIMB search" in text
