"""Who may call, and what it costs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from passlib.hash import sha256_crypt, sha512_crypt

from holdfast.jobs.agent.authentication import (
    Authentication,
    Busy,
    FileUsers,
    ListedUsers,
    users,
)
from holdfast.jobs.agent.config import ConfigError
from holdfast.jobs.agent.hashing import WAITING, Hashing, known, like
from tests.jobs.agent.conftest import StartDaemon
from tests.jobs.agent.daemons import LIMIT, Daemon, error_of


def sha256(password: str) -> str:
    """Return a quick hash."""
    return str(sha256_crypt.using(rounds=1000).hash(password))  # type: ignore[no-untyped-call]


def sha512(password: str) -> str:
    """Return a quick hash of the other kind."""
    return str(sha512_crypt.using(rounds=1000).hash(password))  # type: ignore[no-untyped-call]


#: Of "Hello world!", from Ulrich Drepper's specification of SHA-crypt.
SPECIFIED = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"


class FakeHashing(Hashing):
    """Compares in this process, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.compared: list[str] = []

    def verify(self, hashed: str, password: str) -> asyncio.Future[bool]:
        self.compared.append(hashed)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        scheme = sha256_crypt if hashed.startswith("$5$") else sha512_crypt
        future.set_result(bool(scheme.verify(password, hashed)))
        return future


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine, within a limit."""

    async def limited() -> None:
        async with asyncio.timeout(LIMIT):
            await test()

    asyncio.run(limited())


async def check(authentication: Authentication, user: str, password: str) -> bool:
    """Return what the authentication says, now or later."""
    allowed = authentication.check(user, password)
    return allowed if isinstance(allowed, bool) else await allowed


def test_both_kinds_and_plain() -> None:
    """Passwords are compared with both kinds of hashes, and with themselves."""

    async def test() -> None:
        hashing = Hashing()
        listed = {
            "ann": f"crypt:{sha256('ä')}",
            "bob": f"crypt:{sha512('b' * 300)}",
            "cid": "plain:c:c",
            "dan": f"crypt:{SPECIFIED}",
        }
        authentication = Authentication(ListedUsers(listed), hashing)
        try:
            for user, password in (
                ("ann", "ä"),
                ("bob", "b" * 300),
                ("cid", "c:c"),
                ("dan", "Hello world!"),
            ):
                assert await check(authentication, user, password)
                assert not await check(authentication, user, password + "x")
                assert not await check(authentication, user, "")
                assert not await check(authentication, user, listed[user])
                assert not await check(authentication, "eve", password)
        finally:
            hashing.close()

    run(test)


def test_a_right_password_is_hashed_once() -> None:
    """What was right is remembered; what was wrong is not."""

    async def test() -> None:
        hashing = FakeHashing()
        listed = ListedUsers({"ann": f"crypt:{sha256('right')}"})
        authentication = Authentication(listed, hashing)
        assert await check(authentication, "ann", "right")
        assert authentication.check("ann", "right") is True
        assert len(hashing.compared) == 1
        for _ in range(2):
            assert not await check(authentication, "ann", "wrong")
        assert len(hashing.compared) == 3

    run(test)


def test_an_unknown_user_costs_the_same() -> None:
    """For an unknown user a hash is computed of a kind, and with rounds, that are in use."""

    async def test() -> None:
        hashing = FakeHashing()
        there = sha512("right")
        authentication = Authentication(ListedUsers({"ann": f"crypt:{there}"}), hashing)
        for _ in range(2):
            assert not await check(authentication, "eve", "right")
        assert len(hashing.compared) == 2
        assert all(one.startswith("$6$rounds=1000$") for one in hashing.compared)
        assert there not in hashing.compared

    run(test)


def test_nobody() -> None:
    """Where there are no users nobody is right."""

    async def test() -> None:
        authentication = Authentication(ListedUsers({}), Hashing())
        assert authentication.check("ann", "") is False

    run(test)


def test_a_changed_file_takes_effect_at_once(tmp_path: Path) -> None:
    """Every change counts for the next call, also one that does not change times and size."""

    async def test() -> None:
        path = tmp_path / "users"
        one, two = sha256("one"), sha256("two")
        path.write_text(f"ann:{one}\n")
        hashing = FakeHashing()
        authentication = Authentication(FileUsers(path), hashing)
        assert await check(authentication, "ann", "one")
        assert await check(authentication, "ann", "one")
        assert len(hashing.compared) == 1
        path.write_text(f"ann:{two}\n")
        assert not await check(authentication, "ann", "one")
        assert await check(authentication, "ann", "two")
        path.write_text(f"# ann is gone\n\nbob:{two}:more:fields\n")
        assert not await check(authentication, "ann", "two")
        assert await check(authentication, "bob", "two")
        path.unlink()
        assert not await check(authentication, "bob", "two")
        path.write_text(f"bob:{two}\n")
        assert await check(authentication, "bob", "two")

    run(test)


def test_a_file_is_read_only_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old file costs a look at its times."""
    path = tmp_path / "users"
    path.write_text(f"ann:{SPECIFIED}\n")
    found = FileUsers(path)
    monkeypatch.setattr("holdfast.jobs.agent.authentication.time", lambda: 1e10)
    first = found.current()
    monkeypatch.setattr(Path, "read_text", lambda *_: pytest.fail("it was read"))
    assert found.current() is first
    assert first == {"ann": f"crypt:{SPECIFIED}"}


def test_lines_that_are_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong line is told by its number, never by what it holds."""
    path = tmp_path / "users"
    path.write_text(f"ann:{SPECIFIED}\nbob:secret\n:{SPECIFIED}\neve:$1$aa$bbb\n")
    found = FileUsers(path)
    assert list(found.current()) == ["ann"]
    assert "line 2" in caplog.text
    assert "secret" not in caplog.text
    with pytest.raises(ConfigError, match="line 2") as error:
        found.check()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"module": "other"},
        {"module": 1},
        {"module": "passfile"},
        {"module": "passfile", "file": "/nonexistent/users"},
        {"module": "inplace"},
        {"module": "inplace", "users": []},
        {"module": "inplace", "users": {"ann": "secret"}},
        {"module": "inplace", "users": {"ann": "plain:"}},
        {"module": "inplace", "users": {"ann": "crypt:secret"}},
        {"module": "inplace", "users": {"ann": 5}},
        {"module": "inplace", "users": {}, "more": 1},
    ],
)
def test_wrong_sections(section: dict[str, Any], tmp_path: Path) -> None:
    """A section that says nothing useful is refused, without its secrets."""
    with pytest.raises(ConfigError) as error:
        users(section, tmp_path)
    assert "secret" not in str(error.value)


def test_dotted_modules(tmp_path: Path) -> None:
    """Of a module's name the last part counts; files are relative to the configuration."""
    (tmp_path / "users").write_text(f"ann:{SPECIFIED}\n")
    found = users({"module": "harpd.auth.passfile", "file": "users"}, tmp_path)
    assert list(found.current()) == ["ann"]
    found = users({"module": "harpd.auth.inplace", "users": {"ann": "plain:x"}}, tmp_path)
    assert list(found.current()) == ["ann"]


def test_hashes() -> None:
    """Only SHA-crypt is known; a stand-in for a hash is one, too."""
    for hashed in (SPECIFIED, sha256("x"), sha512("x")):
        assert known(hashed)
        assert known(like(hashed))
        assert like(hashed) != hashed
        assert like(hashed).rpartition("$")[0] == hashed.rpartition("$")[0]
    for wrong in ("", "x", "$1$a$b", SPECIFIED[:-1], SPECIFIED + "x", SPECIFIED + "\n"):
        assert not known(wrong)


def test_too_many_guesses() -> None:
    """Who guesses fills neither the memory nor the time; a process that dies is replaced."""

    async def test() -> None:
        hashing = Hashing()
        try:
            waiting = [hashing.verify(SPECIFIED, "guess") for _ in range(WAITING)]
            with pytest.raises(Busy):
                hashing.verify(SPECIFIED, "guess")
            assert hashing._process is not None
            hashing._process.kill()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert any(isinstance(one, Busy) for one in results)
            assert await hashing.verify(SPECIFIED, "Hello world!")
        finally:
            hashing.close()

    run(test)


def test_daemon_with_users_in_its_configuration(start_daemon: StartDaemon) -> None:
    """Right and wrong passwords, and users that do not exist, of both kinds."""
    daemon = start_daemon(
        authentication={
            "module": "inplace",
            "users": {"ann": "plain:s3cret", "bob": f"crypt:{sha512('passw0rd')}"},
        }
    )
    assert daemon.call("nothing")[-1] == {"result": None}
    for _ in range(2):
        assert daemon.call("nothing", user="bob", password="passw0rd")[-1] == {"result": None}
    wrong = [("ann", "passw0rd"), ("bob", "s3cret"), ("eve", "s3cret"), ("ann", ""), ("bob", "")]
    answers = [daemon.call("nothing", user=user, password=word) for user, word in wrong]
    assert {error_of(one) for one in answers} == {"auth_error"}
    assert len({str(one) for one in answers}) == 1
    # Who may not call does not learn what could be called.
    assert daemon.call("absent", password="wrong") == answers[0]
    assert no_secrets(daemon, "s3cret", "passw0rd", "$6$")


def test_daemon_with_a_file(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Edits of the file count at once."""
    path = tmp_path / "users"
    path.write_text(f"ann:{sha256('first')}\n")
    daemon = start_daemon(authentication={"module": "passfile", "file": str(path)})
    for _ in range(3):
        assert daemon.call("nothing", password="first")[-1] == {"result": None}
    new = tmp_path / "new"
    new.write_text(f"ann:{sha256('second')}\n")
    os.replace(new, path)
    assert error_of(daemon.call("nothing", password="first")) == "auth_error"
    assert daemon.call("nothing", password="second")[-1] == {"result": None}
    path.unlink()
    assert error_of(daemon.call("nothing", password="second")) == "auth_error"
    daemon.logged("nobody may call")
    assert no_secrets(daemon, "first", "second", "$5$")


def no_secrets(daemon: Daemon, *secrets: str) -> bool:
    """Tell whether none of some strings stands in the log, which is not empty."""
    daemon.stop()
    log = "\n".join(daemon.log)
    assert "auth_error" in log
    return not any(one in log for one in secrets)
