"""The output of `appsrv config docker`: a Dockerfile for a project. Pure: makes text from a `Deployment`."""

from __future__ import annotations

import json
import os
import re
import shlex

from appsrv.commands.config.deployment import Deployment, fill

HOME = "/app"

TEMPLATE = """
# A container of {{name}}, printed by `appsrv config docker`: Dockerfile, beside the project.
#   docker build -t {{name}} . && docker run --rm -p {{port}}:{{port}} {{name}}
# Put files that must not get into the image (.git, .env, .venv, media, logs, *.pid) into .dockerignore.
FROM python:{{python}}-slim

# Not root.
RUN useradd --uid 10001 --create-home app && install -d -o app -g app {{home}}
WORKDIR {{home}}

# First what changes rarely.
{{requirements}}

COPY --chown=app:app . .
USER app
{{collect}}

EXPOSE {{port}}
# `docker stop --time {{stop_seconds}}` sends it: requests in progress end first, within stop_delay and stop_timeout.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period={{start_seconds}}s \\
    CMD ["sh", "-c", "appsrv status -p {{port}} >/dev/null || exit 1"]

# appsrv may be process 1: it reaps whatever the application leaves behind. The container's output is what the
# application prints, stdout and stderr as it wrote them, with appsrv's own lines on stderr. It needs neither this user
# (`docker run --user 12345`) nor a file system that can be written to (`docker run --read-only`): its run directory is
# then below /tmp or /dev/shm.
{{workers}}
# A proxy in front is another container: believe it by `-e APPSRV_FORWARDED_ALLOW_IPS=172.16.0.0/12`, or what its
# network is.
CMD {{command}}
"""


def render(deployment: Deployment) -> str:
    """The Dockerfile."""
    settings = deployment.settings
    port = settings.port or 8000
    options = _options(deployment)
    listen = ["--address", "0.0.0.0", "--port", str(port), "--log-file", "none", "--pid-file", "none"]
    form = [] if _has_option(options, "--log-format") else ["--log-format", "plain"]
    pool = [] if _has_option(options, "--max-pool-size") else ["--max-pool-size", "auto"]
    extras = "appsrv[static]" if deployment.is_django or settings.static else "appsrv"
    return fill(TEMPLATE, {
        "name": deployment.name,
        "port": str(port),
        "python": deployment.python,
        "home": HOME,
        "requirements": _requirements(deployment.requirements, extras),
        "collect": "RUN python manage.py collectstatic --no-input" if deployment.is_django else "",
        "stop_seconds": f"{settings.stop_delay + settings.stop_timeout + 10:g}",
        "start_seconds": f"{settings.start_timeout:g}",
        "workers": "# `--max-pool-size auto`: by the processors, or the part of them, that it may use." if pool else "",
        "command": json.dumps(["appsrv", "start", *options, *listen, *form, *pool]),
    })  # fmt: skip


def _requirements(found: str | tuple[str, ...] | None, own: str) -> str:
    if isinstance(found, str):
        return f"COPY {found} .\nRUN pip install --no-cache-dir -r {found} {_word(own)}"
    hint = "" if found else "# FILL IN: the project's dependencies; it has no requirements.txt and no pyproject.toml.\n"
    names = [name for name in found or () if not re.match(r"appsrv\b", name)]
    return f"{hint}RUN pip install --no-cache-dir {' '.join(_word(name) for name in (*names, own))}"


def _word(text: str) -> str:
    return shlex.quote(text.replace("\n", " "))


# The Dockerfile sets the address, and the files that appsrv writes, itself.
_CONTAINER_OPTIONS = frozenset({"--address", "--port", "--socket", "--log-file", "--pid-file", "--data-buffer-dir"})


def _options(deployment: Deployment) -> list[str]:
    """The options of the command, with the project's paths replaced by those in the container."""
    words = deployment.command[len(deployment.executable) + 1 :]
    return [_inside(word, deployment.directory) for word in words if word.partition("=")[0] not in _CONTAINER_OPTIONS]


def _inside(word: str, directory: str) -> str:
    return word.replace(directory + os.sep, HOME + "/").replace(f"={directory}", f"={HOME}")


def _has_option(words: list[str], option: str) -> bool:
    return any(word.partition("=")[0] == option for word in words)
