"""The database's address and login, from Secrets Manager."""

import json
from pathlib import Path
from typing import Any

from order_engine.adapters import aws
from order_engine.errors import DatabaseUnavailable

RDS_CERTIFICATES = Path(__file__).with_name("rds_global_bundle.pem")


class DatabaseSecret:
    """Read the secret once per environment, and again when told that it is stale.

    The secret is either ``{"url": "postgresql://..."}`` or the form that RDS fills in:
    ``username``, ``password``, ``host``, ``port``, ``dbname``.
    """

    def __init__(self, secret_arn: str) -> None:
        self._secret_arn = secret_arn
        self._parameters: dict[str, Any] | None = None

    def connection_parameters(self, *, refresh: bool = False) -> dict[str, Any]:
        """Return psycopg's connection parameters; raise ``DatabaseUnavailable``."""
        if self._parameters is None or refresh:
            self._parameters = self._read()
        return self._parameters

    def _read(self) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = aws.client("secretsmanager").get_secret_value(SecretId=self._secret_arn)
        except (BotoCoreError, ClientError) as error:
            raise DatabaseUnavailable("the database's secret cannot be read") from error
        return connection_parameters_of(json.loads(answer["SecretString"]))


def connection_parameters_of(secret: dict[str, Any]) -> dict[str, Any]:
    """Return psycopg's connection parameters for either form of the secret."""
    if "url" in secret:
        return {"conninfo": secret["url"]}
    return {
        "host": secret["host"],
        "port": int(secret.get("port", 5432)),
        "dbname": secret.get("dbname", "orders"),
        "user": secret["username"],
        "password": secret["password"],
        "sslmode": secret.get("sslmode", "verify-full"),
        "sslrootcert": str(RDS_CERTIFICATES),
    }
