"""Files that a browser may keep: compressed once, and told apart by their content."""

import gzip
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Self

from aws_lambda_powertools.event_handler import Response

FOLDER = Path(__file__).parent / "docs"
FOR_A_DAY = "public, max-age=86400"
ASK_AGAIN = "no-cache"
"""May be kept, and is asked for again each time: the answer is mostly a 304."""


@dataclass(frozen=True)
class Asset:
    """A text with its compressed form, and the answers to those who ask for it."""

    content_type: str
    packed: bytes
    cache_control: str = FOR_A_DAY

    @classmethod
    def of_text(cls, content_type: str, text: str, cache_control: str = FOR_A_DAY) -> Self:
        """Compress a text."""
        return cls(content_type, gzip.compress(text.encode(), mtime=0), cache_control)

    @classmethod
    def of_file(cls, content_type: str, name: str) -> Self:
        """Read a file of the documentation, which may have been compressed before the deploy."""
        path = FOLDER / name
        packed = path.with_name(f"{name}.gz")
        if packed.exists():
            return cls(content_type, packed.read_bytes())
        return cls.of_text(content_type, path.read_text(encoding="utf-8"))

    def answer(self, headers: Mapping[str, str]) -> Response[str]:
        """Answer a request with these headers: the content, or that it has not changed (304)."""
        compressed = accepts_gzip(headers.get("accept-encoding") or "")
        # Another encoding is another sequence of bytes, so it has another strong tag.
        tag = f'"{self._digest}-gzip"' if compressed else f'"{self._digest}"'
        shown: dict[str, str | list[str]] = {
            "Cache-Control": self.cache_control,
            "ETag": tag,
            "Vary": "Accept-Encoding",
        }
        if _names(headers.get("if-none-match") or "", tag):
            # Of an answer without a type the gateway says JSON, and a browser might believe it.
            return Response(304, self.content_type, "", shown)
        if not compressed:
            return Response(200, self.content_type, self._text, shown)
        return packed_response(self.content_type, self._encoded, shown)

    @cached_property
    def _text(self) -> str:
        return gzip.decompress(self.packed).decode()

    @cached_property
    def _encoded(self) -> str:
        return b64encode(self.packed).decode()

    @cached_property
    def _digest(self) -> str:
        return sha256(self.packed).hexdigest()[:32]


def packed_response(
    content_type: str, encoded: str, headers: Mapping[str, str | list[str]]
) -> Response[str]:
    """Answer with compressed content, which functions hand to the gateway in base64."""
    response = Response(200, content_type, encoded, {**headers, "Content-Encoding": "gzip"})
    response.base64_encoded = True
    return response


def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether a client takes gzip, by its Accept-Encoding header."""
    qualities = {}
    for offer in accept_encoding.lower().replace(" ", "").split(","):
        coding, _, quality = offer.partition(";q=")
        qualities[coding] = quality
    quality = qualities.get("gzip", qualities.get("*", "0"))
    return not quality or quality.strip("0.") != ""


def _names(if_none_match: str, tag: str) -> bool:
    """Tell whether an If-None-Match header names the tag; a weak name of it is one, too."""
    named = [name.strip().removeprefix("W/") for name in if_none_match.split(",")]
    return tag in named or named == ["*"]
