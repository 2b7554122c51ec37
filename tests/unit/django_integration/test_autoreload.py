"""appsrv_django.autoreload: what becomes of a file that has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("django")

from django.dispatch import Signal

from appsrv_django import autoreload


class Receiver:
    """One of `file_changed`."""

    def __init__(self) -> None:
        self.answers: Any = None

    def __call__(self, sender: object, file_path: Path, **_: object) -> object:
        if isinstance(self.answers, Exception):
            raise self.answers
        return self.answers


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """The only one: Django's own, where something has imported them, need settings."""
    made = Receiver()
    file_changed = Signal()
    file_changed.connect(made)
    monkeypatch.setattr("django.utils.autoreload.file_changed", file_changed)
    return made


@pytest.mark.parametrize(
    ("answers", "code"), [(True, False), (None, True), (KeyError("a receiver's mistake"), True)]
)
def test_what_no_receiver_takes_care_of_is_code(receiver: Receiver, tmp_path: Path, answers: Any, code: bool) -> None:
    receiver.answers = answers
    page = tmp_path / "page.html"
    told: dict[bool, list[str]] = {True: [], False: []}
    autoreload._notify_changed(cast(Any, None), told[True].extend, told[False].extend, page)
    assert told == {code: [str(page)], not code: []}
