"""An application group: one application of an instance, its settings and what its processes are told. Data only.

Passenger's word: all workers of one application that are one pool, with one preloader, one queue and one log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appsrv.apps.app_spec import AppSpec
from appsrv.settings.table import Settings


@dataclass(frozen=True)
class AppGroup:
    """`name` is what commands, titles and the log call it; `variables` are added to its processes' environment."""

    spec: AppSpec
    settings: Settings
    name: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def alone(cls, spec: AppSpec, settings: Settings) -> AppGroup:
        """That of the only application of an instance."""
        return cls(spec, settings, spec.name)

    @property
    def app(self) -> str:
        """What is served, in the words of the command line."""
        return self.spec.shown

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for another process of this instance: `from_json` makes an equal object of it."""
        parts = {"spec": self.spec.to_json(), "settings": self.settings.to_json()}
        return {**parts, "name": self.name, "variables": dict(self.variables)}

    @classmethod
    def from_json(cls, parts: Mapping[str, Any]) -> AppGroup:
        spec, settings = AppSpec.from_json(parts["spec"]), Settings.from_json(parts["settings"])
        return cls(spec, settings, parts["name"], parts["variables"])
