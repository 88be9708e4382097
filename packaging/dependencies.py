#!/usr/bin/env python3
"""What the binary is made of, from Cargo.lock and the sources that cargo has.

    packaging/dependencies.py sbom       a bill of materials, as CycloneDX 1.5 in JSON
    packaging/dependencies.py notices    the licences of the crates, which a binary has to be shipped with

Both list what is compiled into the binary for TARGET (default: this machine's), without what only builds and tests need.
SOURCE_DATE_EPOCH is the time of the bill.
"""

import datetime
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent


def host():
    version = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return re.search(r"^host: (.*)$", version, re.MULTILINE)[1]


def shipped():
    """The package of the binary, and everything below it: (root, {id: package}, {id: [ids it depends on]})."""
    target = os.environ.get("TARGET") or host()
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    below, open_ids = {}, [root]
    while open_ids:
        of = open_ids.pop()
        if of in below:
            continue
        # The kind of a dependency of the binary is null; others are "build" and "dev".
        needed = (d for d in nodes[of]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"]))
        below[of] = sorted(dependency["pkg"] for dependency in needed)
        open_ids.extend(below[of])
    return root, {of: packages[of] for of in below}, below


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def checksums():
    """The SHA-256 of the crates of the registry, by name and version."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(p["name"], p["version"]): p["checksum"] for p in lock["package"] if "checksum" in p}


def component(package, sums, kind="library"):
    reading = reference(package)
    found = {"type": kind, "bom-ref": reading, "name": package["name"], "version": package["version"], "purl": reading}
    if package["license"]:
        # Crates from before 2018 write MIT/Apache-2.0.
        found["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}]
    if checksum := sums.get((package["name"], package["version"])):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def sbom():
    root, packages, below = shipped()
    sums = checksums()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or datetime.datetime.now().timestamp())
    parts = [component(package, sums) for of, package in packages.items() if of != root]
    edges = [
        {"ref": reference(packages[of]), "dependsOn": sorted(reference(packages[to]) for to in needed)}
        for of, needed in below.items()
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(packages[root], sums, "application"),
        },
        "components": sorted(parts, key=lambda part: part["bom-ref"]),
        "dependencies": sorted(edges, key=lambda edge: edge["ref"]),
    }
    # Equal contents have an equal number, so that a release can be built again.
    digest = hashlib.sha256(json.dumps(bill, sort_keys=True).encode()).hexdigest()
    bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}"
    json.dump(bill, sys.stdout, indent=1, sort_keys=True)
    print()


def notices():
    _, packages, _ = shipped()
    crates_of = {}
    for package in packages.values():
        folder = pathlib.Path(package["manifest_path"]).parent
        if package["source"] is None:
            # Ballast's own.
            continue
        named = f"{package['name']} {package['version']}"
        files = [f for f in folder.iterdir() if re.match(r"(?i)(licen[cs]e|copying|notice|unlicense)", f.name)]
        texts = [f.read_text(errors="replace").strip() for f in sorted(files) if f.is_file()]
        for text in texts or [f"No licence text comes with this crate. It declares: {package['license']}"]:
            crates_of.setdefault(text, []).append(named)
    print("The ballast program contains these crates under the licences below.")
    for text, crates in sorted(crates_of.items(), key=lambda item: sorted(item[1])):
        print(f"\n{'=' * 80}\n{', '.join(sorted(crates))}\n{'=' * 80}\n\n{text}")


COMMANDS = {"sbom": sbom, "notices": notices}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]]()
