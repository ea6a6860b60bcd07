"""AWS clients, made on first use and kept for the life of the execution environment."""

from functools import cache
from threading import Lock
from typing import Any

_making = Lock()
"""Sessions share a model loader that must not be used by two threads at once."""


@cache
def client(service_name: str, endpoint_url: str | None = None) -> Any:
    """Return the shared botocore client of a service; safe to call from several threads.

    botocore is imported here because it costs 0.3 s of every cold start; boto3's resource and
    S3 transfer layers, another 0.2 s, are not needed.
    """
    with _making:
        return _session().create_client(service_name, endpoint_url=endpoint_url, config=_config())


@cache
def _session() -> Any:
    from botocore.session import get_session

    return get_session()


@cache
def _config() -> Any:
    from botocore.config import Config

    return Config(
        connect_timeout=1,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=32,
        # A tenth of a call's processor time; the service checks the parameters anyway.
        parameter_validation=False,
        tcp_keepalive=True,
    )
