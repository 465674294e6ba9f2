"""What the README and the docstrings show is run, as written."""

import doctest
import inspect
import os
import re
import subprocess
import sys
import textwrap

import pytest

from tests.conftest import PACKAGES, ROOT

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
# torch's own first use of forward mode compiles its decompositions by torch.jit.script, which it has deprecated
OF_TORCH = "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def public_objects():
    for package in PACKAGES:
        module = __import__(package)
        for name in module.__all__:
            yield pytest.param(module, name, id=f"{package}.{name}")


@pytest.mark.parametrize("module,name", list(public_objects()))
def test_a_public_name_is_documented(module, name):
    """One sentence at least; a callable that takes arguments also names them, and a function shows an example."""
    thing = getattr(module, name)
    if inspect.ismodule(thing) or inspect.isclass(thing) or inspect.isroutine(thing):
        text = inspect.getdoc(thing)
        assert text, f"{module.__name__}.{name} has no docstring"
        assert text.splitlines()[0].rstrip().endswith((".", ":")), (
            f"first line is no sentence: {text.splitlines()[0]!r}"
        )
    if inspect.isfunction(thing):
        assert ">>>" in text, f"{module.__name__}.{name} shows no example"
        named = {n for n, p in inspect.signature(thing).parameters.items() if p.kind not in (p.VAR_KEYWORD,)}
        missing = {n for n in named if not re.search(rf"\b{re.escape(n)}\b", text)}
        assert not missing, f"{module.__name__}.{name} does not say what {sorted(missing)} is"


@pytest.mark.parametrize("module,name", [p for p in public_objects() if callable(getattr(*p.values))])
def test_docstring_examples_run(module, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    thing = getattr(module, name)
    home = sys.modules[thing.__module__]
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    output = []
    for test in finder.find(thing, name, module=home, extraglobs={}):
        runner.run(test, out=output.append)
    assert runner.failures == 0, "".join(output)


def readme_blocks():
    text = (ROOT / "README.md").read_text()
    for number, match in enumerate(BLOCK.finditer(text), 1):
        line = text[: match.start()].count("\n") + 2
        yield pytest.param(line, match.group(1), id=f"README-block-{number}")


@pytest.mark.parametrize("line,code", list(readme_blocks()))
def test_readme_examples_run(line, code, tmp_path):
    """Each block runs by itself in a fresh process with warnings as errors, and prints what its comments claim."""
    if ">>>" in code:
        script = textwrap.dedent(
            f"""
            import doctest, sys
            test = doctest.DocTestParser().get_doctest({code!r}, {{}}, "README", "README.md", {line})
            runner = doctest.DocTestRunner(optionflags={FLAGS})
            runner.run(test)
            sys.exit(bool(runner.failures))
            """
        )
    else:
        script = code
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", OF_TORCH, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"README.md line {line}\n{done.stdout}\n{done.stderr}"


def pages():
    for path in sorted((ROOT / "docs" / "pages").rglob("*.md")):
        code = [match.group(1) for match in BLOCK.finditer(path.read_text())]
        if code:
            yield pytest.param("\n".join(code), id=path.relative_to(ROOT / "docs" / "pages").as_posix())


@pytest.mark.parametrize("code", list(pages()))
def test_manual_examples_run(code, tmp_path):
    """The blocks of a page run one after another in a fresh process, and print what they claim."""
    script = f"""
import doctest, sys
test = doctest.DocTestParser().get_doctest({code!r}, {{}}, "page", "page", 0)
runner = doctest.DocTestRunner(optionflags={FLAGS})
runner.run(test)
sys.exit(bool(runner.failures))
"""
    assert ">>>" in code, "write examples with >>> so that what they print is checked"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", OF_TORCH, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_manual_names_each_page_and_each_picture_exists(monkeypatch):
    """A page that the table of contents forgets, or a picture that nothing draws, would be noticed by readers first."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from pictures import pictures

    contents = (ROOT / "docs" / "mkdocs.yml").read_text()
    drawn, used = {name for name, _ in pictures()}, set()
    for path in (ROOT / "docs" / "pages").rglob("*.md"):
        assert path.relative_to(ROOT / "docs" / "pages").as_posix() in contents, f"{path.name} is not in mkdocs.yml"
        used |= set(re.findall(r"pictures/(\w+)\.svg", path.read_text()))
    assert used == drawn


def test_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert "make tour" in text
    assert "make test" in text


def test_versions_agree():
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for package in PACKAGES:
        assert __import__(package).__version__ == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
