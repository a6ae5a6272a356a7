"""Set-up of distributed training on CPUs."""

import pytest
import torch
from mmengine.config import Config

from ifn_plugin.engine.processes import set_up_cpu_processes


@pytest.fixture(autouse=True)
def backends(monkeypatch):
    """The backends of the process groups that would be joined."""
    found = []
    monkeypatch.setattr(torch.distributed, 'init_process_group', found.append)
    return found


@pytest.mark.parametrize('settings, unused', [({}, False), (dict(find_unused_parameters=True), True)])
def test_processes_join_by_gloo_and_may_have_unused_parameters(backends, settings, unused):
    cfg = Config(settings)
    set_up_cpu_processes(cfg)
    assert backends == ['gloo']
    assert cfg.model_wrapper_cfg.type == 'MMDistributedDataParallel' and cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters is unused


def test_the_configurations_own_model_wrapper_is_kept():
    cfg = Config(dict(model_wrapper_cfg=dict(type='Mine', broadcast_buffers=True)))
    set_up_cpu_processes(cfg)
    assert cfg.model_wrapper_cfg == dict(
        type='Mine', device_ids=None, broadcast_buffers=True, find_unused_parameters=False)
