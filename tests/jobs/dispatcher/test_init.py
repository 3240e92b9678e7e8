"""What a new dispatcher begins with."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from holdfast.jobs.dispatcher.command import main
from holdfast.jobs.dispatcher.config import Config, load
from holdfast.jobs.dispatcher.registry import parse_host


def test_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The files are written once, are what a dispatcher takes, and nobody else reads the hosts."""
    folder = tmp_path / "new"
    assert main(["init", str(folder)]) == 0
    config = folder / "harpcallerd.toml"
    assert f"start --config {config}" in capsys.readouterr().out
    assert main(["start", "--test", "--config", str(config)]) == 0
    assert load(config).stream_directory == folder / "jobs"
    script = folder / "hosts"
    assert script.stat().st_mode & 0o777 == 0o700
    done = subprocess.run([script], capture_output=True, check=True, timeout=60)
    (line,) = done.stdout.splitlines()
    host = parse_host(line)
    assert host is not None
    assert (host.name, host.address) == ("web1", "127.0.0.1")

    before = config.read_bytes()
    assert main(["init", str(folder)]) == 1
    assert "already" in capsys.readouterr().err
    assert config.read_bytes() == before


def test_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no configuration yet, it is told what writes one."""
    path = tmp_path / "absent"
    assert main(["start", "--config", str(path)], "holdfast dispatcher") == 1
    said = capsys.readouterr().err
    assert f"{path}: No such file" in said
    assert "holdfast dispatcher init DIR" in said


def test_options_exist(tmp_path: Path) -> None:
    """What is commented out is an option; numbers and addresses are those that hold anyway."""
    main(["init", str(tmp_path / "new")])
    text = (tmp_path / "new" / "harpcallerd.toml").read_text()
    options = tomllib.loads(re.sub(r"(?m)^# (?=\w+ = )", "", text))
    assert options.keys() <= {one.name for one in fields(Config)} | {"tokens_file"}
    default = Config()
    assert options["listen"] == [str(one) for one in default.listen]
    numbers = {name: value for name, value in options.items() if isinstance(value, int)}
    del numbers["max_age"]  # none is the default
    assert numbers == {name: getattr(default, name) for name in numbers}
