"""Small helpers for writing generated files."""

import os
import textwrap


def write_if_changed(path, text):
    """Leaves the file alone when it has this content, so that nothing is rebuilt for nothing."""
    try:
        with open(path, encoding="utf-8") as stream:
            if stream.read() == text:
                return
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


def comment(text, indent=""):
    """`text` as // comments that fit into 100 columns."""
    lines = textwrap.wrap(text, 100 - len(indent) - 3, break_long_words=False)
    return "".join(f"{indent}// {line}\n" for line in lines)


def header(source, purpose):
    return (f"// Generated from schema/{source} by schema/generator; do not edit.\n"
            + comment(purpose))
