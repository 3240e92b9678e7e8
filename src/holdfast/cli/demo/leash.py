"""A daemon that ends with whoever started it.

    python -m holdfast.cli.demo.leash agent|dispatcher ARGUMENT…

is ``harpd`` or ``harpcallerd``, which stops when its standard input closes.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading

__all__ = ["main"]


def main() -> int:
    """Run the daemon."""
    threading.Thread(target=_watch, daemon=True).start()
    # The one that is not asked for is not imported.
    module = importlib.import_module(f"holdfast.jobs.{sys.argv[1]}.command")
    status: int = module.main(sys.argv[2:])
    return status


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
