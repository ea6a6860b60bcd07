"""Set after the deploy what the template says and the emulator's CloudFormation drops.

The values are read from the template, so there is one place for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from local import aws, ports, postgres
from local.errors import DeployFailedError
from local.postgres import PostgresServer
from local.template_values import TemplateValues


def apply(endpoint_url: str, stack_name: str, values: TemplateValues) -> None:
    """Set DynamoDB's times to live, the HTTP APIs' CORS and the functions' reserved concurrency."""
    physical_ids = aws.physical_ids(endpoint_url, stack_name)
    dynamodb = aws.client("dynamodb", endpoint_url)
    for logical_id, specification in times_to_live(values):
        table = physical_ids[logical_id]
        current = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        if current.get("TimeToLiveStatus") != "ENABLED":
            dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)
    gateway = aws.client("apigatewayv2", endpoint_url)
    for logical_id, configuration in cors_configurations(values):
        gateway.update_api(ApiId=physical_ids[logical_id], CorsConfiguration=configuration)
    functions = aws.client("lambda", endpoint_url)
    for logical_id, reserved in reserved_concurrencies(values):
        name = physical_ids[logical_id]
        if reserved is None:
            functions.delete_function_concurrency(FunctionName=name)
        else:
            functions.put_function_concurrency(
                FunctionName=name, ReservedConcurrentExecutions=reserved
            )


def start_first_minute(endpoint_url: str, stack_name: str) -> None:
    """Do what the schedules start only in a minute: look after orders left by an earlier run.

    Another template than the engine's may be without them.
    """
    physical_ids = aws.physical_ids(endpoint_url, stack_name)
    if reconciler := physical_ids.get("ReconcileFunction"):
        aws.client("lambda", endpoint_url).invoke(
            FunctionName=reconciler, InvocationType="Event", Payload=b"{}"
        )
    if watch := physical_ids.get("WatchStateMachine"):
        aws.client("stepfunctions", endpoint_url).start_execution(stateMachineArn=watch, input="{}")


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


def times_to_live(values: TemplateValues) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the logical id and the time-to-live specification of each table that has one."""
    for logical_id, properties in values.resources("AWS::DynamoDB::Table"):
        specification = properties.get("TimeToLiveSpecification")
        if specification:
            enabled = str(specification.get("Enabled", True)).lower() == "true"
            yield logical_id, {**specification, "Enabled": enabled}


def cors_configurations(values: TemplateValues) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the logical id and the CORS configuration of each HTTP API that has one."""
    for logical_id, properties in values.resources("AWS::ApiGatewayV2::Api"):
        configuration = properties.get("CorsConfiguration")
        if configuration:
            if "MaxAge" in configuration:
                configuration["MaxAge"] = int(configuration["MaxAge"])
            yield logical_id, configuration


def reserved_concurrencies(values: TemplateValues) -> Iterator[tuple[str, int | None]]:
    """Yield the logical id and the reserved concurrency (None: none) of each function."""
    for logical_id, properties in values.resources("AWS::Serverless::Function"):
        reserved = properties.get("ReservedConcurrentExecutions")
        yield logical_id, None if reserved is None else int(reserved)
