import json

import pytest

from ifn_plugin.analysis.logs import read_log


@pytest.mark.parametrize('folders', [('1', '2'), ('', '')], ids=['two files', 'one file'])
def test_a_restarted_training_replaces_the_entries_of_the_former(tmp_path, folders):
    for name, iterations, loss in zip(folders, (range(100, 500, 100), range(100, 300, 100)), (9, 1)):
        path = tmp_path / name / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [line for iteration in iterations
                 for line in (dict(loss=loss, iter=iteration, step=iteration), dict(F1=10 * loss, step=iteration))]
        with path.open('a') as file:
            file.writelines(f'{json.dumps(line)}\n' for line in lines)
    found = read_log(tmp_path)
    assert [(entry['iter'], entry['loss']) for entry in found if 'loss' in entry] == [(100, 1), (200, 1)]
    assert [(entry['step'], entry['F1']) for entry in found if 'F1' in entry] == [(100, 10), (200, 10)]


def test_a_single_prefix_is_removed_from_scores(tmp_path):
    path = tmp_path / '1' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    lines = [{'loss': 1, 'iter': 2, 'step': 2}, {'change/F1': 50., 'change/AP': 60., 'mIoU': 70., 'step': 2},
             {'one/F1': 50., 'two/F1': 60., 'step': 4}]
    path.write_text('\n'.join(map(json.dumps, lines)))
    validated = read_log(tmp_path)[1]
    assert (validated['F1'], validated['AP'], validated['mIoU']) == (50, 60, 70)
    assert 'F1' not in read_log(tmp_path)[2]


def test_a_truncated_line_is_skipped(tmp_path):
    path = tmp_path / 'vis_data' / 'scalars.json'
    path.parent.mkdir()
    path.write_text('{"loss": 1, "iter": 1}\n{"loss": 1, "it')
    assert read_log(tmp_path) == [dict(loss=1, iter=1)]
