"""Toy records: what `experiments/table1.py` writes, made up from random numbers in a temporary folder."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from paper.community import community_faults
from paper.store import Results
from uwm.metrics.spec import versions
from uwm.metrics.statistics import bootstrap_mean, bootstrap_ratio
from uwm.runs.record import Record, config_digest, file_sha256

METHODS = {"uwm": (0.10, 0.05), "copy": (0.0, 0.12), "shuffled-action": (0.08, 0.11), "oracle": (0.12, 0.0)}
CLIPS, PAIRS = 12, 4
SENT_METHOD = {"file": "mine.py", "class": "Mine", "sha256": "12" * 32, "weights": {"mine.pt": "34" * 32}}
SENT = "mini/table1/mine__sim-ego.json"
CONFIG = {"codes": 1024, "gap": 0.2, "recipe": {"pairs": 2000}}
ACTING = {"copy": (0.0, 0.12), "oracle": (0.12, 0.0), "r_la": (0.1, 0.05), "r_gt": (0.1, 0.06)}
ACTING |= {
    "direct": (0.1, 0.07),
    "r_gt-100": (0.1, 0.09),
    "r_gt-2k": (0.1, 0.07),
    "r_gt-mae-decoder": (0.1, 0.06),
}


def toy_samples(folder: Path, corpus: str, methods: dict, seed: int) -> Path:
    """`samples/<corpus>.csv` of CLIPS clips with PAIRS pairs each."""
    rng = np.random.default_rng(seed)
    n = CLIPS * PAIRS
    motion = rng.uniform(0.02, 0.3, n)
    columns = {
        "video": [f"test/test-{k // PAIRS:04d}.mp4" for k in range(n)],
        "t0": [round(0.3 * (k % PAIRS), 1) for k in range(n)],
        "t1": [round(0.3 * (k % PAIRS) + 0.2, 1) for k in range(n)],
        "moving": (motion > np.median(motion)).astype(int),
        "motion": motion.round(6),
    }
    for method, means in methods.items():
        values = [
            np.clip(mean + 0.02 * rng.standard_normal(n), 0, None) if mean else np.zeros(n) for mean in means
        ]
        columns |= {
            f"{method}/lpips_to_current": values[0].round(6),
            f"{method}/lpips_to_next": values[1].round(6),
            f"{method}/lpips_to_next_true": (values[1] + 0.1).round(6),
        }
    columns["lpips_of_copy"] = np.full(n, 0.12)
    path = folder / "samples" / f"{corpus}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def toy_metrics(path: Path, method: str) -> dict:
    """All metrics of one method, from its samples."""
    rows = list(csv.DictReader(path.open()))
    metrics = {}
    for suffix in ("", "_moving"):
        kept = [row for row in rows if not suffix or row["moving"] == "1"]
        clips = [row["video"] for row in kept]
        now, then = ([float(r[f"{method}/{m}"]) for r in kept] for m in ("lpips_to_current", "lpips_to_next"))
        found = {"lpips_to_current": bootstrap_mean(now, clips), "lpips_to_next": bootstrap_mean(then, clips)}
        if not method.startswith("copy"):
            found["lpips_ratio"] = bootstrap_ratio(then, now, clips)
            found["success_vs_current"] = bootstrap_mean(
                [b < a for a, b in zip(now, then, strict=True)], clips
            )
            found["success_vs_copy"] = bootstrap_mean([value < 0.12 for value in then], clips)
        for name, interval in found.items():
            better = "higher" if name[0] in "sp" else "lower"
            ci = [float(f"{x:.6g}") for x in interval.ci]
            entry = {"value": float(f"{interval.estimate:.6g}"), "n": len(now), "better": better, "ci": ci}
            metrics[name + suffix] = entry | {"protocol": "lpips-alex"}
    return metrics


def toy_record(scale: str, experiment: str, cell: str, samples: Path | None, **changes) -> Record:
    """A record that is right in every field; `changes` replace fields."""
    column = "/".join(part for k, part in enumerate(cell.split("/")) if k != 1)
    metrics = toy_metrics(samples, column) if samples else {}
    measures = versions(metrics)
    content = {
        "experiment": experiment,
        "version": 1,
        "cell": cell,
        "scale": scale,
        "config": CONFIG,
        "config_digest": config_digest(experiment, 1, CONFIG, cell, measures),
        "status": "ok",
        "error": None,
        "measures": measures,
        "metrics": metrics,
        "samples": {"path": f"samples/{samples.name}", "sha256": file_sha256(samples)} if samples else None,
        "inputs": {"manifest_sha256": "0" * 64, "weights": {"mae": "ab" * 32}, "stages": {}},
        "code": {"commit": "c" * 40, "uwm_tree": "d" * 40, "experiment_blob": "e" * 40, "dirty": False},
        "env": {"python": "3.11.2", "torch": "2.6.0", "device": "cpu", "lock_sha256": None},
        "run": {
            "command": f"python experiments/{experiment}.py --scale {scale}",
            "started_utc": "2026-01-01T00:00:00Z",
            "seconds": 12.5,
            "peak_gb": 1.5,
        },
    }
    return Record(**(content | changes))


def toy_panels(folder: Path, samples: Path, method: str = "uwm") -> None:
    """Five panels of flat noise with the numbers of the first five pairs."""
    rng = np.random.default_rng(0)
    out = folder / "panels" / samples.stem
    out.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(samples.open()))[:5]
    with open(out / "panels.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["k", "video", "t0", "t1", "lpips_to_current", "lpips_to_next"])
        for k, row in enumerate(rows, 1):
            writer.writerow(
                [
                    k,
                    row["video"],
                    row["t0"],
                    row["t1"],
                    row[f"{method}/lpips_to_current"],
                    row[f"{method}/lpips_to_next"],
                ]
            )
            for column in ("o_t", "r_t", "o_next", "r_next", "prediction"):
                toy_picture(rng).save(out / f"{k}_{column}.png")


def toy_picture(rng: np.random.Generator) -> Image.Image:
    """Blocks of random colours."""
    return Image.fromarray(
        np.kron(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8), np.ones((14, 14, 1), np.uint8))
    )


def toy_experiment(
    root: Path, scale: str, experiment: str, corpora: list[str], methods: dict, *, seeds: int = 0
) -> None:
    """Records, samples and panels of one experiment."""
    folder = root / scale / experiment
    names = [f"{m}/s{s}" for m in methods for s in range(seeds)] if seeds else list(methods)
    for index, corpus in enumerate(corpora):
        samples = toy_samples(folder, corpus, {name: methods[name.split("/")[0]] for name in names}, index)
        for name in names:
            method, *seed = name.split("/")
            toy_record(scale, experiment, "/".join([method, corpus, *seed]), samples).write(folder)
        toy_panels(folder, samples, names[0])


def toy_figure5(root: Path, corpus: str = "sim-panda", *, horizon: int = 3) -> Path:
    """Figure 5 at scale mini, as `experiments/figure5.py` leaves it; returns its folder."""
    folder = root / "mini" / "figure5"
    toy_experiment(root, "mini", "figure5", [corpus], ACTING)
    shutil.rmtree(folder / "panels")
    for method, (_, distance) in ACTING.items():
        path = folder / f"{method}__{corpus}.json"
        record = json.loads(path.read_text())
        values = {f"rollout_lpips_{k}": distance * k for k in range(1, horizon + 1)}
        values |= {"lpips_hand": distance, "code_accuracy": 0.25, "hand_error_px": 2.34, "control_open": 0.5}
        for name, value in values.items():
            entry = {
                "value": value,
                "n": 9,
                "better": "lower",
                "ci": [0.9 * value, 1.1 * value],
                "protocol": None,
            }
            record["metrics"][name] = entry
        path.write_text(json.dumps(record))
    frames = ["o_t", "o_next", "r_la", "r_gt"]
    toy_kinds(folder, corpus, [*frames, *(f"{kind}_hand" for kind in frames)])
    toy_kinds(folder, f"{corpus}-commands", ["o_t", "forward", "back", "open"])
    toy_kinds(folder, f"{corpus}-transfer", ["donor_o_t", "donor_o_next", "o_t", "prediction"])
    toy_kinds(folder, f"{corpus}-rollout", ["o_next", "r_la", "r_gt"], steps=[1, 3])
    (folder / "rollouts").mkdir()
    rng = np.random.default_rng(1)
    first, *rest = (toy_picture(rng) for _ in range(horizon + 1))
    first.save(
        folder / "rollouts" / f"{corpus}_1.gif", save_all=True, append_images=rest, duration=200, loop=0
    )
    (folder / "curves").mkdir()
    for stage, column in (("adapter", f"val/state_mse/{corpus}"), ("decoder", f"val/psnr/{corpus}")):
        (folder / "curves" / f"{stage}.csv").write_text(f"step,loss,{column}\n1,2,3\n2,1,2\n")
    return folder


def toy_kinds(folder: Path, name: str, kinds: list[str], steps: list[int] | None = None) -> None:
    """Two columns of panels of these kinds."""
    out = folder / "panels" / name
    out.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in (1, 2):
        for kind in kinds:
            toy_picture(rng).save(out / f"{k}_{kind}.png")
    lines = [f"{k},{step}" for k, step in zip((1, 2), steps, strict=True)] if steps else ["1", "2"]
    (out / "panels.csv").write_text("\n".join(["k,step" if steps else "k", *lines]) + "\n")


def toy_results(root: Path) -> Path:
    """A `results` folder with Table 1 at scale mini, curves and code use."""
    toy_experiment(root, "mini", "table1", ["sim-third-person", "sim-ego"], METHODS)
    folder = root / "mini" / "table1"
    (folder / "curves").mkdir()
    (folder / "code_use").mkdir()
    for stage in ("mae", "world_model"):
        lines = ["step,loss,val/own,val/shuffled,perplexity"]
        for step in range(100):
            loss = 1 / (step + 1) + 0.1
            lines.append(f"{step},{loss:.4f},{f'{loss + 0.02:.4f},0.9' if step % 10 == 0 else ','},{step}")
        (folder / "curves" / f"{stage}.csv").write_text("\n".join(lines) + "\n")
    for corpus in ("sim-third-person", "sim-ego"):
        lines = ["code,count", *(f"{code},{max(0, 400 - code)}" for code in range(1024))]
        (folder / "code_use" / f"{corpus}.csv").write_text("\n".join(lines) + "\n")
    return root


def sign(path: Path, how=lambda record: None, measures=versions) -> None:
    """Change a record, and make its digest fit again, as a forger would."""
    record = json.loads(path.read_text())
    how(record)
    record["measures"] = measures(record["metrics"])
    parts = (record[name] for name in ("experiment", "version", "config", "cell", "measures"))
    record["config_digest"] = config_digest(*parts)
    path.write_text(json.dumps(record, indent=1) + "\n")


def name_weights(record: dict) -> None:
    record["config"]["method"] = SENT_METHOD
    record["inputs"]["weights"] |= {"lpips": "cd" * 32, "mine.py": "12" * 32, "mine.pt": "34" * 32}
    entry = {"n": 48, "better": "lower", "ci": None, "protocol": None}
    record["metrics"] |= {"bits": entry | {"value": 12.0}, "parameters": entry | {"value": 4.5}}


def name_lpips(record: dict) -> None:
    record["inputs"]["weights"]["lpips"] = "cd" * 32


def toy_community(root: Path) -> Path:
    """A `results` folder with records of ours and one by others that holds, `SENT` in its `community`."""
    toy_experiment(root, "mini", "table1", ["sim-ego"], {"uwm": (0.1, 0.05), "copy": (0.0, 0.12)})
    for path in (root / "mini" / "table1").glob("*.json"):
        sign(path, name_lpips)
    toy_experiment(root / "community", "mini", "table1", ["sim-ego"], {"mine": (0.08, 0.06)})
    folder = root / "community" / "mini" / "table1"
    (folder / "panels" / "sim-ego").rename(folder / "panels" / "sim-ego-mine")
    sign(root / "community" / SENT, name_weights)
    return root


def found(tree: Path) -> list[str]:
    """The faults of the records by others in a results folder, a line each."""
    return community_faults(Results(tree, ("mini",)), tree)
