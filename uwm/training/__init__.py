"""Training loop, objectives and checkpoints."""
