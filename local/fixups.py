"""Set after the deploy what the template says and the emulator's CloudFormation drops.

The values are read from the template, so there is one place for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from local import aws, ports, postgres
from local.errors import DeployFailedError
from local.postgres import PostgresServer

Template = Mapping[str, Any]


def apply(
    endpoint_url: str, stack_name: str, template: Template, parameters: Mapping[str, str]
) -> list[str]:
    """Set DynamoDB's time to live and the HTTP APIs' CORS; return what was set, for the reader."""
    physical_ids = aws.physical_ids(endpoint_url, stack_name)
    done: list[str] = []
    dynamodb = aws.client("dynamodb", endpoint_url)
    for logical_id, specification in times_to_live(template, parameters):
        table = physical_ids.get(logical_id)
        if table is None:
            continue
        current = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        if current.get("TimeToLiveStatus") != "ENABLED":
            dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)
        done.append(f"time to live of {logical_id}")
    gateway = aws.client("apigatewayv2", endpoint_url)
    for logical_id, configuration in cors_configurations(template, parameters):
        api = physical_ids.get(logical_id)
        if api is None:
            continue
        gateway.update_api(ApiId=api, CorsConfiguration=configuration)
        done.append(f"CORS of {logical_id}")
    return done


def use_embedded_database(
    endpoint_url: str, stack_name: str, secret_arn: str, server: PostgresServer, bucket: str
) -> None:
    """Point the secret of a stack with its own RDS at the embedded Postgres, and migrate that.

    The emulator's RDS instances are records without a server behind them. Raises
    DeployFailedError when the migration fails.
    """
    secret = {
        "engine": "postgres",
        "host": ports.HOST,
        "port": server.port,
        "dbname": postgres.DATABASE,
        "username": postgres.ROLE,
        "password": server.password,
        "sslmode": "disable",
    }
    aws.client("secretsmanager", endpoint_url).put_secret_value(
        SecretId=secret_arn, SecretString=json.dumps(secret)
    )
    # What CloudFormation sends to the custom resource in the other database mode.
    answer_key = "migration-answer.json"
    s3 = aws.client("s3", endpoint_url)
    event = {
        "RequestType": "Create",
        "RequestId": answer_key,
        "StackId": stack_name,
        "LogicalResourceId": "SchemaMigration",
        "ResponseURL": s3.generate_presigned_url(
            "put_object", Params={"Bucket": bucket, "Key": answer_key}
        ),
    }
    function = aws.physical_ids(endpoint_url, stack_name)["MigrateFunction"]
    result = aws.client("lambda", endpoint_url).invoke(
        FunctionName=function, Payload=json.dumps(event)
    )
    if "FunctionError" in result:
        raise DeployFailedError(
            "The migration of the embedded Postgres failed.",
            hint=result["Payload"].read().decode(),
        )


def times_to_live(
    template: Template, parameters: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the logical id and the time-to-live specification of each table that has one."""
    values = _parameter_values(template, parameters)
    for logical_id, resource in _resources(template, "AWS::DynamoDB::Table"):
        specification = _resolve(resource.get("TimeToLiveSpecification"), values)
        if specification:
            enabled = str(specification.get("Enabled", True)).lower() == "true"
            yield logical_id, {**specification, "Enabled": enabled}


def cors_configurations(
    template: Template, parameters: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the logical id and the CORS configuration of each HTTP API that has one."""
    values = _parameter_values(template, parameters)
    for logical_id, resource in _resources(template, "AWS::ApiGatewayV2::Api"):
        configuration = _resolve(resource.get("CorsConfiguration"), values)
        if configuration:
            if "MaxAge" in configuration:
                configuration["MaxAge"] = int(configuration["MaxAge"])
            yield logical_id, configuration


def _resources(template: Template, resource_type: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for logical_id, resource in template.get("Resources", {}).items():
        if resource.get("Type") == resource_type:
            yield logical_id, resource.get("Properties", {})


def _parameter_values(
    template: Template, parameters: Mapping[str, str]
) -> dict[str, str | list[str]]:
    """Return what a `Ref` to each parameter yields: text, or a list for the list types."""
    values: dict[str, str | list[str]] = dict(parameters)
    for name, declaration in template.get("Parameters", {}).items():
        if name in parameters and "List" in declaration.get("Type", ""):
            values[name] = [item.strip() for item in parameters[name].split(",")]
    return values


def _resolve(value: Any, values: Mapping[str, str | list[str]]) -> Any:
    """Resolve the references to parameters in a template value (other functions stay)."""
    if isinstance(value, dict):
        if set(value) == {"Ref"} and value["Ref"] in values:
            return values[value["Ref"]]
        return {key: _resolve(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, values) for item in value]
    return value
