"""Records and kept maps of tests, made without a network."""

import json

import cv2
import numpy as np
import torch

from ifn_plugin.evaluation import ChangeMetric
from ifn_plugin.evaluation.kept_maps import MAPS, map_name, write_map


def write_evaluation(log_dir, data, checkpoint='iter_1.pth', seed=0, threshold=0.5, protocol='', noise=1., **about):
    """Write the record and the maps of a test of probabilities that follow the labels with noise.

    Args:
        log_dir: Log folder of the test.
        data: Split in LEVIR-CD's layout.
        checkpoint: Name of the tested weights.
        seed: Seed of the noise.
        threshold: Threshold of the change maps.
        protocol: Name of the protocol.
        noise: Standard deviation of the noise on the logits, which are -1 and 1 without it.
        about: Further entries of the record.

    Returns:
        The probabilities and the labels of each pair.
    """
    metric, pairs = ChangeMetric(), []
    metric.threshold, metric.chosen_threshold = threshold, 0.3
    generator = torch.Generator().manual_seed(seed)
    for path in sorted((data / 'label').iterdir()):
        label = torch.from_numpy((cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8))
        probability = (2. * label - 1 + noise * torch.randn(label.shape, generator=generator)).sigmoid()
        files = [str(data / part / path.name) for part in ('A', 'B')]
        metric.process(None, [dict(
            img_path=files, seg_map_path=str(path), seg_logits=dict(data=probability[None]),
            pred_sem_seg=dict(data=(probability > threshold)[None]), gt_sem_seg=dict(data=label[None]))])
        write_map(log_dir / MAPS / protocol / map_name([*files, str(path)]), probability, label)
        pairs.append((probability, label))
    metric.evaluate(len(pairs))
    content = dict(checkpoint=checkpoint, iteration=1, seed=seed, tta=False, maps=True, date='2026-01-01 00:00:00',
                   versions=dict(ifn_plugin='0'), config='', protocols={protocol: metric.record}) | about
    (log_dir / 'evaluation_test.json').write_text(json.dumps(content))
    return pairs
