from pathlib import Path
from typing import Any

import pytest

from local import deploy, fixups, runtime
from local.errors import DeployFailedError
from local.paths import REPOSITORY
from local.template_values import TemplateValues

TEMPLATE: dict[str, Any] = {
    "Parameters": {
        "DatabaseUrl": {"Type": "String"},
        "Lifetime": {"Type": "String", "Default": "expiresAtEpoch"},
        "Origins": {"Type": "CommaDelimitedList", "Default": "*"},
        "Burst": {"Type": "Number", "Default": 100},
        "Wanted": {"Type": "String", "Default": True},
    },
    "Resources": {
        "Stream": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TimeToLiveSpecification": {
                    "AttributeName": {"Ref": "Lifetime"},
                    "Enabled": "true",
                }
            },
        },
        "Ledger": {"Type": "AWS::DynamoDB::Table", "Properties": {}},
        "HttpApi": {
            "Type": "AWS::ApiGatewayV2::Api",
            "Properties": {
                "CorsConfiguration": {"AllowOrigins": {"Ref": "Origins"}, "MaxAge": "60"}
            },
        },
        "WebSocketApi": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {}},
    },
}


def test_complete_parameters_gives_every_parameter_a_value_as_text() -> None:
    values = deploy.complete_parameters(TEMPLATE, {"DatabaseUrl": "", "Runtime": "python3.13"})

    assert values == {
        "DatabaseUrl": "",
        "Lifetime": "expiresAtEpoch",
        "Origins": "*",
        "Burst": "100",
        "Wanted": "true",
    }


def test_check_parameters_names_the_unknown_ones() -> None:
    deploy.check_parameters(TEMPLATE, {"Burst": "1"})

    with pytest.raises(DeployFailedError, match="Brust, Typo"):
        deploy.check_parameters(TEMPLATE, {"Typo": "1", "Burst": "1", "Brust": "1"})


def test_times_to_live_come_from_the_template_with_references_resolved() -> None:
    found = list(fixups.times_to_live(TemplateValues(TEMPLATE, {"Lifetime": "until"})))

    assert found == [("Stream", {"AttributeName": "until", "Enabled": True})]


def test_cors_configurations_split_lists_and_read_numbers() -> None:
    values = TemplateValues(TEMPLATE, {"Origins": "https://a, https://b"})

    found = list(fixups.cors_configurations(values))

    assert found == [("HttpApi", {"AllowOrigins": ["https://a", "https://b"], "MaxAge": 60})]


def test_load_template_reads_short_forms_as_long_ones(tmp_path: Path) -> None:
    file = tmp_path / "template.yaml"
    file.write_text("Resources:\n  A:\n    Arn: !GetAtt B.Arn\n    Name: !Ref C\n")

    assert deploy.load_template(file)["Resources"]["A"] == {
        "Arn": {"Fn::GetAtt": ["B", "Arn"]},
        "Name": {"Ref": "C"},
    }


def test_the_template_declares_what_the_laptop_decides() -> None:
    template = deploy.load_template(REPOSITORY / "template.yaml")
    given = deploy.laptop_parameters(
        database_url="postgresql://x", endpoint_url="http://127.0.0.1:1", bundle_dependencies=False
    )

    deploy.check_parameters(template, given)

    assert deploy.DEPENDENCIES_LAYER in template["Resources"]
    assert given["Runtime"] in template["Parameters"]["Runtime"]["AllowedValues"]
    assert given["Architecture"] in template["Parameters"]["Architecture"]["AllowedValues"]


def test_the_template_has_what_the_emulator_drops() -> None:
    template = deploy.load_template(REPOSITORY / "template.yaml")
    values = TemplateValues(template, deploy.complete_parameters(template, {}))

    assert dict(fixups.times_to_live(values))["OrderStreamTable"]["Enabled"] is True
    assert dict(fixups.cors_configurations(values))["HttpApi"]["AllowOrigins"] == ["*"]
    assert dict(fixups.reserved_concurrencies(values))["RaydiumFunction"] == 10


@pytest.mark.parametrize(
    ("given", "reserved"),
    [
        ({"VenueConcurrency": "3"}, 3),
        ({"VenueConcurrency": "0"}, None),
        ({"ReserveConcurrency": "false"}, None),
    ],
)
def test_reserved_concurrency_follows_the_parameters(
    given: dict[str, str], reserved: int | None
) -> None:
    template = deploy.load_template(REPOSITORY / "template.yaml")
    values = TemplateValues(template, deploy.complete_parameters(template, given))

    assert dict(fixups.reserved_concurrencies(values))["MeteoraFunction"] == reserved


def test_the_emulators_limit_leaves_every_pool_its_size() -> None:
    template = deploy.load_template(REPOSITORY / "template.yaml")
    laptop = deploy.laptop_parameters(
        database_url="postgresql://x", endpoint_url="http://localhost:1", bundle_dependencies=False
    )
    values = TemplateValues(template, deploy.complete_parameters(template, laptop))

    pools = [reserved for _, reserved in fixups.reserved_concurrencies(values) if reserved]
    assert sum(pools) + 20 <= runtime.DEFAULT_CONCURRENCY


CONDITIONS: dict[str, Any] = {
    "Parameters": {"Size": {"Type": "Number"}, "Mode": {"Type": "String"}},
    "Conditions": {
        "Small": {"Fn::Equals": [{"Ref": "Size"}, 1]},
        "Open": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Mode"}, "closed"]}]},
        "Both": {"Fn::And": [{"Condition": "Small"}, {"Condition": "Open"}]},
        "Either": {"Fn::Or": [{"Condition": "Small"}, {"Condition": "Open"}]},
    },
    "Resources": {
        "A": {"Type": "T", "Condition": "Small", "Properties": {"P": 1}},
        "B": {
            "Type": "T",
            "Properties": {
                "Gone": {"Fn::If": ["Both", {"Ref": "AWS::NoValue"}, "there"]},
                "List": [{"Ref": "Size"}, {"Fn::If": ["Either", {"Ref": "AWS::NoValue"}, "x"]}],
                "Arn": {"Fn::GetAtt": ["A", "Arn"]},
            },
        },
    },
}


@pytest.mark.parametrize(
    ("size", "mode", "holding"),
    [
        ("1", "open", {"Small", "Open", "Both", "Either"}),
        ("1", "closed", {"Small", "Either"}),
        ("2", "open", {"Open", "Either"}),
        ("2", "closed", set()),
    ],
)
def test_conditions_hold_as_their_parameters_say(size: str, mode: str, holding: set[str]) -> None:
    values = TemplateValues(CONDITIONS, {"Size": size, "Mode": mode})

    assert {name for name in CONDITIONS["Conditions"] if values.holds(name)} == holding


def test_resources_leave_out_what_a_condition_leaves_out() -> None:
    small = dict(TemplateValues(CONDITIONS, {"Size": "1", "Mode": "open"}).resources("T"))
    large = dict(TemplateValues(CONDITIONS, {"Size": "2", "Mode": "closed"}).resources("T"))

    arn = {"Fn::GetAtt": ["A", "Arn"]}
    assert small == {"A": {"P": 1}, "B": {"List": ["1"], "Arn": arn}}
    assert large == {"B": {"Gone": "there", "List": ["2", "x"], "Arn": arn}}
