"""Builds the site into build/site from the pages as they stand in the repository: `just docs`.

The pages link to each other, to tests and to code by paths of the repository. So they are copied to build/pages first, each link with its
new path; a file that is no page of ours becomes one that shows it. Zensical builds from there, and refuses links that lead nowhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from os.path import normpath, relpath
from pathlib import Path

import msgspec

from docs import _pages

ROOT = _pages.ROOT
BUILD = ROOT / "build"
SETTINGS = ROOT / "docs" / "zensical.toml"
CODE = re.compile(r"^(`{3,}).*?^\1$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
PICTURES = {".svg", ".png"}
HIDDEN = "---\nsearch:\n  exclude: true\n---\n\n"


def place(file: str) -> str:
    """Where a file or folder of the repository stands in the site."""
    path = Path(file)
    if path.parts[0] == "docs":
        path = Path(*path.parts[1:])
    elif len(path.parts) > 1 or path.suffix != ".md":
        path = "files" / path
    if (ROOT / file).is_dir() or path.name == "README.md":
        return str((path if (ROOT / file).is_dir() else path.parent) / "index.md")
    return str(path if path.suffix in {".md", *PICTURES} else path.with_name(f"{path.name}.md"))


def source(file: str) -> str:
    """The Markdown of a file: a page as it is, a folder as a list of its files, any other file as code."""
    path = ROOT / file
    if path.is_dir():
        names = sorted(each.name for each in path.iterdir() if each.is_file() and each.name[0] not in "._")
        return f"{HIDDEN}# {file}\n\n" + "".join(f"- [{name}]({name})\n" for name in names)
    if path.suffix == ".md":
        return path.read_text()
    return f"{HIDDEN}# {file}\n\n`````{path.suffix[1:]}\n{path.read_text()}`````\n"


class Copy:
    """All pages, and what they link to."""

    def __init__(self, pages: Path) -> None:
        self._pages = pages
        self._waiting = [page.file for pages in _pages.SECTIONS.values() for page in pages]
        self._done: set[str] = set()

    def run(self) -> None:
        """Write them from nothing."""
        shutil.rmtree(self._pages, ignore_errors=True)
        while self._waiting:
            file = self._waiting.pop()
            if file in self._done:
                continue
            self._done.add(file)
            target = self._pages / place(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix in PICTURES:
                shutil.copy(ROOT / file, target)
            else:
                target.write_text(self.moved(file, source(file)))

    def moved(self, file: str, text: str) -> str:
        """The text with its links as they are in the site; links inside code are none."""
        parts, position = [], 0
        for code in [*CODE.finditer(text), None]:
            end = code.start() if code else len(text)
            parts += [
                LINK.sub(lambda link: self._link(file, link[1]), text[position:end]),
                code[0] if code else "",
            ]
            position = code.end() if code else end
        return "".join(parts)

    def _link(self, file: str, link: str) -> str:
        if ":" in link:
            return link
        folder = file if (ROOT / file).is_dir() else str(Path(file).parent)
        target = normpath(f"{folder}/{link}")
        self._waiting.append(target)
        return relpath(place(target), Path(place(file)).parent)


def navigation() -> str:
    """The list of pages, as a line of the settings."""
    sections = (
        f"{{ {quoted(section)} = [{', '.join(map(entry, pages))}] }}"
        for section, pages in _pages.SECTIONS.items()
    )
    return f"nav = [{', '.join(sections)}]"


def entry(page: _pages.Page) -> str:
    """One page in it."""
    return f"{{ {quoted(page.title.replace('`', ''))} = {quoted(place(page.file))} }}"


def quoted(text: str) -> str:
    """As TOML writes it."""
    return msgspec.json.encode(text).decode()


def build(folder: Path = BUILD) -> int:
    """Build `site` in a folder; 1 where a link leads nowhere."""
    pages, site = folder / "pages", folder / "site"
    Copy(pages).run()
    settings = folder / "zensical.toml"
    settings.write_text(SETTINGS.read_text().replace("nav = []", navigation()))
    shutil.rmtree(site, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "zensical",
        "build",
        "--strict",
        "--clean",
        "--config-file",
        str(settings),
    ]
    built = subprocess.run(command, cwd=folder, check=False).returncode
    if built == 0:
        for page in pages.rglob("*.md"):  # for programs that read documentation
            shutil.copy(page, site / page.relative_to(pages))
        (site / "llms.txt").write_text(LINK.sub(lambda link: place(link[1]), _pages.llms()))
    return built


if __name__ == "__main__":
    sys.exit(build())
