"""The output of `appsrv config logrotate`: the rotation of a project's logs. Pure: makes text from a `Deployment`."""

from __future__ import annotations

import re

from appsrv.commands.config.deployment import Deployment, fill
from appsrv.errors import SettingsError

TEMPLATE = """
# The logs of {{name}}, printed by `appsrv config logrotate`: /etc/logrotate.d/{{name}}
{{logs}}
{
    weekly
    rotate 8
    missingok
    notifempty
    compress
    # appsrv notices that its log was moved away and opens a new one; until then it writes on into the old one, which
    # therefore is compressed the next time.
    delaycompress
    nocreate
    {{su}}
}
"""


def render(deployment: Deployment) -> str:
    """The configuration. Raises `SettingsError` if there is no file to rotate, or its name cannot be written."""
    settings = deployment.settings
    named = (deployment.log_file, settings.access_log, *deployment.app_logs)
    files = [path for path in named if path and _is_file(path)]
    if not files:
        raise SettingsError("there is no log to rotate: log_file and access_log name no files")
    user = settings.user or deployment.owner
    group = settings.group or deployment.group
    return fill(TEMPLATE, {
        "name": deployment.name,
        "logs": "\n".join(dict.fromkeys(_pattern(path) for path in files)),
        "su": "" if user == "root" else f"# logrotate(8): the directory is not root's alone.\nsu {user} {group}",
    })  # fmt: skip


def _is_file(path: str) -> bool:
    return path not in ("-", "off") and not path.startswith("/dev/")


def _pattern(path: str) -> str:
    """A path as a pattern of logrotate, with the special characters of glob(7) escaped."""
    if any(ord(letter) < 32 for letter in path):
        raise SettingsError(f"{path!r} cannot be written into this configuration: it has a control character in it")
    escaped = re.sub(r"([\\*?\[\]{}])", r"\\\1", path).replace('"', '\\"')
    return f'"{escaped}"'
