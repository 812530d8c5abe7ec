"""What stands below each figure, in the report and on the page; and the order of the figures."""

import re
from collections.abc import Iterable
from pathlib import Path

from paper.names import corpus_label

# By the pattern of the file's name, whose group is the corpus. One without a group counts first, then the
# longest. Figures stand in this order.
CAPTIONS = {
    r"figure3_(.+)": "The paper's Figure 3, {corpus}, scale {scale}. The observations, their "
    "reconstructions and the predicted frame; below, the LPIPS from the prediction to O_t and to O_t+1, "
    "both reconstructed.",
    r"table1_code_use": "Use of the codes on the test pairs, scale {scale}; the dotted line is even use.",
    r"table1_curve_(.+)": "Training curve ({corpus}), scale {scale}.",
    r"figure4_(.+)": "The paper's Figure 4, {corpus}, scale {scale}. The observations and the frames "
    "predicted by the pre-trained model, the one trained from scratch on all in-domain data, and the "
    "fine-tuned one.",
    r"figure4_pairs_curve_(.+)": "LPIPS to O_t+1 on the moving half against the number of in-domain pairs "
    "that the pre-trained model is fine-tuned on ({corpus}, scale {scale}); 95% intervals over clips "
    "and seeds.",
    r"figure4_curves_(.+)": "State error on validation pairs during the trainings of Figure 4 ({corpus}, "
    "scale {scale}), one seed each.",
    r"figure5_(.+)": "The paper's Figure 5, {corpus}, scale {scale}. The observations and the next frames "
    "predicted from latent actions, R_LA, and from real ones, R_GT.",
    r"figure5_(.+)-gripper": "The gripper section of the same frames, enlarged ({corpus}, scale {scale}).",
    r"figure5_pairs_curve_(.+)": "LPIPS to O_t+1 and the hand's error on the moving half against the number "
    "of action-labelled pairs ({corpus}, scale {scale}); bands are 95% intervals over clips and seeds.",
    r"figure5_rollout_curve_(.+)": "Rollouts from the true first frame: errors k steps of 0.2 s ahead "
    "({corpus}, scale {scale}). The bands are 95% intervals over clips, of several seeds from the "
    "lowest to the highest.",
    r"figure5_(.+)-rollout": "One rollout, step by step ({corpus}, scale {scale}): what happened, and what "
    "was predicted from the first frame by latent and by real actions.",
    r"figure5_(.+)-transfer": "Latent actions of one clip applied in another ({corpus}, scale {scale}): the "
    "donor's two frames, the frame that gets their latent action, and the prediction.",
    r"figure5_(.+)-commands": "The frame predicted from O_t and one constant command ({corpus}, scale "
    "{scale}).",
    r"figure5_curves_(.+)": "State error on validation pairs during the trainings of Figure 5 ({corpus}, "
    "scale {scale}): the fine-tuning, the adapter on top of it, and dynamics without latent actions.",
    r"planning_(.+)-reached": "Planning, {corpus}, scale {scale}: an episode that reached its goal. What "
    "was seen k steps of 0.2 s after the start, what the planner had imagined, and the goal.",
    r"planning_(.+)-missed": "Planning, {corpus}, scale {scale}: an episode that did not reach its goal.",
    r"planning_pairs_curve_(.+)": "Planning, {corpus}, scale {scale}: how often the goal is reached, against "
    "the number of action-labelled pairs; bands are Wilson's 95% intervals.",
    r"planning_rollout_curve_(.+)": "Planning, {corpus}, scale {scale}: distance to the goal after k steps "
    "of 0.2 s; an episode that has ended stays where it is. Bands are 95% intervals over episodes.",
    r"figure[45]_curve_(.+)": "Training curve ({corpus}), scale {scale}.",
    r"ablations_rate_(.+)": "What a latent action of so many bits is worth ({corpus}, moving half, "
    "scale {scale}), each trained briefly, beside the released model: a high rate buys a sharper picture "
    "and a leak, for it is a code of the frame. x264 stands at the most bits that it may spend on a "
    "pair; where it spends none it shows a copy, and a clip of copies has no ratio.",
    r"families_(.+)": "The same pairs by each family ({corpus}, scale {scale}), trained briefly: O_t, O_t+1 "
    "and the frames predicted from its latent actions.",
    r"families_rate": "Bits of a transition and what they buy, scale {scale}: a marker for each family, "
    "those of equal bits beside each other, 95% intervals over clips and trainings. Third person, moving "
    "half; last the hand's error by a robot's real actions through an adapter.",
    r"ablations_length_(.+)": "The same against the length of the training, which has a falling learning "
    "rate each time ({corpus}, moving half, scale {scale}); the longest one, in larger batches, is the "
    "released model's before its perceptual loss. Dotted: a power law through the last three.",
}


def caption(stem: str, scale: str) -> str:
    """The caption of a figure's file."""
    match = _match(stem)
    if match is None:
        return f"{stem.replace('_', ' ')}, scale {scale}."
    corpus = corpus_label(match[1]) if match.groups() else ""
    return CAPTIONS[match.re.pattern].format(corpus=corpus.replace("_", " "), scale=scale)


def caption_pattern(stem: str) -> str:
    """The pattern of `CAPTIONS` that a figure's name follows; "" for none."""
    match = _match(stem)
    return match.re.pattern if match else ""


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Drawn figures in the order of their captions."""
    patterns = [*CAPTIONS, ""]

    def order(path: Path) -> tuple[int, str]:
        return patterns.index(caption_pattern(path.stem)), path.name

    return sorted(paths, key=order)


def _match(stem: str) -> re.Match[str] | None:
    """The pattern that the whole name follows: itself, else the longest."""
    matches = [match for pattern in CAPTIONS if (match := re.fullmatch(pattern, stem))]
    return max(matches, key=lambda match: (not match.re.groups, len(match.re.pattern)), default=None)
