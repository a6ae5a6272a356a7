"""Tests that need a GPU."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ifn_plugin.analysis.gpu_check.scale import Scale

ROOT = Path(__file__).resolve().parents[3]


def run_tests(scale: Scale, out: Path, root: Path = ROOT) -> Iterator[dict[str, Any]]:
    """Run the tests marked ``cuda``.

    Args:
        scale: Not used.
        out: Not used.
        root: Folder of the package and the tests.

    Yields:
        pytest's last line.

    Raises:
        RuntimeError: If a test fails.
    """
    # only files with such a test: others import packages that a machine with a GPU may lack
    files = [path for path in sorted((root / 'tests').rglob('test_*.py'))
             if '.mark.cuda' in path.read_text(encoding='utf-8')]
    if not files or find_spec('pytest') is None:
        yield dict(line=f'left out: {"pytest is not installed" if files else f"no tests in {root}"}')
        return
    process = subprocess.run([sys.executable, '-m', 'pytest', '-m', 'cuda', '-q', '-p', 'no:cacheprovider', *files],
                             cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    last = process.stdout.strip().rpartition('\n')[2]
    yield dict(line=last, output=process.stdout)
    if process.returncode != 0:
        print(process.stdout, flush=True)
        raise RuntimeError(f'pytest ended with exit code {process.returncode}: {last}')
