"""Comparison of the device's results with the CPU's in float64."""

import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.device import get_device
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from torch import Tensor

from ifn_plugin.analysis.benchmark import Subject
from ifn_plugin.analysis.gpu_check.results import attempt
from ifn_plugin.analysis.gpu_check.scale import PLAIN, Scale
from ifn_plugin.models.conversion import convert_state_dict
from ifn_plugin.utils.configurations import find_config

CONFIG = 'ifn_mmseg_256x256_40k_levircd.py'
GOLDEN = Path(__file__).resolve().parents[3] / 'tests' / 'golden'
# The largest differences allowed, relative to the reference; gradients are compared as one vector. Those of bfloat16
# are two to twenty times the differences on a CPU; TF32 has 8 times the precision of bfloat16.
LIMITS = {
    'float32': dict(logits=1e-3, loss=1e-3, gradients=1e-2),
    'tf32': dict(logits=0.02, loss=0.01, gradients=0.2),
    'bfloat16': dict(logits=0.1, loss=0.03, gradients=0.6),
}


class Case(NamedTuple):
    """Weights and input of a comparison.

    Attributes:
        name: Name in the results.
        weights: State dict of the detector.
        pair: Both dates, (N, 6, H, W), normalized.
        label: Labels, (N, 1, H, W).
        golden: The five logit maps of a reference implementation, coarse to fine; empty if there is none.
    """

    name: str
    weights: dict[str, Tensor]
    pair: Tensor
    label: Tensor
    golden: list[Tensor]


class Found(NamedTuple):
    """Results of a network: five logit maps, the change probability, the loss and its gradients, in float64."""

    logits: list[Tensor]
    probability: Tensor
    loss: Tensor
    gradients: dict[str, Tensor]


def check_agreement(scale: Scale, out: Path, golden: Path = GOLDEN) -> Iterator[dict[str, Any]]:
    """Compare logits, change probability, loss and gradients.

    Args:
        scale: Variants to check.
        out: Not used.
        golden: Folder of the golden cases; if it does not exist, weights and images are random.

    Yields:
        The largest differences of each case and variant, with ``error`` if any exceeds its limit in ``LIMITS``.
    """
    for case in _golden_cases(golden) if golden.is_dir() else [_random_case()]:
        reference = _compute(MODELS.build(_subject(PLAIN).cfg.model).double(), case)
        for variant in (PLAIN, *scale.variants):
            yield attempt(f'{case.name}, {variant}', partial(_check, case, variant, reference))


def _check(case: Case, variant: str, reference: Found) -> dict[str, Any]:
    # an earlier variant may have changed these settings of the process
    torch.set_float32_matmul_precision('highest')
    torch.backends.cudnn.allow_tf32 = False
    torch.compiler.reset()
    model = _subject(variant).build_model()
    # a CUDA graph is recorded by the second step, and replayed from the third on
    for _ in range(3 if 'cuda_graphs' in variant else 1):
        found = _compute(model, case)
    differences = _compare(found, reference, case)
    limits = LIMITS['tf32' if variant.startswith('float32') and 'tf32' in variant else variant.split('+')[0]]
    wrong = [f'{name} differ by {differences[name]:.2g}, more than {limit:g}'
             for name, limit in limits.items() if not differences[name] <= limit]  # also true for NaN
    line = ', '.join(f'{name} {value:.2g}' for name, value in differences.items())
    line = f'{case.name}, {get_device()}, {variant}, largest differences: {line}'
    result = dict(line=line, case=case.name, variant=variant, limits=limits, differences=differences)
    return result | (dict(line=f'{line}; FAILED: {"; ".join(wrong)}', error='; '.join(wrong)) if wrong else {})


def _golden_cases(folder: Path) -> Iterator[Case]:
    spec = importlib.util.spec_from_file_location('rules', folder / 'rules.py')
    assert spec is not None and spec.loader is not None
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    for path in sorted(folder.glob('*.npz')):
        outputs, weights, (date1, date2, label) = rules.read(path.stem)
        logits = [torch.from_numpy(outputs[f'eval_{number}']) for number in range(1, 6)]
        if 'official' in path.stem:  # its network ends in the sigmoid
            logits = [probability.logit() for probability in logits]
        pair = torch.cat([torch.from_numpy(date1), torch.from_numpy(date2)], dim=1)
        yield Case(path.stem, convert_state_dict(weights), pair, torch.from_numpy(label), logits)


def _random_case() -> Case:
    model = _subject(PLAIN).build_model()
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(1, 6, 32, 48, generator=generator, dtype=torch.float64)
    label = (torch.rand(1, 1, 32, 48, generator=generator) > 0.8).long()
    return Case('random weights', {key: value.cpu() for key, value in model.state_dict().items()}, pair, label, [])


def _subject(variant: str) -> Subject:
    subject = Subject(find_config(CONFIG), variant, None)
    subject.cfg.model.backbone.frozen = False  # to compare the encoder's gradients too
    return subject


def _compute(model: Any, case: Case) -> Found:
    from mmseg.structures import SegDataSample
    parameter = next(model.parameters())
    model.load_state_dict(case.weights)  # also resets statistics that an earlier training step changed
    model.zero_grad()
    pair, size = case.pair.to(parameter), tuple(case.pair.shape[2:])
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(ori_shape=size, img_shape=size))
               for label in case.label.to(parameter.device)]
    model.eval()
    with torch.no_grad():
        logits = model(pair, mode='tensor')
        probability = torch.stack([sample.seg_logits.data for sample in model(pair, samples, mode='predict')])
    losses = model.train()(pair, samples, mode='loss')
    loss = sum(value for name, value in losses.items() if 'loss' in name)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return Found([_on_cpu(logit) for logit in logits], _on_cpu(probability), _on_cpu(loss),
                 {name: _on_cpu(gradient) for name, gradient in gradients.items()})


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().to('cpu', torch.float64, copy=True)


def _compare(found: Found, reference: Found, case: Case) -> dict[str, float]:
    """Return the largest differences: absolute for probabilities, relative to the reference for the rest."""
    together = [torch.cat([gradients[name].flatten() for name in reference.gradients])
                for gradients in (found.gradients, reference.gradients)]
    result = dict(
        logits=_relative(found.logits, reference.logits),
        probability=float((found.probability - reference.probability).abs().max()),
        loss=float((found.loss - reference.loss).abs() / reference.loss),
        gradients=float((together[0] - together[1]).norm() / together[1].norm()))
    return result | (dict(golden=_relative(found.logits, case.golden)) if case.golden else {})


def _relative(maps: list[Tensor], references: list[Tensor]) -> float:
    """Return the largest difference of any level, relative to the largest value of the level."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(maps, references, strict=True))
