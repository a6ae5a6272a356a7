# The demonstration, python -m ifn_plugin.tools.demo: about three minutes on two CPU cores. It must work offline, so it
# starts from random weights and trains the encoder too.
_base_ = [
    '../_base_/models/ifn_from-scratch.py', '../_base_/datasets/drawn.py', '../_base_/schedules/schedule_2k.py',
    '../_base_/default_runtime.py'
]
max_iters = 240
param_scheduler = [dict(type='OneCycleLR', eta_max=5e-4, total_steps=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 2, val_begin=1)
custom_hooks = [dict(type='ifn_plugin.AccelerationHook', channels_last=False, compile=False)]
default_hooks = dict(
    # too few validation images to select a checkpoint: the last weights are kept and tested
    checkpoint=dict(interval=max_iters, max_keep_ckpts=1, save_best=None, save_optimizer=False),
    visualization=dict(draw=True))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend', img_save_dir='../panels')])
randomness = dict(seed=0)
log_level = 'ERROR'
