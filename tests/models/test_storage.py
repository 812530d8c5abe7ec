"""Models on disk and on the Hugging Face hub: each kind of model, in the same way."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi

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
    """What `push_to_hub` uploads is in the hub's cache of a machine without internet, and is found there."""
    repository = tmp_path / "models--somebody--model"

    def upload(api: HfApi, *, repo_id: str, folder_path: Path, **_: Any) -> str:
        shutil.copytree(folder_path, repository / "snapshots" / ("0" * 40))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
        return repo_id

    monkeypatch.setattr(HfApi, "create_repo", lambda api, repo_id, **_: SimpleNamespace(repo_id=repo_id))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    model = kind(MODELS[kind], seed=1)  # type: ignore[call-arg]
    assert model.push_to_hub("somebody/model") == "somebody/model"
    written = repository / "snapshots" / ("0" * 40)
    assert {path.name for path in written.iterdir()} == {"README.md", "config.json", "weights.safetensors"}
    assert json.loads((written / "config.json").read_text())["class"] == kind.__name__
    again = kind.from_pretrained("somebody/model", cache_dir=tmp_path, local_files_only=True)
    assert again.config == MODELS[kind]
    assert kind.from_pretrained(written).config == again.config
    with pytest.raises(TypeError, match="revisoin"):
        kind.from_pretrained("somebody/model", revisoin="main")
    assert not again.training
    mine, theirs = model.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
