"""A daemon that ends with whoever started it.

    python -m holdfast.cli.demo.leash agent|dispatcher|blockd ARGUMENT…

is ``harpd``, ``harpcallerd`` or ``holdfast blockd``, which stops when its standard input closes.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading

__all__ = ["main"]

_MODULES = {
    "agent": "holdfast.jobs.agent.command",
    "dispatcher": "holdfast.jobs.dispatcher.command",
    "blockd": "holdfast.blocks.server.command",
}


def main() -> int:
    """Run the daemon."""
    threading.Thread(target=_watch, daemon=True).start()
    # The ones that are not asked for are not imported.
    module = importlib.import_module(_MODULES[sys.argv[1]])
    status: int = module.main(sys.argv[2:])
    return status


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
