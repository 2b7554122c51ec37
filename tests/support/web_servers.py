"""The real nginx, Apache httpd and HAProxy in a directory of their own, with one configuration included."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from support import processes
from support.http import connect
from support.waiting import wait_for

NGINX = """
daemon off;
pid nginx.pid;
error_log nginx.log;
worker_processes 2;
{user}
events {{ worker_connections 512; }}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include {site};
}}
"""
# What a2enmod loads before the first site is there, and what the printed configuration asks for.
MODULES = (
    "mpm_event", "authn_core", "authz_core", "authz_host", "alias", "headers", "proxy", "proxy_http", "rewrite",
    "reqtimeout", "setenvif", "mime", "ssl", "socache_shmcb", "unique_id", "xsendfile",
)  # fmt: skip
APACHE = """
ServerRoot {directory}
DefaultRuntimeDir {directory}
PidFile {directory}/apache.pid
ErrorLog {directory}/apache.log
ServerName localhost
TypesConfig /dev/null
{user}
{modules}
Include {site}
"""
HAPROXY = """
global
    maxconn 200

defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s

{site}
"""
PLACES = ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/libexec/apache2")


class WebServer:
    """One started web server, reached at 127.0.0.1 and `port`; `argv` stays in the foreground."""

    def __init__(self, directory: Path, argv: list[str], port: int, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.address = ("127.0.0.1", port)
        with (directory / "terminal").open("wb") as output:
            self.child = subprocess.Popen(
                argv, cwd=directory, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait_listening(self) -> WebServer:
        wait_for(self._listens, "the web server to listen", 15.0)
        return self

    def _listens(self) -> bool:
        assert self.child.poll() is None, self.evidence()
        try:
            connect(self.address, 1.0).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self.child.terminate()
        try:
            self.child.wait(10.0)
        finally:
            processes.kill_session(self.child.pid)
            self.child.wait(10.0)

    def evidence(self) -> str:
        files = [path for path in self.directory.rglob("*") if path.suffix == ".log" or path.name == "terminal"]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in files)


def nginx() -> str | None:
    """Its program; None where it is not installed."""
    return shutil.which("nginx", path=_path())


def apache() -> str | None:
    return shutil.which("apache2", path=_path()) or shutil.which("httpd", path=_path())


def haproxy() -> str | None:
    return shutil.which("haproxy", path=_path())


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


def module_directory() -> Path:
    """Where Apache's modules lie."""
    return next(Path(place) for place in PLACES if Path(place).is_dir())


def has_module(name: str) -> bool:
    return (module_directory() / f"mod_{name}.so").exists()


def start_nginx(directory: Path, site: Path, port: int) -> WebServer:
    """nginx as the current user."""
    user = "" if os.geteuid() else "user root;"
    (directory / "nginx.conf").write_text(NGINX.format(user=user, site=site), encoding="utf-8")
    program = nginx()
    assert program is not None
    argv = [program, "-p", f"{directory}/", "-c", "nginx.conf"]
    return WebServer(directory, argv, port).wait_listening()


def start_apache(directory: Path, site: Path, port: int) -> WebServer:
    """Apache as the current user; root's, which it refuses to be, as nobody in root's group."""
    user = "" if os.geteuid() else f"User {pwd.getpwnam('nobody').pw_name}\nGroup #{os.getegid()}"
    place = module_directory()
    modules = [f"LoadModule {name}_module {place}/mod_{name}.so" for name in MODULES if has_module(name)]
    (directory / "apache.conf").write_text(
        APACHE.format(directory=directory, user=user, modules="\n".join(modules), site=site),
        encoding="utf-8",
    )
    program = apache()
    assert program is not None
    argv = [program, "-DFOREGROUND", "-f", str(directory / "apache.conf")]
    return WebServer(directory, argv, port, {"APACHE_LOG_DIR": str(directory)}).wait_listening()


def start_haproxy(directory: Path, site: str, port: int) -> WebServer:
    """HAProxy as the current user; `site` are the sections of its configuration."""
    (directory / "haproxy.conf").write_text(HAPROXY.format(site=site), encoding="utf-8")
    program = haproxy()
    assert program is not None
    argv = [program, "-db", "-f", str(directory / "haproxy.conf")]
    return WebServer(directory, argv, port).wait_listening()
