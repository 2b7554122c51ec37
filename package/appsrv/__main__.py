"""`python -m appsrv` is `appsrv`."""

from __future__ import annotations

import sys

from appsrv.cli import main

if __name__ == "__main__":
    sys.exit(main())
