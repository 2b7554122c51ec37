"""Command lines of interpreters: which options of the command's own its other processes get, and what they run.

They are read from the command line (`sys.orig_argv`): `sys.flags` has those of the environment in it, which every
process has anyway, and lacks some of `-X`. Starts nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

NOT_PASSED_ON = "ix"
"""Interactive mode and the first line of a script: about the command itself."""

OWN_LETTERS = "BEIOPSs"
OWN_X = ("utf8", "pycache_prefix")
"""What the processes without application code get, too: where modules come from and how text is encoded. Warnings that
are errors, `-X dev`, traces of imports and the like are for the application and would disturb them."""


def for_application(argv: Sequence[str] | None = None) -> list[str]:
    """The options of processes that run the application, as the command had them."""
    flags = [word for flag in _flags(argv) for word in flag if flag[0][1] not in NOT_PASSED_ON]
    return [*unbuffered(argv), *flags]


def for_own_process(argv: Sequence[str] | None = None) -> list[str]:
    """The options of processes that run no code of the application."""
    return [word for flag in _flags(argv) for word in flag if _is_own(*flag)]


def unbuffered(argv: Sequence[str] | None = None) -> list[str]:
    """`-u` where the interpreter does not heed PYTHONUNBUFFERED: what the application prints must not wait."""
    return ["-u"] if any(flag[0] in ("-E", "-I") for flag in _flags(argv)) else []


def same_command() -> list[str]:
    """The command of this process, to be run again by another one whose output is a pipe."""
    return [sys.executable, *unbuffered(), *sys.orig_argv[1:]]


def code_for(module: str, arguments: str = "") -> str:
    """The code for `python -c` that calls `main` of a module and ends with its result; `arguments` is what it is given.

    `-c` puts an empty entry, the current directory, in front of sys.path. It is removed before anything is imported: a
    file of the application must not replace a module of appsrv or of the standard library.
    """
    prepare = "import sys; sys.path[:] = filter(None, sys.path)"
    return f"{prepare}; from {module} import main; sys.exit(main({arguments}))"


def _is_own(option: str, value: str = "") -> bool:
    return option[1] in OWN_LETTERS or (option == "-X" and value.partition("=")[0] in OWN_X)


def _flags(argv: Sequence[str] | None) -> Iterator[tuple[str, ...]]:
    """Each option by itself, with its value: `-OBm appsrv` has -O and -B. What follows is the command's own."""
    words = iter(list(sys.orig_argv if argv is None else argv)[1:])
    for word in words:
        if word == "--check-hash-based-pycs":
            yield (word, next(words, ""))
            continue
        if word[:1] != "-" or word[:2] == "--" or word == "-":
            return
        for place, letter in enumerate(word[1:], 2):
            if letter in "cm":
                return
            if letter in "WX":
                yield (f"-{letter}", word[place:] or next(words, ""))
                break
            yield (f"-{letter}",)
