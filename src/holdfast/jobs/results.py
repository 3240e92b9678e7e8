"""What stands for a result. Imports nothing, because every process of the host daemon has it."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["CALL_CANCELLED", "CALL_NOT_FINISHED", "CallCancelled", "CallNotFinished", "Result"]


class Result:
    """The end result of a streaming procedure: the last that it, and an iterator over it, yields.

    ``value``: the result itself, a value of JSON.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Result({self.value!r})"

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Result) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # its value may change


class _Constant:
    """The only object of its class, also after a copy or a journey by pickle."""

    __slots__ = ()
    _name = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> str:
        return self._name


class CallNotFinished(_Constant):
    """The class of `CALL_NOT_FINISHED`."""

    __slots__ = ()
    _name = "CALL_NOT_FINISHED"


class CallCancelled(_Constant):
    """The class of `CALL_CANCELLED`."""

    __slots__ = ()
    _name = "CALL_CANCELLED"


#: Returned instead of a result while the call still runs.
CALL_NOT_FINISHED: Final = CallNotFinished()

#: Returned as the result of a call that was cancelled.
CALL_CANCELLED: Final = CallCancelled()
