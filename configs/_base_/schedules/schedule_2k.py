# Short one-cycle schedule for two CPU cores: AdamW, 2,000 iterations
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ifn_plugin.TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=10))
param_scheduler = [dict(type='OneCycleLR', eta_max=5e-4, total_steps=2000, by_epoch=False)]
train_cfg = dict(type='ifn_plugin.ResumableTrainLoop', max_iters=2000, val_interval=250, val_begin=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
