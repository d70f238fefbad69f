"""What the runtime says to a person, who may not have called it by name: one line each, on standard error."""

import sys


def warn(message):
    print(f"zoo: {message}", file=sys.stderr, flush=True)
