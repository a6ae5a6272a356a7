"""The network on a GPU."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ifn_plugin.engine import accelerate
from ifn_plugin.engine.cuda import pin_batches
from ifn_plugin.engine.transfer import transfer
from ifn_plugin.models import IFN, IFNHead

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA GPU'),
]


@pytest.fixture
def networks(monkeypatch):
    """The same network on both devices."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    monkeypatch.setattr(torch.backends.cuda.matmul, 'allow_tf32', False)
    torch.manual_seed(0)
    cpu = torch.nn.ModuleDict(dict(backbone=IFN(init_cfg=None), decode_head=IFNHead())).eval()
    gpu = torch.nn.ModuleDict(dict(backbone=IFN(init_cfg=None), decode_head=IFNHead())).cuda().eval()
    gpu.load_state_dict(cpu.state_dict())
    return cpu, gpu


def test_logits_agree_with_the_cpu(networks):
    pair = torch.randn(2, 6, 250, 130)
    outputs = []
    for network, x in zip(networks, (pair, pair.cuda())):
        with torch.no_grad():
            outputs.append(network['decode_head'](network['backbone'](x)))
    for a, b in zip(*outputs):
        torch.testing.assert_close(b.cpu(), a, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_trains_under_autocast(networks, dtype):
    network = networks[1].train()
    label = (torch.rand(2, 1, 64, 64, device='cuda') > 0.7).long()
    samples = [SegDataSample(gt_sem_seg=PixelData(data=x)) for x in label]
    with torch.autocast('cuda', dtype=dtype):
        losses = network['decode_head'].loss(network['backbone'](torch.randn(2, 6, 64, 64, device='cuda')), samples, {})
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert all(p.grad.isfinite().all() for p in network['decode_head'].parameters())
    assert all(p.grad is None for p in network['backbone'].parameters())


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_training_step_does_not_wait(dtype):
    losses = [dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True), dict(type='mmseg.DiceLoss'),
              dict(type='mmseg.LovaszLoss', loss_type='binary', per_image=True)]
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(ConfigDict(
            type='mmseg.EncoderDecoder', backbone=dict(type='ifn_plugin.IFN', init_cfg=None),
            decode_head=dict(type='ifn_plugin.IFNHead', loss_decode=losses))).cuda().train()
    optimizer = torch.optim.AdamW(model.decode_head.parameters())
    images, label = torch.randn(2, 6, 64, 64, device='cuda'), torch.randint(0, 2, (2, 1, 64, 64), device='cuda')
    samples = [SegDataSample(gt_sem_seg=PixelData(data=x)) for x in label]
    for mode in ('default', 'error'):  # the first step chooses algorithms
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with torch.autocast('cuda', torch.bfloat16, enabled=dtype == torch.bfloat16):
                values = model.loss(images, samples)
            model.parse_losses(values)[0].backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode('default')


def test_losses_arrive_as_they_are():
    values = {'loss': torch.tensor(1.5, device='cuda'), 'acc_seg': torch.tensor([torch.nan], device='cuda')}
    arriving = transfer(values)
    assert not arriving.is_there() and arriving.get().isnan().tolist() == [False, True] and arriving.get()[0] == 1.5


def test_labels_are_pinned():
    pairs = [SegDataSample(gt_sem_seg=PixelData(data=torch.ones(1, 4, 4, dtype=torch.long)))] * 2
    loader = torch.utils.data.DataLoader(pairs, batch_size=2, collate_fn=lambda samples: dict(data_samples=samples))
    pin_batches(loader)
    batch, = loader
    assert all(sample.gt_sem_seg.data.is_pinned() for sample in batch['data_samples'])


def test_predictions_outlast_the_next_cuda_graph():
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(ConfigDict(
            type='mmseg.EncoderDecoder', backbone=dict(type='ifn_plugin.IFN', init_cfg=None),
            decode_head=dict(type='mmseg.FCNHead', in_channels=128, in_index=0, channels=128, num_convs=0,
                             num_classes=2, concat_input=False),
            test_cfg=dict(mode='whole'))).cuda().eval()
    accelerate(model, dtype='float32', compile=dict(mode='reduce-overhead'))
    samples = [SegDataSample(metainfo=dict(ori_shape=(32, 32), img_shape=(32, 32)))]
    with torch.no_grad():
        for _ in range(3):  # recorded by the second, replayed from the third on
            first, = model(torch.zeros(1, 6, 32, 32, device='cuda'), samples, mode='predict')
        before = first.seg_logits.data.cpu()
        second, = model(torch.ones(1, 6, 32, 32, device='cuda'), [samples[0].clone()], mode='predict')
    assert torch.equal(first.seg_logits.data.cpu(), before) and not torch.equal(second.seg_logits.data.cpu(), before)
