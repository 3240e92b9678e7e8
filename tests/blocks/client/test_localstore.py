"""Blocks as files in a local folder, instead of services."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.blocks.errors import ArgumentError, KeepReadError, KeepWriteError, NotFoundError
from tests.blocks.client.clients import Api, item, md5
from tests.blocks.client.conftest import StartClient

NAME = md5(b"foo")


def test_put_get_head(start: StartClient, tmp_path: Path) -> None:
    """Blocks are files named by their hashes, and no service is needed."""
    client = start(local_store=str(tmp_path))
    assert client.put(b"foo", copies=3, num_retries=2) == f"{NAME}+3"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert client.get(f"{NAME}+3") == b"foo"
    assert client.get(NAME) == b"foo"
    assert client.head(f"{NAME}+3+Kx") is True
    other = client.local_store_put("füü")
    assert client.local_store_get(other) == "füü".encode()
    assert (
        client.get(f"{NAME}+3,{other},d41d8cd98f00b204e9800998ecf8427e+0")
        == b"foof\xc3\xbc\xc3\xbc"
    )
    assert client.local_store_head(other) is True
    client.block_prefetch(other)
    assert str(tmp_path) in repr(client.keep)


def test_where_it_is(start: StartClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder comes from the environment as well; an empty string is none."""
    monkeypatch.setenv("KEEP_LOCAL_STORE", str(tmp_path))
    start().put(b"foo")
    assert (tmp_path / NAME).read_bytes() == b"foo"
    client = start(Api([item(1, "10.0.0.1")]), local_store="")
    assert client.keep.local_store == ""
    with pytest.raises(ArgumentError):
        client.local_store_get(f"{NAME}+3")


def test_what_is_not_there(start: StartClient, tmp_path: Path) -> None:
    """A missing block, a damaged one, and what is no locator are errors."""
    client = start(local_store=tmp_path)
    for method in ("get", "head"):
        with pytest.raises(NotFoundError):
            client.call(method, f"{NAME}+3")
        with pytest.raises(ValueError, match="not a locator"):
            client.call(method, "../etc/passwd")
    (tmp_path / NAME).write_bytes(b"fox")
    with pytest.raises(KeepReadError, match="damaged"):
        client.get(f"{NAME}+3")
    (tmp_path / NAME).write_bytes(b"foo")
    with pytest.raises(KeepReadError, match="damaged"):
        client.get(f"{NAME}+4")


def test_a_folder_that_is_not_there(start: StartClient, tmp_path: Path) -> None:
    """A block that cannot be stored is an error of writing."""
    client = start(local_store=tmp_path / "none")
    with pytest.raises(KeepWriteError, match="No such file"):
        client.put(b"foo")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeepReadError):
        start(local_store=tmp_path / "file").get(f"{NAME}+3")
