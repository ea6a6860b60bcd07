"""JSON objects as clients send them, with every number read exactly."""

import json
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from order_engine.errors import ProblemCode, Rejected

MAX_BODY_BYTES = 64 * 1024

REPLACEMENT_CHARACTER = "\ufffd"
"""What API Gateway puts in the place of bytes that are no UTF-8."""


def parse_json_object(body: str | bytes | None) -> dict[str, Any]:
    """Return the object that a request's body holds, its numbers as ``Decimal``.

    ``NaN``, ``Infinity`` and numbers beyond ``Decimal``'s range come out as values that are not
    finite, so that the field they stand in can be named.
    Raises ``Rejected``: ``BODY_TOO_LARGE`` (413) or ``MALFORMED_BODY`` (400).
    """
    text = _text_of(body)
    if not text.strip():
        raise _malformed("The request needs a JSON object as its body.")
    try:
        value = json.loads(
            text,
            parse_float=_number,
            parse_int=_number,
            parse_constant=Decimal,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        raise _malformed(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise _malformed("The body is nested too deeply.") from None
    if not isinstance(value, dict):
        raise _malformed("The body must be a JSON object.")
    return value


def _text_of(body: str | bytes | None) -> str:
    raw = body or b""
    # A character takes at least a byte, so an oversized text need not be encoded to be refused.
    if len(raw) > MAX_BODY_BYTES or len(_encoded(raw)) > MAX_BODY_BYTES:
        raise Rejected(
            ProblemCode.BODY_TOO_LARGE, f"The body is larger than {MAX_BODY_BYTES} bytes."
        )
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
    except UnicodeDecodeError:
        raise _malformed("The body is not UTF-8.") from None
    if REPLACEMENT_CHARACTER in text:
        raise _malformed("The body is not UTF-8.")
    return text


def _encoded(raw: str | bytes) -> bytes:
    return raw if isinstance(raw, bytes) else raw.encode(errors="replace")


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("Infinity")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    # Readers disagree on which of two equal names counts; with money none is guessed.
    names = dict(pairs)
    if len(names) != len(pairs):
        raise _malformed("The body names a field twice.")
    return names


def _malformed(detail: str) -> Rejected:
    return Rejected(ProblemCode.MALFORMED_BODY, detail)
