"""The command `holdfast`."""

from __future__ import annotations

import sys

__all__ = ["main"]

#: Which extra brings the packages that the commands are made of.
_EXTRAS = {
    "click": "cli",
    "cryptography": "jobs",
    "matplotlib": "plot",
    "passlib": "jobs",
    "prometheus_client": "blocks",
    "rich": "cli",
    "starlette": "blocks",
    "uvicorn": "blocks",
    "yaml": "jobs",
}


def main() -> None:
    """Run the command line, and exit with its status.

    The packages that commands need come with extras. Without them it says how to install them and
    exits with 1.
    """
    try:
        from holdfast.cli.commands import holdfast

        holdfast(prog_name="holdfast")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        extra = "demo" if sys.argv[1:2] == ["demo"] else _EXTRAS[package]  # it needs most of them
        sys.exit(
            f"holdfast: {package} is not installed, which this command needs; "
            f"install it with: pip install 'holdfast[{extra}]'"
        )
    except KeyboardInterrupt:  # before the command itself could begin
        sys.exit(130)
