"""Flask with one JSON view."""

import time

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def index():
    return jsonify(hello="world")


@app.get("/slow")
def slow():
    time.sleep(0.1)
    return jsonify(hello="world")
