"""Flask with one JSON view."""

from __future__ import annotations

import time

from flask import Flask, Response, jsonify

app = Flask(__name__)


@app.get("/")
def index() -> Response:
    return jsonify(hello="world")


@app.get("/slow")
def slow() -> Response:
    time.sleep(0.1)
    return jsonify(hello="world")
