"""The forms of a page as a browser would send them back: each named field with the value that stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser

Attributes = Sequence[tuple[str, str | None]]


class _Forms(HTMLParser):
    """Collects the fields of each form; what stands outside of all forms is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self._open = False
        self._area = ""
        self._select = ""

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append({})
            self._open = True
        elif self._open and tag == "input":
            self._input(given)
        elif self._open and tag == "textarea":
            self._area = given.get("name", "")
            self._put(self._area, "")
        elif self._open and tag == "select":
            self._select = given.get("name", "")
        elif self._open and tag == "option" and self._select and (
            "selected" in given or self._select not in self.forms[-1]
        ):
            self._put(self._select, given.get("value", ""))

    def _input(self, given: dict[str, str]) -> None:
        kind = given.get("type", "text")
        if kind in ("submit", "button", "image", "reset", "file"):
            return
        if kind not in ("checkbox", "radio"):
            self._put(given.get("name", ""), given.get("value", ""))
        elif "checked" in given:
            self._put(given.get("name", ""), given.get("value", "on"))

    def _put(self, name: str, value: str) -> None:
        if name:
            self.forms[-1][name] = value

    def handle_data(self, data: str) -> None:
        if self._area:
            # A line feed right after the tag is not part of the text (HTML, "textarea").
            self.forms[-1][self._area] += data.removeprefix("\n") if not self.forms[-1][self._area] else data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False
        elif tag == "textarea":
            self._area = ""
        elif tag == "select":
            self._select = ""


def form_with(page: str, field: str) -> dict[str, str]:
    """The first form that has a field of this name."""
    parser = _Forms()
    parser.feed(page)
    found = next((form for form in parser.forms if field in form), None)
    assert found is not None, f"no form with {field!r} among {[sorted(form) for form in parser.forms]}"
    return found
