"""How a picture becomes a page: decoding, finding the page in it, setting it upright. `read_page.py` is the door."""
