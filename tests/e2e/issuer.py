"""An issuer of JWTs on this machine, and everything it can be made to sign."""

from __future__ import annotations

import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

AUDIENCE = "order-engine-tests"
LIFETIME_SECONDS = 3600


class Issuer:
    """Sign tokens, and serve the key to check them with."""

    def __init__(self, url: str, key: RSAKey) -> None:
        self.url = url
        self.key = key

    def token(self, user_id: str, **changes: object) -> str:
        """Return a token of the user; `changes` replace claims, or leave them out (None)."""
        return self.signed(self.claims(user_id, **changes), self.key)

    def claims(self, user_id: str, **changes: object) -> dict[str, Any]:
        """Return the claims of a good token, but for `changes`."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": user_id,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def signed(self, claims: Mapping[str, Any], key: RSAKey, **header: str) -> str:
        """Return the claims signed with a key, under the id of the issuer's own."""
        return jwt.encode({"alg": "RS256", "kid": key_id(self.key), **header}, dict(claims), key)

    def signed_with_the_public_key(self, claims: Mapping[str, Any]) -> str:
        """Return a token whose signature takes the public key for a shared secret."""
        # By hand: a decent library refuses to do this.
        header = {"alg": "HS256", "typ": "JWT", "kid": key_id(self.key)}
        signed = f"{_encoded(header)}.{_encoded(claims)}"
        signature = hmac.digest(self.key.as_pem(private=False), signed.encode(), "sha256")
        return f"{signed}.{_base64(signature)}"

    def unsigned(self, claims: Mapping[str, Any], algorithm: str = "none") -> str:
        """Return a token without a signature."""
        header = {"alg": algorithm, "typ": "JWT", "kid": key_id(self.key)}
        return f"{_encoded(header)}.{_encoded(claims)}."


def new_key() -> RSAKey:
    """Return a new key for signing."""
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)


def key_id(key: RSAKey) -> str:
    """Return the id that tokens name their key by."""
    assert key.kid is not None
    return key.kid


def with_claims(token: str, claims: Mapping[str, Any]) -> str:
    """Return the token with other claims under its old signature."""
    header, _, signature = token.split(".")
    return f"{header}.{_encoded(claims)}.{signature}"


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """Run an issuer on a free port for the length of the block."""
    key = new_key()
    documents: dict[str, Any] = {
        "/.well-known/jwks.json": {"keys": [key.as_dict(private=False)]},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = documents.get(self.path)
            self.send_response(404 if document is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    documents["/.well-known/openid-configuration"] = {
        "issuer": url,
        "jwks_uri": f"{url}/.well-known/jwks.json",
    }
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Issuer(url, key)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def _encoded(part: Mapping[str, Any]) -> str:
    return _base64(json.dumps(part).encode())


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
