"""All exceptions that appsrv raises intentionally, grouped by the party at fault.

An error of a client has an HTTP status; an error of the operator or the application has an exit code. A message states
what happened, to what, and what to do next. This module imports no other module of appsrv.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class AppsrvError(Exception):
    """The base of all. `exit_code` is the exit code of a command, `status` the HTTP status of a response."""

    exit_code: int = 1
    status: int = 500


# -- the client's fault ------------------------------------------------------------------------------------


class Limit(NamedTuple):
    """A setting whose limit a request has exceeded, and the value of the setting as text."""

    setting: str
    value: str


class RequestError(AppsrvError):
    """The request violates HTTP or exceeds a limit (RFC 9112, RFC 9110 section 15.5).

    `status` is that of the response (400, 408, 413, 414, 417, 431, 501, 505, 507), `reason` one line for the log and
    the page. `seen` holds the bytes that could not be parsed, for the access log. `limit`: the setting, if one is
    exceeded.
    """

    seen = b""

    def __init__(self, status: int, reason: str, limit: Limit | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.limit = limit

    def detail(self, *, development: bool) -> str:
        """The text of the page. In development it names the setting; clients of a production server must not see it."""
        if self.limit is None or not development:
            return self.reason
        return f"{self.reason}: the setting {self.limit.setting} of appsrv is {self.limit.value}."


class ClientDisconnected(AppsrvError):
    """The client has closed the connection, or has read nothing for longer than `limit` allows: no response is
    possible.
    """

    status = 499

    def __init__(self, message: str = "", limit: Limit | None = None) -> None:
        super().__init__(message)
        self.limit = limit


# -- the operator's fault ----------------------------------------------------------------------------------


class OperatorError(AppsrvError):
    """The operator has to change the command, a setting or the machine."""


class SettingsError(OperatorError):
    """A setting is unknown, or its value is invalid.

    `names` are the settings concerned, `file` and `line` the place of the error (line 0: not known).
    """

    exit_code = 2

    def __init__(self, message: str, *, names: tuple[str, ...] = (), file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.names = names
        self.file = file
        self.line = line


class ListenError(OperatorError):
    """Listening on an address has failed.

    `errno` is that of the system call, or, if below 0, that of getaddrinfo(3); `reason` is its text.
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
    """Another running instance has this pid file or run directory. `pid` is its watchdog's, if known."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class NotRunning(OperatorError):
    """No instance is running. The exit codes are those of LSB `status`: 3 not running, 1 dead but its pid file exists.
    """

    exit_code = 3


class SeveralInstances(OperatorError):
    """The arguments of a command match more than one running instance."""


class AdminError(OperatorError):
    """The server has refused the request of a command, or has failed to carry it out."""


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
    """The process of a generic application does not accept connections. `ended`: it has ended."""

    exit_code = 4

    def __init__(self, message: str, *, ended: bool) -> None:
        super().__init__(message)
        self.ended = ended


class ApplicationError(AppsrvError):
    """The application violates PEP 3333 (headers, status, framing). The response is 500, and the error is logged."""


class UpstreamError(AppsrvError):
    """The process of a generic application has sent no valid response. The client gets 502 or 504; the error is logged.

    `page` is the text for the client, without details that belong only in the log.
    """

    status = 502

    def __init__(self, message: str, page: str) -> None:
        super().__init__(message)
        self.page = page


def failure_of(exit_code: int, text: str, traceback: str = "") -> AppsrvError:
    """The exception for the exit code and text that another process has sent."""
    if exit_code == AppLoadError.exit_code:
        return AppLoadError(text, traceback)
    return BootError(text) if exit_code == BootError.exit_code else OperatorError(text)


# -- ours --------------------------------------------------------------------------------------------------


class NoRoomForResponse(AppsrvError):
    """The part of a response that the client has not read yet cannot be stored, for example because the disk is full.

    It is not an error of the application.
    """

    def __init__(self, directory: str | None, error: OSError) -> None:
        where = directory or "the system's directory for temporary files"
        super().__init__(
            f"no room in {where} for the part of a response that the client has not read yet: {error.strerror}; "
            "make room there, or set data_buffer_dir"
        )


class ProtocolError(AppsrvError):
    """An invalid message on a channel between processes of appsrv.

    From a preloader or a worker, the bytes may be the application's: its code runs in these processes and can write
    into their channels. Server and watchdog log and ignore such a message. Any other one is a defect of appsrv.
    """
