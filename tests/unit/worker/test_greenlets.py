"""The concurrency model gevent where there is no gevent."""

from __future__ import annotations

import sys

import pytest

from appsrv.errors import AppLoadError
from appsrv.worker import greenlets


def test_without_gevent_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gevent", None)
    with pytest.raises(AppLoadError, match=r"cannot be imported: .*Install gevent, or choose another") as caught:
        greenlets.patch()
    assert caught.value.exit_code == 4
