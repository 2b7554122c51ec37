"""Text of flags and variables, and native values of files, as the values the code works with."""

from __future__ import annotations

import pytest

from appsrv.settings import parsers


@pytest.mark.parametrize(
    ("given", "expected"),
    [("90", 90.0), (90, 90.0), ("0.5", 0.5), ("90s", 90.0), ("5m", 300.0), ("1h30m", 5400.0)],
)
def test_durations(given: object, expected: float) -> None:
    assert parsers.seconds()(given) == expected


@pytest.mark.parametrize(
    "given", ["", "5x", "-1", -1, True, None, "nan", float("nan"), float("inf"), "30m1h"]
)
def test_no_durations(given: object) -> None:
    with pytest.raises(ValueError, match="expected a number of seconds"):
        parsers.seconds()(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0", 0),
        (10, 10),
        ("512K", 512 << 10),
        ("64m", 64 << 20),
        ("1G", 1 << 30),
        ("1 GiB", 1 << 30),
        ("7B", 7),
    ],
)
def test_sizes(given: object, expected: int) -> None:
    assert parsers.size(given) == expected


@pytest.mark.parametrize("given", ["", "1.5G", "-1", -1, True, None, "K"])
def test_no_sizes(given: object) -> None:
    with pytest.raises(ValueError, match="expected a number of bytes"):
        parsers.size(given)


def test_whole_numbers_have_bounds_that_the_error_names() -> None:
    assert parsers.integer(1, 9)(" 9 ") == 9
    for bad in ("10", "0", "six", "1.0", 1.0, True, None, "٣"):
        with pytest.raises(ValueError, match="expected a whole number, 1 to 9"):
            parsers.integer(1, 9)(bad)


@pytest.mark.parametrize(("given", "expected"), [(True, True), ("on", True), ("No", False), ("0", False)])
def test_booleans(given: object, expected: bool) -> None:
    assert parsers.boolean(given) is expected


@pytest.mark.parametrize("given", ["", "maybe", 1, None])
def test_no_booleans(given: object) -> None:
    with pytest.raises(ValueError, match="expected true or false"):
        parsers.boolean(given)


def test_choices_are_named_in_the_error() -> None:
    assert parsers.choice("smart", "direct")("Smart") == "smart"
    with pytest.raises(ValueError, match="expected smart or direct"):
        parsers.choice("smart", "direct")("clever")


def test_hosts() -> None:
    assert parsers.host("[::1]") == "::1"
    assert (parsers.host("0"), parsers.host("*"), parsers.host("fe80::1%eth0")) == ("0.0.0.0", "*", "fe80::1%eth0")
    with pytest.raises(ValueError, match="host name"):
        parsers.host("http://localhost/")


def test_paths_of_requests() -> None:
    assert parsers.url_path("/health?full=1") == "/health?full=1"
    for bad in ("health", "/a b", "/a\r\nHost: x"):
        with pytest.raises(ValueError, match="path of a request"):
            parsers.url_path(bad)


def test_paths_taken_from_the_application() -> None:
    assert parsers.probe_path(" /-/healthy ") == "/-/healthy"
    for bad in ("healthy", "/", "//a", "/a b", "/a?b", "/a%20b", "/a#b", "/ä"):
        with pytest.raises(ValueError, match="path below /"):
            parsers.probe_path(bad)


def test_host_headers() -> None:
    for good in ("shop.example", "shop.example:8000", "[::1]:80", "127.0.0.1"):
        assert parsers.host_header(good) == good
    for bad in ("shop.example/x", "a b", "a\r\nX: y", "shop:port", "http://shop.example"):
        with pytest.raises(ValueError, match="expected a host"):
            parsers.host_header(bad)


def test_text_is_neither_blank_nor_binary() -> None:
    for bad in ("", "  ", 3, "a\0b"):
        with pytest.raises(ValueError, match="expected"):
            parsers.text(bad)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        (" 10.0.0.0/8 , ::1,unix ,", ("10.0.0.0/8", "::1", "unix")),
        (("10.0.0.1,10.0.0.2", "UNIX"), ("10.0.0.1", "10.0.0.2", "unix")),
        (["FD00::/8"], ("fd00::/8",)),
        ("*", ("*",)),
        ("off", ()),
    ],
)
def test_proxies(given: object, expected: tuple[str, ...]) -> None:
    assert parsers.proxies(given) == expected


@pytest.mark.parametrize(
    "given", ["localhost", "10.0.0", "10.0.0.1/8", "10.0.0.0/33", "::1/129", "fe80::1%e", "", 7, [7]]
)
def test_no_proxies(given: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parsers.proxies(given)
