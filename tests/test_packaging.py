"""What strangers get is whole: links lead somewhere, the sdist takes all files along, CI runs what is promised."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import REPO

PAGES = sorted([*REPO.glob("*.md"), *REPO.glob("docs/**/*.md"), *REPO.glob("examples/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
PYPROJECT: dict[str, Any] = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
HOME = PYPROJECT["project"]["urls"]["Source"]


def text_of(page: Path) -> str:
    """A page without its fenced blocks: what looks like a link in there is none."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(link: str, page: Path) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors_of(target))


def on_pypi(markdown: str) -> str:
    """README.md as the build rewrites it."""
    for substitution in PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        markdown = re.sub(substitution["pattern"], substitution["replacement"], markdown)
    return markdown


class TestLinks:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
    def test_every_relative_link_leads_to_a_file_and_a_heading(self, page: Path) -> None:
        links = [link for link in LINK.findall(text_of(page)) if not re.match(r"https?:|mailto:", link)]
        assert [link for link in links if not leads_somewhere(link, page)] == []

    def test_readme_shows_and_links_something(self) -> None:
        links = LINK.findall(text_of(REPO / "README.md"))
        assert {"CONTRIBUTING.md", "docs/images/with_ref.jpg", "docs/native.md#on-a-gpu"} <= set(links)

    def test_readme_says_what_each_extra_is_for(self) -> None:
        extras = set(PYPROJECT["project"]["optional-dependencies"]) - {"dev"}
        table = (
            (REPO / "README.md")
            .read_text(encoding="utf-8")
            .partition("| `pip install '.[…]'` |")[2]
            .partition("\n\n")[0]
        )
        assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == extras

    def test_on_pypi_every_link_of_the_readme_leads_to_the_projects_home(self) -> None:
        readme = (REPO / "README.md").read_text(encoding="utf-8")
        before, after = LINK.findall(readme), LINK.findall(on_pypi(readme))
        pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme)
        expected = [f"{HOME}/{'raw' if link in pictures else 'blob'}/main/{link}" for link in before]
        assert pictures
        assert after == expected

    def test_links_elsewhere_and_inside_the_page_stay(self) -> None:
        text = "[a](https://example.org/x) [b](#set-up) ![c](https://example.org/c.png)"
        assert on_pypi(text) == text

    def test_all_addresses_of_the_project_have_one_home(self) -> None:
        urls = PYPROJECT["project"]["urls"]
        assert set(urls) == {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
        assert all(url == HOME or url.startswith(f"{HOME}/") for url in urls.values())


class TestSdist:
    included = tuple(PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])

    def holds(self, path: str) -> bool:
        """Whether the sdist takes a file of the repo along."""
        return f"/{path.partition('/')[0]}" in self.included

    def test_every_entry_is_a_file_or_folder(self) -> None:
        assert [entry for entry in self.included if not (REPO / entry.lstrip("/")).exists()] == []

    def test_it_holds_all_that_git_tracks(self) -> None:
        if not (REPO / ".git").exists() or shutil.which("git") is None:
            pytest.skip("no clone, or no git")
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=True, text=True)
        tracked = listed.stdout.rstrip("\0").split("\0")
        assert "pyproject.toml" in tracked
        assert [path for path in tracked if not self.holds(path)] == []

    def test_it_holds_what_the_makefile_and_the_settings_name(self) -> None:
        """So that checks, tests and a wheel come from an unpacked sdist too, where no git says what is missing."""
        makefile = (REPO / "Makefile").read_text(encoding="utf-8")
        tool = PYPROJECT["tool"]
        wheel = tool["hatch"]["build"]["targets"]["wheel"]
        named = {
            *(word for word in re.findall(r"[\w./]+", makefile) if (REPO / word).is_file()),
            *tool["mypy"]["files"],
            *tool["pytest"]["ini_options"]["testpaths"],
            *wheel["packages"],
            *wheel["force-include"],
            tool["hatch"]["version"]["path"],
        }
        assert {"constraints.txt", "pyproject.toml", "tests", "benchmarks"} <= named
        assert [path for path in sorted(named) if not ((REPO / path).exists() and self.holds(path))] == []


class TestWheel:
    def test_types_are_marked_as_typed(self) -> None:
        assert (REPO / "src" / "soundreel" / "py.typed").is_file()


class TestAutomation:
    @pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
    def test_every_make_target_that_a_page_names_is_there(self, page: str) -> None:
        text = (REPO / page).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|^)make (?:[A-Z]+=\S+ )*([a-z-]+)", text, re.MULTILINE))
        makefile = (REPO / "Makefile").read_text(encoding="utf-8")
        assert {"check", "test", "demo"} & named
        assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))

    def test_make_says_what_takes_long(self, tmp_path: Path) -> None:
        """Before it: pip is quiet, and takes from half a minute to some minutes."""
        if shutil.which("make") is None:
            pytest.skip("there is no make")
        words = ["make", "--dry-run", f"VENV={tmp_path / 'venv'}", "test"]
        lines = subprocess.run(words, cwd=REPO, capture_output=True, check=True, text=True).stdout.splitlines()
        takes_long = [" pip install " in line for line in lines]
        said = [line for line, is_next in zip(lines, takes_long[1:], strict=False) if is_next and " pip " not in line]
        assert [line.startswith('echo "installing ') for line in said] == [True, True]

    def test_ci_runs_every_python_that_is_promised(self) -> None:
        workflow = yaml.safe_load((REPO / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
        (job,) = workflow["jobs"].values()
        promised = [
            name.rpartition(" ")[2] for name in PYPROJECT["project"]["classifiers"] if ":: Python :: 3." in name
        ]
        assert job["strategy"]["matrix"]["python"] == promised
        assert ".ci/run" in [step.get("run") for step in job["steps"]]

    def test_hooks_before_a_commit_are_those_of_make_check(self) -> None:
        makefile = (REPO / "Makefile").read_text(encoding="utf-8")
        rule = re.search(r"^check:.*\n((?:\t.+\n)+)", makefile, re.MULTILINE)
        assert rule is not None
        checks = [line.removeprefix("\t$(BIN)/").removesuffix(" .") for line in rule[1].splitlines()]
        config = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
        hooks = [hook["entry"].removesuffix(" --force-exclude") for repo in config["repos"] for hook in repo["hooks"]]
        assert hooks == [f".venv/bin/{check}" for check in checks]
