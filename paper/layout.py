"""What the tables hold: topics of rows, views of columns, what is compared, and the notes below.

What stands in the main text has at most `MOST_ROWS` rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from uwm.methods import (
    AHEAD,
    CLONING,
    COPY,
    DIRECT,
    FICC_REAL,
    LPIPS_DECODER,
    MAE_DECODER,
    NO_ACTION,
    NO_STATE,
    ORACLE,
    R_GT,
    R_GT_LIKELIEST,
    R_GT_TARGETS,
    R_LA,
    SCRATCH,
    SHUFFLED,
    W_FT,
    W_PRE,
    W_TFS,
)
from uwm.methods.families import PLANNERS
from uwm.methods.variations import (
    BASE,
    CODEBOOK,
    CODECS,
    DATA,
    EXTRACTOR,
    LENGTH,
    PARTS,
    PRESETS,
    RATE,
    VARIATIONS,
)
from uwm.metrics.spec import METRICS

EXPERIMENTS = ("table1", "figure4", "figure5")
OWN_TABLES = frozenset({"families"})  # whose rows are of several corpora: paper/families.py
MOST_ROWS = 12  # of a table in the main text
PAIR_COUNTS = {
    W_FT: (100, 500, 10_000),
    R_GT: (100, 500, 2000),
    DIRECT: (100, 500, 2000),
    CLONING: (500,),
}  # besides all, or 2k
COMPARED_AHEAD = (R_LA, R_GT, NO_STATE, SHUFFLED, DIRECT, NO_ACTION, COPY)


@dataclass(frozen=True)
class Topic:
    """Rows that belong together, and main rows that stand `beside` them; `suffix` ends their tables' name."""

    suffix: str
    title: str
    methods: Sequence[str]
    beside: Sequence[str] = ()


# Further rows of Figure 5, in tables of their own, and only where they have a record.
TOPICS = {
    "figure5": (
        Topic(
            "_pairs",
            "number of labelled pairs",
            [name for m in (R_GT, DIRECT) for name in (*(m.with_pairs(n) for n in PAIR_COUNTS[m]), m.name)],
        ),
        Topic(
            "_targets",
            "targets of the adapter",
            [m.name for m in (R_GT, R_GT_LIKELIEST, *R_GT_TARGETS.values())],
        ),
        Topic(
            "_decoders",
            "decoders",
            [
                m.variant(way)
                for way in (None, MAE_DECODER, LPIPS_DECODER)
                for m in (R_LA, R_GT, COPY, ORACLE)
            ],
        ),
        Topic("_ahead", "five steps ahead", [m.variant(AHEAD) for m in (*COMPARED_AHEAD, ORACLE)]),
    ),
    "planning": (
        Topic("_families", "families of latent actions", list(PLANNERS), beside=[R_GT.name, DIRECT.name]),
        Topic(
            "_pairs",
            "number of labelled pairs",
            [m.with_pairs(pairs) for m in (R_GT, DIRECT, CLONING) for pairs in PAIR_COUNTS[m]],
            beside=[R_GT.name, DIRECT.name, CLONING.name],
        ),
    ),
    "ablations": tuple(
        Topic(
            f"_{topic}",
            title,
            [BASE.name, *(v.name for v in VARIATIONS.values() if v.topic == topic), *codecs],
        )
        for topic, title, codecs in (
            (RATE, "bits a transition", CODECS),
            (LENGTH, "length of the training", ()),
            (PRESETS, "the paper's and the authors' model", ()),
            (CODEBOOK, "the codebook", ()),
            (EXTRACTOR, "the action extractor", ()),
            (DATA, "what it is trained on, and the MAE", ()),
        )
    ),
}
EXPECTED_CORPORA = {
    ("table1", "mini"): ["sim-third-person", "sim-ego", "sim-panda"],
    ("table1", "paper"): ["ssv2", "ego4d"],
    ("table1", "small"): ["ssv2"],
    ("figure4", "mini"): ["sim-panda"],
    ("figure4", "paper"): ["robosuite"],
    ("figure4", "small"): ["robosuite"],
}
DIFFERENCE_NOTES = {
    "": "Mean over pairs and seeds, 95% intervals over clips and seeds in brackets. Below 0, the first is "
    "nearer to O_t+1 (PSNR: above 0).",
    "ablations": "The variation's number minus the base's, on the same pairs, with 95% intervals over clips "
    "and seeds in brackets. Where a variation has one seed, it stands beside each seed of the base.",
}
MAIN = ["lpips_to_current", "lpips_to_next", "lpips_ratio", "success_vs_current", "success_vs_copy"]
MORE = ["lpips_to_next_true", "psnr", "ssim", "state_mse", "perplexity"]
# Where they were measured too: over the moving region alone, and in pixels to the blurred O_t+1.
REGION = ["lpips_region", "lpips_region_true", "psnr_region", "psnr_blurred", "ssim_blurred"]
# Whether a latent action is one (uwm/evaluation/actions.py).
LATENT_METRICS = ["bits", "state_ratio", "own_over_shuffled", "gain_over_no_action", "delta_psnr"]
LATENT_METRICS += ["leak", "leak_of_colour", "leak_lpips", "cycle", "reversal"]
# How right the frames are and the movement; and the actions.
MOVEMENT = ["lpips_to_next", "lpips_region", "lpips_hand", "psnr_hand", "hand_error_px"]
ACTIONS = ["code_accuracy", "latent_mse"]
# An experiment's tables by the end of their names. The first is the one of the main text.
USUAL = {"": MAIN, "_latent": LATENT_METRICS, "_more": MORE, "_region": REGION}
PLANNED = ["success", "final_distance_mm", "steps", "calls_per_decision", "seconds_per_decision"]
# Of planning's tasks, in mm: how near is done, and how far start and goal are apart at least and at most
# (uwm/data/simulation/task_config.py). Lifting has a test of its own.
TASK_DISTANCES = {"reach": (50, 100, 200), "push": (30, 60, 120)}
UNDIVIDED = {"planning": "All episodes"}  # tables of no pairs, without a moving half: what they hold
# What is varied of the model: how much the action is used, how sharp the picture is, what the code holds.
VARIED = ["state_ratio", "own_over_shuffled", "leak", "lpips_ratio", "success_vs_copy"]
RATES = ["bits", "code_bits", "perplexity", "probe_r2", "probe_r2_mlp"]
COMPUTE = ["parameters", "last_gain"]
VIEWS = {
    "table1": {**USUAL, "_rates": [*RATES, "probe_r2_movement", "transfer_picture", "transfer", *COMPUTE]},
    "planning": {"": PLANNED},
    "figure5": {"": MOVEMENT, "_actions": ACTIONS, "_frames": MAIN, "_more": [*MORE[:-1], "psnr_region"]},
    "ablations": {"": VARIED, "_rates": RATES, "_frames": MAIN},
}
HALVES = {"": "All pairs", "_moving": "Moving half"}
# What is no mean over pairs: the gripper under commands, and with actions of another clip.
CONTROL = [name for name, metric in METRICS.items() if metric.control]
# What is compared pair by pair, by the end of the table's name (a topic's, or none): the first minus the
# second.
DIFFERENCES: dict[str, dict[str, list[tuple[str, str]]]] = {
    "figure4": {
        "": [(str(W_FT), str(other)) for other in (W_PRE, W_TFS, SCRATCH)] + [(str(W_PRE), str(COPY))]
    },
    "figure5": {
        "": [(str(R_GT), str(m)) for m in (R_LA, COPY, SHUFFLED, NO_STATE, DIRECT, NO_ACTION, FICC_REAL)],
        "_ahead": [(R_GT.variant(AHEAD), m.variant(AHEAD)) for m in COMPARED_AHEAD if m != R_GT],
    },
    "ablations": {
        suffix: [(v.name, BASE.name) for v in VARIATIONS.values() if v.topic == topic]
        for suffix, topic in (
            ("", PARTS),
            *((f"_{topic}", topic) for topic in (PRESETS, RATE, CODEBOOK, EXTRACTOR, DATA)),
        )
    },
}
COMPARED = {
    "figure4": ["lpips_to_next", "lpips_region", "psnr_region", "state_mse"],
    "figure5": ["lpips_to_next", "lpips_region", "lpips_hand", "hand_error_px"],
    "ablations": ["state_ratio", "own_over_shuffled", "leak", "lpips_ratio"],
}
TITLES = {
    "": "",
    "_more": "other measures",
    "_region": "moving region",
    "_frames": "frames",
    "_latent": "latent actions",
    "_actions": "actions",
    "_rates": "codes, probes, trainings",
}
INTERVALS = "95% intervals over clips in brackets, over trainings too where a row has several. "
SHARP = "Against O_t+1 itself, not blurred. "
NOTES = {
    "": INTERVALS,
    "_frames": INTERVALS,
    "_latent": INTERVALS
    + "State error of the pair's own action over the copy's and over another action's; its "
    "gain over dynamics without actions. Leak: an action to a frame of another clip, 1 = none of that frame "
    "is drawn; below the leak of mean colour more of it passes than its colour. Cycle: the state error after "
    "the action was used and read on a frame of another clip, over the copy's. Reversal: 0 where the action "
    "back is the inverse, 1 where the two have nothing to do with each other. ",
    "_more": INTERVALS + SHARP,
    "_region": INTERVALS
    + "The region is where the two frames differ (uwm/metrics/region.py); PSNR over it is to "
    "the sharp O_t+1. ",
    "_actions": INTERVALS
    + "Right codes and latent action MSE: the adapter's against those inferred from both "
    "frames. ",
    "figure5": INTERVALS
    + "Region: where the two frames differ. Gripper: a crop around it, PSNR to the sharp "
    "O_t+1. Hand error: between the gripper's true motion in the picture and the predicted one. ",
    "planning": "Success: reached within the episode's steps, with Wilson's 95% interval; all else: 95% "
    "intervals over episodes. A step is 0.2 s. Each row is one training: intervals leave out how trainings "
    "differ. The time is of one processor core, for one decision, and grows with other work on the machine. "
    "The number of pairs is of adapters and of cloning alone: the small networks that measure distances in a "
    "planner's cost have learnt the hand's place from all labelled pairs. ",
    "ablations": INTERVALS + "State error over the copy's and over that with another pair's action; leak: "
    "of an action to a frame of another clip, over the copy's, 1 = nothing of that frame is drawn. Trained "
    "briefly; the base and some others with two seeds, which their numbers are the mean of. ",
    "_rates": INTERVALS + "Bits of a transition, L log2 K and by the codes' entropy; R2 of a probe of the "
    "robot's own action, where there is one; off the true movement: of a linear probe that is given how "
    "far the gripper goes in the picture and how far it is open instead. Transferred: how far the hand moves "
    "by the action of another clip from how it moved there, over the same for a hand that stands still. "
    "Gained in the last quarter: what the last quarter of the last training took from its validation error. ",
    "_ahead": "O_t+5 in O_t+1's place. ",
}


def task_note(task: str) -> str:
    """What a planning task asks for."""
    if task not in TASK_DISTANCES:
        return "Success is robosuite's own test. "
    near, least, most = TASK_DISTANCES[task]
    return f"The goal is {least} to {most} mm away; nearer than {near} mm is done. "
