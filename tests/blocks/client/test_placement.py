"""Which services are asked, and in which order."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.placement import Service, Services, weight
from tests.blocks.client.clients import uuid_of
from tests.blocks.client.stubs import Stubs

HASHES = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")


def services(count: int) -> list[Service]:
    """Return services of type disk."""
    return [Service(uuid_of(n), f"http://10.0.0.{n}/") for n in range(count)]


def test_the_formula() -> None:
    """A weight is the MD5 of the hash and the last 15 characters of the uuid."""
    name = "acbd18db4cc2f85cedef654fccc4a4d8"
    expected = hashlib.md5(f"{name}000000000000001".encode()).hexdigest()
    assert weight(name, "zzzzz-bi6l4-000000000000001") == expected


@given(HASHES, st.integers(1, 40))
def test_the_order_is_by_descending_weight(name: str, count: int) -> None:
    """The heaviest service is first, for reading and for writing."""
    every = services(count)
    expected = sorted(every, key=lambda one: weight(name, one.uuid), reverse=True)
    assert list(Services(every).to_read(KeepLocator(name))) == expected
    assert list(Services(every).to_write(name)) == expected


def test_another_service_moves_few_blocks() -> None:
    """The twentieth service becomes the first choice of a twentieth of the blocks, of no others."""
    names = [hashlib.md5(b"%d" % number).hexdigest() for number in range(2000)]
    fewer, more = Services(services(19)), Services(services(20))
    moved = 0
    for name in names:
        before, after = fewer.to_write(name)[0], more.to_write(name)[0]
        if before != after:
            assert after.uuid == uuid_of(19)
            moved += 1
    assert 0.03 < moved / len(names) < 0.07


def test_hints_come_first() -> None:
    """Those whom a locator names are asked first, each once, and gateways only then."""
    gateway = Service("zzzzz-bi6l4-gggggggggggggg1", "http://gate/", "gateway:test")
    every = [*services(4), gateway]
    name = "acbd18db4cc2f85cedef654fccc4a4d8"
    usual = list(Services(every).to_read(KeepLocator(name)))
    assert gateway not in usual
    assert len(usual) == 4
    last = usual[-1]
    hinted = f"{name}+3+K@abcde+K@{gateway.uuid}+K@{last.uuid}+K@zzzzz-bi6l4-unknownunknown1+Zx"
    order = list(Services(every).to_read(KeepLocator(hinted)))
    assert [one.root for one in order[:3]] == [
        "https://keep.abcde.arvadosapi.com/",
        "http://gate/",
        last.root,
    ]
    assert order[3:] == usual[:-1]


def test_a_hint_makes_no_other_host_name() -> None:
    """What is no id of a cluster is no hint."""
    name = "acbd18db4cc2f85cedef654fccc4a4d8"
    every = Services(services(2))
    for hint in ("K@ab-de", "K@abcd", "K@abcdef", "K@ab_de", "K@"):
        assert len(every.to_read(KeepLocator(f"{name}+3+{hint}"))) == 2


def test_who_is_written_to() -> None:
    """Neither gateways nor those that only read are sent blocks; the latter are asked for some."""
    every = [
        Service(uuid_of(1), "http://a/"),
        Service(uuid_of(2), "http://b/", read_only=True),
        Service(uuid_of(3), "http://c/", "gateway:x"),
    ]
    name = "acbd18db4cc2f85cedef654fccc4a4d8"
    assert [one.root for one in Services(every).to_write(name)] == ["http://a/"]
    read = Services(every).to_read(KeepLocator(name))
    assert {one.root for one in read} == {"http://a/", "http://b/"}


def test_stubs_know_the_formula(stubs: Stubs) -> None:
    """What the other tests expect is the order by the formula."""
    name = "acbd18db4cc2f85cedef654fccc4a4d8"
    weights = [weight(name, one.item["uuid"]) for one in stubs.order(name)]
    assert weights == sorted(weights, reverse=True)
