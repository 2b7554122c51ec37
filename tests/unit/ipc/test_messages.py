"""The messages and their format: every message survives the way through bytes."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appsrv.apps.app_group import AppGroup
from appsrv.apps.app_spec import AppSpec
from appsrv.errors import ProtocolError
from appsrv.ipc import connection_messages, messages
from appsrv.ipc.message_format import (
    LONG_MESSAGE_BYTES,
    MAX_DATAGRAM_BYTES,
    Message,
    MessageTooLong,
    Packed,
    messages_of,
    unpack,
)
from appsrv.settings.table import Settings

KINDS: list[type[Message]] = [
    kind
    for module in (messages, connection_messages)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Message) and dataclasses.is_dataclass(kind)
]
RARE = [kind for kind in KINDS if not issubclass(kind, Packed)]
FREQUENT = [kind for kind in KINDS if issubclass(kind, Packed)]
BITS = {"Q": 64, "H": 16, "B": 8}
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=50),
    int: st.integers(-1, 2**31),
    bool: st.booleans(),
    float: st.floats(0, 1e6),
    int | None: st.none() | st.integers(0, 200),
    list[int]: st.lists(st.integers(min_value=0), max_size=3),
    list[str]: st.lists(st.text(max_size=9), max_size=3),
    dict[str, str]: st.dictionaries(st.text(max_size=9), st.text(max_size=20), max_size=3),
    dict[str, Any]: st.dictionaries(st.text(max_size=5), st.integers() | st.lists(st.text(), max_size=2), max_size=3),
    list[dict[str, Any]]: st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text()), max_size=2),
}


def of_kind(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Any message of this kind."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if issubclass(kind, Packed):
        codes = kind.LAYOUT.format.removeprefix("<B")
        fields: dict[str, st.SearchStrategy[Any]] = {
            name: st.integers(0, 2 ** BITS[code] - 1) for name, code in zip(kind.NAMES, codes, strict=True)
        }
        if names[-1] == "data":
            fields["data"] = st.binary(max_size=100)
        if kind is connection_messages.ClosedAll:
            return st.lists(st.binary(min_size=8, max_size=8), max_size=9).map(
                lambda ids: connection_messages.ClosedAll(len(ids), b"".join(ids))
            )
        if kind is connection_messages.Undelivered:
            fields.update(files=st.integers(0, 3), data=st.binary(min_size=48, max_size=100))
        assert list(fields) == names
    else:
        hints = get_type_hints(kind)
        fields = {name: BY_TYPE[hints[name]] for name in names}
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_survives_the_way(kind: type[Message]) -> None:
    # All kinds share the code that packs them: what is particular to a kind is its few fields.
    @settings(max_examples=30)
    @given(of_kind(kind))
    def survives(msg: Message) -> None:
        assert unpack(msg.pack()) == msg

    survives()


def test_all_kinds_are_found() -> None:
    assert len(KINDS) > 20
    assert {"HandOff", "Configure", "Gone"} <= {kind.__name__ for kind in KINDS}


def test_tags_are_unique_and_one_byte() -> None:
    tags = [kind.TAG for kind in KINDS]
    assert len(set(tags)) == len(tags)
    assert all(0 < tag < 256 for tag in tags)


def test_a_tag_that_is_taken_is_refused() -> None:
    with pytest.raises(TypeError, match="HandOff"):
        type("Other", (Message,), {}, tag=connection_messages.HandOff.TAG)


def test_every_message_has_a_direction_between_two_processes() -> None:
    processes = {"watchdog", "server", "preloader", "worker"}
    assert all(kind.WAYS for kind in KINDS)
    for way in {way for kind in KINDS for way in kind.WAYS}:
        assert {way.sender, way.receiver} <= processes
        assert way.sender != way.receiver
        assert messages_of(way) == {kind for kind in KINDS if way in kind.WAYS}


def test_the_messages_of_a_direction_are_defined_in_one_module() -> None:
    """A process that has imported a part of them would make a dispatcher that misses the others."""
    for way in {way for kind in KINDS for way in kind.WAYS}:
        assert len({kind.__module__ for kind in messages_of(way)}) == 1, way


def test_a_message_without_a_direction_is_refused() -> None:
    with pytest.raises(TypeError, match="Other has no direction"):
        type("Other", (Message,), {}, tag=255)


@pytest.mark.parametrize("datagram", [b"", b"\0", b"\xff", b"GET / HTTP/1.1"])
def test_what_is_no_message_is_told(datagram: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(datagram)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_known_tag_with_nonsense_is_told(kind: type[Message]) -> None:
    """A message cut short, or with fields of another version: a ProtocolError names it."""
    with pytest.raises(ProtocolError, match=kind.__name__):
        unpack(bytes([kind.TAG]))
    with pytest.raises(ProtocolError, match=kind.__name__):
        unpack(bytes([kind.TAG]) + (b'{"no": 1}' if kind in RARE else b"\0"))


@pytest.mark.parametrize("text", [
    b"2 x", b"2 things happened\n", b"2\1\0" + b"x" * 9, b"2\2\0" + b"x" * 8, b"+ 12345678", b"+ 3 items added today",
    b"1 of 3 files is missing\n", b"1" + b"x" * 8 + b"\1\1" + b"x" * 15, b", then", b". x", b"/ of all",
    b"3" + b"[" * 100_000,
])
def test_a_text_that_begins_with_the_tag_of_a_message_is_none(text: bytes) -> None:
    with pytest.raises(ProtocolError, match="reads like"):
        unpack(text)


def test_a_text_that_does_not_fit_into_a_datagram_loses_its_middle() -> None:
    """A traceback can be as long as what an application puts into its exception."""
    text = "start" + "\U0001f600" * 200_000 + "end"
    packed = messages.LoadFailed(text, text, 4).pack()
    assert len(packed) <= MAX_DATAGRAM_BYTES
    got = unpack(packed)
    assert isinstance(got, messages.LoadFailed)
    assert got.exit_code == 4
    assert got.traceback.startswith("start")
    assert got.traceback.endswith("end")


def test_a_list_that_does_not_fit_loses_its_end() -> None:
    """A checkout of another branch changes any number of files."""
    packed = messages.CodeChanged([f"/srv/shop/some/where/file{number}.py" for number in range(10_000)]).pack()
    assert len(packed) <= MAX_DATAGRAM_BYTES
    got = unpack(packed)
    assert isinstance(got, messages.CodeChanged)
    assert got.paths[0].endswith("file0.py")


def test_what_an_application_is_travels_as_one_json_object() -> None:
    """A person who reads it with strace sees no text within a text."""
    spec = AppSpec("/srv/shop", target="wsgi:app")
    group = AppGroup(spec, Settings(hosts=("shop.example",)), "shop", {"KEY": 'a "quoted" value'})
    packed = messages.ServeGroup(group.to_json(), generation=3).pack()
    assert b'{"group":{"spec":{"root":"/srv/shop",' in packed
    assert packed.count(b"\\") == 2
    got = unpack(packed)
    assert isinstance(got, messages.ServeGroup)
    assert AppGroup.from_json(got.group) == group


def test_what_an_application_is_is_never_shortened() -> None:
    """Half of the settings would be other settings. What does not fit is an error where it is sent."""
    group = {"variables": {f"NAME{number}": "x" * 5000 for number in range(40)}}
    assert LONG_MESSAGE_BYTES < len(messages.ServeGroup(group).pack()) < MAX_DATAGRAM_BYTES
    assert unpack(messages.ServeGroup(group).pack()) == messages.ServeGroup(group)
    configure = messages.Configure(group, [], {}, "/run", development=False, group={**group, "more": group})
    with pytest.raises(MessageTooLong, match=r"a Configure of 6\d{5} bytes is longer than 393216 bytes"):
        configure.pack()
    problems = {f"/srv/apps/{number}": "x" * 300 for number in range(2000)}
    got = unpack(messages.Configure(group, [], {}, "/run", development=False, problems=problems).pack())
    assert isinstance(got, messages.Configure)
    assert (got.settings, len(got.problems)) == (group, 100)


def test_the_rare_ones_can_be_read_by_a_person() -> None:
    packed = messages.Spawn(3, 2, True, False).pack()[1:]
    assert packed == b'{"serial":3,"slot":2,"first":true,"become":false,"check":false}'
    assert FREQUENT
