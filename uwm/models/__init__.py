"""The paper's models: MAE, action extractor, vector quantiser, dynamics, world model, action adapter."""

from uwm.models.action_extractor import ActionExtractor, ActionExtractorConfig
from uwm.models.adapter import ActionAdapter, ActionAdapterConfig, adapter_config
from uwm.models.dynamics import Dynamics, DynamicsConfig
from uwm.models.mae import MAE_PRESETS, MAEConfig, MaskedAutoencoder
from uwm.models.quantizer import QUANTIZER_PRESETS, CodebookCollapseError, QuantizerConfig, VectorQuantizer
from uwm.models.world_model import LatentActions, WorldModel, WorldModelConfig, world_model_config

__all__ = [
    "MAE_PRESETS",
    "QUANTIZER_PRESETS",
    "ActionAdapter",
    "ActionAdapterConfig",
    "ActionExtractor",
    "ActionExtractorConfig",
    "CodebookCollapseError",
    "Dynamics",
    "DynamicsConfig",
    "LatentActions",
    "MAEConfig",
    "MaskedAutoencoder",
    "QuantizerConfig",
    "VectorQuantizer",
    "WorldModel",
    "WorldModelConfig",
    "adapter_config",
    "world_model_config",
]
