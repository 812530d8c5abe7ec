"""Latent-action world models: a reproduction of *A Universal World Model* (Cui & Gao, 2023)."""

__version__ = "0.1.0"
