"""The HTTP API: what its functions have in common; every error is a problem document."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import api_telemetry
from api_telemetry import logger, request_logged
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, CORSConfig, Response
from aws_lambda_powertools.event_handler.api_gateway import ResponseBuilder
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.event_handler.router import APIGatewayHttpRouter
from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent
from public_routes import METHODS

from order_engine.api.problems import (
    PROBLEM_CONTENT_TYPE,
    RETRY_AFTER_SECONDS,
    limit_headers,
    problem_of,
)
from order_engine.errors import ProblemCode, Rejected, Retryable, TooMany

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


JSON = "application/json"


class HttpApi(APIGatewayHttpResolver):
    """Answer the requests of one function, by powertools' resolver.

    It has the routes of that function, and knows the methods of all others: it says the same of a
    wrong path or method whichever function the gateway has asked.
    """

    def __init__(self, *routers: APIGatewayHttpRouter) -> None:
        super().__init__(
            # For where no gateway answers for CORS; one that does replaces these headers.
            cors=CORSConfig(
                allow_headers=["Idempotency-Key"],
                expose_headers=[
                    "Location",
                    "Idempotency-Replayed",
                    "Retry-After",
                    "RateLimit",
                    "RateLimit-Policy",
                ],
                max_age=86400,
            ),
            enable_validation=True,
            response_validation_error_http_code=500,
        )
        for router in routers:
            self.include_router(router)
        self._methods = [(self._compile_regex(path), known) for path, known in METHODS.items()]
        self._cors_methods.update(method for known in METHODS.values() for method in known)
        _answer_with_problems(self)

    def handle(self, event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
        """Answer a request of the HTTP API (payload 2.0)."""
        request = event["requestContext"]
        with request_logged(
            context,
            request["requestId"],
            method=request["http"]["method"],
            path=event["rawPath"],
        ) as outcome:
            answer = self.resolve(event, context)
            headers = answer.setdefault("headers", {})
            headers.setdefault("Cache-Control", "no-store")
            headers["X-Content-Type-Options"] = "nosniff"
            outcome["status"] = answer["statusCode"]
            return answer

    def allowed_methods(self, path: str) -> Sequence[str]:
        """Return the methods that the routes of a path know, in whichever function they are."""
        return next((known for rule, known in self._methods if rule.match(path)), ())

    def _resolve(self) -> ResponseBuilder[BaseProxyEvent]:
        # A path that has routes of its own is not also an order's id: GET /api/orders/execute is
        # a wrong method, not a wrong id.
        method, path = self.current_event.http_method.upper(), self.current_event.path
        if method not in self.allowed_methods(path):
            return self._handle_not_found(method=method, path=path)
        return super()._resolve()


def new_router() -> APIGatewayHttpRouter:
    """Return a router for a module's routes."""
    return APIGatewayHttpRouter()  # type: ignore[no-untyped-call]


def _answer_with_problems(app: HttpApi) -> None:
    """Register what answers each kind of error."""

    def too_many(error: TooMany) -> Response[str]:
        return _answer(app, error, limit_headers(error))

    def rejected(error: Rejected) -> Response[str]:
        return _answer(
            app,
            error,
            {"WWW-Authenticate": "Bearer"} if error.code is ProblemCode.UNAUTHENTICATED else None,
        )

    def invalid_parameters(error: RequestValidationError) -> Response[str]:
        # Not every function has requests to check, and their models take time to import.
        from order_engine.api.requests import field_errors, refusal

        named = [{**problem, "loc": _parameter(*problem["loc"])} for problem in error.errors()]
        return _answer(app, refusal(field_errors(named)))

    def no_such_route(_error: NotFoundError) -> Response[str]:
        allowed = app.allowed_methods(app.current_event.path)
        if not allowed or app.current_event.http_method.upper() in allowed:
            return _answer(app, Rejected(ProblemCode.ROUTE_NOT_FOUND, "No route of this path."))
        return _answer(
            app,
            Rejected(ProblemCode.METHOD_NOT_ALLOWED, f"There is {', '.join(allowed)}."),
            {"Allow": ", ".join(allowed)},
        )

    def trouble(error: Retryable) -> Response[str]:
        logger.warning("a part of the engine is away", exc_info=error)
        return _answer(app, error, {"Retry-After": str(RETRY_AFTER_SECONDS)})

    def bug(error: Exception) -> Response[str]:
        logger.error("unexpected error", exc_info=error)
        return _answer(app, error)

    app.exception_handler(TooMany)(too_many)
    app.exception_handler(Rejected)(rejected)
    app.exception_handler(RequestValidationError)(invalid_parameters)
    app.exception_handler(NotFoundError)(no_such_route)
    app.exception_handler(Retryable)(trouble)
    app.exception_handler(Exception)(bug)


def _parameter(place: str, name: str, *_rest: object) -> tuple[str]:
    """Return the name of a parameter in the path, query or header."""
    return (name.title() if place == "header" else name,)


def _answer(app: HttpApi, error: Exception, headers: dict[str, str] | None = None) -> Response[str]:
    problem = problem_of(error, app.current_event.request_context.request_id)
    api_telemetry.count_refused(problem.code)
    return Response(
        problem.status, PROBLEM_CONTENT_TYPE, problem.to_json(), headers=dict(headers or {})
    )
