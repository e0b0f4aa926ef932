"""The card for machines is valid Croissant, and its records are read back."""

import dataclasses
import json

import pytest
from text_export import WEIGHTS, make_export

from climb.export.card import CardFacts, Origin
from climb.export.croissant import render_croissant
from climb.export.formats.jsonl import JsonLines
from climb.files.complete import digest_file

READ = """
import mlcroissant
dataset = mlcroissant.Dataset(sys.argv[1])  # raises on a mistake
files = sorted(file.sha256 for file in dataset.metadata.distribution)
records = [{k: str(v) for k, v in r.items()} for r in dataset.records("domains")]
print(json.dumps([files, records]))
"""


@pytest.mark.parametrize("n_documents_known", [True, False])
def test_mlcroissant_reads_the_weights_and_the_digests(tmp_path, run_consumer, n_documents_known):
    contents = make_export(JsonLines(), tmp_path, "recipe")
    if not n_documents_known:
        domains = tuple(dataclasses.replace(d, documents=0) for d in contents.domains)
        contents = dataclasses.replace(contents, domains=domains)
    files = [file for shard in contents.shards for file in shard.files]
    digests = {file: digest_file(tmp_path / file) for file in files}
    facts = CardFacts(licences=[Origin("cc-by-4.0", 1, 1)])
    path = tmp_path / "croissant.json"
    path.write_text(render_croissant(contents, facts, digests, "x"), encoding="utf-8")
    found, records = json.loads(run_consumer("croissant", READ, str(path)).splitlines()[-1])
    assert found == sorted(digest.sha256 for digest in digests.values())
    weights = {r["domains/domain"]: float(r["domains/token_share"]) for r in records}
    assert weights == pytest.approx(WEIGHTS)
    assert ("domains/documents" in records[0]) == n_documents_known
