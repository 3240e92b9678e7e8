"""The messages of both protocols: what is taken, what is refused, and what is built."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.jobs import messages
from holdfast.jobs.fields import INTEGER_LIMIT, NAME_LIMIT, TEXT_LIMIT
from holdfast.jobs.messages import (
    CANCELLED,
    CONTINUE,
    NO_RESULT,
    CallRequest,
    CancelRequest,
    End,
    FollowRequest,
    HostPacket,
    HostRequest,
    HostsRequest,
    Invalid,
    Packet,
    Queue,
    ReadRequest,
    Request,
    ResultRequest,
    StatusRequest,
    parse_acknowledgement,
    parse_end,
    parse_host_reply,
    parse_host_request,
    parse_request,
    parse_result_reply,
    parse_stream_reply,
    read_host_request,
    read_request,
)
from holdfast.wire.jsonlines import decode, encode

ID = "3f22e0d4-c8ed-41e5-8d66-001e8c140268"
CALL = {"harpcaller": 1, "host": "h", "procedure": "p", "arguments": []}
HOST_CALL = {
    "harp": 1,
    "procedure": "p",
    "arguments": [],
    "auth": {"user": "u", "password": "s3cret"},
}


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        (
            {"host": "h", "procedure": "p", "arguments": [1]},
            CallRequest("h", "p", [1]),
        ),
        (
            {
                "host": "h",
                "procedure": "p",
                "arguments": {"a": None},
                "timeout": 1,
                "max_exec_time": INTEGER_LIMIT,
                "queue": {"name": {"a": 1}},
                "info": {"x": [None]},
                "id": ID,
                "token": "t",
            },
            CallRequest(
                "h", "p", {"a": None}, 1, INTEGER_LIMIT, Queue({"a": 1}), {"x": [None]}, ID, "t"
            ),
        ),
        (
            {
                "host": "h",
                "procedure": "p",
                "arguments": [],
                "queue": {"name": {}, "concurrency": 3},
            },
            CallRequest("h", "p", [], queue=Queue({}, 3)),
        ),
        ({"cancel": "j"}, CancelRequest("j")),
        ({"cancel": "j", "token": "t"}, CancelRequest("j", "t")),
        ({"get_result": "j"}, ResultRequest("j", True)),
        ({"get_result": "j", "wait": True}, ResultRequest("j", True)),
        ({"get_result": "j", "wait": False, "token": "t"}, ResultRequest("j", False, "t")),
        ({"get_status": "j"}, StatusRequest("j")),
        ({"follow_stream": "j"}, FollowRequest("j", None, 0)),
        ({"follow_stream": "j", "since": 0}, FollowRequest("j", 0, None)),
        ({"follow_stream": "j", "recent": 3}, FollowRequest("j", None, 3)),
        ({"read_stream": "j"}, ReadRequest("j", 0, None)),
        ({"read_stream": "j", "since": 5, "token": "t"}, ReadRequest("j", 5, None, "t")),
        ({"read_stream": "j", "recent": 0}, ReadRequest("j", None, 0)),
        ({"hosts": "web*"}, HostsRequest("web*")),
    ],
)
def test_requests(fields: dict[str, Any], request_: Request) -> None:
    """Each request is taken, and becomes the same message again."""
    message = {"harpcaller": 1, **fields}
    assert parse_request(message) == request_
    assert read_request(encode(message)) == request_
    assert parse_request(request_.to_message()) == request_


def test_what_is_not_given_is_not_sent() -> None:
    """Options that are not given leave no trace, for dispatchers that know fewer."""
    assert CallRequest("h", "p", []).to_message() == CALL
    assert FollowRequest("j").to_message() == {"harpcaller": 1, "follow_stream": "j"}
    assert ReadRequest("j").to_message() == {"harpcaller": 1, "read_stream": "j"}


_NAMES: list[Any] = [None, 1, "", [], "x" * (NAME_LIMIT + 1)]
_TEXTS: list[Any] = ["\0", "\ud800", {}]
_COUNTS: list[Any] = [None, -1, False, 1.5]

_WAITS: list[Any] = [None, 0, 1, "true"]
_NUMBERS: list[Any] = [None, -1, True, 0.0, "0", INTEGER_LIMIT + 1]

_FIELDS: list[dict[str, Any]] = [
    {"host": ""},
    {"host": None},
    {"procedure": 1},
    {"procedure": "x" * (NAME_LIMIT + 1)},
    {"arguments": None},
    {"arguments": "x"},
    {"timeout": None},
    {"timeout": 0},
    {"timeout": True},
    {"timeout": 1.0},
    {"timeout": INTEGER_LIMIT + 1},
    {"max_exec_time": -1},
    {"max_exec_time": "1"},
    {"queue": None},
    {"queue": []},
    {"queue": {}},
    {"queue": {"name": "x"}},
    {"queue": {"name": {}, "concurrency": 0}},
    {"queue": {"name": {}, "concurrency": True}},
    {"queue": {"name": {}, "concurrency": None}},
    {"queue": {"name": {}, "more": 1}},
    {"id": None},
    {"id": "x"},
    {"id": ID.upper()},
    {"id": ID.replace("-41", "-11")},  # by time, not at random
    {"id": ID + "\n"},
    {"token": None},
    {"token": ""},
    {"token": "x" * (TEXT_LIMIT + 1)},
    {"more": 1},
    {"wait": True},
]

WRONG: list[Any] = [
    None,
    7,
    "call",
    [],
    {},
    {"harpcaller": 1},
    {"harpcaller": 2, "cancel": "j"},
    {"harpcaller": True, "cancel": "j"},
    {"harpcaller": 1.0, "cancel": "j"},
    {"harpcaller": "1", "cancel": "j"},
    {"cancel": "j"},
    {"harpcaller": 1, "brew": "tea"},
    *({"harpcaller": 1, "cancel": wrong} for wrong in _NAMES),
    *({"harpcaller": 1, "get_status": wrong} for wrong in _TEXTS),
    {"harpcaller": 1, "cancel": "j", "wait": True},
    {"harpcaller": 1, "cancel": "j", "get_result": "j"},
    *({"harpcaller": 1, "get_result": "j", "wait": wrong} for wrong in _WAITS),
    {"harpcaller": 1, "follow_stream": "j", "since": 0, "recent": 0},
    *({"harpcaller": 1, "follow_stream": "j", "since": wrong} for wrong in _NUMBERS),
    *({"harpcaller": 1, "read_stream": "j", "recent": wrong} for wrong in _COUNTS),
    {"harpcaller": 1, "hosts": ""},
    {"harpcaller": 1, "hosts": ["a"]},
    *(CALL | wrong for wrong in _FIELDS),
    *({name: value for name, value in CALL.items() if name != left} for left in CALL),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: json.dumps(wrong)[:60])
def test_wrong_requests(wrong: Any) -> None:
    """What is no request is refused as one that is invalid, without its secrets."""
    with pytest.raises(Invalid) as caught:
        parse_request(wrong)
    assert caught.value.type == "invalid_request"
    assert caught.value.message
    assert str(caught.value) == f"invalid_request: {caught.value.message}"


@pytest.mark.parametrize(
    "line", [b"", b"garbage", b"{", b'{"harpcaller": 1, "cancel": NaN}', b"\xff"]
)
def test_lines_that_are_no_requests(line: bytes) -> None:
    """What is no JSON cannot be parsed."""
    with pytest.raises(Invalid) as caught:
        read_request(line)
    assert caught.value.type == "parse_error"
    with pytest.raises(Invalid) as caught:
        read_host_request(line)
    assert caught.value.type == "parse_error"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    ),
    st.dictionaries(
        st.sampled_from([*CALL, "id", "queue", "timeout", "since", "wait", "token"]), st.none()
    ),
)
def test_any_request(value: Any, more: set[str]) -> None:
    """Any value at all is a request or is refused, and nothing else."""
    wrong = [value, CALL | dict.fromkeys(more, value), {"harpcaller": 1, "follow_stream": value}]
    for one in wrong:
        try:
            request = parse_request(one)
        except Invalid:
            continue
        assert parse_request(decode(encode(request.to_message()))) == request


def test_secrets_are_not_shown() -> None:
    """Neither tokens nor passwords are in what objects and errors say."""
    assert "s3cret" not in repr(parse_request(CALL | {"token": "s3cret"}))
    assert "s3cret" not in repr(parse_host_request(HOST_CALL))
    for wrong in (CALL | {"token": ["s3cret"]}, CALL | {"token": "s3cret", "x": "s3cret"}):
        with pytest.raises(Invalid) as caught:
            parse_request(wrong)
        assert "s3cret" not in str(caught.value)


def test_names_of_queues() -> None:
    """Queues have one name however their keys are ordered, and as many as there are values."""
    names: list[Any] = [
        {"a": 1, "b": {"c": [{"x": 1, "y": 2}]}},
        {"b": {"c": [{"y": 2, "x": 1}]}, "a": 1},
    ]
    assert len({Queue(name).key for name in names}) == 1
    others: list[dict[str, Any]] = [
        {},
        {"a": 1},
        {"a": "1"},
        {"a": True},
        {"a": None},
        {"a": [1]},
        {"a": [1, 2]},
    ]
    others += [{"a": [2, 1]}, {"Ω": 1}, {"a": 2**70}]
    assert len({Queue(name).key for name in others}) == len(others)
    assert "\n" not in Queue({"a": "\n"}).key


# The host's protocol.


def test_host_requests() -> None:
    """A host takes a call, and it becomes the same message again."""
    request = HostRequest("p", [], "u", "s3cret")
    assert parse_host_request(HOST_CALL) == request
    assert read_host_request(encode(HOST_CALL)) == request
    assert request.to_message() == HOST_CALL
    empty = HOST_CALL | {"auth": {"user": "u", "password": ""}, "arguments": {"a": 1}}
    assert parse_host_request(empty) == HostRequest("p", {"a": 1}, "u", "")


@pytest.mark.parametrize(
    ("wrong", "type"),
    [
        (None, "invalid_request"),
        ([], "invalid_request"),
        ({}, "invalid_protocol"),
        ({"harp": 2}, "invalid_protocol"),
        (HOST_CALL | {"harp": True}, "invalid_protocol"),
        (HOST_CALL | {"harp": "1"}, "invalid_protocol"),
        (HOST_CALL | {"procedure": ""}, "invalid_request"),
        (HOST_CALL | {"procedure": None}, "invalid_request"),
        (HOST_CALL | {"arguments": 1}, "invalid_request"),
        (HOST_CALL | {"auth": None}, "invalid_request"),
        (HOST_CALL | {"auth": {}}, "invalid_request"),
        (HOST_CALL | {"auth": {"user": "u"}}, "invalid_request"),
        (HOST_CALL | {"auth": {"user": "", "password": "p"}}, "invalid_request"),
        (HOST_CALL | {"auth": {"user": "u", "password": 1}}, "invalid_request"),
        (HOST_CALL | {"auth": {"user": "u", "password": "x" * 5000}}, "invalid_request"),
        (HOST_CALL | {"auth": {"user": "u", "password": "p", "x": 1}}, "invalid_request"),
        (HOST_CALL | {"more": 1}, "invalid_request"),
    ],
)
def test_wrong_host_requests(wrong: Any, type: str) -> None:
    """What is no call is refused, and another protocol is told apart."""
    with pytest.raises(Invalid) as caught:
        parse_host_request(wrong)
    assert caught.value.type == type


def test_acknowledgements() -> None:
    """The first reply of a host tells whether packets come, or is an error."""
    assert parse_acknowledgement(messages.acknowledgement(True)) is True
    assert parse_acknowledgement(messages.acknowledgement(False)) is False
    error = messages.host_error("auth_error", "no", [1])
    assert error == {"harp": 1, "error": {"type": "auth_error", "message": "no", "data": [1]}}
    assert parse_acknowledgement(error) == End("error", None, "auth_error", "no", [1])


@pytest.mark.parametrize(
    ("message", "streams", "reply"),
    [
        ({"stream": [1]}, True, HostPacket([1])),
        ({"stream": None}, True, HostPacket(None)),
        ({"result": 1}, True, End("result", 1)),
        ({"result": None}, False, End("result")),
        ({"exception": {"type": "E", "message": "m"}}, False, End("exception", None, "E", "m")),
        (
            {"harp": 1, "error": {"type": "E", "message": "m", "data": 0}},
            True,
            End("error", None, "E", "m", 0),
        ),
        ({"error": {"type": "E", "message": "m"}}, True, End("error", None, "E", "m")),
    ],
)
def test_host_replies(message: Any, streams: bool, reply: HostPacket | End) -> None:
    """Packets and ends are told apart."""
    assert parse_host_reply(message, streams) == reply


@pytest.mark.parametrize(
    ("message", "streams"),
    [
        ({"stream": 1}, False),
        ({"stream": 1, "result": 1}, True),
        ({"cancelled": True}, True),
        ({}, False),
        (None, True),
        ({"result": 1, "more": 1}, True),
        ({"harp": 2, "error": {"type": "E", "message": "m"}}, True),
    ],
)
def test_wrong_host_replies(message: Any, streams: bool) -> None:
    """What is neither a packet nor an end is malformed."""
    with pytest.raises(Invalid) as caught:
        parse_host_reply(message, streams)
    assert caught.value.type == "invalid_message"


# Ends, packets and replies.


@pytest.mark.parametrize(
    ("message", "end"),
    [
        (messages.result_end([1]), End("result", [1])),
        (messages.cancelled_end(), CANCELLED),
        (messages.exception_end("E", "m"), End("exception", None, "E", "m")),
        (messages.exception_end("E", "m", {"x": 1}), End("exception", None, "E", "m", {"x": 1})),
        (messages.error_end("E", ""), End("error", None, "E", "")),
    ],
)
def test_ends(message: dict[str, Any], end: End) -> None:
    """Each end is built and read, and becomes the same message again."""
    assert parse_end(message) == end
    assert end.to_message() == message
    assert parse_result_reply(message) == parse_stream_reply(message) == end


def test_other_replies() -> None:
    """What is no end has its own place."""
    assert parse_end({"packet": 0, "data": 0}) is None
    assert parse_result_reply(messages.no_result_reply()) is NO_RESULT
    assert parse_stream_reply(messages.continue_reply()) is CONTINUE
    assert parse_stream_reply({"packet": 3, "data": None}) == Packet(3, None)
    line = messages.packet_line(7, b'{"a":[1]}')
    assert parse_stream_reply(decode(line)) == Packet(7, {"a": [1]})
    assert line.endswith(b"\n")
    for parse, wrong in ((parse_result_reply, CONTINUE), (parse_stream_reply, NO_RESULT)):
        with pytest.raises(Invalid):
            parse({"continue": True} if wrong is CONTINUE else {"no_result": True})


def test_replies() -> None:
    """The dispatcher's replies are as the protocol has them."""
    request = CallRequest("h", "p", [1], info={"x": 1}, token="s3cret")
    assert messages.job_reply("j") == {"harpcaller": 1, "job_id": "j"}
    assert messages.cancel_reply(False) == {"cancelled": False}
    assert messages.hosts_reply(["b", "a"]) == {"hosts": ["a", "b"]}
    assert messages.stream_message([1]) == {"stream": [1]}
    assert messages.status_reply(request, 1, None, 3) == {
        "call": {"host": "h", "procedure": "p", "arguments": [1]},
        "time": {"submit": 1, "start": None, "end": 3},
        "info": {"x": 1},
    }
    assert {"invalid_jobid", "access_denied", "shutdown"} <= messages.REFUSALS
    assert messages.REFUSALS <= messages.DISPATCHER_ERRORS


def test_all_names_are_there() -> None:
    """Each name that the module promises is there."""
    for name in messages.__all__:
        assert hasattr(messages, name)
