"""A mock exchange: real swap maths on a seeded market, and a chain with slots and expiry."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from hashlib import blake2b
from typing import TYPE_CHECKING

from order_engine.domain.failures import FailureCode
from order_engine.domain.money import decimal_text, from_base_units, price_of, to_base_units
from order_engine.domain.orders import SwapTransaction, VenueName
from order_engine.domain.tokens import TOKENS
from order_engine.errors import VenueTimeout, VenueUnavailable
from order_engine.venues.contract import (
    BuildRequest,
    Built,
    CheckAnswer,
    CheckRequest,
    Expired,
    InsufficientLiquidity,
    Landed,
    NoRoute,
    Pending,
    Quoted,
    QuoteRequest,
    Reverted,
    SendRequest,
    Sent,
    Unseen,
    VenueQuote,
)
from order_engine.venues.mock.faults import AttemptKey, Fault, FaultPlan
from order_engine.venues.mock.ledger import Fate, Ledger, LedgerRow
from order_engine.venues.mock.market import Market, NoPool
from order_engine.venues.mock.pools import SwapImpossible
from order_engine.venues.mock.settings import MockSettings

if TYPE_CHECKING:
    from order_engine.clock import Clock

_BASE58_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_LONGEST_CHECK_INTERVAL_SECONDS = 5
_PERCENT_CONTEXT = Context(prec=50)
_PERCENT_QUANTUM = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class _SignedSwap:
    """Hold what a transaction's payload says."""

    order_id: str
    client_order_id: str | None
    attempt: int
    venue: str
    token_in: str
    token_out: str
    amount_in: str
    min_amount_out: str
    last_valid_block_height: int

    @property
    def key(self) -> AttemptKey:
        return AttemptKey(self.order_id, self.client_order_id, self.attempt, self.venue)


class MockVenue:
    """Trade at one mock exchange; implements the ``Venue`` port.

    The fate of a transaction is settled once, by the conditional write of its ledger row when it
    is first sent: it executes at the price of its landing slot, below its minimum it reverts.
    ``check`` tells the fate from the landing slot on. ``check`` answers ``expired`` only with a
    row in the ledger that says so; for a transaction that was never seen it writes that row first,
    so that a send still under way can no longer land it.

    ``ledger`` may be left out where only quotes are asked for.
    """

    def __init__(
        self,
        name: VenueName,
        settings: MockSettings,
        *,
        clock: "Clock",
        sleep: Callable[[float], None],
        ledger: Ledger | None = None,
        market: Market | None = None,
    ) -> None:
        self.name = name
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._ledger_or_none = ledger
        self._market = market if market is not None else Market.of(settings)
        self._faults = FaultPlan.of(settings)

    def quote(self, request: QuoteRequest) -> Quoted | NoRoute | InsufficientLiquidity:
        """Price a swap at the current slot.

        Amounts in token units, ``price`` net of fees. Without an ``order_id`` no fault strikes.
        """
        self._spend(self._settings.quote_latency_ms)
        key = self._attempt_key(request)
        self._raise_when_down(key)
        if self._faults.strikes(Fault.QUOTE_TIMEOUT, key):
            raise VenueTimeout(f"{self.name} did not answer the quote in time")
        slot = self._current_slot()
        token_in, token_out, amount_in = request.token_in, request.token_out, request.amount_in
        try:
            swap = self._market.swap(
                token_in, token_out, _units(amount_in, token_in), self.name, slot
            )
        except NoPool as no_pool:
            return NoRoute(detail=str(no_pool))
        except SwapImpossible as impossible:
            return self._insufficient_liquidity(impossible)
        decimals_in, decimals_out = TOKENS[token_in].decimals, TOKENS[token_out].decimals
        amount_out = from_base_units(swap.amount_out, decimals_out)
        return Quoted(
            quote=VenueQuote(
                dex=self.name,
                price=price_of(amount_out, amount_in),
                amount_out=amount_out,
                fee_pct=_percent(swap.fee_fraction),
                price_impact_pct=_percent(swap.price_impact),
                liquidity=from_base_units(swap.liquidity, decimals_out),
                slot=slot,
                spot_price=_decimal(swap.spot_price * Fraction(10**decimals_in, 10**decimals_out)),
            )
        )

    def build(self, request: BuildRequest) -> Built | NoRoute | InsufficientLiquidity:
        """Build and sign the swap's transaction.

        The transaction is valid up to the block height ``expiry_blocks`` from now, and its
        signature is a function of its bytes: the same build in the same slot gives the same
        transaction.
        """
        self._spend(self._settings.build_latency_ms)
        self._raise_when_down(self._attempt_key(request))
        slot = self._current_slot()
        token_in, token_out, amount_in = request.token_in, request.token_out, request.amount_in
        try:
            self._market.swap(token_in, token_out, _units(amount_in, token_in), self.name, slot)
        except NoPool as no_pool:
            return NoRoute(detail=str(no_pool))
        except SwapImpossible as impossible:
            return self._insufficient_liquidity(impossible)
        _units(request.min_amount_out, token_out)
        swap = _SignedSwap(
            order_id=request.order_id,
            client_order_id=request.client_order_id,
            attempt=request.attempt,
            venue=self.name,
            token_in=token_in,
            token_out=token_out,
            amount_in=decimal_text(amount_in),
            min_amount_out=decimal_text(request.min_amount_out),
            last_valid_block_height=slot + self._settings.expiry_blocks,
        )
        payload = _encode(swap)
        return Built(
            transaction=SwapTransaction(
                signature=_signature_of(payload),
                payload=base64.b64encode(payload).decode(),
                last_valid_block_height=swap.last_valid_block_height,
                venue=self.name,
            )
        )

    def send(self, request: SendRequest) -> Sent:
        """Send a signed transaction; only the first send of a signature has an effect.

        Always answers ``sent``, with the seconds after which a check is worthwhile: as on the
        real chain, only ``check`` tells what became of it, also for one that is expired already.
        Raises ``VenueTimeout`` when the call's effect is unknown, ``ValueError`` when the payload
        does not carry the signature.
        """
        self._spend(self._settings.send_latency_ms)
        swap, signature = self._read_transaction(request.transaction)
        self._raise_when_down(swap.key)
        self._lose_first_send(swap, signature)
        row = self._settle(swap, signature, self._current_slot())
        existing = self._ledger.put_if_absent(row)
        if existing is None and self._faults.strikes(Fault.SEND_TIMEOUT_LANDED, swap.key):
            raise VenueTimeout(f"{self.name} did not acknowledge the transaction in time")
        stored = existing or row
        return Sent(check_after_seconds=self._seconds_until_check(swap, stored))

    def check(self, request: CheckRequest) -> CheckAnswer:
        """Look up what became of a transaction.

        ``Landed``, ``Reverted`` and ``Expired`` are final; ``Unseen`` when the chain does not know
        the signature though it is still valid: send it again.
        """
        self._spend(self._settings.check_latency_ms)
        swap, signature = self._read_transaction(request.transaction)
        self._raise_when_down(swap.key)
        row = self._ledger.get(signature)
        slot = self._current_slot()
        if row is None and slot > swap.last_valid_block_height:
            expired = self._expired_row(swap, signature)
            row = self._ledger.put_if_absent(expired) or expired
        if row is None:
            return Unseen()
        if row.landing_slot is not None and row.landing_slot <= slot:
            return _landing_answer(row)
        if row.landing_slot is None and slot > row.last_valid_block_height:
            return Expired()
        return Pending(check_after_seconds=self._seconds_until_check(swap, row))

    @property
    def _ledger(self) -> Ledger:
        if self._ledger_or_none is None:
            raise ValueError("a venue without a ledger can only quote and build")
        return self._ledger_or_none

    def _spend(self, latency_ms: int) -> None:
        if latency_ms:
            self._sleep(latency_ms / 1000)

    def _current_slot(self) -> int:
        return self._market.slot_at(self._clock.now())

    def _attempt_key(self, request: QuoteRequest | BuildRequest) -> AttemptKey | None:
        if request.order_id is None:
            return None
        return AttemptKey(request.order_id, request.client_order_id, request.attempt, self.name)

    def _raise_when_down(self, key: AttemptKey | None) -> None:
        if self._faults.strikes(Fault.VENUE_DOWN, key):
            raise VenueUnavailable(f"{self.name} is down")

    def _insufficient_liquidity(self, reason: SwapImpossible) -> InsufficientLiquidity:
        return InsufficientLiquidity(detail=f"{self.name}: {reason}")

    def _read_transaction(self, transaction: SwapTransaction) -> tuple[_SignedSwap, str]:
        payload = base64.b64decode(transaction.payload, validate=True)
        signature = _signature_of(payload)
        if signature != transaction.signature:
            raise ValueError("the transaction's signature does not match its payload")
        swap = _decode(payload)
        if swap.venue != self.name:
            raise ValueError(f"a transaction for {swap.venue} was sent to {self.name}")
        return swap, signature

    def _lose_first_send(self, swap: _SignedSwap, signature: str) -> None:
        if not self._faults.strikes(Fault.SEND_TIMEOUT_DROPPED, swap.key):
            return
        marker = replace(
            self._expired_row(swap, f"{Fate.LOST_ONCE}#{signature}"), fate=Fate.LOST_ONCE
        )
        if self._ledger.put_if_absent(marker) is None:
            raise VenueTimeout(f"{self.name} did not answer the send in time")

    def _settle(self, swap: _SignedSwap, signature: str, sent_slot: int) -> LedgerRow:
        """Decide the fate of a transaction that is first seen at ``sent_slot``."""
        unlanded = replace(self._expired_row(swap, signature), sent_slot=sent_slot)
        landing_slot = sent_slot + _slots_of(self._settings.landing_ms, self._settings.slot_ms)
        if landing_slot > swap.last_valid_block_height or self._faults.strikes(
            Fault.DROPPED_UNTIL_EXPIRY, swap.key
        ):
            return unlanded
        reverted = replace(unlanded, fate=Fate.REVERTED, landing_slot=landing_slot)
        slippage = replace(reverted, error=FailureCode.SLIPPAGE_EXCEEDED)
        if self._faults.strikes(Fault.LANDS_WITH_ERROR, swap.key):
            return replace(slippage, detail="the program refused the swap (injected fault)")
        try:
            result = self._market.swap(
                swap.token_in,
                swap.token_out,
                _units(Decimal(swap.amount_in), swap.token_in),
                self.name,
                landing_slot,
            )
        except NoPool as no_pool:
            return replace(reverted, error=FailureCode.NO_ROUTE, detail=str(no_pool))
        except SwapImpossible as impossible:
            return replace(
                reverted, error=FailureCode.INSUFFICIENT_LIQUIDITY, detail=str(impossible)
            )
        amount_out = from_base_units(result.amount_out, TOKENS[swap.token_out].decimals)
        if amount_out < Decimal(swap.min_amount_out):
            return replace(
                slippage,
                detail=f"output {decimal_text(amount_out)} is below the minimum "
                f"{swap.min_amount_out} {swap.token_out}",
            )
        return replace(
            unlanded,
            fate=Fate.LANDED,
            landing_slot=landing_slot,
            amount_out=decimal_text(amount_out),
        )

    def _expired_row(self, swap: _SignedSwap, signature: str) -> LedgerRow:
        return LedgerRow(
            signature=signature,
            order_id=swap.order_id,
            attempt=swap.attempt,
            venue=self.name,
            min_amount_out=swap.min_amount_out,
            last_valid_block_height=swap.last_valid_block_height,
            fate=Fate.EXPIRED,
        )

    def _seconds_until_check(self, swap: _SignedSwap, row: LedgerRow) -> int:
        """Return whole seconds, at least 1: until the landing, else longer with age.

        A transaction that does not land is asked for ever less often, up to every 5 seconds.
        """
        slot = self._current_slot()
        if row.landing_slot is not None:
            slots = row.landing_slot - slot
        else:
            built_slot = swap.last_valid_block_height - self._settings.expiry_blocks
            until_expiry = swap.last_valid_block_height + 1 - slot
            slots = min((slot - built_slot) // 2, until_expiry)
        seconds = -(-slots * self._settings.slot_ms // 1000)
        return max(1, min(seconds, _LONGEST_CHECK_INTERVAL_SECONDS))


def _landing_answer(row: LedgerRow) -> Landed | Reverted:
    if row.fate is Fate.LANDED and row.amount_out is not None:
        return Landed(amount_out=Decimal(row.amount_out), slot=row.landing_slot)
    return Reverted(
        code=FailureCode(row.error or FailureCode.VENUE_REJECTED), detail=row.detail or ""
    )


def _slots_of(duration_ms: int, slot_ms: int) -> int:
    """Return how many slots a duration takes, rounded up."""
    return -(-duration_ms // slot_ms)


def _units(amount: Decimal, symbol: str) -> int:
    token = TOKENS.get(symbol)
    if token is None:
        raise NoPool(f"unknown token {symbol}")
    return to_base_units(amount, token.decimals)


def _percent(fraction: Fraction) -> Decimal:
    """Return a fraction as percent with at most four decimals."""
    percent = _PERCENT_CONTEXT.divide(
        Decimal(fraction.numerator * 100), Decimal(fraction.denominator)
    )
    return percent.quantize(_PERCENT_QUANTUM, ROUND_HALF_EVEN, _PERCENT_CONTEXT)


def _decimal(fraction: Fraction) -> Decimal:
    """Return a price with at most 18 decimals."""
    return price_of(Decimal(fraction.numerator), Decimal(fraction.denominator))


def _encode(swap: _SignedSwap) -> bytes:
    fields = {
        "orderId": swap.order_id,
        "clientOrderId": swap.client_order_id,
        "attempt": swap.attempt,
        "venue": swap.venue,
        "tokenIn": swap.token_in,
        "tokenOut": swap.token_out,
        "amountIn": swap.amount_in,
        "minAmountOut": swap.min_amount_out,
        "lastValidBlockHeight": swap.last_valid_block_height,
    }
    return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()


def _decode(payload: bytes) -> _SignedSwap:
    fields = json.loads(payload)
    return _SignedSwap(
        order_id=fields["orderId"],
        client_order_id=fields["clientOrderId"],
        attempt=fields["attempt"],
        venue=fields["venue"],
        token_in=fields["tokenIn"],
        token_out=fields["tokenOut"],
        amount_in=fields["amountIn"],
        min_amount_out=fields["minAmountOut"],
        last_valid_block_height=fields["lastValidBlockHeight"],
    )


def _signature_of(payload: bytes) -> str:
    """Return 64 bytes, as base58, that stand for the Ed25519 signature of the payload."""
    digest = blake2b(payload, digest_size=64).digest()
    number = int.from_bytes(digest)
    characters = []
    while number:
        number, remainder = divmod(number, len(_BASE58_ALPHABET))
        characters.append(_BASE58_ALPHABET[remainder])
    leading_zero_bytes = len(digest) - len(digest.lstrip(b"\0"))
    return "1" * leading_zero_bytes + "".join(reversed(characters))
