"""What a package carries: the program, its unit, its manual page, its completion."""
import re
import shutil
import subprocess

import pytest

from elacsym import REPOSITORY

PACKAGING = REPOSITORY / "packaging"


def run(*command, **more):
    return subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True, timeout=120, **more)


@pytest.fixture(scope="module")
def options():
    """Every option and command that --help names."""
    text = run(REPOSITORY / "build/release/elacsym", "--help").stdout
    found = set(re.findall(r"--[a-z-]+", text)) | set(re.findall(r"elacsym (verify|dump)", text))
    assert len(found) >= 7
    return found


def test_the_package_holds_what_it_should(tmp_path):
    made = run("tools/make_deb.sh")
    assert made.returncode == 0, made.stderr
    deb = made.stdout.strip()
    names = run("dpkg-deb", "-c", deb).stdout
    for path in ("/usr/bin/elacsym", "/lib/systemd/system/elacsym.service", "/usr/share/man/man1/elacsym.1.gz",
                 "/usr/share/bash-completion/completions/elacsym", "/usr/share/doc/elacsym/docs/operations.md"):
        assert path in names
    assert "libc6 (>=" in run("dpkg-deb", "-f", deb, "Depends").stdout
    assert run("dpkg-deb", "-x", deb, str(tmp_path)).returncode == 0
    assert run(tmp_path / "usr/bin/elacsym", "--version").stdout.startswith("elacsym ")


def test_the_manual_page_names_every_option(options):
    page = (PACKAGING / "elacsym.1").read_text().replace("\\-", "-")
    assert {option for option in options if option not in page} == set()


def test_the_completion_offers_every_option(options):
    text = (PACKAGING / "elacsym.bash").read_text()
    assert {option for option in options if option not in text} == set()


def test_the_completion_completes():
    script = f'source {PACKAGING}/elacsym.bash; COMP_WORDS=(elacsym verify --n); COMP_CWORD=2; _elacsym; echo "${{COMPREPLY[@]}}"'
    assert run("bash", "-c", script).stdout.strip() == "--namespace"


def test_the_manual_page_is_without_faults():
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    result = run("man", "--warnings", "-l", str(PACKAGING / "elacsym.1"), env={"MANWIDTH": "100", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    assert result.returncode == 0 and result.stderr == ""


def test_systemd_takes_every_line_of_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "elacsym.service"
    program = REPOSITORY / "build/release/elacsym"
    unit.write_text((PACKAGING / "elacsym.service").read_text().replace("/usr/bin/elacsym", str(program)).replace("man:elacsym(1)", "https://example.com"))
    result = run("systemd-analyze", "verify", "--man=no", str(unit))
    assert "elacsym.service" not in result.stderr, result.stderr
