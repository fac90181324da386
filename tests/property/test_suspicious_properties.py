"""The quick look at ordinary texts leaves nothing out: each pattern, on each text by itself, says
the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.audit.suspicious import MOST_CHARACTERS, PATTERNS, suspicious
from cds_service.audit.suspicious import _forms as forms

PIECES = r"""' " or and union all select pg_sleep -- < / script onerror onload onclick onmouseover =
    % javascript: jndi: { {{ $ ${ ( ` ; | & drop cat ping .. \ /etc/passwd %2e %27 %00 + _ : 1 ~"""
SPACES_AND_LETTERS = " \t\n\r\x00\x01\x0b\x0c\x1c\x85\xa0\u2003éÅſıK"
pieces = st.sampled_from([*PIECES.split(), *SPACES_AND_LETTERS])
texts = st.one_of(
    st.lists(pieces, max_size=8).map("".join),
    st.text(max_size=12),
    st.sampled_from([0, 1, 2]).map(lambda over: "x" * (MOST_CHARACTERS - over) + "`"),
)


def exactly(text: str) -> frozenset[str]:
    """Every pattern on every form, and no way around any of them."""
    return frozenset(
        kind
        for kind, pattern in PATTERNS
        for form in forms(text[:MOST_CHARACTERS])
        if re.search(pattern, form, re.IGNORECASE)
    )


@given(st.lists(texts, max_size=4))
def test_texts_are_marked_for_what_each_of_them_holds(given_texts: list[str]) -> None:
    wanted = frozenset[str]().union(*map(exactly, given_texts))
    assert suspicious(iter(given_texts)) == wanted


@pytest.mark.parametrize(("kind", "pattern"), PATTERNS)
@given(st.data())
def test_whatever_a_pattern_means_is_found(kind: str, pattern: str, data: st.DataObject) -> None:
    """In ASCII too, where the quick look decides."""
    ascii_only = data.draw(st.booleans())
    alphabet = st.characters(max_codepoint=127) if ascii_only else None
    meant = st.from_regex(re.compile(pattern, re.IGNORECASE), alphabet=alphabet)
    text = data.draw(meant)[:MOST_CHARACTERS]
    assert suspicious(["application/json", text]) == exactly(text)
    if re.search(pattern, text, re.IGNORECASE):
        assert kind in suspicious([text])
