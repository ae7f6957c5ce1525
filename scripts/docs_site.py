#!/usr/bin/env python3
"""Builds the documentation site with mdBook and checks every link of it.

    docs_site.py MDBOOK OUT [--report PAGE.html]

The pages are those that docs/SUMMARY.md lists. README.md and its neighbours lie above docs/, where mdBook cannot read, so a
copy of all pages is made beside OUT, and links between pages are written anew. A file that a page links to and that is no
page, such as a source file, is copied into the site. With --report, a page that pruning wrote becomes a page of the site.
The check reads the HTML: a link within the site must name a file, its anchor an id there, and nothing may be loaded from
elsewhere.
"""
import html.parser
import os
import posixpath
import re
import shutil
import subprocess
import sys
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
LIVE = "live-report.md"
# Where a file of another kind goes; its name ends in .txt, so that a browser shows it.
SOURCES = "source"


def is_outside(link):
    return "://" in link or link.startswith(("mailto:", "#"))


def place(path):
    """The place in the site of a page, given as a path from the root of the repository."""
    folder, name = posixpath.split(posixpath.normpath(path))
    name = "index.md" if name == "README.md" else name
    return posixpath.join(folder, name).removeprefix("docs/")


def summary_pages():
    """The pages of docs/SUMMARY.md, as paths from the root of the repository."""
    with open(os.path.join(ROOT, "docs/SUMMARY.md"), encoding="utf-8") as file:
        links = [link for _, link, _ in LINK.findall(file.read())]
    return [posixpath.normpath(posixpath.join("docs", link)) for link in links]


class Site:
    """The copy that mdBook reads."""

    def __init__(self, folder):
        self.folder = folder
        self.pages = set(summary_pages())

    def write(self, name, text):
        path = os.path.join(self.folder, "src", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def target(self, page, link):
        """The link as it is in the site."""
        if is_outside(link):
            return link
        path, mark, anchor = link.partition("#")
        known = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if known in self.pages:
            there = place(known)
        else:
            there = self.copy(page, known)
        return posixpath.relpath(there, posixpath.dirname(place(page)) or ".") + mark + anchor

    def copy(self, page, path):
        """Copies a linked file that is no page, and returns its place."""
        file = os.path.join(ROOT, path)
        if os.path.isdir(file):
            entries = sorted(os.listdir(file))
            name = posixpath.join(SOURCES, path, "index.txt")
            self.write(name, "".join(f"{entry}\n" for entry in entries))
            return name
        if not os.path.isfile(file):
            raise SystemExit(f"{page}: {path} does not exist")
        is_image = path.endswith((".svg", ".png"))
        # mdBook takes any `.md` in a link for a page of its own.
        name = place(path) if is_image else posixpath.join(SOURCES, path.removesuffix(".md") + ".txt")
        to = os.path.join(self.folder, "src", name)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copyfile(file, to)
        return name

    def add(self, page):
        """Writes a page with its links as they are in the site; code blocks stay as they are."""
        with open(os.path.join(ROOT, page), encoding="utf-8") as file:
            lines = file.read().split("\n")
        is_code = False
        for at, line in enumerate(lines):
            if line.lstrip().startswith("```"):
                is_code = not is_code
            elif not is_code:
                parts = re.split(r"(`[^`]*`(?!\]))", line)
                for n in range(0, len(parts), 2):
                    parts[n] = LINK.sub(lambda m: m[1] + self.target(page, m[2]) + m[3], parts[n])
                lines[at] = "".join(parts)
        self.write(place(page), "\n".join(lines))

    def build(self, mdbook, out, report):
        for page in [*sorted(self.pages), "docs/SUMMARY.md"]:
            self.add(page)
        for name in ("book.toml", "site.css"):
            shutil.copyfile(os.path.join(ROOT, "docs", name), os.path.join(self.folder, name))
        if report:
            self.add_report(report)
        subprocess.run([mdbook, "build", self.folder, "--dest-dir", os.path.abspath(out)], check=True)

    def add_report(self, report):
        shutil.copyfile(report, os.path.join(self.folder, "src", "live-report-page.html"))
        self.write(LIVE, (
            "# A live report\n\nThis is the page that pruning a ResNet of Fashion-MNIST wrote when this site was built: "
            "[open it alone](live-report-page.html). [The reports](report.md) explains its parts.\n\n"
            '<iframe src="live-report-page.html" title="Report of a pruning" '
            'style="width:100%;height:80vh;border:1px solid #888"></iframe>\n'))
        path = os.path.join(self.folder, "src", "SUMMARY.md")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        line = "- [Reports](report.md)\n"
        if line not in text:
            raise SystemExit(f"docs/SUMMARY.md has no line {line!r}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(line, f"{line}  - [A live report]({LIVE})\n"))


class Page(html.parser.HTMLParser):
    """The ids and the links of a page, and what it loads."""

    def __init__(self):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []

    def handle_starttag(self, tag, attrs):
        values = {name: value for name, value in attrs if value}
        self.ids.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and "href" in values:
            self.loads.append(values["href"])
        elif "src" in values:
            self.loads.append(values["src"])


def read_pages(out):
    pages = {}
    for folder, _, names in os.walk(out):
        for name in names:
            if name.endswith(".html"):
                path = os.path.join(folder, name)
                page = Page()
                with open(path, encoding="utf-8") as file:
                    page.feed(file.read())
                pages[os.path.normpath(path)] = page
    return pages


def check(out):
    """What is wrong in the site, one sentence each, and the number of links that were checked."""
    pages = read_pages(out)
    wrong, count = [], 0
    for path, page in sorted(pages.items()):
        # mdBook's page for missing addresses has a base of its own.
        if os.path.basename(path) in ("404.html", "toc.html"):
            continue
        name = os.path.relpath(path, out)
        wrong += [f"{name} loads {link}" for link in page.loads if "://" in link or link.startswith("//")]
        for link in page.links + page.loads:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            count += 1
            there = os.path.join(os.path.dirname(path), urllib.parse.unquote(url.path)) if url.path else path
            there = os.path.normpath(there)
            if os.path.isdir(there):
                there = os.path.join(there, "index.html")
            anchor = urllib.parse.unquote(url.fragment)
            if not os.path.isfile(there):
                wrong.append(f"{name}: no file for {link}")
            elif anchor and there in pages and anchor not in pages[there].ids:
                wrong.append(f"{name}: no anchor for {link}")
    return wrong, count


def main():
    arguments = sys.argv[1:]
    report = None
    if "--report" in arguments:
        at = arguments.index("--report")
        report = arguments[at + 1]
        del arguments[at:at + 2]
    mdbook, out = arguments
    folder = f"{os.path.abspath(out)}-src"
    for old in (folder, out):
        shutil.rmtree(old, ignore_errors=True)
    Site(folder).build(mdbook, out, report)
    wrong, count = check(out)
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{count} links of {out} checked, {len(wrong)} broken")
    return 1 if wrong or count < 500 else 0


if __name__ == "__main__":
    sys.exit(main())
