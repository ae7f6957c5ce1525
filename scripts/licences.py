#!/usr/bin/env python3
"""Lists every crate that a release is built from, with its licence and the texts that come with it.

    licences.py OUT [CRATES]

Reads `cargo metadata --locked` in the current folder; the crates must have been fetched. Crates of other systems than
CRATES' (default: this machine's) are left out, and so are those that only tests use. Fails if a crate names no licence.
"""
import collections
import json
import os
import re
import subprocess
import sys

TEXTS = re.compile(r"(licen[cs]e|copying|notice|unlicense|copyright)", re.IGNORECASE)


def metadata(target):
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def host():
    text = subprocess.run(["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return next(line.split()[1] for line in text.splitlines() if line.startswith("host:"))


def shipped(facts):
    """The ids of all crates below the program, without what only tests need."""
    nodes = {node["id"]: node for node in facts["resolve"]["nodes"]}
    todo = [package["id"] for package in facts["packages"] if package["name"] == "updp-compile"]
    found = set(todo)
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            is_used = any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])
            if is_used and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    return found


def texts(package):
    folder = os.path.dirname(package["manifest_path"])
    names = sorted(name for name in os.listdir(folder) if TEXTS.match(name))
    paths = [os.path.join(folder, name) for name in names]
    if package.get("license_file"):
        paths.append(os.path.normpath(os.path.join(folder, package["license_file"])))
    for path in dict.fromkeys(path for path in paths if os.path.isfile(path)):
        with open(path, encoding="utf-8", errors="replace") as file:
            yield file.read().replace("\r\n", "\n").strip()


def main():
    out = sys.argv[1]
    facts = metadata(sys.argv[2] if len(sys.argv) > 2 else host())
    ids = shipped(facts)
    members = set(facts["workspace_members"])
    packages = [package for package in facts["packages"] if package["id"] in ids - members]
    packages.sort(key=lambda package: (package["name"], package["version"]))
    nameless = [package["name"] for package in packages if not (package["license"] or package["license_file"])]
    if nameless:
        sys.exit(f"no licence is named by {', '.join(nameless)}")
    users = collections.OrderedDict()
    lines = ["Third-party crates of updp-compile", ""]
    for package in packages:
        name = f"{package['name']} {package['version']}"
        licence = package["license"] or package["license_file"]
        lines.append(f"{name}: {licence} ({package['repository'] or 'crates.io'})")
        for text in texts(package):
            users.setdefault(text, []).append(name)
    for text, names in users.items():
        lines += ["", "=" * 100, ", ".join(dict.fromkeys(names)), "=" * 100, "", text]
    with open(out, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    without = {f"{p['name']} {p['version']}" for p in packages} - {name for names in users.values() for name in names}
    print(f"{len(packages)} crates, {len(users)} licence texts, {len(without)} crates without a text of their own: {out}")


if __name__ == "__main__":
    main()
