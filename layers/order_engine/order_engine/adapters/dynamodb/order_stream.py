"""The order stream: one DynamoDB table of events, owners, subscriptions and tickets.

==========================  ==============================  =======================================
pk                          sk                              holds
==========================  ==============================  =======================================
``order#<orderId>``         ``event#<seq, 10 digits>``      an event, exactly as clients get it;
                                                            the first one tells the owner
``order#<orderId>``         ``conn#<connectionId>``         a subscription to the order
``order#<orderId>``         ``cursors``                     what was delivered, per subscription
``user#<userId>``           ``conn#<connectionId>``         a subscription to all the user's orders
either                      ``conn#<id>#again#<nonce>``     wakes ``publish`` for one connection
either                      ``listened``                    that somebody listens, and since when
``orders#<userId>``         ``order#<time>#<orderId>``      the user's orders, for replay
``connections#<userId>``    ``connection#<connectionId>``   the user's connections, to be counted
``connection#<id>``         ``connection``                  who has connected
``ticket#<digest>``         ``ticket``                      a stream ticket
==========================  ==============================  =======================================
"""

from order_engine.adapters.dynamodb.deliveries import Deliveries
from order_engine.adapters.dynamodb.events import Events
from order_engine.adapters.dynamodb.subscriptions import Subscriptions
from order_engine.adapters.dynamodb.tickets import Tickets


class OrderStream(Events, Subscriptions, Deliveries, Tickets):
    """Write events for the subscribers, and keep who subscribes to what.

    Implements the port ``EventStream`` and what ``streaming`` and ``api`` need of it.
    """
