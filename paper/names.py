"""What tables, figures and pages call things, and how they write numbers and the paper's symbols."""

import re
from html import escape

DASH = "–"
FAILED = "F"

CORPORA = {
    "ssv2": "SSv2",
    "ego4d": "EGO4D",
    "sim-third-person": "sim third person",
    "sim-ego": "sim ego",
    "sim-panda": "sim Panda",
    "robosuite": "Robosuite",
}
METHODS = {
    "uwm": "Universal world model",
    "copy": "Copy of O_t",
    "oracle": "Oracle: MAE of O_t+1",
    "zero-action": "Zero action",
    "random-action": "Random action",
    "shuffled-action": "Shuffled action",
    "continuous": "Continuous action (no VQ)",
    "w_pre": "W_pre",
    "w_ft": "W_ft",
    "w_tfs": "W_tfs",
    "w_ft-dynamics": "W_ft, dynamics alone",
    "w_ft-no-codebook": "W_ft, codebook frozen",
    "scratch": "From scratch, same pairs",
    "r_la": "R_LA",
    "r_gt": "R_GT",
    "r_gt-continuous": "R_GT, fitted to continuous actions",
    "r_gt-quantized": "R_GT, fitted to quantized actions",
    "r_gt-codes": "R_GT, fitted to codes",
    "r_gt-prediction": "R_GT, fitted to the prediction",
    "no-state": "R_GT, adapter without state",
    "shuffled": "R_GT, another pair's action",
    "direct": "Direct dynamics, no adapter",
    "no-action": "No action",
    "ficc": "FICC, real actions",
    "ficc-la": "FICC, latent actions",
}
# Ends of methods' names, besides a number of training pairs.
VARIANTS = {
    "-mae-decoder": "MAE's own decoder",
    "-lpips-decoder": "decoder tuned with LPIPS",
    "-5-steps": "5 steps ahead",
}
PANEL_KINDS = {
    "donor_o_t": "donor's O_t",
    "donor_o_next": "donor's O_t+1",
    "o_t": "O_t",
    "r_t": "R_t",
    "o_next": "O_t+1",
    "r_next": "R_t+1",
    "prediction": "Predict",
    "w_pre": "W_pre",
    "w_tfs": "W_tfs",
    "w_ft": "W_ft",
    "r_la": "R_LA",
    "r_gt": "R_GT",
    **{name: name for name in ("forward", "back", "left", "right", "up", "down", "open", "close")},
}
METRICS = {
    "lpips_to_current": "LPIPS to O_t",
    "lpips_to_next": "LPIPS to O_t+1",
    "lpips_ratio": "Ratio",
    "success_vs_current": "Nearer to O_t+1 than to O_t, %",
    "success_vs_copy": "Nearer to O_t+1 than a copy, %",
    "lpips_to_next_true": "LPIPS to sharp O_t+1",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "psnr_blurred": "PSNR to blurred O_t+1, dB",
    "ssim_blurred": "SSIM to blurred O_t+1",
    "lpips_region": "LPIPS, region",
    "lpips_region_true": "LPIPS to sharp O_t+1, region",
    "psnr_region": "PSNR, region, dB",
    "lpips_hand": "LPIPS, gripper",
    "psnr_hand": "PSNR, gripper, dB",
    "state_mse": "State MSE",
    "latent_mse": "Latent action MSE",
    "code_accuracy": "Right codes, %",
    "hand_error_mm": "Hand error, mm",
    "perplexity": "Code perplexity",
    "rollout_lpips": "LPIPS to O_t+k",
    "rollout_state_mse": "State MSE",
    "control_success": "Moves as told, %",
    **{
        f"control_{name}_mm": f"Moved {name} when told, mm"
        for name in ("forward", "back", "left", "right", "up", "down")
    },
    "control_open": "Opened when told, share",
    "control_close": "Closed when told, share",
    "transfer_mm": "Error of a transferred action, mm",
    "transfer_random_mm": "The same, any donor, mm",
    "transfer_still_mm": "The same, standing still, mm",
    "probe_r2": "R2 of real from latent actions",
}
# Subscripted symbols, as they stand in names and as LaTeX and HTML set them.
_SYMBOL = re.compile(r"\b([ORSWAs])_(t\+\d|t\+k|t|pre|ft|tfs|LA|GT)(?![\w+])")


def experiment_label(name: str) -> str:
    """`table1` -> `Table 1`; other names as they are, but for underscores."""
    return re.sub(r"^(table|figure)(\d+)$", lambda m: f"{m[1].capitalize()} {m[2]}", name).replace("_", " ")


def corpus_label(corpus: str) -> str:
    return CORPORA.get(corpus, corpus)


def method_label(method: str) -> str:
    """Also of variants: `r_gt-500`, `copy-mae-decoder`."""
    base, ending, pairs = method.rpartition("-")
    if ending and re.fullmatch(r"\d+k?", pairs):
        return f"{method_label(base)}, {pairs} pairs"
    for end, said in VARIANTS.items():
        if method.endswith(end):
            return f"{method_label(method.removesuffix(end))}, {said}"
    return METHODS.get(method, method)


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


def number(value: float, metric: str = "") -> str:
    """A value as tables show it; shares as percentages."""
    name = metric.removesuffix("_moving")
    if name.startswith("success") or name in ("code_accuracy", "control_success"):
        return f"{100 * value:.1f}"
    if name.startswith(("psnr", "perplexity")) or name.endswith("_mm"):
        return f"{value:.1f}"
    return f"{round(value, 3) + 0.0:.3f}"  # + 0.0: no minus before a zero
