"""Exported networks beside PyTorch."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ifn_plugin.apis.export import ChangeNetwork, compare, export
from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.inference import ChangeDetector
from ifn_plugin.tools.export import main
from ifn_plugin.utils.configurations import find_config

REPOSITORY = Path(__file__).parents[2]
CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    torch.__version__ < torch.torch_version.TorchVersion('2.9'), reason='exporting is tested from torch 2.9 on')]
ONNX_SHAPES = [(1, 64, 64), (3, 32, 48), (2, 67, 53), (1, 1, 1), (1, 200, 33)]


@pytest.fixture(scope='module')
def detector(checkpoint):
    return ChangeDetector(CONFIG, checkpoint, device='cpu')


@pytest.fixture(scope='module')
def onnx_file(checkpoint, tmp_path_factory):
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is not installed: pip install ifn_plugin[export]')
    path = tmp_path_factory.mktemp('onnx') / 'ifn.onnx'
    main([str(CONFIG), str(checkpoint), str(path)])
    return path


def test_onnx_gives_the_networks_probabilities(detector, onnx_file):
    assert max(compare(ChangeNetwork(detector.model), onnx_file, ONNX_SHAPES).values()) < 1e-5
    assert [path.name for path in onnx_file.parent.iterdir()] == ['ifn.onnx']


def test_onnx_gives_the_networks_logits(detector, onnx_file):
    import onnx
    import onnxruntime
    model = onnx.load(onnx_file)
    sigmoid = [node for node in model.graph.node if node.op_type == 'Sigmoid'][-1]
    model.graph.output.append(onnx.ValueInfoProto(name=sigmoid.input[0]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    network = ChangeNetwork(detector.model)
    for shape in ONNX_SHAPES:
        dates = torch.randint(0, 256, (2, *shape, 3), dtype=torch.uint8)
        with torch.no_grad():
            expected = network(*dates).double().logit()
        _, logit = session.run(None, dict(zip(('date1', 'date2'), dates.numpy())))
        np.testing.assert_allclose(logit, expected, rtol=0, atol=1e-4)


def test_probabilities_are_those_of_the_detector(detector, onnx_file):
    """The colours' order and the normalization included, which the graph has inside."""
    import onnxruntime
    session = onnxruntime.InferenceSession(str(onnx_file), providers=['CPUExecutionProvider'])
    pair = np.random.default_rng(0).integers(0, 256, (2, 40, 56, 3), np.uint8)
    probability, = session.run(None, dict(date1=pair[:1], date2=pair[1:]))
    assert probability.shape == (1, 40, 56) and probability.dtype == np.float32 and probability.std() > 0.01
    np.testing.assert_allclose(probability[0], detector.predict(*pair).probability, rtol=0, atol=1e-5)


def test_a_network_that_sees_bgr(checkpoint):
    detector = ChangeDetector(CONFIG, checkpoint, device='cpu')
    detector.model.data_preprocessor.reverse_channels = False
    pair = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), np.uint8)
    with torch.no_grad():
        probability = ChangeNetwork(detector.model)(*torch.from_numpy(pair).split(1))
    np.testing.assert_allclose(probability[0], detector.predict(*pair).probability, rtol=0, atol=1e-6)


def test_a_decoder_without_the_finest_maps(tmp_path):
    cfg = Config.fromfile(CONFIG)
    cfg.model.decode_head.update(in_channels=(256, 512, 1024, 1024), in_index=[1, 2, 3, 4])
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    detector = ChangeDetector(cfg, tmp_path / 'weights.pth', device='cpu')
    network = ChangeNetwork(detector.model)
    pair = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)
    with torch.no_grad():
        probability = network(*torch.from_numpy(pair).split(1))
    np.testing.assert_allclose(probability[0], detector.predict(*pair).probability, rtol=0, atol=1e-6)
    export(network, tmp_path / 'ifn.pt2')
    assert max(compare(network, tmp_path / 'ifn.pt2', [(1, 64, 64), (3, 32, 48)]).values()) < 1e-5


def test_a_former_file_stays_if_the_new_one_is_useless(checkpoint, tmp_path):
    content = load_checkpoint_file(checkpoint)
    content['state_dict']['decode_head.levels.4.logit.bias'].fill_(torch.nan)
    torch.save(content, tmp_path / 'nan.pth')
    (tmp_path / 'ifn.pt2').write_bytes(b'former')
    with pytest.raises(SystemExit, match='The network gives probabilities that are not finite'):
        main([str(CONFIG), str(tmp_path / 'nan.pth'), str(tmp_path / 'ifn.pt2')])
    assert (tmp_path / 'ifn.pt2').read_bytes() == b'former' and len(list(tmp_path.iterdir())) == 2


def test_program(detector, tmp_path):
    network = ChangeNetwork(detector.model)
    export(network, tmp_path / 'ifn.pt2')
    assert max(compare(network, tmp_path / 'ifn.pt2', [(1, 64, 64), (3, 32, 48), (2, 128, 64)]).values()) < 1e-5


def test_the_documented_example_runs_without_torch(onnx_file, tmp_path):
    page = (REPOSITORY / 'docs' / 'prediction.md').read_text(encoding='utf-8')
    example = next(block for block in re.findall(r'```python\n(.*?)```', page, re.DOTALL) if 'onnxruntime' in block)
    for name in ('1999.png', '2020.png'):
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))
    (tmp_path / 'ifn.onnx').symlink_to(onnx_file)
    code = f"import sys\nsys.modules['torch'] = None\n{example}"
    subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True)
    assert set(np.unique(cv2.imread(str(tmp_path / 'changes.png')))) <= {0, 255}


def test_errors(detector, checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r'ifn\.trt: name a file that ends in \.onnx or \.pt2'):
        export(ChangeNetwork(detector.model), tmp_path / 'ifn.trt')
    detector.model.decode_head, head = torch.nn.Identity(), detector.model.decode_head
    with pytest.raises(ValueError, match=r'has IFN and Identity, but only ifn_plugin\.IFN'):
        export(ChangeNetwork(detector.model), tmp_path / 'ifn.onnx')
    detector.model.decode_head = head
    with pytest.raises(SystemExit, match=r'none\.pth: no such checkpoint'):
        main([str(CONFIG), str(tmp_path / 'none.pth'), str(tmp_path / 'ifn.onnx')])
    assert not list(tmp_path.iterdir())


def test_a_neck_is_refused_and_windows_are_said_to_be_left_out(checkpoint, monkeypatch):
    said = []
    monkeypatch.setattr('ifn_plugin.apis.export.print_log', lambda text, *_: said.append(text))
    model = ChangeDetector(CONFIG, checkpoint, 'cpu').model
    ChangeNetwork(model)
    assert not said
    model.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(64, 64))
    ChangeNetwork(model)
    assert 'sliding windows' in said[0]
    model.neck = torch.nn.Identity()
    with pytest.raises(ValueError, match='has a neck'):
        ChangeNetwork(model)


def test_the_detector_stays_as_it_is(checkpoint):
    model = ChangeDetector(CONFIG, checkpoint, device='cpu').model.train()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    network = ChangeNetwork(model).eval()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert trained == [name for name, parameter in model.named_parameters() if parameter.requires_grad] != []
    assert model.decode_head.training


def test_a_failed_export_leaves_nothing(detector, tmp_path, monkeypatch):

    def save_half(program, path):
        path.write_bytes(b'half')
        raise OSError('No space left on device')

    monkeypatch.setattr(torch.export, 'export', lambda *_, **__: None)
    monkeypatch.setattr(torch.export, 'save', save_half)
    with pytest.raises(OSError, match='No space left'):
        export(ChangeNetwork(detector.model), tmp_path / 'ifn.pt2')
    assert not list(tmp_path.iterdir())
