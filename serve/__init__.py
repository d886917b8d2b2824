"""The endpoint on Ray Serve: one page in, probabilities out."""
