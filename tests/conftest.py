"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Examples share the machine with other work, so their time says nothing about the code.
settings.register_profile("holdfast", deadline=None)
settings.load_profile("holdfast")

pytest_plugins = ["tests.servers.fixtures"]

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run more tests at a time than there are processors: most of them wait for a socket."""
    processors = os.cpu_count() or 1
    return processors + min(processors, 4)


@pytest.fixture(scope="session", autouse=True)
def no_proxies() -> Iterator[None]:
    """Hide the machine's proxies: every call of the tests stays on loopback."""
    with pytest.MonkeyPatch.context() as patch:
        for name in PROXY_VARIABLES:
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield
