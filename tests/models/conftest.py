"""What tests of the MAE's checkpoints share."""

import pytest
from torch import Tensor

from tests.models.mae_files import random_fair


@pytest.fixture(scope="module")
def fair() -> dict[str, Tensor]:
    """A FAIR file's tensors, of the MAE `mae_files.CONFIG`."""
    return random_fair()
