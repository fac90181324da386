"""The quick reading of "members read equal members written" says what the exact one says."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from cds_service.body import DEEPEST_WRITTEN, check_strict, members, members_written
from cds_service.errors import BadRequest

# What JSON says in more than one way, and what looks like a member within a string.
TEXTS = st.text(alphabet='":\\{}[], ab\n\té', max_size=6)
BLANKS = st.sampled_from(["", "", "", " ", "\n", "\t"])
SCALARS = (
    st.one_of(st.integers(-3, 3), st.none(), st.booleans()).map(orjson.dumps).map(bytes.decode)
)


@st.composite
def spelled(draw: Any, text: str) -> str:
    """A JSON string, some of its characters escaped that need not be."""
    letters = [
        f"\\u{ord(letter):04x}"
        if draw(st.integers(0, 4)) == 0
        else orjson.dumps(letter)[1:-1].decode()
        for letter in text
    ]
    return '"' + "".join(letters) + '"'


@st.composite
def listed(draw: Any, inner: st.SearchStrategy[str], brackets: str) -> str:
    """Items between brackets, with blanks here and there."""
    items = [draw(BLANKS) + item for item in draw(st.lists(inner, max_size=4))]
    return brackets[0] + ",".join(items) + draw(BLANKS) + brackets[1]


@st.composite
def member(draw: Any, inner: st.SearchStrategy[str]) -> str:
    """A name, any number of times in one object, and its value."""
    name = draw(TEXTS.flatmap(spelled))
    return f"{name}{draw(BLANKS)}:{draw(BLANKS)}{draw(inner)}"


DOCUMENTS = st.recursive(
    st.one_of(SCALARS, TEXTS.flatmap(spelled)),
    lambda inner: st.one_of(listed(inner, "[]"), listed(member(inner), "{}")),
    max_leaves=12,
)


@given(
    st.lists(member(DOCUMENTS), max_size=3), st.sampled_from([1, 2, 3, 4, 5, 6, DEEPEST_WRITTEN])
)
def test_both_ways_of_counting_refuse_the_same(written: list[str], max_depth: int) -> None:
    body = ("{" + ",".join(written) + "}").encode()
    document = orjson.loads(body)

    def look_at_every_member() -> None:
        if members(document, max_depth) != members_written(body):
            raise BadRequest("A member name appears twice in one object.")

    def refusal(check: Any) -> str | None:
        try:
            check()
        except BadRequest as fault:
            return fault.message
        return None

    quick = refusal(lambda: check_strict(document, body, max_depth))
    assert quick == refusal(look_at_every_member)
