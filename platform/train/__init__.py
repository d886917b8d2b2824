"""Training on Ray Train: one worker (loop.py) and what starts many (driver.py)."""
