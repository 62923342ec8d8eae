"""The Python in README.md runs as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.slow
def test_the_lines_of_python_run_as_they_are_written(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "lines.py").write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, "lines.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "additive against RandomForestClassifier, n = 300" in done.stdout
    assert re.match(r"(PASS|REVIEW|FAIL)  ", done.stdout)


def test_the_lines_of_python_are_ten_and_name_what_exists() -> None:
    import distillens

    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    compile(code, "README.md", "exec")
    statements = [line for line in code.splitlines() if line and not line.startswith((" ", "import", "from"))]
    assert len(statements) <= 10
    for name in re.findall(r"distillens\.(\w+)", code):
        assert hasattr(distillens, name)
