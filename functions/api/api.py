"""The api function: reads, cancels and amends orders, quotes, issues tickets."""

from http_api import HttpApi
from routes import market, orders

handler = HttpApi(orders.router, market.router).handle
