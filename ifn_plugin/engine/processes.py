"""Processes that a launcher starts, on CPUs too: mmengine sets them up only for GPUs."""

import gc
import os
import subprocess
from typing import Any

import torch
from mmengine.config import Config

# What launchers call the number of a process, the number of processes, and the number of a process on its machine
_NAMES = dict(pytorch=('RANK', 'WORLD_SIZE', 'LOCAL_RANK'), slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
              mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'))
_STARTERS = dict(pytorch='torchrun', slurm='srun', mpi="Open MPI's mpirun")


def check_launcher(launcher: str) -> None:
    """Check that a launcher has started this process.

    Args:
        launcher: ``'pytorch'`` (torchrun), ``'slurm'`` or ``'mpi'``.

    Raises:
        ValueError: If it has not.
    """
    needed = [*_NAMES[launcher], *(['MASTER_ADDR'] if launcher == 'mpi' else [])]
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise ValueError(f'--launcher {launcher}, but {", ".join(missing)} is not in the environment. Fix: start the '
                         f'command by {_STARTERS[launcher]}, or leave out --launcher for one process.')


def join_cpu_processes(launcher: str, **settings: Any) -> None:
    """Join the process group of a launcher by gloo.

    Args:
        launcher: ``'pytorch'`` (torchrun), ``'slurm'`` or ``'mpi'``.
        settings: Arguments of ``torch.distributed.init_process_group``.

    Raises:
        ValueError: If the launcher has not started this process.
    """
    check_launcher(launcher)
    for name, launchers in zip(_NAMES['pytorch'], _NAMES[launcher]):
        os.environ[name] = os.environ[launchers]
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        os.environ['MASTER_ADDR'] = hosts[0]
    torch.distributed.init_process_group('gloo', **settings)


def set_up_cpu_processes(cfg: Config) -> None:
    """Join the process group of the configuration's launcher by gloo, and set its model wrapper for CPUs.

    Raises:
        ValueError: If the launcher has not started this process.
    """
    join_cpu_processes(cfg.launcher)
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
