"""Figures of panels: small pictures in rows and columns, read from `panels/<corpus>/<k>_<kind>.png`."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from paper.names import PANEL_ROWS, number
from paper.style import COLUMN_INCHES, math
