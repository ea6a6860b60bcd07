"""Compare two commits on the same machine, in turn.

A side is talked to over HTTP and WebSocket, started and stopped with its own commands, and watched
as processes of the system: another commit's modules may stand elsewhere. A scenario is one kind of
load on a fresh stack; rows are what is read from it; a report is all rows of both sides.
"""
