"""`python -m uwm.data.simulation`: renders the simulated corpora, see `uwm.data.simulation.corpora`."""

import sys

from uwm.data.simulation.corpora import command
from uwm.errors import run_cli

sys.exit(run_cli(command))
