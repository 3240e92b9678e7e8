"""The rate limit: never more than the burst and the rate, in order of arrival."""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import errors, ops
from holdfast.drivers import blocking
from holdfast.drivers.simulated import Task, World
from holdfast.policy import RateLimit, RateLimiter
from tests.policy.hammering import hammer


def lawful(granted: list[float], per_second: float, burst: int) -> None:
    """Check that between any two of the times there is at most the burst, and the rate beside."""
    for first, start in enumerate(granted):
        for number, end in enumerate(granted[first:], 1):
            assert number <= burst + per_second * (end - start) + 1e-6


def test_a_script_of_tokens() -> None:
    """A full bucket gives its burst at once, then one at a time."""
    limiter = RateLimiter(RateLimit(10, burst=3))
    assert limiter.balance(0) == 3
    assert [limiter.try_acquire(0) for _ in range(4)] == [True, True, True, False]
    assert limiter.balance(0) == pytest.approx(0)
    assert not limiter.try_acquire(0.09)
    assert limiter.try_acquire(0.1)
    assert not limiter.try_acquire(0.1)
    assert limiter.balance(1000) == 3
    assert repr(limiter) == "<RateLimiter 10/s, 0 waiting>"


@pytest.mark.parametrize(("per_second", "burst"), [(100, 100), (2.5, 2), (0.1, 1)])
def test_by_default_a_second_may_come_at_once(per_second: float, burst: int) -> None:
    """The burst is what comes in a second, and at least one."""
    limiter = RateLimiter(RateLimit(per_second))
    assert sum(limiter.try_acquire(5) for _ in range(1000)) == burst


@given(
    per_second=st.sampled_from([0.3, 1.0, 7.0, 100.0, 3333.3]),
    burst=st.integers(1, 6),
    pauses=st.lists(st.sampled_from([0.0, 0.0003, 0.01, 0.1, 0.3, 1.0, 60.0]), max_size=60),
    start=st.sampled_from([0.0, 1e6]),
)
def test_the_bucket_never_gives_more_than_it_has(
    per_second: float, burst: int, pauses: list[float], start: float
) -> None:
    """At most the burst and the rate come out in any time, and no token is held back."""
    limiter = RateLimiter(RateLimit(per_second, burst))
    now, tokens = start, float(burst)
    granted: list[float] = []
    for pause in pauses:
        now += pause
        tokens = min(burst, tokens + pause * per_second)
        assert limiter.balance(now) == pytest.approx(tokens, abs=1e-4)
        got = limiter.try_acquire(now)
        if abs(tokens - 1) > 1e-4:
            assert got == (tokens > 1)
        if got:
            tokens -= 1
            granted.append(now)
    lawful(granted, per_second, burst)


def test_tokens_are_not_lost_to_rounding() -> None:
    """Late on the clock, who asks at the very times at which tokens come gets every one."""
    limiter = RateLimiter(RateLimit(10, burst=1))
    assert all(limiter.try_acquire(1e6 + number / 10) for number in range(10_000))


def test_who_finds_no_token_sleeps_for_it() -> None:
    """Calls beyond the burst come out one by one, at the rate, without an operation before."""
    world = World()
    limiter = RateLimiter(RateLimit(10, burst=2))
    assert list(limiter.acquire(0, inf)) == []
    assert list(limiter.acquire(0, inf)) == []
    times: list[float] = []

    def take() -> ops.Program[None]:
        yield from limiter.acquire(world.now, inf)
        times.append(world.now)

    for _ in range(4):
        world.start(take())
    world.advance(0)
    assert limiter.waiting == 4
    assert limiter.balance(0) == pytest.approx(-4)
    world.advance(1)
    assert times == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert limiter.waiting == 0


def test_who_would_wait_too_long_is_told_at_once() -> None:
    """A token that comes after the deadline is not waited for, nor taken."""
    world = World()
    limiter = RateLimiter(RateLimit(2, burst=1))
    assert limiter.try_acquire(0)
    with pytest.raises(errors.RateLimited, match=r"in 0\.5 s, after the deadline"):
        world.run(limiter.acquire(0, 0.4))
    assert world.now == 0
    world.run(limiter.acquire(0, 0.5))
    assert world.now == 0.5


def test_without_waiting_an_empty_bucket_is_an_error() -> None:
    """Who does not want to wait is told when the next token comes."""
    limiter = RateLimiter(RateLimit(2, burst=1, wait=False))
    assert list(limiter.acquire(0, inf)) == []
    with pytest.raises(errors.RateLimited, match=r"2 calls a second .* in 0\.5 s$"):
        list(limiter.acquire(0, inf))
    assert list(limiter.acquire(0.5, inf)) == []


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("when", [0.0, 0.5, 1.0, 1.5, 2.5])
def test_who_gives_up_lets_those_behind_move_forward(number: int, when: float) -> None:
    """A cancelled call's token goes to the next one; nobody waits longer than needed."""
    world = World()
    limiter = RateLimiter(RateLimit(1, burst=1))
    assert limiter.try_acquire(0)
    times: dict[int, float] = {}

    def take(number: int) -> ops.Program[None]:
        yield from limiter.acquire(world.now, inf)
        times[number] = world.now

    tasks = [world.start(take(number)) for number in range(4)]
    world.advance(when)
    tasks[number].cancel()
    world.advance(10)
    left = [other for other in range(4) if other != number or number in times]
    assert list(times) == left
    assert [times[other] for other in left] == pytest.approx(
        [float(i + 1) for i in range(len(left))]
    )
    assert limiter.waiting == 0
    assert limiter.balance(world.now) == pytest.approx(1)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.sampled_from([0.0, 0.5, 2.0, 100.0])),
        st.tuples(st.just("try"), st.just(0.0)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.sampled_from([0.05, 0.25, 0.4, 1.0, 5.0])),
    ),
    max_size=60,
)


@given(
    steps=steps,
    per_second=st.sampled_from([1.0, 3.0, 10.0]),
    burst=st.integers(1, 4),
    start=st.sampled_from([0.0, 1e5]),
)
def test_waiting_keeps_the_law_and_the_order(
    steps: list[tuple[str, float]], per_second: float, burst: int, start: float
) -> None:
    """However calls come, wait and give up: the rate, the order and the deadlines are kept."""
    world = World(start=start)
    limiter = RateLimiter(RateLimit(per_second, burst))
    granted: list[float] = []
    waiting: list[Task] = []

    def take(deadline: float) -> ops.Program[None]:
        yield from limiter.acquire(world.now, deadline)
        assert world.now <= deadline + 1e-6
        granted.append(world.now)
        if me in waiting:  # otherwise it did not wait
            assert waiting.index(me) == 0, "overtaken"
            waiting.remove(me)

    for action, value in steps:
        if action == "acquire":
            me = world.start(take(world.now + value))
            before = limiter.waiting
            world.advance(0)
            if not me.done:
                assert limiter.waiting == before + 1
                waiting.append(me)
            elif me.error is not None:
                assert isinstance(me.error, errors.RateLimited)
                # The token would have come when those who wait, and this call, have theirs.
                assert 1 - limiter.balance(world.now) > value * per_second - 1e-6
        elif action == "try":
            if limiter.try_acquire(world.now):
                granted.append(world.now)
        elif action == "cancel" and waiting:
            waiting.pop(int(value) % len(waiting)).cancel()
        elif action == "wait":
            world.advance(value)
            waiting = [task for task in waiting if not task.done]
        assert limiter.waiting == len(waiting)
    world.advance(1000)
    lawful(granted, per_second, burst)
    assert limiter.waiting == 0
    assert limiter.balance(world.now) == pytest.approx(burst, abs=1e-4)


def test_threads_share_one_bucket() -> None:
    """Threads that take tokens at the same moment get what there is, and no more."""
    limiter = RateLimiter(RateLimit(500, burst=700))
    got: list[int] = []

    def work(thread: int) -> None:
        got.append(sum(limiter.try_acquire(1.0) for _ in range(1000)))

    hammer(work)
    assert sum(got) == 700


def test_threads_that_wait_are_all_served() -> None:
    """Threads that wait for one another's turns all get their token."""
    limiter = RateLimiter(RateLimit(20_000, burst=1))
    served: list[int] = []

    def work(thread: int) -> None:
        for _ in range(100):
            now = monotonic()
            blocking.run(limiter.acquire(now, now + 60))
            served.append(thread)

    hammer(work)
    assert len(served) == 400
    assert limiter.waiting == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("per_second", 0),
        ("per_second", -1.0),
        ("per_second", inf),
        ("per_second", "1"),
        ("per_second", 5e-324),
        ("burst", 0),
        ("burst", 1.5),
        ("wait", 1),
        ("wait", None),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: Any) -> None:
    """The error names the class, the field and the value."""
    with pytest.raises(ValueError, match=rf"^RateLimit: {name} .*{value!r}"):
        RateLimit(**{"per_second": 1, name: value})
