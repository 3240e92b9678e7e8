"""The configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.jobs.dispatcher.config import Config, ConfigError, Listen, load, parse
from holdfast.jobs.dispatcher.rules import hash_token

HASH = hash_token("secret")


def test_defaults() -> None:
    """An empty configuration is one that harms nobody: it listens on loopback."""
    config = parse("")
    assert config == Config()
    assert config.listen == (Listen("127.0.0.1", 3502),)
    assert (config.default_timeout, config.max_exec_time) == (600, 600)
    assert (config.host_db_refresh, config.max_age) == (900, None)
    assert not config.secured
    assert config.exposed == ()
    assert parse('listen = ["127.0.0.2:1", "127.example.org:1"]').exposed == (
        Listen("127.example.org", 1),
    )


def test_everything(tmp_path: Path) -> None:
    """Every option is read; paths are relative to the file."""
    path = tmp_path / "dispatcher.toml"
    path.write_text(f"""
        listen = ["*:3502", "[::1]:0", "localhost:1"]
        ca_file = "ca.pem"
        known_certs_file = "/known.pem"
        stream_directory = "jobs"
        default_timeout = 5
        max_exec_time = 6
        max_age = 7
        host_db = "hosts"
        host_db_script = ["script", "argument"]
        host_db_refresh = 8
        certfile = "cert.pem"
        keyfile = "key.pem"
        client_ca_file = "clients.pem"
        log_level = "debug"
        [[token]]
        name = "web"
        hash = "{HASH}"
        hosts = ["web*"]
        [[certificate]]
        name = "app.example"
        procedures = ["read_*"]
    """)
    config = load(path)
    assert config.listen == (Listen("", 3502), Listen("::1", 0), Listen("localhost", 1))
    assert config.exposed == (Listen("", 3502),)
    assert [str(one) for one in config.listen] == ["*:3502", "[::1]:0", "localhost:1"]
    assert config.ca_file == tmp_path / "ca.pem"
    assert config.known_certs_file == Path("/known.pem")
    assert config.host_db_script == (str(tmp_path / "script"), "argument")
    assert config.log_level == "DEBUG"
    (token,), (certificate,) = config.tokens, config.certificates
    assert (token.name, token.hosts, token.procedures) == ("web", ("web*",), ("*",))
    assert (certificate.hosts, certificate.procedures) == (("*",), ("read_*",))
    assert config.secured
    assert HASH not in repr(config)


def test_tokens_file(tmp_path: Path) -> None:
    """Tokens may have a file of their own: one line turns them on."""
    (tmp_path / "tokens").write_text(f'[[token]]\nname = "a"\nhash = "{HASH}"\n')
    config = parse('tokens_file = "tokens"', tmp_path)
    assert [rule.name for rule in config.tokens] == ["a"]
    assert config.secured


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "not TOML"),
        ("x = 1", "unknown option 'x'"),
        ("tokens = 1", "unknown option 'tokens'"),
        ('listen = "127.0.0.1:1"', "listen must be a list"),
        ("listen = []", "listen must be a list"),
        ('listen = ["3502"]', "listen: '3502'"),
        ('listen = [":3502"]', "listen"),
        ('listen = ["*:65536"]', "listen"),
        ('listen = ["::1:3502"]', "listen"),
        ("listen = [1]", "listen"),
        ("max_connections = 0", "max_connections must be a positive number of clients"),
        ("default_timeout = 0", "default_timeout must be a positive number of seconds"),
        ("default_timeout = 1.5", "default_timeout must be"),
        ("default_timeout = true", "default_timeout must be"),
        ("max_exec_time = 99999999999999", "max_exec_time must be"),
        ('max_age = "1"', "max_age must be a positive number of hours"),
        ("ca_file = 1", "ca_file must be a path"),
        ('ca_file = ""', "ca_file must be a path"),
        ("host_db_script = []", "host_db_script must be"),
        ("verify_hostname = 1", "must be true or false"),
        ("verify_hostname = true", "verify_hostname needs ca_file"),
        ('log_level = "LOUD"', "log_level must be one of"),
        ('certfile = "x"', "certfile and keyfile belong together"),
        ('client_ca_file = "x"', "needs TLS"),
        ("[[certificate]]\nname = 'x'", "needs client_ca_file"),
        ("[token]\nname = 'x'", "must be tables"),
        ("[[token]]\nname = 'x'", "number 1: hash of 'x'"),
        ("[[token]]\nname = 'x'\nhash = 'secret-in-clear'", "must be sha256:"),
        (f"[[token]]\nhash = '{HASH}'", "name must be there"),
        (f"[[token]]\nname = 'x'\nhash = '{HASH}'\nhosts = 'web*'", "must be a list of globs"),
        (f"[[token]]\nname = 'x'\nhash = '{HASH}'\nhost = ['web*']", "unknown option 'host'"),
        (f"[[token]]\nname = 'x'\nhash = '{HASH}'\n" * 2, "two rules have the name 'x'"),
        ("tokens_file = 'none'", "tokens_file: cannot read"),
        ("token = []", "token: there is none"),
        ("tokens_file = 'empty'", "token: there is none"),
        ("certificate = []", "certificate: there is none"),
    ],
)
def test_errors(text: str, message: str, tmp_path: Path) -> None:
    """What is wrong is said with the name of the option, and without secrets."""
    (tmp_path / "empty").write_text("token = []")
    with pytest.raises(ConfigError) as caught:
        parse(text, tmp_path)
    assert message in str(caught.value)
    assert "secret-in-clear" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    """A file that cannot be read is named."""
    with pytest.raises(ConfigError, match="none"):
        load(tmp_path / "none")
    (tmp_path / "broken").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="broken"):
        load(tmp_path / "broken")
