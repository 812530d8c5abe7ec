"""Experiments, cached stages, records and launchers."""
