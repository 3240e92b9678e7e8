"""The law of the retry budget."""

from __future__ import annotations

from math import inf

from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.policy import Budget, RetryBudget
from tests.policy.hammering import hammer

#: A step is: so long after the one before, a call (True) or a retry asked for.
steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.3, 0.99, 1.0, 1.01, 5.0, 30.0]), st.booleans()),
    max_size=120,
)


@given(
    steps=steps,
    share=st.sampled_from([0, 0.1, 0.2, 0.5, 1]),
    per_second=st.sampled_from([0, 0.1, 0.5, 3]),
    window=st.sampled_from([1.0, 4.0, 10.0]),
)
@example(
    # The oldest bucket ends while the newest still lasts.
    steps=[(0.0, False), (0.3, False), *[(0.99, False)] * 4, (0.3, False)],
    share=0,
    per_second=0.5,
    window=4.0,
)
def test_retries_never_exceed_their_share(
    steps: list[tuple[float, bool]], share: float, per_second: float, window: float
) -> None:
    """In any window the retries are at most share · calls + per_second · window.

    Calls count for up to a tenth of the window longer: they are kept in ten buckets.
    """
    budget = RetryBudget(Budget(share, per_second, window))
    now = 100.0
    calls: list[float] = []
    retries: list[float] = []
    for pause, is_call in steps:
        now += pause
        if is_call:
            budget.deposit(now)
            calls.append(now)
            continue
        left = budget.balance(now)
        granted = budget.withdraw(now)
        assert granted == (left >= 1)
        if granted:
            retries.append(now)
            recent = sum(time > now - window for time in retries)
            reserve = per_second * window
            assert recent <= share * sum(t > now - window * 1.1 for t in calls) + reserve + 1e-9
        else:
            # Nor is anybody refused without need.
            recent = sum(time > now - window * 1.1 for time in retries)
            assert recent + 1 > share * sum(t > now - window for t in calls) + per_second * window


def test_a_script_of_calls_and_retries() -> None:
    """A share of the calls may be retried; the reserve is for who calls little."""
    budget = RetryBudget(Budget(share=0.2, per_second=0.1, window=10))
    assert budget.withdraw(0)
    assert not budget.withdraw(0)
    for _ in range(10):
        budget.deposit(1)
    assert [budget.withdraw(2) for _ in range(3)] == [True, True, False]
    assert budget.balance(2) == 0
    # At 12.5 the calls and the retries of the beginning are forgotten, and only the reserve left.
    assert [budget.withdraw(13.5) for _ in range(2)] == [True, False]


def test_without_share_and_reserve_there_is_no_retry() -> None:
    """A budget of nothing grants nothing."""
    budget = RetryBudget(Budget(share=0, per_second=0))
    for _ in range(1000):
        budget.deposit(5)
    assert not budget.withdraw(5)


def test_threads_get_no_more_than_there_is() -> None:
    """Threads that withdraw at the same time share one budget."""
    budget = RetryBudget(Budget(share=0.5, per_second=10, window=10))
    granted: list[int] = []

    def work(thread: int) -> None:
        mine = 0
        for _ in range(500):
            budget.deposit(1)
            mine += budget.withdraw(1)
            mine += budget.withdraw(1)
        granted.append(mine)

    hammer(work)
    assert sum(granted) == 0.5 * 2000 + 100
    assert budget.balance(inf) == 100


def test_threads_get_no_more_while_time_goes_on() -> None:
    """Buckets that begin and end among threads neither lose retries nor double calls."""
    budgets = [RetryBudget(Budget(share=0.5, per_second=0.01, window=1000)) for _ in range(100)]
    granted = [[0] * len(budgets) for _ in range(4)]

    def work(thread: int) -> None:
        for number, budget in enumerate(budgets):
            for now in range(0, 900, 100):
                for _ in range(3):
                    budget.deposit(now)
                    granted[thread][number] += budget.withdraw(now)

    hammer(work)
    for number, budget in enumerate(budgets):
        total = sum(mine[number] for mine in granted)
        assert total <= 0.5 * 4 * 27 + 10
        assert budget.balance(900) <= 0.5 * 4 * 27 + 10 - total
