"""`python -m distillens`."""

import sys

from distillens.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
