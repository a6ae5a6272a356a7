"""The network against reference outputs of the official implementation and of open-cd's, float64."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ifn_plugin.models import IFN, IFNHead
from ifn_plugin.models.conversion import convert_state_dict


class Case:
    """A reference: its outputs, and the plugin's network with the same weights and input."""

    def __init__(self, reference):
        self.outputs, self.state_dict, images = reference
        self.detector = torch.nn.ModuleDict(dict(backbone=IFN(init_cfg=None), decode_head=IFNHead())).double()
        self.detector.load_state_dict(convert_state_dict(self.state_dict))
        self.t1, self.t2, self.label = (torch.from_numpy(array) for array in images)

    def samples(self):
        return [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in self.label]


@pytest.fixture(params=['opencd_ifn', 'official_dsifn'])
def case(request, golden):
    return Case(golden(request.param))


def test_five_outputs(case):
    backbone, head = case.detector['backbone'], case.detector['decode_head'].eval()
    with torch.no_grad():
        logits = head(backbone(case.t1, case.t2))
    official = 'official' in str(case.outputs.zip.filename)
    for number, logit in enumerate(logits, 1):
        output = logit.sigmoid() if official else logit
        torch.testing.assert_close(output, torch.from_numpy(case.outputs[f'eval_{number}']), rtol=0, atol=1e-8)


@pytest.mark.parametrize('avg_non_ignore, suffix', [(True, ''), (False, '_all')])
def test_losses(golden, avg_non_ignore, suffix):
    case = Case(golden('opencd_ifn'))
    head = IFNHead(loss_decode=dict(
        type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=avg_non_ignore)).double()
    head.load_state_dict(case.detector['decode_head'].state_dict())
    losses = head.loss(case.detector['backbone'](case.t1, case.t2), case.samples(), {})
    for number in range(1, 6):
        reference = float(case.outputs[f'loss_{number}{suffix}'])
        assert losses[f'level{number}.loss_ce'].item() == pytest.approx(reference, rel=1e-6)


def test_gradient_norms(golden):
    case = Case(golden('opencd_ifn'))
    backbone, head = case.detector['backbone'], case.detector['decode_head']
    losses = head.loss(backbone(case.t1, case.t2), case.samples(), {})
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    norms = {f'decode_head.{key}': parameter.grad.norm() for key, parameter in head.named_parameters()}
    references = {key[9:]: case.outputs[key] for key in case.outputs.files if key.startswith('gradnorm/')}
    # the reference's names become the plugin's along with the tensors
    marked = {key: torch.full_like(value, float(references.get(key, 0))) for key, value in case.state_dict.items()}
    expected = {key: value.flatten()[0] for key, value in convert_state_dict(marked).items()}
    assert len(norms) == 111
    for key, norm in norms.items():
        assert expected[key] > 0
        torch.testing.assert_close(norm, expected[key], rtol=1e-6, atol=0)
    assert all(parameter.grad is None for parameter in backbone.parameters())
