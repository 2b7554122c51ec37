"""How many processors count, from the files of the kernel as containers show them."""

from __future__ import annotations

import os

import pytest

from appsrv.system import cpus

V2 = "0::/system.slice/shop.service\n"
V1 = "12:pids:/\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/\n0::/\n"


def seen(processors: int, files: dict[str, str]) -> int:
    return cpus.allowed(processors, lambda path: files.get(path, ""))


def test_without_any_cgroup_all_that_it_may_run_on_count() -> None:
    assert seen(8, {}) == 8


@pytest.mark.parametrize(
    ("content", "expected"),
    [("max 100000\n", 8), ("200000 100000\n", 2), ("150000 100000\n", 2), ("5000 100000\n", 1), ("9900000 100000", 8)],
)
def test_quota_of_version_2(content: str, expected: int) -> None:
    files = {"/proc/self/cgroup": V2, "/sys/fs/cgroup/system.slice/shop.service/cpu.max": content}
    assert seen(8, files) == expected


def test_the_smallest_quota_on_the_way_up_holds() -> None:
    files = {
        "/proc/self/cgroup": V2,
        "/sys/fs/cgroup/system.slice/shop.service/cpu.max": "400000 100000\n",
        "/sys/fs/cgroup/system.slice/cpu.max": "300000 100000\n",
    }
    assert seen(8, files) == 3


def test_a_container_sees_its_own_group_as_the_root() -> None:
    assert seen(8, {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "200000 100000\n"}) == 2


def test_a_group_outside_of_the_container_is_passed_over() -> None:
    assert seen(8, {"/proc/self/cgroup": "0::/../../elsewhere\n", "/sys/fs/cgroup/cpu.max": "200000 100000\n"}) == 2


@pytest.mark.parametrize("place", ["/docker/abc", ""])
def test_quota_of_version_1(place: str) -> None:
    base = f"/sys/fs/cgroup/cpu,cpuacct{place}"
    files = {
        "/proc/self/cgroup": V1,
        f"{base}/cpu.cfs_quota_us": "250000\n",
        f"{base}/cpu.cfs_period_us": "100000\n",
    }
    assert seen(8, files) == 3
    assert seen(8, {**files, f"{base}/cpu.cfs_quota_us": "-1\n"}) == 8
    assert seen(8, {**files, f"{base}/cpu.cfs_period_us": "0\n"}) == 8


def test_nonsense_is_no_quota() -> None:
    assert seen(8, {"/proc/self/cgroup": "what\n0::/x", "/sys/fs/cgroup/x/cpu.max": "many"}) == 8


def test_of_this_process() -> None:
    assert 1 <= cpus.of_this_process() <= (os.cpu_count() or 1)


def test_workers_for_so_many() -> None:
    assert cpus.workers_for(2, several_at_a_time=False) == 5
    assert cpus.workers_for(2, several_at_a_time=True) == 2
