"""Conversion of checkpoints through the command line."""

import pytest
import torch
from mmengine.registry import MODELS

from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.models import IFN
from ifn_plugin.tools.convert_checkpoint import main

WRAPS = {
    'bare': lambda weights: weights,
    'open-cd': lambda weights: dict(
        state_dict={f'backbone.{key}': value for key, value in weights.items()}
        | {'data_preprocessor.mean': torch.zeros(6, 1, 1)}, meta=dict(iter=1), optimizer={}),
    'cdlab': lambda weights: dict(epoch=1, state_dict=weights, max_acc=(0.5, 1), optimizer={}),
    'parallel': lambda weights: dict(state_dict={f'module.{key}': value for key, value in weights.items()}),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', ['opencd_ifn', 'official_dsifn'])
def test_converting_there_and_back_loses_no_tensor(golden, tmp_path, capsys, name):
    outputs, weights, (date1, date2, _) = golden(name)
    source, ours, back = (tmp_path / file for file in ('source.pth', 'ours.pth', 'back.pth'))
    torch.save(weights, source)
    main([str(source), str(ours)])
    said = capsys.readouterr().out
    assert ("open-cd's IFN" if name == 'opencd_ifn' else 'the official DSIFN') in said
    assert '194 tensors' in said and 'bn_ca2.running_var' in said
    content = load_checkpoint_file(ours)
    encoder = IFN(init_cfg=None).double()
    encoder.init_cfg = dict(type='Pretrained', checkpoint=str(ours))
    encoder.init_weights()
    detector = torch.nn.ModuleDict(
        dict(backbone=encoder, decode_head=MODELS.build(dict(type='ifn_plugin.IFNHead')).double())).eval()
    detector.load_state_dict(content['state_dict'])
    with torch.no_grad():
        logit = detector.decode_head(detector.backbone(torch.from_numpy(date1), torch.from_numpy(date2)))[-1]
    expected = torch.from_numpy(outputs['eval_5'])
    torch.testing.assert_close(logit if name == 'opencd_ifn' else logit.sigmoid(), expected, rtol=0, atol=1e-8)

    main([str(ours), str(back), '--to', 'opencd'])
    returned = load_checkpoint_file(back)['state_dict']
    assert len(returned) == 232 and returned.keys() == {f'backbone.{key}' for key in golden('opencd_ifn')[1]}
    if name == 'opencd_ifn':
        assert all(torch.equal(returned[f'backbone.{key}'], value) for key, value in weights.items())
    # every tensor of the source is there, whatever it is called
    left = {value.numpy().tobytes() for value in weights.values()} - {x.numpy().tobytes() for x in returned.values()}
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize('name', ['opencd_ifn', 'official_dsifn'])
def test_weights_in_any_container_are_converted_alike(golden, tmp_path, capsys, name):
    """The file is that of bare weights, with what the network does not use, so all that follows from it holds."""
    weights = golden(name)[1]
    expected = None
    for wrap, contain in WRAPS.items():
        source, ours = tmp_path / f'{wrap}.pth', tmp_path / f'{wrap} here.pth'
        torch.save(contain(weights), source)
        main([str(source), str(ours)])
        said = capsys.readouterr().out
        assert ("open-cd's IFN" if name == 'opencd_ifn' else 'the official DSIFN') in said
        assert '194 tensors' in said and 'bn_ca2.running_var' in said
        assert ('optimizer' in said) == (wrap in ('open-cd', 'cdlab'))
        content = load_checkpoint_file(ours)
        expected = expected or content
        assert content.keys() == expected.keys() == {'state_dict', 'unused'}
        for kind, tensors in content.items():
            assert tensors.keys() == expected[kind].keys()
            assert all(torch.equal(tensors[key], value) for key, value in expected[kind].items())


def test_conversion_to_opencd_adds_its_unused_layers(tmp_path, golden):
    _, weights, _ = golden('opencd_ifn')
    torch.save(weights, tmp_path / 'source.pth')
    main([str(tmp_path / 'source.pth'), str(tmp_path / 'ours.pth')])
    torch.save(load_checkpoint_file(tmp_path / 'ours.pth')['state_dict'], tmp_path / 'trained.pth')
    main([str(tmp_path / 'trained.pth'), str(tmp_path / 'back.pth'), '--to', 'opencd'])
    returned = load_checkpoint_file(tmp_path / 'back.pth')['state_dict']
    assert {key: value.shape for key, value in returned.items()} \
        == {f'backbone.{key}': value.shape for key, value in weights.items()}
    assert returned['backbone.bn_ca2.running_var'].eq(1).all() and returned['backbone.bn_ca1.bias'].eq(0).all()


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / 'here.pth').write_text('mine')
    with pytest.raises(SystemExit, match=r'here\.pth exists already. Fix: remove it or name another'):
        main([str(tmp_path / 'none.pth'), str(tmp_path / 'here.pth')])
    assert (tmp_path / 'here.pth').read_text() == 'mine'


@pytest.mark.parametrize('change, message', [
    (lambda weights: weights.pop('o3_conv2.0.weight'), r'decode_head\.levels\.2\.blocks\.1\.0\.weight is missing'),
    (lambda weights: weights.update({'o6.weight': torch.zeros(1)}), r'o6\.weight is unknown'),
    (lambda weights: weights.update({'bn_sa1.bias': torch.zeros(7)}),
     r'decode_head\.levels\.0\.norm\.bias is \(7,\), not \(512,\)'),
    (lambda weights: weights['encoder2.features.0.bias'].add_(1), r'encoder2\.features\.0\.bias differs'),
    (dict.clear, r'backbone\.features\.0\.weight is missing'),
])
def test_weights_that_do_not_fit_are_refused(golden, tmp_path, change, message):
    weights = golden('opencd_ifn')[1]
    change(weights)
    torch.save(weights, tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match=rf'other\.pth: .*{message}'):
        main([str(tmp_path / 'other.pth'), str(tmp_path / 'converted.pth')])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['other.pth']


@pytest.mark.parametrize('content', [dict(state_dict=[1]), dict(state_dict={1: torch.zeros(1)}), dict(a=1)])
def test_contents_other_than_weights_are_refused(tmp_path, content):
    torch.save(content, tmp_path / 'strange.pth')
    with pytest.raises(SystemExit, match=r'strange\.pth: These are not the weights of an IFN'):
        main([str(tmp_path / 'strange.pth'), str(tmp_path / 'converted.pth')])
