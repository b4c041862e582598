"""`hftd …` and `python -m hftd …`."""

import sys

from hftd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
