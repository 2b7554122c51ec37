"""The scoreboard: shared memory in which each worker says what it is doing, written without a system call.

One slot per worker, one cell per thread of it, and a table of the times since when connections are parked. A slot or
cell has one writer, its worker, but for the `retire` and `attention` bytes and the clearing of a slot, which are the
server's; both write the table. Times are `time.monotonic()`, which all processes of a machine share. After the table
comes a `tally` for each cell, written where requests are counted, and at the end one byte of the server's: whether the
instance is about to stop. Knows no worker, no connection: numbers only.

    slot   retire u8 · attention u8 · reopen u8 · at terminal u8 · busy threads u32 · hand-offs taken u64 ·
           requests in progress and one more u32 (greenlets only; 0: takes no connections)
    cell   connection id u64 (0: idle) · started f64 · response begun u8 · switched u8 · question u8 · HTTP/1.0 u8 ·
           (pad) · processed u64 · busy seconds f64 · first bytes of the request · departed u64

The server writes two of a cell's fields as well. `departed` tells the worker what has become of the client: twice the
id of its connection, and one more when it has gone for good. Ids are never used again, so it is nobody else's.
While `question` is set the worker sends nothing, see `Cell.put_question`.
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
_CELL = struct.Struct("<QdQQd")  # Of the third, the low bytes: response begun, switched, question, HTTP/1.0.
_TAKEN = struct.Struct("<QdQ")
_TIME = struct.Struct("<d")
_NUMBER = struct.Struct("<I")
# Of the same cell, what those want who read many often.
_BRIEF = struct.Struct("<Qd8xQ224x")
_SLOT_BYTES = 64
_CELL_BYTES = 256
_BEGUN_AT = 16
_HEAD_AT = 40
_DEPARTED_AT = 248
# What `begun` says: a piece of the response may be on its way, or the next thing sent is the size of a chunk.
_SENDING, _BETWEEN_CHUNKS = 1, 2
_QUESTION_SECONDS, _QUESTION_STEP = 1.0, 0.001
_THREADS_AT = 4
_TAKEN_AT = 8
_IN_PROGRESS_AT = 16


@dataclass(frozen=True)
class CellReading:
    """What one thread of a worker is doing: `cid` is the connection served, 0 when idle.

    `switched`: what is spoken on it is no longer HTTP. `between_chunks`: the response has begun, and next comes the
    size of a chunk. `client`: "" while nothing is known against it, `HALF_CLOSED` or `GONE`.
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
    """The whole board, as the process that made it or was given its descriptor sees it."""

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
        """A new board, all zero, in memory that has no name."""
        fd = anonymous_memory("appsrv-scoreboard")
        size = slots * (_SLOT_BYTES + cells * (_CELL_BYTES + TALLY_BYTES)) + PARKED_ENTRIES * _TIME.size
        os.ftruncate(fd, size + 1)
        return cls(fd, slots, cells)

    def close(self) -> None:
        """Let go of the descriptor; who has slots may read them on."""
        os.close(self.fd)

    def slot(self, index: int) -> Slot:
        """The slot with this number."""
        if not 0 <= index < self.slots:
            raise IndexError(f"slot {index} of {self.slots}")
        tallies = self._tallies_at + index * self.cells * TALLY_BYTES
        return Slot(self._memory, index * self._slot_size, self.cells, tallies)

    def in_progress_beside(self, own: Slot) -> Callable[[], list[int]]:
        """Asks how many requests each of the other workers has in progress that would take one more now."""
        places = [index * self._slot_size + _IN_PROGRESS_AT for index in range(self.slots)]
        places.remove(own.offset + _IN_PROGRESS_AT)
        memory, unpack = self._memory, _NUMBER.unpack_from

        def ask() -> list[int]:
            counts = [unpack(memory, place)[0] for place in places]
            return [count - 1 for count in counts if count]

        return ask

    def park(self, cid: int, now: float) -> None:
        """Say since when a connection is parked; when it is not, 0.0 or less.

        Minus the time is since when it waits in the hand-off socket. Ids share entries modulo `PARKED_ENTRIES`.
        """
        _TIME.pack_into(self._memory, self._parked_at + (cid % PARKED_ENTRIES) * 8, now)

    def parked_since(self, cid: int) -> float:
        """Since when the connection is parked; not above 0.0 when it is handed over or being served."""
        since: float = _TIME.unpack_from(self._memory, self._parked_at + (cid % PARKED_ENTRIES) * 8)[0]
        return since

    def announce_stop(self) -> None:
        """Let whoever asks a worker know that requests had better go elsewhere."""
        self._memory[self._stopping_at] = 1

    @property
    def stopping(self) -> memoryview:
        """One byte, not zero when the instance is about to stop."""
        return memoryview(self._memory)[self._stopping_at : self._stopping_at + 1]


class Slot:
    """One worker's part of the board."""

    def __init__(self, memory: mmap.mmap, offset: int, cells: int, tallies: int) -> None:
        self._memory = memory
        self._offset = self.offset = offset
        self._cells = cells
        self._tallies = tallies
        self._taken = 0

    def clear(self) -> None:
        """Make the slot new, for the next worker."""
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
        """What this worker has done, all its threads together."""
        counts = total(self.tally(index).read() for index in range(self._cells))
        for index in range(self._cells):
            processed, busy = self.cell(index).done()
            counts.requests += processed
            counts.busy += busy
        return counts

    def retire(self) -> None:
        """Ask the worker to take nothing more."""
        self._memory[self._offset] = 1
        self.call()

    @property
    def retiring(self) -> bool:
        """Whether the worker has been asked to take nothing more."""
        return bool(self._memory[self._offset])

    def call(self) -> None:
        """Ask the worker to look at its orders and its channel."""
        self._memory[self._offset + 1] = 1

    @property
    def calls(self) -> memoryview:
        """One byte, not zero when the worker has been asked: cheaper to look at than any method."""
        return memoryview(self._memory)[self._offset + 1 : self._offset + 2]

    def reopen_logs(self) -> None:
        """Ask the worker to open its access log again before it writes the next line."""
        self._memory[self._offset + 2] = 1

    @property
    def reopen_asked(self) -> memoryview:
        """One byte, not zero when the worker has been asked; the worker clears it."""
        return memoryview(self._memory)[self._offset + 2 : self._offset + 3]

    @property
    def at_terminal(self) -> bool:
        """Whether somebody sits at the terminal with this worker, in a debugger: no time limit counts then."""
        return bool(self._memory[self._offset + 3])

    @at_terminal.setter
    def at_terminal(self, now: bool) -> None:
        self._memory[self._offset + 3] = now

    @property
    def busy_threads(self) -> int:
        """How many threads of the application this worker, which serves nothing more, waits for."""
        count: int = _NUMBER.unpack_from(self._memory, self._offset + _THREADS_AT)[0]
        return count

    @busy_threads.setter
    def busy_threads(self, count: int) -> None:
        _NUMBER.pack_into(self._memory, self._offset + _THREADS_AT, count)

    def count_taken(self) -> None:
        """One more message taken from the hand-off socket."""
        self._taken += 1
        _COUNT.pack_into(self._memory, self._offset + _TAKEN_AT, self._taken)

    def say_in_progress(self, requests: int) -> None:
        """This worker has so many requests in progress, and would take another one."""
        _NUMBER.pack_into(self._memory, self._offset + _IN_PROGRESS_AT, requests + 1)

    def take_no_more(self) -> None:
        """This worker takes no connection any more, or has ended."""
        _NUMBER.pack_into(self._memory, self._offset + _IN_PROGRESS_AT, 0)

    @property
    def taken(self) -> int:
        """Messages this worker has taken from the hand-off socket."""
        count: int = _COUNT.unpack_from(self._memory, self._offset + _TAKEN_AT)[0]
        return count

    def brief(self) -> list[tuple[int, float, int]]:
        """(connection id, started, requests done) of each cell: what looks that come often need to know."""
        start = self._offset + _SLOT_BYTES
        with memoryview(self._memory)[start : start + self._cells * _CELL_BYTES] as cells:
            return list(_BRIEF.iter_unpack(cells))

    def read(self) -> list[CellReading]:
        """What the worker's threads are doing."""
        return [self.cell(index).read() for index in range(self._cells)]


class Cell:
    """One thread's part of a slot. `begin`, `line` and `end` are on the hot path."""

    __slots__ = ("_begun_at", "_busy", "_head_at", "_memory", "_offset", "_processed", "_question_at", "_started")

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory = memory
        self._offset = offset
        self._head_at = offset + _HEAD_AT
        self._begun_at = offset + _BEGUN_AT
        self._question_at = offset + _BEGUN_AT + 2
        self._processed = 0
        self._busy = 0.0
        self._started = 0.0

    def begin(self, cid: int, now: float) -> None:
        """A connection has been taken."""
        self._started = now
        _TAKEN.pack_into(self._memory, self._offset, cid, now, 0)

    def begin_next(self, cid: int, now: float) -> None:
        """Another request of the same connection, which was read together with the one before."""
        self._busy += now - self._started
        self.begin(cid, now)

    def line(self, data: bytes) -> None:
        """The first bytes of the request, for the report if this worker does not survive it."""
        # What an earlier, longer request left behind comes after the end of this one's first line.
        start = data[:HEAD_BYTES]
        at = self._head_at
        self._memory[at : at + len(start)] = start

    def first_bytes(self) -> bytes:
        """What `line` has written, of the present request."""
        return bytes(self._memory[self._head_at : self._head_at + HEAD_BYTES])

    def begun(self) -> None:
        """A part of a response is about to leave: from now on a crash cannot be answered with a 502."""
        self._memory[self._begun_at] = _SENDING
        if self._memory[self._question_at]:
            self._let_be_asked()

    def between_chunks(self) -> None:
        """The part has left whole, and the next one begins with the size of a chunk."""
        self._memory[self._begun_at] = _BETWEEN_CHUNKS

    def speaks_http_1_0(self) -> None:
        """The client does not know interim responses."""
        self._memory[self._begun_at + 3] = 1

    def switched(self) -> None:
        """The connection has switched protocols: no limit of a request's time holds for it."""
        self._memory[self._begun_at + 1] = 1

    # -- the client's departure -----------------------------------------------------------------------------------

    @property
    def departed(self) -> memoryview:
        """One number, 0 as long as no client of this cell has departed: cheaper to look at than any method."""
        return memoryview(self._memory)[self._offset + _DEPARTED_AT : self._offset + _CELL_BYTES].cast("Q")

    def say_departed(self, cid: int, *, gone: bool) -> None:
        """The server's word: this client sends nothing more, or has gone for good."""
        _COUNT.pack_into(self._memory, self._offset + _DEPARTED_AT, 2 * cid + gone)

    def client(self) -> str:
        """What is known of the client that is served: "", `HALF_CLOSED` or `GONE`."""
        (cid,) = _COUNT.unpack_from(self._memory, self._offset)
        (departed,) = _COUNT.unpack_from(self._memory, self._offset + _DEPARTED_AT)
        if not cid or departed >> 1 != cid:
            return ""
        return GONE if departed & 1 else HALF_CLOSED

    def put_question(self, question: bool) -> None:
        """Keep the worker from sending, so that the server may send a few bytes in between; or let it again.

        The worker first writes that it is sending and then looks for this mark; the server sets the mark, waits for
        longer than any processor keeps a written byte to itself, and then looks whether the worker is sending. So at
        least one of them sees the other.
        """
        self._memory[self._question_at] = question

    def _let_be_asked(self) -> None:
        # The server may have died meanwhile: not for ever.
        for _ in range(int(_QUESTION_SECONDS / _QUESTION_STEP)):
            if not self._memory[self._question_at]:
                return
            unpatched.select([], [], [], _QUESTION_STEP)

    def end(self, now: float, requests: int) -> None:
        """The connection has been let go of after so many requests."""
        self._processed += requests
        self._busy += now - self._started
        _CELL.pack_into(self._memory, self._offset, 0, now, 0, self._processed, self._busy)

    def done(self) -> tuple[int, float]:
        """(requests, seconds) that this thread has spent with connections it has let go of."""
        _, _, _, processed, busy = _CELL.unpack_from(self._memory, self._offset)
        return processed, busy

    def read(self) -> CellReading:
        """The cell as another process sees it: each field true, though maybe not of one moment."""
        cid, started, begun, processed, busy = _CELL.unpack_from(self._memory, self._offset)
        head = bytes(self._memory[self._head_at : self._head_at + HEAD_BYTES]).rstrip(b"\0")
        sent, switched, _, http_1_0, *_ = begun.to_bytes(8, "little")
        return CellReading(
            cid=cid, started=started, processed=processed, busy=busy, response_begun=bool(sent),
            request_line=first_line(head), switched=bool(switched), between_chunks=sent == _BETWEEN_CHUNKS,
            http_1_0=bool(http_1_0), client=self.client(),
        )


def first_line(head: bytes) -> str:
    """The request line at the start of these bytes, safe to show: ASCII, without control characters."""
    line = head.lstrip(b"\r\n").split(b"\r\n", 1)[0]
    return line.decode("latin-1").encode("unicode_escape").decode("ascii")


def without_query(line: str) -> str:
    """A request line, or the beginning of one, without the query string: that is where secrets stand."""
    method, _, rest = line.partition(" ")
    return f"{method} {rest.partition(' ')[0].partition('?')[0]}"
