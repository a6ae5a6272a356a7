"""Processes of distributed training on CPUs, which mmengine sets up only for GPUs."""

import gc

import torch
from mmengine.config import Config


def set_up_cpu_processes(cfg: Config) -> None:
    """Join the process group of a launcher by gloo, and set the configuration's model wrapper for CPUs."""
    torch.distributed.init_process_group('gloo')
    settings = dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = settings | dict(cfg.get('model_wrapper_cfg') or {})


def leave_processes() -> None:
    """Wait for the other processes and leave the process group, if there is one.

    A process that ends while another still communicates with it is aborted. The caller must have deleted its runner:
    gloo's threads live as long as a wrapped model, and one that frees a tensor while the interpreter shuts down aborts
    the process.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        gc.collect()
