"""Typed configuration of the functions, read once from the environment."""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field


class EnvironmentModel(BaseModel):
    """Base of a function's settings: every field is the variable of the same name in capitals."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the model's fields; raise ``pydantic.ValidationError`` naming what is wrong."""
        return cls.model_validate(
            {
                name: environment[key]
                for name, field in cls.model_fields.items()
                if (key := f"{cls._prefix()}{name}".upper()) in environment
                and (environment[key] or field.is_required())
            }
        )

    @classmethod
    def _prefix(cls) -> str:
        return ""


class DatabaseSettings(EnvironmentModel):
    """Where the database's secret is."""

    database_secret_arn: str


class StreamSettings(EnvironmentModel):
    """Where the order stream is."""

    order_stream_table: str


class ExecutionSettings(EnvironmentModel):
    """Where executions are started."""

    state_machine_arn: str


class LedgerSettings(EnvironmentModel):
    """Where the mock chain keeps its transactions and pools."""

    ledger_table: str


class SlotSettings(EnvironmentModel):
    """How many orders may keep the venues busy at once; 0 does not limit them."""

    order_slots: int = Field(default=25, ge=0)


class IntakeSettings(EnvironmentModel):
    """How many orders are taken in; 0 does not limit."""

    orders_per_second: float = Field(default=0, ge=0)
    order_burst: int = Field(default=100, ge=1)
    max_waiting_orders_per_user: int = Field(default=0, ge=0)
    max_open_orders_per_user: int = Field(default=0, ge=0)


class PaceSettings(EnvironmentModel):
    """How much one tick of the watch may do."""

    releases_per_tick: int = Field(default=500, ge=1)
    quotes_per_tick: int = Field(default=20, ge=2)


class ApiSettings(EnvironmentModel):
    """What only the functions of the HTTP API are told."""

    websocket_url: str
    jwt_issuer: str = ""
    caller_required: bool = False


class VenueSettings(EnvironmentModel):
    """Which venue a venue function is."""

    venue: str


class WebSocketSettings(EnvironmentModel):
    """What only the websocket function is told; 0 connections are no limit."""

    connections_per_user: int = Field(default=100, ge=0)
    caller_required: bool = False


class GatewaySettings(EnvironmentModel):
    """Where messages to WebSocket connections are posted."""

    websocket_callback_url: str
