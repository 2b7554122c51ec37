"""Which SIGHUP is the end of the terminal, and which one asks for a restart."""

from __future__ import annotations

from appsrv.system.hangup import SHELL_HANGUP_DELAY_SECONDS, Hangup, Meaning

SHELL, OTHER, KERNEL = 10, 20, 0


class World:
    """The terminal, the shell that leads the session, and a clock."""

    terminal = True
    shell_lives = True
    now = 0.0

    def hangup(self, *, ignored: bool = False) -> Hangup:
        return Hangup(
            ignored=ignored, has_terminal=lambda: self.terminal, leader=SHELL,
            exists=lambda pid: pid == SHELL and self.shell_lives, clock=lambda: self.now,
        )


def test_the_kernel_s_means_the_end() -> None:
    assert World().hangup().on_signal(KERNEL) is Meaning.END
    assert World().hangup(ignored=True).on_signal(KERNEL) is Meaning.NOTHING


def test_another_process_asks_for_a_restart_with_or_without_a_terminal() -> None:
    world = World()
    hangup = world.hangup()
    assert hangup.on_signal(OTHER) is Meaning.RESTART
    world.terminal = world.shell_lives = False
    assert hangup.on_signal(OTHER) is Meaning.RESTART
    assert hangup.on_signal(None) is Meaning.RESTART, "the shell has gone long ago"
    assert hangup.due == float("inf")


def test_the_shell_s_is_decided_a_moment_later() -> None:
    for closed, ignored, meaning in (
        (True, False, Meaning.END), (True, True, Meaning.NOTHING), (False, False, Meaning.RESTART),
        (False, True, Meaning.RESTART),
    ):
        for sender in (SHELL, None):
            world = World()
            hangup = world.hangup(ignored=ignored)
            assert hangup.on_signal(sender) is None
            assert hangup.decide() is None
            world.terminal = not closed
            world.now = hangup.due
            assert hangup.due == SHELL_HANGUP_DELAY_SECONDS
            assert hangup.decide() is meaning
            assert hangup.decide() is None


def test_a_leader_without_a_terminal_asks_for_a_restart() -> None:
    """In a container the leader of the session may be the supervisor."""
    world = World()
    world.terminal = False
    assert world.hangup().on_signal(SHELL) is Meaning.RESTART
