"""What a browser does between two pages: keep cookies, find the token of a form, send forms with files."""

from __future__ import annotations

import re
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence

from support.http import Address, Reply, send

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class Visitor:
    """One visitor of a site: cookies are kept, redirects are not followed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.cookies: dict[str, str] = {}

    def get(self, target: str) -> Reply:
        return self._send("GET", target, None, {})

    def post(self, target: str, fields: Mapping[str, str]) -> Reply:
        """A plain form."""
        return self.post_all(target, list(fields.items()))

    def post_all(self, target: str, fields: Sequence[tuple[str, str]]) -> Reply:
        """A plain form in which a field may stand more than once."""
        body = urllib.parse.urlencode(fields).encode()
        return self._send("POST", target, body, {"Content-Type": "application/x-www-form-urlencoded"})

    def upload(self, target: str, fields: Mapping[str, str], name: str, content: bytes) -> Reply:
        """A form whose field `file` is a file."""
        mark = uuid.uuid4().hex
        body = b"".join(_field(mark, key, value) for key, value in fields.items())
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        body += f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + content
        body += f"\r\n--{mark}--\r\n".encode()
        return self._send("POST", target, body, {"Content-Type": f"multipart/form-data; boundary={mark}"})

    def token(self, target: str) -> dict[str, str]:
        """The hidden field of the form at `target` (Django's protection against forged requests)."""
        found = TOKEN.search(self.get(target).text)
        assert found, f"no form token at {target}"
        return {"csrfmiddlewaretoken": found.group(1)}

    def _send(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        reply = send(self.address, method, target, body, headers)
        for cookie in reply.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return reply


def _field(mark: str, name: str, value: str) -> bytes:
    return f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
