"""Build command that ships `appsrv_django.pth` and `appsrv_django.start` beside the packages.

setuptools has no setting for a file in the root of a wheel, where site.py looks for start-up files, so the
`build_py` step copies them there itself: for a wheel into the build directory, for an editable install into
the wheel being put together. Used only while building; it knows nothing of what the files do.
"""

from __future__ import annotations

from pathlib import Path

from setuptools.command.build_py import build_py
from setuptools.command.install import install as Install

HERE = Path(__file__).resolve().parent
STARTUP_FILES = ("appsrv_django.pth", "appsrv_django.start")


class BuildStartupFiles(build_py):
    """`build_py`, and after it the start-up files."""

    def run(self) -> None:
        super().run()
        for name in STARTUP_FILES:
            self.copy_file(str(HERE / name), str(self._wheel_root() / name))

    def _wheel_root(self) -> Path:
        """Directory whose content becomes the root of the wheel (site-packages, once installed)."""
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
        """What a source distribution needs besides the packages: these files and this one."""
        sources: list[str] = list(super().get_source_files())  # type: ignore[no-untyped-call]
        names = [*STARTUP_FILES, Path(__file__).name]
        return [*sources, *(f"{HERE.name}/{name}" for name in names)]
