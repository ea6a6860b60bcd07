"""The console as one page: its styles, its modules and the engine's tables are in it."""

import json
import re
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import quote

from content.packed_template import PackedTemplate
from order_engine.api.console_tables import console_tables

FOLDER = Path(__file__).parents[1] / "console"
NONCE_BYTES = 18

_STYLESHEETS = re.compile(r'(?:<link rel="stylesheet" href="styles/[\w.-]+">\n)+')
_STYLESHEET_NAME = re.compile(r'href="(styles/[\w.-]+)"')
_START = '<script type="module" src="modules/console.js"></script>'
_TABLES = '<script type="application/json" id="tables">{}</script>'
_NONCE = "%nonce%"
# What a URL may hold as it is; whatever else is percent-encoded, so that the page compresses well.
_OF_URLS = " !$&'()*+,-./:;=>?@[]^_`{|}~\""


@dataclass(frozen=True)
class ConsolePage:
    """The page for one answer, and the content policy that lets its own code and styles act."""

    template: PackedTemplate
    nonce: str
    style_hash: str

    @property
    def text(self) -> str:
        """Return the page as it is."""
        return self.template.text(self.nonce)

    @property
    def packed(self) -> bytes:
        """Return the page as gzip."""
        return self.template.packed(self.nonce)

    @property
    def policy(self) -> str:
        """Return what the page may run, show and reach."""
        return (
            f"script-src 'nonce-{self.nonce}'; style-src '{self.style_hash}'; "
            "img-src 'self' data:; connect-src 'self' ws: wss:"
        )


def console_page() -> ConsolePage:
    """Return the page with a nonce of its own.

    A request per file would be an invocation per file, most of them cold at first.
    """
    template, style_hash = _template()
    return ConsolePage(template, token_urlsafe(NONCE_BYTES), style_hash)


@cache
def _template() -> tuple[PackedTemplate, str]:
    """Return the page with places for the nonce, and the hash of its styles."""
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    links = _STYLESHEETS.search(page)
    if links is None or _START not in page or _TABLES not in page:
        raise ValueError("the page has no place for its styles, its modules or its tables")
    names = _STYLESHEET_NAME.findall(links[0])
    styles = "".join((FOLDER / name).read_text(encoding="utf-8") for name in names)
    if "</" in styles:
        raise ValueError("the styles would end the element that they are put into")
    start = (
        f'<script type="importmap" nonce="{_NONCE}">{_json({"imports": _modules()})}</script>\n'
        f'<script type="module" nonce="{_NONCE}">import "console/console.js";</script>'
    )
    page = page.replace(links[0], f"<style>{styles}</style>\n")
    page = page.replace(_START, start)
    page = page.replace(_TABLES, _TABLES.replace("{}", _json(console_tables())))
    style_hash = f"sha256-{b64encode(sha256(styles.encode()).digest()).decode()}"
    return PackedTemplate(page, _NONCE), style_hash


def _modules() -> dict[str, str]:
    """Return each module as a URL that holds its code, by the name that the others import."""
    modules = {}
    for file in sorted((FOLDER / "modules").glob("*.js")):
        name = f"console/{file.name}"
        # Errors and the browser's tools then name the module.
        code = f"{file.read_text(encoding='utf-8')}//# sourceURL={name}\n"
        modules[name] = f"data:text/javascript;charset=utf-8,{quote(code, safe=_OF_URLS)}"
    return modules


def _json(content: object) -> str:
    """Return JSON that cannot end the element which it is put into."""
    return json.dumps(content).replace("<", r"\u003c")
