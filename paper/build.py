"""Build the report: `make paper` writes `paper/out/report.pdf`, with latexmk or tectonic."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from paper.store import ROOT
from uwm.errors import UserError, run_cli

INSTALL = "apt-get install --no-install-recommends latexmk texlive-latex-base texlive-latex-recommended"
FOLDER = ROOT / "paper"


def command(folder: Path) -> list[str]:
    """The TeX command to run in `paper/`, with its other files in `folder`."""
    if shutil.which("latexmk"):
        return [
            "latexmk",
            "-pdf",
            "-halt-on-error",
            "-interaction=nonstopmode",
            f"-outdir={folder}",
            "main.tex",
        ]
    if shutil.which("tectonic"):
        return ["tectonic", f"--outdir={folder}", "main.tex"]
    raise UserError(f"no latexmk and no tectonic to build the report with; install one: {INSTALL}")


def build(source: Path = FOLDER) -> Path:
    """Build `source/main.tex` into `source/out/report.pdf`; the same inputs and TeX give the same bytes.

    Raises:
        UserError: no TeX, or TeX stopped; the message names the first error line.
    """
    folder, target = source / "build", source / "out" / "report.pdf"
    arguments = command(folder)
    folder.mkdir(exist_ok=True)
    env = os.environ | {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "TZ": "UTC"}
    done = subprocess.run(arguments, cwd=source, env=env, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("!", "error"))]
        raise UserError(f"TeX stopped: {(lines or ['no error line'])[0]}; see {folder.name}/main.log")
    shutil.copyfile(folder / "main.pdf", target)
    return target


def main(argv: list[str]) -> int:
    print(f"wrote {build(*map(Path, argv))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
