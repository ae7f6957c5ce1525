#!/usr/bin/env python3
"""Makes and checks what a release publishes. It needs Python only, and cargo for `check`.

    release.py check [--tag vX.Y.Z]      versions, manifests and the changelog agree; with --tag, all is set for publishing
    release.py set-version X.Y.Z DATE    writes the version everywhere, and cuts the changelog
    release.py archive PROGRAM TARGET OUT    OUT/updp-compile-VERSION-TARGET.tar.gz (.zip for Windows)
    release.py sums OUT                  OUT/SHA256SUMS over all files of OUT
    release.py verify OUT [--run TARGET] checksums, names, sizes; unpacks and runs the program of TARGET

docs/releasing.md describes a release from start to end.
"""
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile

ROOT = os.environ.get("RELEASE_ROOT") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAME = "updp-compile"
TEXTS = ["README.md", "CHANGELOG.md", "LICENSE", "LICENSE-MIT", "LICENSE-APACHE"]
LICENCES = "THIRD_PARTY_LICENSES.txt"
# Most bytes of an archive and of a wheel.
MOST_BYTES = 30_000_000
SEMVER = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")


class Failure(Exception):
    """What is wrong with the release, in words."""


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def write(name, text):
    with open(os.path.join(ROOT, name), "w", encoding="utf-8") as file:
        file.write(text)


def manifest():
    return tomllib.loads(read("Cargo.toml"))


def version():
    """The version of the workspace: the one that every file of a release has."""
    return manifest()["workspace"]["package"]["version"]


def headings(changelog):
    """The versions of the changelog, the newest first."""
    return re.findall(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)


def published():
    """The manifests of all crates that are published, from cargo."""
    command = ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]
    facts = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return [package for package in facts["packages"] if package["publish"] != []]


def faults_of(package, number):
    """What a registry would miss in a crate."""
    if package["version"] != number:
        yield f"has version {package['version']}, the workspace has {number}"
    for field in ("description", "license", "readme"):
        if not package[field]:
            yield f"has no {field}"
    for field in ("keywords", "categories"):
        if not 1 <= len(package[field]) <= 5:
            yield f"has {len(package[field])} {field}; 1 to 5 are right"
    for dependency in package["dependencies"]:
        # cargo leaves out dependencies of tests that have a path only.
        is_local = dependency.get("path") and dependency["kind"] != "dev"
        if is_local and dependency["req"] not in (f"^{number}", f"={number}"):
            yield f"asks for {dependency['name']} {dependency['req']}, the workspace has {number}"


def check(tag):
    number = version()
    wrong = []
    packages = published()
    for package in packages:
        wrong += [f"{package['name']} {fault}" for fault in faults_of(package, number)]
    found = headings(read("CHANGELOG.md"))
    if tag and tag != f"v{number}":
        wrong.append(f"the tag is {tag}, the version is {number}")
    if tag and (not found or found[0] != number):
        wrong.append(f"the newest heading of the changelog is {found[:1]}, not [{number}]: release.py set-version cuts it")
    if not tag and found[:1] not in ([number], ["Unreleased"]):
        wrong.append(f"the newest heading of the changelog is {found[:1]}, neither [Unreleased] nor [{number}]")
    repository = manifest()["workspace"]["package"].get("repository")
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    if tag and not repository:
        wrong.append("workspace.package.repository is not set: cargo-binstall finds the archives through it")
    if tag and name and repository and repository != f"{server}/{name}":
        wrong.append(f"workspace.package.repository is {repository}, this is {server}/{name}")
    if wrong:
        raise Failure("\n".join(wrong))
    print(f"version {number}: {len(packages)} crates and the changelog agree ({found[0]} is the newest heading)")
    if not repository:
        print("NOT SET: workspace.package.repository. It must be set before the first publication (docs/releasing.md)")


def set_version(number, date):
    if not SEMVER.fullmatch(number) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise Failure("give a version such as 1.2.3 and a date such as 2026-12-31")
    old = version()
    text = read("Cargo.toml")
    text = text.replace(f'\nversion = "{old}"\n', f'\nversion = "{number}"\n', 1)
    text = re.sub(rf'(\nupdp-[a-z]+ = \{{ path = "[a-z/]+", version = )"{re.escape(old)}"', rf'\g<1>"{number}"', text)
    changelog = read("CHANGELOG.md")
    if "## [Unreleased]\n" not in changelog:
        raise Failure("the changelog has no heading [Unreleased]")
    write("Cargo.toml", text)
    write("CHANGELOG.md", changelog.replace("## [Unreleased]\n", f"## [{number}] - {date}\n", 1))
    write("docs/ci.md", read("docs/ci.md").replace(f"/{NAME}@v{old}\n", f"/{NAME}@v{number}\n"))
    print(f"{old} -> {number}. Next: cargo update --workspace --offline, make test, commit, tag v{number}")


def members(program, folder, is_windows):
    """The files of an archive: name, bytes, mode; sorted by name."""
    name = f"{NAME}.exe" if is_windows else NAME
    with open(program, "rb") as file:
        files = [(name, file.read(), 0o755)]
    files += [(text, read(text).encode(), 0o644) for text in TEXTS]
    files.append((LICENCES, read(f"target/{LICENCES}").encode(), 0o644))
    return sorted((f"{folder}/{name}", data, mode) for name, data, mode in files)


def archive(program, target, out):
    """The same files give the same bytes: no times, no owner."""
    folder = f"{NAME}-{version()}-{target}"
    is_windows = "windows" in target
    os.makedirs(out, exist_ok=True)
    path = os.path.join(out, folder + (".zip" if is_windows else ".tar.gz"))
    files = members(program, folder, is_windows)
    if is_windows:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
            for name, data, mode in files:
                entry = zipfile.ZipInfo(name)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (0o100000 | mode) << 16
                file.writestr(entry, data)
    else:
        with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as file:
                for name, data, mode in files:
                    entry = tarfile.TarInfo(name)
                    entry.size, entry.mode = len(data), mode
                    file.addfile(entry, io.BytesIO(data))
    print(f"{path}: {os.path.getsize(path):,} bytes")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artefacts(out):
    return sorted(name for name in os.listdir(out) if name != "SHA256SUMS")


def sums(out):
    lines = [f"{digest(os.path.join(out, name))}  {name}\n" for name in artefacts(out)]
    if not lines:
        raise Failure(f"{out} is empty")
    with open(os.path.join(out, "SHA256SUMS"), "w", encoding="utf-8") as file:
        file.writelines(lines)


def check_sums(out):
    with open(os.path.join(out, "SHA256SUMS"), encoding="utf-8") as file:
        listed = {name: known for known, name in (line.rstrip("\n").split("  ", 1) for line in file)}
    if sorted(listed) != artefacts(out):
        raise Failure(f"SHA256SUMS lists {sorted(listed)}, there are {artefacts(out)}")
    for name, known in listed.items():
        if digest(os.path.join(out, name)) != known:
            raise Failure(f"{name} has another checksum than SHA256SUMS says")


def unpack(path, to):
    """Unpacks an archive and returns the names in it. Nothing may leave its folder."""
    if path.endswith(".zip"):
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            kinds = [True] * len(names)
    else:
        with tarfile.open(path) as file:
            names = file.getnames()
            kinds = [entry.isfile() for entry in file.getmembers()]
    for name, is_file in zip(names, kinds, strict=True):
        if not is_file or name.startswith(("/", "\\")) or ".." in name.split("/") or ":" in name:
            raise Failure(f"{os.path.basename(path)} holds {name!r}: no plain file with a relative name")
    if path.endswith(".zip"):
        with zipfile.ZipFile(path) as file:
            file.extractall(to)
    else:
        with tarfile.open(path) as file:
            file.extractall(to, filter="data")
    return names


def verify_archive(path, number, run):
    base = os.path.basename(path)
    folder = base.removesuffix(".tar.gz").removesuffix(".zip")
    target = folder.removeprefix(f"{NAME}-{number}-")
    if target == folder:
        raise Failure(f"{base} is not of version {number}")
    program = f"{NAME}.exe" if "windows" in target else NAME
    with tempfile.TemporaryDirectory() as to:
        names = unpack(path, to)
        expected = sorted(f"{folder}/{name}" for name in [program, LICENCES, *TEXTS])
        if sorted(names) != expected:
            raise Failure(f"{base} holds {sorted(names)} instead of {expected}")
        if target != run:
            return f"{base}: names and size are right; not run, because it is of another system"
        told = subprocess.run([os.path.join(to, folder, program), "--version"], stdout=subprocess.PIPE, text=True, check=True)
        if told.stdout.split() != [NAME, number]:
            raise Failure(f"{base}: the program says {told.stdout.strip()!r}, the version is {number}")
    return f"{base}: names and size are right, and the program says {number}"


def verify(out, run):
    number = version()
    check_sums(out)
    is_run = False
    for name in artefacts(out):
        path = os.path.join(out, name)
        if os.path.getsize(path) > MOST_BYTES:
            raise Failure(f"{name} has {os.path.getsize(path):,} bytes, {MOST_BYTES:,} are allowed")
        if name.endswith(".whl"):
            if name.split("-")[1] != number:
                raise Failure(f"{name} is not of version {number}")
            print(f"{name}: version and size are right")
        else:
            print(verify_archive(path, number, run))
            is_run |= run is not None and run in name
    if run and not is_run:
        raise Failure(f"there is no archive for {run}")
    print(f"{len(artefacts(out))} files of version {number}")


def option(arguments, name):
    """Takes an option with its value out of the arguments."""
    if name not in arguments:
        return None
    at = arguments.index(name)
    value = arguments[at + 1]
    del arguments[at:at + 2]
    return value


def main():
    arguments = sys.argv[1:]
    tag, run = option(arguments, "--tag"), option(arguments, "--run")
    jobs = {
        "check": (0, lambda: check(tag)),
        "set-version": (2, lambda: set_version(*arguments[1:])),
        "archive": (3, lambda: archive(*arguments[1:])),
        "sums": (1, lambda: sums(*arguments[1:])),
        "verify": (1, lambda: verify(arguments[1], run)),
    }
    count, job = jobs.get(arguments[0] if arguments else "", (None, None))
    if count != len(arguments) - 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        job()
    except Failure as failure:
        print(f"release.py {arguments[0]}: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
