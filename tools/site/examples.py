"""An extension of griffe, which reads docstrings for the site: our sections of examples by the name that it knows."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Takes `Example:` for `Examples:`, so that what follows is shown as code and not read as Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of whatever was found."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
