"""An application group: one application of an instance, with its settings and environment variables. Data only.

The term is Passenger's. The workers of a group form one pool, with one preloader, one request queue and one log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appsrv.apps.app_spec import AppSpec
from appsrv.settings.table import Settings


@dataclass(frozen=True)
class AppGroup:
    """`name`: its name in commands, process titles and the log. `variables`: added to its processes' environment."""

    spec: AppSpec
    settings: Settings
    name: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def alone(cls, spec: AppSpec, settings: Settings) -> AppGroup:
        """The group of the only application of an instance."""
        return cls(spec, settings, spec.name)

    @property
    def app(self) -> str:
        """The application in the words of the command line."""
        return self.spec.shown

    def to_json(self) -> dict[str, Any]:
        """A JSON object for another process of this instance; `from_json` makes an equal object of it."""
        parts = {"spec": self.spec.to_json(), "settings": self.settings.to_json()}
        return {**parts, "name": self.name, "variables": dict(self.variables)}

    @classmethod
    def from_json(cls, parts: Mapping[str, Any]) -> AppGroup:
        spec, settings = AppSpec.from_json(parts["spec"]), Settings.from_json(parts["settings"])
        return cls(spec, settings, parts["name"], parts["variables"])
