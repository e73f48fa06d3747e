"""JSON lines of `notifier enqueue --file`: bytes to numbered lines, lines to fields, fields to the payload's bytes."""

from __future__ import annotations

import itertools
import json
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.cli.lines import Fields, Line, Splitter, fields, require_json
from notifier.errors import InvalidInput

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def split(*chunks: bytes, longest: int = 1000) -> list[Line]:
    splitter = Splitter(longest)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.end())


@given(text=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_lines_do_not_depend_on_where_the_chunks_were_cut(text: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[start:end] for start, end in itertools.pairwise(places)]
    assert split(*chunks) == split(text)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a", [Line(1, b"a")]),
        (b"a\nb\n", [Line(1, b"a"), Line(2, b"b")]),
        (b"a\r\n\r\n  b \r\n", [Line(1, b"a"), Line(3, b"b")]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", [Line(1, b"a"), Line(2, b"\xef\xbb\xbfb")]),
        (b"x" * 1000 + b"\nb", [Line(1, b"x" * 1000), Line(2, b"b")]),
        (b"a\n" + b"x" * 1001 + b"\nb", [Line(1, b"a"), Line(2, None), Line(3, b"b")]),
        (b"x" * 5000, [Line(1, None)]),
    ],
)
def test_lines_are_numbered_as_editors_do_and_blank_ones_passed_over(text: bytes, lines: list[Line]) -> None:
    assert split(text) == lines


def test_a_line_without_an_end_is_not_kept_beyond_its_bound() -> None:
    splitter = Splitter(1000)
    for _ in range(100):
        assert list(splitter.feed(b"x" * 900)) == []
        assert len(splitter._rest) <= 1000
    assert [*splitter.feed(b"\nnext\n"), *splitter.end()] == [Line(1, None), Line(2, b"next")]


def test_a_line_states_all_fields() -> None:
    line = {"merchant": "m", "payload": {"o": 1}, "url": "u", "ladder": "1s", "id": "i", "reference": "r"}
    assert fields(json.dumps(line).encode()) == Fields("m", b'{"o":1}', "u", "1s", "i", "r")


def test_what_is_null_is_not_stated_but_a_payload_may_be_null() -> None:
    assert fields(b'{"merchant":"m","payload":null,"url":null,"id":null}') == Fields("m", b"null")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"merchant": "m"', "malformed JSON: Expecting ',' delimiter at column 17"),
        (b"{'merchant': 1}", "malformed JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"merchant":"m","payload":1} {}', "malformed JSON: Extra data at column 30"),
        (b'{"merchant":"m","payload":NaN}', "malformed JSON: NaN is not a JSON value"),
        (b'{"merchant":"m","payload":-Infinity}', "malformed JSON: -Infinity is not a JSON value"),
        (b"[" * 100_000, "malformed JSON: nested too deeply"),
        (b'{"payload":' + b"9" * 5000 + b"}", "malformed JSON: Exceeds the limit"),
        (b'["merchant"]', "not a JSON object; a line looks like"),
        (b'"merchant"', "not a JSON object; a line looks like"),
        (b'{"payload":1}', "merchant missing"),
        (b'{"merchant":null,"payload":1}', "merchant missing"),
        (b'{"merchant":"m"}', "payload missing"),
        (b"{}", "merchant and payload missing"),
        (b'{"merchant":"m","payload":1,"adress":"x","Url":"y"}', "unknown field 'adress', 'Url'; known are merchant, "),
        (b'{"merchant":7,"payload":1}', "merchant must be text, in quotes; it is 7"),
        (b'{"merchant":"m","payload":1,"ladder":["1s"]}', 'ladder must be text, in quotes; it is ["1s"]'),
        (b'{"merchant":"m\xff","payload":1}', "not UTF-8: byte 15 is 0xff"),
        (b"\xff\xfe{", "not UTF-8: byte 1 is 0xff"),
    ],
)
def test_a_bad_line_says_what_is_wrong_with_it(line: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match="^" + re.escape(said)):
        fields(line)


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        ('{ "b" : [ 1 , 2 ] , "a" : {} }', '{"b":[1,2],"a":{}}'),
        ('"text"', '"text"'),
        ('"Zoë \\u00eb \\ud83d\\ude00 \\" \\\\ \\n"', '"Zoë ë 😀 \\" \\\\ \\n"'),
        ("10.00", "10.00"),
        ('{ "amount" : 10.00, "of" : "10.00 ", "é" : "\\u00e9 : ," }', '{"amount":10.00,"of":"10.00 ","é":"é : ,"}'),
        ("[1e400, 0.1e1, -0.0]", "[1e400,0.1e1,-0.0]"),
        ("12345678901234567890.123456789", "12345678901234567890.123456789"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"half \\ud800 pair"', '"half \\ud800 pair"'),
        ('["half \\ud800 pair", 10.00]', '["half \\ud800 pair",10.00]'),
    ],
)
@pytest.mark.parametrize(
    "line", ['{{"merchant":"m","payload":{}}}', ' {{ "payload" :  {} , "merchant":"m : payload"}} ']
)
def test_the_payload_goes_out_compactly_with_its_numbers_as_they_were_written(
    line: str, payload: str, sent: str
) -> None:
    assert fields(line.format(payload).encode()).payload.decode() == sent


def test_the_last_of_two_payloads_counts_however_its_numbers_are_written() -> None:
    assert fields(b'{"merchant":"m","payload":1,"payload":2}').payload == b"2"
    assert fields(b'{"merchant":"m","payload":1.00,"payload":2.00}').payload == b"2.00"


@given(payload=JSON, indent=st.sampled_from([None, 1]), escaped=st.booleans())
def test_the_payload_is_the_same_value_whatever_it_holds(payload: Any, indent: int | None, escaped: bool) -> None:
    line = json.dumps({"merchant": "m", "payload": payload}, ensure_ascii=escaped, indent=indent)
    try:
        text = line.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can carry
        text = json.dumps({"merchant": "m", "payload": payload}, indent=indent).encode()
    sent = fields(text).payload
    assert json.loads(sent) == payload
    assert b"\n" not in sent


@given(number=st.decimals(allow_nan=False, allow_infinity=False))
def test_no_digit_of_a_number_is_lost(number: Decimal) -> None:
    written = str(number)
    sent = fields(f'{{"merchant":"m","payload":{{"amount": {written}}}}}'.encode()).payload
    assert sent == f'{{"amount":{written}}}'.encode()


@pytest.mark.parametrize("payload", [b"1", b' {"a": 1.10}\n', '"é"'.encode()])
def test_a_payload_on_the_command_line_is_any_json(payload: bytes) -> None:
    require_json(payload)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "malformed JSON: Expecting value at column 1"),
        (b"paid", "malformed JSON: Expecting value at column 1"),
        (b'{"a":\n ?}', "malformed JSON: Expecting value at line 2 column 2 of it"),
        (b"NaN", "malformed JSON: NaN is not a JSON value"),
        (b'"\xe9"', "not UTF-8: byte 2 is 0xe9"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark"),
    ],
)
def test_a_payload_on_the_command_line_that_is_no_json_says_so(payload: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match="^" + re.escape(said)):
        require_json(payload)
