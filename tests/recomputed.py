"""What every experiment's records must allow: to compute each of their numbers again."""

from pathlib import Path

from paper.integrity import cell_problems
from paper.reading import read_json
from paper.store import RecordedCell, Results


def assert_recomputed(folder: Path) -> None:
    """Each metric of each record in `folder` follows from its samples, interval included."""
    cells = [RecordedCell(path, read_json(path)) for path in sorted(folder.glob("*__*.json"))]
    assert cells
    results = Results(folder.parent, ())
    for cell in cells:
        lines = list(cell_problems(results, cell, None))
        assert [line for line in lines if " but lies in " not in line] == [], cell.path.name
