"""The HTTP client that its owner's loop steps: no call blocks, and time is handed in.

The names and meanings are those of the package hio, whose programs can change their import.
"""

from holdfast.flow.backend import ClientDoer, WireLog, backendRequest, openClient
from holdfast.flow.client import Client
from holdfast.flow.cluster import ClusterClient
from holdfast.flow.connecting import Connector
from holdfast.flow.doing import Doer, Doist
from holdfast.flow.requesting import Requester
from holdfast.flow.responding import Respondent
from holdfast.flow.responses import Response
from holdfast.flow.secure import TLSConnector
from holdfast.flow.tyming import Tymee, Tymer, Tymist

__all__ = [
    "Client",
    "ClientDoer",
    "ClusterClient",
    "Connector",
    "Doer",
    "Doist",
    "Requester",
    "Respondent",
    "Response",
    "TLSConnector",
    "Tymee",
    "Tymer",
    "Tymist",
    "WireLog",
    "backendRequest",
    "openClient",
]
