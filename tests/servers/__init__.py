"""Servers to test against, on real sockets of loopback.

`tests.servers.process` has one more, `EchoProcess`; it is not imported here because it
is also run as a program.
"""

from tests.servers.certificates import CLIENT_NAME, Certificates
from tests.servers.connection import Connection
from tests.servers.echo import EchoServer
from tests.servers.forward import ProxyServer
from tests.servers.listening import Listener
from tests.servers.messages import (
    BadRequest,
    PeerClosed,
    Request,
    RequestReader,
    chunked,
    json_response,
    pattern,
    response,
    response_head,
)
from tests.servers.ports import ReservedPort, refusing_address, unanswering_address
from tests.servers.scripted import (
    Close,
    HalfClose,
    Hold,
    Receive,
    ReceiveBody,
    ReceiveBytes,
    ReceiveEnd,
    Repeat,
    Reset,
    Script,
    ScriptedServer,
    Send,
    SendForever,
    SendSlowly,
    Step,
    Wait,
)

__all__ = [
    "CLIENT_NAME",
    "BadRequest",
    "Certificates",
    "Close",
    "Connection",
    "EchoServer",
    "HalfClose",
    "Hold",
    "Listener",
    "PeerClosed",
    "ProxyServer",
    "Receive",
    "ReceiveBody",
    "ReceiveBytes",
    "ReceiveEnd",
    "Repeat",
    "Request",
    "RequestReader",
    "ReservedPort",
    "Reset",
    "Script",
    "ScriptedServer",
    "Send",
    "SendForever",
    "SendSlowly",
    "Step",
    "Wait",
    "chunked",
    "json_response",
    "pattern",
    "refusing_address",
    "response",
    "response_head",
    "unanswering_address",
]
