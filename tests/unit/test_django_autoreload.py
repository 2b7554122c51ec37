"""appsrv_django.autoreload: what becomes of a file that has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("django")

from django.utils.autoreload import file_changed

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
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    file_changed.connect(made)
    yield made
    file_changed.disconnect(made)


@pytest.mark.parametrize(
    ("answers", "code"), [(True, False), (None, True), (KeyError("a receiver's mistake"), True)]
)
def test_what_no_receiver_takes_care_of_is_code(receiver: Receiver, tmp_path: Path, answers: Any, code: bool) -> None:
    receiver.answers = answers
    page = tmp_path / "page.html"
    told: dict[bool, list[str]] = {True: [], False: []}
    autoreload._notify_changed(cast(Any, None), told[True].extend, told[False].extend, page)
    assert told == {code: [str(page)], not code: []}
