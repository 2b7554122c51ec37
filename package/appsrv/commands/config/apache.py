"""The output of `appsrv config apache`: Apache httpd in front of a project. Pure: makes text from a `Deployment`."""

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

# The fields that this configuration sets. The fields of mod_proxy are not among them: the client's own are removed
# first, because mod_proxy would append to them.
SET_FIELDS = ("X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Request-ID")

TEMPLATE = """
# Apache httpd (2.4.47 or newer) in front of {{name}}, printed by `appsrv config apache`.
# Debian: /etc/apache2/sites-available/{{name}}.conf, then
#   a2enmod {{modules}} && a2ensite {{name}} && apachectl configtest && apachectl graceful
# Others: conf.d/{{name}}.conf. No request is lost by `graceful`, nor by `appsrv restart-app`.
{{listen_hint}}

{{to_https}}

<VirtualHost {{address}}>
    {{server_names}}
    {{tls}}

    ErrorLog {{error_log}}
    CustomLog {{access_log}} combined

    # As appsrv's own limits: max_body_size, max_request_line_size, max_header_field_size, max_header_fields,
    # header_timeout, body_timeout and min_data_rate.
    LimitRequestBody {{body_size}}
    # It counts what has passed. A body that says its length is refused before the first byte, with 413 instead of 502.
    RewriteEngine On
    RewriteCond expr "%{HTTP:Content-Length} -gt {{body_size}}"
    RewriteRule ^ - [R=413,L]
    LimitRequestLine {{line_size}}
    LimitRequestFieldSize {{field_size}}
    LimitRequestFields {{fields}}
    <IfModule reqtimeout_module>
        RequestReadTimeout header={{header_timeout}} {{body_timeout}}
    </IfModule>

    ProxyRequests Off
    # Redirects then lead back to here.
    ProxyPreserveHost On
    # Paths reach the application as the client has sent them.
    AllowEncodedSlashes NoDecode

    {{statics}}

    {{bare_prefix}}

    # ttl: Apache closes idle connections before appsrv does (keepalive_timeout {{keepalive}} s). retry=0: there is no
    # other server to turn to. Of upgrades only those to WebSocket are passed on; a WSGI application answers them as
    # ordinary requests.
    {{why_answer_timeout}}
    ProxyPass "{{base}}/" {{backend}} \\
        {{reuse}} connectiontimeout=5 timeout={{answer_timeout}} retry=0 upgrade=websocket nocanon

    <Location "{{base}}/">
        {{untrusted}}
        # What appsrv believes of this proxy (forwarded_allow_ips); mod_proxy adds X-Forwarded-For. Behind a further
        # proxy that Apache is to believe, see mod_remoteip, and take X-Forwarded-Proto over from it.
        RequestHeader set X-Forwarded-Proto "expr=%{REQUEST_SCHEME}"
        {{prefix}}
        <IfModule unique_id_module>
            RequestHeader set X-Request-ID "%{UNIQUE_ID}e"
        </IfModule>
        <IfModule !unique_id_module>
            RequestHeader unset X-Request-ID
        </IfModule>
        # A client's own are not passed on.
        {{removed}}

        {{files}}
    </Location>
</VirtualHost>
"""

_TLS = """
SSLEngine on
SSLCertificateFile {{certificate}}
SSLCertificateKeyFile {{key}}
SSLProtocol -all +TLSv1.2 +TLSv1.3
"""

_TO_HTTPS = """
<VirtualHost {{address}}>
    {{server_names}}
    RewriteEngine On
    RewriteRule ^ https://%{SERVER_NAME}{{tls_port}}%{REQUEST_URI} [R=301,L,NE]
</VirtualHost>
"""

_STATIC = """
{{unknown}}
ProxyPass {{url}} "!"
Alias {{url}} {{directory}}
<Directory {{directory}}>
    Require all granted
    Options FollowSymLinks
    AllowOverride None
    Header set Access-Control-Allow-Origin "*"
    Header set Cache-Control "max-age=60, public"
    # A name with a hash in it never changes its content.
    <FilesMatch "\\.[0-9a-fA-F]{12}([0-9a-fA-F]{4,})?\\.[^/]+$">
        Header set Cache-Control "max-age=315360000, public, immutable"
    </FilesMatch>
    # Names that begin with a dot.
    <If "%{REQUEST_URI} =~ m#/\\.(?!well-known/)#">
        Require all denied
    </If>
</Directory>
"""

_FILES = """
# Files that the application names, by `X-Sendfile`. appsrv sends them itself (sendfile_root). To have Apache do it:
# libapache2-mod-xsendfile, and APPSRV_SENDFILE_ROOT=off.
<IfModule xsendfile_module>
    XSendFile On
    {{paths}}
</IfModule>
"""


def render(deployment: Deployment) -> str:
    """The configuration. Raises `SettingsError` for settings that cannot be expressed in it."""
    check_served(deployment)
    settings, front = deployment.settings, deployment.front
    log_directory = front.log_directory or "${APACHE_LOG_DIR}"
    modules = f"proxy proxy_http headers alias rewrite unique_id{' ssl' if front.certificate else ''}"
    return fill(TEMPLATE, {
        "name": deployment.name,
        "modules": modules,
        "listen_hint": _listen_hint(deployment),
        "to_https": _to_https(deployment) if front.certificate else "",
        "address": _address(front.tls_listen if front.certificate else front.listen),
        "server_names": _server_names(deployment),
        "tls": _tls(deployment),
        "error_log": _log(f"{log_directory}/{deployment.name}.error.log"),
        "access_log": _log(f"{log_directory}/{deployment.name}.access.log"),
        # Apache takes 0 for no limit.
        "body_size": str(settings.max_body_size or 1),
        "line_size": str(settings.max_request_line_size),
        "field_size": str(settings.max_header_field_size),
        "fields": str(settings.max_header_fields),
        "header_timeout": str(math.ceil(settings.header_timeout)),
        "body_timeout": f"body={math.ceil(settings.body_timeout)},MinRate={max(1, settings.min_data_rate)}",
        "statics": "\n".join(_static(mount) for mount in deployment.statics),
        "bare_prefix": _bare_prefix(front.base_uri),
        "keepalive": f"{settings.keepalive_timeout:g}",
        "base": front.base_uri,
        "backend": _path(_backend(deployment)),
        "reuse": f"ttl={deployment.reuse_seconds}" if deployment.reuse_seconds else "disablereuse=On",
        "why_answer_timeout": _why_answer_timeout(deployment),
        "answer_timeout": str(deployment.answer_seconds),
        "untrusted": "" if deployment.is_trusted else untrusted_notice(deployment),
        "prefix": f'RequestHeader set X-Forwarded-Prefix "{front.base_uri}"' if front.base_uri
        else "RequestHeader unset X-Forwarded-Prefix",
        "removed": "\n".join(f"RequestHeader unset {name}" for name in fields_to_remove(SET_FIELDS)),
        "files": _files(deployment),
    })  # fmt: skip


def _path(path: str) -> str:
    return quoted(path, "${ %{")


def _log(path: str) -> str:
    """A quoted path of a log; the variable ${APACHE_LOG_DIR} of Debian stays as it is."""
    return f'"{path}"' if path.startswith("${APACHE_LOG_DIR}/") else _path(path)


def _address(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"{host or '*'}:{port}"


def _listen_hint(deployment: Deployment) -> str:
    front = deployment.front
    ports = [front.listen, *([front.tls_listen] if front.certificate else [])]
    missing = [port for port in ports if port not in ("80", "443")]
    return "\n".join(f"Listen {port}" for port in missing)


def _server_names(deployment: Deployment) -> str:
    names = deployment.front.names
    if not names:
        return "# Any host that no other VirtualHost names; `--server-name shop.example` names it."
    # Apache accepts a wildcard in ServerAlias only.
    first = next((name for name in names if name[0] != "*"), names[0].removeprefix("*."))
    others = [name for name in names if name != first]
    return f"ServerName {first}" + (f"\nServerAlias {' '.join(others)}" if others else "")


def _tls(deployment: Deployment) -> str:
    front = deployment.front
    if not front.certificate:
        return "# For https: `appsrv config apache --certificate FILE --certificate-key FILE`."
    return fill(_TLS, {"certificate": _path(front.certificate), "key": _path(front.certificate_key or "")})


def _to_https(deployment: Deployment) -> str:
    port = deployment.front.tls_listen.rpartition(":")[2]
    return fill(_TO_HTTPS, {
        "address": _address(deployment.front.listen), "server_names": _server_names(deployment),
        "tls_port": "" if port == "443" else f":{port}",
    })  # fmt: skip


def _static(mount: Mount) -> str:
    unknown = "# FILL IN: where this project's static files are could not be read." if not mount.known else ""
    directory = mount.directory.rstrip("/") + "/"
    return fill(_STATIC, {"unknown": unknown, "url": _path(mount.url), "directory": _path(directory)})


def _bare_prefix(base: str) -> str:
    return f'RedirectMatch 308 "^{base}$" "{base}/"'.replace(".", "\\.", base.count(".")) if base else ""


def _backend(deployment: Deployment) -> str:
    base, settings = deployment.front.base_uri, deployment.settings
    if settings.socket:
        return f"unix:{settings.socket}|http://{deployment.name}{base}/"
    return f"http://{deployment.connect_host}:{settings.port}{base}/"


def _files(deployment: Deployment) -> str:
    roots = deployment.settings.sendfile_root
    return fill(_FILES, {"paths": "\n".join(f"XSendFilePath {_path(root)}" for root in roots)}) if roots else ""


def _why_answer_timeout(deployment: Deployment) -> str:
    if deployment.settings.max_request_time:
        return "# timeout: above max_request_time, so that appsrv's 504, with its error id, comes first."
    return "# timeout: appsrv sets no limit (max_request_time 0)."
