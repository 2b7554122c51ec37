"""Every error appsrv raises on purpose, by whose fault it is; each carries its answer.

The client's fault has an HTTP status, the operator's or the application's an exit code. This module knows no
other one. A message says what happened, to what, and what to do next.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class AppsrvError(Exception):
    """Base of all. `exit_code` is what a command ends with, `status` what an HTTP client is answered."""

    exit_code: int = 1
    status: int = 500


# -- the client's fault ------------------------------------------------------------------------------------


class Limit(NamedTuple):
    """A setting that a client's request is beyond, and its value in words."""

    setting: str
    value: str


class RequestError(AppsrvError):
    """The request breaks HTTP or one of the limits (RFC 9112, RFC 9110 section 15.5).

    `status` is the answer (400, 408, 413, 414, 417, 431, 501, 505, 507), `reason` one line for the log and page, `seen`
    what of the request could not be read, for the access log. `limit` is the one that a setting makes.
    """

    seen = b""

    def __init__(self, status: int, reason: str, limit: Limit | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.limit = limit

    def detail(self, *, development: bool) -> str:
        """The text of the page: developers read there which setting it is, clients of a production server do not."""
        if self.limit is None or not development:
            return self.reason
        return f"{self.reason}: the setting {self.limit.setting} of appsrv is {self.limit.value}."


class ClientDisconnected(AppsrvError):
    """The client went away, or took nothing for longer than allowed by `limit`: nobody is left to answer."""

    status = 499

    def __init__(self, message: str = "", limit: Limit | None = None) -> None:
        super().__init__(message)
        self.limit = limit


# -- the operator's fault ----------------------------------------------------------------------------------


class OperatorError(AppsrvError):
    """Something about this machine or command has to be changed by the person who typed it."""


class SettingsError(OperatorError):
    """An unknown setting or a value it does not take."""

    exit_code = 2


class ListenError(OperatorError):
    """The address cannot be listened on.

    `errno` is the system's reason, or below 0 that of getaddrinfo(3), `reason` its words.
    """

    def __init__(self, message: str, errno: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.errno = errno
        self.reason = reason or (os.strerror(errno) if errno is not None else message)


class CertificateError(OperatorError):
    """A certificate or its key cannot be used."""


class RunDirectoryError(OperatorError):
    """The run directory, pid file or server log cannot be used."""


class AlreadyRunning(OperatorError):
    """Another live appsrv holds this pid file or run directory."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class NotRunning(OperatorError):
    """No instance answers. Exit codes are those of LSB `status`: 3 not running, 1 dead but pid file exists."""

    exit_code = 3


class SeveralInstances(OperatorError):
    """The command fits more than one running instance."""


class AdminError(OperatorError):
    """The server refused or could not carry out what a command asked for."""


# -- the application's fault -------------------------------------------------------------------------------


class AppNotFound(OperatorError):
    """No application was named and none was found."""

    exit_code = 4


class AppLoadError(AppsrvError):
    """The application cannot be imported, or is not a WSGI callable.

    `traceback` holds the application's own frames only, ready to be shown; it may be empty.
    """

    exit_code = 4

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class BootError(AppsrvError):
    """Workers ended before they were ready, several times in a row."""

    exit_code = 3
    status = 503


class NotStarted(AppsrvError):
    """The process of a generic application does not take connections. `ended`: it has ended instead."""

    exit_code = 4

    def __init__(self, message: str, *, ended: bool) -> None:
        super().__init__(message)
        self.ended = ended


class ApplicationError(AppsrvError):
    """The application broke PEP 3333 (headers, status, framing): answered with 500 and logged."""


class UpstreamError(AppsrvError):
    """The process behind the proxy gave no answer that could be passed on: answered with 502 (or 504) and logged.

    `page` is what the client is told, without what only the log should say.
    """

    status = 502

    def __init__(self, message: str, page: str) -> None:
        super().__init__(message)
        self.page = page


def failure_of(exit_code: int, text: str, traceback: str = "") -> AppsrvError:
    """The error with this exit code, as another process knows it."""
    if exit_code == AppLoadError.exit_code:
        return AppLoadError(text, traceback)
    return BootError(text) if exit_code == BootError.exit_code else OperatorError(text)


# -- ours --------------------------------------------------------------------------------------------------


class NoRoomForResponse(AppsrvError):
    """What the client has not taken yet cannot be kept: the disk is full, most likely. Not the application's fault."""

    def __init__(self, directory: str | None, error: OSError) -> None:
        where = directory or "the system's directory for temporary files"
        super().__init__(
            f"no room in {where} for what the client has not taken of the response yet: {error.strerror}; "
            "make room there, or set data_buffer_dir"
        )


class ProtocolError(AppsrvError):
    """A message between appsrv's own processes that neither side should have sent: a defect, please report it."""
