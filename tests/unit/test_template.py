"""The template as data: what must hold for every function, role, queue and route in it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from samcli.yamlhelper import yaml_parse  # type: ignore[import-untyped]

from order_engine import settings
from order_engine.venues.mock.settings import MockSettings
from order_engine.venues.registry import venue_names

ROOT = Path(__file__).parents[2]
TEMPLATE: dict[str, Any] = json.loads(json.dumps(yaml_parse((ROOT / "template.yaml").read_text())))
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]
PARAMETERS: dict[str, dict[str, Any]] = TEMPLATE["Parameters"]

DATABASE_URL = "postgresql://user:password@db.example.com/orders"
LAPTOP = {"DatabaseUrl": DATABASE_URL, "EmulatorEndpoint": "http://localhost:4566"}
ISSUER = {"JwtIssuer": "https://issuer.example.com", "JwtAudience": "orders"}

# Why each may name no resource: the X-Ray and log delivery APIs have none to name.
STATEMENTS_ON_EVERY_RESOURCE = {"SendTraces", "DeliverLogs"}

# What the emulator's CloudFormation rejects (it would refuse the whole template).
UNKNOWN_TO_EMULATOR = {
    "AWS::ApiGatewayV2::RouteResponse",
    "AWS::ApiGatewayV2::Deployment",
    "AWS::ApiGatewayV2::Model",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::NatGateway",
    "AWS::EC2::EIP",
    "AWS::RDS::DBProxy",
    "AWS::Logs::QueryDefinition",
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::XRay::Group",
}

EXECUTING: list[type[BaseModel]] = [
    settings.DatabaseSettings,
    settings.StreamSettings,
    settings.ExecutionSettings,
    settings.SlotSettings,
]
MOCK: list[type[BaseModel]] = [settings.LedgerSettings, MockSettings]

SETTINGS_BY_FUNCTION: dict[str, list[type[BaseModel]]] = {
    "SubmitFunction": [settings.ApiSettings, settings.IntakeSettings, *EXECUTING, *MOCK],
    "ApiFunction": [settings.ApiSettings, *EXECUTING, *MOCK],
    "PagesFunction": [settings.ApiSettings],
    "HealthFunction": [settings.ApiSettings, settings.DatabaseSettings],
    "LifecycleFunction": EXECUTING,
    **{
        name: [settings.VenueSettings, *MOCK]
        for name, resource in RESOURCES.items()
        if resource.get("Properties", {}).get("CodeUri") == "functions/venue/"
    },
    "WebSocketFunction": [settings.WebSocketSettings, settings.StreamSettings],
    "PublishFunction": [settings.GatewaySettings, settings.StreamSettings],
    "ReconcileFunction": [*EXECUTING, *MOCK],
    "TriggersFunction": [settings.PaceSettings, *EXECUTING, *MOCK],
    "MigrateFunction": [settings.DatabaseSettings],
}


def of_type(*types: str) -> dict[str, dict[str, Any]]:
    return {name: r for name, r in RESOURCES.items() if r["Type"] in types}


FUNCTIONS = of_type("AWS::Serverless::Function")
ROLES = of_type("AWS::IAM::Role")
HTTP_ROUTES = {
    name: route["Properties"]
    for name, route in of_type("AWS::ApiGatewayV2::Route").items()
    if route["Properties"]["ApiId"] == {"Ref": "HttpApi"}
}
WEBSOCKET_ROUTES = {
    name: route["Properties"]
    for name, route in of_type("AWS::ApiGatewayV2::Route").items()
    if route["Properties"]["ApiId"] == {"Ref": "WebSocketApi"}
}

each_function = pytest.mark.parametrize("name", sorted(FUNCTIONS))
each_parameter = pytest.mark.parametrize("name", sorted(PARAMETERS))
each_role = pytest.mark.parametrize("name", sorted(ROLES))


def evaluate(expression: Any, given: dict[str, str]) -> Any:
    """Evaluate a condition or a rule's expression for the given parameters."""
    if not isinstance(expression, dict):
        return expression
    ((function, argument),) = expression.items()
    match function:
        case "Ref":
            return given.get(argument, PARAMETERS[argument].get("Default"))
        case "Condition":
            return evaluate(TEMPLATE["Conditions"][argument], given)
        case "Fn::Equals":
            left, right = (str(evaluate(item, given)) for item in argument)
            return left == right
        case "Fn::And":
            return all(evaluate(item, given) for item in argument)
        case "Fn::Or":
            return any(evaluate(item, given) for item in argument)
        case "Fn::Not":
            return not evaluate(argument[0], given)
    raise AssertionError(f"no rule for {function}")


def broken_rules(given: dict[str, str]) -> set[str]:
    return {
        name
        for name, rule in TEMPLATE["Rules"].items()
        if evaluate(rule.get("RuleCondition", True), given)
        and not all(evaluate(check["Assert"], given) for check in rule["Assertions"])
    }


def created(given: dict[str, str]) -> set[str]:
    """Return the resources that a deploy with the given parameters makes."""
    return {
        name
        for name, resource in RESOURCES.items()
        if "Condition" not in resource or evaluate({"Condition": resource["Condition"]}, given)
    }


def statements(role: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for policy in role["Properties"].get("Policies", []):
        yield from policy["PolicyDocument"]["Statement"]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def role_of(function: str) -> dict[str, Any]:
    return ROLES[FUNCTIONS[function]["Properties"]["Role"]["Fn::GetAtt"][0]]


def environment(function: str) -> dict[str, Any]:
    own = FUNCTIONS[function]["Properties"].get("Environment", {}).get("Variables", {})
    return {**TEMPLATE["Globals"]["Function"]["Environment"]["Variables"], **own}


def references(value: Any) -> set[str]:
    """Return the names that a value refers to, by `Ref`, `GetAtt` or within `Sub`."""
    if isinstance(value, list):
        return set().union(*(references(item) for item in value)) if value else set()
    if not isinstance(value, dict):
        return set()
    found: set[str] = set()
    for key, item in value.items():
        if key == "Ref":
            found.add(item)
        elif key == "Fn::GetAtt":
            found.add(item[0] if isinstance(item, list) else item.split(".")[0])
        elif key == "Fn::Sub":
            text = item[0] if isinstance(item, list) else item
            found |= {match.split(".")[0] for match in re.findall(r"\$\{([A-Za-z0-9.]+)\}", text)}
            found |= references(item[1]) if isinstance(item, list) else set()
        else:
            found |= references(item)
    return found


# Functions


@each_function
def test_function_logs_to_group_with_retention(name: str) -> None:
    group = FUNCTIONS[name]["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]

    assert RESOURCES[group]["Type"] == "AWS::Logs::LogGroup"
    assert references(role_log_resources(name)) >= {group}


def role_log_resources(function: str) -> list[Any]:
    return [s["Resource"] for s in statements(role_of(function)) if s["Sid"] == "WriteLogs"]


def test_every_log_group_has_retention_from_the_parameter() -> None:
    groups = of_type("AWS::Logs::LogGroup")

    assert len(groups) >= len(FUNCTIONS) + 3
    for name, group in groups.items():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}, name


def test_functions_and_state_machine_are_traced() -> None:
    assert TEMPLATE["Globals"]["Function"]["Tracing"] == "Active"
    machine = RESOURCES["OrderExecutionStateMachine"]["Properties"]
    assert machine["Tracing"] == {"Enabled": True}
    assert machine["Logging"]["Level"] == "ERROR"


@each_function
def test_function_runs_in_vpc_exactly_when_it_uses_the_database(name: str) -> None:
    vpc = FUNCTIONS[name]["Properties"].get("VpcConfig")
    uses_database = "DATABASE_SECRET_ARN" in environment(name)

    assert (vpc is not None) == uses_database
    if vpc is not None:
        assert vpc["Fn::If"][0] == "CreateDatabase"
        assert vpc["Fn::If"][2] == {"Ref": "AWS::NoValue"}


@each_function
def test_function_that_uses_the_database_is_deployed_after_the_migration(name: str) -> None:
    if name == "MigrateFunction" or "DATABASE_SECRET_ARN" not in environment(name):
        return

    assert "SchemaMigration" in references(FUNCTIONS[name]["Properties"]["Tags"])


@each_function
def test_environment_holds_every_setting_that_the_function_reads(name: str) -> None:
    variables = environment(name)

    for model in SETTINGS_BY_FUNCTION[name]:
        prefix = "MOCK_" if model is MockSettings else ""
        assert {f"{prefix}{field}".upper() for field in model.model_fields} <= set(variables)


def test_mock_parameters_have_the_defaults_of_the_settings() -> None:
    defaults = MockSettings()
    variables = TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]

    for field in MockSettings.model_fields:
        parameter = PARAMETERS[variables[f"MOCK_{field}".upper()]["Ref"]]
        given = MockSettings.from_environment({f"MOCK_{field}".upper(): str(parameter["Default"])})
        assert given == defaults, field


def test_connections_of_reserved_functions_stay_within_budget() -> None:
    most = 0
    for name, function in FUNCTIONS.items():
        if "DATABASE_SECRET_ARN" not in environment(name):
            continue
        reserved = function["Properties"].get("ReservedConcurrentExecutions")
        if reserved is None:
            assert name == "MigrateFunction"  # runs alone, during a deploy
            most += 1
            continue
        condition, limit, otherwise = reserved["Fn::If"]
        assert evaluate({"Condition": condition}, {}), name
        assert otherwise == {"Ref": "AWS::NoValue"}
        most += int(evaluate(limit, {}))

    assert most <= 70


@pytest.mark.parametrize("name", [f"{venue.capitalize()}Function" for venue in venue_names()])
def test_each_venue_runs_ten_at_once_by_default(name: str) -> None:
    condition, limit, _ = FUNCTIONS[name]["Properties"]["ReservedConcurrentExecutions"]["Fn::If"]

    assert evaluate({"Condition": condition}, {}) is True
    assert evaluate(limit, {}) == 10


@pytest.mark.parametrize("venue", venue_names())
def test_every_venue_logs_announces_pools_and_is_watched(venue: str) -> None:
    function, logs = f"{venue.capitalize()}Function", f"{venue.capitalize()}Logs"

    assert FUNCTIONS[function]["Properties"]["Environment"]["Variables"]["VENUE"] == venue
    assert logs in references(role_log_resources(function))
    news = RESOURCES["PoolCreatedRule"]["Properties"]["EventPattern"]["source"]
    assert f"dex.{venue}" in news
    assert function in references(RESOURCES["ExecutionThrottlesAlarm"]["Properties"]["Metrics"])
    dashboard = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    assert f'"VenueChosen{venue.capitalize()}"' in dashboard


@pytest.mark.parametrize("given", [{"VenueConcurrency": "0"}, {"ReserveConcurrency": "false"}])
def test_small_account_can_leave_the_venues_unreserved(given: dict[str, str]) -> None:
    assert evaluate({"Condition": "LimitsVenues"}, given) is False


@each_function
def test_nothing_is_reserved_when_the_account_cannot(name: str) -> None:
    reserved = FUNCTIONS[name]["Properties"].get("ReservedConcurrentExecutions")
    if reserved is None:
        return

    assert evaluate({"Condition": reserved["Fn::If"][0]}, {"ReserveConcurrency": "false"}) is False


# Rights


@each_role
def test_role_names_its_resources(name: str) -> None:
    for statement in statements(ROLES[name]):
        for resource in as_list(statement["Resource"]):
            if resource == "*":
                assert statement["Sid"] in STATEMENTS_ON_EVERY_RESOURCE


@each_role
def test_role_names_its_actions(name: str) -> None:
    for statement in statements(ROLES[name]):
        assert statement["Effect"] == "Allow"
        assert not [action for action in as_list(statement["Action"]) if "*" in action]


@each_role
def test_every_statement_of_a_role_has_a_name_of_its_own(name: str) -> None:
    names = [statement["Sid"] for statement in statements(ROLES[name])]

    assert len(names) == len(set(names))


@each_role
def test_managed_policies_serve_only_the_vpc_and_the_gateways_logs(name: str) -> None:
    managed = ROLES[name]["Properties"].get("ManagedPolicyArns")
    if managed is None:
        return
    if name == "ApiGatewayLogWriter":
        assert references(managed) == {"AWS::Partition"} or "AmazonAPIGateway" in str(managed)
        return

    condition, policies, otherwise = managed["Fn::If"]
    assert condition == "CreateDatabase"
    assert [p["Fn::Sub"].rsplit("/", 1)[1] for p in policies] == ["AWSLambdaENIManagementAccess"]
    assert otherwise == {"Ref": "AWS::NoValue"}


def test_every_function_has_a_role_of_its_own_but_the_venues() -> None:
    roles = [f["Properties"]["Role"]["Fn::GetAtt"][0] for f in FUNCTIONS.values()]

    venues = ["VenueRole"] * len(venue_names())
    assert sorted(roles) == sorted([*(set(roles) - {"VenueRole"}), *venues])


@each_function
def test_only_functions_with_the_database_may_read_its_secret(name: str) -> None:
    actions = {a for s in statements(role_of(name)) for a in as_list(s["Action"])}

    assert ("secretsmanager:GetSecretValue" in actions) == (
        "DATABASE_SECRET_ARN" in environment(name)
    )


def test_state_machine_may_invoke_exactly_the_functions_it_is_told() -> None:
    machine = RESOURCES["OrderExecutionStateMachine"]["Properties"]
    told = references(machine["DefinitionSubstitutions"])
    (invoke,) = (
        s for s in statements(ROLES["OrderExecutionRole"]) if s["Sid"] == "InvokeFunctions"
    )

    assert references(invoke["Resource"]) == told
    assert invoke["Action"] == "lambda:InvokeFunction"


def test_state_machine_is_told_every_name_its_definition_asks_for() -> None:
    definition = (ROOT / "statemachine/order_execution.asl.json").read_text()
    machine = RESOURCES["OrderExecutionStateMachine"]["Properties"]

    assert set(re.findall(r"\$\{(\w+)\}", definition)) == set(machine["DefinitionSubstitutions"])


# Asynchronous paths


def test_functions_invoked_asynchronously_have_a_destination_for_failures() -> None:
    schedules = [
        s["Properties"]["Target"]["Arn"] for s in of_type("AWS::Scheduler::Schedule").values()
    ]
    rules = [
        target["Arn"]
        for rule in of_type("AWS::Events::Rule").values()
        for target in rule["Properties"]["Targets"]
    ]
    tokens = [
        r["Properties"]["ServiceToken"]
        for r in RESOURCES.values()
        if r["Type"].startswith("Custom::")
    ]
    invoked = references([schedules, rules, tokens])

    assert invoked == {
        "ReconcileFunction",
        "TriggersFunction",
        "MigrateFunction",
        "WatchStateMachine",  # its failures are in its log and counted by WatchErrorsAlarm
    }
    for name in invoked - {"WatchStateMachine"}:
        failure = FUNCTIONS[name]["Properties"]["EventInvokeConfig"]["DestinationConfig"][
            "OnFailure"
        ]
        assert references(failure) == {"FailedEventsQueue"}
        assert may_send_to_queue(role_of(name)), name


def test_schedules_and_rules_keep_what_they_could_not_deliver() -> None:
    targets = [s["Properties"]["Target"] for s in of_type("AWS::Scheduler::Schedule").values()]
    targets += [
        t for r in of_type("AWS::Events::Rule").values() for t in r["Properties"]["Targets"]
    ]

    for target in targets:
        assert references(target["DeadLetterConfig"]) == {"FailedEventsQueue"}
    assert may_send_to_queue(ROLES["SchedulerRole"])


def test_stream_batches_end_in_the_queue_and_not_in_an_endless_retry() -> None:
    stream = FUNCTIONS["PublishFunction"]["Properties"]["Events"]["OrderStream"]["Properties"]

    assert stream["BisectBatchOnFunctionError"] is True
    assert 0 < stream["MaximumRetryAttempts"] <= 1000
    assert 60 <= stream["MaximumRecordAgeInSeconds"] <= 3600
    assert references(stream["DestinationConfig"]["OnFailure"]) == {"FailedEventsQueue"}
    assert stream["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert may_send_to_queue(role_of("PublishFunction"))


def test_stream_passes_on_new_events_and_subscriptions_only() -> None:
    stream = FUNCTIONS["PublishFunction"]["Properties"]["Events"]["OrderStream"]["Properties"]
    (pattern,) = [json.loads(f["Pattern"]) for f in stream["FilterCriteria"]["Filters"]]

    assert pattern["eventName"] == ["INSERT"]
    assert pattern["dynamodb"]["Keys"]["sk"]["S"] == [{"prefix": "event#"}, {"prefix": "conn#"}]


def may_send_to_queue(role: dict[str, Any]) -> bool:
    return any(
        s["Action"] == "sqs:SendMessage" and references(s["Resource"]) == {"FailedEventsQueue"}
        for s in statements(role)
    )


# APIs


@pytest.mark.parametrize("name", sorted(HTTP_ROUTES))
def test_http_route_asks_for_a_token_unless_it_is_open(name: str) -> None:
    route = HTTP_ROUTES[name]
    method, _, path = route["RouteKey"].partition(" ")
    is_open = (
        method == "OPTIONS"
        or route["RouteKey"] == "$default"
        or path in ("/api/health", "/api/openapi.json")
    )

    if is_open:
        assert "AuthorizationType" not in route
        assert "AuthorizerId" not in route
    else:
        assert route["AuthorizationType"] == {"Fn::If": ["HasJwtIssuer", "JWT", "NONE"]}
        assert route["AuthorizerId"]["Fn::If"][:2] == ["HasJwtIssuer", {"Ref": "HttpAuthorizer"}]


def test_http_routes_are_the_ones_that_clients_use() -> None:
    assert {route["RouteKey"] for route in HTTP_ROUTES.values()} == {
        "POST /api/orders/execute",
        "POST /api/orders",
        "POST /orders/execute",
        "ANY /api/{proxy+}",
        "GET /api/health",
        "GET /api/openapi.json",
        "OPTIONS /api/{proxy+}",
        "OPTIONS /{proxy+}",
        "$default",
    }


def test_every_way_to_submit_an_order_has_the_order_limit_and_the_submit_functions_pool() -> None:
    limits = RESOURCES["HttpStage"]["Properties"]["RouteSettings"]
    limits = limits | RESOURCES["WebSocketStage"]["Properties"]["RouteSettings"]
    submissions = {r["RouteKey"] for r in HTTP_ROUTES.values() if r["RouteKey"].startswith("POST ")}

    for way in (*submissions, "execute"):
        assert limits[way]["ThrottlingRateLimit"] == {"Ref": "OrdersPerSecond"}
        assert limits[way]["ThrottlingBurstLimit"] == {"Ref": "BurstLimit"}
    assert {pool_of(route) for route in submissions} == {"SubmitFunction"}
    execute = RESOURCES["WebSocketExecuteIntegration"]["Properties"]["IntegrationUri"]
    assert "SubmitFunction" in references(execute)


def test_routes_without_a_caller_have_the_lowest_limit_and_pools_of_their_own() -> None:
    limits = RESOURCES["HttpStage"]["Properties"]["RouteSettings"]
    opened = {r["RouteKey"] for r in HTTP_ROUTES.values() if "AuthorizationType" not in r}

    assert {pool_of(route) for route in opened - {"GET /api/health"}} == {"PagesFunction"}
    assert pool_of("GET /api/health") == "HealthFunction"
    for route in opened:
        assert limits[route]["ThrottlingRateLimit"] == {"Ref": "PagesPerSecond"}
    lowest = PARAMETERS["PagesPerSecond"]["Default"]
    assert lowest < PARAMETERS["RequestsPerSecond"]["Default"]
    assert lowest < PARAMETERS["OrdersPerSecond"]["Default"]


def test_other_routes_have_the_api_functions_pool() -> None:
    assert pool_of("ANY /api/{proxy+}") == "ApiFunction"


def test_pages_reach_neither_the_database_nor_any_other_part() -> None:
    names = {statement["Sid"] for statement in statements(ROLES["PagesRole"])}

    assert names == {"WriteLogs", "SendTraces"}
    assert not {name for name in environment("PagesFunction") if name.endswith(("_ARN", "_TABLE"))}


def pool_of(route_key: str) -> str:
    """Return the function that answers a route of the HTTP API."""
    (route,) = (r for r in HTTP_ROUTES.values() if r["RouteKey"] == route_key)
    (integration,) = references(route["Target"])
    uri = RESOURCES[integration]["Properties"]["IntegrationUri"]
    name: str = uri["Fn::GetAtt"][0] if isinstance(uri["Fn::GetAtt"], list) else uri["Fn::GetAtt"]
    return name.removesuffix(".Arn")


def test_stage_waits_for_the_routes_whose_limits_it_sets() -> None:
    for stage in of_type("AWS::ApiGatewayV2::Stage").values():
        dependencies = as_list(stage["DependsOn"])
        routes = {RESOURCES[name]["Properties"]["RouteKey"] for name in dependencies}
        assert routes == set(stage["Properties"]["RouteSettings"])


def test_stages_deploy_themselves_throttle_measure_and_log() -> None:
    for name, stage in of_type("AWS::ApiGatewayV2::Stage").items():
        properties = stage["Properties"]
        assert properties["AutoDeploy"] is True, name
        assert properties["DefaultRouteSettings"]["DetailedMetricsEnabled"] is True
        assert properties["DefaultRouteSettings"]["ThrottlingRateLimit"] == {
            "Ref": "RequestsPerSecond"
        }
        line = json.loads(properties["AccessLogSettings"]["Format"])
        assert line["requestId"] == "$context.requestId"


def test_access_logs_hold_no_query_strings() -> None:
    for stage in of_type("AWS::ApiGatewayV2::Stage").values():
        line = stage["Properties"]["AccessLogSettings"]["Format"].lower()
        assert "query" not in line  # a stream ticket is in it
        assert "authorization" not in line


def test_websocket_routes_are_the_ones_that_clients_use() -> None:
    routes = {route["RouteKey"]: route["Target"] for route in WEBSOCKET_ROUTES.values()}

    assert set(routes) == {
        "$connect",
        "$disconnect",
        "$default",
        "subscribe",
        "unsubscribe",
        "ping",
        "execute",
    }
    to_api = [key for key, target in routes.items() if "Execute" in str(target)]
    assert to_api == ["execute"]


def test_every_websocket_answer_has_a_route_response_on_aws() -> None:
    answering = {
        name for name, r in WEBSOCKET_ROUTES.items() if "RouteResponseSelectionExpression" in r
    }
    responses = of_type("AWS::ApiGatewayV2::RouteResponse")

    keys = {r["RouteKey"] for r in WEBSOCKET_ROUTES.values()}
    assert {WEBSOCKET_ROUTES[n]["RouteKey"] for n in answering} == keys - {
        "$connect",
        "$disconnect",
    }
    assert {r["Properties"]["RouteId"]["Ref"] for r in responses.values()} == answering
    assert {r["Condition"] for r in responses.values()} == {"OnAws"}


# Homes


def test_laptop_deploy_asks_for_nothing_that_the_emulator_rejects() -> None:
    for given in (LAPTOP, {**LAPTOP, "DatabaseUrl": ""}, {**LAPTOP, **ISSUER}):
        types = {RESOURCES[name]["Type"] for name in created(given)}
        assert not types & UNKNOWN_TO_EMULATOR
        alarms = [RESOURCES[n] for n in created(given) if n.endswith("Alarm")]
        assert not [alarm for alarm in alarms if "Metrics" in alarm["Properties"]]


def test_database_url_makes_no_network_and_no_instance() -> None:
    made = created({"DatabaseUrl": DATABASE_URL})

    assert "DatabaseUrlSecret" in made
    assert not [n for n in made if RESOURCES[n]["Type"].startswith(("AWS::EC2::", "AWS::RDS::"))]


def test_empty_database_url_makes_database_network_and_endpoints() -> None:
    made = created({})

    assert "DatabaseUrlSecret" not in made
    endpoints = [RESOURCES[n]["Properties"] for n in made if n.endswith("Endpoint")]
    services = {e["ServiceName"]["Fn::Sub"].rsplit(".", 1)[1]: e for e in endpoints}
    assert set(services) == {"s3", "dynamodb", "states", "secretsmanager"}
    assert services["s3"]["VpcEndpointType"] == services["dynamodb"]["VpcEndpointType"] == "Gateway"
    types = {RESOURCES[name]["Type"] for name in made}
    assert "AWS::RDS::DBInstance" in types
    assert not types & {"AWS::EC2::NatGateway", "AWS::EC2::InternetGateway"}


def test_migration_waits_for_the_network_it_needs() -> None:
    needs = references(RESOURCES["SchemaMigration"]["Properties"])

    assert needs >= {
        "DatabaseSecretAttachment",
        "SecretsManagerEndpoint",
        "S3Endpoint",
        "PrivateRoutesA",
        "PrivateRoutesB",
    }


def test_migration_runs_again_when_the_package_changes() -> None:
    assert RESOURCES["SchemaMigration"]["Properties"]["Package"] == {"Ref": "OrderEngineLayer"}


def test_migration_is_left_out_only_where_the_emulator_has_no_database() -> None:
    emulator = {"EmulatorEndpoint": "http://localhost:4566"}

    assert "SchemaMigration" not in created(emulator)
    assert "SchemaMigration" in created(LAPTOP)
    assert "SchemaMigration" in created({})


def test_open_deploy_to_aws_must_be_asked_for() -> None:
    assert broken_rules({}) == {"OpenAccessIsWanted"}
    assert broken_rules({"AllowOpenAccess": "true"}) == set()
    assert broken_rules(ISSUER) == set()
    assert broken_rules(LAPTOP) == set()


def test_issuer_without_audience_is_refused() -> None:
    given = {"JwtIssuer": "https://issuer.example.com"}

    assert broken_rules(given) == {"AudienceIsNamed"}
    assert broken_rules({**given, "AllowOpenAccess": "true"}) == {"AudienceIsNamed"}


# Data


def test_data_is_encrypted_at_rest() -> None:
    for table in of_type("AWS::DynamoDB::Table").values():
        assert table["Properties"]["SSESpecification"] == {"SSEEnabled": True}
        assert table["Properties"]["PointInTimeRecoverySpecification"] == {
            "PointInTimeRecoveryEnabled": True
        }
    for queue in of_type("AWS::SQS::Queue").values():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True
    for topic in of_type("AWS::SNS::Topic").values():
        assert "KmsMasterKeyId" in topic["Properties"]


def test_database_instance_is_private_encrypted_and_kept() -> None:
    database = RESOURCES["Database"]
    properties = database["Properties"]

    assert properties["StorageEncrypted"] is True
    assert properties["PubliclyAccessible"] is False
    assert properties["BackupRetentionPeriod"] >= 7
    assert database["DeletionPolicy"] == database["UpdateReplacePolicy"] == "Snapshot"
    assert RESOURCES["DatabaseParameters"]["Properties"]["Parameters"]["rds.force_ssl"] == "1"


def test_only_the_functions_reach_database_and_endpoints() -> None:
    for name in ("DatabaseSecurityGroup", "EndpointSecurityGroup"):
        (rule,) = RESOURCES[name]["Properties"]["SecurityGroupIngress"]
        assert rule["SourceSecurityGroupId"] == {"Ref": "FunctionSecurityGroup"}
    assert "SecurityGroupIngress" not in RESOURCES["FunctionSecurityGroup"]["Properties"]


def test_secret_parameters_are_not_echoed_and_not_put_out() -> None:
    assert PARAMETERS["DatabaseUrl"]["NoEcho"] is True
    holders = [n for n, r in RESOURCES.items() if "DatabaseUrl" in references(r["Properties"])]
    assert holders == ["DatabaseUrlSecret"]
    assert "DatabaseUrl" not in references(TEMPLATE["Outputs"])


# Parameters


@each_parameter
def test_parameter_explains_and_limits_itself(name: str) -> None:
    parameter = PARAMETERS[name]

    assert parameter["Description"]
    assert "Default" in parameter
    assert parameter["ConstraintDescription"]
    assert {"AllowedPattern", "AllowedValues", "MinValue"} & set(parameter)


@each_parameter
def test_parameter_default_satisfies_its_own_limits(name: str) -> None:
    parameter = PARAMETERS[name]
    default = parameter["Default"]

    if "AllowedPattern" in parameter:
        assert re.fullmatch(parameter["AllowedPattern"], str(default))
    if "AllowedValues" in parameter:
        assert default in parameter["AllowedValues"]
    if "MinValue" in parameter:
        assert parameter["MinValue"] <= default <= parameter.get("MaxValue", default)


def test_every_parameter_is_in_one_group() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]

    assert sorted(grouped) == sorted(PARAMETERS)


@pytest.mark.parametrize(
    ("name", "value", "matches"),
    [
        ("DatabaseUrl", "", True),
        ("DatabaseUrl", "postgresql://u:p%22@host:5432/db?sslmode=require", True),
        ("DatabaseUrl", "postgres://host/db", True),
        ("DatabaseUrl", 'postgresql://u:"@host/db', False),
        ("DatabaseUrl", "postgresql://u:\\@host/db", False),
        ("DatabaseUrl", "mysql://host/db", False),
        ("JwtIssuer", "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_a", True),
        ("JwtIssuer", "issuer.example.com", False),
        ("JwtAudience", "web,mobile", True),
        ("JwtAudience", "web, mobile", False),
        ("EmulatorEndpoint", "http://localhost:4566", True),
        ("EmulatorEndpoint", "http://localhost:4566/", False),
        ("AlarmEmail", "on-call@example.com", True),
        ("AlarmEmail", "on-call", False),
        ("MockFaults", '{"quote_timeout": 0.5}', True),
        ("MockFaults", "quote_timeout", False),
    ],
)
def test_parameter_pattern_accepts_what_it_should(name: str, value: str, matches: bool) -> None:
    assert bool(re.fullmatch(PARAMETERS[name]["AllowedPattern"], value)) is matches


# Operations


def test_every_alarm_explains_itself_and_tells_somebody() -> None:
    for name, alarm in of_type("AWS::CloudWatch::Alarm").items():
        properties = alarm["Properties"]
        assert properties["AlarmDescription"], name
        assert properties["AlarmActions"]["Fn::If"][:2] == [
            "HasAlarmEmail",
            [{"Ref": "AlarmTopic"}],
        ]
        assert properties["TreatMissingData"] in ("notBreaching", "breaching")


def test_every_alarm_has_a_section_of_the_runbook_and_every_section_an_alarm() -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    alarms = runbook.split("# The alarms\n")[1].split("\n# By hand\n")[0]
    sections = dict(
        section.split("\n", 1) for section in re.split(r"^## ", alarms, flags=re.MULTILINE)[1:]
    )

    assert set(sections) == set(of_type("AWS::CloudWatch::Alarm"))
    for name, text in sections.items():
        assert "**Means**" in text, name
        assert "**Do**" in text, name


def test_runbook_speaks_of_parts_that_exist() -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()

    assert set(re.findall(r"\bphysical (\w+)", runbook)) <= set(RESOURCES)
    assert set(re.findall(r"\boutput (\w+)\)", runbook)) <= set(TEMPLATE["Outputs"])
    parameters = set(re.findall(r"`([A-Z]\w+(?:Concurrency|Second|Tick|Slots|Class))`", runbook))
    assert parameters <= set(PARAMETERS)
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", runbook, flags=re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", runbook)) <= anchors


def test_dashboard_is_valid_and_shows_every_function() -> None:
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]

    widgets = json.loads(body)["widgets"]
    assert len(widgets) >= 8
    shown = references({"Fn::Sub": body})
    assert shown >= set(FUNCTIONS) - {"MigrateFunction"}
    assert shown - {"AWS", "AWS::Region", "AWS::StackName"} <= set(RESOURCES)


def test_outputs_are_the_ones_that_tools_read() -> None:
    assert set(TEMPLATE["Outputs"]) >= {
        "HttpUrl",
        "WebSocketUrl",
        "OrderStreamTableName",
        "LedgerTableName",
        "StateMachineArn",
        "DatabaseSecretArn",
        "FailedEventsQueueUrl",
        "DashboardUrl",
    }
