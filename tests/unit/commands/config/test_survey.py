"""`appsrv config`: facts of a project, what is written for each program, and what that program says to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from appsrv.commands.config import docker
from appsrv.commands.config import survey as config_files
from appsrv.commands.config.deployment import FrontServer, fill, quoted
from appsrv.commands.config.survey import front_server, render, survey
from appsrv.errors import AppNotFound, SettingsError

SETTINGS = '''
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "collected"
'''
WITH_OS_PATH = '''
import os
BASE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STATIC_URL = "/s/"
STATIC_ROOT = os.path.join(BASE, "a", "b")
'''


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    place = tmp_path / "shop"
    place.mkdir()
    (place / "wsgi.py").write_text("application = None\n")
    return place


@pytest.fixture
def django(tmp_path: Path) -> Path:
    place = tmp_path / "store"
    (place / "store").mkdir(parents=True)
    (place / "manage.py").write_text('import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "store.settings")\n')
    (place / "store" / "settings.py").write_text(SETTINGS)
    return place


def printed(program: str, here: Path, /, **flags: object) -> str:
    return render(program, None, flags, {}, here, FrontServer())


# -- filling in ------------------------------------------------------------------------------------------------


def test_filling_in() -> None:
    template = "\na {{x}} b\nc {{none}}\n  {\n    {{many}}\n\n    {{empty}}\n  }\n"
    values = {"x": "1", "none": None, "many": "one\ntwo", "empty": ""}
    assert fill(template, values) == "a 1 b\n  {\n    one\n    two\n  }\n"


def test_quoting() -> None:
    assert (quoted("/srv/shop-1"), quoted('/a b/"c\\')) == ("/srv/shop-1", '"/a b/\\"c\\\\"')
    for bad, refused in (("a\nb", ""), ("/a$b", "$"), ("/${x}", "${ %{")):
        with pytest.raises(SettingsError):
            quoted(bad, refused)


# -- facts -----------------------------------------------------------------------------------------------------


def test_what_no_file_says_becomes_part_of_the_command(shop: Path) -> None:
    (shop / "appsrv.toml").write_text("min_instances = 2\n")
    environ = {"APPSRV_THREADS": "4", "WEB_CONCURRENCY": "3", "FLASK_APP": "wsgi"}
    flags = {"socket": "web.sock", "max_pool_size": "auto", "request_id": "false", "static": ("/s/=s", "/t/=t"),
             "user": "shop", "daemonize": "true", "max_request_time": "90s"}
    found = survey(None, flags, environ, shop, FrontServer())
    assert found.command[: len(found.executable)] == found.executable
    assert sorted(found.command[len(found.executable) + 1 :]) == [
        "--max-pool-size=auto", "--max-request-time=90", "--no-request-id", f"--socket={shop}/web.sock",
        f"--static=/s/={shop}/s", f"--static=/t/={shop}/t", "--threads=4",
    ]  # fmt: skip
    assert (found.settings.user, found.variables, found.name) == ("shop", {"FLASK_APP": "wsgi"}, "shop")
    named = survey("wsgi:application", {}, {"PORT": "81"}, shop, FrontServer())
    assert named.command[len(named.executable) :] == ("start", "wsgi:application", "--address=0.0.0.0", "--port=81")
    below = survey("shop", {}, {}, shop.parent, FrontServer())
    assert (below.directory, below.command[-1]) == (str(shop), "start")


@pytest.mark.parametrize(
    ("settings", "base", "url", "directory"),
    [
        (SETTINGS, "", "/static/", "collected"),
        (SETTINGS, "/shop", "/shop/static/", "collected"),
        (SETTINGS.replace('"static/"', '"/assets/"'), "/shop", "/assets/", "collected"),
        (WITH_OS_PATH, "", "/s/", "a/b"),
        ('from .base import *\nSTATIC_URL = "/s/"\n', "", "/s/", "inherited"),
        ('STATIC_URL = "s/"\nSTATIC_ROOT = env("STATIC_ROOT")\n', "", "/s/", None),
        ('STATIC_URL = "s/"\nSTATIC_ROOT = "x"\nif DEBUG:\n    STATIC_ROOT = "y"\n', "", "/s/", None),
    ],
)
def test_where_django_collects(django: Path, settings: str, base: str, url: str, directory: str | None) -> None:
    (django / "store" / "settings.py").write_text(settings)
    (django / "store" / "base.py").write_text('STATIC_ROOT = "inherited"\n')
    (mount,) = survey(None, {}, {}, django, FrontServer(base_uri=base)).statics
    assert (mount.url, mount.known) == (url, directory is not None)
    assert directory is None or mount.directory == str(django / directory)
    text = render("nginx", None, {}, {}, django, FrontServer(base_uri=base))
    assert ("FILL IN" in text) == (directory is None)


def test_static_files_that_another_host_serves(django: Path) -> None:
    (django / "store" / "settings.py").write_text('STATIC_URL = "https://cdn.example/"\n')
    assert survey(None, {}, {}, django, FrontServer()).statics == ()


# -- in step with the settings -------------------------------------------------------------------------------------


def test_nginx_is_in_step(shop: Path) -> None:
    plain = printed("nginx", shop)
    assert {"server 127.0.0.1:8000 fail_timeout=0;", "keepalive_timeout 60s;", "client_max_body_size 1073741824;",
            "large_client_header_buffers 4 16k;", "proxy_read_timeout 3600s;"} <= lines(plain)
    other = printed("nginx", shop, address="::", port="81", max_body_size="0", max_request_time="90",
                    max_header_field_size="64K", keepalive_timeout="0", body_timeout="7")
    assert {"server [::1]:81 fail_timeout=0;", "client_max_body_size 1;", "proxy_read_timeout 120s;",
            "large_client_header_buffers 4 64k;", "client_body_timeout 7s;"} <= lines(other)
    assert "keepalive 32" not in other
    socket = printed("nginx", shop, socket="/run/my shop/web.sock")
    assert 'server "unix:/run/my shop/web.sock" fail_timeout=0;' in lines(socket)


def lines(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines()}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("shop.example",), {"ServerName shop.example"}),
        (("*.shop.example", "shop.example"), {"ServerName shop.example", "ServerAlias *.shop.example"}),
        (("*.a.example",), {"ServerName a.example", "ServerAlias *.a.example"}),
    ],
)
def test_the_names_of_a_virtual_host(names: tuple[str, ...], said: set[str], shop: Path) -> None:
    printed_lines = lines(render("apache", None, {}, {}, shop, front_server(server_name=names)))
    assert {line for line in printed_lines if line.startswith(("ServerName", "ServerAlias"))} == said


@pytest.mark.parametrize("program", ["nginx", "apache"])
def test_a_proxy_that_appsrv_would_not_believe(program: str, shop: Path) -> None:
    assert "CHANGE" not in printed(program, shop)
    assert "CHANGE" not in printed(program, shop, socket="/run/shop/s")
    assert "CHANGE" in printed(program, shop, forwarded_allow_ips="10.0.0.5")
    assert "CHANGE" in printed(program, shop, socket="/run/shop/s", forwarded_allow_ips="10.0.0.5")


@pytest.mark.parametrize("program", ["nginx", "apache"])
@pytest.mark.parametrize("flags", [{"port": "0"}, {"proxy_protocol": "true"}, {"ssl_certificate": "c.pem"},
                                   {"static": ("/s/=/a\nb",)}])
def test_what_cannot_be(program: str, flags: dict[str, object], shop: Path) -> None:
    with pytest.raises(SettingsError):
        printed(program, shop, **flags)


@pytest.mark.parametrize(
    "words",
    [{"base_uri": "shop"}, {"base_uri": "/a b"}, {"base_uri": "/../a"}, {"listen": "x"}, {"listen": "70000"},
     {"server_name": ("a;b",)}, {"certificate": "/c"}, {"listen": "a b:80"}],
)  # fmt: skip
def test_bad_words_about_the_web_server(words: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        front_server(**words)  # type: ignore[arg-type]


def test_a_directory_without_an_application(tmp_path: Path) -> None:
    with pytest.raises(AppNotFound):
        printed("nginx", tmp_path)


# -- the service ---------------------------------------------------------------------------------------------------


def test_the_unit(shop: Path) -> None:
    unit = lines(printed("systemd", shop, socket="/run/shop/web.sock", user="shop", stop_timeout="50"))
    start = next(line for line in unit if line.startswith("ExecStart="))
    assert start.endswith(f"appsrv start {shop} --socket=/run/shop/web.sock --stop-timeout=50")
    assert {"User=shop", "Group=www-data", "UMask=0007", "TimeoutStopSec=60", "OOMPolicy=continue"} <= unit
    assert not any(line.startswith("AmbientCapabilities") for line in unit)
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in lines(printed("systemd", shop, port="80"))
    awkward = printed("systemd", shop, log_file="/srv/100% $HOME/a.log")
    assert '"--log-file=/srv/100%% $$HOME/a.log"' in awkward


def test_the_unit_of_a_project_that_names_its_user(shop: Path) -> None:
    (shop / "appsrv.toml").write_text('user = "shop"\n')
    unit = lines(printed("systemd", shop, socket="/run/shop/web.sock"))
    assert "User=shop" in unit
    assert not any(line.startswith("Group=") for line in unit)
    assert "Group=web" in lines(printed("systemd", shop, socket="/run/shop/web.sock", group="web"))


@pytest.mark.process
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("flags", [{}, {"socket": "/run/shop/web.sock", "user": "nobody"}, {"port": "80"}])
def test_systemd_accepts_the_unit(shop: Path, tmp_path: Path, flags: dict[str, object]) -> None:
    unit = tmp_path / "shop.service"
    unit.write_text(printed("systemd", shop, **flags))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"})  # fmt: skip
    if "Failed to" in done.stderr and "initialize" in done.stderr:
        pytest.skip(f"systemd-analyze does not run here: {done.stderr.strip()}")
    assert (done.returncode, [line for line in done.stderr.splitlines() if "shop.service" in line]) == (0, [])


# -- rotation ------------------------------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.skipif(shutil.which("logrotate", path="/usr/sbin:/usr/bin") is None, reason="no logrotate here")
def test_logrotate_rotates(tmp_path: Path) -> None:
    place = tmp_path / "my [shop]"
    (place / "log").mkdir(parents=True)
    (place / "wsgi.py").write_text("application = None\n")
    for name in ("appsrv.8000.log", "access.log"):
        (place / "log" / name).write_text("a line\n")
    written = tmp_path / "shop.conf"
    written.write_text(printed("logrotate", place, access_log="log/access.log"))
    written.chmod(0o644)
    for option in ("-d", "-f"):
        command = ["/usr/sbin/logrotate", option, "-s", str(tmp_path / "state"), str(written)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, "error" in done.stderr.lower()) == (0, False), done.stderr
    assert sorted(path.name for path in (place / "log").iterdir()) == ["access.log.1", "appsrv.8000.log.1"]


def test_no_log_to_rotate(shop: Path) -> None:
    with pytest.raises(SettingsError):
        printed("logrotate", shop, log_file="/dev/stdout")


# -- containers ----------------------------------------------------------------------------------------------------

INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD"}


def instructions(text: str) -> list[tuple[str, str]]:
    """As Docker reads it: comments left out, continued lines joined."""
    joined = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    parts = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(word, rest.strip()) for word, _, rest in parts]


def test_the_dockerfile(django: Path) -> None:
    (django / "requirements.txt").write_text("django\n")
    found = instructions(printed("docker", django, data_buffer_dir=str(django), sendfile_root=(str(django / "media"),)))
    assert {word for word, _ in found} <= INSTRUCTIONS
    assert (found[0][0], found[-1][0]) == ("FROM", "CMD")
    assert ("RUN", "pip install --no-cache-dir -r requirements.txt 'appsrv[static]'") in found
    assert ("RUN", "python manage.py collectstatic --no-input") in found
    assert ("USER", "app") in found
    command = json.loads(found[-1][1])
    assert command[:3] == ["appsrv", "start", "--sendfile-root=/app/media"]
    assert command[3:7] == ["--address", "0.0.0.0", "--port", "8000"]
    check = dict(found)["HEALTHCHECK"].partition("CMD ")[2]
    assert json.loads(check)[:2] == ["sh", "-c"]


def test_what_the_image_installs(shop: Path) -> None:
    assert "FILL IN" in printed("docker", shop)
    (shop / "pyproject.toml").write_text('[project]\ndependencies = ["flask>=2", "appsrv"]\n')
    assert ("RUN", "pip install --no-cache-dir 'flask>=2' appsrv") in instructions(printed("docker", shop))
    assert docker.HOME in printed("docker", shop)


def test_each_program_has_its_name_on_the_command_line() -> None:
    from appsrv.commands import project

    assert tuple(config_files.PROGRAMS) == project._PROGRAMS
