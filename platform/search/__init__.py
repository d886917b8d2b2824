"""Searches over training configurations on Ray Tune."""
