"""The pages function: the console and the documentation, and a 404 for every other path."""

from http_api import HttpApi
from routes import pages

handler = HttpApi(pages.router).handle
