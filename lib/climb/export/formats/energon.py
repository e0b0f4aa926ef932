"""Megatron-Energon: JSON Lines with an index, and a metadataset that blends them.

    metadataset.yaml                        MetadatasetV2 with splits train and val
    train/law/00000-of-00004.jsonl          kind mixed: train/mixed/...
    train/law/00000-of-00004.jsonl.idx      where each line starts and where the last ends

Energon treats each JSON Lines file as a separate dataset. So a domain of four files has four
entries in the blend. The weight of an entry is the weight of the domain times the file's share of
the domain's documents. `energon prepare` is not needed: it would write the same index. The samples
are "crude" in Energon's terms, so a task encoder must convert ("cook") them:

    from megatron import energon

    @energon.stateless
    def cook(sample):
        keys = energon.basic_sample_keys(sample)
        return energon.TextSample(**keys, text=sample["json"]["text"])

    class TextEncoder(energon.DefaultTaskEncoder):
        cookers = [energon.Cooker(cook)]

Source: megatron-energon 7.4.1. Running it showed that weights of a blend count samples, which are
documents here. `flavors/jsonl/ijsonl.py` defines the index, and `metadataset/metadataset_v2.py`
defines the blend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from climb.export.contents import Contents, Kind, Sample, Shard, Split, Tokenization
from climb.export.documents import (
    draw_documents,
    list_files,
    name_in_domain,
    parse_sample,
    read_json_lines,
    repeat_files,
    weigh_documents,
)
from climb.export.format import ShardWriter, Unit
from climb.export.groups import list_weighted
from climb.export.writers.jsonl import JsonLinesWriter

METADATASET = "metadataset.yaml"


@dataclass(frozen=True, kw_only=True)
class Energon:
    """JSON Lines with indices, and a metadataset for Megatron-Energon."""

    shard_bytes: int = 1 << 30
    """Bytes of text after which a file ends; each file is an entry of the blend."""

    unit: ClassVar[Unit] = "documents"
    kinds: ClassVar[tuple[Kind, ...]] = ("recipe", "mixed")
    stores_tokens: ClassVar[bool] = False
    endings: ClassVar[tuple[str, ...]] = ()
    loader: ClassVar[str] = "megatron.energon"

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `SPLIT/DOMAIN/INDEX-of-COUNT`."""
        return name_in_domain(split, domain, index, count)

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start a file and its index."""
        return JsonLinesWriter(path, "none", offsets=True)

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return the file of the metadataset; the paths in it are relative to this file."""
        import yaml

        documents = weigh_documents(contents)
        train = [
            entry
            for name, _, shards in list_weighted(contents)
            for entry in _list_entries(shards, documents[name])
        ]
        splits = {"train": {"blend": train}}
        validation = _list_entries(contents.list_shards("validation"), 1.0)
        if validation:
            splits["val"] = {"blend": validation}
        values = {"__module__": "megatron.energon", "__class__": "MetadatasetV2", "splits": splits}
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        return {METADATASET: f"# weight: share of documents\n{text}"}

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield the samples of energon's training dataset for `metadataset.yaml`."""
        from megatron.energon import (  # type: ignore[import-not-found]
            Cooker,
            DefaultTaskEncoder,
            TextSample,
            WorkerConfig,
            basic_sample_keys,
            get_loader,
            get_train_dataset,
            stateless,
        )

        @stateless  # type: ignore[untyped-decorator]
        def cook(sample: Mapping[str, Any]) -> Any:
            row = parse_sample(sample["json"])
            text = f"{row.tokens} {row.domain}"
            return TextSample(**basic_sample_keys(sample), text=text)

        class Encoder(DefaultTaskEncoder):  # type: ignore[misc]
            cookers: ClassVar[list[Any]] = [Cooker(cook)]

        dataset = get_train_dataset(
            folder / METADATASET,
            worker_config=WorkerConfig(rank=0, world_size=1, num_workers=0),
            batch_size=None,
            shuffle_buffer_size=None,
            max_samples_per_sequence=None,
            task_encoder=Encoder(),
        )
        for sample in get_loader(dataset):
            tokens, _, domain = sample.text.partition(" ")
            yield Sample(domain, int(tokens))

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Draw documents with the weights of `metadataset.yaml` from its files."""
        import yaml

        values = yaml.safe_load((folder / METADATASET).read_text(encoding="utf-8"))
        sources = [
            (entry["weight"], repeat_files(read_json_lines, [folder / entry["path"]]))
            for entry in values["splits"]["train"]["blend"]
        ]
        return draw_documents(sources, contents.seed)


def _list_entries(shards: list[Shard], weight: float) -> list[dict[str, Any]]:
    """List an entry for each shard; divide the weight in proportion to the shards' documents."""
    total = sum(shard.documents for shard in shards)
    return [
        {"weight": weight * shard.documents / total, "path": path}
        for shard in shards
        if shard.documents
        for path in list_files([shard], ".jsonl")
    ]
