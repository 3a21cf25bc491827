"""How the page looks: a theme of system fonts, and a style sheet, so that nothing is fetched from anywhere."""

from importlib.resources import files

from gradio.themes import Base, colors, sizes

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> Base:
    """The theme of the page."""
    look = Base(
        primary_hue=colors.indigo, neutral_hue=colors.slate, radius_size=sizes.radius_lg, font=_SANS, font_mono=_MONO
    )
    return look.set(
        body_background_fill="#f5f6fa",
        body_background_fill_dark="#0f1117",
        block_background_fill="#ffffff",
        block_background_fill_dark="#181b24",
        block_border_width="1px",
        block_border_color="#e4e7ee",
        block_border_color_dark="#2a2f3b",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_title_text_weight="600",
        block_title_text_size="*text_sm",
        button_primary_background_fill="#4f46e5",
        button_primary_background_fill_hover="#4338ca",
        button_primary_background_fill_dark="#6366f1",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#f1f2f7",
        button_secondary_border_color="#d6dae4",
        button_large_text_weight="600",
        input_background_fill="#fbfcfe",
        input_background_fill_dark="#11141c",
        input_border_color="#d9dde7",
        input_border_color_focus="#6366f1",
        slider_color="#4f46e5",
    )


def css() -> str:
    """The style sheet of the page."""
    return (files("llmdiff.app") / "page.css").read_text(encoding="utf-8")
