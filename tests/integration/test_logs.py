"""The server log: whole lines of everything the application prints, and nothing lost."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from integration.conftest import Serve, Share
from support.server import COMMAND, Server, Site, free_port
from support.waiting import wait_for


@pytest.fixture
def server(share: Share) -> Server:
    return share("printing", "--max-pool-size", "1")


@pytest.mark.parametrize(
    ("way", "stream"),
    [
        ("print", "stdout"),
        ("stderr", "stderr"),
        ("write", "stdout"),
        ("write2", "stderr"),
        ("pieces", "stdout"),
        ("c", "stdout"),
        ("errors", "stderr"),
    ],
)
def test_line_names_pid_and_stream(server: Server, way: str, stream: str) -> None:
    pid = server.get(f"/{way}?text-by-{way}").text
    line = server.wait_log(rf"^.*text-by-{way}$").group()
    assert re.search(rf"App {pid} {stream}: text-by-{way}$", line), line
    assert re.match(r"\[? ?\d{4}-\d\d-\d\d", line), f"no time in {line!r}"


@pytest.mark.parametrize(("way", "stream"), [("print", "stdout"), ("stderr", "stderr"), ("errors", "stderr")])
def test_line_names_the_request(server: Server, way: str, stream: str) -> None:
    reply = server.request("GET", f"/{way}?text-by-{way}", headers={"X-Request-ID": "my-own-id"})
    pid = reply.text
    server.wait_log(rf" INFO     \[my-own-id GET /{way}\] App {pid} {stream}: text-by-{way}$")


def test_labels_can_be_switched_off(serve: Serve) -> None:
    server = serve("printing", "--max-pool-size", "1", "--no-label-output")
    pid = server.get("/print?bare").text
    server.wait_log(rf" INFO     App {pid} stdout: bare$")


def test_tracebacks_of_several_workers_do_not_mix(serve: Serve) -> None:
    server = serve("printing", "--max-pool-size", "3", "--min-instances", "3")
    with ThreadPoolExecutor(6) as clients:
        list(clients.map(lambda number: server.get(f"/traceback?{number}"), range(60)))
    wait_for(lambda: server.log().count("ValueError: no such product") == 60, "all tracebacks")
    lines = [line.partition(" INFO     ")[2] for line in server.log().splitlines() if "/traceback]" in line]
    blocks = [list(block) for _, block in itertools.groupby(lines, lambda line: line.partition("]")[0])]
    assert len(blocks) == 60
    assert all(block[0].endswith("Traceback (most recent call last):") for block in blocks)
    assert all(re.search(r"ValueError: no such product \d+$", block[-1]) for block in blocks)


def test_output_of_child_processes(server: Server) -> None:
    server.get("/child?from-a-child")
    server.wait_log(r"App \d+ stdout: from-a-child$")
    server.wait_log(r"App \d+ stderr: from-a-child$")


def test_nothing_is_split_or_lost(server: Server) -> None:
    server.get("/many?number")
    server.wait_log(r"stdout: number 1999$")
    found = re.findall(r"stdout: number (\d+)$", server.log(), re.MULTILINE)
    assert found == [str(number) for number in range(2000)]


def test_bytes_that_are_not_text(server: Server) -> None:
    server.get("/bytes?odd")
    server.wait_log(r"stdout: .*odd$")


def test_unfinished_line_appears_when_its_worker_ends(serve: Serve) -> None:
    server = serve("printing", "--max-pool-size", "1")
    server.get("/unfinished?no-newline")
    log = server.site.directory
    assert server.stop() == 0
    assert any("no-newline" in path.read_text() for path in log.glob("**/*.log"))


def test_last_words_of_a_crash(serve: Serve) -> None:
    server = serve("printing", "--max-pool-size", "1")
    server.get("/write?last-words")
    pid = min(server.worker_pids())
    os.kill(pid, signal.SIGKILL)
    server.wait_log(rf"App {pid} stdout: last-words$")


def test_application_keeps_its_own_log_files(serve: Serve, site: Site) -> None:
    site.write(
        "own.py",
        "import logging\n"
        "logging.basicConfig(filename='own-file.txt', level=logging.INFO)\n"
        "def application(environ, start_response):\n"
        "    logging.info('only in its own file')\n"
        "    start_response('200 OK', [('Content-Length', '2')])\n"
        "    return [b'ok']\n",
    )
    own = serve("own:application")
    assert own.get("/").text == "ok"
    text = site.directory / "own-file.txt"
    wait_for(lambda: text.exists() and "only in its own file" in text.read_text(), "the application's log")
    assert "only in its own file" not in own.log()


def test_foreground_shows_the_log_on_the_terminal(server: Server) -> None:
    server.get("/print?on-the-terminal")
    wait_for(lambda: "on-the-terminal" in server.terminal, "the line on the terminal")
    assert "\x1b[" not in server.terminal, "colour although it is no terminal"


JSON_KEYS = {"time", "level", "pid", "stream", "request_id", "method", "path", "text"}


class OnTwoPipes(Server):
    """A server in the foreground whose two streams are files of their own."""

    def _start(self) -> subprocess.Popen[bytes]:
        self.errors = self.output.with_suffix(".errors")
        with self.output.open("wb") as out, self.errors.open("wb") as err:
            return subprocess.Popen(
                self.argv, cwd=self.site.directory, env=self.environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=err, start_new_session=True,
            )


@pytest.fixture
def foreground(site: Site) -> Iterator[Callable[..., OnTwoPipes]]:
    started: list[OnTwoPipes] = []

    def start(*options: str) -> OnTwoPipes:
        site.add_app("printing")
        port = free_port()
        argv = [COMMAND, "start", "printing:application", "--port", str(port), "--max-pool-size", "1", *options]
        started.append(OnTwoPipes(site, argv, ("127.0.0.1", port)))
        started[-1].wait_ready()
        return started[-1]

    yield start
    assert [left for server in started for left in server.reap()] == []


def ask_everything(server: Server) -> str:
    """Have a line written in each of the ways that matter; the pid of the worker."""
    first = ("/print?one", "/stderr?two", "/bytes?three", "/bar?four", "/nul?five")
    for path in (*first, "/traceback?six", "/long?seven"):
        pid = server.get(path, {"X-Request-ID": f"id-{path[1:4]}"}).text
    wait_for(lambda: server.terminal.count("seven") >= 20_000, "the last line in the foreground")
    wait_for(lambda: server.log().count("seven") >= 20_000, "the last line in the log")
    return pid


def test_plain_lines_are_on_the_stream_and_as_the_application_wrote_them(
    foreground: Callable[..., OnTwoPipes]
) -> None:
    server = foreground("--log-format", "plain", "--access-log", "-")
    ask_everything(server)
    wait_for(lambda: b"GET /long" in server.output.read_bytes(), "the access log")
    out, err = server.output.read_bytes().split(b"\n"), server.errors.read_text().splitlines()
    assert out[0] == b"one", "no banner"
    assert b"\xff\xfethree" in out
    assert b"\r 10%\r 50%\r100% four" in out
    assert b"five \0 five" in out
    assert [line for line in out if b'"GET /print?one HTTP/1.1" 200' in line] != []
    assert "two" in err
    at = err.index("Traceback (most recent call last):")
    assert "ValueError: no such product six" in err[at:]
    assert any(re.search(r" INFO     serving .* at http://127.0.0.1:", line) for line in err), "appsrv itself"
    log = server.log_file().read_bytes().split(b"\n")
    assert {b"one", b"two", b"\xff\xfethree", b"100% four"} <= set(log)
    found = server.site.command("logs", "--json", "-n", "100000").stdout.splitlines()
    assert "one" in [json.loads(line)["text"] for line in found]


def test_json_is_an_object_a_line(foreground: Callable[..., OnTwoPipes]) -> None:
    server = foreground("--log-format", "json", "--access-log", "-")
    pid = int(ask_everything(server))
    wait_for(lambda: server.log().count('"access"') == 7, "the access log")
    assert server.stop() == 0
    shown = [json.loads(line) for line in server.terminal.splitlines()]
    [log] = server.site.directory.glob("*.log")
    assert shown == [json.loads(line) for line in log.read_text().splitlines()]
    assert server.errors.read_text() == ""
    own = [entry for entry in shown if entry["stream"] == "appsrv"]
    assert any(entry["text"].startswith("serving ") for entry in own)
    access = [entry for entry in shown if entry["stream"] == "access"]
    assert [entry["request_id"] for entry in access][:2] == ["id-pri", "id-std"]
    assert {entry["status"] for entry in access} == {200}
    printed = [entry for entry in shown if entry["stream"] in ("stdout", "stderr")]
    assert all(set(entry) == JSON_KEYS and entry["pid"] == pid for entry in printed)
    by_path = {entry["path"]: entry for entry in printed}
    assert (by_path["/print"]["text"], by_path["/print"]["request_id"]) == ("one", "id-pri")
    assert by_path["/stderr"]["stream"] == "stderr"
    assert r"\xff\xfethree" in [entry["text"] for entry in printed], "written to the descriptor: of no request"
    assert by_path["/bar"]["text"] == "100% four"
    assert by_path["/nul"]["text"] == "five \0 five"
    traceback = by_path["/traceback"]["text"].splitlines()
    assert (traceback[0], traceback[-1]) == ("Traceback (most recent call last):", "ValueError: no such product six")
    read = server.site.command("logs", "--log-file", str(log), "--request", "id-tra").stdout.splitlines()
    label = f" INFO     [id-tra GET /traceback] App {pid} stderr: "
    assert [line.partition(label)[2] for line in read[: len(traceback)]] == traceback


def test_printed_text_is_no_access_line_without_labels(foreground: Callable[..., OnTwoPipes]) -> None:
    server = foreground("--log-format", "json", "--access-log", "-", "--no-label-output")
    pid = int(server.get("/print?%00%06%00{%22pid%22:1}").text)
    server.get("/print?in%20the%20middle%00%06%00{%22pid%22:1}")
    wait_for(lambda: server.log().count('"access"') == 2, "the access log")
    assert server.stop() == 0
    of_worker = [entry for entry in map(json.loads, server.terminal.splitlines()) if entry["stream"] != "appsrv"]
    assert [(entry["stream"], entry["pid"], entry.get("text")) for entry in of_worker] == [
        ("stdout", pid, '\\x00\6\0{"pid":1}'), ("access", pid, None),
        ("stdout", pid, 'in the middle\\x00\6\0{"pid":1}'), ("access", pid, None),
    ]


ROTATIONS = {
    "moved": "nocreate",
    "reopened": "create\n    postrotate\n        {reopen}\n    endscript",
    "signalled": "create\n    postrotate\n        kill -USR1 {pid}\n    endscript",
    "truncated": "copytruncate",
}


def test_logrotate(serve: Serve) -> None:
    """The real one: no line is lost or written to the old file, however it is told to rotate."""
    logrotate = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if logrotate is None:
        pytest.skip("logrotate is not installed")
    server = serve("printing", "--max-pool-size", "1")
    log, site = server.log_file(), server.site
    reopen = f"{COMMAND} reopen-logs --port {server.address[1]} > /dev/null"
    configuration = site.run / "logrotate.conf"
    command = [logrotate, "--force", "--state", str(site.run / "logrotate.state"), str(configuration)]
    for way, words in ROTATIONS.items():
        server.get(f"/many?before-{way}")
        server.wait_log(rf"stdout: before-{way} 1999$")
        configuration.write_text(f"{log} {{\n    rotate 9\n    {words.format(reopen=reopen, pid=server.pid)}\n}}\n")
        configuration.chmod(0o600)
        subprocess.run(command, env=site.environment, check=True, timeout=30)
        server.get(f"/many?after-{way}")
        # Where it was only moved, the next line makes it.
        wait_for(log.exists, "the new file")
        server.wait_log(rf"stdout: after-{way} 1999$")
        old, new = log.with_name(f"{log.name}.1").read_text(), log.read_text()
        assert len(re.findall(rf"stdout: before-{way} \d+$", old, re.MULTILINE)) == 2000, way
        assert len(re.findall(rf"stdout: after-{way} \d+$", new, re.MULTILINE)) == 2000, way
        assert f"after-{way}" not in old
        assert "\0" not in new


def test_the_command_that_reads_it_back(serve: Serve, site: Site) -> None:
    server = serve("printing")
    pid = int(server.get("/print?an+order").text)
    server.wait_log("an.order")
    shown = site.command("logs", "--worker", str(pid), "--json")
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert f"worker {pid} of {site.directory} is ready" in lines[0]["text"]
    assert {line["pid"] for line in lines} == {pid, None}
    (printed,) = [line for line in lines if line["path"] == "/print"]
    found = site.command("logs", "--request", printed["request"]).stdout
    assert found.splitlines()[0].endswith("an+order")
    assert len(site.command("logs", "-n", "1").stdout.splitlines()) == 1
    assert site.command("logs", "--since", "soon").returncode == 2
    server.stop()
    gone = site.command("logs")
    assert (gone.returncode, "--log-file" in gone.stderr) == (1, True)
    assert site.command("logs", "--log-file", str(site.directory / "none.log")).returncode == 1
