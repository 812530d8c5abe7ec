"""Bounds of config fields: the same for a config built in Python and for one changed by --set."""

from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwm.bounds import Bounded, Count, Natural, NotNegative, OneOf, OutOfBounds, Positive, Range, Share
from uwm.errors import UserError
from uwm.runs.experiment import load_experiment
from uwm.runs.settings import with_settings
from uwm.training.optimizer import TrainConfig


@dataclass(frozen=True)
class Inner(Bounded):
    steps: Count = 4
    warmup: Natural = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup > self.steps:
            raise ValueError(f"warmup {self.warmup} is longer than {self.steps} steps")


@dataclass(frozen=True)
class Config(Bounded):
    inner: Inner = field(default_factory=Inner)
    count: Count = 1
    most: Count | None = None
    rate: Positive = 1e-4
    decay: NotNegative = 0.0
    share: Share = 0.5
    betas: tuple[Share, Share] = (0.9, 0.95)
    ratios: tuple[Annotated[float, Range(0, below=1)], ...] = (0.75,)
    kind: Literal["mini", "paper"] = "mini"
    preset: Annotated[str, OneOf(("small", "large"))] = "small"
    name: str = ""
    flag: bool = False


BAD = {
    "count=0": "count must be at least 1, not 0",
    "count=-1": "count must be at least 1",
    "count=99999999999999999999": "count must be at most",
    "count=1.5": "not a whole number",
    "most=0": "most must be at least 1, not 0",
    "most=-5": "most must be at least 1",
    "rate=0": "rate must be above 0, not 0",
    "rate=-1e-4": "rate must be above 0",
    "rate=nan": "not a finite number",
    "rate=inf": "not a finite number",
    "decay=-1": "decay must be at least 0, not -1",
    "share=1.01": "share must be at most 1, not 1.01",
    "betas=2,2": "betas must be at most 1",
    "betas=0.5": "2 values",
    "ratios=1": "ratios must be below 1",
    "ratios=0.5,2": "ratios must be below 1",
    "kind=minii": "did you mean 'mini'?",
    "kind=": "is not one of mini, paper",
    "preset=smal": "did you mean 'small'?",
    "preset=": "preset is none that is known; there are small, large",
    "flag=perhaps": "is not true or false",
    "inner.steps=0": "steps must be at least 1, not 0",
    "inner.warmup=5": "warmup 5 is longer than 4 steps",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_out_of_bounds_is_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        with_settings(Config(), [text])
    assert str(caught.value).startswith(f"--set {text}: ")
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fields_are_checked_together_whatever_their_order() -> None:
    for texts in (["inner.warmup=8", "inner.steps=9"], ["inner.steps=9", "inner.warmup=8"]):
        assert with_settings(Config(), texts).inner == Inner(9, 8)
    with pytest.raises(UserError, match=r"^--set inner\.warmup=8 inner\.steps=7: "):
        with_settings(Config(), ["inner.warmup=8", "inner.steps=7"])


def test_edges_are_within() -> None:
    Config(most=1, rate=float("inf"), share=1.0, betas=(0, 1), ratios=(), count=2**63 - 1)
    Config(count=int(np.int64(3)), share=np.float32(0.5), most=np.int64(4))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"count": True}, {"count": "3"}, {"count": None}, {"count": 1.0}, {"rate": "x"}, {"rate": float("nan")},
     {"kind": "minii"}, {"kind": None}, {"preset": "x"}, {"most": 1.5}, {"ratios": ("a",)}],
    ids=str,
)  # fmt: skip
def test_python_gets_a_value_error_with_the_name(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))) as caught:
        Config(**wrong)
    assert isinstance(caught.value, OutOfBounds)
    assert "\n" not in str(caught.value)


@given(
    st.sampled_from(["steps", "batch_size", "warmup_steps", "seed"]), st.integers() | st.floats() | st.text()
)
def test_a_training_config_is_in_bounds_or_refused(name: str, value: object) -> None:
    try:
        config = TrainConfig(**{"steps": 9, "batch_size": 1, name: value})
    except ValueError as error:
        assert str(error).startswith(name if name != "steps" else ("steps", "warmup_steps"))  # noqa: PT017
    else:
        assert 0 <= getattr(config, name) < 2**63


@pytest.mark.parametrize(
    "wrong",
    [{"betas": (2.0, 2.0)}, {"betas": (0.9, 1.0)}, {"weight_decay": -1.0}, {"clip_norm": -1.0},
     {"clip_norm": 0.0}, {"warmup_steps": 1000}, {"min_lr_fraction": 1.5}, {"learning_rate": -1.0},
     {"learning_rate": float("nan")}, {"precision": "fp8"}, {"seed": -1}],
    ids=str,
)  # fmt: skip
def test_trainings_that_cannot_be_meant_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=f"^{next(iter(wrong))} must"):
        TrainConfig(**{"steps": 4, "batch_size": 1, **wrong})


EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
NO_CODEBOOK = ["pretrain.model.bottleneck.kind=noise", "pretrain.model.continuous_steps=0"]
# Found out only after hours of training, or never.
LATE = [
    ("table1", NO_CODEBOOK, "pretrain.model.bottleneck.kind must be codes, not noise: random-action draws"),
    ("figure5", NO_CODEBOOK, "adapter.model: target codes needs a codebook, and the bottleneck is noise"),
    ("figure5", [*NO_CODEBOOK, "adapter.model.target=continuous", "adapter.model.decode=likeliest"],
     "dynamics.model: target codes needs a codebook"),
    *((name, ["pretrain.train.accumulate=4"], "accumulate must be 1 where a codebook is trained, not 4")
      for name in ("table1", "figure4", "figure5", "ablations", "families", "planning")),
    ("figure4", ["finetune.train.accumulate=2"], "accumulate must be 1"),
    ("figure5", ["ficc.train.accumulate=2"], "accumulate must be 1"),
    ("table1", ["mae.train.accumulate=64"], "mask_ratios are 2, more than the images of a micro-batch"),
    ("figure5", ["horizon=5"], "panel_steps go to 10, beyond the horizon of 5 steps"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "texts", "told"), LATE)
def test_what_a_training_cannot_end_with_is_refused_before_it(name: str, texts: list[str], told: str) -> None:
    config = load_experiment(EXPERIMENTS / f"{name}.py").configs["mini"]
    with pytest.raises(UserError) as caught:
        with_settings(config, texts)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_without_a_codebook_have_an_adapter_too() -> None:
    targets = [f"{name}.model.{text}" for name in ("adapter", "dynamics")
               for text in ("target=continuous", "decode=likeliest")]  # fmt: skip
    config = load_experiment(EXPERIMENTS / "figure5.py").configs["mini"]
    assert with_settings(config, [*NO_CODEBOOK, *targets]).adapter.model.target == "continuous"
    assert with_settings(config, ["adapter.train.accumulate=2"]).adapter.train.accumulate == 2


def unbounded(kind: object, name: str) -> Iterator[str]:
    """Fields of a config and of its groups that hold numbers without bounds."""
    if get_origin(kind) is Annotated:
        return
    if kind is int or kind is float:
        yield name
    elif is_dataclass(kind) and isinstance(kind, type):
        for field_name, hint in get_type_hints(kind, include_extras=True).items():
            if field_name != "presets":
                yield from unbounded(hint, f"{name}.{field_name}")
    else:
        for part in get_args(kind):
            yield from unbounded(part, name)


# Numbers of things to do or to read, not of what lies in memory at once; and seeds.
NO_MOST = (
    "checkpoint_every", "clips", "collapse_patience", "continuous_steps", "curve", "epochs", "further_seeds",
    "goals_ahead", "horizon", "labelled", "pairs", "panel_steps", "probe_pairs", "procedural",
    "rollouts", "scarce", "scratch_steps", "seed", "seeds", "steps", "test_pairs", "test_seed", "tfs_steps",
    "validate_every", "views", "warmup_steps",
)  # fmt: skip


def without_most(kind: object, name: str, most: bool = False) -> Iterator[str]:
    """Fields of a config and of its groups that hold whole numbers of any size."""
    if get_origin(kind) is Annotated:
        inner, *bounds = get_args(kind)
        yield from without_most(
            inner, name, most or any(isinstance(bound, Range) and bound.high for bound in bounds)
        )
    elif kind is int:
        if not most:
            yield name
    elif is_dataclass(kind) and isinstance(kind, type):
        for field_name, hint in get_type_hints(kind, include_extras=True).items():
            if field_name != "presets":
                yield from without_most(hint, f"{name}.{field_name}")
    else:
        for part in get_args(kind):
            yield from without_most(part, name, most)


@pytest.mark.parametrize("name", ["table1", "figure4", "figure5", "ablations", "families"])
def test_every_size_has_a_most(name: str) -> None:
    experiment = load_experiment(Path(__file__).resolve().parents[1] / "experiments" / f"{name}.py")
    found = without_most(type(experiment.configs["mini"]), name)
    assert sorted(f for f in found if f.rpartition(".")[2] not in NO_MOST) == []


@pytest.mark.parametrize(
    "texts",
    [["count=1", "count=2"], ["inner.steps=5", "inner.steps=6"], ["count=1", "count=1", "count=2"],
     ["ratios=0.5", "ratios=0.6"], ["most=3", "most=none"]],
    ids=str,
)  # fmt: skip
def test_a_field_has_one_value(texts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        with_settings(Config(), texts)
    assert str(caught.value).startswith(f"--set {texts[-1]}: ")
    assert f"is set twice (before: {texts[-2]}): give one of them" in str(caught.value)
    assert with_settings(Config(), [texts[0]] * 2) == with_settings(Config(), texts[:1])


@pytest.mark.parametrize("preset_first", [True, False])
def test_a_group_is_set_as_a_whole_or_by_its_fields(preset_first: bool) -> None:
    experiment = load_experiment(Path(__file__).resolve().parents[1] / "experiments" / "table1.py")
    texts = ["mae.model=small", "mae.model.encoder_depth=3"]
    with pytest.raises(UserError, match="give one of them"):
        with_settings(experiment.configs["mini"], texts if preset_first else texts[::-1])


FREE = ("controller.low", "controller.high")  # a robot's range may be any


@pytest.mark.parametrize("name", ["table1", "figure4", "figure5"])
def test_every_number_of_an_experiment_has_bounds(name: str) -> None:
    experiment = load_experiment(Path(__file__).resolve().parents[1] / "experiments" / f"{name}.py")
    found = list(unbounded(type(experiment.configs["mini"]), name))
    assert [field for field in found if not field.endswith(FREE)] == []


OF_EXPERIMENTS = [
    ("table1", "test_pairs=-1"), ("table1", "pretrain.clips=-1"), ("table1", "pretrain.views=-1"),
    ("table1", "pretrain.train.clip_norm=-1"), ("table1", "pretrain.train.weight_decay=-1"),
    ("table1", "pretrain.train.warmup_steps=100000"), ("table1", "mae.model.encoder_depth=-1"),
    ("table1", "mae.mask_ratios=2"), ("table1", "mae.mask_ratios="), ("table1", "mae.train.betas=2,2"),
    ("table1", "pretrain.pairs=10"), ("table1", "mae.model=minii"), ("table1", "test_split=tset"),
    ("table1", "lpips=alexx"), ("table1", "seed=-1"), ("table1", "corpora=sim-ego,sim-ego"),
    ("table1", "pretrain_on="), ("table1", "pretrain.gap=0"), ("table1", "pretrain.short_side=0"),
    ("table1", "mae.mask_ratios=0.5,0.5"), ("table1", "pretrain.model.quantizer.codes=999999999999"),
    ("table1", "pretrain.model.dynamics.depth=100000"), ("table1", "pretrain.train.batch_size=99999999"),
    ("table1", "mae.model.image_size=1600000"), ("table1", "pretrain.short_side=99999"),
    ("figure4", "seeds="), ("figure4", "seeds=0,0"), ("figure4", "seeds=-1"), ("figure4", "curve=0"),
    ("figure4", "scratch_steps=0"), ("figure4", "finetune.pairs=0"), ("figure4", "finetune.start=scrach"),
    ("figure5", "horizon=0"), ("figure5", "rollouts=-1"), ("figure5", "adapter.commitment=-1"),
    ("figure5", "ficc.model.channels=0"), ("figure5", "decoder.lpips=vg"), ("figure5", "panel_steps=0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), OF_EXPERIMENTS)
def test_settings_that_cannot_be_meant_are_refused(name: str, text: str) -> None:
    experiment = load_experiment(Path(__file__).resolve().parents[1] / "experiments" / f"{name}.py")
    with pytest.raises(UserError) as caught:
        with_settings(experiment.configs["mini"], [text])
    assert str(caught.value).startswith(f"--set {text}: ")
    assert "\n" not in str(caught.value)
