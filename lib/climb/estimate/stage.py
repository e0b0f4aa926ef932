"""The work of one stage, and the size of the corpus."""

from __future__ import annotations

from dataclasses import dataclass

from climb.errors import ConfigError


@dataclass(frozen=True)
class Workload:
    """Size of the corpus."""

    documents: float
    tokens: float
    bytes_per_token: float

    def __post_init__(self) -> None:
        if min(self.documents, self.tokens, self.bytes_per_token) <= 0:
            raise ConfigError(
                f"--documents is {self.documents:g}, --tokens is {self.tokens:g} and "
                f"--bytes-per-token is {self.bytes_per_token:g}; each must be above 0"
            )

    @property
    def text_bytes(self) -> float:
        """Bytes of text."""
        return self.tokens * self.bytes_per_token

    @property
    def tokens_per_document(self) -> float:
        """Mean tokens of a document."""
        return self.tokens / self.documents


@dataclass(frozen=True)
class Stage:
    """What one job needs."""

    name: str
    work: str
    """Text for the user: what the stage processes."""

    core_seconds: float = 0.0
    gpu_seconds: float = 0.0
    fixed_seconds: float = 0.0
    """Seconds that depend neither on the corpus nor on the number of nodes."""

    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
