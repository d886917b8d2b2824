"""What those who run the endpoint see of it: metrics, request log and traces; never anything of a patient."""
