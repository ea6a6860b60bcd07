"""The health function: has a database connection of its own, so that no flood hides the answer."""

from http_api import HttpApi
from routes import health

handler = HttpApi(health.router).handle
