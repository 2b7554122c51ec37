"""The package in which Django looks for the commands of "appsrv_django" in INSTALLED_APPS."""
