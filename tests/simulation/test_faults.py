from math import inf
from typing import Any

import pytest

from holdfast.simulation.faults import Fault
from holdfast.simulation.report import Outcome
from holdfast.simulation.run import simulate
from holdfast.simulation.scenario import Variant

#: Two hosts that are asked by turns, one of which has a fault from 2 s to 4 s; nobody helps.
PLAIN: dict[str, Any] = {
    "duration": 6.0,
    "load": {"rate": 50.0, "arrivals": "even"},
    "clients": {"balancer": "round-robin", "ejection": False},
    "hosts": {"count": 2, "service": 0.01},
    "network": {"latency": 0.001},
    "policy": {"timeout": 0.5, "retry": False, "breaker": False},
}


def outcome(**fault: Any) -> Outcome:
    """Return what becomes of the calls with a fault."""
    fault = {"at": 2.0, "until": 4.0, "hosts": 1, **fault}
    return simulate(Variant.from_dict({**PLAIN, "fault": [fault]}))


@pytest.mark.parametrize(
    ("hosts", "struck"),
    [
        (None, (0, 1, 2, 3, 4, 5)),
        (2, (0, 1)),
        (0.5, (0, 1, 2)),
        (0.01, (0,)),
        (1.0, (0, 1, 2, 3, 4, 5)),
        ((5, 1), (5, 1)),
    ],
)
def test_who_is_struck(hosts: Any, struck: tuple[int, ...]) -> None:
    """A fault strikes a number of hosts, a share of them, those that are named, or all."""
    assert Fault("crash", hosts=hosts).struck(6) == struck


@pytest.mark.parametrize("hosts", [0, 7, 1.5, 0.0, (), (6,), (-1,)])
def test_nobody_is_struck_who_is_not_there(hosts: Any) -> None:
    """As many hosts as a fault strikes are to be there."""
    with pytest.raises(ValueError, match=r"^Fault: hosts must be"):
        Fault("crash", hosts=hosts).struck(6)


def test_when_a_fault_is_over() -> None:
    """A rolling restart is over when the last host is back, others when they are to be."""
    restart = Fault("restart", at=10.0, batch=2, every=3.0, down=5.0)
    assert restart.end(5) == 10 + 2 * 3 + 5
    assert Fault("crash", until=7.0).end(5) == 7
    assert Fault("crash").end(5) == inf


@pytest.mark.parametrize(
    ("fault", "label"),
    [
        (Fault("slow", factor=2.5, hosts=1), "1 host 2.5 × slower"),
        (Fault("loss", share=0.25, hosts=2), "2 hosts losing 25%"),
        (Fault("errors"), "all hosts answering 500"),
        (Fault("restart", every=2.0, down=1.0), "all hosts restarting, 1 every 2 s"),
    ],
)
def test_labels(fault: Fault, label: str) -> None:
    """A fault says in a few words what it is."""
    assert fault.label(3) == label


def test_without_a_fault() -> None:
    """When nothing goes wrong, every call takes the network's time and the host's."""
    whole = simulate(Variant.from_dict(PLAIN)).whole
    assert whole.offered == whole.good == whole.attempts == pytest.approx(300, abs=1)
    assert whole.quantile(0.5) == pytest.approx(0.012, rel=0.01)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "crash"}, "ConnectError"),
        ({"kind": "freeze"}, "DeadlineExceeded"),
        ({"kind": "partition"}, "DeadlineExceeded"),
        ({"kind": "errors"}, "status 500"),
        ({"kind": "errors", "status": 404, "after": 0.0}, "status 404"),
        ({"kind": "slow", "factor": 100.0}, "DeadlineExceeded"),
    ],
)
def test_faults_that_fail_calls(fault: dict[str, Any], error: str) -> None:
    """While there is such a fault, the calls that meet it fail; before and after they go well."""
    made = outcome(**fault)
    before, during = made.phases["before"], made.phases["during"]
    assert before.failed == 0 < before.good
    assert set(during.errors) == {error}
    # Every second call meets it; some that come shortly before its end are answered after it.
    assert 0.35 * during.offered < during.failed <= 0.5 * during.offered + 1
    assert made.periods[-1].failed == 0


def test_slow_hosts() -> None:
    """A slow host takes so many times as long."""
    during = outcome(kind="slow", factor=3.0).phases["during"]
    assert during.failed == 0
    assert during.quantile(0.25) == pytest.approx(0.012, rel=0.01)
    assert during.quantile(0.75) == pytest.approx(0.032, rel=0.01)


def test_some_errors() -> None:
    """A share of errors is a share of the requests, and no more of them fail."""
    during = outcome(kind="errors", share=0.5, hosts=2).phases["during"]
    assert 0.3 < during.failed / during.offered < 0.7


def test_loss() -> None:
    """What the network loses comes later, and few calls are lost by that."""
    during = outcome(kind="loss", share=0.2, hosts=2).phases["during"]
    assert during.quantile(0.5) == pytest.approx(0.012, rel=0.01)
    assert (during.quantile(0.9) or 0) > 0.2


def test_a_rolling_restart() -> None:
    """One host after the other is down, and every one comes back."""
    restart = {"kind": "restart", "at": 1.0, "every": 2.0, "down": 1.0, "hosts": 2}
    made = simulate(Variant.from_dict({**PLAIN, "fault": [restart]}))
    failed = [period.failed for period in made.periods]
    assert [bool(count) for count in failed] == [False, True, False, True, False, False]
    assert failed[1] == failed[3] == 25
