"""The tour's page: one HTML file with its pictures inside, which opens from a folder without a network."""

import base64
import html
import io
from dataclasses import dataclass, field

COLOURS = {"lowrank": "#0f766e", "seqsolve": "#b45309", "density": "#6d28d9"}
INK, SOFT, PAPER, LINE = "#23202b", "#6b6776", "#fbf9f4", "#e2ddd0"


@dataclass
class Figure:
    """A picture with the sentence under it; `wide` lets it span both columns on a large screen."""

    uri: str
    caption: str
    wide: bool = False


@dataclass
class Act:
    """What one package did: rows (what was measured, value, what it means) and pictures."""

    package: str
    title: str
    lead: str
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def row(self, what: str, value: str, meaning: str = "") -> None:
        """Add a line to the table."""
        self.rows.append((what, value, meaning))


def data_uri(content: bytes, kind: str) -> str:
    """The bytes of a picture as an address that holds them."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def plot_uri(figure) -> str:
    """A matplotlib figure as SVG; reproducible, so that two runs on the same numbers give the same page."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": "triskele", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    plt.close(figure)
    return data_uri(buffer.getvalue(), "svg+xml")


def photo_uri(pixels, quality: int = 88) -> str:
    """An (height, width, 3) array of bytes as a JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    return data_uri(buffer.getvalue(), "jpeg")


def axes(width: float = 5.2, height: float = 3.3):
    """A figure in the page's colours and its axes."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(SOFT)
    ax.tick_params(colors=SOFT, labelsize=10)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    ax.grid(alpha=0.25, linewidth=0.6)
    return figure, ax


LOGO = (
    '<svg viewBox="-50 -50 100 100" width="64" height="64" aria-hidden="true" fill="none" stroke-width="7" '
    'stroke-linecap="round">'
    + "".join(
        f'<path stroke="{colour}" transform="rotate({angle})" '
        'd="M0 0 C 4 -16 22 -24 32 -12 C 40 -2 32 12 20 9 C 11 6 12 -6 21 -6"/>'
        for colour, angle in zip(COLOURS.values(), (-90, 30, 150), strict=True)
    )
    + "</svg>"
)

STYLE = f"""
*{{box-sizing:border-box}} html{{-webkit-text-size-adjust:100%}}
body{{margin:0;background:{PAPER};color:{INK};font:17px/1.6 Georgia,'Times New Roman',serif}}
main,header{{max-width:1180px;margin:0 auto;padding:0 1.1rem}} header{{padding-top:2.2rem;display:flex;gap:1.1rem;
align-items:center}} h1{{font-size:clamp(1.6rem,4.5vw,2.6rem);line-height:1.1;margin:0;letter-spacing:-.01em}}
header p{{margin:.35rem 0 0;color:{SOFT}}} section{{margin-top:3rem;border-top:3px solid var(--hue);padding-top:1.1rem}}
h2{{font-size:clamp(1.3rem,3.2vw,1.8rem);line-height:1.2;margin:.1rem 0 .4rem}} .package{{color:var(--hue);
font:700 .82rem/1 ui-monospace,Menlo,Consolas,monospace;letter-spacing:.06em}}
.lead{{max-width:68ch;margin:.2rem 0 1rem}}
table{{border-collapse:collapse;width:100%;font-size:.95rem;font-variant-numeric:tabular-nums}}
td{{padding:.42rem .8rem .42rem 0;border-bottom:1px solid {LINE};vertical-align:top}}
td:first-child{{width:23%}} td.value{{width:17%;font-weight:700;color:var(--hue);white-space:nowrap}}
td.meaning{{color:{SOFT}}}
.figures{{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:1.3rem;margin-top:1.5rem}}
figure{{margin:0;background:#fff;border:1px solid {LINE};border-radius:10px;padding:.8rem}}
figure.wide{{grid-column:1/-1}}
figure img{{display:block;width:100%;height:auto;border-radius:4px}} figcaption{{color:{SOFT};font-size:.9rem;
margin-top:.55rem;line-height:1.45}} footer{{margin:3rem 0 2.5rem;color:{SOFT};font-size:.9rem}}
@media(max-width:760px){{.figures{{grid-template-columns:minmax(0,1fr)}}
td,td:first-child,td.value{{display:block;width:auto;border:0;padding:.1rem 0}}
td.meaning{{padding-bottom:.6rem;border-bottom:1px solid {LINE}}} td.value{{white-space:normal}}}}
"""


def section(act: Act) -> str:
    """One act as HTML."""
    rows = "".join(
        f'<tr><td>{html.escape(what)}</td><td class="value">{html.escape(value)}</td>'
        f'<td class="meaning">{html.escape(meaning)}</td></tr>'
        for what, value, meaning in act.rows
    )
    figures = "".join(
        f'<figure class="{"wide" if f.wide else ""}"><img alt="{html.escape(f.caption, quote=True)}" src="{f.uri}">'
        f"<figcaption>{html.escape(f.caption)}</figcaption></figure>"
        for f in act.figures
    )
    return (
        f'<section style="--hue:{COLOURS[act.package]}"><div class="package">{act.package}</div>'
        f'<h2>{html.escape(act.title)}</h2><p class="lead">{html.escape(act.lead)}</p>'
        f'<table>{rows}</table><div class="figures">{figures}</div></section>'
    )


def render(acts: list[Act], footer: str) -> str:
    """The whole page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Triskele: the tour</title>'
        f"<style>{STYLE}</style></head><body><header>{LOGO}<div><h1>Triskele, on real data</h1>"
        "<p>Three packages, two photographs and a trained network. Every number below was measured in this run.</p>"
        f"</div></header><main>{''.join(section(act) for act in acts)}<footer>{html.escape(footer)}</footer></main>"
        "</body></html>"
    )


def terminal_table(acts: list[Act]) -> str:
    """The same rows for a terminal."""
    lines = []
    width = max(len(what) for act in acts for what, _, _ in act.rows)
    value_width = max(len(value) for act in acts for _, value, _ in act.rows)
    for act in acts:
        lines += ["", f"{act.package}: {act.title}"]
        lines += [f"  {what:<{width}}  {value:>{value_width}}  {meaning}".rstrip() for what, value, meaning in act.rows]
    return "\n".join(lines[1:])
