"""Typed configuration of the functions, read once from the environment."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, Json

VolatilityName = Literal["still", "calm", "normal", "wild"]


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


class MockSettings(EnvironmentModel):
    """Profile of the mock venues and their market (variables ``MOCK_*``)."""

    seed: int = 42
    quote_latency_ms: int = Field(default=200, ge=0)
    build_latency_ms: int = Field(default=50, ge=0)
    send_latency_ms: int = Field(default=50, ge=0)
    check_latency_ms: int = Field(default=20, ge=0)
    landing_ms: int = Field(default=800, ge=0)
    slot_ms: int = Field(default=400, gt=0)
    expiry_blocks: int = Field(default=150, gt=0)
    volatility: VolatilityName = "normal"
    faults: dict[str, float] | Json[dict[str, float]] = Field(default_factory=dict)
    scripted_fates: bool = False
    launches: dict[str, AwareDatetime] | Json[dict[str, AwareDatetime]] = Field(
        default_factory=dict
    )

    @classmethod
    def _prefix(cls) -> str:
        return "mock_"


class DatabaseSettings(EnvironmentModel):
    """Where the database's secret is."""

    database_secret_arn: str


class LifecycleSettings(DatabaseSettings):
    """Settings of the functions that move orders and stream their events."""

    order_stream_table: str


class ExecutionSettings(LifecycleSettings):
    """Settings of the functions that also start executions."""

    state_machine_arn: str


class ReconcileSettings(ExecutionSettings):
    """Settings of the ``reconcile`` function."""

    ledger_table: str


class TriggersSettings(ExecutionSettings):
    """Settings of the ``triggers`` function; the pace of releases is per tick."""

    ledger_table: str
    releases_per_tick: int = Field(default=50, ge=1)
    releases_in_flight: int = Field(default=50, ge=1)
    quotes_per_tick: int = Field(default=20, ge=2)


class ApiSettings(ExecutionSettings):
    """Settings of the ``api`` function."""

    ledger_table: str = ""

    admission_limit: int = Field(default=25, ge=0)
    websocket_url: str
    jwt_issuer: str = ""
    caller_required: bool = False


class VenueSettings(EnvironmentModel):
    """Settings of a venue function."""

    venue: str
    ledger_table: str


class WebSocketSettings(EnvironmentModel):
    """Settings of the ``websocket`` function."""

    order_stream_table: str
    caller_required: bool = False


class PublishSettings(EnvironmentModel):
    """Settings of the ``publish`` function."""

    order_stream_table: str
    websocket_callback_url: str
