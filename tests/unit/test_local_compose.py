"""What localstack-compose.yml promises, without a Docker engine."""

from typing import Any

import pytest

from local import deploy, localstack
from local.paths import REPOSITORY


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return deploy.load_template(REPOSITORY / "localstack-compose.yml")


def test_images_are_pinned(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        _, _, tag = service["image"].partition(":")
        assert tag[:1].isdigit(), service["image"]


def test_ports_are_bound_to_the_loopback_address(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(str(port).startswith("127.0.0.1:") for port in service["ports"])


def test_token_is_required_with_a_message(compose: dict[str, Any]) -> None:
    token = compose["services"]["localstack"]["environment"]["LOCALSTACK_AUTH_TOKEN"]

    assert token.startswith("${LOCALSTACK_AUTH_TOKEN:?")


def test_lambda_containers_find_the_database_that_the_deploy_names(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    postgres = services["postgres"]["environment"]
    network = services["localstack"]["environment"]["LAMBDA_DOCKER_NETWORK"]
    login = f"{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}"

    assert network in services["postgres"]["networks"]
    assert compose["networks"][network]["name"] == network
    assert (
        f"postgresql://{login}@postgres:5432/{postgres['POSTGRES_DB']}"
        == localstack.INNER_DATABASE_URL
    )
    host_port = services["postgres"]["ports"][0].split(":")[1]
    assert f"@127.0.0.1:{host_port}/" in localstack.DATABASE_URL
