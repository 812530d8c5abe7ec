"""Try a model of others before it is measured: `python -m uwm.methods check FILE.py:CLASS`.

Prints a line for each thing that is wrong, and exits 1 where one is an error.
"""

import sys

from uwm.arguments import Parser
from uwm.errors import run_cli


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m uwm.methods", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="one line for each thing that is wrong")
    check.add_argument("source", metavar="FILE.py:CLASS", help="a class as uwm/methods/protocol.py has it")
    options = parser.parse_args(argv)

    from uwm.methods.conformance import problems  # torch, which --help and a wrong option need not wait for
    from uwm.methods.files import ClassFile

    source = ClassFile.parse(options.source)
    source.weights()
    lines = list(problems(source.build()))
    errors = sum(line.startswith("error") for line in lines)
    print(*lines, f"{source.class_name}: {errors} errors, {len(lines) - errors} warnings", sep="\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(run_cli(main))
