"""Corpora, frame pairs and their manifests."""
