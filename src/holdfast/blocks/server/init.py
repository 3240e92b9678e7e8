"""The configuration that a new block service begins with."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from holdfast.blocks.server.access import token_hash
from holdfast.blocks.server.config import DEFAULT, MIB, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["init"]

CONFIG = f"""\
# The configuration of a block service. Names of files are relative to this one's folder. What is
# commented out shows what holds anyway. Times are in seconds.

[network]
address = {{address}}
port = {{port}}  # 0: the system picks one, and the service says which
# certfile = "blockd.cert.pem"  # for TLS
# keyfile = "blockd.key.pem"

[access]
# Signs the locators of what is stored, so that only who has stored or was given a block can read
# it; without it, whoever has a token reads what they know the hash of. Signatures expire, and the
# locators with them: this is for clusters where something signs them anew, as Arvados does, and
# not for those where locators are to be kept. All services of a cluster need the same.
# To sign, add: signing_key = "{{signing_key}}"
# signature_ttl = {DEFAULT.signature_ttl}  # how long signatures hold; blocks younger than this stay
# For those who keep the cluster in order: index, trash, pull, DELETE. Also the same everywhere.
system_token = "{{system_token}}"
# Who may put and get: tokens, plain or as sha256:<hexadecimal digits>. An empty list: every token.
tokens = [
  "{{token_hash}}",
]

[storage]
# A block has reached the disk before it counts as stored. Without that a power failure, though no
# crash of the service, may lose blocks that were said to be stored.
# fsync = true
# copies = 1  # on how many of the volumes below each block is kept

{{volumes}}
[trash]
# enabled = true
# lifetime = {DEFAULT.trash_lifetime}  # how long a removed block can be brought back; 0: not at all

[scrub]
# All blocks are read again and again, to find corrupt ones.
# rate = {DEFAULT.scrub_rate / MIB:g}  # MiB per second; 0: never
# pause = {DEFAULT.scrub_pause:g}  # between one time and the next

# Other clusters, from which blocks are fetched when a locator says so. The reader's own token is
# salted and sent there, unless there is one here.
# [remotes.abcde]
# url = "https://keep.abcde.example"
# token = "..."

[limits]
# threads = {DEFAULT.threads}  # for reading, writing and hashing
# idle_timeout = {DEFAULT.idle_timeout:g}  # for a client that neither sends nor reads
# grace = {DEFAULT.grace:g}  # for requests that are in progress when the service stops
# connections = 0  # at once; 0: any number
"""

VOLUME = """\
[[volume]]
path = {path}
# read_only = false
# storage_classes = ["default"]
# replication = 1  # how many copies the folder itself keeps, as on a RAID
"""


def init(path: Path, folders: Sequence[Path], address: str, port: int) -> str:
    """Write a configuration with new keys and tokens; return what to tell who asked for it.

    Only its owner can read it. Raises ConfigError when there is one already.
    """
    token = secrets.token_urlsafe(32)
    text = CONFIG.format(
        address=_quoted(address),
        port=port,
        signing_key=secrets.token_urlsafe(48),
        system_token=secrets.token_urlsafe(32),
        token_hash=token_hash(token),
        volumes="\n".join(VOLUME.format(path=_quoted(os.path.abspath(one))) for one in folders),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} is there already: nothing was written") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
    return (
        f"Written: {path}\n"
        f"Clients need this token, of which only the hash was written:\n"
        f"  ARVADOS_API_TOKEN={token}\n"
        f"The other services of the cluster need the same keys: copy the file to them."
    )


def _quoted(text: str) -> str:
    """Return a text as a string of TOML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        raise ConfigError(f"{text!r} cannot be written")
    return f'"{escaped}"'
