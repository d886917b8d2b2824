"""What befalls a page between the printer and the file: paper, scanner, phone, framing. `artefacts.py` is the door."""
