"""`python -m llmdiff`: the command line, for launchers that run modules (`accelerate launch -m llmdiff train …`)."""

import sys

from llmdiff.cli import main

if __name__ == "__main__":
    sys.exit(main())
