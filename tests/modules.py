"""The project's modules by their names."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    paths = [path for part in ("uwm", "paper", "experiments") for path in sorted((ROOT / part).rglob("*.py"))]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def within(name: str, part: str) -> bool:
    """Whether a module is `part`, or lies in it."""
    return name == part or name.startswith(f"{part}.")
