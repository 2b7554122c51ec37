"""Makes `runserver` known to Django when "appsrv_django" stands in INSTALLED_APPS."""
