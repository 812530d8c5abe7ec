"""The paper's claims in short: the table of README.md."""

from collections import Counter

from paper.claims import claims
from paper.items import AGREES, DIFFERS
from paper.names import DASH, corpus_label
from paper.reported import Reported
from paper.store import Results
from paper.table import Table

SHOWN_SCALE, SHOWN_HALF = "mini", "moving"
# Of Figure 5 those in LPIPS, as the paper measures; further views of them stand in the table of all.
IN_SHORT = ("table1/", "figure4/", "figure5/adapter-")


def claims_in_short(results: Results) -> Table:
    """A row for each claim in the paper's own measure: its verdict at scale mini on each corpus."""
    reported = Reported()
    verdicts = {item.id: item.verdict for item in claims(results, reported, SHOWN_SCALE)}
    corpora = list(dict.fromkeys(name.split("/")[3] for name in verdicts if name.count("/") == 4))
    rows = [
        [
            str(row.statement),
            *(verdicts.get(f"{SHOWN_SCALE}/{row.id}/{name}/{SHOWN_HALF}", DASH) for name in corpora),
        ]
        for row in reported.claims.itertuples()
        if str(row.id).startswith(IN_SHORT)
    ]
    counts = Counter(verdicts.values())
    note = (
        f"In LPIPS, scale {SHOWN_SCALE}, moving half. W_pre is the pre-trained model, W_ft the fine-tuned "
        "one, W_tfs one trained from scratch. Over all pairs and the moving half, and with our readings of "
        "Figure 5 (the hand's place, states, pixels, five steps ahead), "
        f"{counts[AGREES]} claims agree and {counts[DIFFERS]} differ."
    )
    return Table("claims", "The paper's claims", ["", *map(corpus_label, corpora)], rows, note)
