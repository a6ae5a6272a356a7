"""The notebook, executed as a reader would, with less data and fewer iterations."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

nbformat = pytest.importorskip('nbformat', reason='nbformat is not installed: pip install ifn_plugin[dev]')
nbclient = pytest.importorskip('nbclient', reason='nbclient is not installed: pip install ifn_plugin[dev]')
for name in ('ipykernel', 'matplotlib', 'onnxscript', 'onnxruntime'):
    pytest.importorskip(name, reason=f'{name} is not installed: pip install ifn_plugin[dev,export]')

NOTEBOOK = Path(__file__).parents[1] / 'docs' / 'tour.ipynb'


def pictures(cells):
    return sum(output.output_type == 'display_data' for cell in cells for output in cell.outputs)


def replace(cell, old, new):
    assert old in cell.source
    cell.source = cell.source.replace(old, new)


def test_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert pictures(code) == 5, 'the notebook was saved without its outputs'
    replace(code[0], 'max_iters = 240', 'max_iters = 4')
    replace(code[0], 'tempfile.mkdtemp()', f'{str(tmp_path)!r}')
    replace(code[1], 'dict(train=96, val=4, test=16)', 'dict(train=4, val=1, test=2)')
    nbclient.NotebookClient(notebook, timeout=300, resources=dict(metadata=dict(path=str(tmp_path)))).execute()
    outputs = [''.join(output.get('text', '') for output in cell.outputs) for cell in code]
    printed = '\n'.join(outputs)
    assert 'F1' in printed and 'ONNX Runtime and the detector differ by' in printed
    assert pictures(code) == 5
    assert (tmp_path / 'ifn.onnx').stat().st_size > 100 * 2**20
