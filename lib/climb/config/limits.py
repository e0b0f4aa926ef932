"""A limit of single domains, as an item of `search.limits`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveFloat, model_validator

from climb.config.section import Section
from climb.errors import MixtureError
from climb.limits import Limit


class LimitConfig(Section):
    """A limit on one domain or on a named group of them; `climb.limits.Limit` has the rules.

    The one section with defaults: what an item leaves out it does not limit.
    """

    name: str
    """For messages; each limit has its own."""

    domains: tuple[str, ...] = Field(min_length=1)
    """Names of domains, or patterns such as `code*`."""

    min_weight: float = Field(default=0.0, ge=0.0, le=1.0)
    """Least total weight of these domains. Groups that share a domain are refused."""

    max_weight: float = Field(default=1.0, ge=0.0, le=1.0)
    """Largest total weight of these domains."""

    max_epochs: PositiveFloat | None = None
    """How often the target run may repeat the tokens of each of these domains, in place of
    `search.max_epochs`; null leaves that as it is."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        try:
            Limit(**self.model_dump())
        except MixtureError as error:
            raise ValueError(str(error)) from error
        return self
