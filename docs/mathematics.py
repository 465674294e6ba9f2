"""Our docstrings for the reference pages: formulas between dollars, descriptions where numpydoc wants types."""

import re
import textwrap

import griffe

BLOCK = re.compile(r"^([ \t]*)\.\. math:: *(.*(?:\n(?:\1[ \t]+.*|[ \t]*)(?=\n|\Z))*)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]+)`")
SECTION = re.compile(r"^((?:Parameters|Attributes)\n-+\n)(.*?)(?=^\S[^\n]*\n-{3,}|\Z)", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^([*\w][\w, *]*?) : ", re.MULTILINE)
DOUBLE = re.compile(r"``([^`]+)``")


def translate(text: str) -> str:
    """The docstring as griffe's numpy parser and Markdown want it."""

    def block(match: re.Match) -> str:
        first, _, rest = match[2].partition("\n")
        tex = " ".join((first + "\n" + textwrap.dedent(rest)).split())
        return f"{match[1]}$$\n{match[1]}{tex}\n{match[1]}$$\n"

    def described(match: re.Match) -> str:
        return match[1] + ENTRY.sub(r"\1\n    ", match[2])  # `name : words` has words, not a type

    text = INLINE.sub(r"$\1$", BLOCK.sub(block, text))
    return DOUBLE.sub(r"`\1`", SECTION.sub(described, text))


class Mathematics(griffe.Extension):
    """Called by griffe for each object that it has read."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = translate(obj.docstring.value)
