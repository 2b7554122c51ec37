"""Tests whether a project's dependency files name appsrv. It only reads files and knows no framework.

`runserver` and `flask run` use appsrv only for a project that names it: an installed package alone is no consent of
the project. Every start of these commands runs this test, so it imports no modules but `os` and `re`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

NAME = "appsrv"

MAX_FILE_BYTES = 8 * 1024 * 1024
"""Larger files are not read. Lock files of big projects reach about 1 MiB."""

VCS_DIRECTORIES = (".git", ".hg", ".svn", ".bzr", ".jj")

Reader = Callable[[str, str], set[str]]
"""(text, path of the file) -> the normalised names that the file declares."""


def names_appsrv(directory: str) -> bool:
    """Whether a dependency file of the project around `directory` names appsrv."""
    return naming_file(directory) is not None


def naming_file(directory: str) -> str | None:
    """The path of the dependency file that names appsrv, or None.

    The search goes from `directory` up to the root of its version control; without version control, one directory
    further up. Lock files also list indirect dependencies, so they are used only if no file declares dependencies
    directly.
    """
    directories = list(search_path(os.path.abspath(directory)))
    declared = [entry for place in directories for entry in declaring_files(place)]
    return first_naming(declared) if declared else first_naming(locks_in(directories))


def search_path(directory: str) -> Iterator[str]:
    """The directories to search, the nearest first. The home directory and / are not projects."""
    ancestors = list(_ancestors(directory))
    roots = [index for index, place in enumerate(ancestors) if _is_vcs_root(place)]
    last = roots[0] if roots else 1
    yield directory
    for place in ancestors[1 : last + 1]:
        if place not in (os.path.expanduser("~"), os.path.dirname(place)):
            yield place


def _ancestors(directory: str) -> Iterator[str]:
    while True:
        yield directory
        parent = os.path.dirname(directory)
        if parent == directory:
            return
        directory = parent


def _is_vcs_root(directory: str) -> bool:
    return any(os.path.exists(os.path.join(directory, name)) for name in VCS_DIRECTORIES)


def first_naming(files: list[tuple[str, Reader]]) -> str | None:
    """The first file in which its reader finds appsrv."""
    for path, reader in files:
        text = read(path)
        if (contains_name(text) or _REQUIREMENT_INCLUDE.search(text)) and NAME in reader(text, path):
            return path
    return None


def contains_name(text: str) -> bool:
    """Whether the text contains the word at all. This test is cheap, and excludes most files without a parser."""
    return NAME in text.lower()


def read(path: str) -> str:
    """The text of a file; empty if it cannot be read or is larger than `MAX_FILE_BYTES`."""
    try:
        if os.path.getsize(path) > MAX_FILE_BYTES:
            return ""
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def declaring_files(directory: str) -> Iterator[tuple[str, Reader]]:
    """The files of one directory that declare dependencies, as opposed to lock files; each with its reader."""
    for name in _listing(directory):
        path = os.path.join(directory, name)
        if name == "requirements" and os.path.isdir(path):
            yield from _requirement_files(path, _listing(path))
        elif reader := DECLARING.get(name):
            yield path, reader
    yield from _requirement_files(directory, _listing(directory), "requirements")


def _requirement_files(directory: str, names: list[str], prefix: str = "") -> Iterator[tuple[str, Reader]]:
    for name in names:
        if name.endswith((".txt", ".in")) and name.startswith(prefix):
            yield os.path.join(directory, name), requirements_names


def locks_in(directories: list[str]) -> list[tuple[str, Reader]]:
    """The lock files of these directories."""
    paths = (os.path.join(directory, name) for directory in directories for name in LOCKS)
    return [(path, lock_names) for path in paths if os.path.isfile(path)]


def _listing(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


# -- names ---------------------------------------------------------------------------------------------------


def normalise(name: str) -> str:
    """The normalised name of a distribution (PEP 503): equal for all its spellings."""
    return re.sub(r"[-_.]+", "-", name).lower()


# PEP 508: the name at the beginning, before an extra, a version, a marker, a URL or the end.
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:$|[\[<>=!~;@(,\s])")
# A URL or path of pip that names the distribution: `...#egg=NAME`, or a file such as NAME-1.0-py3-none-any.whl.
_EGG = re.compile(r"#(?:.*&)?egg=([A-Za-z0-9._-]+)")
_WHEEL = re.compile(r"(?:^|[/\\])([A-Za-z0-9._]+)-[0-9][^/\\]*\.(?:whl|tar\.gz|zip)(?:$|[#;\s])")
# The last part of a repository's URL or of a directory, without `.git`, `@revision`, extras and a fragment.
_LAST_PART = re.compile(r"[/\\]([A-Za-z0-9._-]+?)(?:\.git)?(?:@[^/\\@]*)?(?:\[[^\]]*\])?\s*(?:[#;].*)?$")


def requirement_name(requirement: str) -> str | None:
    """The name in one PEP 508 requirement, or in a URL or path that pip accepts; None if there is none.

    Without a name in it, a repository or directory has the name of its last part (`.../appsrv.git@main`).
    """
    for pattern in (_EGG, _WHEEL, _REQUIREMENT, _LAST_PART):
        found = pattern.match(requirement) if pattern is _REQUIREMENT else pattern.search(requirement)
        if found:
            return normalise(found[1])
    return None


def _requirement_names(requirements: list[str]) -> set[str]:
    names = (requirement_name(requirement) for requirement in requirements)
    return {name for name in names if name}


# -- requirements files --------------------------------------------------------------------------------------

_REQUIREMENT_INCLUDE = re.compile(r"^\s*(?:-r|--requirement)[\s=]*(\S.*?)\s*$", re.MULTILINE)
_EDITABLE = re.compile(r"^\s*(?:-e|--editable)[\s=]*")
_COMMENT = re.compile(r"(?:^|\s)#.*$")


def requirements_names(text: str, path: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Names in a requirements file of pip and in the files that it includes with -r; constraints (-c) do not count."""
    names: set[str] = set()
    for line in text.replace("\\\n", " ").splitlines():
        line = _COMMENT.sub("", line)
        if include := _REQUIREMENT_INCLUDE.match(line):
            names |= _included_names(os.path.join(os.path.dirname(path), include[1]), seen | {path})
        elif name := requirement_name(_EDITABLE.sub("", line)):
            names.add(name)
    return names


def _included_names(path: str, seen: frozenset[str]) -> set[str]:
    path = os.path.normpath(path)
    return set() if path in seen else requirements_names(read(path), path, seen)


# -- pyproject.toml and Pipfile ------------------------------------------------------------------------------

Entry = tuple[tuple[str, ...], "str | None"]
"""(path of keys, a string found under it; None for the key itself)."""

_TOML_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r,]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<string>\"\"\"(?:\\.|[^\\])*?\"\"\"|'''.*?'''|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
      | (?P<open>[\[{]) | (?P<close>[\]}]) | (?P<equals>=) | (?P<dot>\.)
      | (?P<word>[^\s,\#"'\[\]{}=.]+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)

_DEPENDENCY_LISTS = (
    re.compile(r"project/dependencies"),
    re.compile(r"project/optional-dependencies/[^/]+"),
    re.compile(r"dependency-groups/[^/]+"),
    re.compile(r"tool/pdm/dev-dependencies/[^/]+"),
    re.compile(r"tool/uv/dev-dependencies"),
    re.compile(r"tool/hatch/envs/[^/]+/(?:extra-)?dependencies"),
)
_DEPENDENCY_TABLES = re.compile(
    r"(?:tool/poetry/(?:dev-)?dependencies|tool/poetry/group/[^/]+/dependencies|(?:dev-)?packages)/([^/]+)(?:/.*)?"
)


def toml_names(text: str, path: str) -> set[str]:
    """Names that a pyproject.toml (PEP 621, PEP 735, Poetry, PDM, uv, Hatch) or a Pipfile declares."""
    names: set[str] = set()
    for keys, value in toml_entries(text):
        place = "/".join(keys)
        if value is None and (table := _DEPENDENCY_TABLES.fullmatch(place)):
            names.add(normalise(table[1]))
        elif value is not None and any(pattern.fullmatch(place) for pattern in _DEPENDENCY_LISTS):
            names |= _requirement_names([value])
    return names


def toml_entries(text: str) -> Iterator[Entry]:
    """Every key of a TOML file and every string in its arrays, with the path of keys to it.

    This is a scanner instead of a parser, because Python 3.10 has no `tomllib` and only string values are needed. A
    malformed file yields the entries that the scanner recognizes.
    """
    table: tuple[str, ...] = ()
    for statement in _toml_statements(text):
        kinds = [kind for kind, _ in statement]
        if kinds[0] == "open":
            table = tuple(word for kind, word in statement if kind in ("word", "string"))
            yield table, None
        elif "equals" in kinds:
            split = kinds.index("equals")
            keys = table + tuple(word for kind, word in statement[:split] if kind in ("word", "string"))
            yield keys, None
            yield from _array_strings(keys, statement[split + 1 :])


def _array_strings(keys: tuple[str, ...], value: list[tuple[str, str]]) -> Iterator[Entry]:
    """The strings of an array. Strings in inline tables, such as {include-group = "test"}, are not dependencies."""
    braces = 0
    for kind, word in value:
        braces += {"{": 1, "}": -1}.get(word, 0) if kind in ("open", "close") else 0
        if kind == "string" and not braces:
            yield keys, word


def _toml_statements(text: str) -> Iterator[list[tuple[str, str]]]:
    """Token lists, one for each key/value pair or table header: a line, or more lines while brackets are open."""
    statement: list[tuple[str, str]] = []
    depth = 0
    for kind, word in _toml_tokens(text + "\n"):
        if kind == "newline":
            if statement and depth <= 0:
                yield statement
                statement, depth = [], 0
            continue
        depth += {"open": 1, "close": -1}.get(kind, 0)
        statement.append((kind, word))
    if statement:
        yield statement


def _toml_tokens(text: str) -> Iterator[tuple[str, str]]:
    for match in _TOML_TOKEN.finditer(text):
        kind, word = str(match.lastgroup), match[0]
        if kind == "string":
            quotes = 3 if word[:3] in ('"""', "'''") else 1
            yield kind, word[quotes:-quotes]
        elif kind != "skip":
            yield kind, word


# -- setup.cfg, conda's environment.yml, lock files ----------------------------------------------------------

_CFG_SECTION = re.compile(r"^\[([^\]]+)\]\s*$")
_CFG_KEY = re.compile(r"^([A-Za-z0-9_.-]+)\s*[=:]\s*(.*)$")
# An item of a YAML list, optionally with a channel in front: `- conda-forge::NAME=1.0`.
_CONDA_ENTRY = re.compile(r"""^\s*-\s*["']?(?:[\w.-]+::)?([^"'\s].*?)["']?\s*(?:\#.*)?$""", re.MULTILINE)
# `name = "NAME"` of the TOML lock files, or a key of Pipfile.lock, which is JSON indented by four spaces for each
# level.
_LOCKED = re.compile(r"""^(?:name\s*=\s*"([^"]+)"\s*|\s{8}"([^"]+)":\s*\{\s*)$""", re.MULTILINE)


def setup_cfg_names(text: str, path: str) -> set[str]:
    """Names in install_requires and extras_require of a setup.cfg."""
    section = key = ""
    names: set[str] = set()
    for line in text.splitlines():
        if header := _CFG_SECTION.match(line):
            section, key = header[1], ""
            continue
        value = line
        if pair := _CFG_KEY.match(line):
            key, value = pair[1], pair[2]
        if section == "options.extras_require" or (section, key) == ("options", "install_requires"):
            names |= _requirement_names([_COMMENT.sub("", value)])
    return names


def conda_names(text: str, path: str) -> set[str]:
    """Names in a conda environment file, its pip list included."""
    return _requirement_names([entry.replace("=", " =", 1) for entry in _CONDA_ENTRY.findall(text)])


def lock_names(text: str, path: str) -> set[str]:
    """Names in uv.lock, poetry.lock, pdm.lock, pylock.toml and Pipfile.lock."""
    return {normalise(toml or json) for toml, json in _LOCKED.findall(text)}


DECLARING: dict[str, Reader] = {
    "pyproject.toml": toml_names,
    "Pipfile": toml_names,
    "setup.cfg": setup_cfg_names,
    "environment.yml": conda_names,
    "environment.yaml": conda_names,
}

LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile.lock")


def script_directory(script: str) -> str:
    """The directory of the script that was started (manage.py); for an installed command, the working directory.

    `script`: `sys.argv[0]`. A console script, or a module run by `python -m`, lies in the environment and not in the
    project.
    """
    path = os.path.abspath(script)
    installed = not path.endswith(".py") or path.endswith("__main__.py") or _SITE.search(path)
    return os.getcwd() if installed else os.path.dirname(path)


_SITE = re.compile(r"[/\\](?:site|dist)-packages[/\\]")
