"""Leaves while it is imported."""

import sys

sys.exit("settings are missing")
