"""What a new dispatcher needs: a configuration, and a script that prints its hosts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.jobs.dispatcher.config import Config, ConfigError
from holdfast.jobs.host_messages import HOST_PORT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["init"]

_CONFIG = Config()

CONFIG = f"""\
# The configuration of harpcallerd, the dispatcher. Names of files are relative to this one's
# folder. What stands behind a # is what holds without it.

# Where clients connect; for all addresses it is "*:{_CONFIG.listen[0].port}". Before that, set
# tokens_file and certfile.
# listen = ["{_CONFIG.listen[0]}"]

# How many clients may be connected, and how many seconds one may ask nothing.
# max_connections = {_CONFIG.max_connections}
# idle_timeout = {_CONFIG.idle_timeout}

# Jobs, with all that they stream and their results.
stream_directory = "jobs"
# max_age = 720            # hours that they are kept after their end; for ever without

# The hosts: a script that prints a JSON object a line, and its last good output.
host_db_script = "hosts"
host_db = "hosts.db"
# host_db_refresh = {_CONFIG.host_db_refresh}    # seconds

# Which hosts are the right ones: those with one of these certificates (the harpd.cert.pem of each,
# one after the other), or with one of these authorities'. Without either, whoever answers at a
# host's address learns the password for it.
# known_certs_file = "known_certs.pem"
# ca_file = "ca.pem"

# Seconds that a job may be silent unless it says otherwise, and that it may take at most.
# default_timeout = {_CONFIG.default_timeout}
# max_exec_time = {_CONFIG.max_exec_time}

# Who may call: tokens, each with globs of hosts and procedures. Make one with
#   harpcallerd new-token NAME >> tokens.toml
# tokens_file = "tokens.toml"

# TLS for clients, and certificates of their own instead of tokens.
# certfile = "harpcallerd.cert.pem"
# keyfile = "harpcallerd.key.pem"
# client_ca_file = "clients-ca.pem"

# log_file = "log"         # stderr without
# log_level = "{_CONFIG.log_level}"
"""

HOSTS = f"""\
#!/bin/sh
# Prints the hosts: one JSON object a line, from a file, a database, or whatever knows them.
# The password is the one that `harpd --init` has said on that host.
cat <<'END'
{{"hostname": "web1", "address": "127.0.0.1", "port": {HOST_PORT}, "credentials": {{"user": "admin", "password": "change-me"}}}}
END
"""  # noqa: E501 - a host is one line


def init(folder: Path, prog: str) -> str:
    """Write the files into a folder; return what to tell who asked for it.

    Raises ConfigError, having written nothing, when one of them is there.
    """
    files = {"harpcallerd.toml": (CONFIG, 0o644), "hosts": (HOSTS, 0o700)}
    there = [name for name in files if os.path.lexists(folder / name)]
    if there:
        raise ConfigError(f"{folder} has {', '.join(there)} already: nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (text, mode) in files.items():
            fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(fd, "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    return (
        f"Written into {folder}: {', '.join(files)}.\n"
        f"Let the script {folder / 'hosts'} print your hosts, then start it with:\n"
        f"{prog} --socket {folder / 'control'} start --config {folder / 'harpcallerd.toml'}"
    )
