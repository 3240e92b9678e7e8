"""Files as blocks on five services, of which one is killed and its disk lost."""

from __future__ import annotations

import filecmp
import random
import shutil
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING

from holdfast.blocks import KeepClient
from holdfast.blocks.files import Files
from holdfast.cli.demo.daemons import Daemon
from holdfast.cli.demo.ports import ReservedPort
from holdfast.console.report import Stored

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COPIES", "SERVICES", "room_for", "run"]

SERVICES = 5
COPIES = 2
#: The sizes of the files, as shares of all: some larger than a block, most of them smaller.
_SHARES = (8, 4, 2, *[0.5] * 16, *[0.01] * 200)
#: How many times the size of the files is on the disk: themselves, their copies, restored, spare.
_TIMES = 2 + COPIES + 1


def room_for(size: int) -> bool:
    """Tell whether there is room in the folder for temporary files."""
    with TemporaryDirectory(prefix="holdfast-demo-") as folder:
        return shutil.disk_usage(folder).free > _TIMES * size


class _Service:
    """A service of blocks: a process, a folder, and a port that stays its own."""

    def __init__(self, folder: Path, number: int, stack: ExitStack) -> None:
        self.folder = folder / f"blocks{number}"
        port = ReservedPort()
        stack.callback(port.close)
        self.url = f"http://127.0.0.1:{port.port}"
        options = ["--data", str(self.folder), "--port", str(port.port)]
        self.daemon = Daemon(f"service {number}", ["blockd", *options], r"listening on (\S+)")
        stack.enter_context(self.daemon)

    def count(self) -> int:
        """Return how many blocks it has."""
        return sum(1 for _ in self.folder.glob("*/*"))


def run(size: int, event: Callable[[str], None]) -> Stored:
    """Store ``size`` bytes of files, lose a service and its disk, and restore what was on it.

    Raises ServerFailed when a service does not start.
    """
    with TemporaryDirectory(prefix="holdfast-demo-") as name, ExitStack() as stack:
        folder = Path(name)
        services = [_Service(folder, number, stack) for number in range(1, SERVICES + 1)]
        made = _made(folder / "files", size)
        for service in services:
            service.daemon.wait()
        urls = " ".join(service.url for service in services)
        keep = stack.enter_context(KeepClient(proxy=urls, api_token="", local_store=""))
        files = Files(keep)

        began = monotonic()
        put = files.put(folder / "files", COPIES)
        put_seconds = monotonic() - began
        event(f"{put.files} files are stored as {put.blocks} blocks, {COPIES} copies of each")

        victim = max(services, key=_Service.count)
        lost = victim.count()
        victim.daemon.kill()
        shutil.rmtree(victim.folder)
        event(f"{victim.url} was killed (SIGKILL), and its folder deleted")

        began = monotonic()
        files.get(put.locator, folder / "restored")
        get_seconds = monotonic() - began
        same, _, _ = filecmp.cmpfiles(folder / "files", folder / "restored" / "files", made, False)
        event(f"{len(same)} files were read back")

        victim.daemon.start()
        victim.daemon.wait()
        repaired = files.verify(put.locator, COPIES, repair=True)
        event(f"{repaired.repaired} copies were restored")
        after = files.verify(put.locator, COPIES)
        return Stored(
            services=SERVICES,
            copies=COPIES,
            files=len(made),
            bytes=put.size,
            blocks=put.blocks,
            put_seconds=put_seconds,
            get_seconds=get_seconds,
            same=len(same),
            lost=lost,
            repaired=repaired.repaired,
            whole=after.ok,
        )


def _made(folder: Path, size: int) -> list[Path]:
    """Make files of random bytes, and return their paths within the folder."""
    chance = random.Random(1)
    every = sum(_SHARES)
    made = []
    for number, share in enumerate(_SHARES):
        path = Path(f"{number % 10}") / f"file{number:03}"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        left = int(size * share / every)
        with (folder / path).open("wb") as file:
            while left:
                left -= file.write(chance.randbytes(min(left, 1 << 20)))
        made.append(path)
    return made
