import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from holdfast.simulation.report import Outcome
from holdfast.simulation.run import run, simulate
from holdfast.simulation.scenario import Scenario, Variant

#: A bit of everything: several clients, a network with losses, faults, retries and breakers.
LIVELY: dict[str, Any] = {
    "seed": 7,
    "duration": 8.0,
    "load": {"ramp": [[0.0, 50.0], [8.0, 250.0]]},
    "clients": {"count": 3, "balancer": "peak-ewma"},
    "hosts": {
        "count": 6,
        "workers": 2,
        "queue": 5,
        "service": {"kind": "lognormal", "median": 0.03, "sigma": 0.6},
    },
    "network": {"latency": {"kind": "exponential", "mean": 0.001}, "loss": 0.01},
    "policy": {"timeout": 1.0, "retry": {"attempt_timeout": 0.3}},
    "fault": [
        {"kind": "crash", "hosts": 2, "at": 2.0, "until": 4.0},
        {"kind": "errors", "share": 0.3, "hosts": [3], "at": 3.0, "until": 6.0},
    ],
    "variant": {"retries": {}, "none": {"policy": {"retry": False}}},
}


def lively() -> Scenario:
    """Return the lively scenario."""
    return Scenario.from_dict(LIVELY)


def test_the_same_seed_gives_the_same_report() -> None:
    """Two runs with one seed are alike to the byte, with another seed they are not."""
    one, again = (json.dumps(run(lively()).as_json()) for _ in range(2))
    assert one == again
    assert json.dumps(run(lively().chosen(seed=8)).as_json()) != one


def test_every_call_is_accounted_for() -> None:
    """In each period what was offered is what went well and what failed, and each was tried."""
    for outcome in run(lively()).outcomes:
        assert sum(period.failed for period in outcome.periods) > 0
        for period in outcome.periods:
            assert period.offered == period.good + period.failed
            assert period.failed == sum(period.errors.values())
            assert period.attempts >= period.good == period.latency.count


def test_variants_see_the_same_arrivals() -> None:
    """Variants differ in what becomes of calls, not in which there are."""
    retries, none = run(lively()).outcomes
    assert [one.offered for one in retries.periods] == [one.offered for one in none.periods]
    assert none.whole.per_call is not None
    assert none.whole.per_call <= 1.0 < (retries.whole.per_call or 0)


def test_a_variant_does_not_depend_on_others() -> None:
    """A variant alone is what it is beside others."""
    alone = run(lively().chosen(["none"])).outcomes[0]
    assert alone.as_json() == run(lively()).outcome("none").as_json()


def variant(**options: Any) -> Variant:
    """Return a quiet variant with some options."""
    return Variant.from_dict({"duration": 4.0, "load": {"rate": 50.0}, **options})


def test_phases() -> None:
    """The time before, during and after the faults is told apart, without the warm-up."""
    fault = [{"kind": "slow", "factor": 2.0, "at": 1.0, "until": 2.0}]
    phases = simulate(variant(interval=0.5, warmup=0.5, fault=fault)).phases
    assert {name: (phase.start, phase.end) for name, phase in phases.items()} == {
        "before": (0.5, 1.0),
        "during": (1.0, 2.0),
        "after": (2.0, 4.0),
    }
    assert list(simulate(variant()).phases) == ["whole"]


def test_longer_periods() -> None:
    """Periods can be put together, the last ones too when they are fewer."""
    outcome = simulate(variant(interval=0.5))
    assert [period.end for period in outcome.coarser(1.5)] == [1.5, 3.0, 4.0]
    assert sum(period.offered for period in outcome.coarser(1.5)) == outcome.whole.offered


def test_an_overload_fills_the_queues() -> None:
    """Hosts that are asked for more than they can do answer what they can, and reject the rest."""
    made = simulate(
        variant(
            load={"rate": 200.0},
            hosts={"count": 1, "workers": 1, "queue": 10, "service": 0.01},
            policy={"retry": False, "breaker": False},
            clients={"ejection": False},
        )
    )
    late = made.periods[-2]
    assert late.good == pytest.approx(100, rel=0.05)
    assert set(late.errors) == {"status 503"}
    assert late.quantile(0.5) == pytest.approx(0.11, rel=0.05)  # ten wait before it


def wasted(abandoned: str) -> Outcome:
    """Return what comes of hosts that are overloaded, and of clients that do not wait long."""
    return simulate(
        variant(
            load={"rate": 200.0},
            hosts={"count": 1, "workers": 1, "service": 0.01, "abandoned": abandoned},
            policy={"timeout": 0.1, "retry": False, "breaker": False, "limit": False},
            clients={"ejection": False},
        )
    )


def test_abandoned_work() -> None:
    """Work for clients that have gone away is done all the same, or not, as the scenario says."""
    waste, drop = wasted("waste"), wasted("drop")
    assert waste.wasted > 100
    assert drop.wasted == 0
    assert drop.whole.good > 3 * waste.whole.good


def test_clients_have_a_state_each() -> None:
    """Each client finds out for itself: a crashed host is ejected by all of them in the end."""
    crash = [{"kind": "crash", "hosts": 1, "at": 0.0}]
    slow = variant(load={"rate": 100.0}, clients={"count": 4}, hosts={"count": 2}, fault=crash)
    ejected = [period.ejected for period in simulate(replace(slow, interval=0.1)).periods]
    assert {0.25, 0.5, 0.75} & set(ejected)
    assert ejected[-1] == 1.0


def test_calls_that_never_end_are_lost() -> None:
    """Calls without a time limit to a host that is silent are counted as failed at last."""
    made = simulate(
        variant(fault=[{"kind": "freeze", "at": 2.0}], policy={"timeout": False, "limit": False})
    )
    assert made.periods[0].failed == 0
    assert set(made.periods[-1].errors) == {"unfinished"}
    assert made.whole.offered == made.whole.good + made.whole.failed


def test_no_load() -> None:
    """A scenario without a single call comes to nothing, and says so."""
    made = simulate(variant(load={"rate": 0.0}))
    assert (made.whole.offered, made.whole.per_call, made.whole.quantile(0.5)) == (0, None, None)


def test_progress_is_told() -> None:
    """The seconds that have passed are told, all of them in the end."""
    passed: list[float] = []
    run(lively(), passed.append)
    assert sum(passed) == 16.0


def test_shared_answers_are_one_attempt() -> None:
    """Identical calls that share an answer are not counted as an attempt each."""
    made = simulate(variant(load={"rate": 500.0}, policy={"coalesce": True}))
    assert made.whole.good == made.whole.offered > 1000
    assert made.whole.attempts == made.requests < made.whole.offered / 2


@pytest.mark.parametrize("fallback", [{"value": "nothing"}, {"stale": 60.0}])
def test_fallbacks(fallback: dict[str, Any]) -> None:
    """A call that ends in its fallback went well for who made it, and its attempts are known."""
    made = simulate(
        variant(
            fault=[{"kind": "crash", "at": 2.0}],
            policy={"fallback": fallback, "breaker": False, "retry": False},
        )
    )
    assert made.whole.good == made.whole.offered
    assert made.whole.per_call == pytest.approx(1.0)


def test_the_attempts_of_calls_that_never_end() -> None:
    """What a call without end has tried counts as well."""
    made = simulate(
        variant(fault=[{"kind": "freeze", "at": 2.0}], policy={"timeout": False, "limit": False})
    )
    assert made.whole.per_call == pytest.approx(1.0)


def test_an_ejection_between_two_looks_is_seen() -> None:
    """What is out for a moment only counts in the period of that moment."""
    made = simulate(
        variant(
            duration=8.0,
            interval=4.0,
            hosts={"count": 2},
            fault=[{"kind": "crash", "hosts": 1, "at": 1.0, "until": 1.5}],
            clients={"ejection": {"base": 1.0}},
            policy={"breaker": {"open_for": 1.0}},
        )
    )
    assert [(period.ejected, period.open) for period in made.periods] == [(1.0, 1.0), (0.0, 0.0)]


def test_a_period_that_is_partly_in_a_fault() -> None:
    """It is in no other phase: before and after the fault all is well."""
    fault = [{"kind": "crash", "at": 1.5, "until": 2.5}]
    made = simulate(variant(fault=fault, policy={"retry": False, "breaker": False}))
    assert {name: (phase.start, phase.end) for name, phase in made.phases.items()} == {
        "before": (0.0, 1.0),
        "during": (1.0, 3.0),
        "after": (3.0, 4.0),
    }
    assert made.phases["before"].failed == 0


@pytest.mark.slow
def test_the_hash_of_strings_changes_nothing() -> None:
    """The same seed gives the same report in every process."""
    code = (
        "import json; from tests.simulation.test_run import lively, run;"
        "print(json.dumps(run(lively()).as_json()))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != b""
