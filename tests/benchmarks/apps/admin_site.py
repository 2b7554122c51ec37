"""Django with admin, sessions, SQLite and templates: an application of the usual weight."""

import os
import sys

sys.path.insert(0, os.environ["BENCHMARK_PROJECT"])
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from django.core.wsgi import get_wsgi_application

app = get_wsgi_application()
