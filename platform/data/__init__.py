"""From an archive to training batches."""
