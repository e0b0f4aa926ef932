"""NeMo Automodel: Megatron's indexed datasets, and the dataset sections of a configuration.

    automodel.yaml   dataset and validation_dataset, for a configuration of Automodel

`paths` lists weight, prefix, weight, prefix, ... of each split. The weights count samples of a
fixed length, so they are shares of tokens. Automodel uses the weights only if its configuration
sets the number of training steps, `step_scheduler.max_steps`. If `index_mapping_dir` is not set,
Automodel writes index files beside the prefixes.

Source: components/datasets/loader.py, components/datasets/llm/megatron_dataset.py and
components/datasets/llm/megatron/ in nemo_automodel 0.7.0. The loader compiles its helpers with
Ninja and a C++ compiler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from climb.export.contents import Contents, Sample
from climb.export.formats.megatron import (
    IndexedDatasets,
    StubTokenizer,
    list_prefixes,
    open_cache,
    sample_prefixes,
)
from climb.export.token_files import (
    find_group,
    limit_samples,
    name_groups,
    require_tokenization,
)

FILE = "automodel.yaml"
TARGET = "nemo_automodel.components.datasets.llm.megatron_dataset.MegatronPretraining"


@dataclass(frozen=True, kw_only=True)
class Automodel(IndexedDatasets):
    """Indexed datasets with `automodel.yaml`."""

    loader: ClassVar[str] = "nemo_automodel"

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return the sections of both splits; the prefixes are absolute paths.

        Raises:
            ConfigError: a path has white space.
        """
        import yaml

        paths = {"train": list_prefixes(contents, "train")}
        if validation := list_prefixes(contents, "validation"):
            paths["validation"] = validation
        section = {
            "_target_": TARGET,
            "seq_length": contents.sequence_length,
            "seed": contents.seed,
        }
        sections = {
            ("dataset" if split == "train" else "validation_dataset"): section
            | {"splits_to_build": split, "paths": {split: listed}}
            for split, listed in paths.items()
        }
        return {FILE: yaml.safe_dump(sections, sort_keys=False, width=1000)}

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield the samples of Automodel's blended GPT dataset, built from the section `dataset`.

        Raises:
            ImportError: nemo-automodel is not installed.
        """
        from nemo_automodel.components.datasets.loader import (
            DatasetBuildSchedule,
            make_dataset_config,
        )

        section = _read_section(folder)
        groups, prefixes = name_groups(contents), section["paths"]["train"][1::2]
        names = [find_group(groups, f"{prefix}.bin") for prefix in prefixes]
        tokenization = require_tokenization(contents.tokenization)
        with open_cache() as cache:
            target = section.pop("_target_")
            config = make_dataset_config(target, section | {"index_mapping_dir": cache})
            dataset = config.build(
                tokenizer=StubTokenizer(tokenization.vocab_size, tokenization.end_of_text_id),
                training_schedule=DatasetBuildSchedule(1, 1, limit_samples(contents), None),
            )
            for index in range(len(dataset)):
                sample = dataset[index]
                # For a single prefix, the loader returns no blend, so samples have no dataset_id.
                source = int(sample.get("dataset_id", 0))
                yield Sample(names[source], len(sample["input_ids"]))

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield endless samples, each from the prefix whose share is furthest below its weight."""
        blend = _read_section(folder)["paths"]["train"]
        weights, prefixes = [float(weight) for weight in blend[::2]], blend[1::2]
        yield from sample_prefixes(weights, prefixes, contents)


def _read_section(folder: Path) -> dict[str, Any]:
    """Return the section of the training split."""
    import yaml

    text = (folder / FILE).read_text(encoding="utf-8")
    section: dict[str, Any] = yaml.safe_load(text)["dataset"]
    return section
