"""The limits of the pool, taken from the settings."""

from __future__ import annotations

from appsrv.server.pool.pool import PoolLimits
from appsrv.settings.table import Settings

# How many workers boot at a time: forked ones, and ones that are spawned directly and import the application each.
FORKS_AT_ONCE, IMPORTS_AT_ONCE = 8, 2


def pool_limits(settings: Settings) -> PoolLimits:
    """The limits that these settings give."""
    return PoolLimits(
        max_pool_size=settings.max_pool_size,
        min_instances=settings.min_instances,
        pool_idle_time=settings.pool_idle_time,
        start_timeout=settings.start_timeout,
        stop_timeout=settings.stop_timeout,
        busy_threads_timeout=settings.busy_threads_timeout if settings.busy_threads == "wait" else 0.0,
        max_requests=settings.max_requests,
        max_requests_jitter=settings.max_requests // 10,
        spawn_at_once=IMPORTS_AT_ONCE if settings.spawn_method == "direct" else FORKS_AT_ONCE,
    )
