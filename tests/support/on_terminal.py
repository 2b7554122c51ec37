"""A server on a pseudo-terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import subprocess

from support.server import Server


class OnTerminal(Server):
    """A server whose three streams are a pseudo-terminal; `screen` collects what was on it."""

    new_session = True

    def _start(self) -> subprocess.Popen[bytes]:
        self.keyboard, theirs = pty.openpty()
        self.prepare(theirs)
        self.screen = ""
        child = subprocess.Popen(
            self.argv, cwd=self.site.directory, env=self.environment,
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=self.new_session,
        )
        os.close(theirs)
        return child

    def prepare(self, terminal: int) -> None:
        """Set it up, before anything runs on it."""

    @property
    def terminal(self) -> str:
        while select.select([self.keyboard], [], [], 0)[0]:
            try:
                self.screen += os.read(self.keyboard, 1 << 16).decode(errors="replace")
            except OSError:
                break
        return self.screen
