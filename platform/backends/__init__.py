"""What computes logits from pages: torch, OpenVINO, CUDA; which one is best, and a form of it that travels."""
