# AdamW, 80,000 iterations, linear warm-up and decay
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ifn_plugin.TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=0.001, betas=(0.9, 0.999), weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1000),
    dict(type='PolyLR', power=1.0, begin=1000, end=80000, eta_min=0.0, by_epoch=False),
]
train_cfg = dict(type='ifn_plugin.ResumableTrainLoop', max_iters=80000, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
