"""The compressed files of Swagger UI are those of the powertools that is installed."""

import gzip

import pytest

from local import pack_docs


@pytest.mark.parametrize("name", pack_docs.SOURCES)
def test_file_unpacks_to_its_source(name: str) -> None:
    packed = (pack_docs.FOLDER / f"{name}.gz").read_bytes()

    assert gzip.decompress(packed) == pack_docs.source(name)


def test_files_are_packed_without_a_moment_or_a_name() -> None:
    for name in pack_docs.SOURCES:
        packed = (pack_docs.FOLDER / f"{name}.gz").read_bytes()
        assert packed[3:8] == b"\x00" * 5, name
