"""What is kept about an uploaded file."""

from pathlib import PurePath

from django.db import models
from django.urls import reverse


class Upload(models.Model):
    """One file in the drawer."""

    title = models.CharField(max_length=120)
    note = models.TextField(blank=True, max_length=2000)
    file = models.FileField(upload_to="uploads/%Y/%m/")
    uploaded_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-uploaded_at", "-id")

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("uploads:download", args=[self.pk])

    @property
    def file_name(self) -> str:
        """The file's name without its directories."""
        return PurePath(self.file.name).name
