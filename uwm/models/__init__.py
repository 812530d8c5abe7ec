"""The paper's models: MAE, action extractor, vector quantiser, dynamics, world model, action adapter."""

from uwm.models.action_extractor import ActionExtractor, ActionExtractorConfig
from uwm.models.adapter import ActionAdapter, ActionAdapterConfig, ControllerConfig
from uwm.models.bottleneck import BottleneckConfig
from uwm.models.dynamics import Dynamics, DynamicsConfig
from uwm.models.mae import MAE_PRESETS, MAEConfig, MaskedAutoencoder
from uwm.models.quantizer import QUANTIZER_PRESETS, CodebookCollapseError, QuantizerConfig, VectorQuantizer
from uwm.models.tokens import LatentActions, TokenConfig
from uwm.models.world_model import WORLD_MODEL_PRESETS, WorldModel, WorldModelConfig

__all__ = [
    "MAE_PRESETS",
    "QUANTIZER_PRESETS",
    "WORLD_MODEL_PRESETS",
    "ActionAdapter",
    "ActionAdapterConfig",
    "ActionExtractor",
    "ActionExtractorConfig",
    "BottleneckConfig",
    "CodebookCollapseError",
    "ControllerConfig",
    "Dynamics",
    "DynamicsConfig",
    "LatentActions",
    "MAEConfig",
    "MaskedAutoencoder",
    "QuantizerConfig",
    "TokenConfig",
    "VectorQuantizer",
    "WorldModel",
    "WorldModelConfig",
]
