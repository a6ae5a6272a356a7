# A short run from random weights for two CPU cores: 128×128 crops of LEVIR-CD's 256×256 tiles, 2,000 iterations, BCE
# and Dice at every level, the encoder trained too. Results: docs/levircd_cpu.md.
_base_ = [
    '../_base_/models/ifn_from-scratch.py', '../_base_/datasets/levircd_tiles.py', '../_base_/schedules/schedule_2k.py',
    '../_base_/default_runtime.py'
]
custom_hooks = [dict(type='ifn_plugin.AccelerationHook', channels_last=False, compile=False)]
default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=1))
randomness = dict(seed=0)
