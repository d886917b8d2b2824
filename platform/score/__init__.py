"""Scoring archives: pages in, a table of probabilities out, on Ray Data (run.py)."""
