"""The output of `appsrv config nginx`: nginx in front of a project. Pure: makes text from a `Deployment`."""

from __future__ import annotations

import math

from appsrv.commands.config.deployment import (
    Deployment,
    Mount,
    check_served,
    fields_to_remove,
    fill,
    quoted,
    untrusted_notice,
)
from appsrv.errors import SettingsError

SET_FIELDS = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Request-ID")

TEMPLATE = """
# nginx in front of {{name}}, printed by `appsrv config nginx`. It belongs inside `http { }`:
# /etc/nginx/conf.d/{{name}}.conf, or sites-available/{{name}} with a link to it in sites-enabled.
# `nginx -t` checks it, `nginx -s reload` has it used; no request is lost by that, nor by `appsrv restart-app`.

upstream {{name}} {
    # There is no other server to turn to: nginx is never to take this one for dead.
    server {{server}} fail_timeout=0;
    {{keepalive}}
}

# The host as nginx has checked it, with the port the client has typed: redirects then lead back to here.
map $http_host ${{variable}}_host {
    default $host;
    ~(?<{{variable}}_port>:[0-9]+)$ $host${{variable}}_port;
}

# Of upgrades, only those to WebSocket are passed on. A WSGI application answers them as ordinary requests.
map $http_upgrade ${{variable}}_upgrade {
    default "";
    ~*^websocket$ websocket;
}
map $http_upgrade ${{variable}}_connection {
    default "";
    ~*^websocket$ upgrade;
}

{{cache_control}}

{{to_https}}

server {
    {{listen}}
    server_name {{server_names}};
    {{unnamed}}

    access_log {{log_directory}}/{{name}}.access.log combined;
    error_log {{log_directory}}/{{name}}.error.log;

    # As appsrv's own: max_body_size, max_request_line_size and max_header_field_size, header_timeout, body_timeout.
    client_max_body_size {{body_size}};
    large_client_header_buffers {{header_buffers}};
    client_header_timeout {{header_timeout}};
    client_body_timeout {{body_timeout}};
    send_timeout {{body_timeout}};

    {{statics}}

    {{internal}}

    {{bare_prefix}}

    location {{base}}/ {
        proxy_pass http://{{name}};
        # With 1.0, nginx could not tell a response that was broken off from a whole one.
        proxy_http_version 1.1;
        proxy_set_header Upgrade ${{variable}}_upgrade;
        proxy_set_header Connection ${{variable}}_connection;

        {{untrusted}}
        # What appsrv believes of this proxy (forwarded_allow_ips). Behind a further proxy that nginx is to believe, see
        # ngx_http_realip_module, and take X-Forwarded-Proto over from it.
        proxy_set_header Host ${{variable}}_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Prefix {{prefix}};
        proxy_set_header X-Request-ID $request_id;
        # A client's own are not passed on.
        {{removed}}

        proxy_redirect off;
        proxy_connect_timeout 5s;
        proxy_send_timeout {{body_timeout}};
        {{why_answer_timeout}}
        proxy_read_timeout {{answer_timeout}};
        # appsrv keeps what a slow client has not taken yet (response_buffer_size): a second copy on disk is of no use.
        # A response with `X-Accel-Buffering: no` (event streams) leaves without delay.
        proxy_max_temp_file_size 0;
    }
}
"""

_TLS = """
listen {{port}} ssl;
# listen [::]:443 ssl;
ssl_certificate {{certificate}};
ssl_certificate_key {{key}};
ssl_protocols TLSv1.2 TLSv1.3;
ssl_session_cache shared:{{name}}:10m;
"""

_PLAIN = """
listen {{port}};
# listen [::]:80;
# For https: `appsrv config nginx --certificate FILE --certificate-key FILE`.
"""

_TO_HTTPS = """
server {
    listen {{port}};
    # listen [::]:80;
    server_name {{server_names}};
    return 301 https://$host{{tls_port}}$request_uri;
}
"""

_CACHE_CONTROL = """
# A name with a hash in it never changes its content.
map $uri ${{variable}}_cache_control {
    default "max-age=60, public";
    "~*\\.[0-9a-f]{12}([0-9a-f]{4,})?\\.[^/]+$" "max-age=315360000, public, immutable";
}
"""

_STATIC = """
{{unknown}}
location ^~ {{url}} {
    alias {{directory}};
    add_header Cache-Control ${{variable}}_cache_control;
    add_header Access-Control-Allow-Origin *;
    # gzip_static on;  # sends style.css.gz, if it lies beside style.css
    location ~ /\\.(?!well-known/) { return 404; }
}
"""

_INTERNAL = """
# Files that the application names: `X-Accel-Redirect: {{url}}...`.
{{ours}}
location ^~ {{url}} {
    internal;
    alias {{directory}};
}
"""


def render(deployment: Deployment) -> str:
    """The configuration. Raises `SettingsError` for settings that cannot be expressed in it."""
    check_served(deployment)
    settings, front = deployment.settings, deployment.front
    return fill(TEMPLATE, {
        "name": deployment.name,
        "variable": deployment.variable,
        "server": _server(deployment),
        "keepalive": _keepalive(deployment),
        "cache_control": fill(_CACHE_CONTROL, {"variable": deployment.variable}) if deployment.statics else "",
        "to_https": _to_https(deployment) if front.certificate else "",
        "listen": _listen(deployment),
        "server_names": _server_names(deployment),
        "unnamed": "" if front.names else "# Any host that no other `server` names; see --server-name.",
        "log_directory": _path(front.log_directory or "/var/log/nginx"),
        # nginx takes 0 for no limit.
        "body_size": str(settings.max_body_size or 1),
        "header_buffers": _header_buffers(deployment),
        "header_timeout": _seconds(settings.header_timeout),
        "body_timeout": _seconds(settings.body_timeout),
        "statics": "\n".join(_static(deployment, mount) for mount in deployment.statics),
        "internal": "\n".join(_internal(deployment, mount) for mount in settings.accel_redirect),
        "bare_prefix": _bare_prefix(front.base_uri),
        "base": quoted(front.base_uri, "$") if front.base_uri else "",
        "untrusted": "" if deployment.is_trusted else untrusted_notice(deployment),
        "prefix": quoted(front.base_uri, "$") if front.base_uri else '""',
        "removed": "\n".join(f'proxy_set_header {name} "";' for name in fields_to_remove(SET_FIELDS)),
        "why_answer_timeout": _why_answer_timeout(deployment),
        "answer_timeout": f"{deployment.answer_seconds}s",
    })  # fmt: skip


def _path(path: str) -> str:
    return quoted(path, "$")


def _server(deployment: Deployment) -> str:
    settings = deployment.settings
    if settings.socket:
        return _path(f"unix:{settings.socket}")
    return f"{deployment.connect_host}:{settings.port}"


def _keepalive(deployment: Deployment) -> str:
    if not deployment.reuse_seconds:
        return "# appsrv closes each connection after its response (keepalive_timeout 0)."
    ours = f"{deployment.settings.keepalive_timeout:g}"
    return (
        f"# Idle connections: nginx closes them before appsrv does (keepalive_timeout {ours} s),\n"
        "# so that none is used that is just ending.\n"
        f"keepalive 32;\nkeepalive_timeout {deployment.reuse_seconds}s;"
    )


def _to_https(deployment: Deployment) -> str:
    port = deployment.front.tls_listen.rpartition(":")[2]
    return fill(_TO_HTTPS, {
        "port": deployment.front.listen, "server_names": _server_names(deployment),
        "tls_port": "" if port == "443" else f":{port}",
    })  # fmt: skip


def _listen(deployment: Deployment) -> str:
    front = deployment.front
    if not front.certificate:
        return fill(_PLAIN, {"port": front.listen})
    return fill(_TLS, {
        "port": front.tls_listen, "certificate": _path(front.certificate),
        "key": _path(front.certificate_key or ""), "name": deployment.variable,
    })  # fmt: skip


def _server_names(deployment: Deployment) -> str:
    return " ".join(deployment.front.names) or "_"


def _header_buffers(deployment: Deployment) -> str:
    settings = deployment.settings
    kilobytes = math.ceil(max(settings.max_request_line_size, settings.max_header_field_size, 1024) / 1024)
    return f"{max(4, math.ceil(settings.max_header_size / 1024 / kilobytes))} {kilobytes}k"


def _seconds(seconds: float) -> str:
    return f"{max(1, math.ceil(seconds))}s"


def _static(deployment: Deployment, mount: Mount) -> str:
    unknown = "# FILL IN: where this project's static files are could not be read." if not mount.known else ""
    return fill(_STATIC, {
        "unknown": unknown, "url": _path(mount.url), "directory": _path(mount.directory.rstrip("/") + "/"),
        "variable": deployment.variable,
    })  # fmt: skip


def _internal(deployment: Deployment, mount: str) -> str:
    url, _, directory = mount.partition("=")
    if url == "/":
        raise SettingsError("accel_redirect /: nginx would answer nothing but files; give it a prefix of its own")
    served = any("--accel-redirect" in word for word in deployment.command)
    ours = (
        "# Not used as long as appsrv's own files set accel_redirect: appsrv then sends them itself.\n"
        "# APPSRV_ACCEL_REDIRECT=off leaves it to nginx."
    )
    return fill(_INTERNAL, {
        "url": _path(url), "directory": _path(directory.rstrip("/") + "/"), "ours": "" if served else ours,
    })  # fmt: skip


def _bare_prefix(base: str) -> str:
    if not base:
        return ""
    path = quoted(base, "$")
    return f"location = {path} {{\n    absolute_redirect off;\n    return 308 {path}/$is_args$args;\n}}"


def _why_answer_timeout(deployment: Deployment) -> str:
    if deployment.settings.max_request_time:
        return "# Above max_request_time: appsrv's 504, with its error id, comes first."
    return "# appsrv sets no limit (max_request_time 0)."
