"""From a committed event to the clients that listen.

Here lives the delivery over WebSockets as plain code over its own ports; it knows neither DynamoDB
nor API Gateway, nor how orders are executed.
"""
