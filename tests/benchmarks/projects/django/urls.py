"""The admin, a page, and a version that a reload changes."""

from django.contrib import admin
from django.urls import path
from views import index, page, version

urlpatterns = [
    path("", index),
    path("page", page),
    path("version", version),
    path("admin/", admin.site.urls),
]
