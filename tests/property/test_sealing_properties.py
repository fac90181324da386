"""What is sealed opens whole, in its own place, with its own key, or not at all."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.errors import RowUnreadable
from cds_service.store.sealing import NONCE_BYTES, Place, Sealing, fingerprint

ids = st.text(max_size=20)
places = st.builds(
    Place,
    table=st.sampled_from(["assessment", "outbox"]),
    column=st.sampled_from(["inputs", "resource"]),
    row=ids,
)
keys = st.binary(min_size=32, max_size=32)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "sealed"),
    st.recursive(
        st.none() | st.booleans() | numbers | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    ),
    max_size=4,
)
KEY, PLACE = bytes(range(32)), Place(table="assessment", column="inputs", row="a")


@given(values, places, keys, st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
def test_what_is_sealed_opens_as_it_was(
    value: dict[str, Any], place: Place, key: bytes, nonce: bytes
) -> None:
    sealing = Sealing([key], nonce=lambda: nonce)
    stored = json.loads(json.dumps(sealing.seal(value, place)))
    assert sealing.open(stored, place) == json.loads(json.dumps(value))
    assert stored["key"] == fingerprint(key)
    assert stored.keys() == {"sealed", "key", "value"}


@given(values, places, places)
def test_in_another_place_it_does_not_open(
    value: dict[str, Any], here: Place, there: Place
) -> None:
    sealing = Sealing([KEY])
    stored = sealing.seal(value, here)
    if here == there:
        assert sealing.open(stored, there) == value
    else:
        with pytest.raises(RowUnreadable) as refused:
            sealing.open(stored, there)
        assert "is of another row" in refused.value.reason


@given(values, st.data())
def test_with_any_bit_turned_it_does_not_open(value: dict[str, Any], data: st.DataObject) -> None:
    sealing = Sealing([KEY])
    stored = sealing.seal(value, PLACE)
    sealed = bytearray(base64.b64decode(stored["value"]))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RowUnreadable):
        sealing.open({**stored, "value": base64.b64encode(sealed).decode()}, PLACE)


@given(values, st.data())
def test_with_any_sign_exchanged_it_does_not_open(
    value: dict[str, Any], data: st.DataObject
) -> None:
    sealing = Sealing([KEY])
    stored = sealing.seal(value, PLACE)
    member = data.draw(st.sampled_from(sorted(stored)))
    text = stored[member]
    place = data.draw(st.integers(0, len(text) - 1))
    sign = data.draw(st.characters().filter(lambda sign: sign != text[place]))
    with pytest.raises(RowUnreadable):
        sealing.open({**stored, member: text[:place] + sign + text[place + 1 :]}, PLACE)


@given(
    st.fixed_dictionaries(
        {"sealed": st.none() | st.just("A256GCM") | st.integers() | st.text()},
        optional={
            "key": st.none() | st.just(fingerprint(KEY)) | st.lists(st.text()) | st.text(),
            "value": st.none() | st.integers() | st.text() | st.text("AQ/+=", max_size=40),
            "more": st.text(),
        },
    )
)
def test_what_was_never_sealed_is_refused_whatever_it_is(stored: dict[str, Any]) -> None:
    with pytest.raises(RowUnreadable):
        Sealing([KEY]).open(stored, PLACE)


@given(values, keys, keys)
def test_the_first_key_seals_and_all_of_them_open(
    value: dict[str, Any], old: bytes, new: bytes
) -> None:
    before = Sealing([old]).seal(value, PLACE)
    both = Sealing([new, old])
    after = both.seal(value, PLACE)
    assert both.open(before, PLACE) == both.open(after, PLACE) == value
    assert after["key"] == fingerprint(new)
    if old != new:
        with pytest.raises(RowUnreadable) as refused:
            Sealing([new]).open(before, PLACE)
        assert fingerprint(old) in refused.value.reason


@given(values)
def test_without_keys_a_value_is_stored_as_it_is(value: dict[str, Any]) -> None:
    assert Sealing().seal(value, PLACE) is value
    assert Sealing([KEY]).open(value, PLACE) is value


def test_no_two_places_are_written_alike() -> None:
    one = Place(table="a", column='b","c', row="d")
    other = Place(table="a", column="b", row='c","d')
    assert one.associated_data != other.associated_data


def test_the_same_value_is_never_sealed_the_same() -> None:
    sealing = Sealing([KEY])
    assert len({sealing.seal({}, PLACE)["value"] for _ in range(100)}) == 100
