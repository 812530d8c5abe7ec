"""The alarm for world models that ignore the action: another pair's action would have done as well.

The perplexity of the codes can't tell: an extractor spreads its codes over the whole codebook whether or not
the dynamics read them, and the training loss falls by what can be predicted without any action.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

log = logging.getLogger(__name__)

Validate = Callable[[], dict[str, float]]


@dataclass(frozen=True)
class ActionAlarm:
    """Compares the state errors of `action_gap`, own and shuffled, on every validation corpus. The numbers
    below are our choice."""

    after: float = 0.25  # share of the steps from which on it warns: at first every model copies
    margin: float = 0.02  # the action counts as ignored while another pair's costs no larger share more

    def __post_init__(self) -> None:
        if not 0 <= self.after <= 1 or self.margin < 0:
            raise ValueError(
                f"after must be a share and margin not negative, not {self.after}, {self.margin}"
            )

    def ignored(self, values: Mapping[str, float]) -> bool:
        """Whether the action is ignored on all corpora, by validation numbers `state_mse[/<corpus>]` and
        `state_mse_shuffled[/<corpus>]`, with or without the log's `val/`."""
        gains = self._costs(values).values()
        return bool(gains) and all(gain < self.margin for gain in gains)

    def watching(self, validate: Validate, progress: Callable[[], float]) -> Validate:
        """`validate` that warns of ignored actions once `progress()`, the share of steps done, is `after`."""

        def watched() -> dict[str, float]:
            values = validate()
            if progress() >= self.after and self.ignored(values):
                log.warning(self._message(values, f"after {progress():.0%} of the steps"))
            return values

        return watched

    def _costs(self, values: Mapping[str, float]) -> dict[str, float]:
        """By corpus, the share that another pair's action adds to the state error."""
        errors = {key.removeprefix("val/"): value for key, value in values.items()}
        return {
            key.removeprefix("state_mse").lstrip("/"): errors[
                key.replace("state_mse", "state_mse_shuffled", 1)
            ]
            / max(value, 1e-30)
            - 1
            for key, value in errors.items()
            if key.partition("/")[0] == "state_mse"
        }

    def _message(self, values: Mapping[str, float], when: str) -> str:
        costs = ", ".join(
            f"{cost:+.1%}{f' on {name}' if name else ''}" for name, cost in self._costs(values).items()
        )
        return (
            f"the dynamics ignore the action {when}: another pair's action changes the state error by {costs}"
            f" (alarm under {self.margin:.0%}); use conditioning=modulation, or a lower learning rate"
        )
