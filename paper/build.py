"""Build the report: `make paper` writes `paper/out/report.pdf`, with latexmk or tectonic."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from paper.store import ROOT
from uwm.arguments import Parser, named_path
from uwm.errors import UserError, run_cli
from uwm.files import check_ours

INSTALL = "apt-get install --no-install-recommends latexmk texlive-latex-base texlive-latex-recommended"
FOLDER = ROOT / "paper"


def tex_command(folder: Path) -> list[str]:
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
        UserError: no TeX, no report in this folder, a report of somebody else's, or TeX stopped; the message
            names the first error line.
    """
    folder, target = source / "build", source / "out" / "report.pdf"
    if not (source / "main.tex").is_file() or not target.parent.is_dir():
        raise UserError(f"{source} holds no main.tex and out/; `make figures` writes what the report shows")
    check_ours(target, lambda path: path.with_suffix(".inputs").is_file())
    arguments = tex_command(folder)
    folder.mkdir(exist_ok=True)
    env = os.environ | {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "TZ": "UTC"}
    done = subprocess.run(arguments, cwd=source, env=env, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("!", "error"))]
        raise UserError(f"TeX stopped: {(lines or ['no error line'])[0]}; see {folder.name}/main.log")
    shutil.copyfile(folder / "main.pdf", target)
    target.with_suffix(".inputs").write_text(inputs_digest(source) + "\n", encoding="utf-8")
    return target


def inputs_digest(source: Path) -> str:
    """SHA-256 over all that the report is made of: `main.tex` and the generated LaTeX and figures."""
    digest = hashlib.sha256((source / "main.tex").read_bytes())
    for path in sorted([*(source / "out").rglob("*.tex"), *(source / "out").glob("*/*.pdf")]):
        digest.update(path.relative_to(source).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def current(source: Path = FOLDER) -> bool:
    """Whether `out/report.pdf` was built from the present inputs."""
    stamp = source / "out" / "report.inputs"
    return stamp.exists() and stamp.read_text(encoding="utf-8").strip() == inputs_digest(source)


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m paper.build", description="Build the report")
    parser.add_argument("--check", action="store_true", help="build nothing; exit 1 when it is out of date")
    parser.add_argument("--source", type=named_path, default=FOLDER, help="folder of main.tex and out/")
    options = parser.parse_args(argv)
    if options.check:
        fresh = current(options.source)
        print(f"report.pdf is {'up to date' if fresh else 'out of date; run make paper'}")
        return int(not fresh)
    print(f"wrote {build(options.source)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
