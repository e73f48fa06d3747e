"""The dashboard: pages rendered on the server, useful without JavaScript and livelier with it.

`mount` is the way in: it adds the pages to the application and serves their style sheet, script and icon from the
package. No page asks for anything outside its own address.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from notifier.api.pages import entering, first, merchant_actions, merchants, notifications, undelivered
from notifier.api.pages.course import Course
from notifier.api.pages.looking import Counts, Samples

if TYPE_CHECKING:
    from notifier.api.parts import Parts

_STATIC = Path(__file__).parent.parent / "static"
#: The actions of a merchant before its own path, which takes whatever follows.
_ROUTERS = (first, notifications, undelivered, merchants, merchant_actions, entering)


def mount(app: FastAPI, parts: Parts) -> None:
    """Add every page to `app`, and `/static`. Call it once, after the JSON routes."""
    app.state.course = Course()
    app.state.counts = Counts()
    app.state.samples = Samples()
    for each in _ROUTERS:
        app.include_router(each.router)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
