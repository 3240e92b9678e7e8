from pathlib import Path
from typing import Any

import pytest

from holdfast.policy import Budget, Policy, Retry
from holdfast.simulation.scenario import Clients, Scenario, Variant

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "simulate").glob("*.toml"))


def test_defaults() -> None:
    """A scenario that says nothing is one variant without a name, with everything by default."""
    scenario = Scenario.from_dict({})
    assert scenario.variants == {"": Variant()}
    assert (scenario.variants[""].policy, scenario.seed) == (Policy(), 0)


def test_variants_change_what_they_name_only() -> None:
    """Tables of a variant are merged into those of the scenario; all else is replaced."""
    scenario = Scenario.from_dict(
        {
            "title": "t",
            "seed": 3,
            "load": {"steps": [[0, 1], [5, 2]]},
            "policy": {"timeout": 1.0, "budget": False, "retry": {"attempts": 4, "base": 0.5}},
            "variant": {
                "a": {"policy": {"retry": {"attempts": 9}, "budget": True}},
                "b": {"clients": {"count": 7}, "load": {"steps": [[0, 3]]}, "duration": 5.0},
            },
        }
    )
    assert (scenario.title, scenario.seed) == ("t", 3)
    assert list(scenario.variants) == ["a", "b"]
    one, other = scenario.variants["a"], scenario.variants["b"]
    assert one.policy == Policy(timeout=1.0, budget=Budget(), retry=Retry(attempts=9, base=0.5))
    assert one.load.steps == ((0.0, 1.0), (5.0, 2.0))
    assert other.policy == Policy(timeout=1.0, budget=None, retry=Retry(attempts=4, base=0.5))
    assert (other.clients, other.duration) == (Clients(count=7), 5.0)
    assert other.load.steps == ((0.0, 3.0),)


def test_some_variants_and_another_seed() -> None:
    """Variants are chosen by name, and the seed may be another one."""
    scenario = Scenario.from_dict({"variant": {"a": {}, "b": {}}})
    chosen = scenario.chosen(["b"], seed=5)
    assert (list(chosen.variants), chosen.seed) == (["b"], 5)
    assert scenario.chosen() == scenario
    with pytest.raises(ValueError, match="there is no variant 'c'; there are 'a', 'b'"):
        scenario.chosen(["c"])
    with pytest.raises(ValueError, match="there is no variant 'c'; the scenario has none"):
        Scenario.from_dict({}).chosen(["c"])


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"durration": 5.0}, "durration = 5.0 is an unknown key; did you mean duration"),
        ({"duration": 0}, "duration must be above 0 and finite, not 0"),
        ({"duration": "long"}, "duration must be a number, not 'long'"),
        ({"warmup": -1}, "warmup must be at least 0 and finite, not -1"),
        ({"seed": "x"}, "seed must be a whole number, not 'x'"),
        ({"seed": -1}, "seed must be a whole number from 0, not -1"),
        ({"title": 5}, "title must be a string, not 5"),
        ({"load": 100}, "load must be a table, not 100"),
        ({"load": {"rate": -3}}, "load.rate must be at least 0 and finite, not -3"),
        ({"load": {"steps": [[0, "x"]]}}, r"load.steps\[0\]\[1\] must be a number, not 'x'"),
        ({"clients": {"count": 0}}, "clients.count must be a whole number from 1, not 0"),
        ({"clients": {"balancer": "best"}}, "clients.balancer .*'best'.*p2c"),
        ({"clients": {"ejection": {"most": 2}}}, "clients.ejection.most is a share.*not 2"),
        ({"hosts": {"workers": 1.5}}, "hosts.workers must be a whole number, not 1.5"),
        ({"hosts": {"service": {"kind": "odd"}}}, "hosts.service .*lognormal.*'odd'"),
        ({"hosts": {"service": -1}}, "hosts.service .*not -1"),
        ({"hosts": {"abandoned": "kept"}}, "hosts.abandoned must be 'waste' or 'drop', not 'kept'"),
        ({"network": {"loss": 2}}, "network.loss is a share, 0 to 1, not 2"),
        ({"policy": {"retry": {"attempts": 0}}}, "policy.retry.attempts .*not 0"),
        ({"policy": {"retries": 3}}, "policy.retries = 3 is an unknown key; did you mean"),
        ({"fault": {"kind": "slow"}}, "fault must be a list, not {'kind': 'slow'}"),
        ({"fault": [{"kind": "odd"}]}, r"fault\[0\].kind must be 'slow'.*, not 'odd'"),
        ({"fault": [{}]}, r"fault\[0\].kind is missing"),
        ({"fault": [{"kind": "slow"}]}, r"fault\[0\].factor must be given for kind 'slow'"),
        (
            {"fault": [{"kind": "crash", "factor": 2}]},
            r"fault\[0\].factor has no meaning for kind 'crash', not 2",
        ),
        (
            {"fault": [{"kind": "crash", "at": 5, "until": 5}]},
            r"fault\[0\].until must be later than at, which is 5, not 5",
        ),
        (
            {"hosts": {"count": 3}, "fault": [{"kind": "crash"}, {"kind": "crash", "hosts": 4}]},
            r"fault\[1\].hosts must be a number from 1 to 3, not 4",
        ),
        (
            {"fault": [{"kind": "crash", "hosts": [0, 0]}]},
            r"fault\[0\].hosts must be different numbers, not \[0, 0\]",
        ),
        (
            {"duration": 5, "fault": [{"kind": "crash", "at": 5}]},
            r"fault\[0\].at must be earlier than the end, which is at 5, not 5",
        ),
        (
            {"fault": [{"kind": "partition", "at": 2, "until": 4}] * 2},
            r"fault\[1\].at begins while fault\[0\], of the same kind, lasts at the same host",
        ),
        (
            {"duration": 5, "warmup": 5},
            "warmup must be shorter than the duration, which is 5, not 5",
        ),
        ({"variants": {"a": {}}}, r"variants is an unknown key; did you mean variant\?"),
        ({"variant": 5}, "variant must be a table, not 5"),
        ({"variant": {"a": 5}}, "variant.a must be a table, not 5"),
        (
            {"variant": {"a": {"policy": {"budget": {"share": 3}}}}},
            "variant.a.policy.budget.share is a share, 0 to 1, not 3",
        ),
    ],
)
def test_what_is_wrong_is_named(mapping: dict[str, Any], said: str) -> None:
    """An error names the dotted key and the value."""
    with pytest.raises(ValueError, match=f"^Scenario: {said}"):
        Scenario.from_dict(mapping)


def test_broken_files(tmp_path: Path) -> None:
    """What is no TOML is told as that, with the line."""
    (tmp_path / "a.toml").write_text("duration =\n", "utf-8")
    with pytest.raises(ValueError, match=r"^not valid TOML: .*line 1"):
        Scenario.from_toml(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(ValueError, match=r"^not valid TOML: "):
        Scenario.from_toml(tmp_path / "b.toml")
    with pytest.raises(FileNotFoundError):
        Scenario.from_toml(tmp_path / "c.toml")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_can_be_read(path: Path) -> None:
    """Every example has a title, a fault, and a warm-up before it."""
    scenario = Scenario.from_toml(path)
    assert scenario.title != "A simulation"
    for variant in scenario.variants.values():
        assert min(fault.at for fault in variant.fault) > variant.warmup > 0


def test_there_are_examples() -> None:
    """The examples are found."""
    assert len(EXAMPLES) == 5


def test_faults_that_do_not_overlap() -> None:
    """One kind of fault may follow itself, be at other hosts, and go with other kinds."""
    faults = [
        {"kind": "slow", "factor": 2.0, "hosts": [0], "at": 1.0, "until": 2.0},
        {"kind": "slow", "factor": 3.0, "hosts": [0], "at": 2.0, "until": 3.0},
        {"kind": "slow", "factor": 4.0, "hosts": [1], "at": 1.0},
        {"kind": "freeze", "hosts": [0], "at": 1.0, "until": 2.0},
    ]
    assert len(Scenario.from_dict({"fault": faults}).variants[""].fault) == 4
