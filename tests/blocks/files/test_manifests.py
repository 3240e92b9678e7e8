"""Manifests: their text, their laws, and what is none."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.blocks.locators import BLOCK
from holdfast.blocks.manifests import build, parse
from holdfast.blocks.segments import Manifest, ManifestError, Segment

EMPTY = "d41d8cd98f00b204e9800998ecf8427e+0"
A = "a" * 32 + "+10"
B = "b" * 32 + "+5+A" + "0" * 40 + "@7fffffff"
C = "c" * 32 + "+20+K@abcde"


def test_text() -> None:
    """The text is sorted, has each block of a folder once, and escapes what is no word."""
    manifest = Manifest(
        {
            "sub/z": [Segment(C, 5, 5)],
            "b c:d": [Segment(A, 8, 2), Segment(B, 0, 3)],
            "a": [Segment(A, 0, 4), Segment(A, 4, 4)],
            "empty": [],
            "parts": [Segment(B, 3, 2), Segment(A, 0, 1)],
            "sub-a/x": [],
        },
        ["none", "sub", "sub/deep\\er"],
    )
    assert build(manifest).decode().splitlines() == [
        f". {A} {B} 0:8:a 8:5:b\\040c\\072d 0:0:empty 13:2:parts 0:1:parts",
        f"./none {EMPTY} 0:0:\\056",
        f"./sub {C} 5:5:z",
        f"./sub/deep\\134er {EMPTY} 0:0:\\056",
        f"./sub-a {EMPTY} 0:0:x",
    ]
    assert parse(build(manifest)) == manifest
    assert manifest.size == 21
    assert manifest.size_of("b c:d") == 5
    assert manifest.locators() == [A, B, C]


def test_other_shapes() -> None:
    """Folders within names, a stream in several lines, and empty blocks are read, too."""
    text = (
        f"./x {EMPTY} {A} {EMPTY} {B} 8:4:y/f 0:0:y/\\056 0:0:e/\\056\n"
        f". {A} 0:1:x/y/f 0:0:\\056\n"
        f". {C} 0:2:g\n"
        f". {A} 1:1:g\n"
    )
    manifest = parse(text)
    assert manifest.files == {
        "g": (Segment(C, 0, 2), Segment(A, 1, 1)),
        "x/y/f": (Segment(A, 8, 2), Segment(B, 0, 2), Segment(A, 0, 1)),
    }
    assert manifest.folders == ("x/e",)
    assert build(manifest).decode() == (
        f". {C} {A} 0:2:g 21:1:g\n./x/e {EMPTY} 0:0:\\056\n./x/y {A} {B} 8:4:f 0:1:f\n"
    )
    assert parse("") == Manifest({})
    assert build(Manifest({})) == b""


def test_bytes_of_names() -> None:
    """Names that are not UTF-8, and spaces of other scripts, keep their bytes."""
    manifest = Manifest({"caf\udce9": [], "a\xa0b": [], "ü\u2028": []})
    text = build(manifest)
    assert text == f". {EMPTY} 0:0:a\\302\\240b 0:0:caf\\351 0:0:ü\\342\\200\\250\n".encode()
    assert parse(text) == manifest
    assert parse(f". {EMPTY} 0:0:".encode() + b"caf\xe9\n").files == {"caf\udce9": ()}
    with pytest.raises(ManifestError, match="cannot be encoded"):
        Manifest({"\ud800": []})
    with pytest.raises(ManifestError, match="cannot be encoded"):
        parse(f". {EMPTY} 0:0:\ud800\n")


WRONG = {
    ". ": (1, None),
    f". {A}": (1, None),
    "\n": (1, ""),
    f". {A}\n": (1, None),
    ". 0:0:a\n": (1, "0:0:a"),
    f". {A} 0:11:a\n": (1, "0:11:a"),
    f". {A} 11:0:a\n": (1, "11:0:a"),
    f". {A} 0:1:a\n. {A}  0:1:b\n": (2, ""),
    f". {A} 0:1:a {A}\n": (1, A),
    f". {A} 0:1:\n": (1, "0:1:"),
    f". {A} 0:1\n": (1, "0:1"),
    f". {A} -1:1:a\n": (1, "-1:1:a"),
    f". {A} ١:1:a\n": (1, "١:1:a"),
    f". {A} 0:{'9' * 30}:a\n": (1, f"0:{'9' * 30}:a"),
    f". {A[:32]} 0:0:a\n": (1, A[:32]),
    f". {A[:32]}+{BLOCK + 1} 0:0:a\n": (1, f"{A[:32]}+{BLOCK + 1}"),
    f". {A}+x 0:0:a\n": (1, f"{A}+x"),
    f". {A} 0:1:..\n": (1, "0:1:.."),
    f". {A} 0:1:.\n": (1, "0:1:."),
    f". {A} 0:1:\\056\\056\n": (1, "0:1:\\056\\056"),
    f". {A} 0:1:a/../b\n": (1, "0:1:a/../b"),
    f". {A} 0:1:a/./b\n": (1, "0:1:a/./b"),
    f". {A} 0:0:../.\n": (1, "0:0:../."),
    f". {A} 0:1:a//b\n": (1, "0:1:a//b"),
    f". {A} 0:1:/etc/passwd\n": (1, "0:1:/etc/passwd"),
    f". {A} 0:1:a/\n": (1, "0:1:a/"),
    f". {A} 0:1:a\\000b\n": (1, "0:1:a\\000b"),
    f". {A} 0:1:a\x00b\n": (1, "0:1:a\x00b"),
    f". {A} 0:1:a\tb\n": (1, "0:1:a\tb"),
    f". {A} 0:1:a\\9\n": (1, "0:1:a\\9"),
    f". {A} 0:1:a\\477\n": (1, "0:1:a\\477"),
    f". {A} 0:1:a\\\n": (1, "0:1:a\\"),
    f". {A} 0:1:a\r\n": (1, "0:1:a\r"),
    f"./.. {A} 0:1:a\n": (1, "./.."),
    f".. {A} 0:1:a\n": (1, ".."),
    f"/x {A} 0:1:a\n": (1, "/x"),
    f"x {A} 0:1:a\n": (1, "x"),
    f"./ {A} 0:1:a\n": (1, "./"),
    f".//x {A} 0:1:a\n": (1, ".//x"),
    f"./x/ {A} 0:1:a\n": (1, "./x/"),
    f"./x/./y {A} 0:1:a\n": (1, "./x/./y"),
    f"./x\\000 {A} 0:1:a\n": (1, "./x\\000"),
    f". {A} 0:1:a 0:1:a/b\n": (None, None),
    f". {A} 0:1:a\n./a {EMPTY} 0:0:\\056\n": (None, None),
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong(text: str) -> None:
    """An error names the line and the word."""
    with pytest.raises(ManifestError, match="not a manifest") as caught:
        parse(text)
    line, token = WRONG[text]
    assert (caught.value.line, caught.value.token) == (line, token)
    if line is not None:
        assert f"line {line}: " in str(caught.value)
    assert "\n" not in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_limits() -> None:
    """A short text that stands for very many parts is refused."""
    blocks = " ".join(f"{number:032x}+1" for number in range(1000))
    text = f". {blocks} " + " ".join("0:1000:a" for _ in range(1000)) + "\n"
    with pytest.raises(ManifestError, match="more than 10000 parts"):
        parse(text, segments=10_000)
    for nothing in ("0:0:%d", "0:0:%d/\\056"):  # a file, or a folder, that is empty is one, too
        text = f". {EMPTY} " + " ".join(nothing % number for number in range(11)) + "\n"
        parse(text, segments=11)
        with pytest.raises(ManifestError, match="more than 10 parts"):
            parse(text, segments=10)


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        ({"a": [Segment(A, 5, 6)]}, []),
        ({"a": [Segment(A, -1, 1)]}, []),
        ({"a": [Segment("x", 0, 1)]}, []),
        ({"a": [], "a/b": []}, []),
        ({"a": [], "a.b": [], "a/b": []}, []),
        ({"a": []}, ["a"]),
        ({"a": []}, ["a/b"]),
        ({"../a": []}, []),
        ({"": []}, []),
        ({}, [".."]),
        ({"\udcc3\udca9": [], "é": []}, []),
    ],
)
def test_no_files(files: dict[str, list[Segment]], folders: list[str]) -> None:
    """What no file system could have makes no manifest."""
    with pytest.raises(ManifestError):
        Manifest(files, folders)


NAMES = st.text(
    st.one_of(
        st.sampled_from("ab/:\\ \n\t\x7f\xa0\u2028\udc80\udcff0.é"),
        st.characters(exclude_categories=["Cs"]),
    ),
    min_size=1,
    max_size=8,
)
LOCATORS = st.sampled_from([A, B, C])


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    """Draw a part of a block."""
    locator = draw(LOCATORS)
    size = int(locator.split("+")[1])
    offset = draw(st.integers(0, size))
    return Segment(locator, offset, draw(st.integers(0, size - offset)))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Draw files that can be together."""
    files = draw(st.dictionaries(NAMES, st.lists(segments(), max_size=5), max_size=6))
    folders = draw(st.lists(NAMES, max_size=3))
    kept: dict[str, list[Segment]] = {}
    for name, parts in files.items():
        try:
            Manifest({**kept, name: parts})
        except ManifestError:
            continue
        kept[name] = parts
    try:
        return Manifest(kept, folders)
    except ManifestError:
        return Manifest(kept)


@given(manifests())
def test_there_and_back(manifest: Manifest) -> None:
    """What is built is parsed as the same, and built again as the same text."""
    text = build(manifest)
    assert parse(text) == manifest
    assert build(parse(text)) == text
    for line in text.decode().split("\n")[:-1]:
        assert len(line.split()) == len(line.split(" ")) >= 3


TOKENS = st.one_of(
    st.sampled_from(
        [".", "./a", "..", A, B, EMPTY, "0:0:\\056", "0:1:a", "1:2:b/c", "0:25:d", " ", "\n"]
    ),
    st.text(max_size=6),
)


@given(st.one_of(st.binary(), st.text(), st.lists(TOKENS).map(" ".join)))
@example(f". {A} 0:1:a \n")
def test_hostile(data: bytes | str) -> None:
    """Whatever the text, it is a manifest or the one error; and no path leads elsewhere."""
    try:
        manifest = parse(data)
    except ManifestError:
        return
    for path in (*manifest.files, *manifest.folders):
        assert not {"", ".", ".."} & set(path.split("/"))
        assert "\0" not in path
    assert parse(build(manifest)) == manifest
