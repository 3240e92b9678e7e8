"""The users and groups that calls run as."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.jobs.procedures import Name

__all__ = ["Account", "account", "become", "permitted"]


class Account(NamedTuple):
    """Whom a call runs as; None is whoever the daemon is."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...]


def account(uid: Name | None, gid: Name | Sequence[Name] | None) -> Account | None:
    """Return the account of a user and a group, by name or number; None when there is neither.

    Raises ValueError when there is no such user or group.
    """
    if uid is None and gid is None:
        return None
    entry = None if uid is None else _user(uid)
    number = None if entry is None else entry[0]
    if gid is None:
        assert entry is not None
        name, primary = entry[1], entry[2]
        if name is None or primary is None:
            raise ValueError(f"user {uid!r} has no entry in the system's list: give a group, too")
        return Account(number, primary, tuple(os.getgrouplist(name, primary)))
    groups = [_group(one) for one in ([gid] if isinstance(gid, (str, int)) else gid)]
    if not groups:
        raise ValueError("an empty list of groups")
    return Account(number, groups[0], tuple(dict.fromkeys(groups)))


def permitted(account: Account) -> bool:
    """Tell whether this process can become someone."""
    return os.geteuid() == 0 or _is(account)


def become(account: Account) -> None:
    """Make this process run as someone, for good; raises OSError when it cannot."""
    if os.geteuid() != 0 and _is(account):
        return
    # Order matters: only the superuser may change groups.
    os.setgroups(account.groups)
    if account.gid is not None:
        os.setgid(account.gid)
    if account.uid is not None:
        os.setuid(account.uid)


def _is(account: Account) -> bool:
    return account.uid in (None, os.geteuid()) and account.gid in (None, os.getegid())


def _user(uid: Any) -> tuple[int, str | None, int | None]:
    """Return a user's number, name and group."""
    import pwd

    try:
        if isinstance(uid, int) and not isinstance(uid, bool) and uid >= 0:
            try:
                entry = pwd.getpwuid(uid)
            except KeyError:
                return uid, None, None
        elif isinstance(uid, str):
            entry = pwd.getpwnam(uid)
        else:
            raise ValueError(f"a user must be a name or a number, not {uid!r}")
    except KeyError:
        raise ValueError(f"there is no user {uid!r}") from None
    return entry.pw_uid, entry.pw_name, entry.pw_gid


def _group(gid: Any) -> int:
    import grp

    if isinstance(gid, int) and not isinstance(gid, bool) and gid >= 0:
        return gid
    if not isinstance(gid, str):
        raise ValueError(f"a group must be a name or a number, not {gid!r}")
    try:
        return grp.getgrnam(gid).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {gid!r}") from None
