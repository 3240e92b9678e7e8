"""Start a host daemon in a third of the time, for tests that need one each.

Most of the time goes into what the library's packages import for their users. The daemon has no use
for it, and keeps it from the parent of its calls; here it is kept from the daemon itself.
"""

from __future__ import annotations

import runpy
import sys
from importlib import import_module
from importlib.util import find_spec

if __name__ == "__main__":
    spec = find_spec("holdfast")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = spec.submodule_search_locations[0]
    install = runpy.run_path(f"{folder}/jobs/agent/bootstrap.py")["install"]
    install("holdfast", folder)
    install("holdfast.jobs", f"{folder}/jobs")
    sys.exit(import_module("holdfast.jobs.agent.command").main())
