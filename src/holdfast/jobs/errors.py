"""The exceptions of `holdfast.jobs`, all of them below `HarpException`."""

from __future__ import annotations

from typing import Any

from holdfast.errors import CallTimeout, HoldfastError, InvalidRequest, NetworkError

__all__ = [
    "CancelledException",
    "CommunicationError",
    "CommunicationTimeout",
    "HarpException",
    "InvalidCall",
    "RemoteError",
    "RemoteException",
]


class HarpException(HoldfastError):
    """The base of all exceptions of `holdfast.jobs`."""


class InvalidCall(HarpException, InvalidRequest):
    """The arguments or the options make no call: nothing was sent."""


class CommunicationError(HarpException, NetworkError):
    """The communication with a dispatcher, or a host, failed.

    ``sent``: whether the request may have been carried out. ``job_id``: what the job is called, if
    there is one, when it was a call that may have been submitted; `HarpCaller.job` tells.
    """

    job_id: str | None = None


class CommunicationTimeout(CommunicationError, CallTimeout):
    """A dispatcher, or a host, took too long to answer."""


class CancelledException(HarpException):
    """The job has no result, because it was cancelled."""


class _Told(HarpException):
    """An error that was told by the other side."""

    def __init__(self, type: str, message: str, data: Any = None) -> None:
        super().__init__(type, message, data)
        self.type = type
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"

    @property
    def summary(self) -> str:
        """What failed."""
        return str(self)


class RemoteException(_Told):
    """The remote procedure raised an exception.

    ``type``: its class's name; ``message``: its text; ``data``: what else is known, or None.
    """


class RemoteError(_Told):
    """The dispatcher, or the host, could not do what was asked; the fields as above."""
