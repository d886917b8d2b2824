"""`vizecg score --plan`: what a whole archive would take, from a sample of it."""
