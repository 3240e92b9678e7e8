"""The methods that every face of a host, or of many, has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast.cluster.lifetimes import AsyncClosing, Closing
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from holdfast.errors import InvalidRequest
from holdfast.http.bodies import body_of
from holdfast.http.redirects import DEFAULT
from holdfast.http.requests import Request
from holdfast.rest.response import Response

if TYPE_CHECKING:
    from holdfast.http.limits import Timeout
    from holdfast.ops import Program

__all__ = ["Asynchronous", "Blocking", "Verbs", "request_of"]

R = TypeVar("R")


def request_of(
    timeout: Timeout,
    method: str,
    path: str,
    body: Any = None,
    params: Any = (),
    redirect: bool | int = False,
    headers: Any = None,
    **options: Any,
) -> Request:
    """Return the request for the arguments of a call: a body that is not None goes as JSON."""
    if redirect < 0:
        raise InvalidRequest(f"redirect is a flag or a count, not {redirect!r}")
    return Request(
        method,
        path,
        timeout,
        DEFAULT if redirect is True else int(redirect),
        params=params,
        headers=headers,
        body=None if body is None else body_of(json=body),
        **options,
    )


class Verbs(Generic[R]):
    """``get delete post put patch`` on top of ``call``; R is what ``call`` returns."""

    def _program(
        self, method: str, path: str, body: Any = None, params: Any = (), **options: Any
    ) -> Program[Response]:
        raise NotImplementedError

    if TYPE_CHECKING:  # or it would stand before that of `Blocking` in some classes

        def _run(self, program: Program[Any]) -> Any: ...

    def _evaluated(self, *arguments: Any, **options: Any) -> Program[Any]:
        response = yield from self._program(*arguments, **options)
        return response()

    def get(self, path: str, **params: Any) -> Any:
        """Return the decoded body of a GET; ``params`` are its query."""
        return self._run(self._evaluated("GET", path, None, params))

    def delete(self, path: str, **params: Any) -> Any:
        """Return the decoded body of a DELETE; ``params`` are its query."""
        return self._run(self._evaluated("DELETE", path, None, params))

    def post(self, path: str, body: Any = None, **kwargs: Any) -> Any:
        """Return the decoded body of a POST of ``body``; ``kwargs`` are those of ``call``."""
        return self._run(self._evaluated("POST", path, body, **kwargs))

    def put(self, path: str, body: Any = None, **kwargs: Any) -> Any:
        """Return the decoded body of a PUT of ``body``; ``kwargs`` are those of ``call``."""
        return self._run(self._evaluated("PUT", path, body, **kwargs))

    def patch(self, path: str, body: Any = None, **kwargs: Any) -> Any:
        """Return the decoded body of a PATCH of ``body``; ``kwargs`` are those of ``call``."""
        return self._run(self._evaluated("PATCH", path, body, **kwargs))


class Blocking(Closing):
    """Runs programs on the caller's thread; a context manager."""

    def _run(self, program: Program[Any]) -> Any:
        return blocking.run(program)


class Asynchronous(AsyncClosing):
    """Runs programs in the running event loop; an asynchronous context manager."""

    def _run(self, program: Program[Any]) -> Any:
        return asyncio_driver.run(program)
