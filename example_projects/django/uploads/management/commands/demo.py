"""`manage.py demo`: everything the example needs to be looked at."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.core.management.base import BaseCommand

from uploads.models import Upload

USER = PASSWORD = "demo"

ENTRIES = {
    "Welcome": ("Anything may go into this drawer.", "welcome.txt", "Hello from the drawer.\n"),
    "Shopping list": ("For the weekend.", "shopping.csv", "item,count\nlemons,6\nflour,1\n"),
}


class Command(BaseCommand):
    help = "Creates the database, the admin user demo (password demo) and some entries. Safe to run again."

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        self._create_user()
        for title, entry in ENTRIES.items():
            self._create_entry(title, *entry)
        self.stdout.write(self.style.SUCCESS(f"Ready. Admin user: {USER}, password: {PASSWORD}"))

    def _create_user(self) -> None:
        users = get_user_model().objects
        if not users.filter(username=USER).exists():
            users.create_superuser(USER, f"{USER}@example.org", PASSWORD)

    def _create_entry(self, title: str, note: str, name: str, content: str) -> None:
        if not Upload.objects.filter(title=title).exists():
            Upload.objects.create(title=title, note=note, file=ContentFile(content.encode(), name=name))
