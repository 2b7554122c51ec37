"""Flask application of the benchmark."""

from flask import Flask, render_template

app = Flask(__name__)


@app.get("/")
def index():
    return "ready"


@app.get("/version")
def version():
    return "version 1"


@app.get("/page")
def page():
    return render_template("page.html", rows=range(100))
