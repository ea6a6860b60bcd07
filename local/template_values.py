"""What the values of a CloudFormation template come to for given parameters.

Only what a template's own text decides: parameters, conditions, `Fn::If`. References to resources
and other functions stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Template = Mapping[str, Any]


class _NoValue:
    """`AWS::NoValue`: the property is not there."""


NO_VALUE = _NoValue()


class TemplateValues:
    """A template with every parameter's value."""

    def __init__(self, template: Template, parameters: Mapping[str, str]) -> None:
        self._template = template
        self._parameters: dict[str, str | list[str]] = dict(parameters)
        for name, declaration in template.get("Parameters", {}).items():
            if name in parameters and "List" in declaration.get("Type", ""):
                items = parameters[name].split(",")
                self._parameters[name] = [item.strip() for item in items]

    def resources(self, resource_type: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the logical id and the properties of each resource that is deployed."""
        for logical_id, resource in self._template.get("Resources", {}).items():
            condition = resource.get("Condition")
            if resource.get("Type") == resource_type and (not condition or self.holds(condition)):
                yield logical_id, self.resolve(resource.get("Properties", {}))

    def holds(self, condition: str) -> bool:
        """Tell whether the condition of this name holds."""
        return self._evaluate(self._template["Conditions"][condition])

    def resolve(self, value: Any) -> Any:
        """Resolve what the template's text decides about a value; leave out `AWS::NoValue`."""
        if isinstance(value, list):
            items = [self.resolve(item) for item in value]
            return [item for item in items if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if set(value) == {"Ref"}:
            name = value["Ref"]
            return NO_VALUE if name == "AWS::NoValue" else self._parameters.get(name, value)
        if set(value) == {"Fn::If"}:
            condition, when_true, when_false = value["Fn::If"]
            return self.resolve(when_true if self.holds(condition) else when_false)
        resolved = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not NO_VALUE}

    def _evaluate(self, expression: Any) -> bool:
        [(function, argument)] = expression.items()
        match function:
            case "Condition":
                return self.holds(argument)
            case "Fn::Equals":
                left, right = (str(self.resolve(side)) for side in argument)
                return left == right
            case "Fn::Not":
                return not self._evaluate(argument[0])
            case "Fn::And":
                return all(self._evaluate(part) for part in argument)
            case "Fn::Or":
                return any(self._evaluate(part) for part in argument)
        raise NotImplementedError(f"the condition function {function}")
