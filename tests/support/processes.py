"""The processes of a server under test: found by their session, so that a re-parented one is found too."""

from __future__ import annotations

import os

import psutil

from support.waiting import wait_for


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def alive_pid(pid: int) -> bool:
    """Whether there is a process of this pid that has not ended."""
    try:
        return alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def in_session(session: int) -> list[psutil.Process]:
    """Living processes of a session (`setsid` was called by its leader), in order of their pids."""
    found = [process for process in psutil.process_iter() if session_of(process.pid) == session]
    return [process for process in found if alive(process)]


def title(process: psutil.Process) -> str:
    """What `ps` shows as the command."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def kill_session(session: int) -> list[str]:
    """Kill whatever is left of a session; returns the titles of what was."""
    left = in_session(session)
    titles = [f"{process.pid} {title(process)}" for process in left]
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    wait_for(lambda: not in_session(session), f"the end of session {session}")
    return titles
