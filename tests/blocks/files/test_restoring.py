"""Files are restored: what is there already, what is in the way, and where nothing may go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.blocks.errors import KeepReadError, NotFoundError
from holdfast.blocks.files import FilesError, Progress
from holdfast.blocks.files.destination import Destination, is_part
from holdfast.blocks.locators import EMPTY
from tests.blocks.client.clients import locator
from tests.blocks.files.conftest import Store, Tree, read, some_tree

Write = Callable[[Tree], Path]


class Interrupted(Exception):
    pass


def parts_below(root: Path) -> list[Path]:
    """Return the files that are not complete."""
    return [path for path in root.rglob(".*") if is_part(path.name)]


def test_again(store: Store, write: Write, tmp_path: Path) -> None:
    """What is there and right is not fetched, and not touched."""
    tree = some_tree()
    put = store.put(f"{write(tree)}/")
    back = tmp_path / "back"
    store.get(put.locator, back)
    before = {path: path.stat().st_ino for path in back.rglob("*")}
    assert store.get(put.locator, back).fetched == 0
    assert {path: path.stat().st_ino for path in back.rglob("*")} == before
    # A file less, which was in a block with others: only that block is fetched.
    (back / "deep/er/x").unlink()
    shutil.rmtree(back / "none")
    got = store.get(put.locator, back)
    assert 0 < got.fetched < 1000
    assert read(back) == tree


@pytest.mark.parametrize("parallel", [1, 4])
def test_interrupted(store: Store, write: Write, tmp_path: Path, parallel: int) -> None:
    """A get that was interrupted goes on where it was, and believes nothing unchecked."""
    tree = {"large": os.urandom(20_500), "small": os.urandom(300), "other": os.urandom(400)}
    put = store.put(f"{write(tree)}/")
    back = tmp_path / "back"

    def interrupt(progress: Progress) -> None:
        if progress.done >= 8000:
            raise Interrupted

    with pytest.raises(Interrupted):
        store.get(put.locator, back, parallel=parallel, progress=interrupt)
    assert not (back / "large").exists()
    (part,) = parts_below(back)
    data = bytearray(part.read_bytes())
    data[1500] ^= 1
    part.write_bytes(data + b"too long")
    got = store.get(put.locator, back, parallel=parallel)
    assert got.fetched_blocks <= 22 - 7
    assert read(back) == tree


def test_something_in_the_way(store: Store, write: Write, tmp_path: Path) -> None:
    """Another file is replaced only when that is asked for, and something else never."""
    tree = {"a": os.urandom(2500), "b": b"22", "c/d": b"3"}
    put = store.put(f"{write(tree)}/")
    back = tmp_path / "back"
    back.mkdir()
    (back / "a").write_bytes(tree["a"][:1000] + bytes(1500))
    with pytest.raises(FilesError, match="another file is there"):
        store.get(put.locator, back)
    (back / "b").write_bytes(b"1")
    with pytest.raises(FilesError, match=r"nothing was restored.*b: another file is there"):
        store.get(put.locator, back)
    got = store.get(put.locator, back, overwrite=True)
    assert got.fetched < 2000  # the first block of it was right
    assert read(back) == tree
    (back / "b").unlink()
    (back / "b").mkdir()
    with pytest.raises(FilesError, match="b: something else is there"):
        store.get(put.locator, back, overwrite=True)


def stored(store: Store, text: str) -> str:
    """Store a manifest of anybody's, and return its locator."""
    for service in store.services:
        assert service.put(b"evil").status == 200
        assert service.put(text.encode()).status == 200
    return locator(text.encode())


EVIL = locator(b"evil")


def test_links_in_the_way(store: Store, tmp_path: Path) -> None:
    """Nothing is written through links below the folder, whatever they lead to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    back = tmp_path / "back"
    back.mkdir()
    (back / "link").symlink_to(outside)
    (back / "file").symlink_to(outside / "kept")
    for text in (
        f"./link {EVIL} 0:4:new\n",
        f"./link {EVIL} 0:4:kept\n",
        f"./link/deeper {EVIL} 0:4:new\n",
        f"./link/empty {EMPTY} 0:0:\\056\n",
        f". {EVIL} 0:4:file\n",
    ):
        with pytest.raises(FilesError, match="in the way"):
            store.get(stored(store, text), back, overwrite=True)
    assert read(outside) == {"kept": b"kept"}
    # The folder itself may be a link.
    store.get(stored(store, f". {EVIL} 0:4:new\n"), back / "link")
    assert read(outside) == {"kept": b"kept", "new": b"evil"}


def test_link_put_meanwhile(tmp_path: Path) -> None:
    """A link that takes a folder's place while files are restored is not followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    destination = Destination(tmp_path / "back")
    destination.make("a/b")
    (tmp_path / "back/a/b").rmdir()
    (tmp_path / "back/a/b").symlink_to(outside)
    with pytest.raises(FilesError, match="in the way"), destination.open("a/b/c", True, make=True):
        pass
    with pytest.raises(FilesError, match="in the way"):
        destination.finish("a/b/c", False)
    destination.close()
    with pytest.raises(FilesError, match="given up"):
        destination.make("d")
    assert read(outside) == {}


def test_part_that_is_elsewhere(store: Store, tmp_path: Path) -> None:
    """What has the name of an incomplete file, but is another one's second name, is not written."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept")
    destination = Destination(tmp_path / "back")
    with destination.open("new", True, make=True):
        (part,) = parts_below(tmp_path / "back")
    destination.close()
    name = stored(store, f". {EVIL} 0:4:new\n")
    part.unlink()
    part.hardlink_to(outside)
    with pytest.raises(FilesError, match="no get has left this"):
        store.get(name, tmp_path / "back")
    part.unlink()
    os.mkfifo(part)
    with pytest.raises(FilesError, match="no get has left this"):
        store.get(name, tmp_path / "back")
    assert outside.read_bytes() == b"kept"


def test_reserved_name(store: Store, tmp_path: Path) -> None:
    """A manifest cannot name what is written while files are not complete."""
    text = f". {EVIL} 0:4:.0123456789abcdef0123.holdfast-part\n"
    with pytest.raises(FilesError, match="not complete"):
        store.get(stored(store, text), tmp_path / "back")


def test_parts_of_blocks(store: Store, tmp_path: Path) -> None:
    """Files may take parts of blocks, in any order, more than once, and over several blocks."""
    text = f". {EVIL} {EMPTY} {EVIL} 2:2:a 0:2:a 0:8:b 3:2:c 0:0:d 1:1:e\n./x {EVIL} 0:4:f 0:4:f\n"
    name = stored(store, text)
    store.get(name, tmp_path / "back")
    tree = {
        "a": b"iled"[:0] + b"ilev",
        "b": b"evilevil",
        "c": b"le",
        "d": b"",
        "e": b"v",
        "x/f": b"evilevil",
    }
    assert read(tmp_path / "back") == tree
    assert store.get(name, tmp_path / "back").fetched == 0
    (tmp_path / "back/b").unlink()
    (tmp_path / "back/x/f").unlink()
    store.get(name, tmp_path / "back")
    assert read(tmp_path / "back") == tree


def test_long_name(store: Store, write: Write, tmp_path: Path) -> None:
    """A name may be as long as names can be."""
    tree = {"ä" * 127 + "x": b"1", "d" * 255 + "/" + "f" * 255: b"2"}
    put = store.put(f"{write(tree)}/")
    store.get(put.locator, tmp_path / "back")
    assert read(tmp_path / "back") == tree


def test_one_at_a_time(store: Store, write: Write, tmp_path: Path) -> None:
    """Two gets into one folder at the same time do not disturb each other: one is refused."""
    put = store.put(write({"a": b"1"}))
    other = Destination(tmp_path / "back")
    with pytest.raises(FilesError, match="something else is being restored there"):
        store.get(put.locator, tmp_path / "back")
    other.close()
    store.get(put.locator, tmp_path / "back")


def test_too_large(
    store: Store, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot fit on the disk is told before anything is fetched."""
    put = store.put(write({"a": bytes(2000)}))
    monkeypatch.setattr(Destination, "free", lambda _: 1999)
    with pytest.raises(FilesError, match="2,000 bytes more are needed, and 1,999 are free"):
        store.get(put.locator, tmp_path / "back")
    assert read(tmp_path / "back") == {}


def test_missing_block(store: Store, write: Write, tmp_path: Path) -> None:
    """A block that no service has ends it; what is complete by then stays, and nothing is half."""
    tree = {"a": b"1" * 1000, "b": b"2" * 2000, "c": b"3" * 1000}
    put = store.put(f"{write(tree)}/", copies=1)
    gone = locator(b"2" * 1000)
    for number in store.copies(gone):
        store.remove(number, gone)
    with pytest.raises(NotFoundError):
        store.get(put.locator, tmp_path / "back", parallel=1)
    assert {path: data for path, data in read(tmp_path / "back").items() if path in tree} == {
        "a": tree["a"]
    }


def test_corrupt_copies(store: Store, write: Write, tmp_path: Path) -> None:
    """A corrupt copy is no answer: another one is fetched, and without one it is an error."""
    tree = {"a": os.urandom(1000)}
    put = store.put(f"{write(tree)}/", copies=2)
    name = locator(tree["a"])
    first, second = store.copies(name)
    store.damage(first, name)
    store.get(put.locator, tmp_path / "back")
    assert read(tmp_path / "back") == tree
    store.damage(second, name)
    with pytest.raises(KeepReadError):
        store.get(put.locator, tmp_path / "other")


def test_no_folder(store: Store, write: Write, tmp_path: Path) -> None:
    """A destination that cannot be a folder is told."""
    put = store.put(write({"a": b"1"}))
    with pytest.raises(FilesError, match="cannot be used"):
        store.get(put.locator, tmp_path / "data" / "a")
