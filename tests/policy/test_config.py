"""Specifications from dictionaries and TOML, and back."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import Breaker, Budget, Check, Ejection, Fallback, Limit, Policy, Retry
from holdfast.errors import NetworkError
from holdfast.policy.specs import Spec
from tests.policy.all_specs import SPECS, made

seconds = st.floats(0.001, 1e6)
shares = st.floats(0, 1)
rates = st.floats(0, 1, exclude_min=True)
counts = st.integers(1, 10_000)
kinds = st.sampled_from([ConnectionError, KeyError, NetworkError, OSError, TimeoutError])


class Homemade(Exception):
    """An exception that no file can name."""


limits = st.builds(Limit, calls=counts, queue=st.integers(0, 10_000))
retries = st.builds(
    Retry,
    attempts=counts,
    base=seconds,
    factor=seconds,
    cap=seconds,
    statuses=st.frozensets(st.integers(100, 599)),
    exceptions=st.lists(kinds).map(tuple),
    attempt_timeout=st.none() | seconds | st.just(inf),
)
budgets = st.builds(Budget, share=shares, per_second=st.floats(0, 1e6), window=seconds)
breakers = st.builds(
    Breaker,
    failures=st.none() | counts,
    rate=st.none() | rates,
    calls=counts,
    window=seconds,
    open_for=seconds,
    factor=seconds,
    cap=seconds,
    probes=counts,
)
ejections = st.builds(
    Ejection, failures=counts, base=seconds, cap=seconds, most=shares, panic=shares
)
policies = st.builds(
    Policy,
    timeout=st.none() | seconds | st.just(inf),
    retry=st.none() | retries,
    budget=st.none() | budgets,
    breaker=st.none() | breakers,
    limit=st.none() | limits,
    cluster_limit=st.none() | limits,
)


def toml(table: Mapping[str, Any]) -> str:
    """Write a table of plain data as TOML, tables within it inline."""
    return "\n".join(f"{key} = {toml_value(value)}" for key, value in table.items())


def toml_value(value: Any) -> str:
    """Write a value; other than JSON, TOML has infinity and sets a key off by `=`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return "inf" if value == inf else json.dumps(value)


@settings(deadline=None)
@given(policies | retries | budgets | breakers | limits | ejections)
def test_what_is_written_is_read_again(spec: Spec) -> None:
    """Every specification survives the way to plain data and to TOML, and back."""
    plain = spec.to_dict()
    assert type(spec).from_dict(plain) == spec
    assert type(spec).from_toml(toml(plain)) == spec
    assert type(spec).from_dict(plain).to_dict() == plain


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return values of a type, most of which make sense in some field of it."""
    options = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    found = []
    for option in options:
        if isinstance(option, type) and issubclass(option, Spec):
            found.append(specifications(option))
        elif get_origin(option) is tuple:
            found.append(st.lists(values(get_args(option)[0]), max_size=3).map(tuple))
        elif get_origin(option) is frozenset:
            found.append(st.frozensets(values(get_args(option)[0]), max_size=3))
        elif get_origin(option) is type:
            found.append(kinds)
        elif get_origin(option) is Literal:
            found.append(st.sampled_from(get_args(option)))
        elif option in VALUES:
            found.append(VALUES[option])
    return st.one_of(found) if found else st.nothing()


VALUES: dict[Any, st.SearchStrategy[Any]] = {
    NoneType: st.none(),
    bool: st.booleans(),
    int: counts | st.integers(100, 599) | st.just(0),
    float: shares | seconds | st.just(inf),
    str: st.sampled_from(["GET", "/a*", "host-1", "x-deadline"]),
    Any: st.integers() | st.text() | st.booleans() | st.none(),
}


@st.composite
def specifications(draw: st.DrawFn, kind: Any) -> Any:
    """Make a specification of a kind, of those of the drawn values that it takes."""
    spec = made(kind)
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        strategy = values(hints[field.name])
        if strategy.is_empty or not draw(st.booleans()):
            continue
        try:
            spec = dataclasses.replace(spec, **{field.name: draw(strategy)})
        except ValueError:
            continue
    return spec


@pytest.mark.parametrize("kind", SPECS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_specification_is_read_as_it_was_written(kind: Any, data: st.DataObject) -> None:
    """Whatever fields a specification has, it survives the way to plain data and back."""
    spec = data.draw(specifications(kind))
    assert kind.from_dict(spec.to_dict()) == spec


@settings(deadline=None)
@given(policies)
def test_a_part_may_be_given_as_it_is(policy: Policy) -> None:
    """A dictionary may hold specifications among plain values."""
    assert Policy.from_dict({"retry": policy.retry, "timeout": policy.timeout}) == Policy(
        retry=policy.retry, timeout=policy.timeout
    )


def test_what_is_not_named_keeps_its_default() -> None:
    """A file says only what differs."""
    text = """
        timeout = 2
        breaker = false
        [retry]
        attempts = 5
        statuses = [503]
        exceptions = ["TimeoutError", "NetworkError"]
        [cluster_limit]
        calls = 7
    """
    assert Policy.from_toml(text) == Policy(
        timeout=2,
        breaker=None,
        retry=Retry(attempts=5, statuses=frozenset({503}), exceptions=(TimeoutError, NetworkError)),
        cluster_limit=Limit(calls=7),
    )
    assert Policy.from_toml("") == Policy.from_dict({}) == Policy()


def test_true_is_a_part_as_it_comes() -> None:
    """`true` turns a part on, `false` and None turn it off."""
    assert Policy.from_dict({"cluster_limit": True, "retry": None}) == Policy(
        cluster_limit=Limit(), retry=None
    )
    assert Policy.from_dict({"timeout": False}) == Policy(timeout=None)


def test_plain_data_is_plain() -> None:
    """What `to_dict` returns can be written to JSON; what is off is false."""
    plain = json.loads(json.dumps(Policy(breaker=None).to_dict()))
    assert plain["breaker"] is False
    assert plain["retry"]["statuses"] == [429, 502, 503, 504]
    assert plain["retry"]["exceptions"] == ["ConnectionError", "TimeoutError"]
    assert Policy.from_dict(plain) == Policy(breaker=None)


@pytest.mark.parametrize(
    ("spec", "plain"),
    [
        (Fallback(value=1, on=KeyError), {"on": ["KeyError"]}),  # type: ignore[arg-type]
        (Check(statuses=range(200, 203)), {"statuses": [200, 201, 202]}),
        (Check(statuses=[204, 200]), {"statuses": [200, 204]}),
        (Retry(statuses=range(500, 502)), {"statuses": [500, 501]}),  # type: ignore[arg-type]
    ],
)
def test_what_may_be_given_in_several_ways_is_written_in_one(
    spec: Spec, plain: dict[str, Any]
) -> None:
    """A list, and read again as an equal specification."""
    written = spec.to_dict()
    assert {key: written[key] for key in plain} == plain
    assert type(spec).from_dict(written) == spec


def test_an_exception_of_ones_own_stays_what_it_is() -> None:
    """An exception that has no name in a file is kept as a class."""
    spec = Retry(exceptions=(Homemade,))
    assert spec.to_dict()["exceptions"] == [Homemade]
    assert Retry.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retry.attempts = 0", "retry.attempts must be a whole number from 1, not 0"),
        ("retry.attempts = 'five'", "retry.attempts must be a whole number, not 'five'"),
        ("retry.attempts = true", "retry.attempts must be a whole number, not True"),
        ("retry.attempts = 2.0", "retry.attempts must be a whole number, not 2.0"),
        ("retry.base = -0.5", "retry.base must be above 0 and finite, not -0.5"),
        ("retry.base = nan", "retry.base must be above 0 and finite, not nan"),
        ("retry.base = false", "retry.base must be a number, not False"),
        ("budget.share = 1.5", "budget.share is a share, 0 to 1, not 1.5"),
        ("timeout = -1", "timeout must be above 0, not -1"),
        ("timeout = 'long'", "timeout must be a number, not 'long'"),
        ("timeout = true", "timeout must be a number, not True"),
        ("retry = 3", "retry must be a table, not 3"),
        ("retry.statuses = 503", "retry.statuses must be a list, not 503"),
        ("retry.statuses = '503'", "retry.statuses must be a list, not '503'"),
        ("retry.statuses = [503, 'x']", "retry.statuses[1] must be a whole number, not 'x'"),
        ("retry.statuses = [[503]]", "retry.statuses[0] must be a whole number, not [503]"),
        ("retry.statuses = [1000]", "retry.statuses must be codes from 100 to 599, not "),
        ("retry.exceptions = ['OSEror']", "not 'OSEror'; did you mean OSError"),
        ("retry.exceptions = ['print']", "retry.exceptions[0] must be the name of an exception"),
        ("retry.exceptions = [3]", "retry.exceptions[0] must be the name of an exception"),
        ("timout = 3", "timout = 3 is an unknown key; did you mean timeout?"),
        ("retry.atempts = 3", "retry.atempts = 3 is an unknown key; did you mean retry.attempts?"),
        ("attempts = 3", "attempts = 3 is an unknown key; did you mean retry.attempts?"),
        ("atempts = 3", "atempts = 3 is an unknown key; did you mean retry.attempts?"),
        ("xyzzy = 3", "xyzzy = 3 is an unknown key; there are timeout, retry, "),
        ("limit.xyzzy = 3", "limit.xyzzy = 3 is an unknown key; there are calls, queue"),
    ],
)
def test_a_bad_value_is_named_by_its_dotted_key(text: str, message: str) -> None:
    """The error says where in the document which value is, and what was expected there."""
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Policy.from_toml(text)
    assert str(caught.value).startswith("Policy: ")


@pytest.mark.parametrize("value", [3, "retry", [], True, None])
def test_only_a_mapping_is_a_table(value: Any) -> None:
    """What is no mapping describes no specification."""
    with pytest.raises(ValueError, match=r"^Retry: it must be a table, not "):
        Retry.from_dict(value)


def test_a_policy_is_read_from_a_file(tmp_path: Path) -> None:
    """A path, its string and an open file are read alike, and errors name the file."""
    path = tmp_path / "policy.toml"
    path.write_text("[retry]\nattempts = 7\n", encoding="utf-8")
    expected = Policy(retry=Retry(attempts=7))
    assert Policy.from_toml(path) == Policy.from_toml(str(path)) == expected
    with path.open("rb") as file:
        assert Policy.from_toml(file) == expected
    assert Policy.from_toml(io.BytesIO(b"[retry]\nattempts = 7")) == expected
    path.write_text("[retry]\nattempts = 0\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"policy\.toml: Policy: retry\.attempts .* not 0$"):
        Policy.from_toml(path)


def test_a_table_of_a_larger_document(tmp_path: Path) -> None:
    """A policy may be a table among others, whose dotted name its errors begin with."""
    text = "title = 'x'\n[tool.client.retry]\nattempts = 4"
    assert Policy.from_toml(text, table="tool.client") == Policy(retry=Retry(attempts=4))
    assert Retry.from_toml(text, table="tool.client.retry") == Retry(attempts=4)
    with pytest.raises(ValueError, match=r"^Policy: there is no table 'tool\.server'$"):
        Policy.from_toml(text, table="tool.server")
    with pytest.raises(ValueError, match=r"^Policy: title must be a table, not 'x'$"):
        Policy.from_toml(text, table="title")
    with pytest.raises(ValueError, match=r"^Retry: tool\.client\.retry = .* is an unknown key"):
        Retry.from_toml(text, table="tool.client")
    with pytest.raises(ValueError, match=r"^Limit: here\.calls must be .* not 0$"):
        Limit.from_dict({"calls": 0}, at="here")


def test_what_is_no_toml_says_so(tmp_path: Path) -> None:
    """A document that cannot be parsed is a ValueError that names its file; none is an OSError."""
    path = tmp_path / "broken.toml"
    path.write_bytes(b"[retry\n")
    with pytest.raises(ValueError, match=r"broken\.toml: no valid TOML: .*line 1"):
        Policy.from_toml(path)
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(ValueError, match=r"broken\.toml: no valid TOML: .*decode"):
        Policy.from_toml(path)
    with pytest.raises(ValueError, match=r"^no valid TOML: "):
        Policy.from_toml("[retry")
    with pytest.raises(FileNotFoundError, match=r"missing\.toml"):
        Policy.from_toml(tmp_path / "missing.toml")


@dataclass(frozen=True, slots=True, repr=False)
class Fixed(Spec):
    """One of two tables that may stand in a place."""

    calls: int = 1
    queue: int = 1

    def __post_init__(self) -> None:
        if self.calls > self.queue:
            raise ValueError("Fixed: more calls than places")


@dataclass(frozen=True, slots=True, repr=False)
class Moving(Spec):
    """The other one."""

    algorithm: Literal["up", "down"] = "up"
    queue: int = 1
    word: str = "x"


MARK: Any = object()


@dataclass(frozen=True, slots=True, repr=False)
class Everything(Spec):
    """Fields of all the types that a specification may have."""

    must: str
    flag: bool = False
    either: Fixed | Moving | None = None
    rules: tuple[Moving, ...] = ()
    pair: tuple[int, str] = (1, "a")
    table: Mapping[str, float] | None = None
    error: type[Exception] | Exception | None = None
    function: Callable[[], Any] | None = None
    anything: Any = MARK
    number_or_word: int | str = 1
    shout: bool | None = None


def test_a_table_for_one_of_two_kinds() -> None:
    """Of several kinds, a table is the one that has its keys; the first one when both do."""
    assert either({"calls": 1}) == Fixed(calls=1)
    assert either({"algorithm": "down"}) == Moving(algorithm="down")
    assert either({"word": "y", "queue": 3}) == Moving(word="y", queue=3)
    assert either({"queue": 3}) == Fixed(queue=3)
    assert either({"queue": 0}) == Moving(queue=0)  # the first one has something against it
    assert either(True) == Fixed()
    assert either(Moving()) == Moving()
    assert either(False) is None
    for spec in Fixed(queue=2), Moving(queue=2), Moving(algorithm="down"):
        assert either(spec.to_dict()) == spec


def either(value: Any) -> Any:
    """Read the field that may be one of two kinds."""
    return Everything.from_dict({"must": "", "either": value}).either


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("must", None, "must must be a string, not None"),
        ("must", False, "must must be a string, not False"),
        ("flag", 1, "flag must be true or false, not 1"),
        ("either", {"calls": "x"}, "either.calls must be a whole number, not 'x'"),
        ("either", {"calls": 5}, "either: more calls than places"),
        ("either", {"algorithm": "u"}, "either.algorithm must be 'up' or 'down', not 'u'"),
        ("either", {"algorithms": "up"}, "either.algorithms = 'up' is an unknown key"),
        ("either", {"word": "x", "calls": 1}, "either."),
        ("either", 3, "either must be a table or false, not 3"),
        ("rules", [{}, {"queue": "x"}], "rules[1].queue must be a whole number, not 'x'"),
        ("rules", [3], "rules[0] must be a table, not 3"),
        ("rules", {}, "rules must be a list, not {}"),
        ("pair", [1], "pair must be a list of 2 values, not [1]"),
        ("pair", [1, 2], "pair[1] must be a string, not 2"),
        ("table", {"a": "b"}, "table.a must be a number, not 'b'"),
        ("table", 3, "table must be a table, not 3"),
        ("error", "Nothing", "error must be the name of an exception, built in or "),
        ("error", 3, "error must be the name of an exception, of type Exception or false, not 3"),
        ("function", "print", "function must be a function, which only Python code can give"),
        ("number_or_word", 1.5, "number_or_word must be a whole number or a string, not 1.5"),
    ],
)
def test_every_type_of_field_has_its_errors(name: str, value: object, message: str) -> None:
    """Whatever a field holds, a wrong value is named with its key."""
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Everything.from_dict({"must": "", name: value})
    assert str(caught.value).startswith(f"Everything: {name}")


def test_what_has_no_default_must_be_there() -> None:
    """A field without a default is missed by its name."""
    with pytest.raises(ValueError, match=r"^Everything: must is missing$"):
        Everything.from_dict({})


def test_every_type_of_field_comes_back() -> None:
    """Values of all types survive the way there and back, functions and objects as they are."""
    error = KeyError("x")
    spec = Everything(
        must="be",
        flag=True,
        either=Moving(),
        rules=(Moving(queue=2), Moving()),
        pair=(2, "b"),
        table={"a": 1.5},
        error=error,
        function=print,
        number_or_word="one",
        shout=False,
    )
    plain = spec.to_dict()
    assert "anything" not in plain  # which only Python can say
    assert plain["function"] is print
    assert Everything.from_dict(plain) == spec
    other = Everything(must="", error=KeyError, anything=None, shout=None)
    assert other.to_dict()["error"] == "KeyError"
    assert Everything.from_dict(other.to_dict()) == Everything(
        must="", error=KeyError, anything=None, shout=None
    )
