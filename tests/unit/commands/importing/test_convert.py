"""All examples: what is printed loads, keeps no secret, follows the source, and executes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appsrv.commands.importing import convert, page
from appsrv.commands.importing.outcome import Assigned, Converted, Outcome, Remark
from appsrv.errors import SettingsError
from support.importing import FILES, HOME, NAMES, command, example, imported, nothing

ROOT = Path(__file__).resolve().parents[4]
KINDS = {
    "Passengerfile.json": "passenger",
    "Procfile": "procfile",
    "gunicorn.conf.py": "gunicorn",
    "gunicorn_minimal.conf.py": "gunicorn",
    "shop.service": "systemd",
    "start.sh": "command",
    "supervisord.conf": "supervisord",
    "uwsgi.ini": "uwsgi",
}


def test_each_example_has_a_kind() -> None:
    assert sorted(KINDS) == NAMES
    assert len(list(FILES.iterdir())) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_result_loads_and_holds_no_secret(name: str) -> None:
    printed = imported(example(name), name)
    assert printed.loaded().app == printed.settings.get("app")
    assert "sesame" not in printed.text
    assert max(len(line) for line in printed.text.splitlines() if line.startswith("#   ")) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_the_kind_is_found_by_content(name: str) -> None:
    assert convert.kind_of(name, example(name)) == KINDS[name]
    plain = "settings.txt" if KINDS[name] != "passenger" else "settings.json"
    assert convert.kind_of(plain, example(name)) == KINDS[name]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "start.sh"])
def test_each_line_of_the_source_is_there_in_its_order(name: str) -> None:
    numbers = [int(number) for number in re.findall(r"^# lines? (\d+)", imported(example(name), name).text, re.M)]
    assert numbers == sorted(numbers)
    content = example(name).splitlines()
    missing = [number for number, line in enumerate(content, 1) if _is_directive(line) and number not in numbers]
    # Continuations of a line above, and lines inside a list, condition or loop.
    assert all(content[number - 1].startswith((" ", "]", "py-", "attach-", "end", "http")) for number in missing)


def _is_directive(line: str) -> bool:
    is_code = line.startswith(("import", "from ", "def ", '"""', "#", ";", "[", "{", "}"))
    return bool(line.strip()) and not is_code and bool(re.search(r"[=:]", line))


def test_nothing_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    text = f"import pathlib\nworkers = pathlib.Path({str(mark)!r}).touch() or 3\nopen({str(mark)!r}, 'w')\n"
    printed = imported(text)
    assert not mark.exists()
    assert "max_pool_size" not in printed.settings
    assert "Not read: only executing pathlib.Path('" in printed.below("line 2: workers")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("app.py", "app = config = 3\n", "none of the files that appsrv import knows"),
        ("conf.py", "workers = (\n", "conf.py is no valid Python (line 1: "),
        ("notes.txt", "buy milk\n", "none of the files that appsrv import knows"),
        ("uwsgi.xml", "<uwsgi><http>:80</http></uwsgi>", "a configuration of uWSGI in XML"),
        ("uwsgi.yaml", "uwsgi:\n  http: :80\n", "a configuration of uWSGI in YAML"),
        ("conf.json", '{"uwsgi": {"http": ":80"}}', "a configuration of uWSGI in JSON"),
        ("gunicorn.conf.py", "workers = (\n", "is no valid Python (line 1: "),
        ("gunicorn.conf.py", "x = " + "(" * 5000 + ")" * 5000, "is no valid Python"),
        ("gunicorn.conf.py", "\n", "there is nothing to import"),
        ("Passengerfile.json", '{"port": 80', "is no valid JSON"),
        ("Passengerfile.json", "[1]", "has to be an object of options"),
        ("shop.service", "[Service]\nUser=shop\n", "has no ExecStart"),
        ("Procfile", "# nothing\n", "Procfile has no program in it"),
        ("Procfile", "worker: celery worker\n", "starts no server that appsrv import knows (programs: worker)"),
        ("supervisord.conf", "[program:a]\ncommand=sleep 1\n", "name one by --program"),
    ],
)
def test_what_cannot_be_read(name: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        imported(text, name)


def test_a_file_of_hooks_alone_is_gunicorn_s() -> None:
    assert convert.kind_of("hooks.py", "def post_fork(server, worker): pass\n") == "gunicorn"


def test_a_kind_that_is_forced() -> None:
    assert imported("[uwsgi]\nhttp = :80\n", "settings", "uwsgi").settings["port"] == 80
    with pytest.raises(SettingsError, match="no section"):
        imported("a: b\n", "settings", "uwsgi")
    with pytest.raises(SettingsError, match="leave out --program"):
        imported("workers = 3\n", program="web")


@pytest.mark.parametrize("line", ["ls -l", "", "gunicorn 'x"])
def test_a_command_line_without_a_server(line: str) -> None:
    with pytest.raises(SettingsError):
        command(line)


@given(
    name=st.sampled_from(NAMES), start=st.integers(0, 1000), length=st.integers(0, 20),
    added=st.text(alphabet="\"'$%(){}[]=:;\\\n\r\0 é-", max_size=6),
)  # fmt: skip
@settings(max_examples=100)
def test_a_damaged_source_is_read_or_refused(name: str, start: int, length: int, added: str) -> None:
    text = example(name)
    start %= len(text)
    try:
        printed = imported(text[:start] + added + text[start + length :], name)
    except SettingsError:
        return
    printed.loaded()


# -- the page ----------------------------------------------------------------------------------------------


def page_of(*items: Assigned | Remark) -> str:
    return page.render(Outcome("gunicorn", (Converted("line 1", "x", items),)), "appsrv import", HOME)


def test_values_in_toml() -> None:
    text = page_of(
        Assigned("app", 'shop:make("a")'), Assigned("log_file", "it's\x7f\\.log"), Assigned("static", ["/a/=b"])
    )
    assert "app = 'shop:make(\"a\")'" in text
    assert 'log_file = "it\'s\\u007f\\\\.log"' in text
    assert 'static = ["/a/=b"]' in text


def test_a_value_that_appsrv_refuses_is_a_comment() -> None:
    assert "#   Not taken over: port = 99999, expected a whole number, 0 to 65535." in page_of(Assigned("port", 99999))


def test_settings_that_contradict_each_other() -> None:
    text = page_of(Assigned("max_pool_size", 2), Assigned("min_instances", 3))
    assert "max_pool_size = 2" in text
    assert "#   Left out: min_instances = 3, because min_instances (3) is above max_pool_size (2)" in text


def test_settings_given_twice() -> None:
    text = page_of(Assigned("threads", 2), Assigned("threads", 3))
    assert "threads = 3" in text
    assert "#   Sets threads, which is set again below; that counts." in text


def test_a_secret_in_a_value_is_a_comment() -> None:
    text = page_of(Assigned("start_command", "node server.js --password=open-sesame"))
    assert "sesame" not in text
    assert "put the secret into the file .env beside the application (mode 600)" in re.sub(r"\n#   ", " ", text)


def test_a_line_end_in_the_source_ends_no_comment() -> None:
    text = page.render(Outcome("x", (Converted("line 1", "a\nport = 1\r\x1b[31m"),)), "appsrv import", HOME)
    assert "# line 1: a\\nport = 1[31m" in text


def test_the_example_in_the_docs() -> None:
    docs = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8").partition("## From gunicorn")[2]
    source, printed = (re.findall(rf"```{kind}\n(.*?)```", docs, re.S)[0] for kind in ("python", "toml"))
    title = "appsrv import gunicorn.conf.py"
    made = convert.from_file(Path("/srv/shop/gunicorn.conf.py"), source, nothing, title=title)
    assert (made.text, made.directory) == (printed, Path("/srv/shop"))
