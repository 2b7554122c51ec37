"""WhiteNoise for any directory: serves no hidden files, and skips files that it cannot read instead of failing.

Loaded only where static files are served: WhiteNoise is an extra. Symbolic links are followed: users that may write to
a directory of static files decide which files are in it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Any

from whitenoise import WhiteNoise

from appsrv.app_process import own_lines
from appsrv.http.response import error_response

# Names with a hash: 12 digits from Django's ManifestStaticFilesStorage, 16 and more from bundlers. Such a file never
# changes. There has to be a letter among the digits, since a number alone may be a date.
HASHED = r"[.-](?=[0-9]*[a-f])(?:[0-9a-f]{12}|[0-9a-f]{16,})\.[^/]+$"
# `.git`, `.env`, `.htpasswd`; not `.well-known` (RFC 8615).
_HIDDEN = re.compile(r"/\.(?!well-known/)")


class StaticServer(WhiteNoise):  # type: ignore[misc]  # it has no types
    """A WSGI application: serves the files of the directories that were added, and calls `application` for the rest."""

    def __init__(self, application: Any, *, autorefresh: bool, max_age: int) -> None:
        super().__init__(application, autorefresh=autorefresh, max_age=max_age, immutable_file_test=HASHED)

    def update_files_dictionary(self, root: str, prefix: str) -> None:
        """As WhiteNoise does, but without files that are hidden, cannot be read, or are not regular files."""
        found = dict(_files_below(root, set()))
        for path in found:
            self.add_file_to_dictionary(prefix + path[len(root) :], path, stat_cache=found)

    def find_file(self, url: str) -> Any:
        """The file for `url`; in development it is looked for at each request."""
        return None if _HIDDEN.search(url) else super().find_file(url)

    @staticmethod
    def serve(static_file: Any, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """As WhiteNoise does, but with If-Range, and with 404 for a file that was removed after the start."""
        if environ.get("HTTP_IF_RANGE", static_file.etag) != static_file.etag:
            # The client has a part of another version of the file. RFC 9110 section 13.1.5 has the server ignore Range
            # then, so that the client gets the whole file and does not join parts of two versions.
            environ = {key: value for key, value in environ.items() if key != "HTTP_RANGE"}
        try:
            body: Iterable[bytes] = WhiteNoise.serve(static_file, environ, start_response)
        except (FileNotFoundError, NotADirectoryError):
            page = error_response(404)
            start_response(f"{page.status} {page.reason}", page.headers)
            return [page.body]
        return body


def _files_below(directory: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result]]:
    """(path, status) of each regular file below a directory.

    `above` are the device and inode of the directories above it: a link to one of them would make an endless loop.
    """
    status = os.stat(directory)
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.name.startswith(".") and entry.name != ".well-known":
            continue
        try:
            found = entry.stat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode):
            try:
                yield from _files_below(entry.path, above | {here})
            except OSError as error:
                # A directory that only root can read, such as lost+found.
                own_lines.complain(f"static files in {entry.path} are not served: {error.strerror}")
        elif stat.S_ISREG(found.st_mode):
            yield entry.path, found
