"""What the page says of itself to browsers and to whoever links to it, in the place of what Gradio says of Gradio."""

import re

TITLE = "llmdiff"
DESCRIPTION = "Pictures of a diffusion model that a decoder-only language model leads: drawn, compared and explained."
_OF_GRADIO = re.compile(r'\s*<(?:meta\s+(?:property="og:|name="twitter:)|link\s+rel="manifest")[^>]*>')
_OURS = f"""<head>
		<title>{TITLE}</title>
		<link rel="icon" type="image/svg+xml" href="favicon.ico" />
		<meta name="description" content="{DESCRIPTION}" />
		<meta property="og:type" content="website" />
		<meta property="og:title" content="{TITLE}" />
		<meta property="og:description" content="{DESCRIPTION}" />"""


def own_head(html: str) -> str:
    """A page of Gradio's with our title and description; it has no setting for them.

    Example:
        >>> own_head('<html><head><meta property="og:title" content="Gradio" /></head></html>').count("Gradio")
        0
    """
    before, head, after = html.partition("</head>")
    return _OF_GRADIO.sub("", before).replace("<head>", _OURS, 1) + head + after
