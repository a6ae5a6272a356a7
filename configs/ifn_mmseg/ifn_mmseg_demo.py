# The demonstration, python -m ifn_plugin.tools.demo: about three minutes on two CPU cores, from random weights because
# it has to work without a network, so the encoder is trained too. Small crops buy many iterations.
_base_ = 'ifn_mmseg_128x128_2k_levircd-tiles.py'
data_root = 'work_dirs/demo/data'
max_iters = 240
train_pipeline = _base_.train_pipeline
train_pipeline[2].transforms[0].crop_size = (64, 64)
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, indices=None))
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
param_scheduler = [dict(type='OneCycleLR', eta_max=5e-4, total_steps=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 2, val_begin=1)
default_hooks = dict(
    # so few validation images are too few to choose by: the last weights are kept, and tested
    checkpoint=dict(interval=max_iters, max_keep_ckpts=1, save_best=None, save_optimizer=False),
    visualization=dict(draw=True))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend', img_save_dir='panels')])
log_level = 'ERROR'
