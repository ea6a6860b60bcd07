"""What clients send and get.

Here live requests, replies, problems and queries as the HTTP and WebSocket contracts state them; a
route or a gateway's event belongs to the functions.
"""
