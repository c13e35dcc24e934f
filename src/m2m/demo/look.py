"""How the page looks: quiet colours, the system's own fonts (nothing comes from the internet), and one style sheet."""

from __future__ import annotations

import gradio as gr

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "monospace")

CSS = """
.gradio-container {
    width: 100% !important; max-width: 1180px !important; margin: 0 auto !important; padding: 0 !important;
}
.gradio-container main { padding: .5rem .8rem !important; }
#head header { padding: .4rem 0 0; }
#head h1 { font-size: 1.55rem; font-weight: 650; letter-spacing: -.01em; margin: 0; }
#head p { margin: .2rem 0 0; color: var(--body-text-color-subdued); }
.m2m-tools, .m2m-actions { gap: .5rem !important; }
.m2m-tools button { flex: 1 1 auto; }
.m2m-drop { min-height: 0 !important; }
.m2m-drop .icon-wrap { display: none; }
.m2m-drop .wrap { font-size: .95rem; line-height: 1.5; padding: 0; }
.m2m-strip { display: grid; gap: .5rem; grid-template-columns: repeat(auto-fill, minmax(72px, 1fr)); }
.m2m-results .m2m-strip { gap: .7rem; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); }
.m2m-strip button, .m2m-examples button {
    padding: 0; border: 2px solid transparent; border-radius: 10px; background: none; cursor: pointer; overflow: hidden;
}
.m2m-strip button { aspect-ratio: 1; }
.m2m-strip img { width: 100%; height: 100%; object-fit: cover; display: block; margin: 0; }
.m2m-strip button:hover, .m2m-examples button:hover { border-color: var(--border-color-primary); }
.m2m-strip button[aria-pressed="true"] { border-color: var(--color-accent); }
.m2m-strip button:focus-visible, .m2m-examples button:focus-visible {
    outline: 2px solid var(--color-accent); outline-offset: 2px;
}
.m2m-examples { display: grid; gap: .5rem; grid-template-columns: repeat(auto-fit, minmax(96px, 1fr)); }
.m2m-examples button { display: grid; grid-template-columns: repeat(3, 1fr); padding: 4px; }
.m2m-examples img { width: 100%; aspect-ratio: 1; object-fit: cover; margin: 0; display: block; }
.m2m-examples i {
    grid-column: 1 / -1; font-style: normal; font-size: .75rem; color: var(--body-text-color-subdued);
    padding-top: .25rem; line-height: 1.25; font-weight: 400;
}
.m2m-single { margin: 0; }
.m2m-single img {
    width: min(256px, 100%); aspect-ratio: 1; object-fit: cover; border-radius: 12px; margin: 0; display: block;
}
.m2m-line, .m2m-wrong { margin: 0; min-height: 1.5em; font-variant-numeric: tabular-nums; }
.m2m-line { color: var(--body-text-color-subdued); }
.m2m-wrong { color: #b3382c; }
@media (max-width: 700px) {  /* where the controls are, the line of text is out of sight */
    .m2m-wrong {
        position: fixed; left: .6rem; right: .6rem; bottom: .6rem; z-index: 50;
        padding: .7rem .9rem; border-radius: 10px;
        background: var(--background-fill-primary); border: 1px solid currentColor;
    }
}
.dark .m2m-wrong { color: #ff9d92; }
.m2m-empty {
    margin: 0; padding: 1rem; border: 1px dashed var(--border-color-primary); border-radius: 12px; text-align: center;
    color: var(--body-text-color-subdued);
}
"""


def theme() -> gr.Theme:
    """Neutral greys and one accent, in light and dark."""
    made = gr.themes.Base(
        primary_hue="teal",
        neutral_hue="stone",
        radius_size="lg",
        font=FONTS,
        font_mono=MONO_FONTS,
    )
    return made.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_text_color="white",
        block_border_width="1px",
        block_shadow="none",
    )
