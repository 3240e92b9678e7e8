import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.console.jsontext import coloured, laid_out

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1.50", b"1.50"),
        (b" [ ] ", b"[]"),
        (b'{"a":{},"b":[1,"x, y"]}', b'{\n  "a": {},\n  "b": [\n    1,\n    "x, y"\n  ]\n}'),
        (b'{"a":1,"a":2}', b'{\n  "a": 1,\n  "a": 2\n}'),
        (b'["\\"]\\\\", 1]', b'[\n  "\\"]\\\\",\n  1\n]'),
        (b"[1", None),
        (b"", None),
        (b"<p>", None),
    ],
)
def test_layout(text: bytes, expected: bytes | None) -> None:
    """JSON gets a line for each member, and is otherwise untouched; other text is no JSON."""
    assert laid_out(text) == expected


@pytest.mark.slow
@given(VALUES)
def test_layout_is_that_of_the_standard_library(value: Any) -> None:
    """Whatever came without white space looks as `json.dumps` would lay it out."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        orjson.loads(text.encode("utf-8", "surrogatepass"))
    except orjson.JSONDecodeError:
        return
    laid = laid_out(text.encode())
    assert laid is not None
    assert laid.decode() == json.dumps(value, ensure_ascii=False, indent=2)


def test_colours() -> None:
    """Colours change no character, and control characters cannot reach the terminal."""
    shown = coloured('{"a": "\x9b2J"}')
    assert shown.plain == '{"a": "\\x9b2J"}'
    assert shown.spans
    assert not coloured("[" + "1," * (1 << 19) + "1]").spans
