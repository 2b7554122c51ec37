"""Configuration files for other programs: nginx, Apache, systemd, logrotate, Docker.

Start with `survey`, which finds what the files depend on.
"""
