"""The command line: checking, starting, reloading, and what is there to begin with."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast.jobs.agent.authentication import users
from holdfast.jobs.agent.command import main
from holdfast.jobs.agent.config import ConfigError, Limits, read
from holdfast.jobs.agent.daemon import Pidfile
from tests.jobs.agent.conftest import StartDaemon
from tests.jobs.agent.daemons import (
    COMMAND,
    INSTALLED,
    LIMIT,
    Daemon,
    request,
    until,
    wait_for_exit,
)

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become another")


def run(
    *arguments: str | Path, command: Sequence[str] = COMMAND
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT
    )


def checked(daemon: Daemon, *options: str) -> subprocess.CompletedProcess[str]:
    """Check a daemon's configuration."""
    return run("--test", "-c", daemon.config, "-r", daemon.procedures, *options)


def test_check(make_daemon: StartDaemon) -> None:
    """--test says that the configuration is correct, and starts nothing."""
    daemon = make_daemon()
    result = run("--test", "-c", daemon.config, "-r", daemon.procedures, command=INSTALLED)
    assert result.returncode == 0, result.stderr
    assert "correct" in result.stdout


@pytest.mark.parametrize(
    ("procedures", "said"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("\n\nimport nonexistent_module\n", "line 3"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit('enough')", "SystemExit: enough"),
        ("import os\nos._exit(0)", "has ended"),
        (
            "from holdfast.jobs.procedures import *\n@procedure(uid='nobody-at-all')\ndef f(): 1",
            "f: there is no user 'nobody-at-all'",
        ),
        (
            "from holdfast.jobs.procedures import *\n@procedure(gid='no-group')\ndef f(): 1",
            "f: there is no group 'no-group'",
        ),
        ("from holdfast.jobs.procedures import *\n@procedure(timeout=0)\ndef f(): 1", "timeout"),
    ],
)
def test_check_of_broken_procedures(make_daemon: StartDaemon, procedures: str, said: str) -> None:
    """--test, as the daemon itself, says what is wrong with the file of procedures."""
    daemon = make_daemon(procedures)
    result = checked(daemon)
    assert result.returncode == 1
    assert said in result.stderr.splitlines()[-1]
    assert str(daemon.procedures) in result.stderr


def test_libraries_that_are_missing(
    make_daemon: StartDaemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is not installed is told in one line, with what to install."""
    daemon = make_daemon(authentication={"module": "passfile", "file": os.devnull})
    check = ["--test", "-c", str(daemon.config), "-r", str(daemon.procedures)]
    for module, arguments in (
        ("yaml", check),
        ("passlib", check),
        ("cryptography.x509", ["--init", str(tmp_path / "new")]),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            assert main(arguments) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "pip install 'holdfast[jobs]'" in said
    assert not (tmp_path / "new").exists()


def test_signals_while_it_starts(make_daemon: StartDaemon) -> None:
    """SIGHUP does no harm to a daemon that starts, and SIGTERM does not wait for it."""
    daemon = make_daemon("import time\nprint('begun')\ntime.sleep(600)").launch()
    daemon.logged("begun")
    parent = daemon.parent
    daemon.signal(signal.SIGHUP)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert "stopped" in daemon.log[-1]
    wait_for_exit(parent)


def test_broken_at_start(make_daemon: StartDaemon) -> None:
    """The daemon does not start with a broken file, and says why."""
    daemon = make_daemon("1 +")
    result = run("-c", daemon.config, "-r", daemon.procedures)
    assert result.returncode == 1
    assert "SyntaxError" in result.stderr


def test_procedures_that_load_too_long(make_daemon: StartDaemon) -> None:
    """A file that does not load within its time is broken."""
    daemon = make_daemon("import time\ntime.sleep(600)", limits={"load_time": 1})
    result = checked(daemon)
    assert result.returncode == 1
    assert "not loaded within 1 seconds" in result.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": None}, "network"),
        ({"network": {"port": 1}}, "network.certfile"),
        ({"authentication": None}, "authentication"),
        ({"authentication": {"module": "none"}}, "authentication.module"),
        ({"limits": {"calls": 0}}, "limits.calls"),
        ({"limits": {"calls": "many"}}, "limits.calls"),
        ({"limits": {"calls": True}}, "limits.calls"),
        ({"limits": {"callz": 1}}, "limits.callz"),
        ({"python": {"path": 1}}, "python.path"),
        ({"python": {"path": {"before": "x"}}}, "python.path.before"),
        ({"python": {"paths": "x"}}, "python.paths"),
        ({"more": 1}, "more"),
    ],
)
def test_check_of_wrong_configurations(
    make_daemon: StartDaemon, change: dict[str, Any], said: str
) -> None:
    """A wrong configuration is refused, and the place is told."""
    daemon = make_daemon()
    daemon.settings.update(change)
    daemon.write()
    assert main(["--test", "-c", str(daemon.config)]) == 1
    with pytest.raises(ConfigError, match=said):
        users((config := read(daemon.config)).authentication, config.folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "a: [", "users: {a: 'plain:s3cret'", "\ta: 1", "1: 2", "\0"]
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    """What is no YAML mapping is refused, without its text."""
    path = tmp_path / "harpd.conf"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "s3cret" not in str(error.value)
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "absent")


def test_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no configuration yet, it is told what writes one."""
    path = tmp_path / "absent"
    assert main(["-c", str(path)], "holdfast agent") == 1
    said = capsys.readouterr().err
    assert f"{path}: No such file" in said
    assert "holdfast agent --init DIR" in said


def test_certificate_that_is_none(make_daemon: StartDaemon) -> None:
    """A certificate that cannot be used is refused."""
    daemon = make_daemon()
    for name in ("certfile", "keyfile"):
        before = daemon.settings["network"][name]
        for wrong in ("/nonexistent/file", str(daemon.procedures)):
            daemon.settings["network"][name] = wrong
            daemon.write()
            result = checked(daemon)
            assert result.returncode == 1
            assert wrong in result.stderr
        daemon.settings["network"][name] = before


def test_defaults(make_daemon: StartDaemon, tmp_path: Path) -> None:
    """What need not be said has the protocol's values; names are relative to the file's folder."""
    path = tmp_path / "harpd.conf"
    path.write_text(
        "network: {certfile: a.pem, keyfile: /b.pem}\n"
        "python: {path: lib}\n"
        "authentication: {module: inplace, users: {}}\n"
    )
    config = read(path)
    assert config.network.port == 4306
    assert config.network.address == ""
    assert config.network.certfile == tmp_path / "a.pem"
    assert config.network.keyfile == Path("/b.pem")
    assert config.prepend == (str(tmp_path / "lib"),)
    assert config.limits == Limits()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("lib", "lib"),
        (["absent", "lib"], "lib"),
        ({"prepend": ["lib"], "append": "other"}, "lib"),
        ({"append": ["other", "lib"]}, "other"),
    ],
)
def test_python_path(start_daemon: StartDaemon, tmp_path: Path, path: Any, found: str) -> None:
    """Procedures import from the folders of python.path, in their order."""
    folders = tmp_path / "daemon0"
    for name in ("lib", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "where.py").write_text(f"name = {name!r}")

    def absolute(names: Any) -> Any:
        if isinstance(names, str):
            return os.path.relpath(tmp_path / names, folders)
        if isinstance(names, list):
            return [absolute(one) for one in names]
        return {key: absolute(value) for key, value in names.items()}

    daemon = start_daemon(
        "import where\n"
        "from holdfast.jobs.procedures import procedure\n"
        "@procedure\n"
        "def name(): return where.name\n",
        python={"path": absolute(path)},
    )
    assert daemon.result("name") == found


def test_the_library_in_procedures(start_daemon: StartDaemon) -> None:
    """Procedures may use the whole library."""
    daemon = start_daemon(
        "import holdfast\n"
        "from holdfast import Cluster, Policy\n"
        "import holdfast.jobs\n"
        "from holdfast.jobs.procedures import procedure\n"
        "@procedure\n"
        "def names(): return [Cluster.__name__, holdfast.Policy is Policy, holdfast.__version__]\n"
    )
    import holdfast

    assert daemon.result("names") == ["Cluster", True, holdfast.__version__]


def test_reload(start_daemon: StartDaemon) -> None:
    """SIGHUP takes over procedures and users; a call that runs goes on with what it has."""
    daemon = start_daemon(
        "from holdfast.jobs.procedures import *\n"
        "import sys\n"
        "@streaming_procedure\n"
        "def old(path):\n"
        "    yield 'running'\n"
        "    with open(path) as file:\n"
        "        yield Result(file.read())\n"
    )
    fifo = daemon.folder / "fifo"
    os.mkfifo(fifo)
    before = daemon.parent
    with daemon.connect() as wire:
        wire.send(request("old", [str(fifo)]))
        wire.message()
        wire.message()
        daemon.settings["authentication"]["users"] = {"bob": "plain:n3w"}
        daemon.write(
            "from holdfast.jobs.procedures import *\n@procedure\ndef new(): return 'new'\n"
        )
        assert "with 1 procedures" in daemon.reload()
        new = {"user": "bob", "password": "n3w"}
        assert daemon.call("new", **new)[-1] == {"result": "new"}
        assert daemon.call("old", **new)[-1]["error"]["type"] == "no_such_procedure"
        assert daemon.call("new")[-1]["error"]["type"] == "auth_error"
        fifo.write_text("the end")
        assert wire.message() == {"result": "the end"}
    wait_for_exit(before)


def test_reload_of_what_is_broken(start_daemon: StartDaemon) -> None:
    """What is broken is logged, and everything goes on as before."""
    daemon = start_daemon()
    whole = daemon.procedures.read_text()
    daemon.write("1 +")
    assert "SyntaxError" in daemon.reload()
    assert daemon.result("echo", [1]) == 1
    daemon.config.write_text("network: [")
    assert "not YAML" in daemon.reload()
    assert daemon.result("echo", [2]) == 2
    daemon.settings["network"]["certfile"] = "/nonexistent"
    daemon.write(whole)
    assert "/nonexistent" in daemon.reload()
    assert daemon.result("echo", [3]) == 3
    daemon.settings["network"]["certfile"] = str(daemon.certfile)
    daemon.write(whole)
    assert "procedures" in daemon.reload()
    assert daemon.result("echo", [4]) == 4


def test_reloads_drop_no_call(start_daemon: StartDaemon) -> None:
    """Calls that are made while the daemon reloads, again and again, are all answered."""
    daemon = start_daemon()
    start = len(daemon.log)
    number = 0
    while sum("reloaded" in line for line in daemon.log[start:]) < 5:
        if number % 10 == 0:
            daemon.signal(signal.SIGHUP)
        assert daemon.result("echo", [number]) == number
        number += 1


def test_pidfile(start_daemon: StartDaemon, make_daemon: StartDaemon, tmp_path: Path) -> None:
    """The file names the process; a second daemon does not start; in the end it is gone."""
    path = tmp_path / "harpd.pid"
    path.write_text("1\n")  # left by a crash
    daemon = start_daemon(options=["--pidfile", str(path)])
    assert path.read_text() == f"{daemon.process.pid}\n"
    second = make_daemon()
    result = run("-c", second.config, "-r", second.procedures, "-p", path)
    assert result.returncode == 1
    assert f"as process {daemon.process.pid}" in result.stderr
    assert path.exists()
    daemon.stop()
    assert not path.exists()


def test_pidfile_is_locked(tmp_path: Path) -> None:
    """The lock is released with the file, and a link is not followed."""
    path = tmp_path / "pid"
    first = Pidfile(path)
    first.acquire()
    with pytest.raises(ConfigError, match=str(os.getpid())):
        Pidfile(path).acquire()
    with path.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    first.release()
    Pidfile(path).release()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(ConfigError):
        Pidfile(tmp_path / "link").acquire()
    with pytest.raises(ConfigError):
        Pidfile(tmp_path / "absent" / "pid").acquire()


LOGGING = """\
version: 1
formatters: {{plain: {{format: "%(message)s"}}}}
handlers: {{file: {{class: logging.FileHandler, filename: {path}, formatter: plain}}}}
root: {{level: INFO, handlers: [file]}}
"""


def test_background(make_daemon: StartDaemon, tmp_path: Path) -> None:
    """--daemon returns when the daemon listens, which has no terminal and runs by itself."""
    daemon = make_daemon()
    log, logging, pidfile = (tmp_path / name for name in ("log", "logging.yaml", "pid"))
    logging.write_text(LOGGING.format(path=log))
    options: list[str | Path] = [
        "-c",
        daemon.config,
        "-r",
        daemon.procedures,
        "-l",
        logging,
        "-p",
        pidfile,
    ]
    result = run(*options, "--daemon")
    assert result.returncode == 0, result.stderr
    pid = int(pidfile.read_text())
    try:
        daemon.port = int(log.read_text().partition("listening on 127.0.0.1:")[2].split(",")[0])
        assert daemon.result("echo", ["from the background"]) == "from the background"
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/fd/2") == "/dev/null"
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        again = run(*options, "--daemon")
        assert again.returncode == 1
        assert "runs already" in again.stderr
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for_exit(pid)
    assert not pidfile.exists()
    assert "stopped" in log.read_text()


def test_background_that_fails(make_daemon: StartDaemon, tmp_path: Path) -> None:
    """--daemon says what is wrong, where it was started."""
    daemon = make_daemon("1 +")
    logging = tmp_path / "logging.yaml"
    logging.write_text(LOGGING.format(path=tmp_path / "log"))
    result = run("-c", daemon.config, "-r", daemon.procedures, "-l", logging, "-d")
    assert result.returncode == 1
    assert "SyntaxError" in result.stderr


def test_logging(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A file says where the log goes; SIGHUP reads it again, so that logs can be rotated."""
    logging = tmp_path / "logging.yaml"
    first, second = tmp_path / "first", tmp_path / "second"
    both = (
        "handlers:\n"
        "  file: {{class: logging.FileHandler, filename: {path}}}\n"
        "  terminal: {{class: logging.StreamHandler}}\n"
        "root: {{level: INFO, handlers: [file, terminal]}}\n"
    )
    logging.write_text(both.format(path=first))
    daemon = start_daemon(options=["-l", str(logging)])
    assert "listening" in first.read_text()
    logging.write_text(both.format(path=second))
    daemon.reload()
    daemon.result("nothing")
    assert "nothing" in second.read_text()
    assert ": nothing, process" not in first.read_text()


@pytest.mark.parametrize("text", ["[", "1", "version: 7", "handlers: {x: {class: no.Such}}"])
def test_wrong_logging(make_daemon: StartDaemon, tmp_path: Path, text: str) -> None:
    """A wrong file for the log is refused."""
    daemon = make_daemon()
    logging = tmp_path / "logging.yaml"
    logging.write_text(text)
    result = checked(daemon, "-l", str(logging))
    assert result.returncode == 1
    assert str(logging) in result.stderr


def test_address_in_use(start_daemon: StartDaemon, make_daemon: StartDaemon) -> None:
    """An address that another process has is told."""
    first = start_daemon()
    second = make_daemon()
    second.settings["network"]["port"] = first.port
    second.write()
    result = run("-c", second.config, "-r", second.procedures)
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{first.port}" in result.stderr


def test_every_address(start_daemon: StartDaemon, make_daemon: StartDaemon) -> None:
    """An empty address listens on all of them."""
    daemon = make_daemon()
    daemon.settings["network"]["address"] = ""
    daemon.write()
    daemon.start()
    assert daemon.result("nothing") is None


def test_init(tmp_path: Path) -> None:
    """What --init writes works as it is, and the certificate can be verified."""
    folder = tmp_path / "new" / "harpd"
    result = run("--init", folder)
    assert result.returncode == 0, result.stderr
    password = result.stdout.partition("password ")[2].split()[0]
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes["harpd.key.pem"] == modes["users"] == 0o600
    assert all(password not in path.read_text() for path in folder.iterdir())
    settings = yaml.safe_load((folder / "harpd.conf").read_text())
    settings["network"]["port"] = 0
    (folder / "harpd.conf").write_text(yaml.safe_dump(settings))
    files = folder / "harpd.cert.pem", folder / "harpd.key.pem"
    procedures = (folder / "procedures.py").read_text()
    config = (folder / "harpd.conf").read_text()
    daemon = Daemon(folder, files, procedures)
    daemon.config.write_text(config)
    daemon.start()
    try:
        auth = {"user": "admin", "password": password}
        assert daemon.call("hello", ["you"], **auth)[-1]["result"].startswith("Hello, you,")
        assert daemon.call("uptime", **auth)[-1]["result"] > 0
        messages = daemon.call("count", {"to": 2, "pause": 0}, **auth)
        assert messages[1:] == [
            {"stream": {"number": 0}},
            {"stream": {"number": 1}},
            {"result": 2},
        ]
        with daemon.connect() as wire:
            assert wire.socket.cipher() is not None
            certificate = ssl.DER_cert_to_PEM_cert(wire.socket.getpeercert(True) or b"")
            assert certificate.strip() == daemon.certfile.read_text().strip()
    finally:
        daemon.stop()


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """Where one of the files is there, nothing is written."""
    (tmp_path / "users").symlink_to(tmp_path / "nowhere")
    result = run("--init", tmp_path)
    assert result.returncode == 1
    assert "users" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["users"]


def account_file(**procedures: dict[str, Any]) -> str:
    """Return procedures that tell whom they run as, by their names and options."""
    text = "from holdfast.jobs.procedures import procedure\nimport os\n"
    for name, options in procedures.items():
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        text += (
            f"@procedure({given})\n"
            f"def {name}():\n"
            "    return [os.getresuid(), os.getresgid(), sorted(os.getgroups())]\n"
        )
    return text


def account(uid: int, gid: int, *groups: int) -> Any:
    """Return what such a procedure tells."""
    return [[uid] * 3, [gid] * 3, list(groups)]


@ROOT
def test_accounts(start_daemon: StartDaemon) -> None:
    """A call runs as the user and the groups that its procedure names."""
    daemon = start_daemon(
        account_file(
            by_name={"uid": "nobody"},
            by_number={"uid": 65534},
            with_group={"uid": "nobody", "gid": "daemon"},
            with_groups={"uid": 12345, "gid": [7, "daemon", 65534]},
            group_only={"gid": 8},
        )
    )
    assert daemon.result("by_name") == account(65534, 65534, 65534)
    assert daemon.result("by_number") == account(65534, 65534, 65534)
    assert daemon.result("with_group") == account(65534, 1, 1)
    assert daemon.result("with_groups") == account(12345, 7, 1, 7, 65534)
    assert daemon.result("group_only") == account(0, 8, 8)


@ROOT
@pytest.mark.parametrize(
    ("options", "default", "root"),
    [
        (["-u", "nobody"], account(65534, 65534, 65534), account(0, 0, 0)),
        (["-u", "65534", "-g", "daemon"], account(65534, 1, 1), account(0, 1, 1)),
    ],
)
def test_default_accounts(
    start_daemon: StartDaemon, options: list[str], default: Any, root: Any
) -> None:
    """The command line names the user and the group of procedures that do not."""
    daemon = start_daemon(account_file(default={}, root={"uid": "root"}), options=options)
    assert daemon.result("default") == default
    assert daemon.result("root") == root


@ROOT
def test_another_user_can_be_cancelled(start_daemon: StartDaemon) -> None:
    """A process of another user is ended like any other."""
    daemon = start_daemon(options=["-u", "nobody"])
    with daemon.connect() as wire:
        wire.send(request("stubborn"))
        wire.message()
        pids = wire.message()["stream"]
        wire.close()
        for pid in pids:
            wait_for_exit(pid)


@ROOT
def test_without_the_right_to_change() -> None:
    """Who is not the superuser becomes nobody else, but may be told to be who they are."""
    code = (
        "import os\n"
        "from holdfast.jobs.agent.accounts import Account, become, permitted\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "assert permitted(Account(65534, 65534, (65534,)))\n"
        "become(Account(65534, 65534, (65534,)))\n"
        "assert not permitted(Account(0, 0, (0,)))\n"
        "try: become(Account(1, 65534, (65534,)))\n"
        "except PermissionError: print('refused')\n"
    )
    result = subprocess.run([COMMAND[0], "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert result.stdout == "refused\n", result.stderr


def test_account_that_cannot_be_had(start_daemon: StartDaemon) -> None:
    """A call that cannot become its user is not run as anybody else."""
    daemon = start_daemon(
        account_file(whoami={"uid": "nobody"}) + "from holdfast.jobs.agent import child\n"
        "def refused(account): raise PermissionError(1, 'not permitted')\n"
        "child.become = refused\n"
    )
    messages = daemon.call("whoami")
    assert len(messages) == 1
    assert messages[0]["error"]["type"] == "system_error"


def test_syslog(make_daemon: StartDaemon, tmp_path: Path) -> None:
    """--syslog logs to the system's socket, and says so where there is none."""
    import socket

    daemon = make_daemon()
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(path))
        syslog.settimeout(LIMIT)
        code = (
            "import sys; from holdfast.jobs.agent import logs, command;"
            "logs.SYSLOG_SOCKETS = (sys.argv.pop(1),);"
            "sys.exit(command.main(sys.argv[1:]))"
        )
        options = [str(one) for one in ("-c", daemon.config, "-r", daemon.procedures, "--syslog")]
        command = [COMMAND[0], "-c", code]
        process = subprocess.Popen([*command, str(path), *options])
        try:
            said = syslog.recv(4096).decode()
            assert f"harpd[{process.pid}]: " in said
            assert "listening on" in said
        finally:
            process.terminate()
            assert process.wait(LIMIT) == 0
    result = subprocess.run(
        [*command, str(tmp_path / "absent"), *options],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert result.returncode == 1
    assert "syslog" in result.stderr


def test_log_of_calls(daemon: Daemon) -> None:
    """The log says who called what, and how it ended when that matters."""
    daemon.call("nothing")
    daemon.logged(r"call \d+: 'ann' from 127\.0\.0\.1:\d+: nothing, process \d+")
    daemon.call("fails", ["x"])
    daemon.logged(r"call \d+: 'ann' from .*: fails, exception after")
    daemon.call("nothing", user="a\nforged line", password="wrong")
    daemon.logged(r"call \d+: 'a\\nforged line' from .*, auth_error")
    until(lambda: any("auth_error" in line for line in daemon.log))
    assert not any("s3cret" in line or "wrong-" in line for line in daemon.log)
    assert json.dumps(daemon.log)
