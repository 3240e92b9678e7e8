"""Adaptive limits: they follow latency and losses, and never let in more than they say."""

from __future__ import annotations

import random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import errors, ops
from holdfast.drivers.simulated import Task, World
from holdfast.policy import AdaptiveLimit, Limit, Limiter
from holdfast.policy.adaptive import AIMD, Gradient
from tests.policy.hammering import hammer

Name = Literal["gradient", "aimd"]
NAMES: tuple[Name, ...] = ("gradient", "aimd")


def flow(limiter: Limiter, seconds: float, latency: Any, now: float = 0.0) -> float:
    """Use the whole limit for so long; ``latency`` of the calls in flight. Return the time."""
    end = now + seconds
    while now < end:
        taken = 0
        while taken < 1000 and limiter.try_acquire():
            taken += 1
        took = latency(taken)
        now += took
        for _ in range(taken):
            limiter.observe(took, False, now)
            limiter.release()
    return now


# AIMD.


def test_aimd_adds_one_with_each_success() -> None:
    """While at least half of the limit is used, each success adds one, up to the most."""
    aimd = AIMD(AdaptiveLimit("aimd", initial=8, most=10))
    assert aimd.update(0.1, False, 3, 1) == 8
    assert aimd.update(0.1, False, 4, 2) == 9
    assert aimd.update(0.1, False, 4, 3) == 9
    assert aimd.update(0.1, False, 9, 4) == 10
    assert aimd.update(0.1, False, 10, 5) == 10


def test_aimd_takes_a_tenth_with_a_loss() -> None:
    """Each loss of a new round trip takes a tenth, and at least one, down to the least."""
    aimd = AIMD(AdaptiveLimit("aimd", initial=20, least=7))
    limits = [aimd.update(0.1, True, 1, now) for now in range(1, 12)]
    assert limits == [18, 16, 14, 12, 10, 9, 8, 7, 7, 7, 7]


def test_aimd_takes_slow_calls_for_lost() -> None:
    """A call of more than so many seconds lowers the limit, when that is asked for."""
    assert AIMD(AdaptiveLimit("aimd", slow_after=1.0)).update(1.1, False, 20, 9) == 18
    assert AIMD(AdaptiveLimit("aimd", slow_after=1.0)).update(1.0, False, 20, 9) == 21
    assert AIMD(AdaptiveLimit("aimd")).update(100.0, False, 20, 900) == 21


@pytest.mark.parametrize("name", NAMES)
def test_a_round_trip_of_losses_lowers_once(name: Name) -> None:
    """Calls that began before the limit was lowered do not lower it again."""
    limiter = Limiter(AdaptiveLimit(name, initial=100))
    assert limiter.observe(1.0, True, 10.0) == 90
    for late in range(50):
        assert limiter.observe(1.0, True, 10.0 + late / 100) is None
    assert limiter.observe(1.0, True, 11.1) == 81


# Gradient.


def test_gradient_grows_while_latency_stays() -> None:
    """Each window adds a fifth of the headroom, until the most."""
    limiter = Limiter(AdaptiveLimit(initial=20, most=30))
    now = flow(limiter, 10, lambda calls: 0.1)
    assert 26 <= (limiter.limit or 0) <= 29
    flow(limiter, 10, lambda calls: 0.1, now)
    assert limiter.limit == 30


def test_gradient_needs_a_window_of_samples() -> None:
    """Nothing changes before there are enough calls, nor again before the window is over."""
    gradient = Gradient(AdaptiveLimit(initial=20, samples=10, window=1.0, headroom=5))
    for _ in range(9):
        assert gradient.update(0.1, False, 20, 5.0) == 20
    assert gradient.update(0.1, False, 20, 5.0) == 21
    for _ in range(30):
        assert gradient.update(0.1, False, 21, 5.9) == 21
    assert gradient.update(0.1, False, 21, 6.0) == 22


def test_gradient_shrinks_when_latency_grows() -> None:
    """A host ten times slower is called with far fewer at once, and gets them back when well."""
    limiter = Limiter(AdaptiveLimit(initial=100, most=100))
    now = flow(limiter, 60, lambda calls: 0.1)
    now = flow(limiter, 30, lambda calls: 1.0, now)
    slow = limiter.limit
    assert slow is not None
    assert slow < 40
    flow(limiter, 200, lambda calls: 0.1, now)
    assert limiter.limit == 100


@pytest.mark.parametrize("initial", [2, 20, 300])
def test_gradient_finds_what_a_host_can_do(initial: int) -> None:
    """Calls beyond the host's fifty workers wait there; the limit comes near to fifty."""
    limiter = Limiter(AdaptiveLimit(initial=initial))
    now = flow(limiter, 20, lambda calls: 0.1)  # the usual latency, before the load
    flow(limiter, 300, lambda calls: 0.1 * max(1, calls / 50), now)
    assert limiter.limit is not None
    assert 40 <= limiter.limit <= 150


def test_one_slow_window_takes_a_tenth_at_most() -> None:
    """However slow, a window lowers by half of its smoothed share."""
    gradient = Gradient(AdaptiveLimit(initial=100, samples=1, headroom=1))
    for second in range(20):
        gradient.update(0.1, False, 1, second)  # too few at once to change anything
    assert gradient.limit == 100
    assert gradient.update(1000.0, False, 100, 2000) == 90


def test_bad_times_are_forgotten_soon() -> None:
    """An average of bad times comes down faster than its long window says."""
    gradient = Gradient(AdaptiveLimit(samples=1))
    for second in range(20):
        gradient.update(10.0, False, 20, second)
    for second in range(20, 60):
        gradient.update(0.1, False, 20, second)
    assert gradient.usual < 2.5
    assert repr(gradient).startswith(f"<Gradient {gradient.limit}: 0.1 s, usually ")


def test_calls_of_no_time_at_all_are_no_error() -> None:
    """Where latency is zero, the limit just grows."""
    limiter = Limiter(AdaptiveLimit(samples=1, window=0.01))
    for second in range(100):
        limiter.in_flight = limiter.limit or 0
        limiter.observe(0.0, False, second)
    assert (limiter.limit or 0) > 90


@given(
    name=st.sampled_from(NAMES),
    least=st.integers(1, 5),
    span=st.integers(0, 50),
    seed=st.integers(0, 1000),
)
def test_the_limit_stays_within_its_bounds(name: Name, least: int, span: int, seed: int) -> None:
    """Whatever is observed, the limit is between the least and the most, and grows only if used."""
    chance = random.Random(seed).random
    spec = AdaptiveLimit(name, initial=least, least=least, most=least + span, samples=2, window=0.5)
    limiter = Limiter(spec)
    now = 0.0
    for _ in range(200):
        now += chance()
        before = limiter.limit
        assert before is not None
        limiter.in_flight = int(chance() * 2 * before)
        changed = limiter.observe(chance() ** 4 * 10, chance() < 0.05, now)
        assert limiter.limit == (before if changed is None else changed)
        assert limiter.limit is not None
        assert changed != before
        assert least <= limiter.limit <= least + span
        if name == "aimd" and limiter.limit > before:
            assert max(1, limiter.in_flight) * 2 >= before


def test_an_unused_limit_does_not_grow() -> None:
    """Calls one after the other say nothing about how many the host can take at once."""
    for name in NAMES:
        limiter = Limiter(AdaptiveLimit(name))
        for second in range(500):
            assert limiter.try_acquire()
            assert limiter.observe(0.1, False, second) is None
            limiter.release()
        assert limiter.limit == 20


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_of_one_can_grow_again(name: Name) -> None:
    """The least limit is left, also when calls are observed after they gave their slot back."""
    limiter = Limiter(AdaptiveLimit(name, initial=1, samples=1))
    for second in range(50):
        assert limiter.try_acquire()
        limiter.release()
        limiter.observe(0.1, False, second)
    assert (limiter.limit or 0) >= 2


# The limiter.


def test_a_fixed_limit_does_not_adapt() -> None:
    """Without an algorithm there is nothing to observe."""
    for spec, limit in ((Limit(3), 3), (None, None)):
        limiter = Limiter(spec)
        assert limiter.adaptive is None
        assert limiter.observe(100.0, True, 5.0) is None
        assert limiter.limit == limit


def test_growth_lets_those_in_who_wait() -> None:
    """A limit that grows by one serves who waits longest, and nobody else."""
    world = World()
    limiter = Limiter(AdaptiveLimit("aimd", initial=2, queue=5))
    assert limiter.try_acquire()
    assert limiter.try_acquire()
    waiting = [world.start(limiter.acquire(world.now + 9)) for _ in range(3)]
    world.advance(1)
    assert repr(limiter) == "<Limiter 2 of 2 in flight, 3 waiting>"
    assert limiter.observe(0.1, False, world.now) == 3
    world.advance(0)
    assert [task.done for task in waiting] == [True, False, False]
    assert repr(limiter) == "<Limiter 3 of 3 in flight, 2 waiting>"


def test_a_lowered_limit_waits_until_enough_have_ended() -> None:
    """Slots above a limit that was lowered are gone; nobody is let in before it is kept again."""
    world = World()
    limiter = Limiter(AdaptiveLimit("aimd", initial=4, backoff=0.5, queue=5))
    for _ in range(4):
        assert limiter.try_acquire()
    waiting = world.start(limiter.acquire(world.now + 9))
    world.advance(1)
    assert limiter.observe(0.5, True, world.now) == 2
    for left in (3, 2):
        limiter.release()
        world.advance(0)
        assert limiter.in_flight == left
        assert not waiting.done
        assert not limiter.try_acquire()
    limiter.release()
    world.advance(0)
    assert waiting.done
    assert limiter.in_flight == 2


def test_a_full_queue_is_told_with_the_numbers_of_now() -> None:
    """The error names what is in flight, also above the limit."""
    limiter = Limiter(AdaptiveLimit("aimd", initial=4, queue=0))
    for _ in range(4):
        assert limiter.try_acquire()
    limiter.observe(0.5, True, 1.0)
    with pytest.raises(errors.LimitExceeded, match="4 calls are in flight and 0 wait"):
        World().run(limiter.acquire(9))


actions = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.sampled_from([0.0, 1.0, 10.0])),
        st.tuples(st.just("try"), st.just(0.0)),
        st.tuples(st.just("release"), st.just(0.0)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("release and cancel"), st.integers(0, 5)),
        st.tuples(st.just("grow and cancel"), st.integers(0, 5)),
        st.tuples(st.just("good"), st.just(0.1)),
        st.tuples(st.just("lost"), st.just(0.01)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 2.0])),
    ),
    max_size=80,
)


@given(actions=actions, initial=st.integers(1, 4), queue=st.integers(0, 4))
def test_never_more_than_the_limit_are_let_in(
    actions: list[tuple[str, float]], initial: int, queue: int
) -> None:
    """Whoever is let in finds the limit of then kept; no slot is lost, nobody is overtaken."""
    world = World()
    limiter = Limiter(AdaptiveLimit("aimd", initial=initial, most=6, backoff=0.5, queue=queue))
    arrived: list[Task] = []
    held = 0

    def take(seconds: float) -> ops.Program[str]:
        yield from limiter.acquire(world.now + seconds)
        return "got"

    def settle() -> None:
        nonlocal held
        world.advance(0)
        over = [task for task in arrived if task.done]
        for task in over:
            if task.value == "got":
                assert all(other.done for other in arrived[: arrived.index(task)]), "overtaken"
                held += 1
            arrived.remove(task)

    for action, value in actions:
        limit = limiter.limit
        assert limit is not None
        room, before = limit - held, held
        if action == "acquire":
            arrived.append(world.start(take(value)))
        elif action == "try":
            got = limiter.try_acquire()
            assert got == (room > 0)
            held += got
        elif action.startswith("release") and held:
            held -= 1
            limiter.release()
        elif action in ("good", "grow and cancel"):
            limiter.observe(value, False, world.now)
        elif action == "lost":
            limiter.observe(value, True, world.now)
        elif action == "wait":
            world.advance(value)
        if action.endswith("cancel") and arrived:
            arrived[int(value) % len(arrived)].cancel()
        settle()
        limit = limiter.limit
        assert limit is not None
        assert limiter.in_flight == held
        assert held <= max(limit, before), "let in above the limit"
        assert limiter.waiting == len(arrived) <= queue
        assert held >= limit or not arrived, "somebody waits beside a free slot"

    while held:
        held -= 1
        limiter.release()
        settle()
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_threads_lose_no_slot_while_it_adapts(name: Name) -> None:
    """Threads that take, observe and give back at the same time leave no slot behind."""
    limiter = Limiter(AdaptiveLimit(name, initial=3, most=5, samples=3, window=0.001))

    def work(thread: int) -> None:
        chance = random.Random(thread).random
        for now in range(1000):
            if limiter.try_acquire():
                limiter.observe(chance(), chance() < 0.2, float(now))
                limiter.release()

    hammer(work)
    assert limiter.in_flight == 0
    assert 1 <= (limiter.limit or 0) <= 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("algorithm", "vegas"),
        ("algorithm", None),
        ("initial", 0),
        ("initial", 20.0),
        ("least", 0),
        ("most", 10),
        ("queue", -1),
        ("backoff", 0),
        ("backoff", 1),
        ("smoothing", 0),
        ("smoothing", 1.5),
        ("tolerance", 0.9),
        ("headroom", 0),
        ("long_window", 0),
        ("window", 0),
        ("samples", 0),
        ("slow_after", -1),
        ("slow_after", "1"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: Any) -> None:
    """The error names the class, the field and the value."""
    with pytest.raises(ValueError, match=rf"^AdaptiveLimit: {name} .*{value!r}"):
        AdaptiveLimit(**{name: value})


def test_the_bounds_are_in_order() -> None:
    """It begins between the least and the most."""
    with pytest.raises(ValueError, match="initial must be at least least, which is 50, not 20"):
        AdaptiveLimit(least=50)
    with pytest.raises(ValueError, match="most must be at least initial, which is 2000, not 1000"):
        AdaptiveLimit(initial=2000)
