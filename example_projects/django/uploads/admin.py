"""The drawer in the admin."""

from django.contrib import admin

from .models import Upload


@admin.register(Upload)
class UploadAdmin(admin.ModelAdmin):
    list_display = ("title", "file_name", "uploaded_at")
    list_filter = ("uploaded_at",)
    search_fields = ("title", "note", "file")
    date_hierarchy = "uploaded_at"
