"""What becomes of the directives: settings of appsrv, and remarks for those without a counterpart.

Pure data, and the rules where two directives meet. It does not know the servers and writes no TOML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from appsrv.commands.importing.masking import masked
from appsrv.settings.row import SettingRow
from appsrv.settings.sources import PLATFORM_VARIABLES
from appsrv.settings.table import ROWS

ROW: dict[str, SettingRow] = {row.name: row for row in ROWS}
# appsrv takes these variables of hosting platforms itself where no file has the setting.
PLATFORM: dict[str, str] = {name: variable for variable, name in PLATFORM_VARIABLES.items()}


@dataclass(frozen=True)
class Assigned:
    """A setting of appsrv and its value, as it is written in appsrv.toml."""

    key: str
    value: object


@dataclass(frozen=True)
class Listen:
    """Where to listen. An instance has one such place, so the first one counts."""

    settings: tuple[Assigned, ...]


@dataclass(frozen=True)
class Remark:
    """A comment: why there is no counterpart, and what to do."""

    text: str


Item = Assigned | Listen | Remark
Items = Sequence[Item]


@dataclass(frozen=True)
class Converted:
    """What one directive has become. `shown` and `place` are those of the directive."""

    place: str
    shown: str
    items: tuple[Item, ...] = ()
    variables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A whole source. `directory`: where the application lives, if the source names it.

    `defaults`: remarks about defaults of the other server that appsrv does not share. `warnings`: what the user has to
    know before anything else.
    """

    server: str
    entries: tuple[Converted, ...] = ()
    directory: str | None = None
    defaults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def settled(entries: Sequence[Converted]) -> list[Converted]:
    """The entries with each setting given once, and no two that exclude each other."""
    entries = [_without_secrets(entry) for entry in entries]
    entries = _one_place_to_listen(entries)
    entries = [_by_variables(entry) for entry in entries]
    entries = _lists_joined(entries)
    entries = _last_one_counts(entries)
    entries = _for_start_command(entries)
    return _no_group_alone(entries)


def assigned(entries: Sequence[Converted]) -> list[Assigned]:
    """All settings of these entries."""
    return [item for entry in entries for item in entry.items if isinstance(item, Assigned)]


def _without_secrets(entry: Converted) -> Converted:
    def safe(item: Item) -> Item:
        if isinstance(item, Assigned) and isinstance(item.value, str) and masked(item.value) != item.value:
            return Remark(
                f"The counterpart is {item.key} = {masked(item.value)!r}, which holds a secret: put the secret into "
                "the file .env beside the application (mode 600), and refer to its variable."
            )
        return item

    return replace(entry, items=tuple(safe(item) for item in entry.items))


def _one_place_to_listen(entries: Sequence[Converted]) -> list[Converted]:
    taken = False
    result = []
    for entry in entries:
        items: list[Item] = []
        for item in entry.items:
            if not isinstance(item, Listen):
                items.append(item)
            elif not taken:
                taken = True
                items += item.settings
            else:
                shown = " and ".join(f"{one.key} = {one.value}" for one in item.settings)
                items.append(Remark(
                    f"Not taken over: {shown}. appsrv listens in one place, the one above, and with ssl_port in a "
                    "second one. For more, let systemd hold the sockets (docs/operations.md, Socket activation), or "
                    "put a web server in front (appsrv config nginx)."
                ))  # fmt: skip
        result.append(replace(entry, items=tuple(items)))
    return result


def _by_variables(entry: Converted) -> Converted:
    """Mention the variables on which a value depends; a variable that appsrv takes itself must not be overridden."""
    if not entry.variables:
        return entry
    settings = [item for item in entry.items if isinstance(item, Assigned)]
    platform = [item for item in settings if PLATFORM.get(item.key) in entry.variables]
    items: list[Item] = [item for item in entry.items if item not in platform]
    items += [Remark(taken_by_itself(item)) for item in platform]
    others = [name for name in entry.variables if name not in [PLATFORM[item.key] for item in platform]]
    if settings and others:
        names = " and ".join(f"${name}" for name in others)
        own = " and ".join(f"${ROW[item.key].variable}" for item in platform or settings)
        items.append(Remark(
            f"That is the value without {names}, which appsrv does not read. To override it for one start, set {own}."
        ))  # fmt: skip
    return replace(entry, items=tuple(items))


def taken_by_itself(item: Assigned) -> str:
    """The remark for a setting that appsrv takes from a variable of the platform; its value is that without it."""
    hint = f" For starts without the variable: {item.key} = {item.value}." if item.value not in (None, "") else ""
    return (
        f"appsrv takes ${PLATFORM[item.key]} by itself, as long as no file has {item.key}, so {item.key} is left out."
        f"{hint}"
    )


def _lists_joined(entries: Sequence[Converted]) -> list[Converted]:
    """Settings that are lists, given several times, become one in the first place."""
    every: dict[str, list[object]] = {}
    for item in assigned(entries):
        if ROW[item.key].several and isinstance(item.value, list):
            every.setdefault(item.key, []).extend(one for one in item.value if one not in every.get(item.key, []))
    seen: set[str] = set()

    def joined(item: Item) -> Item:
        if not isinstance(item, Assigned) or item.key not in every:
            return item
        if item.key in seen:
            return Remark(f"Part of {item.key} above.")
        seen.add(item.key)
        return Assigned(item.key, every[item.key])

    return [replace(entry, items=tuple(joined(item) for item in entry.items)) for entry in entries]


def _last_one_counts(entries: Sequence[Converted]) -> list[Converted]:
    left = {item.key: 0 for item in assigned(entries)}
    for item in assigned(entries):
        left[item.key] += 1

    def checked(item: Item) -> Item:
        if not isinstance(item, Assigned):
            return item
        left[item.key] -= 1
        return item if left[item.key] == 0 else Remark(f"Sets {item.key}, which is set again below; that counts.")

    return [replace(entry, items=tuple(checked(item) for item in entry.items)) for entry in entries]


def _for_start_command(entries: Sequence[Converted]) -> list[Converted]:
    """Beside a `start_command`, settings for Python applications are errors."""
    if not any(item.key == "start_command" for item in assigned(entries)):
        return list(entries)

    def kept(item: Item) -> Item:
        if isinstance(item, Assigned) and (ROW[item.key].python_only or item.key == "app"):
            return Remark(f"{item.key} = {item.value!r} is of no use with the start_command of an application.")
        return item

    return [replace(entry, items=tuple(kept(item) for item in entry.items)) for entry in entries]


def _no_group_alone(entries: Sequence[Converted]) -> list[Converted]:
    """A `group` without a `user` keeps appsrv from starting."""
    if any(item.key == "user" for item in assigned(entries)):
        return list(entries)

    def kept(item: Item) -> Item:
        if isinstance(item, Assigned) and item.key == "group":
            return Remark(f"group = {item.value!r} needs a user beside it; the group of a socket is socket_group.")
        return item

    return [replace(entry, items=tuple(kept(item) for item in entry.items)) for entry in entries]
