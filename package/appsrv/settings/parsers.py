"""Parsers: each turns the text or TOML value of a setting into the value that the code uses.

A parser takes the text of a flag or variable, or the native value of a TOML file. It raises `ValueError` with a message
that begins with "expected". It knows neither the source of the value nor the setting. Values with relative paths need
a `Kind` (module `kinds`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

Parser = Callable[[object], object]

AUTO = -1
"""The value of a setting given as `auto`. It is negative, so no such setting may have negative values of its own."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_SIZE = re.compile(r"(\d+)\s*(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def text(value: object) -> str:
    """Text that is not blank, without NUL characters; whitespace around it is removed."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected some text")
    if "\0" in value:
        raise ValueError("expected text without a NUL character")
    return value.strip()


def boolean(value: object) -> bool:
    """A boolean of TOML, or one of the words true, yes, on, 1, false, no, off, 0 in any case."""
    if isinstance(value, bool):
        return value
    plain = value.strip().lower() if isinstance(value, str) else ""
    if plain in _TRUE | _FALSE:
        return plain in _TRUE
    raise ValueError("expected true or false")


def integer(minimum: int, maximum: int | None = None) -> Callable[[object], int]:
    """A parser of whole numbers from `minimum` to `maximum` (None: no upper bound)."""
    limits = f"{minimum} or more" if maximum is None else f"{minimum} to {maximum}"

    def parse(value: object) -> int:
        number = _whole(value)
        if number is None or number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"expected a whole number, {limits}")
        return number

    return parse


def automatic(parse: Callable[[object], int]) -> Callable[[object], int]:
    """A parser that also accepts `auto`, for which it returns AUTO."""

    def parse_or_auto(value: object) -> int:
        if value == AUTO or (isinstance(value, str) and value.strip().lower() == "auto"):
            return AUTO
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"{error}, or auto") from None

    return parse_or_auto


def _whole(value: object) -> int | None:
    # Python's `bool` is an `int`, so booleans are excluded. Eighteen digits fit into 64 bits.
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
    """A parser of sizes from `minimum` to `maximum` bytes."""

    def parse(value: object) -> int:
        number = size(value)
        if not minimum <= number <= maximum:
            raise ValueError(f"expected a number of bytes (or 512K, 64M, 1G), {minimum} to {maximum}")
        return number

    return parse


def listing(parse: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """A parser of several values: an array, a repeated flag, or one text with commas; `off` is the empty list."""

    def parse_all(value: object) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise ValueError("expected a list")
        if [part.strip().lower() for part in parts if isinstance(part, str)] == ["off"]:
            return ()
        return tuple(parse(part) for part in parts)

    return parse_all


def proxies(value: object) -> tuple[str, ...]:
    """Trusted proxies: addresses, networks (`10.0.0.0/8`), `*` and `unix`, with commas; `off` is the empty list."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("expected a list")
    return listing(_proxy)([word for part in parts for word in _words(part) if word])


def _words(value: object) -> list[str]:
    return [word.strip() for word in text(value).split(",")]


def _proxy(value: object) -> str:
    # Imported here, because most starts parse no address and the module costs start-up time.
    import ipaddress

    plain = text(value).lower()
    if plain in ("*", "unix"):
        return plain
    try:
        # A zone id (RFC 4007 section 11) names an interface of this machine. It is no part of a proxy's address.
        if "%" in plain:
            raise ValueError("a zone")
        return str(ipaddress.ip_network(plain) if "/" in plain else ipaddress.ip_address(plain))
    except ValueError as error:
        reason = f" ({error})" if "host bits" in str(error) else ""
        raise ValueError(f"expected addresses, networks (10.0.0.0/8), * or unix{reason}") from None


def mount(value: object) -> str:
    """A URL prefix and its directory, `/prefix/=DIR`; a missing slash at the end of the prefix is added."""
    prefix, equals, directory = text(value).partition("=")
    prefix = prefix.strip().rstrip("/") + "/"
    if not equals or not directory.strip() or not re.fullmatch(r"/[!-~]*", prefix) or "//" in prefix:
        raise ValueError("expected /PREFIX/=DIRECTORY")
    return f"{prefix}={os.path.expanduser(directory.strip())}"


def choice(*options: str) -> Callable[[object], str]:
    """A parser that accepts one of `options`, in any case."""

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
    """Three octal digits as text. A TOML number is rejected, because TOML would read 660 as decimal."""
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
    """The value of a Host header: a name or an address, with or without a port (RFC 9110 section 7.2)."""
    plain = text(value)
    if not re.fullmatch(r"[A-Za-z0-9._~%!$&'()*+,;=-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?", plain):
        raise ValueError("expected a host, such as shop.example or shop.example:8000")
    return plain


def host_pattern(value: object) -> str:
    """A host, or `*.` and a host for all hosts below it; in lower case."""
    plain = text(value).lower().rstrip(".")
    if not re.fullmatch(r"(\*\.)?[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]", plain):
        raise ValueError("expected a host such as shop.example or *.shop.example, without a port")
    return plain


hosts = listing(host_pattern)


def base_uri(value: object) -> str:
    """The path below which an application is mounted, such as `/shop`; the root `/` becomes `""`."""
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
    """A path, in the decoded form of PATH_INFO, that appsrv answers in place of the application: `/-/healthy`."""
    plain = text(value)
    if not re.fullmatch(r"/(?!/)[!-~]+", plain) or set(plain) & set("?#%"):
        raise ValueError("expected a path below /, without a query and percent signs, such as /-/healthy")
    return plain
