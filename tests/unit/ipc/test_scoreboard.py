"""scoreboard.py: what one process writes, another one reads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from appsrv.ipc.scoreboard import GONE, HALF_CLOSED, HEAD_BYTES, PARKED_ENTRIES, Scoreboard, without_query
from appsrv.server.pool.disconnects import question
from support.waiting import wait_for


@pytest.fixture
def boards() -> tuple[Scoreboard, Scoreboard]:
    """One board as two processes see it: two mappings of one descriptor."""
    board = Scoreboard.create(slots=3, cells=2)
    return board, Scoreboard(os.dup(board.fd), 3, 2)


def in_child(work: Callable[[], None]) -> None:
    """Run in a forked process, which must end well."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_new_board_is_empty(boards: tuple[Scoreboard, Scoreboard]) -> None:
    for cell in boards[0].slot(2).read():
        assert (cell.cid, cell.processed, cell.response_begun, cell.request_line) == (0, 0, False, "")
    assert boards[0].parked_since(5) == 0.0


def test_one_request_from_its_begin_to_its_end(boards: tuple[Scoreboard, Scoreboard]) -> None:
    ours, theirs = boards
    cell, seen = ours.slot(1).cell(1), theirs.slot(1).cell(1)
    cell.begin(42, 100.0)
    cell.line(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    reading = seen.read()
    assert (reading.cid, reading.started, reading.request_line) == (42, 100.0, "GET /a HTTP/1.1")
    assert not reading.response_begun
    cell.begun()
    assert seen.read().response_begun
    cell.end(102.5, 1)
    reading = seen.read()
    assert (reading.cid, reading.processed, reading.busy) == (0, 1, 2.5)


def test_counters_add_up(boards: tuple[Scoreboard, Scoreboard]) -> None:
    cell = boards[0].slot(0).cell(0)
    for turn in range(3):
        cell.begin(turn + 1, float(turn))
        cell.end(turn + 0.5, 2)
    reading = boards[1].slot(0).cell(0).read()
    assert (reading.processed, reading.busy) == (6, 1.5)


def test_a_new_request_has_not_begun(boards: tuple[Scoreboard, Scoreboard]) -> None:
    cell = boards[0].slot(0).cell(0)
    cell.begin(1, 1.0)
    cell.begun()
    cell.begin(2, 2.0)
    assert not boards[1].slot(0).cell(0).read().response_begun


def test_a_short_line_after_a_long_one(boards: tuple[Scoreboard, Scoreboard]) -> None:
    cell = boards[0].slot(0).cell(0)
    cell.line(b"GET /" + b"a" * 500 + b" HTTP/1.1\r\n")
    assert boards[1].slot(0).cell(0).read().request_line == "GET /" + "a" * (HEAD_BYTES - 5)
    cell.line(b"\r\nGET / HTTP/1.1\r\n\r\n")
    assert boards[1].slot(0).cell(0).read().request_line == "GET / HTTP/1.1"


def test_a_hostile_line_cannot_write_its_own_log_line(boards: tuple[Scoreboard, Scoreboard]) -> None:
    cell = boards[0].slot(0).cell(0)
    cell.line(b"GET /\x1b[2J\nERROR \xff HTTP/1.1\r\n\r\n")
    assert cell.read().request_line == r"GET /\x1b[2J\nERROR \xff HTTP/1.1"


def test_slots_and_cells_do_not_touch_each_other(boards: tuple[Scoreboard, Scoreboard]) -> None:
    ours, theirs = boards
    for slot in range(3):
        for cell in range(2):
            ours.slot(slot).cell(cell).begin(10 * slot + cell + 1, 1.0)
            ours.slot(slot).cell(cell).line(b"x" * 1000)
        ours.slot(slot).count_taken()
    ours.park(0, 9.0)
    middle = ours.slot(1)
    middle.retire()
    middle.clear()
    assert [cell.cid for cell in middle.read()] == [0, 0]
    assert (middle.retiring, middle.attention[0]) == (False, 0)
    assert [[cell.cid for cell in theirs.slot(slot).read()] for slot in (0, 2)] == [[1, 2], [21, 22]]
    assert theirs.slot(0).read()[1].request_line == "x" * HEAD_BYTES
    assert (theirs.slot(0).taken, theirs.slot(0).retiring, theirs.parked_since(0)) == (1, False, 9.0)


def test_orders_and_calls(boards: tuple[Scoreboard, Scoreboard]) -> None:
    server, worker = boards[0].slot(0), boards[1].slot(0)
    server.request_attention()
    assert (worker.attention[0], worker.retiring) == (1, False)
    worker.attention[0] = 0
    assert server.attention[0] == 0
    server.retire()
    assert (worker.attention[0], worker.retiring) == (1, True)


def test_parked_times(boards: tuple[Scoreboard, Scoreboard]) -> None:
    ours, theirs = boards
    ours.park(7, 12.5)
    ours.park(PARKED_ENTRIES - 1, 13.5)
    assert [theirs.parked_since(cid) for cid in (6, 7, 8, PARKED_ENTRIES - 1)] == [0.0, 12.5, 0.0, 13.5]
    assert theirs.parked_since(7 + PARKED_ENTRIES) == 12.5


@pytest.mark.process
def test_a_forked_process_writes_to_the_same_board(boards: tuple[Scoreboard, Scoreboard]) -> None:
    slot = boards[0].slot(0)

    def work() -> None:
        slot.count_taken()
        slot.count_taken()
        slot.cell(1).begin(9, 3.0)

    in_child(work)
    assert (boards[1].slot(0).taken, boards[1].slot(0).cell(1).read().cid) == (2, 9)


def test_there_are_no_more_slots_than_were_made(boards: tuple[Scoreboard, Scoreboard]) -> None:
    with pytest.raises(IndexError, match="slot 3 of 3"):
        boards[0].slot(3)


def test_the_brief_reading_is_that_of_the_cells() -> None:
    slot = Scoreboard.create(2, 3).slot(1)
    slot.cell(0).begin(7, 10.0)
    slot.cell(0).begun()
    two = slot.cell(2)
    two.begin(8, 20.0)
    two.end(21.0, 5)
    assert slot.brief() == [(7, 10.0, 0), (0, 0.0, 0), (0, 21.0, 5)]
    assert slot.brief() == [(cell.cid, cell.started, cell.processed) for cell in slot.read()]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("GET /basket?card=4711 HTTP/1.1", "GET /basket"),
        ("GET /basket?card=47", "GET /basket"),
        ("POST / HTTP/1.1", "POST /"),
        ("GET", "GET "),
    ],
)
def test_a_line_without_its_query(line: str, shown: str) -> None:
    assert without_query(line) == shown


def test_how_busy_the_others_are() -> None:
    board = Scoreboard.create(4, 2)
    mine, other, idle = (board.slot(n) for n in range(3))
    beside = board.in_progress_beside(mine)
    assert beside() == [], "nobody has said anything: these are no workers with greenlets"
    for slot, count in ((mine, 9), (other, 3), (idle, 0)):
        slot.set_in_progress(count)
    assert beside() == [3, 0]
    other.take_no_more()
    idle.clear()
    assert beside() == []


def test_a_connection_that_has_switched_protocols(boards: tuple[Scoreboard, Scoreboard]) -> None:
    cell, seen = (board.slot(1).cell(0) for board in boards)
    cell.begin(7, 1.0)
    assert (seen.read().switched, seen.read().response_begun) == (False, False)
    cell.switched()
    assert seen.read().switched
    cell.begun()
    assert (seen.read().switched, seen.read().response_begun) == (True, True)
    cell.end(2.0, 1)
    assert not seen.read().switched


def test_a_departure_is_told_of_one_connection_only(boards: tuple[Scoreboard, Scoreboard]) -> None:
    cell, server = boards[0].slot(0).cell(1), boards[1].slot(0).cell(1)
    departed = cell.departed
    cell.begin(42, 1.0)
    assert (departed[0], cell.client()) == (0, "")
    server.mark_departed(42, gone=False)
    assert (bool(departed[0]), cell.client(), server.read().client) == (True, HALF_CLOSED, HALF_CLOSED)
    server.mark_departed(42, gone=True)
    assert (cell.client(), server.read().client) == (GONE, GONE)
    cell.line(b"x" * 500)
    assert cell.client() == GONE
    cell.begin(43, 2.0)
    assert (cell.client(), server.read().client) == ("", "")
    cell.end(3.0, 1)
    assert cell.client() == ""


def test_a_worker_sends_nothing_while_there_is_a_question(boards: tuple[Scoreboard, Scoreboard]) -> None:
    cell, server = boards[0].slot(0).cell(0), boards[1].slot(0).cell(0)
    cell.begin(42, 1.0)
    server.set_probing(True)
    sent = threading.Event()

    def send() -> None:
        cell.begun()
        sent.set()

    worker = threading.Thread(target=send)
    worker.start()
    wait_for(lambda: server.read().response_begun, "the worker to say that it sends")
    assert not sent.wait(0.05)
    server.set_probing(False)
    assert sent.wait(5)
    worker.join()


def test_what_a_client_may_be_asked(boards: tuple[Scoreboard, Scoreboard]) -> None:
    cell = boards[0].slot(0).cell(0)
    cell.begin(1, 1.0)
    assert question(cell.read()) == b"HTTP/1.1 100 Continue\r\n\r\n"
    cell.begun()
    assert question(cell.read()) == b""
    cell.between_chunks()
    assert (question(cell.read()), cell.read().response_begun) == (b"0", True)
    cell.begun()
    assert question(cell.read()) == b""
    cell.begin(2, 2.0)
    cell.mark_http_1_0()
    assert (question(cell.read()), cell.read().switched) == (b"", False)
