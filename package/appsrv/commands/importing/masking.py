"""Hides secrets in text that is printed: passwords, tokens, keys.

Pure. It knows names and forms that secrets commonly have, and no program.
"""

from __future__ import annotations

import re

HIDDEN = "***"
# Longer texts are cut: the patterns take quadratic time.
MOST_CHARACTERS = 2000

_WORD = (
    r"(?:secret|passw(?:or)?d|passphrase|passwd|pwd|token|api_?key|access_?key|private_?key|credential|dsn|salt|auth)"
)
# `auth` counts at the end only: an author and AUTH_USER_MODEL are no secrets.
_SECRET_NAME = re.compile(rf"(?i){_WORD.replace('|auth)', ')')}|auth(?:orization)?$|(?:^|_)(?:pass|key)$")
# A certificate's or key's path is no secret, and neither is a module's.
_HARMLESS_NAME = re.compile(
    r"(?i)(?:_file|_path|_dir|_class|_module|keyfile|_backend|_url_name|(?:ssl|certificate)_key)$"
)
_PEM = re.compile(r"-----BEGIN .*", re.DOTALL)
_IN_URL = re.compile(r"(?<=://)([^\s/:@'\"]*):([^\s/@'\"]+)(?=@)")
# NAME=value, "name": "value", --name value, name = value. A value without quotes ends at whitespace: passwords contain
# every other character.
_VALUE = r"""(?P<value>"[^"]*"|'[^']*'|(?:\\.|\S)+)"""
_PAIR = re.compile(
    rf"""(?i)(?P<name>[\w.-]*{_WORD}[\w.-]*)(?P<between>["']?\s*[=:]\s*|["']?,\s*(?=["'])|\s+(?=[^\s-])){_VALUE}"""
)
# "NAME=value": the value ends where the quotes do.
_QUOTED_PAIR = re.compile(
    r"""(?P<quote>["'])(?P<name>[\w.-]+)(?P<between>=)(?P<value>(?:(?!(?P=quote)).)*)""", re.DOTALL
)
_KEY_PAIR = re.compile(rf"""(?P<name>\b[\w.-]*_(?i:pass|key))(?P<between>["']?\s*[=:]\s*){_VALUE}""")


def is_secret_name(name: str) -> bool:
    """Whether a variable or option of this name usually holds a secret."""
    plain = name.replace("-", "_")
    return bool(_SECRET_NAME.search(plain)) and not _HARMLESS_NAME.search(plain)


def holds_secret(name: str, value: str) -> bool:
    """Whether the value of the variable `name` is a secret, by its name or its form."""
    return bool(value) and (is_secret_name(name) or masked(value) != value)


def masked(text: str) -> str:
    """The text with what looks like a secret replaced."""
    text = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."
    text = _PEM.sub(HIDDEN, text)
    text = _IN_URL.sub(lambda found: f"{found[1]}:{HIDDEN}", text)
    for pattern in (_QUOTED_PAIR, _PAIR, _KEY_PAIR):
        text = pattern.sub(_without_value, text)
    return text


def _without_value(found: re.Match[str]) -> str:
    if not is_secret_name(found["name"]) or found["value"].strip("\"'").startswith(HIDDEN):
        return found[0]
    # A word after a space is a value only after a flag: "the token bucket" is plain English.
    if not found["between"].strip("\"' ") and not found["name"].startswith("-"):
        return found[0]
    quote = found.groupdict().get("quote", "")
    return f"{quote}{found['name']}{found['between']}{HIDDEN}"
