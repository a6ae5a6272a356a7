default_scope = 'mmseg'
custom_imports = dict(imports=['ifn_plugin'])
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
default_hooks = dict(
    runtime_info=dict(type='ifn_plugin.DelayedRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='ifn_plugin.WholeCheckpointHook',
        by_epoch=False,
        interval=4000,
        max_keep_ckpts=3,
        save_best='F1',
        rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    evaluation=dict(type='ifn_plugin.EvaluationHook'),
    invalid_loss=dict(type='ifn_plugin.InvalidLossHook'),
    loaded_weights=dict(type='ifn_plugin.LoadedWeightsHook'),
    resumed_settings=dict(type='ifn_plugin.ResumedSettingsHook'),
    # enabled by --show and --show-dir of the test commands
    visualization=dict(type='ifn_plugin.ChangePanelHook', draw=False))
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
log_processor = dict(by_epoch=False)
log_level = 'INFO'
tta_model = dict(type='ifn_plugin.ChangeTTAModel')
load_from = None
resume = False
