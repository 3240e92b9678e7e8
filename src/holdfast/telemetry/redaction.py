"""What is left out of everything that is told: credentials, and what may be some.

Texts of exceptions come from everywhere, and quote URLs and headers. Too much is redacted rather
than too little.
"""

from __future__ import annotations

import re

__all__ = ["REDACTED", "escaped", "redacted", "redacted_target"]

REDACTED = "REDACTED"

#: The longest text that is told, in characters.
LIMIT = 1000

_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-auth-token)\b"
    r"(['\"]?\s*[:=,]\s*)[^\r\n]+",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(bearer|basic|digest|negotiate)\s+(?=\S{8})\S+", re.IGNORECASE)
_NAMED = re.compile(
    r"\b([\w-]*(?:password|passwd|passphrase|pwd|secret|token|credentials?"
    r"|api[_-]?key|access[_-]?key|private[_-]?key))"
    # In quotation marks a value may have spaces.
    r"(['\"]?\s*[:=]\s*)(?:(')[^']*|(\")[^\"]*|[^\s,;&'\"]+)",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"://[^\s/?#]*@")
# A password with a slash in it, as which no port can be taken.
_ODD_USERINFO = re.compile(r"://[^\s/?#@:\[]*:(?!\d{1,5}[/\s])[^\s@]*@")
_BARE_USERINFO = re.compile(r"[^\s/@:'\"(\[<=]++:[^\s/]*@")
# A question mark inside of a path, or before something with a value.
_QUERY = re.compile(r"(?<=\S)\?\S+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def redacted(text: str) -> str:
    """Return a text in one line without credentials, and without the queries of URLs."""
    if len(text) > LIMIT:
        # Not in the middle of a word: half of a URL no longer looks like one.
        text = text[:LIMIT].rpartition(" ")[0] + " …"
    if "@" in text:
        text = _USERINFO.sub(f"://{REDACTED}@", text)
        text = _ODD_USERINFO.sub(f"://{REDACTED}@", text)
        text = _BARE_USERINFO.sub(f"{REDACTED}@", text)
    if "?" in text:
        text = _QUERY.sub(_without_query, text)
    text = _HEADER.sub(rf"\1\2{REDACTED}", text)
    text = _SCHEME.sub(rf"\1 {REDACTED}", text)
    text = _NAMED.sub(rf"\1\2\3\4{REDACTED}", text)
    return escaped(text)


def escaped(text: str) -> str:
    """Return a text in one line: whoever named an endpoint did so without credentials."""
    return _CONTROLS.sub(_as_text, text)


def redacted_target(target: str) -> str:
    """Return a request's target; of its query is told only that there is one."""
    path, mark, _ = target.partition("?")
    return f"{path}?{REDACTED}" if mark else path


def _without_query(match: re.Match[str]) -> str:
    query = match[0]
    end = query.rstrip("'\")]}>,.;:")  # what closes a quotation is no part of it
    return f"?{REDACTED}{query[len(end) :]}" if len(end) > 1 else query


def _as_text(match: re.Match[str]) -> str:
    # A line break of somebody else's must not look like a record of ours.
    return match[0].encode("unicode_escape").decode("ascii")
