"""The data card for machines: Croissant 1.0 (docs.mlcommons.org/croissant), JSON-LD.

It lists every file of the shards with its SHA-256, and the weight of every domain as a record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from climb.export.card import CardFacts, list_document_shares
from climb.export.contents import Contents
from climb.files import FileDigest

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

ENCODINGS = {
    ".parquet": "application/x-parquet",
    ".jsonl": "application/jsonlines",
    ".zst": "application/zstd",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".tar": "application/x-tar",
}
"""Media types by ending; other files are `application/octet-stream`."""


COLUMNS = {
    "domain": "sc:Text",
    "token_share": "sc:Float",
    "document_share": "sc:Float",
    "documents": "sc:Integer",
    "tokens": "sc:Integer",
    "epochs": "sc:Float",
}
"""Field of a domain's record -> type."""


def render_croissant(
    contents: Contents, facts: CardFacts, digests: Mapping[str, FileDigest], name: str
) -> str:
    """Render croissant.json.

    Args:
        contents: what the export contains.
        facts: its sources and licences.
        digests: path in the folder -> digest, for the files of all shards.
        name: name of the search, or of the file with the mixture.
    """
    licences = [origin.name for origin in facts.licences if origin.name]
    values = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"climb-mixture-{name}",
        "description": _describe(contents),
        "license": licences or ["the licences of the sources"],
        "url": "https://arxiv.org/abs/2504.13161",
        "version": "1.0.0",
        "citeAs": "CLIMB: arXiv 2504.13161",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": f"file-{number}",
                "name": path,
                "contentUrl": path,
                "contentSize": f"{digest.bytes} B",
                "encodingFormat": _find_encoding(path),
                "sha256": digest.sha256,
            }
            for number, (path, digest) in enumerate(sorted(digests.items()))
        ],
        "recordSet": [_describe_domains(contents)],
    }
    return json.dumps(values, indent=1) + "\n"


def _describe(contents: Contents) -> str:
    if contents.own_files:
        return f"Weights of {len(contents.domains)} domains of text for a training run."
    search = "that a CLIMB search (arXiv 2504.13161) recommends"
    target = f"{contents.target_tokens:,} training tokens"
    text = f"Text of {len(contents.domains)} domains"
    if contents.kind == "recipe":
        return f"{text}, each document once, and the weights {search} for {target}."
    return f"{text}, mixed in the proportions {search} for {target}."


def _find_encoding(path: str) -> str:
    ending = path[path.rfind(".") :]
    return ENCODINGS.get(ending, "application/octet-stream")


def _describe_domains(contents: Contents) -> dict[str, Any]:
    """Return a record set with one record per domain."""
    shares = list_document_shares(contents)
    records = [
        {
            "domain": domain.name,
            "token_share": domain.weight,
            "tokens": domain.tokens,
            "epochs": domain.epochs,
        }
        | ({"document_share": shares[domain.name], "documents": domain.documents} if shares else {})
        for domain in contents.domains
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "domains",
        "name": "domains",
        "description": "Weight of each domain, and its part of the training split.",
        "key": {"@id": "domains/domain"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"domains/{column}",
                "name": column,
                "description": column.replace("_", " "),
                "dataType": kind,
            }
            for column, kind in COLUMNS.items()
            if column in records[0]
        ],
        "data": [
            {f"domains/{column}": value for column, value in record.items()} for record in records
        ],
    }
