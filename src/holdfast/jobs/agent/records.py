"""What the daemon, the parent of its calls and their processes say to each other.

The parent and the daemon send records through one Unix socket. A record is a letter and two
numbers, ordinarily a process and something about it. The parent's first is followed by text. File
descriptors travel beside the records that they belong to.
"""

from __future__ import annotations

from struct import Struct

__all__ = [
    "ACKNOWLEDGED",
    "ACKNOWLEDGED_STREAM",
    "ASK",
    "END",
    "EXITED",
    "FORK",
    "FORK_FAILED",
    "LOADED",
    "NOT_LOADED",
    "RECORD",
    "RETIRE",
    "SPARE",
]

#: The letter, a process, and another number.
RECORD = Struct("<cII")

# To the parent.
FORK = b"F"  # so many more processes
END = b"E"  # the group of a process, first kindly, then for certain
ASK = b"A"  # what became of a process, which has closed its connection
RETIRE = b"Q"  # make no more processes, and exit after the last one

# From the parent.
LOADED = b"L"  # the procedures; that many bytes of JSON follow: name to [streaming, timeout]
NOT_LOADED = b"N"  # the file of procedures is broken; that many bytes of text follow
SPARE = b"S"  # a process that waits for its call; with its three pipes
FORK_FAILED = b"!"  # the number is errno
EXITED = b"X"  # how a process ended, as `os.waitpid` has it

# From the process of a call: the first line that its caller gets.
ACKNOWLEDGED = b'{"harp":1,"stream_result":false}\n'
ACKNOWLEDGED_STREAM = b'{"harp":1,"stream_result":true}\n'
