"""The profile of the mock venues and their market."""

from typing import Literal

from pydantic import AwareDatetime, Field, Json

from order_engine.settings import EnvironmentModel

VolatilityName = Literal["still", "calm", "normal", "wild"]


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
