"""The template on the emulator: what only a deploy can show. (The laptop's own mode: e2e.)"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from local import aws, deploy, emulator, ports
from local.emulator import EmulatorOptions
from local.errors import DeployFailedError
from local.paths import StateDirectory

MODE_WITHOUT_URL = {"DatabaseUrl": "", "BundleDependencies": "false"}


@dataclass(frozen=True)
class Builder:
    """A built template and the emulator to deploy it to."""

    state: StateDirectory
    target: deploy.Target
    built_template: Path

    def deploy(self, template: Path | None = None, **changes: str) -> deploy.Deployment:
        target = replace(self.target, parameters={**self.target.parameters, **changes})
        return deploy.deploy(self.state, target, template or self.built_template)


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    root = tmp_path_factory.mktemp("stack")
    state = StateDirectory.at(root)
    state.create()
    running = emulator.start(
        state.emulator, root=state.root, port=ports.free_port(), options=EmulatorOptions()
    )
    try:
        template = deploy.Target(running.url, {}).template
        parameters = deploy.complete_parameters(
            deploy.load_template(template),
            {
                **deploy.laptop_parameters(
                    database_url="", endpoint_url=running.url, bundle_dependencies=False
                ),
                **MODE_WITHOUT_URL,
            },
        )
        target = deploy.Target(running.url, parameters)
        yield Builder(state, target, deploy.build(state, target))
    finally:
        emulator.stop(state.root)


@pytest.mark.timeout(300)
def test_rds_mode_makes_a_database_whose_secret_says_where_it_is(builder: Builder) -> None:
    # when
    outputs = builder.deploy(DatabaseMultiAz="true").outputs
    # then
    url = builder.target.endpoint_url
    (instance,) = aws.client("rds", url).describe_db_instances()["DBInstances"]
    secret = json.loads(
        aws.client("secretsmanager", url).get_secret_value(SecretId=outputs["DatabaseSecretArn"])[
            "SecretString"
        ]
    )
    assert secret["host"] == instance["Endpoint"]["Address"]
    assert secret["username"] == instance["MasterUsername"]
    assert (secret["dbname"], secret["engine"]) == ("orders", "postgres")
    assert len(secret["password"]) == 40
    assert instance["StorageEncrypted"] is True
    endpoints = aws.client("ec2", url).describe_vpc_endpoints()["VpcEndpoints"]
    assert sorted(e["ServiceName"].rsplit(".", 1)[1] for e in endpoints) == [
        "dynamodb",
        "s3",
        "secretsmanager",
        "states",
    ]


@pytest.mark.timeout(300)
def test_deploying_again_changes_nothing(builder: Builder) -> None:
    # given
    before = builder.deploy().outputs
    # when
    after = builder.deploy().outputs
    # then
    assert after == before
    status = aws.stack_status(builder.target.endpoint_url, builder.target.stack_name)
    assert status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")


@pytest.mark.timeout(300)
def test_issuer_protects_the_routes_but_those_that_are_open(builder: Builder) -> None:
    import httpx

    # when
    outputs = builder.deploy(
        JwtIssuer="https://issuer.example.com", JwtAudience="web,mobile"
    ).outputs
    # then
    with httpx.Client(base_url=outputs["HttpUrl"], timeout=30) as client:
        for method, path in [
            ("POST", "/api/orders/execute"),
            ("POST", "/api/orders"),
            ("POST", "/orders/execute"),
            ("GET", "/api/orders"),
            ("GET", "/api/quotes"),
            ("DELETE", "/api/orders/9c1b1a1e-0000-4000-8000-000000000000"),
            ("POST", "/api/stream-tickets"),
        ]:
            assert client.request(method, path).status_code == 401, path
        assert client.get("/api/openapi.json").status_code == 200
        assert client.get("/docs").status_code == 200


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"EmulatorEndpoint": ""}, "AllowOpenAccess=true"),
        ({"JwtIssuer": "https://issuer.example.com"}, "needs a JwtAudience"),
    ],
)
def test_deploy_that_breaks_a_rule_is_refused_and_told_why(
    builder: Builder, tmp_path: Path, changes: dict[str, str], told: str
) -> None:
    # given: the emulator looks for types that it does not know before it looks at the rules
    text = builder.built_template.read_text()
    known = text.replace("AWS::ApiGatewayV2::RouteResponse", "AWS::SNS::Topic")
    template = builder.built_template.with_name(f"{tmp_path.name}.yaml")
    template.write_text(known)
    # when
    with pytest.raises(DeployFailedError) as refused:
        builder.deploy(template, **changes)
    # then
    assert told in refused.value.hint
