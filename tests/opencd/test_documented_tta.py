"""Each configuration that the documents show for open-cd gives a sound map with ``--tta``, in open-cd's own script."""

import re
from pathlib import Path

import pytest
import torch
from documentation import DOCUMENTS, REPOSITORY, blocks

opencd = pytest.importorskip('opencd', reason='open-cd is not installed')

OPENCD = Path(opencd.__file__).parents[1]
if not (OPENCD / 'tools').is_dir():
    pytest.skip('open-cd is installed without its scripts', allow_module_level=True)
FLAGSHIP = 'ifn_256x256_40k_levircd.py'
# in English; the Chinese pages have the same code
SHOWN = [block for path in DOCUMENTS for block in blocks(path) if 'zh' not in str(path.relative_to(REPOSITORY)) and (
    (block.kind == 'diff' and FLAGSHIP in block.text) or
    (block.kind == 'python' and re.search(rf"_base_ = .*('\.\./common/|[/']{FLAGSHIP}')", block.text)))]


def test_documents_show_a_diff_a_complete_file_and_a_derived_one():
    assert {block.kind for block in SHOWN} == {'diff', 'python'} and len(SHOWN) >= 3


def as_file(block):
    """The configuration as it is shown, in a folder of its own: a diff changes open-cd's file of its name."""
    text = block.text
    if block.kind == 'diff':
        added = [line[1:] for line in text.splitlines() if line.startswith('+') and not line.startswith('+++')]
        text = (OPENCD / 'configs' / 'ifn' / FLAGSHIP).read_text() + '\n'.join(added)
    for folder, root in (('common', OPENCD), ('_base_', OPENCD), ('ifn', REPOSITORY)):
        text = text.replace(f"'../{folder}/", f"'{root}/configs/{folder}/")
    return text


@pytest.mark.parametrize('block', SHOWN, ids=[block.place for block in SHOWN])
def test_map_is_that_of_the_merged_probabilities(block, checkpoint, python, options, tmp_path):
    text = as_file(block)
    (tmp_path / 'own.py').write_text(text)
    state = torch.load(checkpoint)['state_dict']
    if 'threshold=0.5' in text:  # half of a noisy image is changed at this one
        state['decode_head.levels.4.logit.bias'] -= torch.tensor(0.3).logit()
    torch.save(dict(state_dict=state), tmp_path / 'weights.pth')
    shares = []
    for more in ([], ['--tta']):
        output = python(OPENCD / 'tools' / 'test.py', tmp_path / 'own.py', tmp_path / 'weights.pth', *more,
                        '--work-dir', tmp_path / 'run', '--cfg-options', *options, 'test_dataloader.dataset.indices=1')
        # overall accuracy, by the plugin's metric or by mmseg's
        shares.append(float(re.findall(r' (?:OA|aAcc): ([\d.]+)', output)[-1]))
        assert 'every pixel is called changed' not in output and 'does not follow' not in output
    assert 0 < shares[1] < 100 and shares[1] == pytest.approx(shares[0], abs=20)
