"""When does an answer count as acknowledged? One rule per merchant."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum

from notifier.errors import InvalidInput

_FIELD = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


class RuleKind(StrEnum):
    """The three ways merchants acknowledge."""

    HTTP = "http"
    BODY = "body"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class AckRule:
    """`http`: any 2xx. `body=success`: 2xx and the trimmed body equals (Alipay). `json:code=SUCCESS`: 2xx and
    that top-level field (dots go deeper) equals (WeChat Pay); numbers and booleans compare by their JSON text.
    """

    kind: RuleKind = RuleKind.HTTP
    field: str = ""
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> AckRule:
        """Read a rule as written above. Raises InvalidInput naming the text and the three forms."""
        spelled = text.strip()
        if spelled == "http":
            return cls()
        if spelled.startswith("body=") and len(spelled) > len("body="):
            return cls(RuleKind.BODY, value=spelled.removeprefix("body=").strip())
        if spelled.startswith("json:"):
            field, equals, value = spelled.removeprefix("json:").partition("=")
            if equals and value and _FIELD.fullmatch(field):
                return cls(RuleKind.JSON, field=field, value=value)
        raise InvalidInput(f"{text!r} is not an acknowledgement rule: write http, body=success or json:code=SUCCESS")

    def __str__(self) -> str:
        match self.kind:
            case RuleKind.HTTP:
                return "http"
            case RuleKind.BODY:
                return f"body={self.value}"
            case RuleKind.JSON:
                return f"json:{self.field}={self.value}"

    def met_by(self, status: int, answer: bytes) -> bool:
        """Whether this answer acknowledges. `answer` may be cut at the reading bound: a cut one meets no
        body or JSON rule unless it is complete in itself.
        """
        if not 200 <= status <= 299:
            return False
        match self.kind:
            case RuleKind.HTTP:
                return True
            case RuleKind.BODY:
                return answer.strip() == self.value.encode()
            case RuleKind.JSON:
                return _json_text(answer, self.field) == self.value


def _json_text(answer: bytes, field: str) -> str | None:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    for name in field.split("."):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found if isinstance(found, str) else json.dumps(found)
