"""How a clean page is printed: layouts, paper, lettering, traces, truth and encoding. `page.py` is the door to it."""
