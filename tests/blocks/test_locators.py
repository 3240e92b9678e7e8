from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.blocks.locators import EMPTY, KeepLocator

FOO = "acbd18db4cc2f85cedef654fccc4a4d8"
SIGNATURE = "c2d73e19773a6e0ce690268fd3665333c03de358"

hexes = st.text("0123456789abcdef", min_size=32, max_size=32)
hints = st.from_regex(r"[B-Z][-A-Za-z0-9@_]{0,30}", fullmatch=True)
signed = st.from_regex(r"A[0-9a-f]{40}@[0-9a-f]{8}", fullmatch=True)


@given(
    hexes,
    st.none() | st.integers(0, 1 << 26),
    st.lists(hints, max_size=3),
    st.none() | signed,
    st.integers(0, 3),
)
def test_round_trip(
    md5sum: str, size: int | None, others: list[str], permission: str | None, place: int
) -> None:
    """Every locator is taken apart into what it was made of, and is its text again."""
    all_hints = list(others)
    if permission is not None:
        all_hints.insert(place, permission)
    text = "+".join([md5sum, *([] if size is None else [str(size)]), *all_hints])
    locator = KeepLocator(text)
    assert str(locator) == text
    assert locator == KeepLocator(text)
    assert hash(locator) == hash(KeepLocator(text))
    assert (locator.md5sum, locator.size, locator.hints) == (md5sum, size, others)
    assert locator.permission_hint() == permission
    assert locator.stripped() == (md5sum if size is None else f"{md5sum}+{size}")
    if permission is None:
        assert locator.perm_sig is None
        assert locator.perm_expiry is None
    else:
        assert locator.perm_sig == locator.permission_signature == permission[1:41]


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{32}(\+.{0,50}){0,3}", fullmatch=True))
def test_anything(text: str) -> None:
    """Every text is a locator that is the same again, or a ValueError."""
    try:
        locator = KeepLocator(text)
    except ValueError:
        return
    assert str(locator) == text
    assert text.isascii()
    assert "\n" not in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+3",
        FOO[:31],
        FOO + "0",
        FOO.upper(),
        f"{FOO}+",
        f"{FOO}+3+",
        f"{FOO}++3",
        f"{FOO}+3+3",
        f"{FOO}+-3",
        f"{FOO}+٣",
        f"{FOO}+3+k@abcde",
        f"{FOO}+3+K@abc.e",
        f"{FOO}+K@abcde+3",
        f"{FOO}+3+A",
        f"{FOO}+3+A{SIGNATURE}",
        f"{FOO}+3+A{SIGNATURE}@",
        f"{FOO}+3+A{SIGNATURE}@7fffffff0",
        f"{FOO}+3+A{SIGNATURE[1:]}@7fffffff",
        f"{FOO}+3+A{SIGNATURE}@7fffffff+A{SIGNATURE}@7fffffff",
        f"{FOO}+3\n",
        f" {FOO}+3",
        f"{FOO}+3/..",
    ],
)
def test_invalid(text: str) -> None:
    """What is no locator is a ValueError."""
    with pytest.raises(ValueError, match=r"locator|signature"):
        KeepLocator(text)


def test_expiry() -> None:
    """A signature has expired at its time, told with a zone or without one, in UTC."""
    locator = KeepLocator(f"{FOO}+3+A{SIGNATURE}@00000064")
    assert locator.expiry == 100
    assert locator.perm_expiry == datetime(1970, 1, 1, 0, 1, 40)
    assert locator.permission_expired()
    assert locator.permission_expired(datetime(1970, 1, 1, 0, 1, 40))
    assert not locator.permission_expired(datetime(1970, 1, 1, 0, 1, 39))
    early = datetime(1970, 1, 1, 1, 1, 39, tzinfo=timezone(timedelta(hours=1)))
    assert not locator.permission_expired(early)
    assert locator.permission_expired(early.astimezone(UTC) + timedelta(seconds=1))
    assert not KeepLocator(FOO).permission_expired()


def test_remote() -> None:
    """A remote hint tells the cluster, and the permission that holds there."""
    locator = KeepLocator(f"{FOO}+3+K@abcde+Rzzzzz-{SIGNATURE}@7fffffff")
    assert locator.remote == ("zzzzz", f"{SIGNATURE}@7fffffff")
    assert locator.perm_sig is None
    assert KeepLocator(f"{FOO}+3+Rzzzzz").remote is None


def test_empty() -> None:
    """The empty block has size 0, and locators are told from texts."""
    assert EMPTY.size == 0
    assert EMPTY != "d41d8cd98f00b204e9800998ecf8427e+0"
    assert repr(EMPTY) == "KeepLocator('d41d8cd98f00b204e9800998ecf8427e+0')"
