"""The proxies that are compared, each with the configuration that does the same work.

Every proxy forwards Host, sets X-Forwarded-For, -Proto, -Host and X-Request-Id, keeps connections to the hosts, and
uses round robin. If a proxy cannot do what a scenario needs, its configuration is `None`.
"""

import dataclasses
import pathlib
import subprocess

from rig import find, free_port, run

BODY = "x" * 1024


@dataclasses.dataclass
class Setup:
    """The requirements of a scenario."""

    workers: int = 1
    tls: bool = False
    access_log: bool = False
    # Clients and hosts speak HTTP/2 and gRPC.
    grpc: bool = False
    algorithm: str = "round_robin"


@dataclasses.dataclass
class World:
    """The environment of the proxies."""

    folder: pathlib.Path
    # Ports of the hosts.
    hosts: list
    certificate: pathlib.Path
    key: pathlib.Path


def temporary_paths(folder, name):
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{name}-{kind};" for kind in kinds)


def grpc_backend(target, hosts):
    """The command of a process that acts as all hosts and answers calls of gRPC, which nginx alone cannot."""
    return [target / "release/examples/grpc_host", *(f"127.0.0.1:{port}" for port in hosts)]


def backend(rig, hosts):
    """Writes the configuration of an nginx that acts as all hosts and responds from memory; returns its command."""
    files = rig.folder / "files"
    files.mkdir(exist_ok=True)
    (files / "64k").write_text("x" * (64 << 10))
    (files / "1m").write_text("x" * (1 << 20))
    listens = "\n".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in hosts)
    text = f"""daemon off; worker_processes 1; worker_rlimit_nofile 16384; pid {rig.folder}/backend.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 300; sendfile on; tcp_nopush on;
    client_max_body_size 0; client_body_buffer_size 2m; open_file_cache max=10; {temporary_paths(rig.folder, "backend")}
    server {{
        {listens}
        root {files};
        location = /1k {{ default_type text/plain; return 200 "{BODY}"; }}
        # Answers once it has the whole body, which `return` alone does not wait for.
        location = /upload {{
            proxy_pass http://127.0.0.1:{hosts[0]}/1k; proxy_http_version 1.1; proxy_set_header Connection close;
            proxy_method GET; proxy_pass_request_body off; proxy_set_header Content-Length "";
        }}
    }}
}}
"""
    return [find("nginx"), "-c", rig.write("backend.conf", text), "-p", rig.folder]


class Nginx:
    name = "nginx"

    def is_available(self):
        return find("nginx") is not None

    def version(self):
        done = subprocess.run([find("nginx"), "-v"], capture_output=True, text=True)
        return done.stderr.split("/")[-1].strip()

    def command(self, rig, world, setup, port):
        listen = f"listen 127.0.0.1:{port} backlog=4096"
        certificate = ""
        if setup.tls:
            listen += " ssl http2"
            certificate = f"ssl_certificate {world.certificate}; ssl_certificate_key {world.key};"
            # Versions before 1.23.4 do not offer the version that the others choose.
            certificate += " ssl_protocols TLSv1.2 TLSv1.3;"
        log = f"{rig.folder}/nginx-access.log combined" if setup.access_log else "off"
        hosts = " ".join(f"server 127.0.0.1:{host};" for host in world.hosts)
        pass_on = """
            proxy_pass http://hosts; proxy_http_version 1.1; proxy_request_buffering off;
            proxy_set_header Connection ""; proxy_set_header Host $host;"""
        if setup.grpc:
            pass_on = "grpc_pass grpc://hosts; grpc_set_header Host $host;"
        kind = "grpc" if setup.grpc else "proxy"
        text = f"""daemon off; worker_processes {setup.workers}; pid {rig.folder}/nginx.pid; error_log stderr crit;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log {log}; keepalive_requests 1000000000; keepalive_timeout 300; tcp_nodelay on; client_max_body_size 0;
    {temporary_paths(rig.folder, "nginx")}
    upstream hosts {{ {hosts} keepalive 512; keepalive_requests 1000000000; }}
    server {{
        {listen}; {certificate}
        location / {{
            {pass_on}
            {kind}_set_header X-Forwarded-For $remote_addr; {kind}_set_header X-Forwarded-Proto $scheme;
            {kind}_set_header X-Forwarded-Host $host; {kind}_set_header X-Request-Id $request_id;
        }}
    }}
}}
"""
        return [find("nginx"), "-c", rig.write("nginx.conf", text), "-p", rig.folder]


class HaProxy:
    name = "haproxy"

    def is_available(self):
        return find("haproxy") is not None

    def version(self):
        return run(find("haproxy"), "-v").split()[2]

    def command(self, rig, world, setup, port):
        if setup.access_log:
            # HAProxy logs to a syslog server, whose cost would be measured with it or not at all.
            return None
        bind = f"bind 127.0.0.1:{port}"
        if setup.tls:
            pair = rig.write("haproxy.pem", world.certificate.read_text() + world.key.read_text())
            bind += f" ssl crt {pair} alpn h2,http/1.1"
        protocol = " proto h2" if setup.grpc else ""
        servers = "\n".join(f" server s{at} 127.0.0.1:{host}{protocol}" for at, host in enumerate(world.hosts))
        text = f"""global
 nbthread {setup.workers}
 maxconn 8000
defaults
 mode http
 timeout connect 5s
 timeout client 60s
 timeout server 60s
 option http-keep-alive
 option forwardfor
 http-reuse always
frontend f
 {bind}
 unique-id-format %[uuid()]
 unique-id-header X-Request-Id
 http-request set-header X-Forwarded-Proto {"https" if setup.tls else "http"}
 http-request set-header X-Forwarded-Host %[req.hdr(host)]
 default_backend b
backend b
 balance roundrobin
{servers}
"""
        return [find("haproxy"), "-db", "-f", rig.write("haproxy.cfg", text)]


class Ballast:
    name = "ballast"
    server = ""

    def __init__(self, binary):
        self.binary = binary

    def is_available(self):
        return self.binary.is_file()

    def version(self):
        return run(self.binary, "--version").split()[-1]

    def command(self, rig, world, setup, port):
        listener = f'address: "127.0.0.1:{port}"'
        if setup.tls:
            pair = f'certificate: "{world.certificate}", key: "{world.key}"'
            listener += f", tls: {{ certificates: [{{ {pair} }}] }}"
        log = f'access_log: {{ path: "{rig.folder}/ballast-access.log" }}' if setup.access_log else ""
        hosts = ", ".join(f'"127.0.0.1:{host}"' for host in world.hosts)
        text = f"""server: {{ threads: {setup.workers}{self.server} }}
listeners: [{{ {listener} }}]
limits: {{ max_requests_per_connection: 1000000000 }}
{log}
pools:
  web:
    algorithm: {setup.algorithm}
    protocol: {"h2c" if setup.grpc else "http1"}
    health_check: {{ interval: 1m }}
    hosts: [{hosts}]
"""
        return [self.binary, "run", "-c", rig.write(f"{self.name}-{port}.yaml", text)]


class BallastOnPingora(Ballast):
    """Ballast with Pingora's HTTP/1.1 code."""

    name = "ballast, http1: pingora"
    server = ", http1: pingora"


class BarePingora(Ballast):
    """A Pingora proxy without any filter or timeout: `examples/bare_pingora.rs`."""

    name = "bare pingora"
    server = ""

    def version(self):
        return "0.9.1"

    def command(self, rig, world, setup, port):
        if setup.tls or setup.access_log or setup.workers != 1:
            return None
        plain = super().command(rig, world, setup, port)
        return plain


class Caddy:
    name = "caddy"

    def is_available(self):
        return find("caddy") is not None

    def version(self):
        return run(find("caddy"), "version").split()[0]

    def command(self, rig, world, setup, port):
        if setup.access_log or setup.grpc:
            return None
        certificate = f"tls {world.certificate} {world.key}" if setup.tls else ""
        hosts = " ".join(f"127.0.0.1:{host}" for host in world.hosts)
        text = f"""{{
    admin off
    auto_https off
    storage file_system {rig.folder}/caddy
}}
{"https" if setup.tls else "http"}://127.0.0.1:{port} {{
    bind 127.0.0.1
    {certificate}
    reverse_proxy {hosts} {{
        lb_policy round_robin
        header_up X-Request-Id {{http.request.uuid}}
        transport http {{
            keepalive_idle_conns_per_host 512
        }}
    }}
}}
"""
        file = rig.write("Caddyfile", text)
        environment = ["env", f"GOMAXPROCS={setup.workers}", f"HOME={rig.folder}"]
        return [*environment, find("caddy"), "run", "--adapter", "caddyfile", "--config", file]


class Envoy:
    name = "envoy"

    def is_available(self):
        return find("envoy") is not None

    def version(self):
        return run(find("envoy"), "--version").split("/")[1]

    def command(self, rig, world, setup, port):
        if setup.tls or setup.access_log:
            return None
        endpoints = ", ".join(
            f"{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {host} }} }} }} }}"
            for host in world.hosts
        )
        text = f"""static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          use_remote_address: true
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - {{ name: all, domains: ["*"], routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: hosts }} }}] }}
  clusters:
  - name: hosts
    connect_timeout: 5s
    lb_policy: ROUND_ROBIN
    load_assignment: {{ cluster_name: hosts, endpoints: [{{ lb_endpoints: [{endpoints}] }}] }}
"""
        file = rig.write("envoy.yaml", text)
        return [find("envoy"), "-c", file, "--concurrency", setup.workers, "-l", "critical", "--base-id", free_port()]


class Traefik:
    name = "traefik"

    def is_available(self):
        return find("traefik") is not None

    def version(self):
        return run(find("traefik"), "version").split()[1]

    def command(self, rig, world, setup, port):
        if setup.tls or setup.access_log:
            return None
        servers = ", ".join(f'{{ url: "http://127.0.0.1:{host}" }}' for host in world.hosts)
        routes = rig.write("traefik-routes.yaml", f"""http:
  routers: {{ all: {{ rule: "PathPrefix(`/`)", service: hosts }} }}
  services: {{ hosts: {{ loadBalancer: {{ servers: [{servers}] }} }} }}
""")
        text = f"""entryPoints: {{ web: {{ address: "127.0.0.1:{port}" }} }}
providers: {{ file: {{ filename: "{routes}" }} }}
log: {{ level: ERROR }}
"""
        file = rig.write("traefik.yaml", text)
        return ["env", f"GOMAXPROCS={setup.workers}", find("traefik"), f"--configFile={file}"]


def contenders(target):
    """All proxies that are installed on this machine; nginx comes first, because ratios refer to it."""
    every = [
        Nginx(),
        HaProxy(),
        Ballast(target / "release/ballast"),
        BallastOnPingora(target / "release/ballast"),
        BarePingora(target / "release/examples/bare_pingora"),
        Caddy(),
        Envoy(),
        Traefik(),
    ]
    return [each for each in every if each.is_available()]
