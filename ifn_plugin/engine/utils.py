"""Helpers of hooks, loops and commands."""

from pathlib import Path
from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner, find_latest_checkpoint


def detector_of(runner: Runner) -> Any:
    """Return the runner's detector without its wrappers for distributed training or test-time augmentation."""
    model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.module if isinstance(model, BaseTTAModel) else model


def name_source(runner: Runner) -> str:
    """Return the name of the checkpoint that a runner loads."""
    return str(runner._load_from or find_latest_checkpoint(runner.work_dir) or 'The checkpoint')


def advise(runner: Runner) -> str:
    """Return advice for a NaN or infinite loss, with the last good checkpoint."""
    last = runner.message_hub.runtime_info.get('last_ckpt')
    if last and not Path(last).exists():  # mmengine names it before it saves
        last = find_latest_checkpoint(runner.work_dir)
    return ((f'The last good checkpoint is {last}.' if last else 'There is no checkpoint yet.')
            + ' Fix: lower the learning rate, clip gradients (optim_wrapper.clip_grad) or train in float32, and check '
            'the images.')
