"""Run directories: whose they are, who lives in them, and which one a command means."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appsrv.errors import AlreadyRunning, NotRunning, RunDirectoryError, SeveralInstances
from appsrv.instance import run_directory
from appsrv.instance.run_directory import Instance, InstanceDirectory, InstanceInfo

INFO = InstanceInfo(
    name="shop-8000-00000000",
    pid=4242,
    version="0.1.0",
    root="/srv/shop",
    app="wsgi:application",
    environment="production",
    bind=("http://127.0.0.1:8000/",),
    pid_file="/srv/shop/appsrv.8000.pid",
    log_file="/srv/shop/appsrv.8000.log",
    started=1700000000.0,
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "run"


def create(base: Path, root: str = "/srv/shop", bind: str = "127.0.0.1:8000") -> InstanceDirectory:
    directory = InstanceDirectory.create(base, root, bind)
    directory.write(replace(INFO, name=directory.name, root=root, bind=(f"http://{bind}/",)))
    return directory


def make(root: str, port: int = 8000, pid_file: str | None = None) -> Instance:
    name = run_directory.instance_name(root, f"127.0.0.1:{port}")
    info = replace(INFO, name=name, root=root, bind=(f"http://127.0.0.1:{port}/",), pid_file=pid_file)
    return Instance(Path("/run/appsrv") / name, info)


# -- names and places --------------------------------------------------------------------------------------


def test_names_are_readable_and_tell_instances_apart() -> None:
    name = run_directory.instance_name("/srv/shop", "127.0.0.1:8000")
    assert name.startswith("shop-8000-")
    assert name == run_directory.instance_name("/srv/shop", "127.0.0.1:8000")
    assert name != run_directory.instance_name("/opt/shop", "127.0.0.1:8000")
    assert run_directory.instance_name("/srv/shop", "/run/web.sock").startswith("shop-web-")
    assert run_directory.instance_name("/", "127.0.0.1:1").startswith("1-")
    awkward = run_directory.instance_name("/srv/Größe & mehr-und-noch-viel-mehr", "[::1]:80")
    assert awkward.isascii()
    assert len(awkward) < 50


def test_the_port_of_a_url() -> None:
    info = replace(INFO, bind=("http://[::1]:80/", "unix:/run/a.sock"))
    assert info.ports == {80}


def test_files_stand_where_passenger_s_do(tmp_path: Path) -> None:
    assert run_directory.default_pid_file(tmp_path, 8000) == tmp_path / "appsrv.8000.pid"
    assert run_directory.default_log_file(tmp_path, None) == tmp_path / "appsrv.log"
    (tmp_path / "tmp/pids").mkdir(parents=True)
    (tmp_path / "log").mkdir()
    assert run_directory.default_pid_file(tmp_path, None) == tmp_path / "tmp/pids/appsrv.pid"
    assert run_directory.default_log_file(tmp_path, 8000) == tmp_path / "log/appsrv.8000.log"


# -- the run directory -------------------------------------------------------------------------------------


def test_a_run_directory_is_private_and_goes_with_its_instance(base: Path) -> None:
    directory = create(base)
    for place in (base, directory.path):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert not os.get_inheritable(directory.lock_fd)
    (one,) = run_directory.list_instances([base])
    assert (one.directory, one.info.root, one.is_alive()) == (directory.path, "/srv/shop", True)
    assert one.admin_socket == directory.admin_socket
    directory.remove()
    assert not directory.path.exists()
    assert not one.is_alive()
    assert run_directory.list_instances([base]) == []


def test_two_instances_do_not_meet_unless_they_are_the_same(base: Path) -> None:
    first = create(base)
    second = create(base, bind="127.0.0.1:8001")
    with pytest.raises(AlreadyRunning, match=f"already running on PID {os.getpid()}") as caught:
        create(base)
    assert caught.value.pid == os.getpid()
    assert len(run_directory.list_instances([base, base.parent / "none"])) == 2
    first.remove()
    create(base).remove()
    second.remove()


@pytest.mark.process
def test_what_a_killed_instance_left_is_used_again_or_cleaned_up(base: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from appsrv.instance.run_directory import InstanceDirectory\n"
        "d = InstanceDirectory.create(Path(sys.argv[1]), '/srv/shop', '127.0.0.1:8000')\n"
        "(d.path / 'admin.sock').touch(); (d.path / 'instance.json').touch(); print(d.path, flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(base)]
    for _ in range(2):  # the second one finds what the first one left
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            path = Path(child.stdout.readline().strip())
            assert run_directory.is_alive(path)
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert path.exists()
        assert not run_directory.is_alive(path)
    directory = create(base)
    assert sorted(entry.name for entry in directory.path.iterdir()) == ["instance.json", "lock"]
    directory.close()
    assert run_directory.list_instances([base]) == []
    assert not path.exists()


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="a process is known by its lock (proc)")
def test_a_watchdog_whose_descriptors_are_hidden_is_signalled() -> None:
    """As those of a service with AmbientCapabilities are; a process without the lock is not signalled."""
    code = (
        "import ctypes, fcntl, sys; ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE\n"
        "lock = open(sys.argv[1], 'w')\n"
        "if sys.argv[2] == 'locks': fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        directory.chmod(0o755)
        for locks, ends_with in (("locks", -signal.SIGTERM), ("opens", 0)):
            command = [sys.executable, "-c", code, str(directory / "lock"), locks]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                child.stdout.readline()
                user = os.geteuid()
                os.seteuid(user or 65534)
                try:
                    Instance(directory, replace(INFO, pid=child.pid)).send_signal(signal.SIGTERM)
                finally:
                    os.seteuid(user)
                child.communicate()
                assert child.returncode == ends_with


def test_nothing_is_removed_through_a_link_in_place_of_a_base(base: Path, tmp_path: Path) -> None:
    (base / "project").mkdir(parents=True)
    (base / "project" / "lock").touch()
    link = tmp_path / "appsrv-0"
    link.symlink_to(base)
    assert run_directory.list_instances([link]) == []
    assert (base / "project" / "lock").exists()


def test_a_starting_instance_is_not_listed_and_not_removed(base: Path) -> None:
    directory = InstanceDirectory.create(base, "/srv/shop", "127.0.0.1:8000")
    assert run_directory.list_instances([base]) == []
    assert directory.path.exists()
    directory.remove()


def test_closing_twice_is_harmless(base: Path) -> None:
    directory = create(base)
    directory.close()
    directory.close()
    directory.remove()


def test_a_base_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(RunDirectoryError, match="is not a directory of this user"):
        create(tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="cannot be used as run directory"):
        create(tmp_path / "file" / "run")


def test_the_first_base_that_can_be_used_is_taken(base: Path) -> None:
    blocked, long = base.parent / "file" / "run", base.parent / ("x" * 100)
    (base.parent / "file").touch()
    directory, reasons = InstanceDirectory.create_in_first([blocked, long, base], "/srv/shop", "127.0.0.1:8000")
    assert directory.path.parent == base
    assert [reason.partition(" ")[0] for reason in reasons] == [str(blocked), str(long / directory.name)]
    # An instance that runs in the first one that can be used is not passed over for the next.
    with pytest.raises(AlreadyRunning):
        InstanceDirectory.create_in_first([blocked, base, base.parent / "other"], "/srv/shop", "127.0.0.1:8000")
    directory.remove()
    with pytest.raises(RunDirectoryError, match=r"no place for a run directory: .*XDG_RUNTIME_DIR"):
        InstanceDirectory.create_in_first([blocked, long], "/srv/shop", "127.0.0.1:8000")


def test_a_base_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="too long for a socket"):
        create(tmp_path / ("x" * 100))


def test_what_is_no_instance_is_passed_over(base: Path) -> None:
    (base / "stranger").mkdir(parents=True)
    (base / "file").touch()
    assert run_directory.list_instances([base]) == []
    assert (base / "stranger").exists()


def test_information_of_other_versions() -> None:
    written = json.loads(json.dumps(INFO.to_json()))
    assert InstanceInfo.from_json(written) == INFO
    assert InstanceInfo.from_json({"new": 1, **written}) == INFO
    broken: Any
    for broken in ("", [], {}, {"bind": []}):
        with pytest.raises(ValueError, match="not an instance"):
            InstanceInfo.from_json(broken)


# -- which one is meant ------------------------------------------------------------------------------------


def test_selection_by_directory() -> None:
    shop, blog = make("/srv/shop", 8000), make("/srv/blog", 8001)
    for here in ("/srv/shop", "/srv/shop/templates", "/srv/shop/a/b"):
        assert run_directory.select([shop, blog], Path(here)) is shop
    nested = make("/srv/shop/api", 8002)
    assert run_directory.select([shop, nested], Path("/srv/shop/api")) is nested
    assert run_directory.select([shop, nested], Path("/srv/shop")) is shop
    assert run_directory.select([nested, blog], Path("/srv/shop")) is nested


def test_selection_by_words() -> None:
    shop, blog = make("/srv/shop", 8000, "/srv/shop/appsrv.8000.pid"), make("/srv/blog", 8001)
    here = Path("/home")
    assert run_directory.select([shop, blog], here, port=8001) is blog
    assert run_directory.select([shop, blog], here, name="sho") is shop
    assert run_directory.select([shop, blog], here, name=blog.info.name) is blog
    assert run_directory.select([shop, blog], here, pid_file=Path("/srv/shop/../shop/appsrv.8000.pid")) is shop


def test_several_that_fit_are_listed() -> None:
    both = [make("/srv/shop", 8000), make("/srv/shop", 8001)]
    with pytest.raises(SeveralInstances) as caught:
        run_directory.select(both, Path("/srv/shop"))
    for one in both:
        assert one.info.name in str(caught.value)
        assert one.info.bind[0] in str(caught.value)


def test_none_that_fits_says_what_was_looked_for() -> None:
    shop = make("/srv/shop")
    with pytest.raises(NotRunning, match="not running in /home") as caught:
        run_directory.select([shop], Path("/home"))
    assert caught.value.exit_code == 3
    assert shop.info.name in str(caught.value)
    for words, part in (({"port": 1}, "on port 1"), ({"name": "x"}, "named x")):
        with pytest.raises(NotRunning, match=part):
            run_directory.select([shop], Path("/home"), **words)
    with pytest.raises(NotRunning, match="with the pid file /tmp/pid"):
        run_directory.select([], Path("/home"), pid_file=Path("/tmp/pid"))
