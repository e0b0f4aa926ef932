"""Section of the proxies and their target tasks. Its values are in conf/default.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, field_validator

from climb.config.section import PluginSpec, Section


class TargetTask(Section):
    """A target task, on which proxies and target models are evaluated."""

    name: str
    kind: Literal["choices", "text"]
    """choices: JSON Lines of {context, choices, label}; text: JSON Lines of {text}."""

    search: str
    """File (.jsonl, .jsonl.gz) of the items that the search uses: training or validation items."""

    report: str | None
    """File of the test items that job `train` measures target models on. The search does not use
    items of `search` that are also in the `report` file of any target. null: target models are not
    measured on this target."""

    limit: PositiveInt | None
    """Maximum number of items used from each file: those with the lowest hashes; null: all."""

    where: dict[str, tuple[str, ...]] = Field(default={})
    """Field of an item, such as `meta.subject` -> accepted values. Items with other values are not
    used. Without the key `where`, all items are used."""


class ProxyConfig(Section):
    """The small model that is trained once per mixture, and its target tasks."""

    model: PluginSpec
    base_tokens: PositiveInt
    """Tokens of the base checkpoint, trained once on the natural mixture; trials continue it."""

    trial_tokens: PositiveInt
    """Tokens of each trial after the base checkpoint; equal for all trials."""

    match_repetition: bool
    """Whether trials repeat scarce text as often as the target run does. true: a trial with 1/r of
    the target run's tokens reads only from 1/r of each domain. false: a trial reads new text of a
    domain for as long as there is any. Target models repeat scarce text in both cases."""

    checkpoint_steps: PositiveInt
    """Training steps between two checkpoints of a run."""

    hung_minutes: float | None = Field(ge=1.0)
    """A run that makes no progress for this long is ended and tried again from its checkpoint.
    After three tries, it waits for the next start of the job. null: no limit. The start of the
    run, every training step and every evaluation of a target count as progress. A plug-in must
    report its progress (docs/proxies.md). Target models have the same limit."""

    target_folder: str | None
    """Folder of the files of `targets`; null: the folder in which climb is started."""

    targets: tuple[TargetTask, ...]

    @property
    def located_targets(self) -> tuple[TargetTask, ...]:
        """The targets with the paths of their files."""
        return tuple(
            t.model_copy(
                update={"search": self._locate(t.search), "report": self._locate(t.report)}
            )
            for t in self.targets
        )

    def _locate(self, path: str | None) -> str | None:
        if path is None or self.target_folder is None:
            return path
        return str(Path(self.target_folder) / path)

    @field_validator("targets")
    @classmethod
    def _check_names(cls, value: tuple[TargetTask, ...]) -> tuple[TargetTask, ...]:
        for i, target in enumerate(value):
            for j, other in enumerate(value[:i]):
                if other.name == target.name:
                    raise ValueError(f"items {j} and {i} are both named {target.name!r}")
        return value
