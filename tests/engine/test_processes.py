"""Processes of launchers, on CPUs."""

import os

import pytest
import torch
from mmengine.config import Config

from ifn_plugin.engine.processes import check_launcher, join_cpu_processes, set_up_cpu_processes


@pytest.fixture(autouse=True)
def backends(monkeypatch):
    """The backends of the process groups that would be joined."""
    found = []
    monkeypatch.setattr(torch.distributed, 'init_process_group', found.append)
    for name in ('RANK', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, '0')  # which the test may change, and which comes back
    monkeypatch.setenv('WORLD_SIZE', '1')
    return found


@pytest.mark.parametrize('settings, unused', [({}, False), (dict(find_unused_parameters=True), True)])
def test_processes_join_by_gloo_and_may_have_unused_parameters(backends, settings, unused):
    cfg = Config(dict(settings, launcher='pytorch'))
    set_up_cpu_processes(cfg)
    assert backends == ['gloo']
    assert cfg.model_wrapper_cfg.type == 'MMDistributedDataParallel' and cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters is unused


def test_the_configurations_own_model_wrapper_is_kept():
    cfg = Config(dict(launcher='pytorch', model_wrapper_cfg=dict(type='Mine', broadcast_buffers=True)))
    set_up_cpu_processes(cfg)
    assert cfg.model_wrapper_cfg == dict(
        type='Mine', device_ids=None, broadcast_buffers=True, find_unused_parameters=False)


def test_slurms_names_become_torchs(backends, monkeypatch):
    for name, value in dict(SLURM_PROCID='3', SLURM_NTASKS='4', SLURM_LOCALID='1').items():
        monkeypatch.setenv(name, value)
    join_cpu_processes('slurm')
    assert [os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')] == ['3', '4', '1']
    assert backends == ['gloo']


@pytest.mark.parametrize('launcher, missing, starter', [
    ('slurm', 'SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID', 'srun'),
    ('mpi', 'OMPI_COMM_WORLD_RANK', 'mpirun'),
    ('pytorch', 'RANK', 'torchrun'),
])
def test_a_launcher_that_did_not_start_the_process_is_named(monkeypatch, launcher, missing, starter):
    monkeypatch.delenv('RANK')
    with pytest.raises(ValueError, match=f'--launcher {launcher}, but {missing}.*{starter}'):
        check_launcher(launcher)
