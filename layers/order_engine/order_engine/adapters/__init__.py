"""The outside world behind the ports.

Here lives what calls AWS or a database, one module or folder per service; it decides nothing about
orders.
"""
