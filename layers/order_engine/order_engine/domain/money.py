"""Exact conversions between token amounts (``Decimal``) and integer base units."""

from decimal import ROUND_DOWN, Context, Decimal, Inexact

BASIS_POINTS = 10_000

# 38 digits is what the NUMERIC(38, 18) columns hold; Inexact traps make silent rounding an error.
EXACT = Context(prec=76, traps=[Inexact])
PRICE_CONTEXT = Context(prec=38, rounding=ROUND_DOWN)


def to_base_units(amount: Decimal, decimals: int) -> int:
    """Return ``amount`` as a whole number of base units.

    Raises ``ValueError`` when the amount has more decimals than the token.
    """
    scaled = amount.scaleb(decimals, context=Context(prec=76))
    units = int(scaled)
    if scaled != units:
        raise ValueError(f"more than {decimals} decimals")
    return units


def from_base_units(units: int, decimals: int) -> Decimal:
    """Return a whole number of base units as a token amount."""
    return Decimal(units).scaleb(-decimals, context=Context(prec=76))


def decimal_text(value: Decimal) -> str:
    """Return the plain decimal notation, without exponent and without trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def minimum_out(amount_out: int, slippage_bps: int) -> int:
    """Return the least acceptable output: ``floor(out * (10000 - bps) / 10000)``, base units."""
    return amount_out * (BASIS_POINTS - slippage_bps) // BASIS_POINTS


def price_of(amount_out: Decimal, amount_in: Decimal) -> Decimal:
    """Return the net price, tokenOut per tokenIn, truncated to 18 decimals."""
    return PRICE_CONTEXT.divide(amount_out, amount_in).quantize(
        Decimal("1e-18"), rounding=ROUND_DOWN, context=Context(prec=76)
    )


def slippage_bps_between(quoted: Decimal, executed: Decimal) -> Decimal:
    """Return how much worse ``executed`` is than ``quoted`` in basis points (negative: better)."""
    return PRICE_CONTEXT.divide((quoted - executed) * BASIS_POINTS, quoted).quantize(
        Decimal("0.01"), context=Context(prec=76)
    )
