"""The kernels that inductor makes for a GPU compile to machine code for an H200, on a machine without one."""

import contextlib
import copy
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ifn_plugin.engine import accelerate
from ifn_plugin.models.layers import convolution

triton = pytest.importorskip('triton', reason='Triton compiles the kernels')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.__version__ < torch.torch_version.TorchVersion('2.14'),
                       reason='relies on what inductor asks in torch 2.14'),
    pytest.mark.skipif(torch.cuda.is_available(), reason='on a GPU, the other tests run the kernels'),
]
H200 = SimpleNamespace(
    name='NVIDIA H200', major=9, minor=0, warp_size=32, multi_processor_count=132, max_threads_per_block=1024,
    max_threads_per_multi_processor=2048, regs_per_multiprocessor=65536, shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448, shared_memory_per_multiprocessor=233472, L2_cache_size=50 * 2**20,
    total_memory=141 * 10**9)


@contextlib.contextmanager
def h200():
    """Answer what inductor asks torch about the GPU. It has no setting for one that is not here."""
    from torch._dynamo.device_interface import CudaInterface
    from torch._inductor.runtime import triton_helpers
    from torch._subclasses.fake_tensor import FakeTensorMode
    from triton.backends.compiler import GPUTarget
    properties = mock.Mock(return_value=H200)
    with (mock.patch.multiple(
            torch.cuda, is_available=lambda: True, device_count=lambda: 1, current_device=lambda: 0,
            get_device_properties=properties, get_device_capability=lambda device=None: (9, 0),
            device=lambda device: contextlib.nullcontext(), get_rng_state=torch.get_rng_state,
            set_rng_state=lambda state: None),
          mock.patch.object(CudaInterface, 'get_device_properties', properties),
          mock.patch.object(FakeTensorMode, 'avoid_device_init', True),
          mock.patch('torch._subclasses.fake_tensor.init_gpu_context'),
          torch._inductor.config.patch(compile_threads=1, fx_graph_cache=False),
          triton_helpers.skip_gpu_driver_setup()):
        torch.utils._triton.has_triton.cache_clear()
        triton.runtime.driver.set_active(SimpleNamespace(get_current_target=lambda: GPUTarget('cuda', 90, 32)))
        yield
    triton.runtime.driver.set_active(None)
    torch.utils._triton.has_triton.cache_clear()


def on_gpu(graph, inputs):
    """The same graph and inputs on a GPU, as fake tensors."""
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp
    mode = torch._guards.detect_fake_mode(inputs)
    graph = torch.fx.GraphModule(graph, copy.deepcopy(graph.graph))
    for node in graph.graph.nodes:
        if 'device' in node.kwargs:
            node.kwargs = dict(node.kwargs, device=torch.device('cuda', 0))
    with mode:
        inputs = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device='cuda') for x in inputs]
    FakeTensorProp(graph, mode).propagate_dont_convert_inputs(*inputs)
    return graph, inputs


@pytest.fixture
def backend(monkeypatch):
    """Backend of ``torch.compile`` that compiles for the GPU and computes on the CPU."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner
    precompile = CachingAutotuner.precompile

    def compile_only(kernel, **_):
        precompile(kernel, warm_cache_only=True)  # as in inductor's workers, which launch nothing

    def ahead(graph, inputs):
        with h200():
            compile_fx_inner(*on_gpu(graph, inputs))
        return torch._functorch.aot_autograd.make_boxed_func(graph.forward)

    monkeypatch.setattr(CachingAutotuner, 'precompile', compile_only)
    torch.compiler.reset()
    monkeypatch.setattr(convolution, '_saves_time', lambda *_: False)  # Winograd's, which is for CPUs
    return aot_autograd(fw_compiler=ahead, bw_compiler=ahead, decompositions=select_decomp_table)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('task', ['train', 'inference'])
def test_kernels_compile_for_an_h200(backend, dtype, task, tmp_path, monkeypatch):
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    losses = [dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True), dict(type='mmseg.DiceLoss'),
              dict(type='mmseg.LovaszLoss', loss_type='binary', per_image=True)]
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(ConfigDict(
            type='mmseg.EncoderDecoder', backbone=dict(type='ifn_plugin.IFN', init_cfg=None),
            decode_head=dict(type='ifn_plugin.IFNHead', loss_decode=losses), train_cfg=dict(),
            test_cfg=dict(mode='whole')))
    accelerate(model, dtype=dtype, compile=dict(backend=backend), keep_memory=False)
    images = torch.randn(2, 6, 64, 64)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 2, (1, 64, 64))),
                             metainfo=dict(ori_shape=(64, 64), img_shape=(64, 64))) for _ in range(2)]
    if task == 'train':
        head = model.train().decode_head
        head.loss_by_feat = torch.compile(head.loss_by_feat, backend=backend, dynamic=False)
        model.parse_losses(model(images, samples, mode='loss'))[0].backward()
    else:
        with torch.no_grad():
            model.eval()(images, samples, mode='predict')
    programs = [path.read_text() for path in tmp_path.rglob('*.ptx')]
    assert len(programs) == len(list(tmp_path.rglob('*.cubin'))) > 50
    assert all('.target sm_90' in program for program in programs)
    assert any('bf16' in program for program in programs) == (dtype == 'bfloat16')
