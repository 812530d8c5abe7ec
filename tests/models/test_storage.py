"""Models on disk and on the Hugging Face hub: each kind of model, in the same way."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from uwm.baselines.direct import DirectDynamics, direct_config
from uwm.baselines.ficc import FICC, FICCConfig
from uwm.baselines.reader import ReaderConfig, StateReader
from uwm.models import (
    MAE_PRESETS,
    WORLD_MODEL_PRESETS,
    ActionAdapter,
    ControllerConfig,
    MaskedAutoencoder,
    WorldModel,
)
from uwm.models.adapter import ActionAdapterConfig
from uwm.models.storage import StoredModel

MAE = MAE_PRESETS["tiny"]
WORLD = WORLD_MODEL_PRESETS["paper"].fitted(MAE)
ADAPTER = ActionAdapterConfig(depth=1).fitted(WORLD, ControllerConfig((-1.0,), (1.0,), steps=2))
MODELS: dict[type[StoredModel], Any] = {
    MaskedAutoencoder: MAE,
    WorldModel: WORLD,
    ActionAdapter: ADAPTER,
    StateReader: ReaderConfig(tokens=WORLD.tokens),
    DirectDynamics: direct_config(ADAPTER, WORLD.dynamics, use_action=True),
    FICC: FICCConfig(channels=(8, 16)).fitted(32),
}


def test_every_model_is_tried_here() -> None:
    assert set(StoredModel.__subclasses__()) == set(MODELS)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_a_model_goes_to_the_hub_and_comes_back(
    kind: type[StoredModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is a folder here: what `push_to_hub` uploads is what `from_pretrained` finds."""

    def upload(api: HfApi, *, repo_id: str, folder_path: Path, **_: Any) -> str:
        shutil.copytree(folder_path, tmp_path / repo_id)
        return repo_id

    monkeypatch.setattr(HfApi, "create_repo", lambda api, repo_id, **_: SimpleNamespace(repo_id=repo_id))
    monkeypatch.setattr(HfApi, "upload_folder", upload)

    def absent(**_: Any) -> str:
        raise HfHubHTTPError.__new__(HfHubHTTPError)  # our models have no config.json

    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", absent)
    monkeypatch.setattr("uwm.models.storage.hf_hub_download", lambda name, file, **_: tmp_path / name / file)
    model = kind(MODELS[kind], seed=1)  # type: ignore[call-arg]
    assert model.push_to_hub("somebody/model") == "somebody/model"
    assert {path.name for path in (tmp_path / "somebody" / "model").iterdir()} == {
        "README.md",
        "weights.safetensors",
    }
    again = kind.from_pretrained("somebody/model")
    assert again.config == MODELS[kind]
    assert not again.training
    mine, theirs = model.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
