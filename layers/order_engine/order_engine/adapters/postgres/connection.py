"""One connection to Postgres per execution environment."""

from collections.abc import Callable
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from order_engine.adapters.secrets import DatabaseSecret
from order_engine.errors import DatabaseUnavailable

type Row = dict[str, Any]
type Connection = psycopg.Connection[Row]
type Statement = LiteralString | sql.SQL | sql.Composed
type Parameters = list[Any] | dict[str, Any]

CONNECT_TIMEOUT_S = 3
STATEMENT_TIMEOUT_MS = 5_000


class Database:
    """Run statements through one connection, which is opened on first use.

    Every statement is its own transaction and may be repeated: inserts find what they stored
    before, transitions recognize themselves. So a lost connection is answered with one
    reconnect and one repetition; after that ``DatabaseUnavailable`` is raised.
    """

    def __init__(self, secret: DatabaseSecret) -> None:
        self._secret = secret
        self._connection: Connection | None = None

    def run[Result](self, work: Callable[[Connection], Result]) -> Result:
        """Do the work, a second time with a new connection when the first is lost."""
        try:
            return work(self._connected())
        except (psycopg.OperationalError, psycopg.InterfaceError):
            self.close()
        try:
            return work(self._connected())
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self.close()
            raise DatabaseUnavailable("the database does not answer") from error

    def row(self, statement: Statement, parameters: Parameters) -> Row | None:
        """Return the first row of a statement."""
        return self.run(lambda connection: connection.execute(statement, parameters).fetchone())

    def rows(self, statement: Statement, parameters: Parameters) -> list[Row]:
        """Return every row of a statement."""
        return self.run(lambda connection: connection.execute(statement, parameters).fetchall())

    def execute(self, statement: Statement, parameters: Parameters) -> None:
        """Run a statement whose rows, if any, nobody wants."""
        self.run(lambda connection: connection.execute(statement, parameters))

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._secret)
        return self._connection


def connect(secret: DatabaseSecret) -> Connection:
    """Open a connection; a refused login is tried once more with the secret read anew.

    Prepared statements are off because proxies and poolers do not carry them.
    Raises ``psycopg.OperationalError`` or ``DatabaseUnavailable``.
    """
    options: dict[str, Any] = {
        "autocommit": True,
        "prepare_threshold": None,
        "row_factory": dict_row,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
        "keepalives_idle": 30,
    }
    try:
        return psycopg.connect(**secret.connection_parameters(), **options)
    except psycopg.OperationalError:
        return psycopg.connect(**secret.connection_parameters(refresh=True), **options)
