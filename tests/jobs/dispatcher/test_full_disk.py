"""A disk without space: new jobs are refused, what runs waits, nothing is lost."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

from tests.jobs.dispatcher.kit import host_line
from tests.jobs.dispatcher.lines import Lines
from tests.jobs.dispatcher.playing import playing
from tests.jobs.dispatcher.process import DispatcherProcess
from tests.servers.certificates import Certificates

SIZE = 600_000


def test_full_disk(tmp_path: Path, certificates: Certificates) -> None:
    """Jobs that do not fit are refused; those that were running end when there is space."""
    with playing(certificates) as host:
        (tmp_path / "hosts").write_text(host_line("web01", host.port))
        process = DispatcherProcess(tmp_path, host_db="hosts")
        with process, Lines(process.port) as client:
            running = client.call("hold")
            call = host.call()
            client.call("echo", 1)
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (SIZE, hard))
            accepted = []
            asked = {"host": "web01", "procedure": "echo", "arguments": ["x" * 20_000]}
            while "job_id" in (reply := client.ask(**asked)):
                accepted.append(reply["job_id"])
            assert reply["error"]["type"] == "os_error"
            # The store may have made room since then, by moving its log into its file.
            again = client.ask(**asked)
            if "job_id" in again:
                accepted.append(again["job_id"])
            else:
                assert again["error"]["type"] == "os_error"
            host.finish(call, "whole")
            early = client.ask(get_result=running, wait=False)
            assert early in ({"no_result": True}, {"result": "whole"})
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            assert client.ask(get_result=running) == {"result": "whole"}
            for job_id in accepted:
                assert client.ask(get_result=job_id) == {"result": asked["arguments"]}
            listed = [one["job"] for one in process.lines("list", "--all")]
            assert len(listed) == len(accepted) + 2
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
