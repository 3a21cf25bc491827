"""The web app (`llmdiff ui`): draw, sweep, ask why, watch training, all in a browser."""

from typing import TYPE_CHECKING

from llmdiff import lazy

if TYPE_CHECKING:
    from llmdiff.app.server import ui_app
    from llmdiff.app.settings import AppSettings

__all__ = ["AppSettings", "ui_app"]

__getattr__ = lazy.names(__name__, {"server": ("ui_app",), "settings": ("AppSettings",)})
