"""Pretraining: an untrained model, then a curriculum of context lengths."""
