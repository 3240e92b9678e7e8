"""Start the process that all calls are forked from, with as little in it as can be.

What a process has loaded is paid for by every fork. Importing any module of a package runs the
package's ``__init__`` first, and those of this library are made for its users: they bring TLS,
clusters and policies. So this file is run by its path, and puts the packages in place unrun; one
is run as soon as someone asks for a name in it.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

__all__ = ["Package", "install"]


class Package(ModuleType):
    """A package whose ``__init__`` runs when the first name in it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # once, whatever comes of it
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


class _Loader(SourceFileLoader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Package(spec.name)


def install(name: str, folder: str) -> None:
    """Put a package into place, of the folder that it is in, without running it."""
    path = f"{folder}/__init__.py"
    spec = ModuleSpec(name, _Loader(name, path), origin=path, is_package=True)
    spec.submodule_search_locations = [folder]
    spec.has_location = True
    package = sys.modules[name] = module_from_spec(spec)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


def main() -> None:
    """Put the packages into place and become the parent of all calls."""
    folder = __file__.rpartition("/")[0]  # holdfast/jobs/agent
    jobs = folder.rpartition("/")[0]
    install("holdfast", jobs.rpartition("/")[0])
    install("holdfast.jobs", jobs)
    importlib.import_module("holdfast.jobs.agent.zygote").main(int(sys.argv[1]))


if __name__ == "__main__":
    main()
