"""dependency_files.py: who names appsrv, in every kind of dependency file."""

from __future__ import annotations

from pathlib import Path

import pytest

from appsrv.apps import dependency_files

NAMING = {
    "pyproject.toml": [
        '[project]\nname = "shop"\ndependencies = ["django", "appsrv[django] >= 0.1"]\n',
        '[project]\ndependencies = [\n  "django>=4.2",  # "x"\n  \'AppSrv\' ,\n]\n',
        "[project.optional-dependencies]\ndev = [\"appsrv; python_version > '3.9'\"]\n",
        '[dependency-groups]\ndev = [{include-group = "test"}, "appsrv"]\n',
        '[tool.poetry.dependencies]\npython = "^3.10"\nappsrv = { version = "^0.1", extras = ["django"] }\n',
        '[tool.poetry.group.dev.dependencies]\n"appsrv" = "*"\n',
        '[tool.poetry.group.dev.dependencies.appsrv]\ngit = "https://example.org/appsrv.git"\n',
        '[tool.pdm.dev-dependencies]\nserve = ["appsrv>=0.1"]\n',
        '[tool.uv]\ndev-dependencies = ["appsrv"]\n',
        '[tool.hatch.envs.default]\ndependencies = ["appsrv"]\n',
        'project.dependencies = ["appsrv"]\n',
    ],
    "requirements.txt": [
        "django\nappsrv\n",
        "appsrv[django]==0.1.0 \\\n    --hash=sha256:00\n",
        "appsrv @ https://example.org/appsrv.zip  # pinned\n",
        "-e git+https://example.org/a.git#egg=appsrv\n",
        "./wheels/appsrv-0.1.0-py3-none-any.whl\n",
    ],
    "requirements-dev.txt": ["appsrv\n"],
    "requirements.in": ["APPSRV\n"],
    "requirements/dev.txt": ["-r base.txt\nappsrv~=0.1\n"],
    "Pipfile": ['[packages]\nappsrv = "*"\n', '[dev-packages]\nappsrv = {version = "*"}\n'],
    "setup.cfg": [
        "[options]\ninstall_requires =\n    django\n    appsrv>=0.1\n",
        "[options.extras_require]\ndev = appsrv\n",
    ],
    "environment.yml": [
        "dependencies:\n  - python=3.12\n  - appsrv=0.1\n",
        "dependencies:\n  - pip:\n    - 'appsrv[django]>=0.1'\n",
        "dependencies:\n  - conda-forge::appsrv\n",
    ],
    "uv.lock": ['[[package]]\nname = "appsrv"\nversion = "0.1.0"\n'],
    "Pipfile.lock": ['{\n    "default": {\n        "appsrv": {\n            "version": "==1"\n'],
}

SILENT = {
    "pyproject.toml": [
        '[project]\nname = "appsrv"\ndescription = "like appsrv"\ndependencies = ["appsrv-extras"]\n',
        '# dependencies = ["appsrv"]\n[project]\ndependencies = ["django"]\n',
        "[tool.appsrv]\nport = 8000\n",
        '[dependency-groups]\ndev = [{include-group = "appsrv"}]\n',
        '[project]\ndescription = """\ndependencies = ["appsrv"]\n"""\n',
        '[tool.other]\ndependencies = ["appsrv"]\n',
    ],
    "requirements.txt": ["# appsrv\nmyappsrv\nappsrv-tools\n", "-c appsrv.txt\n", "\x00\xff appsrvx"],
    "setup.cfg": ["[metadata]\nname = appsrv\n[options]\npackages =\n    appsrv\n"],
    "environment.yml": ["name: appsrv\ndependencies:\n  - django\n"],
    "notes.txt": ["appsrv\n"],
    "uv.lock": ['[[package]]\nname = "django"\ndependencies = [{ name = "appsrvx" }]\n'],
}


def cases(files: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, text) for name, texts in files.items() for text in texts]


def write(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "text"), cases(NAMING))
def test_named(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path, name, text)
    assert dependency_files.naming_file(str(tmp_path)) == str(path)


@pytest.mark.parametrize(("name", "text"), cases(SILENT))
def test_not_named(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, name, text)
    assert not dependency_files.names_appsrv(str(tmp_path))


def test_included_requirements_are_followed_and_cycles_end(tmp_path: Path) -> None:
    write(tmp_path, "requirements.txt", "-r deep/base.txt\n")
    write(tmp_path, "deep/base.txt", "--requirement=../requirements.txt\n-r server.list\n-r missing.txt\n")
    assert not dependency_files.names_appsrv(str(tmp_path))
    write(tmp_path, "deep/server.list", "appsrv\n")
    assert dependency_files.names_appsrv(str(tmp_path))


def test_search_goes_up_to_the_root_of_version_control(tmp_path: Path) -> None:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    deep = tmp_path / "repo" / "a" / "b" / "c"
    deep.mkdir(parents=True)
    write(tmp_path, "requirements.txt", "appsrv\n")
    assert not dependency_files.names_appsrv(str(deep))
    write(tmp_path / "repo", "requirements.txt", "appsrv\n")
    assert dependency_files.names_appsrv(str(deep))


def test_without_version_control_one_directory_up(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    write(tmp_path / "a", "requirements.txt", "appsrv\n")
    assert dependency_files.names_appsrv(str(tmp_path / "a" / "b"))
    assert not dependency_files.names_appsrv(str(deep))


def test_lock_counts_only_where_nothing_else_is_declared(tmp_path: Path) -> None:
    write(tmp_path, "poetry.lock", '[[package]]\nname = "appsrv"\n')
    assert dependency_files.names_appsrv(str(tmp_path))
    write(tmp_path, "pyproject.toml", '[tool.poetry.dependencies]\ndjango = "*"\n')
    assert not dependency_files.names_appsrv(str(tmp_path))


def test_unreadable_things_name_nobody(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").mkdir()
    assert not dependency_files.names_appsrv(str(tmp_path))
    assert not dependency_files.names_appsrv(str(tmp_path / "missing" / "directory"))


def test_script_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert dependency_files.script_directory("/srv/shop/manage.py") == "/srv/shop"
    assert dependency_files.script_directory("/srv/shop/.venv/bin/django-admin") == str(tmp_path)
    assert dependency_files.script_directory("/x/site-packages/django/__main__.py") == str(tmp_path)


@pytest.mark.parametrize("name", ["shop", "tool.x"])
def test_scanner_agrees_with_tomllib(name: str) -> None:
    tomllib = pytest.importorskip("tomllib")
    text = f"""
[a.{name}] # comment ]
plain = ["x", 'y#z', \"\"\"long "quoted" ]
text\"\"\", ]
"quoted.key" = ["q"]
nested = [["inner"], 1, 2.5, {{k = "no"}}]
[[list]]
items = ["one"]
"""
    keys = ("a", *name.split("."))
    table = tomllib.loads(text)
    for key in keys:
        table = table[key]
    found = [(path, value) for path, value in dependency_files.toml_entries(text) if value is not None]
    assert found[:3] == [((*keys, "plain"), value) for value in table["plain"]]
    assert found[3:] == [
        ((*keys, "quoted.key"), "q"),
        ((*keys, "nested"), "inner"),
        (("list", "items"), "one"),
    ]
