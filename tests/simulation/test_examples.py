"""What the examples claim, held to it."""

from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.policy import Breaker
from holdfast.simulation.report import Outcome
from holdfast.simulation.run import simulate
from holdfast.simulation.scenario import Scenario, Variant

EXAMPLES = Path(__file__).parents[2] / "examples" / "simulate"

pytestmark = pytest.mark.slow


def variant(example: str, name: str = "") -> Variant:
    """Return a variant of an example."""
    return Scenario.from_toml(EXAMPLES / f"{example}.toml").variants[name]


def outcome(example: str, name: str = "", seed: int = 1, duration: float = 60.0) -> Outcome:
    """Run a variant of an example, shorter than it is, with a seed."""
    return simulate(replace(variant(example, name), duration=duration), seed, name)


def p99(made: Outcome, phase: str) -> float:
    """Return the 99th percentile of the latency in a phase."""
    value = made.phases[phase].quantile(0.99)
    assert value is not None
    return value


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_a_budget_the_outage_stays(seed: int) -> None:
    """Long after its cause is gone, retries keep the hosts busy with work for nobody."""
    made = outcome("retry-storm", "without a budget", seed, 50.0)
    assert made.phases["before"].failed == 0
    late = made.periods[-10:]
    assert sum(period.good for period in late) < 0.01 * sum(period.offered for period in late)
    assert made.phases["after"].per_call == pytest.approx(3.0, abs=0.1)
    assert made.wasted > 100 * len(late)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_a_budget_the_service_recovers(seed: int) -> None:
    """With a retry budget, all is well again soon after the cause of the outage is gone."""
    made = outcome("retry-storm", "with a budget", seed, 50.0)
    assert made.phases["during"].good < 0.2 * made.phases["during"].offered
    assert sum(period.failed for period in made.periods[-5:]) == 0


def test_a_breaker_ends_the_outage_as_well() -> None:
    """Without a budget, but with the default breaker, the service recovers, too."""
    storm = variant("retry-storm", "without a budget")
    policy = replace(storm.policy, breaker=Breaker())
    made = simulate(replace(storm, policy=policy, duration=50.0), 1)
    assert sum(period.failed for period in made.periods[-5:]) == 0


def test_one_slow_host_does_not_show() -> None:
    """With peak EWMA and ejection, p99 stays within 1.5 × what it is without the slow host."""
    example = replace(variant("slow-host", "peak EWMA, ejection"), duration=50.0)
    made = simulate(example, 1)
    without = simulate(replace(example, fault=()), 1)
    assert made.whole.failed == without.whole.failed == 0
    assert p99(made, "during") <= 1.5 * p99(without, "whole")


def test_one_slow_host_shows_with_round_robin() -> None:
    """By turns, the slow host gets one call of a hundred: just what the 99th percentile is."""
    phases = outcome("slow-host", "round robin", duration=50.0).phases
    before, during = (phases[name].quantile(0.995) for name in ("before", "during"))
    assert before is not None
    assert during is not None
    assert during > 3 * before


def test_a_lost_third_is_left_out() -> None:
    """Within seconds the lost hosts are out; hardly a call fails, and they come back later."""
    made = outcome("third-lost", duration=120.0)
    during = made.phases["during"]
    assert during.failed < 0.002 * during.offered
    assert during.ejected == pytest.approx(10, abs=1)
    assert p99(made, "after") < 1.2 * p99(made, "before")
    assert made.periods[-1].ejected < 1


def test_a_rolling_restart_goes_unnoticed() -> None:
    """The default policy hides that four hosts of a hundred are down at any time."""
    with_retries, without = (
        outcome("rolling-restart", name, duration=20.0).whole
        for name in ("the default policy", "without retries")
    )
    assert with_retries.failed <= 0.001 * with_retries.offered
    assert without.failed > 0.01 * without.offered


def test_a_gray_failure_is_ejected() -> None:
    """Who answers fast with errors gets a call now and then, instead of more than its share."""
    ejected = outcome("gray-failure", "with ejection").phases["during"]
    alone = outcome("gray-failure", "least loaded alone").phases["during"]
    assert ejected.failed < 0.005 * ejected.offered
    assert alone.failed > 0.2 * alone.offered  # though the host is a twentieth of all
