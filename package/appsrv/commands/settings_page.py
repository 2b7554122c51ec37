"""Makes docs/settings.md from the table of settings: `python -m appsrv.commands.settings_page > docs/settings.md`.

It knows the rows and Markdown, neither the values nor their sources.
"""

from __future__ import annotations

import sys

from appsrv.settings.row import SettingRow
from appsrv.settings.table import ROWS

_HEAD = """\
# Settings

<!-- Made from package/appsrv/settings/table.py: python -m appsrv.commands.settings_page > docs/settings.md -->

Each setting can be given in four places. A later place in this list wins:

1. `[tool.appsrv]` in the project's `pyproject.toml`
2. `appsrv.toml` beside it, with the keys at its top level
3. a variable in the environment; a blank value counts as not set
4. a flag of `appsrv start`

Keys may be written `max_pool_size` or `max-pool-size`. A relative path in a file is relative to the directory of the
file; in a variable or flag, to the current directory. An unknown key or an invalid value is an error (exit code 2), and
appsrv does not start. Times are seconds, or `90s`, `5m`, `1h30m`; sizes are bytes, or `512K`, `64M`, `1G`. A list is an
array in a file, a flag given several times, or in a variable its members with commas between them.

Three common variables of hosting platforms and other servers are used as defaults: `$PORT` (then appsrv listens on
0.0.0.0), `$WEB_CONCURRENCY` (for `max_pool_size`) and `$FORWARDED_ALLOW_IPS`. `socket` excludes `address` and `port`;
if they are given in different places, the later place wins.

If an instance serves several applications, the settings marked with `[[apps]]` may differ between them. Such a setting
can be in an entry of `[[apps]]` and in the files of the application itself. See [hosting.md](hosting.md).
"""


def page() -> str:
    """The complete text of docs/settings.md."""
    parts = [_HEAD]
    for group in dict.fromkeys(row.group for row in ROWS):
        parts.append(f"## {group}\n")
        parts += [_paragraph(row) for row in ROWS if row.group == group]
    return "\n".join(parts)


def _paragraph(row: SettingRow) -> str:
    names = f"key `{row.name}`" if row.key_only else f"`{_usage(row)}` · `{row.variable}` · key `{row.name}`"
    if row.per_app:
        names += " · `[[apps]]`"
    return f"### {row.name}\n\n{names}\n\n{row.help}\n\nDefault: {row.default_text}\n"


def _usage(row: SettingRow) -> str:
    flags = ", ".join(flag for flag in (row.flag, row.long_flag) if flag)
    return f"{flags} {row.metavar}".strip()


if __name__ == "__main__":
    sys.stdout.write(page())
