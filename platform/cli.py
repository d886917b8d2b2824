"""The command line: which verbs there are, and how a user's mistake ends."""

import sys

from .errors import PageError, RecordError, UserError
from .verbs import data, scoring, serving, training, use
from .verbs.app import app

VERBS = (data, training, use, scoring, serving)
"""Modules whose functions join `app` when they are imported."""


def main() -> None:
    """Entry point: a user's mistake ends with one sentence and status 2."""
    try:
        _refuse_uris(sys.argv[1:])
        app()
    except (UserError, PageError, RecordError) as error:
        print(f"vizecg: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        # A full disk, a folder without permission: nothing that a stack trace explains better.
        print(f"vizecg: {error.strerror or error}: {error.filename or 'the file system'}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("vizecg: stopped; the same command goes on where this one was", file=sys.stderr)
        sys.exit(130)


def _refuse_uris(arguments: list[str]) -> None:
    if arguments[:1] in (["score"], ["serve"]):
        return
    # As a path "s3://bucket" is a local folder called "s3:", and would be made.
    for argument in arguments:
        if "://" in argument:
            raise UserError(f"{argument}: object stores cannot be named here yet; mount it, and give the local path")


if __name__ == "__main__":
    main()
