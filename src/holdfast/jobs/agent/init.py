"""What a new host daemon needs: a configuration, procedures, a user, and a certificate."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from holdfast.jobs.agent.config import ConfigError, Limits, library
from holdfast.jobs.messages import HOST_PORT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["init"]

#: How long the certificate holds. Whoever trusts it trusts this one certificate.
VALID = timedelta(days=3650)

_LIMITS = Limits()

CONFIG = f"""\
# The configuration of harpd, the host daemon. Names of files are relative to this one's folder.

network:
  address: 127.0.0.1    # "" listens on all addresses
  port: {HOST_PORT}
  certfile: harpd.cert.pem
  keyfile: harpd.key.pem

# Who may call. The file has a line for each user, as user:hash, by SHA-crypt ($5$ or $6$):
#   openssl passwd -6
# It is read anew when it has changed.
authentication:
  module: passfile
  file: users

# Users may stand here instead:
# authentication:
#   module: inplace
#   users:
#     dispatcher: "crypt:$6$..."
#     somebody: plain:a-password

# Where procedures import from, besides Python's own path: a folder or a list of folders, or both
# of these.
# python:
#   path:
#     prepend: [lib]
#     append: []

# What holds unless it is changed here.
# limits:
#   calls: {_LIMITS.calls}               # at once; more are refused
#   connections: {_LIMITS.connections}
#   request_bytes: {_LIMITS.request_bytes}
#   request_time: {_LIMITS.request_time:g}          # seconds for a request to come
#   reply_bytes: {_LIMITS.reply_bytes}    # of one packet, or one result
#   grace: {_LIMITS.grace:g}                 # seconds to clean up before a call is killed
#   load_time: {_LIMITS.load_time:g}            # seconds for the file of procedures
#   spares: {_LIMITS.spares}                # processes that wait for calls
"""

PROCEDURES = '''\
"""What this host offers. Only what is marked can be called."""

import platform
import time

from holdfast.jobs.procedures import Result, procedure, streaming_procedure


@procedure
def hello(name="world"):
    """Answer at once."""
    return f"Hello, {name}, from {platform.node()}!"


@procedure(timeout=10)  # also uid="nobody", gid="nogroup"
def uptime():
    """Return the seconds since this host was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@streaming_procedure(timeout=3600)
def count(to, pause=1):
    """Yield numbers, and return how many they were."""
    for number in range(to):
        yield {"number": number}
        time.sleep(pause)
    yield Result(to)
'''

USER = "admin"


def init(folder: Path, prog: str) -> str:
    """Write the files into a folder; return what to tell who asked for it.

    Raises ConfigError, having written nothing, when one of them is there.
    """
    library("passlib.hash", "libpass")
    library("cryptography.x509", "cryptography")
    password = secrets.token_urlsafe(18)
    certificate, key = _certificate()
    files = {
        "harpd.conf": (CONFIG.encode(), 0o644),
        "procedures.py": (PROCEDURES.encode(), 0o644),
        "users": (f"{USER}:{_hash(password)}\n".encode(), 0o600),
        "harpd.key.pem": (key, 0o600),
        "harpd.cert.pem": (certificate, 0o644),
    }
    there = [name for name in files if os.path.lexists(folder / name)]
    if there:
        raise ConfigError(f"{folder} has {', '.join(there)} already: nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (data, mode) in files.items():
            fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(fd, "wb") as file:
                file.write(data)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    return (
        f"Written into {folder}: {', '.join(files)}.\n"
        f"The user is {USER}, with the password {password} (only its hash was written).\n"
        f"Start it with: {prog} --config {folder / 'harpd.conf'}"
    )


def _hash(password: str) -> str:
    from passlib.hash import sha512_crypt

    # The password is random: more rounds would protect nothing.
    scheme = sha512_crypt.using(rounds=5000)  # type: ignore[no-untyped-call]
    return str(scheme.hash(password))


def _certificate() -> tuple[bytes, bytes]:
    """Return a self-signed certificate for this host, and its key, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    host = socket.gethostname()
    names = dict.fromkeys([host, socket.getfqdn(), "localhost"])
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    *(x509.DNSName(one) for one in names),
                    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    x509.IPAddress(ipaddress.ip_address("::1")),
                ]
            ),
            critical=False,
        )
        # It signs itself, so it is its own authority, for nobody else.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
