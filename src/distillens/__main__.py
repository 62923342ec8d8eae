"""`python -m distillens`."""

import sys

from distillens.cli import main

if __name__ == "__main__":
    sys.exit(main())
