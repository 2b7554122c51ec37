"""On PYTHONPATH: watchfiles counts as not installed, so that appsrv compares files itself, as the originals do."""

import sys

sys.modules["watchfiles"] = None  # type: ignore[assignment]
