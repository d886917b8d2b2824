"""The verbs of `vizecg`: each parses its arguments, calls a function and shows what came of it."""
