"""A guest book: templates, a session, uploads and a streamed page in one small Flask application."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flask import (
    Flask,
    Response,
    flash,
    redirect,
    render_template,
    request,
    send_from_directory,
    session,
    url_for,
)
from werkzeug.utils import secure_filename
from werkzeug.wrappers import Response as BaseResponse

PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}
MAX_UPLOAD = 16 * 1024 * 1024


class Book:
    """The entries, one JSON line each, and the files that came with them."""

    def __init__(self, directory: Path) -> None:
        self.files = directory / "files"
        self._entries = directory / "entries.jsonl"
        self.files.mkdir(parents=True, exist_ok=True)

    def entries(self) -> list[dict[str, Any]]:
        """All entries, newest first."""
        if not self._entries.exists():
            return []
        lines = self._entries.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in reversed(lines)]

    def add(self, name: str, text: str, file: str | None) -> None:
        """Append one entry; a single write, so that several processes may do it at once."""
        when = datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC")
        entry = {"name": name, "text": text, "file": file, "when": when}
        with self._entries.open("a", encoding="utf-8") as file_of_entries:
            file_of_entries.write(json.dumps(entry) + "\n")

    def free_name(self, name: str) -> str:
        """A file name that nothing has yet."""
        name = secure_filename(name) or "file"
        return f"{time.time_ns():x}-{name}"


def create_app() -> Flask:
    """The application with everything it needs."""
    app = Flask(__name__)
    # Set SECRET_KEY in the environment wherever sessions matter.
    app.config.update(
        SECRET_KEY=os.environ.get("SECRET_KEY", "only-for-this-example"), MAX_CONTENT_LENGTH=MAX_UPLOAD
    )
    book = Book(Path(app.instance_path))

    @app.context_processor
    def about_this_process() -> dict[str, Any]:
        return {"pid": os.getpid(), "is_picture": lambda name: Path(name).suffix.lower() in PICTURES}

    @app.get("/")
    def index() -> str:
        session["visits"] = session.get("visits", 0) + 1
        return render_template("index.html", entries=book.entries(), visits=session["visits"])

    @app.post("/")
    def sign() -> BaseResponse:
        name, text = request.form.get("name", "").strip(), request.form.get("text", "").strip()
        if not name or not text:
            flash("Please tell your name and write something.")
            return redirect(url_for("index"))
        session["name"] = name
        file = _save_upload(book)
        book.add(name, text, file)
        print(f"{name} signed the guest book", flush=True)
        flash(f"Thank you, {name}!")
        return redirect(url_for("index"))

    @app.get("/files/<name>")
    def file(name: str) -> Response:
        return send_from_directory(book.files, name, as_attachment="download" in request.args)

    @app.get("/stream")
    def stream() -> Response:
        return Response(_countdown(min(request.args.get("lines", 10, type=int), 1000)), mimetype="text/plain")

    @app.get("/countdown")
    def countdown() -> str:
        return render_template("countdown.html")

    @app.get("/error")
    def error() -> str:
        raise RuntimeError("this page raises on purpose")

    @app.get("/pid")
    def pid() -> dict[str, int]:
        return {"pid": os.getpid()}

    return app


def _save_upload(book: Book) -> str | None:
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        return None
    name = book.free_name(upload.filename)
    upload.save(book.files / name)
    return name


def _countdown(lines: int) -> Iterator[str]:
    for left in range(lines, 0, -1):
        yield f"{left}\n"
        time.sleep(0.3)
    yield "lift-off\n"


app = create_app()
