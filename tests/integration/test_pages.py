"""The pages function: what browsers keep, and what is compressed when."""

import base64
import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.conftest import Api, Reply
from tests.support.functions import import_handler

PackedTemplate = import_handler("api", "content/packed_template").PackedTemplate

ASSETS = ["/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/start.js"]
GZIP = {"Accept-Encoding": "gzip, deflate, br"}


def unpacked(reply: Reply) -> str:
    return gzip.decompress(base64.b64decode(reply.text)).decode()


@pytest.mark.parametrize("path", ASSETS)
def test_assets_may_be_kept_and_are_told_apart_by_their_content(api: Api, path: str) -> None:
    plain, packed = api.get(path), api.get(path, headers=GZIP)

    assert unpacked(packed) == plain.text
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    for reply in (plain, packed):
        assert reply.status == 200
        assert reply.headers["cache-control"] == "public, max-age=86400"
        assert reply.headers["vary"] == "Accept-Encoding"
        assert reply.headers["etag"].startswith('"')
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert plain.headers["etag"] != packed.headers["etag"]
    assert len({api.get(asset).headers["etag"] for asset in ASSETS}) == len(ASSETS)


@pytest.mark.parametrize("path", [*ASSETS, "/api/openapi.json"])
@pytest.mark.parametrize("accepted", [{}, GZIP])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_what_has_not_changed_is_not_sent_again(
    api: Api, path: str, accepted: dict[str, str], form: str
) -> None:
    first = api.get(path, headers=accepted)

    again = api.get(path, headers={**accepted, "If-None-Match": form.format(first.headers["etag"])})

    assert (again.status, again.text or "") == (304, "")
    for name in ("etag", "cache-control", "vary", "content-type"):
        assert again.headers[name] == first.headers[name]


@pytest.mark.parametrize("named", ['"other"', "", 'W/"other"'])
def test_what_has_changed_is_sent(api: Api, named: str) -> None:
    assert api.get(ASSETS[0], headers={"If-None-Match": named}).status == 200


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("*;q=0, gzip", True),
        ("gzip;q=1.0", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("br", False),
        ("identity", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("path", ["/", "/docs/start.js"])
def test_only_who_takes_gzip_gets_it(api: Api, path: str, accepted: str, compressed: bool) -> None:
    reply = api.get(path, headers={"Accept-Encoding": accepted})

    assert reply.base64_encoded is compressed
    assert (reply.headers.get("content-encoding") == "gzip") is compressed


@pytest.mark.parametrize("path", [*ASSETS, "/api/openapi.json", "/"])
def test_no_request_compresses_what_was_compressed_before(
    api: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.get(path, headers=GZIP)

    def compress(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("compressed once more")

    monkeypatch.setattr(zlib, "compressobj", compress)
    monkeypatch.setattr(zlib, "compress", compress)
    monkeypatch.setattr(gzip, "compress", compress)

    assert api.get(path, headers=GZIP).status == 200


def test_the_compressed_console_is_the_console(api: Api) -> None:
    packed, plain = api.get("/", headers=GZIP), api.get("/")

    def nonce(reply: Reply) -> str:
        return reply.headers["content-security-policy"].split("'nonce-")[1].split("'")[0]

    assert unpacked(packed).replace(nonce(packed), nonce(plain)) == plain.text
    assert packed.headers["cache-control"] == plain.headers["cache-control"] == "no-store"


@given(st.text(), st.text(max_size=1000))
def test_a_packed_template_unpacks_to_the_filled_in_text(text: str, value: str) -> None:
    template = PackedTemplate(text, "%")

    assert template.text(value) == text.replace("%", value)
    assert gzip.decompress(template.packed(value)) == text.replace("%", value).encode()


def test_a_value_that_does_not_fit_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        PackedTemplate("a % b", "%").packed("x" * 65_536)
