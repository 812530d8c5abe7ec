"""What makes a record stale: a changed field that its cell reads, a changed measure; and nothing else."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from uwm import methods
from uwm.bounds import later
from uwm.errors import UserError
from uwm.metrics import spec
from uwm.runs.experiment import Cell, CellResult, Context, Estimate, Experiment, load_experiment
from uwm.runs.measuring import measure
from uwm.runs.plan import make_plan
from uwm.runs.settings import identity_fields, plain, plain_value, with_settings

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Config:
    own: int = 1
    others: int = 1


def cells(config: Config, data: Any) -> list[Cell]:
    return [Cell("copy", "ours"), Cell("oracle", "ours")]


def run_cell(context: Context, cell: Cell) -> CellResult:
    return CellResult({"psnr_moving": Estimate(float(context.config.own), 1), "ssim": Estimate(0.5, 1)})


def reads(config: Config, cell: Cell) -> dict[str, Any]:
    return {"own": config.own} if cell.method == "copy" else {"own": config.own, "others": config.others}


EXPERIMENT = Experiment("identity", 1, {"mini": Config()}, cells, run_cell, reads)


def context(folder: Path, experiment: Experiment = EXPERIMENT, **changes: int) -> Context:
    settings = tuple(f"{name}={value}" for name, value in changes.items())
    plan = make_plan(
        experiment, [], scale="mini", settings=settings, data={}, out=str(folder), recompute=False
    )
    return plan.context(experiment)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Records of both cells."""
    run = context(tmp_path)
    for cell in run.cells:
        assert measure(run, cell).status == "ok"
    return tmp_path


def current(folder: Path, experiment: Experiment = EXPERIMENT, **changes: int) -> set[str]:
    return {name.split("/")[0] for name in context(folder, experiment, **changes).records()}


def test_a_record_is_of_the_fields_that_its_cell_reads(measured: Path) -> None:
    assert current(measured) == {"copy", "oracle"}
    assert current(measured, others=2) == {"copy"}
    assert current(measured, own=2) == set()
    assert current(measured, replace(EXPERIMENT, version=2)) == set()


def test_a_further_method_leaves_the_other_records_as_they_are(measured: Path) -> None:
    more = replace(EXPERIMENT, cells=lambda config, data: [*cells(config, data), Cell("uwm", "ours")])
    assert current(measured, more) == {"copy", "oracle"}


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> dict[str, spec.Metric]:
    known = dict(spec.METRICS)
    monkeypatch.setattr("uwm.metrics.spec.METRICS", known)
    return known


def test_a_changed_measure_is_noticed(measured: Path, declared: dict[str, spec.Metric]) -> None:
    declared["perplexity"] = replace(declared["perplexity"], version=2)  # no record has it
    declared["new"] = spec.Metric("new", "New", "lower")
    assert current(measured) == {"copy", "oracle"}
    declared["psnr"] = replace(declared["psnr"], version=2)
    assert current(measured) == set()


def test_names_that_are_not_declared_fail(tmp_path: Path) -> None:
    renamed = replace(EXPERIMENT, cells=lambda config, data: [Cell("copied", "ours")])
    with pytest.raises(UserError, match="method 'copied' is not declared"):
        _ = context(tmp_path, renamed).cells
    cosine = replace(EXPERIMENT, run_cell=lambda context, cell: CellResult({"cosine": Estimate(0.5, 1)}))
    with pytest.raises(UserError, match="metric 'cosine' is not declared"):
        measure(context(tmp_path, cosine), Cell("copy", "ours"))


@pytest.mark.parametrize(
    "name",
    [
        "uwm-5-steps",
        "w_pre-state-cost",
        "copy-plain-reader",
        "oracle-7k",
        "r_gt-laq-500",
        "r_gt-more-samples",
    ],
)
def test_a_variant_that_a_method_does_not_declare_fails(name: str) -> None:
    with pytest.raises(UserError, match=r"is not declared|declares no variant"):
        methods.parse(name)


@pytest.mark.parametrize("method", methods.METHODS.values(), ids=str)
def test_the_names_that_a_method_makes_are_parsed(method: methods.Method) -> None:
    """By the number of pairs, by variant, and by both."""
    bases = {method.name: None} | ({method.with_pairs(2000): "2k"} if method.by_pairs else {})
    for base, pairs in bases.items():
        assert methods.parse(base) == methods.Parsed(method, pairs)
        for variant in method.variants:
            assert methods.parse(f"{base}-{variant.suffix}") == methods.Parsed(method, pairs, variant)
    if not method.by_pairs:
        with pytest.raises(ValueError, match="no variants by the number of pairs"):
            method.with_pairs(500)


def test_all_methods_are_known_without_an_experiment() -> None:
    """Those of families and ablations too, whatever was imported before."""
    names = "genie", "codebook-256", "r_gt-laq"
    code = f"from uwm.methods import parse; print([parse(name) for name in {names}])"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_what_is_declared_twice_differently_fails() -> None:
    with pytest.raises(ValueError, match="declared already"):
        spec.declare_metric(spec.Metric("psnr", "Peak", "higher"))
    with pytest.raises(ValueError, match="declared already"):
        methods.declare_method(methods.Method("copy", "Another copy"))


@pytest.mark.parametrize("name", ["table1", "figure4", "figure5"])
def test_every_model_field_is_in_the_record_and_can_be_set(name: str) -> None:
    """A changed codebook or restart threshold is another cell, for those that use the world model alone."""
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    config = experiment.configs["mini"]
    cells = experiment.cells(config, {})
    before = {cell.name: plain_value(experiment.reads(config, cell)) for cell in cells}
    for setting in ("quantizer.codes=512", "quantizer.restart_threshold=0.2", "dynamics.residual=false"):
        changed = with_settings(config, [f"pretrain.model.{setting}"])
        stale = {c.name for c in cells if plain_value(experiment.reads(changed, c)) != before[c.name]}
        others = ("copy", "oracle", "uwm-1960", "no-action") if name == "table1" else ()
        expected = {c.name for c in cells if c.method not in others}
        assert stale == expected
        group, field = setting.partition("=")[0].split(".")
        some = next(iter(stale))
        assert field in before[some]["pretrain"]["model"][group]


@dataclass(frozen=True)
class Inner:
    steps: int = 3
    since_then: int = later(1)


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = (Inner(4, 2),)


def test_a_field_added_later_is_in_digests_only_where_it_was_changed() -> None:
    assert identity_fields(Outer()) == {"inner": {"steps": 3}, "parts": [{"steps": 4, "since_then": 2}]}
    changed = with_settings(Outer(), ["inner.since_then=2"])
    assert plain_value({"all": changed})["all"]["inner"] == {"steps": 3, "since_then": 2}
    assert plain(Outer())["inner"] == {"steps": 3, "since_then": 1}  # what can be set


def test_fields_that_must_agree_are_set_together() -> None:
    config = load_experiment(ROOT / "experiments" / "table1.py").configs["mini"]
    both = ["pretrain.model.quantizer.width=32", "pretrain.model.tokens.action_width=32"]
    assert with_settings(config, both).pretrain.model.quantizer.width == 32
    with pytest.raises(UserError, match=r"set quantizer\.width and tokens\.action_width alike"):
        with_settings(config, both[:1])


def test_a_preset_is_a_value() -> None:
    config = load_experiment(ROOT / "experiments" / "table1.py").configs["mini"]
    changed = with_settings(config, ["pretrain.model=authors"])
    assert changed.pretrain.model.extractor.token_layout == "tokens"
    with pytest.raises(UserError, match="did you mean 'authors'"):
        with_settings(config, ["pretrain.model=author"])
