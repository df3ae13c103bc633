"""Metrics of segmentations whose segments have no names."""
