"""The endpoint over gRPC: the same calls and the same answers as over HTTP."""
