"""All findings about the facts, and the report of `appsrv doctor` as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from appsrv.commands.doctor import app_rules, machine_rules
from appsrv.commands.doctor.facts import Application, Facts, Finding
from appsrv.system.words import in_line, memory, printable


def findings_of(facts: Facts) -> list[Finding]:
    """The findings, in the order in which they are shown."""
    return [
        *_not_served(facts),
        *machine_rules.of_ways(facts.machine),
        *(finding for app in facts.apps for finding in app_rules.findings(app, facts.machine.memory)),
        *machine_rules.of_system(facts.machine),
    ]


def _not_served(facts: Facts) -> Iterator[Finding]:
    for name, problem in facts.not_served.items():
        yield Finding(
            "not-served", "the application is not served", in_line(name), f"mend its settings: {in_line(problem)}"
        )


# -- as JSON -----------------------------------------------------------------------------------------------


def as_json(facts: Facts, findings: Sequence[Finding]) -> dict[str, Any]:
    """Everything, for `--json`."""
    return {
        "directory": facts.directory,
        "instance": facts.instance or None,
        "web_user": facts.machine.web.name if facts.machine.web is not None else None,
        "apps": [_app_json(app) for app in facts.apps],
        "findings": [{"number": number, **one.to_json()} for number, one in enumerate(findings, 1)],
    }


def _app_json(app: Application) -> dict[str, Any]:
    found: dict[str, Any] = {"name": app.name, "app": app.app, "import": None}
    trial = app.trial
    if trial is not None:
        found["import"] = {
            "seconds": trial.seconds, "memory": trial.memory, "threads": list(trial.threads),
            "error": trial.error or None, "timed_out": trial.timed_out,
        }
    return found


# -- as text -----------------------------------------------------------------------------------------------


def as_text(facts: Facts, findings: Sequence[Finding]) -> str:
    """What was looked at, and the numbered findings with their remedies."""
    lines = [*_header(facts), ""]
    for number, finding in enumerate(findings, 1):
        lines += _numbered(number, finding)
    lines.append(_count(len(findings)))
    return "\n".join(lines)


def _count(number: int) -> str:
    return "No findings." if not number else f"{number} finding{'s' if number > 1 else ''}."


def _header(facts: Facts) -> Iterator[str]:
    running = f"{facts.instance} is running" if facts.instance else "no instance of it is running"
    yield f"{facts.directory}: {running}; the application's user is {facts.machine.account.name}"
    if facts.machine.web is not None and facts.machine.ways:
        yield f"The web server's user is {facts.machine.web.name} (--web-user)"
    for app in facts.apps:
        yield f"{app.where}: {_imported(app)}"


def _imported(app: Application) -> str:
    trial = app.trial
    if trial is None:
        return app.no_trial
    if trial.timed_out or trial.error:
        return "not imported"
    size = f", {memory(trial.memory)}" if trial.memory else ""
    return f"imported in {trial.seconds:.1f} s{size}"


def _numbered(number: int, finding: Finding) -> Iterator[str]:
    head = f"{number}. "
    pad = " " * len(head)
    yield f"{head}{printable(finding.what)}"
    yield f"{pad}Where:  {printable(finding.where)}"
    yield f"{pad}Remedy: {printable(finding.remedy)}"
    yield from (f"{pad}  {line}" for line in printable(finding.details).splitlines())
    yield ""
