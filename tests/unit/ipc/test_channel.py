"""channel.py: messages and descriptors over real sockets."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator

import pytest

from appsrv.errors import ProtocolError
from appsrv.ipc import channel as channels
from appsrv.ipc import connection_messages, message_format, messages
from appsrv.ipc.channel import Channel, ChannelClosed, DescriptorsLost, Outbox, Receiver
from appsrv.ipc.message_format import Message


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """The two ends of a channel."""
    one, other = (Channel(sock) for sock in channels.pair())
    yield one, other
    one.close()
    other.close()


def open_fds() -> set[str]:
    gc.collect()
    return set(os.listdir("/dev/fd"))


def test_borders_are_kept(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    sent = [connection_messages.Gone(1), connection_messages.HandOff(2, 3, 0, 0, 0, b"x" * 1000), messages.ReopenLogs()]
    for msg in sent:
        one.send(msg)
    assert [other.receive() for _ in sent] == [(msg, []) for msg in sent]


def test_descriptors_arrive_beside_their_message(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    read, write = os.pipe()
    one.send(connection_messages.Gone(1))
    one.send(messages.OutputPipes(7), [read, write])
    os.close(read)
    os.close(write)
    assert other.receive() == (connection_messages.Gone(1), [])
    msg, (got_read, got_write) = other.receive()
    assert msg == messages.OutputPipes(7)
    os.write(got_write, b"through")
    assert os.read(got_read, 10) == b"through"
    assert not os.get_inheritable(got_read)
    channels.close_all([got_read, got_write])


def test_last_words_of_a_process_that_had_not_read_everything(ends: tuple[Channel, Channel]) -> None:
    """The system says ECONNRESET before it gives what the other side has sent."""
    one, other = ends
    other.send(messages.ReopenLogs())
    one.send(messages.LoadFailed("why", "where", 4))
    one.close()
    assert other.receive()[0] == messages.LoadFailed("why", "where", 4)
    with pytest.raises(ChannelClosed):
        other.receive()


def test_the_end_is_told_after_the_last_message(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.send(connection_messages.Gone(1))
    one.close()
    assert other.receive()[0] == connection_messages.Gone(1)
    with pytest.raises(ChannelClosed):
        other.receive()
    with pytest.raises(ChannelClosed):
        other.send(connection_messages.Gone(2))


def test_nothing_there_is_not_the_end(ends: tuple[Channel, Channel]) -> None:
    with pytest.raises(BlockingIOError):
        ends[0].receive(socket.MSG_DONTWAIT)


def test_unread_messages_at_a_close_are_an_end_too(ends: tuple[Channel, Channel]) -> None:
    """The kernel says ECONNRESET when the other side closed with something unread."""
    one, other = ends
    one.send(connection_messages.Gone(1))
    other.close()
    with pytest.raises(ChannelClosed):
        one.receive()


def test_a_channel_from_a_descriptor(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    adopted = Channel.from_fd(os.dup(other.fileno()))
    os.set_inheritable(adopted.fileno(), True)
    one.send(connection_messages.Gone(3))
    assert adopted.receive() == (connection_messages.Gone(3), [])
    adopted.close()


def test_a_datagram_that_does_not_fit_leaks_no_descriptor() -> None:
    one, other = channels.pair()
    before = open_fds()
    channels.send(one, b"x" * (message_format.MAX_DATAGRAM_BYTES + 1), [one.fileno()])
    with pytest.raises(ProtocolError, match="did not fit"):
        Receiver(other).receive()
    assert open_fds() == before
    one.close()
    other.close()


def test_lost_descriptors_are_told_and_what_came_is_kept(ends: tuple[Channel, Channel]) -> None:
    """The kernel says MSG_CTRUNC both when this process has no room for them and when there are too many."""
    one, other = ends
    sent = connection_messages.Undelivered(7, 1, 17, bytes(17 * 16) + b"rest")
    before = open_fds()
    channels.send(one.sock, sent.pack(), [one.fileno()] * (channels.MAX_FDS + 1))
    one.send(connection_messages.Gone(8))
    with pytest.raises(DescriptorsLost) as lost:
        other.receive()
    assert message_format.unpack(lost.value.data) == sent
    assert open_fds() == before
    assert other.receive() == (connection_messages.Gone(8), [])


def test_the_largest_datagram_fits() -> None:
    one, other = channels.pair()
    channels.send(one, b"x" * message_format.MAX_DATAGRAM_BYTES)
    assert len(Receiver(other).receive()[0]) == message_format.MAX_DATAGRAM_BYTES
    one.close()
    other.close()


# -- outbox


@pytest.fixture
def narrow() -> Iterator[tuple[Outbox, Channel]]:
    """An outbox whose socket takes little, and the end where it arrives."""
    ours, theirs = channels.pair(buffer=4096)
    ours.setblocking(False)
    outbox, arriving = Outbox(Channel(ours)), Channel(theirs)
    yield outbox, arriving
    outbox.discard()
    ours.close()
    theirs.close()


def test_an_outbox_never_waits_and_keeps_the_order(narrow: tuple[Outbox, Channel]) -> None:
    outbox, arriving = narrow
    for cid in range(500):
        outbox.send(connection_messages.Gone(cid))
    assert outbox
    got: list[Message] = []
    while len(got) < 500:
        got.append(arriving.receive()[0])
        outbox.flush()
    assert got == [connection_messages.Gone(cid) for cid in range(500)]
    assert not outbox


def test_descriptors_that_wait_are_the_outboxs_own(narrow: tuple[Outbox, Channel]) -> None:
    outbox, arriving = narrow
    while not outbox:
        outbox.send(connection_messages.Gone(0))
    read, write = os.pipe()
    os.write(write, b"kept")
    outbox.send(messages.OutputPipes(1), [read])
    os.close(read)
    os.close(write)
    while True:
        msg, fds = arriving.receive()
        outbox.flush()
        if isinstance(msg, messages.OutputPipes):
            break
    assert os.read(fds[0], 10) == b"kept"
    os.close(fds[0])


def test_an_outbox_is_silent_when_nobody_reads(narrow: tuple[Outbox, Channel]) -> None:
    outbox, arriving = narrow
    while not outbox:
        outbox.send(connection_messages.Gone(0))
    arriving.close()
    outbox.flush()
    outbox.send(connection_messages.Gone(1))
    assert not outbox


def test_discarding_gives_descriptors_back(narrow: tuple[Outbox, Channel]) -> None:
    outbox, _ = narrow
    while not outbox:
        outbox.send(connection_messages.Gone(0))
    before = open_fds()
    outbox.send(messages.OutputPipes(1), [outbox.channel.fileno()])
    outbox.discard()
    assert open_fds() == before
    assert not outbox


def test_the_descriptors_of_nonsense_are_closed(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    before = open_fds()
    channels.send(one.sock, b"nonsense", [one.fileno()])
    with pytest.raises(ProtocolError, match="no message starts like"):
        other.receive()
    assert open_fds() == before


def test_a_message_of_another_kind_than_the_expected_one_is_refused(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.send(messages.ResizePool(1))
    assert other.receive_one(messages.ResizePool) == (messages.ResizePool(1), [])
    one.send(messages.Quit())
    with pytest.raises(ProtocolError, match="a ResizePool was to come, not a Quit"):
        other.receive_one(messages.ResizePool)
