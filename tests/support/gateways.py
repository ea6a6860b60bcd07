"""Which function the gateways ask, as the template says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from local.deploy import load_template
from local.paths import DEFAULT_TEMPLATE


@cache
def handlers(api: str) -> Mapping[str, str]:
    """Return the handler (`module.function`) behind each route key of an API of the template."""
    resources: dict[str, Any] = load_template(DEFAULT_TEMPLATE)["Resources"]
    found = {}
    for resource in resources.values():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::ApiGatewayV2::Route" and properties["ApiId"] == {"Ref": api}:
            integration = properties["Target"]["Fn::Sub"].split("${")[1].rstrip("}")
            found[properties["RouteKey"]] = _handler_behind(resources, integration)
    return found


def handler_of_http(method: str, path: str) -> str:
    """Return the handler that answers a request: that of the most specific route."""
    candidates = [
        f"{method} {path}",
        *([f"{method} /api/{{proxy+}}", "ANY /api/{proxy+}"] if path.startswith("/api/") else []),
        f"{method} /{{proxy+}}",
        "$default",
    ]
    known = handlers("HttpApi")
    return next(known[key] for key in candidates if key in known)


def _handler_behind(resources: Mapping[str, Any], integration: str) -> str:
    uri = resources[integration]["Properties"]["IntegrationUri"]
    name = _function_named_in(uri)
    handler: str = resources[name]["Properties"].get("Handler", "app.handler")
    return handler


def _function_named_in(uri: Mapping[str, Any]) -> str:
    if "Fn::GetAtt" in uri:
        attribute = uri["Fn::GetAtt"]
        name: str = attribute[0] if isinstance(attribute, list) else attribute.split(".")[0]
        return name
    text: str = uri["Fn::Sub"]
    return text.split("/functions/${")[1].split(".Arn}")[0]
