"""Who asks, and whether they may: tokens, client certificates, rules.

Off by default. When it is on, every decision is logged, with the client's address and the name of
its rule, never with a token.
"""

from __future__ import annotations

import hmac
import logging
import ssl
from typing import TYPE_CHECKING, Any

from holdfast.jobs.dispatcher.rules import Rule, hash_token
from holdfast.jobs.fields import Invalid
from holdfast.jobs.requests import CallRequest

if TYPE_CHECKING:
    from holdfast.jobs.dispatcher.config import Config
    from holdfast.jobs.requests import Request

__all__ = ["OPEN", "Permit", "Security", "client_tls"]

log = logging.getLogger(__name__)


def client_tls(config: Config) -> ssl.SSLContext | None:
    """Return the TLS of the client port, None when it is off; raises OSError or ssl.SSLError."""
    if config.certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config.certfile, config.keyfile)
    if config.client_ca_file is not None:
        context.load_verify_locations(config.client_ca_file)
        # A token does as well as a certificate where there are both.
        context.verify_mode = ssl.CERT_OPTIONAL if config.tokens else ssl.CERT_REQUIRED
    return context


class Permit:
    """What one client may do; the base class permits everything, and logs nothing."""

    def check(self, request: Request, host: str, procedure: str) -> None:
        """Raise Invalid if the client may not ask this about a call of a procedure on a host."""

    def check_unknown(self, request: Request) -> None:
        """Decide on a request about a job that nobody knows."""

    def seen(self, request: Request, names: list[str]) -> list[str]:
        """Return which of some hosts the client may know of."""
        return names


#: The permit of everybody where security is off.
OPEN = Permit()


class _RulePermit(Permit):
    def __init__(self, rule: Rule, peer: str) -> None:
        self._rule = rule
        self._peer = peer

    def check(self, request: Request, host: str, procedure: str) -> None:
        allowed = self._rule.allows(host, procedure)
        _decided(allowed, self._rule.name, self._peer, request, f"{procedure!r} on {host!r}")
        if not allowed:
            # What a job of others calls is not for everybody.
            what = f"{procedure} on {host}" if isinstance(request, CallRequest) else "this job"
            raise Invalid("access_denied", f"{self._rule.name} may not use {what}")

    def check_unknown(self, request: Request) -> None:
        _decided(True, self._rule.name, self._peer, request, "no job")

    def seen(self, request: Request, names: list[str]) -> list[str]:
        seen = [name for name in names if self._rule.sees(name)]
        about = f"{len(seen)} of {len(names)} hosts that match"
        _decided(True, self._rule.name, self._peer, request, about)
        return seen


class Security:
    """Knows the rules of a configuration."""

    def __init__(self, config: Config) -> None:
        self._on = config.secured
        self._tokens = config.tokens
        self._certificates = config.certificates
        self._authority = config.client_ca_file is not None

    def permit(self, request: Request, peer: str, certificate: dict[str, Any] | None) -> Permit:
        """Return what a client may do; raise Invalid when it is not known.

        ``certificate`` is the one it has shown, verified by the authority for clients.
        """
        if not self._on:
            return OPEN
        rule = self._identify(request.token, certificate)
        if rule is None:
            missing = request.token is None
            _decided(False, "nobody", peer, request, "no token" if missing else "unknown token")
            text = "a token is needed" if missing and self._tokens else "nobody known"
            raise Invalid("auth_error", text if missing else "the token is not known")
        return _RulePermit(rule, peer)

    def _identify(self, token: str | None, certificate: dict[str, Any] | None) -> Rule | None:
        if token is not None:
            return self._find_token(token)
        if self._authority and certificate:
            names = _names(certificate)
            if not self._certificates:
                return Rule(names[0] if names else "a certificate without a name")
            for rule in self._certificates:
                if rule.name in names:
                    return rule
        return None

    def _find_token(self, token: str) -> Rule | None:
        digest = hash_token(token)
        found = None
        for rule in self._tokens:  # all of them, so that the time tells nothing
            if hmac.compare_digest(rule.hash, digest):
                found = rule
        return found


def _names(certificate: dict[str, Any]) -> list[str]:
    """Return the names of a certificate's subject: common names, then alternative ones."""
    common = [
        value
        for part in certificate.get("subject", ())
        for key, value in part
        if key == "commonName"
    ]
    return common + [
        value
        for kind, value in certificate.get("subjectAltName", ())
        if kind in ("DNS", "email", "URI")
    ]


def _decided(allowed: bool, name: str, peer: str, request: Request, about: str) -> None:
    kind = type(request).__name__.removesuffix("Request").lower()
    job = getattr(request, "job_id", None)
    log.log(
        logging.INFO if allowed else logging.WARNING,
        "%s: %s %s from %s: %s%s",
        "allowed" if allowed else "denied",
        name,
        kind,
        peer,
        about,
        f", job {job!r}" if job else "",
    )
