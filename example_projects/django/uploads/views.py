"""The drawer: see what is in it, put something in, take something out."""

import os
import time
from collections.abc import Iterator

from django.contrib import messages
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from .forms import UploadForm
from .models import Upload


def drawer(request: HttpRequest) -> HttpResponse:
    """The list of files and the form that adds one."""
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        upload = form.save()
        print(f"received {upload.file_name}, {upload.file.size} bytes")
        messages.success(request, f"“{upload}” is in the drawer.")
        return redirect("uploads:drawer")
    return render(request, "uploads/drawer.html", {"form": form, "uploads": Upload.objects.all()})


def download(request: HttpRequest, pk: int) -> FileResponse:
    """The file itself."""
    upload = get_object_or_404(Upload, pk=pk)
    return FileResponse(upload.file.open("rb"), as_attachment=True, filename=upload.file_name)


def numbers(request: HttpRequest) -> StreamingHttpResponse:
    """Numbers, one by one."""
    return StreamingHttpResponse(_numbers(), content_type="text/plain")


def _numbers() -> Iterator[str]:
    for number in range(1, 11):
        yield f"{number}\n"
        time.sleep(0.2)


def pid(request: HttpRequest) -> JsonResponse:
    """Which process answered."""
    return JsonResponse({"pid": os.getpid()})


def error(request: HttpRequest) -> HttpResponse:
    """Django's own error page."""
    raise RuntimeError("this page raises on purpose")
