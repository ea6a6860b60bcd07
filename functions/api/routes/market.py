"""The routes of the market."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from http_api import JSON, new_router
from request_parts import caller_of
from route_documents import replies

from order_engine import bootstrap
from order_engine.api.fields import AmountIn, TokenSymbol
from order_engine.api.queries import compare_quotes
from order_engine.api.replies import QuoteComparison
from order_engine.api.requests import check_swap

router = new_router()


@router.get(
    "/api/quotes",
    summary="Compare the venues' quotes",
    tags=["Market"],
    responses=replies(200, "The venues' quotes and which would win.", 422),
)
def get_quotes(
    token_in: Annotated[TokenSymbol, Query(alias="tokenIn")],
    token_out: Annotated[TokenSymbol, Query(alias="tokenOut")],
    amount_in: Annotated[AmountIn, Query(alias="amountIn")],
) -> Response[QuoteComparison]:
    """Return what each venue would pay now."""
    caller_of(router)
    check_swap(token_in, token_out, amount_in)
    comparison = compare_quotes(
        bootstrap.quoting_venues(),
        bootstrap.clock,
        token_in=token_in,
        token_out=token_out,
        amount_in=amount_in,
    )
    return Response(200, JSON, comparison)
