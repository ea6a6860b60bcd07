"""Compress what Swagger UI consists of for the documentation's page: once, not for each request.

The files are those of the pinned powertools; run it (`make docs-assets`) when that changes.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Mapping
from importlib import resources

from local.paths import REPOSITORY

FOLDER = REPOSITORY / "functions" / "api" / "content" / "docs"
SOURCES: Mapping[str, str] = {
    "swagger-ui-bundle.js": "swagger-ui-bundle.min.js",
    "swagger-ui.css": "swagger-ui.min.css",
}


def source(name: str) -> bytes:
    """Return a file of Swagger UI as powertools has it."""
    folder = resources.files("aws_lambda_powertools.event_handler.openapi.swagger_ui")
    return (folder / SOURCES[name]).read_bytes()


def pack() -> None:
    """Write the compressed files."""
    for name in SOURCES:
        (FOLDER / f"{name}.gz").write_bytes(gzip.compress(source(name), mtime=0))


if __name__ == "__main__":
    pack()
    sys.stdout.write(f"{', '.join(SOURCES)}: compressed.\n")
