"""Manifests and files of the Python client of Arvados: theirs are read here, and ours there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.blocks.manifests import build, parse
from holdfast.blocks.segments import Manifest, Segment
from tests.blocks.files.conftest import Store, Tree, read

keep = pytest.importorskip("arvados.keep", reason="arvados-python-client is not installed")
collection = pytest.importorskip("arvados.collection")

from tests.blocks.interop.test_arvados import TOKEN, client  # noqa: E402

Write = Callable[[Tree], Path]

# What their parser takes for white space is none of these names.
TREE: Tree = {
    "a": os.urandom(10),
    "b c\n:d\\": os.urandom(2500),
    "deep/er/x": os.urandom(700),
    "deep/er.z": os.urandom(1000),
    "deep/empty": b"",
    "none/": b"",
    "ünicode": b"1",
    "zeros": bytes(100_000),
}


class Api:
    """As much of an API object as a collection asks for."""

    api_token = TOKEN
    num_retries = 0
    insecure = False
    _rootDesc: dict[str, Any] = {}  # noqa: RUF012

    def config(self) -> dict[str, Any]:
        return {"StorageClasses": {"default": {"Default": True}}, "API": {}}


def theirs(text: str, keep_client: Any = None) -> Any:
    """Return a collection of theirs with this manifest."""
    return collection.Collection(text or None, api_client=Api(), keep_client=keep_client)


def written(store: Store, tree: Tree) -> Any:
    """Have them store files, and return their collection."""
    made = theirs("", client(store.services))
    for path, data in tree.items():
        if path.endswith("/"):
            made.mkdirs(path.rstrip("/"))
            continue
        with made.open(path, "wb") as file:
            file.write(data)
    return made


@pytest.mark.parametrize("signed", [False, True])
def test_ours_read_by_them(store: Store, signing: Store, write: Write, signed: bool) -> None:
    """What is put here, they find with all its names and contents."""
    store = signing if signed else store
    put = store.put(f"{write(TREE)}/", token=TOKEN)
    keep_client = client(store.services)
    text = b"".join(map(keep_client.get, put.locator.split(","))).decode()
    found = theirs(text, keep_client)
    tree: Tree = {}

    def walk(folder: Any, prefix: str) -> None:
        for name in folder:
            item = folder[name]
            if hasattr(item, "size"):
                with found.open(prefix + name, "rb") as file:
                    tree[prefix + name] = file.read()
            elif not len(item):
                tree[f"{prefix}{name}/"] = b""
            else:
                walk(item, f"{prefix}{name}/")

    walk(found, "")
    assert tree == TREE
    # It is normal already.
    assert found.manifest_text(normalize=True, strip=False) == text


@pytest.mark.parametrize("signed", [False, True])
def test_theirs_read_by_us(store: Store, signing: Store, tmp_path: Path, signed: bool) -> None:
    """What they have stored is restored here, verified, and read."""
    store = signing if signed else store
    made = written(store, TREE)
    text = made.manifest_text(normalize=signed)
    name = client(store.services).put(text.encode(), copies=2)
    store.get(name, tmp_path / "back", token=TOKEN)
    assert read(tmp_path / "back") == TREE
    assert store.verify(name, token=TOKEN).ok
    assert build(parse(text)).decode() == made.manifest_text(normalize=True)


def test_same_text() -> None:
    """A manifest has the same text by them and by us, also where files share and cross blocks."""
    a, b = f"{'a' * 32}+10", f"{'b' * 32}+5"
    manifest = Manifest(
        {
            "x/one": [Segment(a, 3, 7), Segment(b, 0, 5), Segment(a, 0, 2)],
            "x/two:": [Segment(b, 1, 1), Segment(b, 3, 1)],
            "x y/three": [],
            "three": [Segment(b, 0, 5), Segment(a, 0, 10)],
        },
        ["x/empty\\"],
    )
    text = build(manifest).decode()
    assert theirs(text).manifest_text(normalize=True, only_committed=True) == text
    other = f". {a} {b} 0:12:f 14:1:g 0:0:h 12:2:f\n./d {b} 0:5:sub/i\n"
    normal = theirs(other).manifest_text(normalize=True, only_committed=True)
    assert build(parse(other)).decode() == normal
