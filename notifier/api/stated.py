"""What a producer states of one notification, and the notification that it comes to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from notifier.api import payload, problems
from notifier.api.parts import Parts
from notifier.api.problems import Problem
from notifier.delivery.acceptance import compose
from notifier.domain.notification import Notification, check_merchant
from notifier.errors import NotifierError, RegistryUnreadable

#: Notifications in one request.
MOST = 1000


def _spelled(value: object) -> object:
    return ",".join(value) if isinstance(value, list) and all(isinstance(part, str) for part in value) else value


class Stated(BaseModel):
    """One notification to be sent. `payload` or `payload_base64`; everything else has a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"required": ["merchant"]})

    merchant: str = Field(description="merchant id, 1 to 128 characters", examples=["shop-7"])
    payload: Any = Field(
        default=None,
        description="any JSON value; the merchant receives it compact, in UTF-8, its numbers as they were written",
        examples=[{"order": 42, "status": "paid"}],
    )
    payload_base64: str | None = Field(
        default=None, description="instead: exact bytes, in base64", examples=["aGVsbG8="]
    )
    content_type: str | None = Field(
        default=None,
        description="of the payload; application/json, or for payload_base64 application/octet-stream",
        examples=["application/json"],
    )
    url: str | None = Field(
        default=None,
        description="where to post; without it the merchant's registered address, looked up at each attempt",
        examples=["https://shop-7.example/hooks"],
    )
    ladder: Annotated[str, BeforeValidator(_spelled)] | None = Field(
        default=None,
        description="tiers such as 1s,3s,5s, or the name of a ladder; without it the merchant's, else the default",
        examples=["1s,3s,5s"],
    )
    id: str | None = Field(
        default=None,
        description="stays the same over all attempts, sent as webhook-id; without it a fresh one",
        examples=["order-42-paid"],
    )
    reference: str | None = Field(
        default=None, description="the producer's own key, to search by", examples=["order-42"]
    )
    traceparent: str | None = Field(
        default=None,
        description="W3C trace context, passed on to the merchant; without it the request's own header",
        examples=["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
    )

    def bytes(self) -> bytes:
        """What the merchant will receive. Raises Problem."""
        if ("payload" in self.model_fields_set) is (self.payload_base64 is not None):
            raise Problem("invalid", "a notification has either payload or payload_base64")
        if self.payload_base64 is None:
            return payload.written(self.payload)
        try:
            return base64.b64decode(self.payload_base64, validate=True)
        except (binascii.Error, ValueError):
            raise Problem("invalid", "payload_base64 is not base64") from None


def notification(parts: Parts, given: Any, traceparent: str | None) -> Notification:
    """The notification that one JSON object states. Raises Problem, which names the field."""
    if not isinstance(given, Mapping):
        raise Problem("invalid", 'a notification is an object such as {"merchant": "shop-7", "payload": {"order": 42}}')
    try:
        stated = Stated.model_validate(given)
    except ValidationError as error:
        raise problems.of_validation(error.errors(include_url=False, include_input=False)) from None
    body = stated.bytes()
    default_type = "application/json" if stated.payload_base64 is None else "application/octet-stream"
    try:
        return compose(
            parts.settings,
            merchant=stated.merchant,
            payload=body,
            url=stated.url,
            ladder=stated.ladder
            if stated.ladder is not None
            else _registered_ladder(parts, check_merchant(stated.merchant)),
            notification_id=stated.id,
            reference=stated.reference,
            content_type=default_type if stated.content_type is None else stated.content_type,
            traceparent=stated.traceparent or traceparent,
        )
    except NotifierError as error:
        raise problems.of(error) from None


def warnings(parts: Parts, composed: Notification) -> list[str]:
    """What the producer should know although it is accepted."""
    if composed.url is not None:
        return []
    try:
        registered = parts.registry.get(composed.merchant)
    except RegistryUnreadable:
        return []
    if registered is None or registered.url is None:
        return [f"merchant {composed.merchant} has no registered url and none is stated: it is held until there is one"]
    return []


def _registered_ladder(parts: Parts, merchant: str) -> str | None:
    try:
        registered = parts.registry.get(merchant)
    except RegistryUnreadable:
        return None  # there is no copy of the registry yet: the default ladder serves
    return None if registered is None or registered.ladder is None else str(registered.ladder)
