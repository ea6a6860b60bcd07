"""A text that is compressed once, but for places that each answer fills in."""

import zlib

# A gzip file (RFC 1952) without name and time, and the parts of a deflate stream (RFC 1951).
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
_STORED_BLOCK = b"\x00"
_LAST_EMPTY_BLOCK = b"\x03\x00"
_MOST_IN_A_STORED_BLOCK = 0xFFFF


class PackedTemplate:
    """A text with places to be filled in.

    What stands between the places is compressed when the template is made. Filling in puts the
    value between as a block that is stored as it is, so an answer costs a checksum.
    """

    def __init__(self, text: str, place: str) -> None:
        self._parts = text.split(place)
        self._packed_parts = [_packed(part.encode()) for part in self._parts]

    def text(self, value: str) -> str:
        """Return the text with the value in every place."""
        return value.join(self._parts)

    def packed(self, value: str) -> bytes:
        """Return the text with the value in every place, as gzip."""
        filled_in = value.encode()
        if len(filled_in) > _MOST_IN_A_STORED_BLOCK:
            raise ValueError("the value is too long for one block")
        length = len(filled_in)
        block = b"".join(
            (
                _STORED_BLOCK,
                length.to_bytes(2, "little"),
                (length ^ 0xFFFF).to_bytes(2, "little"),
                filled_in,
            )
        )
        whole = self.text(value).encode()
        return b"".join(
            (
                _HEADER,
                block.join(self._packed_parts),
                _LAST_EMPTY_BLOCK,
                zlib.crc32(whole).to_bytes(4, "little"),
                (len(whole) & 0xFFFFFFFF).to_bytes(4, "little"),
            )
        )


def _packed(part: bytes) -> bytes:
    """Return blocks that end at a byte's border and refer to nothing outside them."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(part) + compressor.flush(zlib.Z_FULL_FLUSH)
