"""The scoreboard: shared memory in which each worker records its current activity without a system call.

It has a slot for each worker, a cell for each thread of a worker, and a table with the times at which connections were
parked. Only its worker writes a slot or cell; the server writes the bytes `retire`, `attention` and `reopen`, and
clears a slot. Both write the table. Times are `time.monotonic()`, which is the same clock in all processes of a
machine. After the table comes a `tally` for each cell, if requests are counted, and at the end a byte of the server:
whether the instance is about to stop. Knows neither workers nor connections, only numbers.

    slot   retire u8 · attention u8 · reopen u8 · at terminal u8 · busy threads u32 · hand-offs taken u64 ·
           requests in progress and one more u32 (greenlets only; 0: takes no connections)
    cell   connection id u64 (0: idle) · started f64 · response begun u8 · switched u8 · probing u8 · HTTP/1.0 u8 ·
           (pad) · processed u64 · busy seconds f64 · first bytes of the request · departed u64

The server writes two fields of a cell. `departed` is twice the id of a connection whose client sends nothing more, plus
1 if the client has closed the connection; an id is never used again, so that the number cannot refer to a later
connection. While `probing` is set, the worker sends nothing (`Cell.set_probing`).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from appsrv.ipc.request_counts import TALLY_BYTES, Counts, Tally, total
from appsrv.system import unpatched
from appsrv.system.anonymous_memory import anonymous_memory

HALF_CLOSED, GONE = "half-closed", "gone"
HEAD_BYTES = 208
PARKED_ENTRIES = 1 << 16

_COUNT = struct.Struct("<Q")
_CELL = struct.Struct("<QdQQd")  # The low bytes of the third field: response begun, switched, probing, HTTP/1.0.
_TAKEN = struct.Struct("<QdQ")
_TIME = struct.Struct("<d")
_NUMBER = struct.Struct("<I")
# The part of a cell that the load monitor reads of all cells, many times a second.
_BRIEF = struct.Struct("<Qd8xQ224x")
_SLOT_BYTES = 64
_CELL_BYTES = 256
_BEGUN_AT = 16
_HEAD_AT = 40
_DEPARTED_AT = 248
# Values of `begun`: a part of the response may be in transit, or the next bytes to send are the size of a chunk.
_SENDING, _BETWEEN_CHUNKS = 1, 2
_PROBE_WAIT_SECONDS, _PROBE_POLL_SECONDS = 1.0, 0.001
_THREADS_AT = 4
_TAKEN_AT = 8
_IN_PROGRESS_AT = 16


@dataclass(frozen=True)
class CellReading:
    """The activity of one thread of a worker. `cid` is the id of the connection that it serves, 0 if it is idle.

    `started`: when it began with the connection (monotonic). `processed` and `busy`: the requests and seconds of
    connections before that one. `switched`: the protocol on the connection is no longer HTTP. `between_chunks`: the
    response has begun, and the next bytes are the size of a chunk. `client` is "", `HALF_CLOSED` or `GONE`.
    """

    cid: int
    started: float
    processed: int
    busy: float
    response_begun: bool
    request_line: str
    switched: bool = False
    between_chunks: bool = False
    http_1_0: bool = False
    client: str = ""


class Scoreboard:
    """The whole scoreboard, mapped into the process that has created it or has received its descriptor."""

    def __init__(self, fd: int, slots: int, cells: int) -> None:
        self.fd = fd
        self.slots = slots
        self.cells = cells
        self._slot_size = _SLOT_BYTES + cells * _CELL_BYTES
        self._parked_at = slots * self._slot_size
        self._tallies_at = self._parked_at + PARKED_ENTRIES * _TIME.size
        self._stopping_at = self._tallies_at + slots * cells * TALLY_BYTES
        self._memory = mmap.mmap(fd, self._stopping_at + 1)

    @classmethod
    def create(cls, slots: int, cells: int) -> Scoreboard:
        """A new scoreboard, all zero, in memory without a path."""
        fd = anonymous_memory("appsrv-scoreboard")
        size = slots * (_SLOT_BYTES + cells * (_CELL_BYTES + TALLY_BYTES)) + PARKED_ENTRIES * _TIME.size
        os.ftruncate(fd, size + 1)
        return cls(fd, slots, cells)

    def close(self) -> None:
        """Close the descriptor. The mapping stays, so that existing `Slot` objects remain valid."""
        os.close(self.fd)

    def slot(self, index: int) -> Slot:
        """The slot with this number. Raises IndexError."""
        if not 0 <= index < self.slots:
            raise IndexError(f"slot {index} of {self.slots}")
        tallies = self._tallies_at + index * self.cells * TALLY_BYTES
        return Slot(self._memory, index * self._slot_size, self.cells, tallies)

    def in_progress_beside(self, own: Slot) -> Callable[[], list[int]]:
        """A function that returns the requests in progress of each other worker that would accept one more."""
        places = [index * self._slot_size + _IN_PROGRESS_AT for index in range(self.slots)]
        places.remove(own.offset + _IN_PROGRESS_AT)
        memory, unpack = self._memory, _NUMBER.unpack_from

        def ask() -> list[int]:
            counts = [unpack(memory, place)[0] for place in places]
            return [count - 1 for count in counts if count]

        return ask

    def park(self, cid: int, now: float) -> None:
        """Record that a connection is parked since `now`.

        A negative value is minus the time since which it waits in the hand-off socket; 0.0: it is being served. Ids
        that are equal modulo `PARKED_ENTRIES` share an entry.
        """
        _TIME.pack_into(self._memory, self._parked_at + (cid % PARKED_ENTRIES) * 8, now)

    def parked_since(self, cid: int) -> float:
        """The time since which the connection is parked; 0.0 or less if it is handed over or being served."""
        since: float = _TIME.unpack_from(self._memory, self._parked_at + (cid % PARKED_ENTRIES) * 8)[0]
        return since

    def announce_stop(self) -> None:
        """Record that the instance is about to stop: health checks then ask load balancers to use other instances."""
        self._memory[self._stopping_at] = 1

    @property
    def stopping(self) -> memoryview:
        """One byte, not zero if the instance is about to stop."""
        return memoryview(self._memory)[self._stopping_at : self._stopping_at + 1]


class Slot:
    """The part of one worker."""

    def __init__(self, memory: mmap.mmap, offset: int, cells: int, tallies: int) -> None:
        self._memory = memory
        self._offset = self.offset = offset
        self._cells = cells
        self._tallies = tallies
        self._taken = 0

    def clear(self) -> None:
        """Set the slot, its cells and its tallies to zero, for the next worker."""
        size = _SLOT_BYTES + self._cells * _CELL_BYTES
        self._memory[self._offset : self._offset + size] = bytes(size)
        size = self._cells * TALLY_BYTES
        self._memory[self._tallies : self._tallies + size] = bytes(size)

    def cell(self, index: int) -> Cell:
        """The cell of the worker's thread with this number."""
        return Cell(self._memory, self._offset + _SLOT_BYTES + index * _CELL_BYTES)

    def tally(self, index: int) -> Tally:
        """The tally of the worker's thread with this number."""
        at = self._tallies + index * TALLY_BYTES
        return Tally(memoryview(self._memory)[at : at + TALLY_BYTES])

    def counts(self) -> Counts:
        """The counts of this worker: the sum over its threads."""
        counts = total(self.tally(index).read() for index in range(self._cells))
        for index in range(self._cells):
            processed, busy = self.cell(index).done()
            counts.requests += processed
            counts.busy += busy
        return counts

    def retire(self) -> None:
        """Ask the worker to accept no more requests and to end."""
        self._memory[self._offset] = 1
        self.request_attention()

    @property
    def retiring(self) -> bool:
        """Whether the worker has been asked to accept no more requests."""
        return bool(self._memory[self._offset])

    def request_attention(self) -> None:
        """Ask the worker to check the bytes of its slot and its channel."""
        self._memory[self._offset + 1] = 1

    @property
    def attention(self) -> memoryview:
        """One byte, not zero if `request_attention` was called. Reading it takes less time than calling a method."""
        return memoryview(self._memory)[self._offset + 1 : self._offset + 2]

    def reopen_logs(self) -> None:
        """Ask the worker to open its access log again before it writes the next line."""
        self._memory[self._offset + 2] = 1

    @property
    def reopen_asked(self) -> memoryview:
        """One byte, not zero if `reopen_logs` was called; the worker clears it."""
        return memoryview(self._memory)[self._offset + 2 : self._offset + 3]

    @property
    def at_terminal(self) -> bool:
        """Whether a debugger of this worker uses the terminal: no time limit applies then."""
        return bool(self._memory[self._offset + 3])

    @at_terminal.setter
    def at_terminal(self, now: bool) -> None:
        self._memory[self._offset + 3] = now

    @property
    def busy_threads(self) -> int:
        """The number of the application's threads for which this retiring worker waits."""
        count: int = _NUMBER.unpack_from(self._memory, self._offset + _THREADS_AT)[0]
        return count

    @busy_threads.setter
    def busy_threads(self, count: int) -> None:
        _NUMBER.pack_into(self._memory, self._offset + _THREADS_AT, count)

    def count_taken(self) -> None:
        """Count a message that was received from the hand-off socket."""
        self._taken += 1
        _COUNT.pack_into(self._memory, self._offset + _TAKEN_AT, self._taken)

    def set_in_progress(self, requests: int) -> None:
        """Record that this worker has so many requests in progress, and would accept another one."""
        _NUMBER.pack_into(self._memory, self._offset + _IN_PROGRESS_AT, requests + 1)

    def take_no_more(self) -> None:
        """Record that this worker accepts no more connections, or has ended."""
        _NUMBER.pack_into(self._memory, self._offset + _IN_PROGRESS_AT, 0)

    @property
    def taken(self) -> int:
        """The messages that this worker has received from the hand-off socket."""
        count: int = _COUNT.unpack_from(self._memory, self._offset + _TAKEN_AT)[0]
        return count

    def brief(self) -> list[tuple[int, float, int]]:
        """(connection id, started, requests done) of each cell, for the checks that are made many times a second."""
        start = self._offset + _SLOT_BYTES
        with memoryview(self._memory)[start : start + self._cells * _CELL_BYTES] as cells:
            return list(_BRIEF.iter_unpack(cells))

    def read(self) -> list[CellReading]:
        """The activity of each of the worker's threads."""
        return [self.cell(index).read() for index in range(self._cells)]


class Cell:
    """The part of one thread. `begin`, `line` and `end` are on the hot path."""

    __slots__ = ("_begun_at", "_busy", "_head_at", "_memory", "_offset", "_probed_at", "_processed", "_started")

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory = memory
        self._offset = offset
        self._head_at = offset + _HEAD_AT
        self._begun_at = offset + _BEGUN_AT
        self._probed_at = offset + _BEGUN_AT + 2
        self._processed = 0
        self._busy = 0.0
        self._started = 0.0

    def begin(self, cid: int, now: float) -> None:
        """Record that the thread serves this connection since `now`."""
        self._started = now
        _TAKEN.pack_into(self._memory, self._offset, cid, now, 0)

    def begin_next(self, cid: int, now: float) -> None:
        """Record the next request of the same connection: a pipelined one, or one that was read with the one before."""
        self._busy += now - self._started
        self.begin(cid, now)

    def line(self, data: bytes) -> None:
        """Record the first bytes of the request: the server logs them if the worker dies while it serves it."""
        # The rest of an earlier, longer request stays behind them: `first_line` stops at the first line end.
        start = data[:HEAD_BYTES]
        at = self._head_at
        self._memory[at : at + len(start)] = start

    def first_bytes(self) -> bytes:
        """The bytes that `line` has recorded of the present request."""
        return bytes(self._memory[self._head_at : self._head_at + HEAD_BYTES])

    def begun(self) -> None:
        """Record that a part of the response is about to be sent: after a crash the server cannot send a 502 any more.

        Waits while the server probes the client (`set_probing`).
        """
        self._memory[self._begun_at] = _SENDING
        if self._memory[self._probed_at]:
            self._wait_while_probed()

    def between_chunks(self) -> None:
        """Record that the part was sent completely, and that the next one begins with the size of a chunk."""
        self._memory[self._begun_at] = _BETWEEN_CHUNKS

    def mark_http_1_0(self) -> None:
        """Record that the client uses HTTP/1.0 and must not get interim responses (RFC 9110 section 15.2)."""
        self._memory[self._begun_at + 3] = 1

    def switched(self) -> None:
        """Record that the connection has switched protocols: time limits of requests do not apply to it."""
        self._memory[self._begun_at + 1] = 1

    # -- the client's departure -----------------------------------------------------------------------------------

    @property
    def departed(self) -> memoryview:
        """One number, 0 until a client of this cell has departed. Reading it takes less time than calling a method."""
        return memoryview(self._memory)[self._offset + _DEPARTED_AT : self._offset + _CELL_BYTES].cast("Q")

    def mark_departed(self, cid: int, *, gone: bool) -> None:
        """Record, in the server, that this client has closed its side of the connection, or (`gone`) all of it."""
        _COUNT.pack_into(self._memory, self._offset + _DEPARTED_AT, 2 * cid + gone)

    def client(self) -> str:
        """The state of the client that is being served: "" (connected), `HALF_CLOSED` or `GONE`."""
        (cid,) = _COUNT.unpack_from(self._memory, self._offset)
        (departed,) = _COUNT.unpack_from(self._memory, self._offset + _DEPARTED_AT)
        if not cid or departed >> 1 != cid:
            return ""
        return GONE if departed & 1 else HALF_CLOSED

    def set_probing(self, probing: bool) -> None:
        """Keep the worker from sending while the server sends a few bytes of its own to the client; or end that.

        This is mutual exclusion without a lock. The worker first records that it is sending (`begun`) and then reads
        this mark. The server sets the mark, waits for longer than a processor may delay the visibility of a written
        byte, and then reads whether the worker is sending. So at least one of them sees the mark of the other one.
        """
        self._memory[self._probed_at] = probing

    def _wait_while_probed(self) -> None:
        # A limited time: the server may have died while the mark was set.
        for _ in range(int(_PROBE_WAIT_SECONDS / _PROBE_POLL_SECONDS)):
            if not self._memory[self._probed_at]:
                return
            unpatched.select([], [], [], _PROBE_POLL_SECONDS)

    def end(self, now: float, requests: int) -> None:
        """Record that the thread is idle again, after so many requests on the connection."""
        self._processed += requests
        self._busy += now - self._started
        _CELL.pack_into(self._memory, self._offset, 0, now, 0, self._processed, self._busy)

    def done(self) -> tuple[int, float]:
        """(requests, seconds) of this thread on all connections before the present one."""
        _, _, _, processed, busy = _CELL.unpack_from(self._memory, self._offset)
        return processed, busy

    def read(self) -> CellReading:
        """The fields of the cell. Each one is valid, but they may be from different moments: there is no lock."""
        cid, started, begun, processed, busy = _CELL.unpack_from(self._memory, self._offset)
        head = bytes(self._memory[self._head_at : self._head_at + HEAD_BYTES]).rstrip(b"\0")
        sent, switched, _, http_1_0, *_ = begun.to_bytes(8, "little")
        return CellReading(
            cid=cid, started=started, processed=processed, busy=busy, response_begun=bool(sent),
            request_line=first_line(head), switched=bool(switched), between_chunks=sent == _BETWEEN_CHUNKS,
            http_1_0=bool(http_1_0), client=self.client(),
        )


def first_line(head: bytes) -> str:
    """The request line at the start of these bytes, as ASCII without control characters."""
    line = head.lstrip(b"\r\n").split(b"\r\n", 1)[0]
    return line.decode("latin-1").encode("unicode_escape").decode("ascii")


def without_query(line: str) -> str:
    """A request line, or the beginning of one, without the query string, which may hold secrets."""
    method, _, rest = line.partition(" ")
    return f"{method} {rest.partition(' ')[0].partition('?')[0]}"
