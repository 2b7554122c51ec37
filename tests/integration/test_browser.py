"""The examples in a real browser: headless Chromium, driven through its driver."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as seen
from selenium.webdriver.support.ui import WebDriverWait

from integration.conftest import Launch
from support.browser_driver import CHROMIUM, DRIVER, forget, started
from support.server import BIN, Server, Site, free_port
from support.waiting import wait_for

SECONDS = 30

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with started(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> webdriver.Chrome:
    """One for all tests of a module, which knows nothing of the one before."""
    forget(chromium)
    return chromium


@pytest.fixture
def example(site: Site, launch: Launch) -> Server:
    site.add_project("django")
    assert site.run_command([sys.executable, "manage.py", "demo"]).returncode == 0
    port = free_port()
    argv = [sys.executable, "manage.py", "runserver", str(port)]
    return launch(argv, ("127.0.0.1", port)).wait_ready()


def url(server: Server, path: str) -> str:
    assert isinstance(server.address, tuple)
    return f"http://127.0.0.1:{server.address[1]}{path}"


def test_admin_login(browser: webdriver.Chrome, example: Server) -> None:
    browser.get(url(example, "/admin/"))
    browser.find_element(By.NAME, "username").send_keys("demo")
    browser.find_element(By.NAME, "password").send_keys("demo")
    browser.find_element(By.CSS_SELECTOR, "input[type=submit]").click()
    WebDriverWait(browser, SECONDS).until(seen.presence_of_element_located((By.ID, "user-tools")))
    assert "Site administration" in browser.title
    header = browser.find_element(By.ID, "header")
    assert header.value_of_css_property("background-color") != "rgba(0, 0, 0, 0)", "the styles did not arrive"


def test_upload(browser: webdriver.Chrome, example: Server, tmp_path: Path) -> None:
    file = tmp_path / "from-the-browser.txt"
    file.write_text("carried by Chromium\n")
    browser.get(url(example, "/"))
    browser.find_element(By.NAME, "title").send_keys("From the browser")
    browser.find_element(By.NAME, "file").send_keys(str(file))
    browser.find_element(By.CSS_SELECTOR, "form button").click()
    WebDriverWait(browser, SECONDS).until(seen.presence_of_element_located((By.CLASS_NAME, "message")))
    link = browser.find_element(By.LINK_TEXT, "From the browser")
    assert example.get(link.get_dom_attribute("href") or "").text == "carried by Chromium\n"


def text(browser: webdriver.Chrome) -> str:
    # Not by an element: the page may be replaced at any moment.
    return str(browser.execute_script("return document.body ? document.body.innerText : ''"))


def wait_text(browser: webdriver.Chrome, part: str) -> None:
    """Until the page shows this, without anybody touching the browser."""
    wait_for(lambda: part in text(browser), f"{part!r} on the page", SECONDS)


def test_the_traceback_page_heals_itself(browser: webdriver.Chrome, example: Server) -> None:
    good = (example.site.directory / "uploads" / "views.py").read_text()

    def save(text: str) -> None:
        # Half of it would be loaded, too, and again what it is then: by another process.
        example.site.save("uploads/views.py", text)

    save(f"{good}\nthis is no Python\n")
    wait_for(lambda: example.get("/pid/").status == 500, "the error page", SECONDS)
    browser.get(url(example, "/pid/"))
    wait_text(browser, "SyntaxError")
    # Another mistake, then none.
    save(f"{good}\nimport nothing_of_this_name\n")
    wait_text(browser, "nothing_of_this_name")
    save(good)
    # Between two pages there is an empty one.
    wait_for(lambda: text(browser).startswith("{"), "the page without the mistake", SECONDS)
    assert text(browser).strip() == example.get("/pid/").text.strip()


@pytest.fixture
def guestbook(site: Site, launch: Launch) -> Server:
    site.add_project("flask")
    port = free_port()
    argv = [str(BIN / "flask"), "--debug", "run", "--port", str(port)]
    return launch(argv, ("127.0.0.1", port)).wait_ready()


def test_the_debuggers_page_heals_itself(browser: webdriver.Chrome, guestbook: Server) -> None:
    app = guestbook.site.directory / "app.py"
    good = app.read_text()
    guestbook.site.save("app.py", f"{good}\nmistake\n")
    wait_for(lambda: guestbook.get("/pid").status == 500, "the error page", SECONDS)
    browser.get(url(guestbook, "/pid"))
    wait_text(browser, "name 'mistake' is not defined")
    guestbook.site.save("app.py", f'{good}\n\n@app.get("/healed")\ndef healed() -> str:\n    return "healed"\n')
    wait_for(lambda: text(browser).startswith("{"), "the page without the mistake", SECONDS)
    assert guestbook.get("/healed").text == "healed"
    assert '"HEAD /pid' not in guestbook.terminal



EVENTS = """
import threading

def _events():
    yield "data: old\\n\\n"
    threading.Event().wait()

@app.get("/events")
def events():
    return Response(_events(), mimetype="text/event-stream")

@app.get("/live")
def live():
    return '''<body><p></p><script>
        new EventSource("/events").onmessage = event => document.querySelector("p").innerText += event.data + ";";
    </script>'''
"""


def test_an_event_source_goes_on_with_the_new_code(browser: webdriver.Chrome, guestbook: Server) -> None:
    app = guestbook.site.directory / "app.py"
    guestbook.site.save("app.py", app.read_text() + EVENTS)
    wait_for(lambda: guestbook.get("/live").status == 200, "the page", SECONDS)
    browser.get(url(guestbook, "/live"))
    wait_text(browser, "old;")
    guestbook.site.save("app.py", app.read_text().replace("data: old", "data: new"))
    # The page was not loaded again: what it has heard before still stands there.
    wait_text(browser, "old;new;")


def test_the_debuggers_console(browser: webdriver.Chrome, guestbook: Server) -> None:
    app = guestbook.site.directory / "app.py"
    view = '\n\n@app.get("/oops")\ndef oops() -> str:\n    answer = 41\n    return 1 / 0\n'
    guestbook.site.save("app.py", app.read_text() + view)
    wait_for(lambda: guestbook.get("/oops").status == 500, "the broken view", SECONDS)
    found = re.search(r"Debugger PIN: ([\d-]+)", guestbook.terminal)
    assert found
    browser.get(url(guestbook, "/oops"))
    frame = browser.find_elements(By.CSS_SELECTOR, "div.frame")[-1]
    icon = frame.find_element(By.CSS_SELECTOR, "img")
    browser.execute_script("arguments[0].click()", icon)
    pin = WebDriverWait(browser, SECONDS).until(seen.element_to_be_clickable((By.NAME, "pin")))
    pin.send_keys(found[1])
    pin.submit()
    wait_for(lambda: browser.execute_script("return EVALEX_TRUSTED"), "the PIN to be taken", SECONDS)
    entry = browser.find_element(By.CSS_SELECTOR, ".console input")
    browser.execute_script("arguments[0].value = 'answer + 1'; arguments[0].form.requestSubmit()", entry)
    wait_text(browser, "42")


@pytest.fixture
def fresh(site: Site, launch: Launch) -> Server:
    """What `django-admin startproject` makes, in a project that names appsrv, with an administrator."""
    site.environment |= {"DJANGO_SUPERUSER_USERNAME": "demo", "DJANGO_SUPERUSER_PASSWORD": "demo"}
    site.write("requirements.txt", "appsrv[django]\n")
    for command in (
        [str(BIN / "django-admin"), "startproject", "library", "."], [sys.executable, "manage.py", "migrate"],
        [sys.executable, "manage.py", "createsuperuser", "--noinput", "--email", "demo@shop.example"],
    ):
        done = site.run_command(command, 60.0)
        assert done.returncode == 0, done.stderr
    port = free_port()
    return launch([sys.executable, "manage.py", "runserver", str(port)], ("127.0.0.1", port)).wait_ready()


def click(browser: webdriver.Chrome, by: str, what: str, then: str) -> None:
    """Click, and wait for the page that has an element of this class or id."""
    browser.find_element(by, what).click()
    WebDriverWait(browser, SECONDS).until(seen.presence_of_element_located((By.CSS_SELECTOR, then)))


def test_clicking_through_the_admin(browser: webdriver.Chrome, fresh: Server) -> None:
    """Log in, add, change, find and delete something, log out: each step by what is on the page before."""
    browser.get(url(fresh, "/admin/"))
    browser.find_element(By.NAME, "username").send_keys("demo")
    browser.find_element(By.NAME, "password").send_keys("demo")
    click(browser, By.CSS_SELECTOR, "input[type=submit]", "#user-tools")
    click(browser, By.CSS_SELECTOR, ".model-group .addlink", "#group_form")
    browser.find_element(By.NAME, "name").send_keys("Librarians")
    # The admin's own script moves what was chosen from one list to the other. A double click would do it, too, unless
    # the browser stands still between the two.
    choice = WebDriverWait(browser, SECONDS).until(
        seen.element_to_be_clickable((By.CSS_SELECTOR, "#id_permissions_from option"))
    )
    choice.click()
    click(browser, By.CSS_SELECTOR, ".selector-add", "#id_permissions_to option")
    click(browser, By.NAME, "_save", ".messagelist .success")
    assert "1 group" in text(browser)
    click(browser, By.LINK_TEXT, "Librarians", "#group_form")
    WebDriverWait(browser, SECONDS).until(
        seen.presence_of_element_located((By.CSS_SELECTOR, "#id_permissions_to option"))
    )
    name = browser.find_element(By.NAME, "name")
    name.clear()
    name.send_keys("Readers")
    click(browser, By.NAME, "_save", ".messagelist .success")
    assert "The group “Readers” was changed successfully." in text(browser)
    search = browser.find_element(By.ID, "searchbar")
    search.send_keys("read")
    search.submit()
    WebDriverWait(browser, SECONDS).until(seen.url_contains("q=read"))
    click(browser, By.LINK_TEXT, "Readers", "#group_form")
    click(browser, By.CLASS_NAME, "deletelink", ".delete-confirmation")
    click(browser, By.CSS_SELECTOR, "#content form input[type=submit]", ".messagelist .success")
    assert "0 groups" in text(browser)
    click(browser, By.CSS_SELECTOR, "#logout-form button", "#content")
    wait_text(browser, "Logged out")
    assert "Traceback" not in fresh.terminal
