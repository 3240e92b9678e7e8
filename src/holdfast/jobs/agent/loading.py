"""Loading a file of procedures, in the parent of all calls."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

from holdfast.jobs.agent.accounts import account, permitted
from holdfast.jobs.procedures import Procedure

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.jobs.agent.accounts import Account

__all__ = ["NotLoaded", "Offer", "load"]

#: The name of the module that a file of procedures becomes.
MODULE = "harpd_procedures"


class NotLoaded(Exception):
    """The file of procedures is broken; the text says where."""


class Offer:
    """A procedure that can be called, and what is needed for it, found out before any call.

    A list of ``least`` to ``most`` arguments fits; others may, which `misfit` tells.
    """

    __slots__ = (
        "_signature",
        "account",
        "function",
        "least",
        "most",
        "name",
        "streaming",
        "timeout",
    )

    def __init__(self, name: str, procedure: Procedure, account: Account | None) -> None:
        self.name = name
        self.account = account
        self.streaming = procedure.streaming
        self.timeout = procedure.timeout
        plain = type(procedure).__call__ is Procedure.__call__ and procedure.function is not None
        self.function: Callable[..., Any] = procedure
        if plain:
            assert procedure.function is not None
            self.function = procedure.function
        self._signature: inspect.Signature | None = None
        self.least = 1
        self.most = 0
        try:
            self._signature = inspect.signature(
                self.function if plain else type(procedure).__call__.__get__(procedure)
            )
        except (TypeError, ValueError):
            return  # one in C that does not tell
        parameters = self._signature.parameters.values()
        if all(one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters):
            # The ordinary case, which is decided without asking the signature.
            self.most = len(parameters)
            self.least = sum(one.default is one.empty for one in parameters)

    def misfit(self, arguments: list[Any] | dict[str, Any]) -> str | None:
        """Tell why arguments do not fit the function, None when they do."""
        if self._signature is None:
            return None
        try:
            if isinstance(arguments, list):
                self._signature.bind(*arguments)
            else:
                self._signature.bind(**arguments)
        except TypeError as error:
            return str(error)
        return None


def load(path: str, user: str | None, group: str | None) -> dict[str, Offer]:
    """Run a file of procedures and return what it offers, by name.

    ``user``, ``group``: whom procedures run as that do not say so themselves. Raises NotLoaded.
    """
    try:
        spec = importlib.util.spec_from_file_location(MODULE, path)
        if spec is None or spec.loader is None:
            raise NotLoaded(f"{path}: its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[MODULE] = module  # dataclasses and pickle look for it there
        spec.loader.exec_module(module)
    except NotLoaded:
        raise
    except BaseException as error:  # it may even exit
        sys.excepthook(type(error), error, error.__traceback__)
        raise NotLoaded(f"{path}: {_told(error, path)}") from error
    offers = {}
    for name, value in vars(module).items():
        if isinstance(value, Procedure):
            offers[name] = _offer(path, name, value, user, group)
    return offers


def _offer(
    path: str, name: str, procedure: Procedure, user: str | None, group: str | None
) -> Offer:
    try:
        uid = procedure.uid if procedure.uid is not None else user
        gid = procedure.gid if procedure.gid is not None else group
        whom = account(_number(uid), _number(gid))
    except ValueError as error:
        raise NotLoaded(f"{path}: {name}: {error}") from None
    if whom is not None and not permitted(whom):
        print(f"{name} cannot be called: only the superuser runs it as another", file=sys.stderr)
    return Offer(name, procedure, whom)


def _number(name: Any) -> Any:
    """Return a number for a string of digits, as it comes from a command line."""
    return int(name) if isinstance(name, str) and name.isdecimal() else name


def _told(error: BaseException, path: str) -> str:
    """Say what happened in one line, and where in the file."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else None
    trace = error.__traceback__
    while trace is not None:
        if os.path.realpath(trace.tb_frame.f_code.co_filename) == os.path.realpath(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = "" if line is None else f" (line {line})"
    what = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {what}{where}".replace("\n", " ")
