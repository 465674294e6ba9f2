"""What the manual needs beside its text: pictures drawn by the library itself, and formulas that need no script.

The formulas become MathML, which browsers draw by themselves: the pages open from a folder, without a network.
"""

import html
import re
import sys
from pathlib import Path

import latex2mathml.converter

HERE = Path(__file__).resolve().parent
FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])\s*</\1>', re.DOTALL)


def on_pre_build(config) -> None:
    """Draw the pictures that are older than the code that draws them."""
    sys.path.insert(0, str(HERE))
    try:
        from pictures import draw_all
    finally:
        sys.path.remove(str(HERE))
    draw_all(Path(config["docs_dir"]) / "pictures")


def on_page_content(content: str, **_) -> str:
    """TeX to MathML."""

    def convert(match: re.Match) -> str:
        display = "block" if match[1] == "div" else "inline"
        return latex2mathml.converter.convert(html.unescape(match[2]).strip(), display=display)

    return FORMULA.sub(convert, content)
