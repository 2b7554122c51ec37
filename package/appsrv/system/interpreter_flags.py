"""Command lines of Python: the options of the command that its other processes get, and the code that they run.

They are read from the command line (`sys.orig_argv`): `sys.flags` also contains the options from the environment, which
every process inherits anyway, and lacks some `-X` options. Starts nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

NOT_PASSED_ON = "ix"
"""Interactive mode, and skipping the first line of a script: these concern the command only."""

OWN_LETTERS = "BEIOPSs"
OWN_X = ("utf8", "pycache_prefix")
"""The options that processes without application code get, too: where modules are found and how text is encoded.
Warnings as errors, `-X dev`, import traces and the like are meant for the application and would disturb appsrv."""


def for_application(argv: Sequence[str] | None = None) -> list[str]:
    """The options for processes that run the application."""
    flags = [word for flag in _flags(argv) for word in flag if flag[0][1] not in NOT_PASSED_ON]
    return [*unbuffered(argv), *flags]


def for_own_process(argv: Sequence[str] | None = None) -> list[str]:
    """The options for processes that run no application code."""
    return [word for flag in _flags(argv) for word in flag if _is_own(*flag)]


def unbuffered(argv: Sequence[str] | None = None) -> list[str]:
    """`-u` if the interpreter ignores PYTHONUNBUFFERED (-E or -I), so that the application's output is not delayed."""
    return ["-u"] if any(flag[0] in ("-E", "-I") for flag in _flags(argv)) else []


def same_command() -> list[str]:
    """The command line of this process, for running it again with a pipe as output."""
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
    """Each option separately, with its value: `-OBm appsrv` has -O and -B. Stops at the module, command or script."""
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
