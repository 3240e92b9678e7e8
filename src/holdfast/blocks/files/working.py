"""Programs that have several blocks under way, with threads for what waits for a disk.

Files are read and written, and blocks hashed, on a thread, whatever driver runs the program: the
network goes on meanwhile.
"""

from __future__ import annotations

import threading
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast import ops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.ops import Program

__all__ = ["each", "on_thread"]

T = TypeVar("T")


def on_thread(function: Callable[..., T], *arguments: Any) -> Program[T]:
    """Call a function on a thread of its own, and return its result or raise its error.

    A program that is closed does not wait for it.
    """
    call = _Call(function, arguments)
    threading.Thread(target=call.run, name="holdfast-files", daemon=True).start()
    yield ops.Wait(call.over, inf)
    if call.error is not None:
        try:
            raise call.error
        finally:
            call.error = None  # an exception must not keep its own frame alive
    result: T = call.result
    return result


class _Call:
    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.over = ops.Signal()
        self.result: Any = None
        self.error: BaseException | None = None
        self._function = function
        self._arguments = arguments

    def run(self) -> None:
        try:
            self.result = self._function(*self._arguments)
        except BaseException as error:
            self.error = error
        finally:
            self.over.fire()


def each(items: Iterator[T], work: Callable[[T], Program[None]], parallel: int) -> Program[None]:
    """Do the work for each item, for so many at a time.

    The first error ends all of it, without waiting for what is under way, and is raised.
    """
    errors: list[Exception] = []
    failed = ops.Signal()

    def one_by_one() -> Program[None]:
        for item in items:
            try:
                yield from work(item)
            except Exception as error:
                errors.append(error)
                failed.fire()
                return

    def all_of_them() -> Program[None]:
        yield ops.All([one_by_one() for _ in range(parallel)])

    def until_failed() -> Program[None]:
        yield ops.Wait(failed, inf)

    if parallel == 1:
        yield from one_by_one()
    else:
        yield ops.First([all_of_them(), until_failed()])
    if errors:
        raise errors[0]
