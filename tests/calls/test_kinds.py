"""Which kind of function it is, how it is named, and which parameters are whose."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Optional

import pytest
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import Clock

from holdfast.calls import Call, fault_tolerant
from holdfast.policy import Policy
from tests.calls.conftest import Recorder
from tests.servers import EchoServer


class Flaky:
    """What fails twice, then works."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, value: int = 3) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        if self.calls < 3:
            raise ConnectionError("no")
        return value

    def __repr__(self) -> str:
        return "a secret"


def wrapped(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Decorate a coroutine function as most decorators do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Awaitable[Any]:
        return function(*args, **keywords)

    return wrapper


@pytest.mark.parametrize("how", ["wrapped", "lambda", "object", "partial"])
def test_functions_that_return_coroutines(how: str) -> None:
    """A plain function that returns a coroutine is asyncio's: what it awaits is tried again."""
    flaky = Flaky()
    function: Any = {
        "wrapped": wrapped(flaky.__call__),
        "lambda": lambda value=3: flaky(value),
        "object": flaky,
        "partial": functools.partial(flaky, 3),
    }[how]
    work: Any = fault_tolerant(function)

    async def main() -> Any:
        return await work()

    assert asyncio.run(main()) == 3
    assert flaky.calls == 3
    coroutine = work()  # outside of a loop, too
    assert asyncio.run(coroutine) == 3


def test_functions_that_return_tasks() -> None:
    """A task comes back as a task; what a coroutine returns is its result, even if it is one."""
    flaky = Flaky()

    @fault_tolerant
    def plain() -> asyncio.Future[int]:
        return asyncio.ensure_future(flaky())

    @fault_tolerant
    async def coroutine() -> asyncio.Future[int]:
        return asyncio.ensure_future(flaky())

    async def main() -> None:
        task = plain()
        assert isinstance(task, asyncio.Task)
        assert await task == 3
        task = await coroutine()
        assert isinstance(task, asyncio.Task)
        assert await task == 3

    asyncio.run(main())


def test_http_of_functions_that_return_coroutines(echo: EchoServer) -> None:
    """What such a function gets from `call.http` can be awaited, in the first call as well."""

    async def inner(call: Call) -> str:
        return str((await call.http.request("GET", "/x")).json()["path"])

    async def main(function: Any) -> None:
        assert await function() == "/x"
        assert await function() == "/x"
        function.core.close()
        await asyncio.sleep(0)

    for function in (wrapped(inner), lambda call: inner(call)):
        made = fault_tolerant(load_balancer=lambda: ("http", echo.address))(function)
        asyncio.run(main(made))


@pytest.mark.filterwarnings("ignore:coroutine")
def test_coroutines_that_nobody_awaits() -> None:
    """A coroutine that is dropped gives its slot back."""
    work: Any = fault_tolerant(lambda: Flaky()())
    for _ in range(3):
        work().close()
    for _ in range(3):
        coroutine = work()
        del coroutine
    gc.collect()
    assert work.core.endpoint.in_flight == 0


def test_twisted_in_the_wrong_thread() -> None:
    """A call that is refused because its thread is not the reactor's holds no slot."""
    work: Any = fault_tolerant(lambda: Deferred())

    class Elsewhere:
        def run(self, program: Any) -> None:
            program.close()
            raise RuntimeError("the reactor's thread")

    work.core.driver = Elsewhere()
    for _ in range(3):
        with pytest.raises(RuntimeError, match="thread"):
            work()
    gc.collect()
    assert work.core.endpoint.in_flight == 0


def test_an_asynchronous_fallback_of_a_plain_function() -> None:
    """A plain function gets the value of a fallback that is a coroutine function."""

    async def instead(error: Exception) -> str:
        await asyncio.sleep(0)
        return str(error)

    @fault_tolerant(fallback=instead)
    def work() -> str:
        raise ValueError("no")

    assert work() == "no"
    assert work() == "no"


def test_functions_of_twisted_within_others() -> None:
    """A partial function or an object is Twisted's when the function within is."""

    @inlineCallbacks
    def fetch(number: int) -> Any:
        yield succeed(number)

    class Fetching:
        def __call__(self) -> Deferred[int]:
            return succeed(1)

    functions: list[Any] = [functools.partial(fetch, 1), Fetching()]
    for function in functions:
        assert fault_tolerant(function).core.driver is not None


def test_threads_decide_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that find out at the same time that a function is Twisted's agree on one driver."""
    from holdfast.drivers import twisted as drivers

    made: list[Any] = []
    barrier = threading.Barrier(4)
    original = drivers.Driver

    def make(*arguments: Any) -> Any:
        made.append(original(Clock()))
        return made[-1]

    monkeypatch.setattr(drivers, "Driver", make)
    work: Any = fault_tolerant(lambda: None)

    def decide() -> None:
        barrier.wait()
        work.core.become_twisted()

    threads = [threading.Thread(target=decide) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_names_tell_no_secrets() -> None:
    """A function is named by what it is, not by what it holds."""

    def ask(password: str) -> str:
        return password

    function = functools.partial(functools.partial(ask, "secret"))
    decorators: list[Any] = [fault_tolerant, Policy()]
    for decorator in decorators:
        assert decorator(function).core.name.endswith("ask")
        assert decorator(Flaky()).core.name == "Flaky"
    with pytest.raises(TypeError) as caught:
        fault_tolerant(load_balancer="http://user:secret@name")
    assert "secret" not in str(caught.value)


# Annotations are strings in this file, so that those which are not are given here.
@pytest.mark.parametrize(
    ("annotation", "asks"),
    [
        (Call, True),
        (Call | None, True),
        (Optional[Call], True),  # noqa: UP045  as people write it
        (Annotated[Call, "the call"], True),
        (list[Call], False),
        (Callable[[Call], int], False),
        ("Call", True),
        ("calls.Call", True),
        ("Call | None", True),
        ("'Call' | None", True),
        ("Optional[Call]", True),
        ("t.Union[int, Call]", True),
        ("Annotated[Call, 'the call']", True),
        ("list[Call]", False),
        ("Callable[[Call], int] | None", False),
        ("Annotated[int, Call]", False),
        ("not a type", False),
    ],
)
def test_annotations(annotation: Any, asks: bool) -> None:
    """A parameter is given the call when it may be one, not when it is made of some."""

    def work(service: Any = None) -> Any:
        return service

    work.__annotations__ = {"service": annotation}
    function: Any = fault_tolerant(work)
    assert isinstance(function(), Call) is asks


def test_a_call_that_was_given() -> None:
    """The call that a partial function holds stays."""

    def work(a: int, call: Any = None) -> Any:
        return a, call

    assert fault_tolerant(functools.partial(work, call="mine"))(1) == (1, "mine")


def test_errors_that_are_raised_again_and_again() -> None:
    """An exception keeps what is its own, and has one note, of the latest call."""

    class Own(ConnectionError):
        attempts = 3

    error = Own("no")

    @fault_tolerant("own", retry_attempts=1)
    def work() -> None:
        raise error

    for _ in range(3):
        with pytest.raises(Own) as caught:
            work()
        assert caught.value.attempts == 3
        assert len(caught.value.__notes__) == 1


def test_duration_is_without_the_fallback(recorder: Recorder) -> None:
    """Statistics are those of the function: what a fallback takes is not counted."""
    now = [0.0]

    def instead() -> int:
        now[0] += 1000
        return 1

    @fault_tolerant("d", fallback=instead, statsd=recorder)
    def work() -> int:
        raise ValueError("no")

    core: Any = work.core  # type: ignore[attr-defined]
    clock = core.clock
    core.clock = lambda: clock() + now[0]
    assert work() == 1
    assert recorder.timings[0][1] < 100_000
    assert recorder.counts == {"d.failure": 1, "d.fallback": 1}
