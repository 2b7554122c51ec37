"""Views of the benchmark project."""

from django.http import HttpResponse
from django.shortcuts import render


def index(request):
    return HttpResponse("ready")


def version(request):
    return HttpResponse("version 1")


def page(request):
    return render(request, "page.html", {"rows": range(100)})
