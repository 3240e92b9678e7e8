"""The command: its options, the configuration, and what it writes to begin with."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.blocks.server.command import main
from holdfast.blocks.server.config import DEFAULT, ConfigError, read
from holdfast.blocks.server.remotes import Remote
from tests.blocks.server.services import Process, locator


def test_data(tmp_path: Path) -> None:
    """With a folder or several, a service runs, and says where; SIGTERM stops it."""
    folders = [tmp_path / "a", tmp_path / "b"]
    data = ("--data", folders[0], "--data", folders[1])
    with Process(*data, "--port", "0", "--copies", "2", "--no-fsync") as service:
        assert service.url.startswith("http://127.0.0.1:")
        assert service.put(b"foo").headers["X-Keep-Replicas-Stored"] == "2"
        assert len(json.loads(service.request("GET", "/mounts").body)) == 2
        assert service.stop() in (0, -signal.SIGTERM)
    with Process("--data", folders[1], "--port", "0") as service:
        assert service.get(locator(b"foo")).body == b"foo"


def test_ipv6(tmp_path: Path) -> None:
    """A service may listen on IPv6."""
    with Process("--data", tmp_path, "--port", "0", "--address", "::1") as service:
        assert service.url.startswith("http://[::1]:")
        assert service.put(b"foo").status == 200


def test_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new configuration can be read by its owner alone, has fresh secrets, and works."""
    path = tmp_path / "new" / "blockd.toml"
    data = str(tmp_path / 'a "quoted" folder')
    arguments = ["--init", "--config", str(path), "--data", data, "--port", "0"]
    assert main(arguments) == 0
    written = capsys.readouterr().out
    token = re.search(r"ARVADOS_API_TOKEN=(\S+)", written)
    assert token is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token[1] not in path.read_text()
    config = read(path)
    assert [str(volume.path) for volume in config.volumes] == [data]
    assert config.signing_key == ""  # what signs expires, and so does what is kept
    assert len(config.system_token) >= 40
    assert config.system_token not in repr(config)
    assert (config.fsync, config.trash, config.scrub_rate) == (
        DEFAULT.fsync,
        DEFAULT.trash,
        DEFAULT.scrub_rate,
    )
    # Never over one that is there.
    assert main(arguments) == 1
    assert "already" in capsys.readouterr().err
    with Process("--config", path) as service:
        locator = service.put(b"foo", token[1]).text.strip()
        assert "+A" not in locator
        assert service.get(locator, token[1]).body == b"foo"
        assert service.get(locator).status == 401
        assert service.put(b"foo", "other").status == 403
        assert service.request("GET", "/index", token=config.system_token).status == 200


def test_commented_values_are_the_defaults(tmp_path: Path) -> None:
    """What the new configuration shows in comments is what holds without it."""
    path = tmp_path / "blockd.toml"
    assert main(["--init", "--config", str(path)]) == 0
    before = read(path)
    lines = []
    for line in path.read_text().splitlines():
        comment = re.match(r"# ([a-z_]+ = [^#]*)", line)
        shown = comment[1] if comment else line
        # What is an example, not a default.
        if not shown.startswith(("certfile", "keyfile", "url", "token =")):
            lines.append(shown)
    path.write_text("\n".join(lines))
    assert read(path) == before


def test_full_configuration(tmp_path: Path) -> None:
    """Every setting is read."""
    (tmp_path / "blockd.toml").write_text(
        """
        [network]
        address = "0.0.0.0"
        port = 1
        certfile = "cert.pem"
        keyfile = "/key.pem"
        [access]
        signing_key = "a key"
        signature_ttl = 60
        system_token = "system"
        tokens = ["one", "two", "one"]
        [storage]
        fsync = false
        copies = 2
        [[volume]]
        path = "blocks"
        uuid = "abcde-nyw5e-000000000000001"
        read_only = true
        storage_classes = ["fast", "default"]
        replication = 3
        [[volume]]
        path = "/more"
        [trash]
        enabled = false
        lifetime = 0
        [scrub]
        rate = 0.5
        pause = 1
        [remotes.abcde]
        url = "https://keep.abcde.example/"
        token = "theirs"
        [limits]
        threads = 4
        idle_timeout = 5.5
        grace = 0
        connections = 10
        """
    )
    config = read(tmp_path / "blockd.toml")
    assert (config.address, config.port) == ("0.0.0.0", 1)
    assert (config.certfile, config.keyfile) == (tmp_path / "cert.pem", Path("/key.pem"))
    assert (config.signing_key, config.signature_ttl) == ("a key", 60)
    assert (config.system_token, config.tokens) == ("system", ("one", "two"))
    assert (config.fsync, config.copies) == (False, 2)
    first, second = config.volumes
    assert (first.path, first.uuid) == (tmp_path / "blocks", "abcde-nyw5e-000000000000001")
    assert (first.read_only, first.classes, first.replication) == (True, ("fast", "default"), 3)
    assert (second.path, second.read_only, second.classes) == (Path("/more"), False, ("default",))
    assert (config.trash, config.trash_lifetime) == (False, 0)
    assert (config.scrub_rate, config.scrub_pause) == (512 * 1024, 1)
    assert config.remotes == {"abcde": Remote("https://keep.abcde.example", "theirs")}
    assert (config.threads, config.idle_timeout) == (4, 5.5)
    assert (config.grace, config.connections) == (0, 10)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[network]\nport = 70000", "network.port"),
        ("[network]\nport = true", "network.port"),
        ("[network]\nprot = 1", "network.prot"),
        ('[network]\nkeyfile = "x"', "certfile"),
        ("network = 1", "network"),
        ("[nonsense]", "nonsense"),
        ("volume = 1", "volume"),
        ("[[volume]]", "volume[0].path"),
        ('[[volume]]\npath = "x"\nuuid = "y"', "volume[0].uuid"),
        ('[[volume]]\npath = "x"\nstorage_classes = ["a b"]', "storage_classes"),
        ('[[volume]]\npath = "x"\nstorage_classes = []', "storage_classes"),
        ('[access]\ntokens = ["a b"]', "tokens"),
        ('[access]\ntokens = ["sha256:00"]', "tokens"),
        ("[storage]\nfsync = 1", "fsync"),
        ("[storage]\ncopies = 0", "copies"),
        ("[remotes.abc]", "remotes.abc"),
        ('[remotes.abcde]\nurl = "ftp://x"', "remotes.abcde.url"),
        ("[limits", "TOML"),
        ("[scrub]\nrate = nan", "scrub.rate"),
    ],
)
def test_wrong_configuration(tmp_path: Path, text: str, named: str) -> None:
    """An error names the file and what is wrong in it."""
    path = tmp_path / "blockd.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(named)) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--data"),
        (["--config", "absent.toml"], "absent.toml"),
        (["--data", "x", "--port", "70000"], "70000"),
        (["--data", "x", "--copies", "0"], "--copies"),
        (["--data", "x", "--address", "256.0.0.1"], "256.0.0.1"),
        (["--data", "/dev/null"], "/dev/null"),
    ],
)
def test_not_started(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
) -> None:
    """What cannot work ends the command with a line that says why."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("holdfast blockd: ")
    assert text in error


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_no_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    """A certificate that cannot be used is named."""
    path = tmp_path / "cert.pem"
    if content is not None:
        path.write_text(content)
    config = tmp_path / "blockd.toml"
    config.write_text('[network]\nport = 0\ncertfile = "cert.pem"\n[[volume]]\npath = "x"\n')
    for _ in range(2):  # what it had opened is free again
        assert main(["--config", str(config)]) == 1
        assert str(path) in capsys.readouterr().err


def test_folder_in_use(tmp_path: Path) -> None:
    """A second service on the same folder does not start."""
    with Process("--data", tmp_path, "--port", "0"):
        done = subprocess.run(
            [
                sys.executable,
                *("-m", "holdfast.blocks.server.command"),
                *("--data", str(tmp_path), "--port", "0"),
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "another service" in done.stderr
