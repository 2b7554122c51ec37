"""The report of `appsrv doctor` as text and as JSON."""

from __future__ import annotations

from appsrv.commands.doctor.facts import Account, Application, Facts, Machine, Trial
from appsrv.commands.doctor.report import as_json, as_text, findings_of
from appsrv.settings.table import Settings

MACHINE = Machine(settings=Settings(), account=Account("shop", 1000, frozenset()))
FAILED = Trial(error="app cannot be imported", traceback="Trace\n  x\x1b")
APPS = [
    Application("/srv/shop", "wsgi", Settings(), trial=Trial(seconds=0.41, memory=38 << 20)),
    Application("/srv/blog", "app", Settings(), trial=FAILED),
    Application("/srv/node", "node x.js", Settings(), no_trial="it is not imported: it has a start_command"),
]


def test_text() -> None:
    facts = Facts("/srv", MACHINE, APPS, "srv-8000-1", 12, not_served={"/srv/old": "no application found"})
    assert as_text(facts, findings_of(facts)).splitlines() == [
        "/srv: srv-8000-1 is running; the application's user is shop",
        "wsgi in /srv/shop: imported in 0.4 s, 38M",
        "app in /srv/blog: not imported",
        "node x.js in /srv/node: it is not imported: it has a start_command",
        "",
        "1. the application is not served",
        "   Where:  /srv/old",
        "   Remedy: mend its settings: no application found",
        "",
        "2. app cannot be imported",
        "   Where:  app in /srv/blog",
        "   Remedy: mend the import; with the same environment, start ends with this error",
        "     Trace",
        "       x",
        "",
        "2 findings.",
    ]


def test_no_findings() -> None:
    facts = Facts("/srv/shop", MACHINE, APPS[:1])
    assert as_text(facts, []).splitlines()[0].startswith("/srv/shop: no instance of it is running")
    assert as_text(facts, []).splitlines()[-1] == "No findings."


def test_json() -> None:
    facts = Facts("/srv", MACHINE, APPS)
    found = as_json(facts, findings_of(facts))
    assert found["instance"] is None
    assert [app["import"] and app["import"]["error"] for app in found["apps"]] == [None, "app cannot be imported", None]
    assert found["findings"][0]["number"] == 1
    assert set(found["findings"][0]) == {"number", "check", "what", "where", "remedy", "details"}
