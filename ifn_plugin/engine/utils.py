"""What hooks, loops and commands share."""

from pathlib import Path
from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner, find_latest_checkpoint


def detector_of(runner: Runner) -> Any:
    """The runner's detector, out of what wraps it for several processes or for test-time augmentation."""
    model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.module if isinstance(model, BaseTTAModel) else model


def name_source(runner: Runner) -> str:
    """Name the checkpoint that a runner loads."""
    return str(runner._load_from or find_latest_checkpoint(runner.work_dir) or 'The checkpoint')


def advise(runner: Runner) -> str:
    """Say what to do about an invalid loss, and which checkpoint is the last good one."""
    last = runner.message_hub.runtime_info.get('last_ckpt')
    if last and not Path(last).exists():  # mmengine names it before it saves
        last = find_latest_checkpoint(runner.work_dir)
    return ((f'The last good checkpoint is {last}.' if last else 'There is no checkpoint yet.')
            + ' Lower the learning rate, clip gradients (optim_wrapper.clip_grad) or train in float32, and look at '
            'these images.')
