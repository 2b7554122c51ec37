"""The end of a development server's worker: cuts responses that stream, while all others are finished.

A stream of server-sent events does not end by itself, and a reload or Ctrl-C would wait for it. Its client is to see
the stream cut and to connect again, which a browser's EventSource does by itself. The cutter finds streams on the
stacks of the worker's threads, and only when the worker is to end, so that no request pays for it. It knows responses.
It does not know why the worker ends.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import NamedTuple

from appsrv.ipc.scoreboard import Slot
from appsrv.system import unpatched
from appsrv.worker.connection_handler import ConnectionHandler
from appsrv.worker.ready_queue import Connection
from appsrv.wsgi.run import STREAMS

STREAM_SECONDS = 0.2
"""An ordinary response is over within this time after it has begun."""

NOTICE_SECONDS = 0.5
"""The time that the application has to notice that its client has gone: to end a generator, to run its `finally`."""

POLL_SECONDS = 0.02

RETIRING_CHECK_SECONDS = 0.2
"""Between two checks of the scoreboard, which tells a worker to retire even if it has lost its signal handler: a view
may have replaced it with `signal.signal`.
"""

_ANSWERS = ConnectionHandler._answer.__code__


class ServedRequest(NamedTuple):
    """One request in one thread: its connection, and since when it is served (monotonic)."""

    cid: int
    started: float


class StreamLimits:
    """Decides which responses to cut, and when only cut ones are left. It is told what is seen, and when."""

    def __init__(self) -> None:
        self._since: dict[ServedRequest, float] = {}
        self._cut: dict[ServedRequest, float] = {}

    def due(self, streaming: Iterable[ServedRequest], now: float) -> list[ServedRequest]:
        """The streaming responses that have streamed for too long; each of them once."""
        self._since = {request: self._since.get(request, now) for request in streaming}
        due = [r for r, since in self._since.items() if now - since >= STREAM_SECONDS and r not in self._cut]
        self._cut.update(dict.fromkeys(due, now))
        return due

    def are_all(self, busy: Iterable[ServedRequest], now: float) -> bool:
        """Whether the worker serves only responses that were cut, and whose code does not notice it."""
        cuts = [self._cut.get(request, now) for request in busy]
        return bool(cuts) and now - max(cuts) >= NOTICE_SECONDS


class StreamCutter:
    """Cuts streaming responses in this process, from `begin` on, or when the scoreboard asks the worker to retire.

    The worker calls `watch` once. `cut` ends a connection so that its client sees that the response is incomplete.
    `exit_process` ends the process without waiting for threads whose responses were cut. `frames` gives the stacks of
    the threads or greenlets that serve.
    """

    def __init__(
        self, slot: Slot, cut: Callable[[Connection], None], exit_process: Callable[[], None],
        frames: Callable[[], Iterable[FrameType]],
    ) -> None:
        self._slot = slot
        self._frames = frames
        self._cut = cut
        self._exit = exit_process
        self._streams = StreamLimits()
        self._begun = False
        # Held until the worker is to end.
        self._not_ending = unpatched.Lock()
        self._not_ending.acquire()

    def watch(self) -> None:
        """Wait for the end of the worker, in a thread of its own."""
        unpatched.start_thread(self._run, ())

    def begin(self) -> None:
        """The worker is to end. A signal handler may call this: it waits for no lock."""
        if not self._begun:
            self._begun = True
            self._not_ending.release()

    def _run(self) -> None:
        while not self._not_ending.acquire(timeout=RETIRING_CHECK_SECONDS) and not self._slot.retiring:
            pass
        while not self._over(time.monotonic()):
            unpatched.sleep(POLL_SECONDS)
        self._exit()

    def _over(self, now: float) -> bool:
        if self._slot.at_terminal:
            # A person uses a debugger in one of the requests.
            return False
        streaming = streaming_now(self._frames())
        for request in self._streams.due(streaming, now):
            self._cut(streaming[request])
        return self._streams.are_all((ServedRequest(cid, since) for cid, since, _ in self._slot.brief() if cid), now)


def threads_frames() -> Iterable[FrameType]:
    """The innermost frame of each thread of this process."""
    return sys._current_frames().values()


def streaming_now(frames: Iterable[FrameType]) -> dict[ServedRequest, Connection]:
    """The streaming responses on these stacks, of which `frames` are the innermost frames.

    A response streams if it has begun, or if the application is being waited for a body of unknown length.
    """
    found = (_streaming(frame) for frame in frames)
    return dict(pair for pair in found if pair is not None)


def _streaming(frame: FrameType | None) -> tuple[ServedRequest, Connection] | None:
    """The response that this thread streams, if it does."""
    endless = False
    while frame is not None and frame.f_code is not _ANSWERS:
        endless = endless or (frame.f_code is STREAMS and frame.f_locals["self"].may_be_endless)
        frame = frame.f_back
    if frame is None:
        return None
    # The variables are another thread's, which runs on meanwhile and may have finished with them.
    connection, reading = frame.f_locals["connection"], frame.f_locals["self"].progress()
    if reading.cid != connection.cid or not (endless or reading.response_begun):
        return None
    return ServedRequest(reading.cid, reading.started), connection
