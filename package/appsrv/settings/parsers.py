"""What a person writes for a setting, turned into the value the code works with.

A parser takes the text of a flag or variable, or the native value of a TOML file, and raises ValueError with the words
"expected ...". A `Kind` is a parser and a function that makes relative paths in its result absolute. It does not know
where the value came from or which setting it is for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Parser = Callable[[object], object]

AUTO = -1
"""A number that is to be found out; no setting that can be automatic may be negative."""

NO_FILE = os.devnull
"""The value of `pid_file` and `log_file` for no file."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_SIZE = re.compile(r"(\d+)\s*(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def text(value: object) -> str:
    """Some text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected some text")
    if "\0" in value:
        raise ValueError("expected text without a NUL character")
    return value.strip()


def boolean(value: object) -> bool:
    """`true` and `false`, and what people write for them in variables."""
    if isinstance(value, bool):
        return value
    plain = value.strip().lower() if isinstance(value, str) else ""
    if plain in _TRUE | _FALSE:
        return plain in _TRUE
    raise ValueError("expected true or false")


def integer(minimum: int, maximum: int | None = None) -> Callable[[object], int]:
    """A parser of whole numbers of `minimum` to `maximum` (None: no upper bound)."""
    limits = f"{minimum} or more" if maximum is None else f"{minimum} to {maximum}"

    def parse(value: object) -> int:
        number = _whole(value)
        if number is None or number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"expected a whole number, {limits}")
        return number

    return parse


def automatic(parse: Callable[[object], int]) -> Callable[[object], int]:
    """A parser that also takes `auto`, which it gives as AUTO."""

    def parse_or_auto(value: object) -> int:
        if value == AUTO or (isinstance(value, str) and value.strip().lower() == "auto"):
            return AUTO
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"{error}, or auto") from None

    return parse_or_auto


def _whole(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def seconds(minimum: float = 0.0) -> Callable[[object], float]:
    """A parser of durations: a number of seconds, or `90s`, `5m`, `1h30m`."""

    def parse(value: object) -> float:
        number = _duration(value)
        if number is None or not minimum <= number <= 10**9:
            raise ValueError(f"expected a number of seconds (or 90s, 5m, 1h30m), {minimum:g} or more")
        return number

    return parse


def _duration(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    plain = value.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", plain):
        return float(plain)
    parts = _DURATION.fullmatch(plain) if plain else None
    return None if parts is None else _add_up(*parts.groups())


def _add_up(hours: str | None, minutes: str | None, rest: str | None) -> float:
    return int(hours or 0) * 3600.0 + int(minutes or 0) * 60.0 + float(rest or 0)


def size(value: object) -> int:
    """A number of bytes: a whole number, or `512K`, `64M`, `1G` (powers of 1024)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    parts = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if parts is None:
        raise ValueError("expected a number of bytes (or 512K, 64M, 1G)")
    return int(parts[1]) * _UNITS[(parts[2] or "").lower()]


def size_between(minimum: int, maximum: int) -> Callable[[object], int]:
    """A parser of sizes of `minimum` to `maximum` bytes."""

    def parse(value: object) -> int:
        number = size(value)
        if not minimum <= number <= maximum:
            raise ValueError(f"expected a number of bytes (or 512K, 64M, 1G), {minimum} to {maximum}")
        return number

    return parse


def listing(parse: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """A parser of several values: an array, a repeated flag, or one text with commas between them; `off` is none."""

    def parse_all(value: object) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise ValueError("expected a list")
        if [part.strip().lower() for part in parts if isinstance(part, str)] == ["off"]:
            return ()
        return tuple(parse(part) for part in parts)

    return parse_all


def proxies(value: object) -> tuple[str, ...]:
    """Proxies to trust, with commas between them: addresses, networks (`10.0.0.0/8`), `*`, `unix`; `off` is nobody."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("expected a list")
    return listing(_proxy)([word for part in parts for word in _words(part) if word])


def _words(value: object) -> list[str]:
    return [word.strip() for word in text(value).split(",")]


def _proxy(value: object) -> str:
    # Not above: most starts read no address from text.
    import ipaddress

    plain = text(value).lower()
    if plain in ("*", "unix"):
        return plain
    try:
        if "%" in plain:
            raise ValueError("a zone")
        return str(ipaddress.ip_network(plain) if "/" in plain else ipaddress.ip_address(plain))
    except ValueError as error:
        reason = f" ({error})" if "host bits" in str(error) else ""
        raise ValueError(f"expected addresses, networks (10.0.0.0/8), * or unix{reason}") from None


def mount(value: object) -> str:
    """A place in the URL space and the directory behind it, `/prefix/=DIR`; the prefix gets its last slash."""
    prefix, equals, directory = text(value).partition("=")
    prefix = prefix.strip().rstrip("/") + "/"
    if not equals or not directory.strip() or not re.fullmatch(r"/[!-~]*", prefix) or "//" in prefix:
        raise ValueError("expected /PREFIX/=DIRECTORY")
    return f"{prefix}={os.path.expanduser(directory.strip())}"


def choice(*options: str) -> Callable[[object], str]:
    """A parser that takes one of `options`, in any case."""

    def parse(value: object) -> str:
        lowered = value.strip().lower() if isinstance(value, str) else ""
        if lowered not in options:
            raise ValueError(f"expected {one_of(options)}")
        return lowered

    return parse


def one_of(options: Sequence[str]) -> str:
    """`a, b or c`."""
    *first, last = options
    return f"{', '.join(first)} or {last}" if first else last


def file_mode(value: object) -> str:
    """Octal digits. A number of TOML would leave open whether it is octal."""
    if not isinstance(value, str) or re.fullmatch(r"0?[0-7]{3}", value) is None:
        raise ValueError('expected three octal digits in quotes, such as "660"')
    return value[-3:]


def host(value: object) -> str:
    """A host name or IP address, or `*`; the brackets of `[::1]` are dropped, and `0` is 0.0.0.0."""
    plain = text(value)
    if plain.startswith("[") and plain.endswith("]"):
        plain = plain[1:-1]
    if not re.fullmatch(r"[0-9A-Za-z_.:%-]+|\*", plain):
        raise ValueError("expected a host name, an IP address or *")
    return "0.0.0.0" if plain == "0" else plain


def host_header(value: object) -> str:
    """What a Host header may hold: a name or an address, with or without a port (RFC 9110 section 7.2)."""
    plain = text(value)
    if not re.fullmatch(r"[A-Za-z0-9._~%!$&'()*+,;=-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?", plain):
        raise ValueError("expected a host, such as shop.example or shop.example:8000")
    return plain


def host_pattern(value: object) -> str:
    """A host, or `*.` and one, for all hosts below it; in lower case."""
    plain = text(value).lower().rstrip(".")
    if not re.fullmatch(r"(\*\.)?[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]", plain):
        raise ValueError("expected a host such as shop.example or *.shop.example, without a port")
    return plain


hosts = listing(host_pattern)


def base_uri(value: object) -> str:
    """The path below which an application is, such as `/shop`; `/` is the root, `""`."""
    plain = "" if value == "" else text(value).rstrip("/")
    if plain and not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", plain):
        raise ValueError("expected a path such as /shop, of letters, digits and . _ ~ -")
    return plain


def url_path(value: object) -> str:
    """The path of a request, such as `/health?full=1`."""
    plain = text(value)
    if not re.fullmatch(r"/[!-~]*", plain):
        raise ValueError("expected the path of a request, starting with /")
    return plain


def probe_path(value: object) -> str:
    """A path that is taken away from the application, as it stands in the environ: `/-/healthy`."""
    plain = text(value)
    if not re.fullmatch(r"/(?!/)[!-~]+", plain) or set(plain) & set("?#%"):
        raise ValueError("expected a path below /, without a query and percent signs, such as /-/healthy")
    return plain


# -- kinds of values ---------------------------------------------------------------------------------------------------


def _unchanged(value: Any, _base: Path) -> object:
    return value


@dataclass(frozen=True)
class Kind:
    """`parse` reads what a person writes; `absolute` resolves relative paths in the result against a directory."""

    parse: Parser
    absolute: Callable[[Any, Path], object] = _unchanged


def _path(value: object) -> str:
    """The name of a file; `~` is the home directory."""
    return os.path.expanduser(text(value))


def _file_or_none(value: object) -> str:
    plain = text(value)
    return NO_FILE if plain.lower() == "none" else _path(plain)


def _log_target(value: object) -> str:
    plain = text(value)
    return plain.lower() if plain.lower() in ("-", "off") else _path(plain)


def _absolute_path(value: str, base: Path) -> str:
    return os.path.abspath(base / value)


def _absolute_log_target(value: str, base: Path) -> str:
    return value if value in ("-", "off") else _absolute_path(value, base)


def _absolute_paths(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    return tuple(_absolute_path(path, base) for path in value)


def _absolute_mounts(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    pairs = (mount.split("=", 1) for mount in value)
    return tuple(f"{prefix}={_absolute_path(directory, base)}" for prefix, directory in pairs)


PATH = Kind(_path, _absolute_path)
"""A file or directory."""

FILE_OR_NONE = Kind(_file_or_none, _absolute_path)
"""A file, or `none`, which is NO_FILE."""

LOG_TARGET = Kind(_log_target, _absolute_log_target)
"""A file, `-` for the server log, or `off`."""

PATHS = Kind(listing(_path), _absolute_paths)
"""Several files or directories."""

MOUNTS = Kind(listing(mount), _absolute_mounts)
"""Several places in the URL space, each with the directory behind it."""
