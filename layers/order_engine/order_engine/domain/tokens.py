"""Registry of the tokens that orders may name."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Token:
    """Describe a token: its decimals, its Solana mint and the mock market's anchor price."""

    symbol: str
    decimals: int
    mint: str
    reference_price_usd: Decimal
    launchable: bool = False


_REGISTRY = (
    Token("SOL", 9, "So11111111111111111111111111111111111111112", Decimal(150)),
    Token("USDC", 6, "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", Decimal(1)),
    Token("USDT", 6, "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB", Decimal(1)),
    Token("ETH", 8, "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs", Decimal(3000)),
    Token("BTC", 6, "9n4nbM75f5Ui33ZbPYXn59EwSgE8CGsHtAeTH5YFeJ9E", Decimal(90000)),
    Token("BONK", 5, "DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB1pPB263", Decimal("0.00002")),
    Token("JUP", 6, "JUPyiwrYJFskUPiHa7hkeR8VUtAeFoSYbKedZNsDvCN", Decimal("0.8")),
    Token("RAY", 6, "4k3Dyjzvzp8eMZWUXbBCjEvwSkkk59S5iCNLY3QrkX6R", Decimal("2.5")),
    # Test tokens: no pool until the mock market's calendar or a PoolCreated event opens one.
    Token("MOON", 6, "MooNTest11111111111111111111111111111111111", Decimal("0.01"), True),
    Token("PEPE", 6, "PepeTest11111111111111111111111111111111111", Decimal("0.001"), True),
    Token("WIF", 6, "WifTest111111111111111111111111111111111111", Decimal("0.5"), True),
)

TOKENS: Mapping[str, Token] = MappingProxyType({token.symbol: token for token in _REGISTRY})
