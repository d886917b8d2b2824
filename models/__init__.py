"""Torch alone: no Ray, no files, no command line."""
