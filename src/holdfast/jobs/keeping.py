"""Several calls on one connection to a host daemon, one after the other.

An addition to the host protocol, where a connection carries one call. A caller that knows it
offers `PROTOCOL` by ALPN in its TLS handshake, and a daemon that knows it selects that; where
either does not, everything is as it always was. When it is selected:

- after a ``result`` or an ``exception`` the connection may carry another request, which begins
  no earlier than that line has come;
- after an ``error`` the daemon closes the connection;
- the daemon may close a connection without a call, but not before `SERVER_IDLE` seconds unless it
  is stopped; callers use none that has waited longer than `CALLER_IDLE`, so that the two do not
  meet on the way;
- closing the connection during a call cancels it, as ever.

What a call loses by this is nothing: its process, its limits and its credentials are its own.
What it gains is the time for two handshakes.
"""

__all__ = ["CALLER_IDLE", "PROTOCOL", "SERVER_IDLE"]

#: The name of the addition among the protocols of ALPN (RFC 7301).
PROTOCOL = "harp/1+keep"

#: Seconds that a daemon waits for another request.
SERVER_IDLE = 60.0

#: Seconds after which a caller closes a connection that it has no use for.
CALLER_IDLE = 20.0
