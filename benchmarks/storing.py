"""One process that stores bodies of one size, in the plainest way there is.

Run by `raw_store` as a file of its own, with the standard library alone; it is given a file and the
size. For each body that comes on a connection it writes the file, takes the MD5, and answers with
one byte. It prints its port, picked by the system, and ends with its one client.
"""

import hashlib
import os
import select
import socket
import sys

PART = 256 << 10


def store(sock: socket.socket, path: str, left: int, part: memoryview) -> bool:
    """Store one body of so many bytes; return whether there was one."""
    digest = hashlib.md5(usedforsecurity=False)
    file = -1
    try:
        while left:
            size = sock.recv_into(part[: min(left, PART)], 0, socket.MSG_WAITALL)
            if not size:
                return False
            if file < 0:
                file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            digest.update(part[:size])
            if os.write(file, part[:size]) < size:
                return False
            left -= size
    finally:
        if file >= 0:
            os.close(file)
    digest.digest()
    sock.sendall(b"k")
    return True


def main() -> None:
    """Store the bodies of one client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        if listener not in select.select([sys.stdin, listener], [], [])[0]:
            return
        sock, _ = listener.accept()
    with sock:
        path, size, part = sys.argv[1], int(sys.argv[2]), memoryview(bytearray(PART))
        while store(sock, path, size, part):
            pass


if __name__ == "__main__":
    main()
