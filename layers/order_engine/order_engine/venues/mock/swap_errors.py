"""Outcomes of the swap maths that are not a swap."""


class SwapImpossible(Exception):
    """Stand for every reason why a pool cannot make a swap."""


class InsufficientLiquidity(SwapImpossible):
    """Report that the pool does not hold enough of the output token."""


class AmountTooSmall(SwapImpossible):
    """Report an input that buys less than one base unit of the output token."""
