"""What the run was made on: cores, the machine's name for its processor, versions."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Any

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None  # type: ignore[assignment]

# The load at which other programs visibly take time from what is measured.
BUSY = 0.5
# Who takes part in the benchmark of HTTP calls.
PACKAGES = (
    "holdfast",
    "httptools",
    "urllib3",
    "requests",
    "httpx2",
    "aiohttp",
    "pycurl",
    "pyreqwest",
    "uvloop",
)


def take_cores() -> int | None:
    """Keep this process on one core and return another for the server, None where that fails."""
    try:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            return None
        os.sched_setaffinity(0, {cores[0]})
    except (AttributeError, OSError):
        return None
    return cores[1]


def allow_sockets() -> None:
    """Raise the limit of open files: hundreds of kept connections are open at once."""
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY or hard > soft:
            wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def forget_proxies() -> None:
    """Drop the environment's proxies, which half of the clients would send loopback through."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]


def processor() -> str:
    """Return the processor's name as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def load() -> float:
    """Return how many processes wanted to run over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def machine(server_core: int | None) -> dict[str, Any]:
    """Describe the machine."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "pinned": server_core is not None,
        "load_before": load(),
    }


def busy(about: dict[str, Any]) -> str:
    """Say so when other work was under way as the run began; "" when there was none."""
    if about["load_before"] < BUSY:
        return ""
    return f"; BUSY with other work (load {about['load_before']}) as the run began"


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the version of Python and of every package that takes part."""
    found = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    if found["holdfast"] == "not installed" and "holdfast" in sys.modules:
        found["holdfast"] = f"{sys.modules['holdfast'].__version__} (from its source)"
    if "pycurl" in sys.modules:
        found["libcurl"] = sys.modules["pycurl"].version_info()[1]
    return found
