"""The drawer's pages."""

from django.urls import path

from . import views

app_name = "uploads"

urlpatterns = [
    path("", views.drawer, name="drawer"),
    path("files/<int:pk>/", views.download, name="download"),
    path("numbers/", views.numbers, name="numbers"),
    path("pid/", views.pid, name="pid"),
    path("error/", views.error, name="error"),
]
