"""Remote procedures that are queued, streamed, recorded and cancelled.

``HarpCaller`` talks to a dispatcher, which calls procedures on hosts and keeps what they return;
``HarpServer`` talks to a host's daemon itself. ``AsyncHarpCaller`` and ``AsyncHarpServer`` are the
same in asyncio. See `holdfast.jobs.procedures` for what hosts run.

Names are imported when they are used: the daemon, which imports this package, too, needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast._lazy import on_use

if TYPE_CHECKING:
    from holdfast.jobs.aio import AsyncHarpCaller
    from holdfast.jobs.aio_calls import AsyncRemoteCall, AsyncRemoteProcedure, AsyncRemoteServer
    from holdfast.jobs.aio_connections import AsyncJSONConnection, AsyncJSONSSLConnection
    from holdfast.jobs.aio_groups import AsyncGroup
    from holdfast.jobs.aio_server import (
        AsyncHarpProcedure,
        AsyncHarpServer,
        AsyncHarpStreamIterator,
    )
    from holdfast.jobs.caller import HarpCaller
    from holdfast.jobs.calls import RemoteCall, RemoteProcedure, RemoteServer
    from holdfast.jobs.connections import JSONConnection, JSONSSLConnection
    from holdfast.jobs.errors import (
        CancelledException,
        CommunicationError,
        CommunicationTimeout,
        HarpException,
        InvalidCall,
        RemoteError,
        RemoteException,
    )
    from holdfast.jobs.groups import Group, Outcome
    from holdfast.jobs.results import CALL_CANCELLED, CALL_NOT_FINISHED, Result
    from holdfast.jobs.server import HarpProcedure, HarpServer, HarpStreamIterator

__all__ = [
    "CALL_CANCELLED",
    "CALL_NOT_FINISHED",
    "AsyncGroup",
    "AsyncHarpCaller",
    "AsyncHarpProcedure",
    "AsyncHarpServer",
    "AsyncHarpStreamIterator",
    "AsyncJSONConnection",
    "AsyncJSONSSLConnection",
    "AsyncRemoteCall",
    "AsyncRemoteProcedure",
    "AsyncRemoteServer",
    "CancelledException",
    "CommunicationError",
    "CommunicationTimeout",
    "Group",
    "HarpCaller",
    "HarpException",
    "HarpProcedure",
    "HarpServer",
    "HarpStreamIterator",
    "InvalidCall",
    "JSONConnection",
    "JSONSSLConnection",
    "Outcome",
    "RemoteCall",
    "RemoteError",
    "RemoteException",
    "RemoteProcedure",
    "RemoteServer",
    "Result",
]

_MODULES = {
    "AsyncHarpCaller": "aio",
    "AsyncRemoteCall": "aio_calls",
    "AsyncRemoteProcedure": "aio_calls",
    "AsyncRemoteServer": "aio_calls",
    "AsyncJSONConnection": "aio_connections",
    "AsyncJSONSSLConnection": "aio_connections",
    "AsyncGroup": "aio_groups",
    "AsyncHarpProcedure": "aio_server",
    "AsyncHarpServer": "aio_server",
    "AsyncHarpStreamIterator": "aio_server",
    "HarpCaller": "caller",
    "RemoteCall": "calls",
    "RemoteProcedure": "calls",
    "RemoteServer": "calls",
    "JSONConnection": "connections",
    "JSONSSLConnection": "connections",
    "CancelledException": "errors",
    "CommunicationError": "errors",
    "CommunicationTimeout": "errors",
    "HarpException": "errors",
    "InvalidCall": "errors",
    "RemoteError": "errors",
    "RemoteException": "errors",
    "Group": "groups",
    "Outcome": "groups",
    "CALL_CANCELLED": "results",
    "CALL_NOT_FINISHED": "results",
    "Result": "results",
    "HarpProcedure": "server",
    "HarpServer": "server",
    "HarpStreamIterator": "server",
}

__getattr__, __dir__ = on_use(globals(), _MODULES)
