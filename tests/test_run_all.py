"""run_all.sh's checks of the machine, each on a PATH that holds only what the case allows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ["bash", "dirname", "cat", "cksum", "df", "awk", "id", "uname"]


@pytest.fixture
def machine(tmp_path):
    """A copy of the script beside a requirements file, and a PATH of TOOLS and a fake, working python3."""
    for name in ("run_all.sh", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    command(tmp_path / "bin", "python3", FAKE_PYTHON)
    return tmp_path


# Passes the version and libusb checks; `-m venv` makes a venv whose python writes down what it is asked to do.
FAKE_PYTHON = """
case "$1$2" in
    -mvenv) mkdir() { PATH=/bin:/usr/bin command mkdir "$@"; }; mkdir -p "$3/bin"
            printf '#!%s\\necho "$@" >>"%s/asked"\\n' "$(command -v bash)" "${0%/bin/*}" >"$3/bin/python"
            PATH=/bin:/usr/bin command chmod +x "$3/bin/python" ;;
esac
exit 0
"""


def command(folder, name, body):
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f"#!{shutil.which('bash')}\n{body}\n")
    (folder / name).chmod(0o755)


def run(machine, *arguments, **variables):
    environment = {"PATH": str(machine / "bin"), "HOME": str(machine), **variables}
    return subprocess.run(
        [machine / "run_all.sh", *arguments], env=environment, capture_output=True, text=True, cwd=machine, timeout=60
    )


def asked(machine):
    path = machine / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_first_use_installs_and_later_use_starts_at_once(machine):
    first = run(machine, "01", "-p", "n", "3")
    assert first.returncode == 0, first.stderr
    assert [line.split()[:3] for line in asked(machine)[:2]] == [["-m", "pip", "install"]] * 2
    assert asked(machine)[2] == "-m lib.runner 01 -p n 3"
    assert run(machine).returncode == 0
    assert asked(machine)[3:] == ["-m lib.runner"]


def test_changed_requirements_are_installed_again(machine):
    run(machine)
    (machine / "requirements.txt").write_text("numpy==2.4.6\n")
    run(machine)
    assert sum("pip install" in line for line in asked(machine)) == 4


def test_an_interrupted_installation_is_taken_up_again(machine):
    run(machine)
    venv_python = machine / ".venv/bin/python"
    (machine / ".venv/.judging-to-improve").unlink()
    works = venv_python.read_text()
    venv_python.write_text(works + "exit 1\n")
    command(machine / "bin", "python3", "exit 0")
    assert run(machine).returncode == 1
    assert not (machine / ".venv/.judging-to-improve").exists()
    venv_python.write_text(works)
    assert run(machine).returncode == 0


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("python3", 'case "$1" in --version) echo Python 3.9.2 ;; esac; exit 1', "found: Python 3.9.2"),
        ("df", "printf 'head\\n/dev 9 9 700 9%% /\\n'", "found 700 MB"),
        ("python3", 'case "$2" in *usb*) exit 1 ;; esac', "libusb-1.0"),
    ],
)
def test_a_machine_that_cannot_carry_it_is_told_before_anything_is_installed(machine, name, body, said):
    command(machine / "bin", "id", "echo 1000")
    command(machine / "bin", name, body)
    result = run(machine)
    assert result.returncode == 1
    assert said in result.stderr
    assert not (machine / ".venv").exists()


def test_root_on_debian_gets_libusb_installed(machine):
    command(machine / "bin", "id", "echo 0")
    command(machine / "bin", "apt-get", f': >"{machine}/usb-$1"')
    command(
        machine / "bin",
        "python3",
        f'case "$2" in *usb*) [ -e "{machine}/usb-install" ]; exit ;; esac' + FAKE_PYTHON,
    )
    result = run(machine)
    assert result.returncode == 0, result.stderr
    assert (machine / "usb-update").exists()


def test_a_conda_environment_of_ours_is_used_instead_of_venv(machine):
    conda = machine / "conda"
    run(machine)
    shutil.move(machine / ".venv", conda)
    (conda / ".judging-to-improve").unlink()
    assert run(machine, CONDA_PREFIX=str(conda)).returncode == 0
    assert (machine / ".venv").exists(), "a conda environment without our packages is left alone"
    shutil.rmtree(machine / ".venv")
    for package in ("papermill-2.7.0", "open3d-0.20.0"):
        (conda / f"lib/python3.11/site-packages/{package}.dist-info").mkdir(parents=True)
    assert run(machine, CONDA_PREFIX=str(conda)).returncode == 0
    assert not (machine / ".venv").exists()


def test_test_and_lab_call_pytest_and_jupyter(machine):
    run(machine, "test", "-k", "x")
    run(machine, "lab", "--no-browser")
    assert asked(machine)[2:] == ["-m pytest -k x", f"-m jupyter lab {machine}/notebooks --no-browser"]


def test_the_real_script_starts_within_two_seconds_once_set_up():
    if not (ROOT / ".venv/.judging-to-improve").exists():
        pytest.skip("this checkout runs in another environment than its .venv")
    environment = {key: value for key, value in os.environ.items() if key != "CONDA_PREFIX"}
    times = []
    for _ in range(3):
        before = os.times().elapsed
        said = subprocess.run([ROOT / "run_all.sh", "99"], env=environment, capture_output=True, text=True)
        times.append(os.times().elapsed - before)
        assert said.returncode == 1
        assert "there is none called '99'" in said.stderr
    assert min(times) < 2


def test_requirements_pin_what_is_installed():
    from importlib.metadata import version

    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert "torch==2.13.0" in lines
    assert not any(line.startswith("torchvision") for line in lines)
    for name, pinned in (line.split("==") for line in lines):
        assert version(name).split("+")[0] == pinned, name
    assert sys.version_info[:2] >= (3, 11)
