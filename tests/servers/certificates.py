"""Certificates of an authority that exists for one test run."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

SERVER_NAMES = ("localhost", "127.0.0.1", "::1")
CLIENT_NAME = "client@tests.example"


class Certificates:
    """Hold an authority, a server's and a client's certificate, also as PEM files.

    `ca_file` has the authority's certificate, `server_file` and `client_file` a private
    key and its certificate chain. `client_key_file` and `client_chain_file` have the
    client's parts on their own.
    """

    def __init__(self, folder: Path) -> None:
        """Issue the certificates and write them into a folder."""
        self.authority = trustme.CA()
        self._server = self.authority.issue_cert(*SERVER_NAMES)
        self._client = self.authority.issue_cert(CLIENT_NAME)
        self.ca_file = folder / "ca.pem"
        self.server_file = folder / "server.pem"
        self.client_file = folder / "client.pem"
        self.client_key_file = folder / "client-key.pem"
        self.client_chain_file = folder / "client-chain.pem"
        self.authority.cert_pem.write_to_path(str(self.ca_file))
        self._server.private_key_and_cert_chain_pem.write_to_path(str(self.server_file))
        self._client.private_key_and_cert_chain_pem.write_to_path(str(self.client_file))
        self._client.private_key_pem.write_to_path(str(self.client_key_file))
        for part in self._client.cert_chain_pems:
            part.write_to_path(str(self.client_chain_file), append=True)

    def server_context(self, *names: str, client_required: bool = False) -> ssl.SSLContext:
        """Return a new server-side context.

        Args:
            names: What the certificate is for, if not `localhost` and loopback.
            client_required: Refuse clients without a certificate of the authority.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        (self.authority.issue_cert(*names) if names else self._server).configure_cert(context)
        if client_required:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        return context

    def client_context(self, *, certificate: bool = False) -> ssl.SSLContext:
        """Return a new client-side context that trusts the authority and no other.

        With `certificate`, it presents the client's certificate.
        """
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if certificate:
            self._client.configure_cert(context)
        return context
