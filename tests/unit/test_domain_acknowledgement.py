"""When an answer counts as acknowledged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.acknowledgement import AckRule, RuleKind
from notifier.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "rule", "written"),
    [
        ("http", AckRule(), "http"),
        (" http ", AckRule(), "http"),
        ("body=success", AckRule(RuleKind.BODY, value="success"), "body=success"),
        ("body= success ", AckRule(RuleKind.BODY, value="success"), "body=success"),
        ("body=a=b", AckRule(RuleKind.BODY, value="a=b"), "body=a=b"),
        ("json:code=SUCCESS", AckRule(RuleKind.JSON, "code", "SUCCESS"), "json:code=SUCCESS"),
        ("json:result.code=0", AckRule(RuleKind.JSON, "result.code", "0"), "json:result.code=0"),
        ("json:a=b=c", AckRule(RuleKind.JSON, "a", "b=c"), "json:a=b=c"),
    ],
)
def test_a_rule_is_read_and_written(text: str, rule: AckRule, written: str) -> None:
    assert AckRule.parse(text) == rule
    assert str(rule) == written
    assert AckRule.parse(written) == rule


@pytest.mark.parametrize(
    "text",
    [
        *("", "https", "HTTP", "200", "xml:code=1", "body", "body=", "body= ", "json", "json:", "json:code"),
        *("json:code=", "json:=x", "json:a b=x", "json:a..b=x", "json:.a=x", "json:a.=x"),
    ],
)
def test_what_is_no_rule_is_refused_naming_it_and_the_three_forms(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        AckRule.parse(text)
    assert repr(text) in str(refused.value)
    assert "http, body=success or json:code=SUCCESS" in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "status", "answer", "met"),
    [
        ("http", 200, b"", True),
        ("http", 204, b"", True),
        ("http", 299, b"fail", True),
        ("http", 199, b"", False),
        ("http", 300, b"", False),
        ("http", 301, b"", False),
        ("http", 404, b"success", False),
        ("http", 500, b"", False),
        ("body=success", 200, b"success", True),
        ("body=success", 201, b" \r\nsuccess\n", True),
        ("body=success", 200, b"SUCCESS", False),
        ("body=success", 200, b"success!", False),
        ("body=success", 200, b"", False),
        ("body=success", 500, b"success", False),
        ("body=\u6210\u529f", 200, "\u6210\u529f".encode(), True),
        ("body=success", 200, b"\xff\xfe", False),
        ("json:code=SUCCESS", 200, b'{"code":"SUCCESS","message":"ok"}', True),
        ("json:code=SUCCESS", 200, b' {"code" : "SUCCESS"} ', True),
        ("json:code=SUCCESS", 200, b'\xef\xbb\xbf{"code":"SUCCESS"}', True),
        ("json:code=SUCCESS", 500, b'{"code":"SUCCESS"}', False),
        ("json:code=SUCCESS", 200, b'{"code":"FAIL"}', False),
        ("json:code=SUCCESS", 200, b'{"code":["SUCCESS"]}', False),
        ("json:code=SUCCESS", 200, b'{"result":{"code":"SUCCESS"}}', False),
        ("json:code=SUCCESS", 200, b'["code","SUCCESS"]', False),
        ("json:code=SUCCESS", 200, b'"SUCCESS"', False),
        ("json:code=SUCCESS", 200, b'{"code":"SUCCESS"', False),
        ("json:code=SUCCESS", 200, b"", False),
        ("json:code=SUCCESS", 200, b"\xff\xfe\xfd", False),
        ("json:code=SUCCESS", 200, b"[" * 60_000, False),
        ("json:code=1", 200, b'{"code":' + b"9" * 10_000 + b"}", False),
        ("json:code=0", 200, b'{"code":0}', True),
        ("json:code=0", 200, b'{"code":"0"}', True),
        ("json:code=0", 200, b'{"code":false}', False),
        ("json:ok=true", 200, b'{"ok":true}', True),
        ("json:ok=true", 200, b'{"ok":1}', False),
        ("json:error=null", 200, b'{"error":null}', True),
        ("json:error=null", 200, b"{}", False),
        ("json:result.code=0", 200, b'{"result":{"code":0}}', True),
        ("json:result.code=0", 200, b'{"result":0}', False),
        ("json:result.code=0", 200, b'{"result.code":0}', False),
    ],
)
def test_an_answer_meets_a_rule_or_not(rule: str, status: int, answer: bytes, met: bool) -> None:
    assert AckRule.parse(rule).met_by(status, answer) is met


@given(st.sampled_from(["http", "body=success", "json:a.b=1"]), st.integers(100, 599), st.binary(max_size=100))
def test_no_answer_outside_2xx_acknowledges_and_none_breaks_a_rule(rule: str, status: int, answer: bytes) -> None:
    met = AckRule.parse(rule).met_by(status, answer)
    assert met <= (200 <= status <= 299)


@given(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text == text.strip()))
def test_a_body_rule_is_met_by_exactly_its_text(text: str) -> None:
    rule = AckRule.parse(f"body={text}")
    assert rule.met_by(200, text.encode())
    assert not rule.met_by(200, text.encode() + b"x")


@given(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text == text.strip()))
def test_a_json_rule_is_met_by_exactly_its_value(text: str) -> None:
    rule = AckRule.parse(f"json:code={text}")
    assert rule.met_by(200, json.dumps({"code": text}).encode())
    assert not rule.met_by(200, json.dumps({"code": text + "x"}).encode())
