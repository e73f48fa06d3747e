"""The application: the routes, and what surrounds each of them."""

from __future__ import annotations

from fastapi import FastAPI

from notifier import __version__
from notifier.api import (
    accepting,
    health,
    merchants,
    metrics,
    notifications,
    pages,
    problems,
    pull,
    replays,
    session,
    stream,
    tiers,
    tokens,
)
from notifier.api.gate import Gate
from notifier.api.identity import Identities
from notifier.api.once import Once
from notifier.api.openapi import DESCRIPTION, describe
from notifier.api.parts import Parts
from notifier.api.stream import Broadcast

#: In the order in which the document lists them.
ROUTES = (
    accepting,
    notifications,
    replays,
    merchants,
    tiers,
    stream,
    pull,
    tokens,
    health,
    metrics,
    session,
)


def create_app(parts: Parts) -> FastAPI:
    """Everything behind one address: JSON below /v1, the pages, health and metrics. Serves nothing by itself."""
    app = FastAPI(
        title="notifier",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # both load their scripts from a foreign address
        redoc_url=None,
        redirect_slashes=False,  # a redirected POST loses its body in many clients
    )
    app.state.parts = parts
    app.state.identities = Identities(parts.settings, parts.door, parts.clock)
    app.state.once = Once(parts.clock)
    app.state.broadcast = Broadcast(parts)
    app.state.routes = [route for routes in ROUTES for route in routes.router.routes]
    problems.install(app)
    for routes in ROUTES:
        app.include_router(routes.router)
    pages.mount(app, parts)
    describe(app)
    app.add_middleware(Gate, parts=parts, identities=app.state.identities)
    return app
