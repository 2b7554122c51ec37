"""The pages of the project."""

from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("uploads.urls")),
]

if settings.DEBUG:
    # runserver serves static files by itself; with this `appsrv start` does too while developing.
    urlpatterns += staticfiles_urlpatterns()
