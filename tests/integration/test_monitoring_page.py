"""The page with charts in a real browser: it moves, asks nobody else, and can be read by everybody."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from integration.conftest import Serve
from support.browser_driver import CHROMIUM, DRIVER, forget, started
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
)
POINTS = "return [...document.querySelectorAll('polyline.first')].map(line => line.getAttribute('points'))"
ASKED = "return performance.getEntriesByType('resource').map(entry => entry.name)"
COLOURS = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with started(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> webdriver.Chrome:
    """One for all tests of a module, which knows nothing of the one before."""
    forget(chromium)
    return chromium


def run(browser: webdriver.Chrome, script: str) -> Any:
    return browser.execute_script(script)


def figure(browser: webdriver.Chrome, name: str) -> str:
    """The present value that a chart shows."""
    found = {
        one.find_element(By.TAG_NAME, "span").text: one.find_element(By.TAG_NAME, "strong").text
        for one in browser.find_elements(By.TAG_NAME, "figcaption")
    }
    return found[name]


def open_page(browser: webdriver.Chrome, server: Server) -> str:
    url: str = server.status()["instance"]["metrics"]
    browser.get(url)
    wait_for(lambda: all(run(browser, POINTS)[:3]), "the charts to have points", 30)
    return url


def luminance(colour: str) -> float:
    """Of `rgb(1, 2, 3)`, 0 to 1, without gamma: enough to tell light from dark."""
    return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")) / 765


def test_charts_move_with_what_happens_and_nobody_else_is_asked(serve: Serve, browser: webdriver.Chrome) -> None:
    server = serve("hello", "--max-pool-size", "1", "--metrics-port", "0")
    url = open_page(browser, server)
    before = run(browser, POINTS)

    def seen() -> bool:
        """Whether requests are shown, while there are some."""
        for _ in range(5):
            server.get("/?token=secret")
        times = figure(browser, "Service time: p50, p95").split(", ")
        return float(figure(browser, "Requests per second")) > 0 and all(time.endswith("s") for time in times)

    wait_for(seen, "the requests, and their service times", 30)
    assert run(browser, POINTS) != before
    assert "secret" not in browser.page_source
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: f"PID {pid}, killed by SIGKILL" in browser.page_source, "the death", 30)
    assert {name.removeprefix(url) for name in run(browser, ASKED)} == {"status.json"}
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_it_can_be_read_by_everybody(serve: Serve, browser: webdriver.Chrome) -> None:
    server = serve("hello", "--min-instances", "1", "--metrics-port", "0")
    for scheme in ("dark", "light"):
        feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
        open_page(browser, server)
        ink, paper = (luminance(colour) for colour in run(browser, COLOURS))
        assert (ink < 0.3 and paper > 0.8) if scheme == "light" else (ink > 0.8 and paper < 0.3)
    labels = [one.get_attribute("aria-label") or "" for one in browser.find_elements(By.CSS_SELECTOR, "svg[role=img]")]
    assert len(labels) == 8
    assert all(": now " in label for label in labels)
    assert browser.find_element(By.TAG_NAME, "caption").text == "Workers"
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    button = browser.switch_to.active_element
    assert button.text == "Pause"
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-pressed") == "true"
    paused = run(browser, ASKED)
    wait_for(lambda: browser.find_element(By.ID, "notice").text == "Paused", "the word")
    assert len(run(browser, ASKED)) <= len(paused) + 1


def test_a_server_that_has_gone_is_told(serve: Serve, browser: webdriver.Chrome) -> None:
    server = serve("hello", "--metrics-port", "0")
    open_page(browser, server)
    server.stop()
    wait_for(lambda: "does not answer" in browser.find_element(By.ID, "notice").text, "the notice", 30)
