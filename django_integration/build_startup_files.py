"""A build command that installs `appsrv_django.pth` and `appsrv_django.start` beside the packages.

The module `site` reads start-up files in the root of a wheel, and setuptools has no setting for such files. So the
`build_py` step copies them there: for a wheel into the build directory, for an editable install into the wheel that is
being made. It is used only in builds and does not depend on the files' content.
"""

from __future__ import annotations

from pathlib import Path

from setuptools.command.build_py import build_py
from setuptools.command.install import install as Install

HERE = Path(__file__).resolve().parent
STARTUP_FILES = ("appsrv_django.pth", "appsrv_django.start")


class BuildStartupFiles(build_py):
    """`build_py` that also copies the start-up files."""

    def run(self) -> None:
        super().run()
        for name in STARTUP_FILES:
            self.copy_file(str(HERE / name), str(self._wheel_root() / name))

    def _wheel_root(self) -> Path:
        """The directory whose content becomes the root of the wheel (site-packages after the installation)."""
        if not self.editable_mode:
            return Path(self.build_lib)
        install = self.get_finalized_command("install")
        assert isinstance(install, Install)
        assert install.install_lib is not None
        root = Path(install.install_lib)
        root.mkdir(parents=True, exist_ok=True)
        return root

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = list(super().get_outputs(include_bytecode))
        if not self.editable_mode:
            outputs += [str(self._wheel_root() / name) for name in STARTUP_FILES]
        return outputs

    def get_source_files(self) -> list[str]:
        """The files for a source distribution: those of the packages, the start-up files and this module."""
        sources: list[str] = list(super().get_source_files())  # type: ignore[no-untyped-call]
        names = [*STARTUP_FILES, Path(__file__).name]
        return [*sources, *(f"{HERE.name}/{name}" for name in names)]
