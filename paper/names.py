"""What tables, figures and pages call corpora and panels, and how they write the paper's symbols."""

import re
from html import escape

from uwm.methods import R_GT, R_LA, W_FT, W_PRE, W_TFS
from uwm.methods.families import FAMILIES

DASH = "–"
FAILED_MARK = "F"

CORPUS_LABELS = {
    "ssv2": "SSv2",
    "ego4d": "EGO4D",
    "sim-third-person": "sim third person",
    "sim-ego": "sim ego",
    "sim-panda": "sim Panda",
    "robosuite": "Robosuite",
}
PANEL_KINDS = {
    "donor_o_t": "donor's O_t",
    "donor_o_next": "donor's O_t+1",
    "o_t": "O_t",
    "r_t": "R_t",
    "o_next": "O_t+1",
    "r_next": "R_t+1",
    "prediction": "Predict",
    **{method.name: method.label for method in (W_PRE, W_TFS, W_FT, R_LA, R_GT)},
    **{name: name for name in ("seen", "imagined", "goal")},
    **{family.name: family.panel for family in FAMILIES.values()},
    **{name: name for name in ("forward", "back", "left", "right", "up", "down", "open", "close")},
}
# Subscripted symbols, as they stand in names and as LaTeX and HTML set them.
_SYMBOL = re.compile(r"\b([ORSWAs])_(t\+\d|t\+k|t|pre|ft|tfs|LA|GT)(?![\w+])")


def experiment_label(name: str) -> str:
    """`table1` -> `Table 1`, `my_own` -> `My own`."""
    words = re.sub(r"^(table|figure)(\d+)$", r"\1 \2", name).replace("_", " ")
    return words[:1].upper() + words[1:]


def corpus_label(corpus: str) -> str:
    return CORPUS_LABELS.get(corpus, corpus)


def _tex_symbol(match: re.Match[str]) -> str:
    below = match[2] if match[2].startswith("t") and match[2] != "tfs" else rf"\mathrm{{{match[2]}}}"
    return f"${match[1]}_{{{below}}}$"


def tex(text: str) -> str:
    """`text` for LaTeX: special characters escaped, O_t+1 and the like set as symbols."""
    parts, end = [], 0
    for match in _SYMBOL.finditer(text):
        parts += [_tex_escape(text[end : match.start()]), _tex_symbol(match)]
        end = match.end()
    return "".join([*parts, _tex_escape(text[end:])])


def _tex_escape(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "–": "--",
        "→": r"$\to$",
        "β": r"$\beta$",
    } | {char: "\\" + char for char in "&%$#_{}"}
    return "".join(special.get(char, char) for char in text)


def html(text: str) -> str:
    """`text` for HTML and Markdown: escaped, with the symbols' subscripts."""
    return _SYMBOL.sub(lambda m: f"{m[1]}<sub>{m[2]}</sub>", escape(text, quote=False))


def math(text: str) -> str:
    """`text` for Matplotlib's mathtext."""
    return _SYMBOL.sub(_tex_symbol, text)
