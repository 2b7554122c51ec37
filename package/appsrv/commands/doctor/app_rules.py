"""The rules about an application: its import, memory, modules and proxies. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator

from appsrv.commands.doctor.facts import Application, Finding, RunningApp, Trial
from appsrv.system.words import in_line, listed, memory

SLOW_IMPORT_SECONDS = 10.0
"""An import that takes longer makes each restart and each replaced preloader noticeably slow."""


def findings(app: Application, memory_of_machine: int) -> Iterator[Finding]:
    """The findings about one application. `memory_of_machine`: in bytes; 0: not known."""
    yield from _of_missing(app)
    if app.trial is not None:
        yield from _of_import(app, app.trial)
    yield from _of_memory(app, memory_of_machine)
    if app.running is not None:
        yield from _of_proxies(app, app.running)


def _of_missing(app: Application) -> Iterator[Finding]:
    for extra, setting in app.missing.items():
        yield Finding(
            "missing-extra", f"{setting} needs a module that is not installed", app.name,
            f"pip install 'appsrv[{extra}]' in the environment of the application",
        )


# -- the import --------------------------------------------------------------------------------------------


def _of_import(app: Application, trial: Trial) -> Iterator[Finding]:
    limit = app.settings.start_timeout
    if trial.timed_out:
        yield Finding(
            "import-timeout", f"the application was not imported within {limit:g} s (start_timeout)",
            trial.hangs_at or app.where, "make that call later, in the first request or in a function for "
            "appsrv.hooks.after_fork, or raise start_timeout", trial.traceback,
        )
        return
    if trial.error:
        yield Finding(
            "import", in_line(trial.error), app.where,
            "mend the import; with the same environment, start ends with this error", trial.traceback,
        )
        return
    if trial.seconds > min(SLOW_IMPORT_SECONDS, limit / 2):
        yield Finding(
            "slow-import", f"the import takes {trial.seconds:.1f} s; start_timeout allows {limit:g} s",
            app.where, "python -X importtime shows which modules are slow; import those in the functions that use them",
        )
    yield from _of_forks(app, trial)
    for note in trial.notes:
        # The notes end with the remedy.
        what, _, remedy = note.rpartition("; " if "; " in note else ": ")
        yield Finding("production", in_line(what), app.where, in_line(remedy))


def _of_forks(app: Application, trial: Trial) -> Iterator[Finding]:
    if trial.threads:
        one = len(trial.threads) == 1
        yield Finding(
            "threads-at-import",
            f"the application starts {'a thread' if one else f'{len(trial.threads)} threads'} while it is imported "
            f"({listed(trial.threads)}); forked workers do not have {'it' if one else 'them'}", app.where,
            "start threads in a function for appsrv.hooks.after_fork, or spawn_method = \"direct\"",
        )
    for connection in trial.shared:
        yield Finding(
            "shared-connection", "an open connection is shared by all forked workers, which read each other's answers",
            in_line(connection), "close it in a function for appsrv.hooks.before_fork (an engine: engine.dispose()) "
            "and open it in after_fork, or spawn_method = \"direct\"",
        )


# -- memory ------------------------------------------------------------------------------------------------


def _of_memory(app: Application, available: int) -> Iterator[Finding]:
    """The workers' memory at `max_pool_size`.

    The workers of a running instance were measured with their share of what they have in common. After a trial import
    the size of one process counts for each worker: forked ones begin with less, and grow with the requests.
    """
    if app.running is not None and app.running.workers:
        each, most = max(app.running.workers), app.running.max_pool_size
        how = "the largest worker has"
    elif app.trial is not None and app.trial.memory:
        each, most = app.trial.memory, app.settings.max_pool_size
        how = "the process has after the import"
    else:
        return
    if available and each * most > available:
        fitting = max(1, available // each)
        yield Finding(
            "memory", f"{most} workers of {memory(each)}, which {how}, need {memory(each * most)}; there are "
            f"{memory(available)}", f"max_pool_size of {app.name}",
            f"max_pool_size = {fitting}, or memory_limit = \"{max(1, available // most >> 20)}M\" with more memory per "
            "worker replaced",
        )


# -- the proxies in front ----------------------------------------------------------------------------------


def _of_proxies(app: Application, running: RunningApp) -> Iterator[Finding]:
    for address, fields in running.untrusted.items():
        members = ",".join([*app.settings.forwarded_allow_ips, address or "unix"])
        yield Finding(
            "untrusted-proxy", f"{address or 'the unix socket'} sends {listed(fields)}, which appsrv removes: it is no "
            "trusted proxy, so the application takes each request for one by http from the proxy itself",
            app.name, f"forwarded_allow_ips = \"{members}\", if it is your proxy",
        )
