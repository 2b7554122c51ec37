"""Real third-party projects, as they come from the package index, used for real: Wagtail and I Hate Money.

They live in an environment of their own, which `.ci/projects` makes, so that what they depend on is not what everything
else is tested with.
"""

from __future__ import annotations

import re
import signal
import struct
import zlib
from pathlib import Path

import pytest

from integration.conftest import Launch
from support.browser import Visitor
from support.forms import form_with
from support.http import Reply
from support.server import Server, Site, free_port
from support.waiting import wait_for

BIN = Path(__file__).resolve().parents[2] / ".cache" / "projects" / "bin"
PYTHON, APPSRV = str(BIN / "python"), str(BIN / "appsrv")
BOOT, COMMAND_SECONDS = 60.0, 180.0
ADMIN = {"username": "baker", "password": "rye and wheat 17"}

pytestmark = pytest.mark.skipif(not (BIN / "ihatemoney").exists(), reason="no third-party projects: run .ci/projects")


def run(site: Site, *argv: str) -> str:
    done = site.run_command(argv, COMMAND_SECONDS)
    assert done.returncode == 0, f"{argv}: {done.stdout}\n{done.stderr}"
    return done.stdout


def send_form(visitor: Visitor, target: str, having: str, **changes: str) -> Reply:
    """Open a page, fill in its form and send it, to the same address."""
    page = visitor.get(target)
    assert page.status == 200, (target, page.status, page.headers.get("Location"))
    return visitor.post(target, {**form_with(page.text, having), **changes})


def redirected(reply: Reply, to: str) -> None:
    errors = re.findall(r'class="[^"]*error[^"]*"[^>]*>\s*([^<]+)', reply.text)
    assert reply.status == 302, (reply.status, errors)
    assert re.search(to, reply.headers["Location"]), reply.headers["Location"]


# -- Wagtail ----------------------------------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """A picture, all red (ISO/IEC 15948)."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xff\0\0" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def bakery(site: Site) -> Site:
    """What `wagtail start` makes, in a project that names appsrv, with an administrator."""
    run(site, str(BIN / "wagtail"), "start", "bakery", ".")
    requirements = site.directory / "requirements.txt"
    requirements.write_text(f"{requirements.read_text()}appsrv[django]\n")
    run(site, PYTHON, "manage.py", "migrate", "--verbosity", "0")
    site.environment |= {f"DJANGO_SUPERUSER_{name.upper()}": value for name, value in ADMIN.items()}
    run(site, PYTHON, "manage.py", "createsuperuser", "--noinput", "--email", "baker@bakery.example")
    return site


def log_in(server: Server) -> Visitor:
    visitor = Visitor(server.address)
    redirected(visitor.get("/admin/"), "^/admin/login/")
    redirected(send_form(visitor, "/admin/login/", "username", **ADMIN), "^/admin/$")
    dashboard = visitor.get("/admin/")
    assert dashboard.status == 200
    assert "/admin/logout/" in dashboard.text
    return visitor


def every_file_of(visitor: Visitor, page: str) -> list[str]:
    """The style sheets and scripts of a page, all of which are there."""
    found = re.findall(r'<(?:link[^>]+href|script[^>]+src)="(/static/[^"]+)"', page)
    for target in found:
        reply = visitor.get(target)
        assert (reply.status, reply.headers.get_content_maintype() in ("text", "image")) == (200, True), target
    return found


def edit_the_home_page(visitor: Visitor, title: str) -> None:
    (edit,) = set(re.findall(r"/admin/pages/\d+/edit/", visitor.get("/admin/pages/").text))
    sent = send_form(visitor, edit, "title", title=title, **{"action-publish": "action-publish"})
    redirected(sent, "^/admin/pages/")
    found = re.search(r"<title>\s*(.*?)\s*</title>", visitor.get("/").text, re.DOTALL)
    assert found
    assert found[1] == title


def upload_a_picture(visitor: Visitor) -> None:
    picture = png(330, 330)
    fields = form_with(visitor.get("/admin/images/add/").text, "title") | {"title": "A red loaf"}
    redirected(visitor.upload("/admin/images/add/", fields, "loaf.png", picture), "^/admin/images/")
    listing = visitor.get("/admin/images/").text
    assert "A red loaf" in listing
    (thumbnail,) = re.findall(r'src="(/media/images/[^"]+\.png)"', listing)
    small = visitor.get(thumbnail)
    assert (small.status, small.headers["Content-Type"]) == (200, "image/png")
    assert struct.unpack_from(">II", small.body, 16) == (165, 165), "Wagtail has made it smaller"
    assert visitor.get("/media/original_images/loaf.png").body == picture


def test_wagtail(bakery: Site, launch: Launch) -> None:
    port = free_port()
    server = launch([PYTHON, "manage.py", "runserver", str(port)], ("127.0.0.1", port)).wait_ready(BOOT)
    wait_for(lambda: "Quit the server with CONTROL-C." in server.terminal, "the framework's last line")
    visitor = log_in(server)
    assert len(every_file_of(visitor, visitor.get("/admin/").text)) > 10
    edit_the_home_page(visitor, "Bread and rolls")
    upload_a_picture(visitor)
    urls = bakery.directory / "bakery" / "urls.py"
    view = 'lambda request: __import__("django.http").http.HttpResponse("open")'
    urls.write_text(urls.read_text() + f'\nurlpatterns.insert(0, path("hours", {view}))\n')
    wait_for(lambda: visitor.get("/hours").text == "open", "the change", BOOT)
    assert "Traceback" not in server.terminal
    assert server.stop(signal.SIGINT) == 0
    wagtail_in_production(bakery, launch)


def wagtail_in_production(bakery: Site, launch: Launch) -> None:
    bakery.write("bakery/settings/local.py", 'SECRET_KEY = "x" * 60\nALLOWED_HOSTS = ["localhost"]\n')
    bakery.environment["DJANGO_SETTINGS_MODULE"] = "bakery.settings.production"
    run(bakery, PYTHON, "manage.py", "collectstatic", "--noinput", "--verbosity", "0")
    port = free_port()
    server = launch([APPSRV, "start", "--port", str(port), "--min-instances", "2"], ("127.0.0.1", port))
    visitor = log_in(server.wait_ready(BOOT))
    page = visitor.get("/").text
    assert "Bread and rolls" in page
    # Collected, with hashes in their names, and served without a web server.
    assert re.search(r"\.[0-9a-f]{12}\.css$", every_file_of(visitor, page)[0])
    edit_the_home_page(visitor, "Cakes")
    before = server.worker_pids()
    assert run(bakery, APPSRV, "restart-app", ".").startswith("Restarting ")
    assert not server.worker_pids() & before
    assert visitor.get("/admin/").status == 200
    assert "Traceback" not in server.log()


# -- I Hate Money -----------------------------------------------------------------------------------------------------


@pytest.fixture
def money(site: Site) -> Site:
    """A directory that names both, with a configuration as its documentation asks for."""
    site.write("requirements.txt", "appsrv[flask]\nihatemoney\n")
    database = site.directory / "money.db"
    settings = site.write(
        "ihatemoney.cfg",
        f'SQLALCHEMY_DATABASE_URI = "sqlite:///{database}"\nSECRET_KEY = "secret"\nSESSION_COOKIE_SECURE = False\n',
    )
    site.environment["IHATEMONEY_SETTINGS_FILE_PATH"] = str(settings)
    return site


def share_a_bill(visitor: Visitor, project: str) -> None:
    """Found a project of two, enter what one has paid, and see what the other owes."""
    created = send_form(
        visitor, "/create", "name", name=project.title(), id=project, password="a secret 1",
        contact_email="ann@money.example", default_currency="XXX",
    )
    redirected(created, f"/{project}/")
    for member in ("Ann", "Bob"):
        page = form_with(visitor.get(f"/{project}/").text, "name")
        redirected(visitor.post(f"/{project}/members/add", {**page, "name": member}), f"/{project}/")
    page_text = visitor.get(f"/{project}/add").text
    ann, bob = re.findall(r'name="payed_for"[^>]*value="(\d+)"|value="(\d+)"[^>]*name="payed_for"', page_text)
    first, second = "".join(ann), "".join(bob)
    bill = form_with(page_text, "what") | {"what": "Bread", "amount": "12.50", "payer": first, "payed_for": first}
    redirected(visitor.post_all(f"/{project}/add", [*bill.items(), ("payed_for", second)]), f"/{project}/")
    assert "Bread" in visitor.get(f"/{project}/").text
    assert "6.25" in visitor.get(f"/{project}/settle_bills").text


def exported(visitor: Visitor, project: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = visitor.get(f"/{project}/export/bills.json").json
    return found


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ihatemoney", "run"], id="its own command"),
        pytest.param(["flask", "--app", "ihatemoney.run:create_app", "--debug", "run"], id="flask run"),
    ],
)
def test_i_hate_money(money: Site, launch: Launch, command: list[str]) -> None:
    port = free_port()
    argv = [str(BIN / command[0]), *command[1:], "--port", str(port)]
    server = launch(argv, ("127.0.0.1", port)).wait_ready(BOOT)
    wait_for(lambda: f" * Running on http://127.0.0.1:{port}" in server.terminal, "the framework's line")
    visitor = Visitor(server.address)
    share_a_bill(visitor, "flat")
    bills = exported(visitor, "flat")
    assert [(bill["what"], bill["amount"], bill["payer_name"]) for bill in bills] == [("Bread", 12.5, "Ann")]
    assert visitor.get("/static/css/main.css").status == 200
    assert visitor.get("/nobody/knows").status == 404
    assert "Traceback" not in server.terminal
    assert server.stop(signal.SIGINT) == 0
    port = free_port()
    argv = [APPSRV, "start", "ihatemoney.run:create_app()", "--port", str(port), "--min-instances", "2"]
    visitor.address = launch(argv, ("127.0.0.1", port)).wait_ready(BOOT).address
    # The session of the same visitor goes on, and so does the data.
    assert exported(visitor, "flat") == bills
    share_a_bill(visitor, "house")
