"""The Django example in a real browser: headless Chromium, driven through its driver."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as seen
from selenium.webdriver.support.ui import WebDriverWait

from integration.conftest import Launch
from support.server import Server, Site, free_port

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
# The last four keep it from calling hosts outside, which a test machine does not reach.
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SECONDS = 30

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    assert CHROMIUM
    assert DRIVER
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(switch)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


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
