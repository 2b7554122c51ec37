"""Configuration files for other programs: nginx, Apache, systemd, logrotate, Docker.

Start reading with `survey`, which collects the facts for the files.
"""
